# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Files that grow while they are read: lines behind the last one read, and steps whose files are new."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from recipes.medgrpo.files import InputError
from recipes.medgrpo.training.recording import step_of

_BLOCK = 1 << 24
"""Bytes of a file that are read at a time."""
_SETTLED_NS = 1_000_000_000


class Tail:
    """The lines of a JSON-lines file as they come. A line without its end is left for later."""

    def __init__(self, path: Path):
        self.path = path
        self._place = self._line = 0
        self._inode: int | None = None

    def new(self) -> list[Any]:
        """The values of the lines since the last call; all of them again where the file was replaced.

        Raises:
            InputError: a whole line that is no JSON. The lines before it are given first, by the call before.
        """
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return []
        if found.st_ino != self._inode or found.st_size < self._place:
            self._place, self._line, self._inode = 0, 0, found.st_ino
        records: list[Any] = []
        with open(self.path, "rb") as file:
            file.seek(self._place)
            while lines := self._whole_lines(file):
                for line in lines:
                    if line.strip():
                        try:
                            records.append(json.loads(line))
                        except (ValueError, RecursionError) as error:
                            if records:
                                return records
                            number = self._line + 1
                            raise InputError(f"{self.path}: line {number} is not JSON: {error}") from error
                    self._place += len(line)
                    self._line += 1
        return records

    @staticmethod
    def _whole_lines(file) -> list[bytes]:
        begin = file.tell()
        content = file.read(_BLOCK)
        while content and b"\n" not in content and (more := file.read(_BLOCK)):
            content += more
        end = content.rfind(b"\n") + 1
        file.seek(begin + end)
        return content[:end].splitlines(keepends=True)


class Changed(NamedTuple):
    """Steps whose file is new or another one than before, in order, and steps whose file is gone."""

    new: dict[int, Path]
    gone: set[int]


class StepFolder:
    """A folder with a file for each step. Each appears whole; a step that is done again replaces its file."""

    def __init__(self, folder: Path, ending: str):
        self.folder, self.ending = folder, ending
        self._known: dict[int, tuple[int, int, int]] = {}
        self._when: int | None = None

    def changed(self) -> Changed:
        """What has come and gone since the last call. A folder without a change costs one look."""
        try:
            when = os.stat(self.folder).st_mtime_ns
            if when == self._when:
                return Changed({}, set())
            found = {}
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    step = step_of(Path(entry.name))
                    if step is not None and entry.name.endswith(self.ending) and entry.name.startswith("step_"):
                        stat = entry.stat()
                        found[step] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:
            when, found = None, {}
        new = {step: self._path(step) for step in sorted(found) if self._known.get(step) != found[step]}
        gone = self._known.keys() - found.keys()
        # A file that comes within the clock's tick would not move a time that is this young.
        settled = when is None or time.time_ns() - when > _SETTLED_NS
        self._known, self._when = found, when if settled else None
        return Changed(new, gone)

    def forget(self, step: int) -> None:
        """Count a step's file as not yet seen."""
        self._known.pop(step, None)
        self._when = None

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:06d}{self.ending}"
