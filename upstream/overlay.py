# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An installed package with other files in it, without copying or changing it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def overlay(installed: Path, ours: Path, folder: Path) -> None:
    """`folder` becomes the package `installed` with the files of `ours` in it or in their place; the rest is linked."""
    folder.mkdir()
    for entry in installed.iterdir():
        if (ours / entry.name).is_dir():
            overlay(entry, ours / entry.name, folder / entry.name)
        elif entry.name != "__pycache__" and not (ours / entry.name).exists():
            (folder / entry.name).symlink_to(entry)
    for entry in ours.iterdir():
        if not (folder / entry.name).exists():
            (shutil.copytree if entry.is_dir() else shutil.copy)(entry, folder / entry.name)


def clean_environment(*paths: Path, **variables: str) -> dict[str, str]:
    """The environment of a process that knows nothing of this checkout and imports from `paths` first."""
    ours = ("PYTEST", "MEDGRPO", "VERL", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    return environment
