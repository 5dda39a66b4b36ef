# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Tables that only grow: JSON lines, each under a key of its content, that survive a kill at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class TableError(ValueError):
    """A table that holds something else. The message names file and line."""


class Table:
    """A table of a folder. One process writes at a time. The first record of a key stays.

    A line that a kill cut short is cut off when the table is opened to be written.

    Args:
        path: the file, made at the first record.

    Raises:
        TableError: a line before the last is no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, dict[str, Any]] = {}
        self._file: Any = None
        self._whole = 0
        if path.exists():
            self._read()

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    self._records.setdefault(record["key"], record)
                except (ValueError, TypeError, KeyError):
                    raise TableError(f"{self.path}: line {number}: expected a JSON object with a key") from None
                self._whole += len(line)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._records.values())

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, or None."""
        return self._records.get(key)

    def add(self, key: str, **values: Any) -> dict[str, Any]:
        """Append a record, if its key is new; the record that is there."""
        if key not in self._records:
            record = {"key": key, **values}
            line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab")  # noqa: SIM115 - it stays open until `close`
                os.truncate(self.path, self._whole)
            self._file.write(line)
            self._file.flush()
            self._records[key] = record
        return self._records[key]

    def close(self) -> None:
        """Close the file; `add` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file, self._whole = None, self.path.stat().st_size
