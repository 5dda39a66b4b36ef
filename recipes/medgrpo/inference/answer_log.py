# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The files of a run: which answers are there, and how they survive a kill.

`answers.jsonl` holds all answers that are known, behind a header that says what they are answers to. While a run is
under way, new ones are in `answers.jsonl.parts/`, one file per worker process, a line per answer; the next run takes
them up, and a last line that a kill cut short is asked again.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import read_json_lines, write_json_lines
from recipes.medgrpo.inference.jobs import InferenceError
from recipes.medgrpo.inference.scored_samples import former_name, set_aside

Key = tuple[int, int]
"""(place of the row in its parquet, number of the sample)."""


def lines_of(output: Path) -> Path:
    """Where the JSON lines are, for an output in either format."""
    return output.with_suffix(".jsonl")


class Records:
    """The answers to one definition (model, data, settings), in `answers.jsonl` and its parts."""

    def __init__(self, output: Path, header: Mapping[str, Any]):
        self.output, self.file = output, lines_of(output)
        self.parts = self.file.with_name(self.file.name + ".parts")
        self.header = json.loads(json.dumps(header))
        self.known: dict[Key, dict] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with these files. Raises `InferenceError` where another run writes them."""
        self.parts.mkdir(parents=True, exist_ok=True)
        with open(self.parts / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InferenceError(f"{self.parts}: another run is writing here") from None
            yield

    def collect(self) -> None:
        """Take up what former runs left, of these answers alone, and make one part of it."""
        self.known = {}
        for file in [self.file, *sorted(self.parts.glob("*.part"))]:
            header, records = _read(file)
            if header == self.header:
                self.known |= {(record["place"], record["sample"]): record for record in records}
            elif file == self.file:
                self._set_aside()
            elif records:
                aside = former_name(self.file)
                file.replace(aside)
                print(f"{self.file}: answers of an unfinished run on another model, data or settings, now in {aside}")
        self._write(self.parts / "known.part")
        for file in self.parts.glob("*.part"):
            if file.name != "known.part":
                file.unlink()

    def _set_aside(self) -> None:
        # The released format first: until this run ends, its name would stand for answers that are not these.
        if self.file.exists() and self.output != self.file and self.output.exists():
            self.output.replace(former_name(self.output))
        set_aside(self.file)

    def _write(self, file: Path) -> None:
        records = (self.known[key] for key in sorted(self.known))
        write_json_lines(file, [{"header": self.header}, *records])

    def part(self, number: int) -> Path:
        """The file of a worker, which starts it with `{"header": ...}`."""
        return self.parts / f"worker{number}.part"

    def finish(self) -> None:
        """Put all answers, if there are any, under the final name."""
        self.collect()
        if self.known:
            self._write(self.file)
        shutil.rmtree(self.parts)

    def open_keys(self, keys: Iterable[Key]) -> list[Key]:
        """Those of `keys` that have no answer yet."""
        return [key for key in keys if key not in self.known]


def _read(file: Path) -> tuple[Any, list[dict]]:
    try:
        lines = read_json_lines(file)
    except ValueError as error:
        raise InferenceError(f"{error}; expected lines that this command wrote, move the file away") from None
    head = lines[0] if lines and isinstance(lines[0], dict) else {}
    return head.get("header"), lines[1:]
