# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a tree for upstream has to pass: licence headers, no name of ours, shell that bash reads, verl's ruff rules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from places import REWRITTEN, leftovers

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
    """Sort imports and format, which the longer names made necessary; mark what is still too long with a `noqa`.

    Ruff takes Python 3.10 from verl's package. The one newer name (`ExceptionGroup`) gets a `noqa` too: the recipe
    needs Python 3.11, and `style` still finds names that 3.11 lacks.

    Raises:
        RuntimeError: ruff is missing or cannot read a file.
    """
    for arguments in ("check --fix --select I", "format", "check --select E501,F821 --add-noqa"):
        done = ruff(folder, *arguments.split(), "--quiet")
        if done.returncode:
            raise RuntimeError(f"ruff {arguments}: {(done.stderr or done.stdout).strip()}")


def style(folder: Path) -> list[str]:
    """What verl's ruff rules and formatter have to say, a line each."""
    checked = ruff(folder, "check", "--quiet", "--output-format", "concise")
    named = ruff(folder, *"check --quiet --output-format concise --select F821 --ignore-noqa".split(), *_PYTHON)
    formatted = ruff(folder, "format", "--quiet", "--check")
    return [line for done in (checked, named, formatted) if done.returncode for line in done.stdout.splitlines()]


def problems(folder: Path) -> list[str]:
    """Everything that is wrong with a tree, a line each; [] when all is well."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [*missing_headers(files), *old_names(files), *not_shell(files), *style(folder)]
