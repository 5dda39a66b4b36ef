# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Lay this checkout out as the two trees that go upstream.

    python upstream/lay_out.py OUT

`OUT/verl` holds what verl gets (the reward, the preprocessor and their tests), `OUT/verl-recipe` the folder `medgrpo`
of verl-recipe. Names and paths are those of a verl checkout with verl-recipe as its `recipe/` submodule. Equal sources
give equal bytes. OUT appears whole or not at all; one that this command made before is replaced, any other must be
empty.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checks  # noqa: E402
from places import REWRITTEN, places, rewrite  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = Path(__file__).resolve().parent / "templates"
MARKER = ".medgrpo-upstream"
ROOMS = ("recipes/medgrpo", "reward_score", "data_preprocess", "examples", "tests", "docs", "constraints")
TREES = ("verl", "verl-recipe")
MARKERS = """\
[pytest]
addopts = --strict-markers --hypothesis-profile=ci
markers =
    slow: starts real training processes; minutes
    gpu: needs a CUDA device; skipped where none is
"""


class LayOutError(Exception):
    """The trees cannot be made; one line that says why, or one for each problem."""


def sources(root: Path) -> list[str]:
    """Paths of all files of the rooms, sorted: what git tracks or would; without git, everything but caches."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *ROOMS],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        found = listing.stdout.split("\0")
    else:
        files = (path for room in ROOMS for path in (root / room).rglob("*"))
        names = (path.relative_to(root) for path in files)
        found = [str(name) for name in names if not any(part.startswith((".", "__pycache__")) for part in name.parts)]
    return sorted({path for path in found if path and (root / path).is_file()})


def tree_file(out: Path, path: str) -> Path:
    """Where a path of a verl checkout lies in the two trees."""
    return out / "verl-recipe" / path.removeprefix("recipe/") if path.startswith("recipe/") else out / "verl" / path


def requirements(root: Path) -> dict[str, str]:
    """The packages that pyproject.toml asks for, by the file of the recipe that will name them. verl itself is pinned
    in REQUIRED_VERL.txt."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"requirements.txt": project["dependencies"]}
    groups |= {f"requirements-{name}.txt": lines for name, lines in project["optional-dependencies"].items()}
    return {
        name: "".join(f"{line}\n" for line in lines if not line.startswith("verl=")) for name, lines in groups.items()
    }


def write_trees(root: Path, out: Path) -> None:
    """Both trees of the checkout `root`, written into the folder `out` as they are before any tidying."""

    def put(path: str, content: bytes, mode: int = 0o644) -> None:
        file = tree_file(out, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)

    for ours in sources(root):
        content, mode = (root / ours).read_bytes(), (root / ours).stat().st_mode
        for theirs in places(ours):
            moved = content
            if theirs.endswith(REWRITTEN):
                moved = rewrite(content.decode("utf-8"), ours, theirs).encode("utf-8")
            put(theirs, moved, 0o755 if mode & 0o100 else 0o644)
    put("examples/data_preprocess/medvidbench.py", (TEMPLATES / "medvidbench.py").read_bytes())
    put("recipe/medgrpo/lib/environment.sh", (TEMPLATES / "environment.sh").read_bytes())
    put("recipe/medgrpo/tests/pytest.ini", MARKERS.encode())
    for name, text in requirements(root).items():
        put(f"recipe/medgrpo/{name}", text.encode())


def lay_out(root: Path, out: Path) -> dict[str, int]:
    """Make both trees, checked; returns the number of files of each.

    Raises:
        LayOutError: `out` holds something else, or a tree has problems: nothing is written then.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).is_file())):
        raise LayOutError(f"{out}: holds something that this command did not make, expected an empty or new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        draft = Path(folder) / "new"
        draft.mkdir()
        (draft / MARKER).write_text("Made by upstream/lay_out.py, which may replace this folder.\n", encoding="utf-8")
        write_trees(root, draft)
        problems = []
        for tree in TREES:
            checks.tidy(draft / tree)
            problems += checks.problems(draft / tree)
        if problems:
            raise LayOutError("\n".join(problem.replace(f"{draft}/", "") for problem in problems))
        counts = {tree: sum(path.is_file() for path in (draft / tree).rglob("*")) for tree in TREES}
        if out.exists():
            out.rename(Path(folder) / "old")
        draft.rename(out)
    return counts


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the trees verl/ and verl-recipe/")
    options = parser.parse_args(arguments)
    try:
        counts = lay_out(ROOT, options.out.resolve())
    except (LayOutError, RuntimeError, OSError) as error:
        print("\n".join(f"lay_out: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 1
    for tree, count in counts.items():
        print(f"{options.out / tree}: {count} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
