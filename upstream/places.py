# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where each file of this checkout lives upstream, and what its text has to call the others there.

Upstream paths are those of a verl checkout with verl-recipe as its `recipe/` submodule. Every rule works on names and
paths as they are written; nothing is known here about single files beyond the tables.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable
from pathlib import PurePosixPath

# First match wins; None: stays behind.
PLACES: tuple[tuple[str, str | None], ...] = (
    ("tests/reward_score/", "tests/utils/medgrpo/reward_score/"),
    ("tests/data_preprocess/", "tests/utils/medgrpo/data_preprocess/"),
    ("tests/packaging/", None),
    ("tests/run.sh", None),
    # The image is this checkout's.
    ("tests/recipes/test_docker.py", None),
    ("tests/recipes/test_submission_entry.py", None),
    ("tests/", "recipe/medgrpo/tests/"),
    # Makes a virtual environment of this checkout; `templates/environment.sh` takes its place.
    ("examples/lib/environment.sh", None),
    ("examples/docker/", None),
    ("examples/", "recipe/medgrpo/"),
    ("docs/", "recipe/medgrpo/docs/"),
    ("constraints/", "recipe/medgrpo/constraints/"),
    ("recipes/medgrpo/", "recipe/medgrpo/"),
    ("data_preprocess/", "verl/utils/medvidbench/"),
    ("reward_score/", "verl/utils/reward_score/medgrpo/"),
)
# The tests of both trees share their helpers.
SHARED_TESTS = ("recipe/medgrpo/tests/", "tests/utils/medgrpo/")
# Where a text that names one of these paths has to point. verl's examples hold the command, its package the module.
MENTIONED = {
    "tests/run.sh": "recipe/medgrpo/tests",
    "examples/lib/environment.sh": "recipe/medgrpo/lib/environment.sh",
    "data_preprocess/medvidbench.py": "examples/data_preprocess/medvidbench.py",
}
PACKAGES = {
    "recipes.medgrpo": "recipe.medgrpo",
    "reward_score": "verl.utils.reward_score.medgrpo",
    "data_preprocess": "verl.utils.medvidbench",
}
REWRITTEN = (".py", ".sh", ".sbatch", ".slurm", ".yaml", ".yml", ".md", ".txt")

