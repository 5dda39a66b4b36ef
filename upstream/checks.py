# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a tree for upstream has to pass: licence headers, no name of ours, Python that compiles, verl's ruff rules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from places import REWRITTEN, leftovers
from wrapping import wrap

RULES = Path(__file__).resolve().parent / "verl_rules.toml"
HEADER = "Copyright 2026 the MedGRPO-on-verl authors"
_PYTHON = ("--target-version", "py311")
_HEADED = (".py", ".sh", ".yaml", ".yml", ".sbatch", ".slurm")


def missing_headers(files: Iterable[Path]) -> list[str]:
    """One line for every source file whose first lines do not hold the licence header."""
    return [
        f"{file}: no licence header, expected '{HEADER}' in its first three lines"
        for file in files
        if file.suffix in _HEADED and HEADER not in "\n".join(file.read_text(encoding="utf-8").splitlines()[:3])
    ]


def old_names(files: Iterable[Path]) -> list[str]:
    """One line for every name of this checkout that a file still holds."""
    return [
        f"{file}:{line}: '{found}' is a name of this checkout, expected the upstream one"
        for file in files
        if file.suffix in REWRITTEN
        for line, found in leftovers(file.read_text(encoding="utf-8"))
    ]


def not_python(files: Iterable[Path]) -> list[str]:
    """One line for every Python file that does not compile."""
    problems = []
    for file in files:
        if file.suffix == ".py":
            try:
                compile(file.read_bytes(), str(file), "exec")
            except SyntaxError as error:
                problems.append(f"{file}:{error.lineno}: {error.msg}, expected Python that compiles")
    return problems


def not_shell(files: Iterable[Path]) -> list[str]:
    """One line for every shell script that bash cannot read."""
    scripts = [file for file in files if file.suffix in (".sh", ".sbatch", ".slurm")]
    read = [subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False) for file in scripts]
    return [line for done in read if done.returncode for line in done.stderr.splitlines()]


def ruff(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Ruff with verl's rules in a folder, as verl's own checks call it: from its root."""
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--config", str(RULES), "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def tidy(folder: Path) -> None:
    """Sort imports and fill lines anew, which other names made necessary, and excuse the lines that cannot be broken.

    Ruff takes Python 3.10 from verl's package. The one kind of name that is newer (`ExceptionGroup`) is excused with
    them: the recipe asks for Python 3.11, and `style` looks for names that 3.11 lacks as well.

    Raises:
        RuntimeError: ruff is missing or could not read a file.
    """

    def run(*arguments: str) -> None:
        done = ruff(folder, *arguments)
        if done.returncode:
            raise RuntimeError(f"ruff {arguments[0]}: {(done.stderr or done.stdout).strip()}")

    run("check", "--quiet", "--fix", "--select", "I")
    run("format", "--quiet")
    for file in sorted(folder.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if (wrapped := wrap(source)) != source:
            file.write_text(wrapped, encoding="utf-8")
    run("check", "--quiet", "--select", "E501,F821", "--add-noqa")


def style(folder: Path) -> list[str]:
    """What verl's ruff rules and formatter have to say, a line each."""
    checked = ruff(folder, "check", "--quiet", "--output-format", "concise")
    named = ruff(folder, *"check --quiet --output-format concise --select F821 --ignore-noqa".split(), *_PYTHON)
    formatted = ruff(folder, "format", "--quiet", "--check")
    return [line for done in (checked, named, formatted) if done.returncode for line in done.stdout.splitlines()]


def problems(folder: Path) -> list[str]:
    """Everything that is wrong with a tree, a line each; [] when all is well."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [*missing_headers(files), *old_names(files), *not_python(files), *not_shell(files), *style(folder)]