_IMPORT = re.compile(
    r"(?<![\w.])(?P<verb>from|import)(?P<gap>[ \t]+)(?P<name>recipes\.medgrpo|reward_score|data_preprocess)\b"
)
_DOTTED = re.compile(r"(?P<lead>pkg://|(?<![\w./-]))(?P<name>recipes\.medgrpo|reward_score|data_preprocess)(?=\.[a-z])")
_RECIPE = re.compile(r"\brecipes(?P<mark>[./])medgrpo\b")
_PATH = re.compile(
    r"(?P<lead>(?:\$\{?ROOT\}?|CHECKOUT|checkout)/|(?<![\w./$-]))"
    r"(?P<path>(?:recipes/medgrpo|data_preprocess|reward_score|examples|docs|constraints|tests)/[\w./{},*-]*)"
)
_PART = re.compile(r'(?P<lead>/ )"(?P<name>reward_score|data_preprocess|examples|tests|docs|constraints)"')
_LINK = re.compile(r"(?P<text>\[[^\]\n]*\])\((?P<target>(?![a-z]+:|#)[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_ANCHOR = re.compile(r"Path\(__file__\)(?P<resolved>\.resolve\(\))?(?:\.parents\[(?P<level>\d+)\]|\.parent\.parent\b)")
_SHELL_ANCHOR = re.compile(r'(?P<here>\$\(dirname "\$\{BASH_SOURCE\[0\]\}"\))(?P<up>(?:/\.\.)+)')

# What must not be left: our names, where they are names and not plain words.
_LEFT = re.compile(
    r"\brecipes[./]medgrpo|(?<![\w.])(?:from|import)[ \t]+(?:recipes|reward_score|data_preprocess)\b"
    r"|pkg://(?:recipes|reward_score|data_preprocess)\b|-m[ \t]+(?:recipes|reward_score|data_preprocess)\b"
    r"|(?<![\w./-])(?:reward_score|data_preprocess)(?:\.[a-z]|/\w)|\bexamples/(?:run_|lib/)"
)


def place(path: str) -> str | None:
    """The upstream path of a file or folder of ours, None where it stays behind. Folders end in `/`."""
    for ours, theirs in PLACES:
        if path.startswith(ours) or path + "/" == ours:
            if theirs is None:
                return None
            moved = theirs + path[len(ours) :]
            # verl's CPU tests are those whose name says so.
            return re.sub(r"(/test_\w+)\.py$", r"\1_on_cpu.py", moved) if moved.startswith("tests/utils/") else moved
    return None


def places(path: str) -> list[str]:
    """All upstream paths of a file of ours: none, one, or two for what the tests of both trees need."""
    moved = place(path)
    if moved is None:
        return []
    if PurePosixPath(path).parent == PurePosixPath("tests"):
        return [home + PurePosixPath(path).name for home in SHARED_TESTS]
    return [moved]


def rewrite(text: str, ours: str, theirs: str) -> str:
    """A file's text with every name and path of ours replaced by the upstream one.

    Args:
        text: the file's content.
        ours: its path in this checkout.
        theirs: its path in a verl checkout.
    """
    if PurePosixPath(ours).suffix == ".md":
        return _markdown(text, ours, theirs)
    return _anchors(_names(text, theirs), ours, theirs)


def leftovers(text: str) -> list[tuple[int, str]]:
    """(line number, what stands there) of every name of ours that is still in a text."""
    return [(text.count("\n", 0, match.start()) + 1, match.group()) for match in _LEFT.finditer(text)]


def _names(text: str, theirs: str) -> str:
    def moved_path(match: re.Match) -> str:
        path = match["path"]
        for named, moved in MENTIONED.items():
            if path.startswith(named):
                return match["lead"] + moved + path[len(named) :]
        return match["lead"] + (place(path) or path)

    def moved_part(match: re.Match) -> str:
        new = place(match["name"] + "/").rstrip("/")
        # A test's helpers lie in its own tree.
        if match["name"] == "tests" and theirs.startswith(SHARED_TESTS[1]):
            new = SHARED_TESTS[1].rstrip("/")
        return f'{match["lead"]}"{new}"'

    def moved_import(match: re.Match) -> str:
        new = PACKAGES[match["name"]]
        alone = match["verb"] == "import" and match.string[match.end() : match.end() + 1] in ("\n", "")
        return f"{match['verb']}{match['gap']}{new}" + (f" as {match['name']}" if alone else "")

    text = re.sub(r"\bbash tests/run\.sh\b", "python -m pytest recipe/medgrpo/tests", text)
    text = _PATH.sub(moved_path, text)
    text = _PART.sub(moved_part, text)
    text = _IMPORT.sub(moved_import, text)
    text = _DOTTED.sub(lambda match: match["lead"] + PACKAGES[match["name"]], text)
    return _RECIPE.sub(lambda match: f"recipe{match['mark']}medgrpo", text)


def _anchors(text: str, ours: str, theirs: str) -> str:
    """Ways from a file up to the root, as long as they have to be where it now lies; shorter ways stay."""
    old, new = ours.count("/"), theirs.count("/")

    def python(match: re.Match) -> str:
        level = int(match["level"]) if match["level"] else 1
        return f"Path(__file__){match['resolved'] or ''}.parents[{new}]" if level == old else match.group()

    def shell(match: re.Match) -> str:
        return match["here"] + "/.." * new if match["up"].count("..") == old else match.group()

    return _SHELL_ANCHOR.sub(shell, _ANCHOR.sub(python, text))


def _markdown(text: str, ours: str, theirs: str) -> str:
    """Links lead to where their targets now lie, or are plain text where those stay behind; the rest by name."""

    def link(match: re.Match) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(ours), match["target"]))
        new = place(target) or place(target + "/")
        label = _names(match["text"], theirs)
        if new is None:
            return label[1:-1]
        return f"{label}({os.path.relpath(new, os.path.dirname(theirs))}{match['anchor'] or ''})"

    return _between(_LINK, text, link, lambda plain: _names(plain, theirs))


def _between(pattern: re.Pattern, text: str, matched: Callable[[re.Match], str], others: Callable[[str], str]) -> str:
    """A text whose matches went through one function and everything between them through another."""
    parts, at = [], 0
    for match in pattern.finditer(text):
        parts += [others(text[at : match.start()]), matched(match)]
        at = match.end()
    return "".join([*parts, others(text[at:])])
