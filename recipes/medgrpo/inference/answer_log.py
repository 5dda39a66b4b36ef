# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The file of a run's answers, and how they survive a kill.

The first line of the file says what its answers are answers to; one answer a line follows. While a run is under way
it is called `answers.jsonl.partial`, and every batch is added to its end, by several processes if there are several.
The next run takes up what is there, and asks again for a line that a kill cut short. At the end the answers stand in
the order of the rows in `answers.jsonl`.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipes.medgrpo.data.positions import enabled
from recipes.medgrpo.files import data_fingerprint, read_json_lines, write_json_lines
from recipes.medgrpo.inference.jobs import Engine, InferenceError

Key = tuple[int, int]
"""(place of the row in its parquet, number of the sample)."""

SAMPLED = ("model", "data", "settings")
"""What of a header the answers depend on. The rest says what scored them."""
_LONGEST_LINE = 1 << 20


def header_of(engine: Engine, data: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What answers of an engine to the rows of a file depend on; `settings` are those of the sampling."""
    times = {} if enabled() else {"time_fix": False}
    named = {"engine": engine.described, "temperature": engine.temperature, **settings, **times}
    return {"model": engine.identity, "data": data_fingerprint(Path(data)), "settings": named}


def partial_of(file: Path) -> Path:
    """Where the answers of an unfinished run are."""
    return file.with_name(file.name + ".partial")


def _former_name(file: Path) -> Path:
    names = (file.with_name(f"{file.stem}.former{number or ''}{file.suffix}") for number in itertools.count())
    return next(name for name in names if not name.exists())


class AnswerLog:
    """The answers that one header describes.

    Args:
        output: the JSON lines, or the file in the released format that they lie beside.
        header: see `header_of`; more keys say what scores the answers.

    Attributes:
        known: the answers that are there. other_scores: whose scores are those of another reward.
    """

    def __init__(self, output: Path, header: Mapping[str, Any]):
        self.output, self.file = output, output.with_suffix(".jsonl")
        self.partial = partial_of(self.file)
        self.header = json.loads(json.dumps(header))
        self.known: dict[Key, dict] = {}
        self.other_scores: set[Key] = set()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with these files, with the answers of former runs taken up.

        Answers of another model, of other data or of other settings cost hours too: they are renamed.

        Raises:
            InferenceError: another run writes here, or the file is none of ours.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        place = self.file.with_name(self.file.name + ".lock")
        with open(place, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InferenceError(f"{self.file}: another run is writing here") from None
            try:
                for file in (self.file, self.partial):
                    self._take_up(file)
                yield
            finally:
                place.unlink()

    def _take_up(self, file: Path) -> None:
        header, records = _read(file)
        if all(header.get(key) == self.header[key] for key in SAMPLED):
            found = {(record["place"], record["sample"]): record for record in records}
            self.known |= found
            if header == self.header:
                self.other_scores -= set(found)
            else:
                self.other_scores |= set(found)
        elif records:
            # Until this run ends, the released format's name would stand for answers that are not these.
            if file == self.file != self.output and self.output.exists():
                self.output.replace(_former_name(self.output))
            former = _former_name(self.file)
            file.replace(former)
            print(f"{file}: answers of another model, data or settings, now in {former.name}")

    def read_partial(self) -> None:
        """Take up what other processes have added since the run began."""
        self.known |= {(record["place"], record["sample"]): record for record in _read(self.partial)[1]}

    def begin(self) -> None:
        """Write the answers that are known, for `adding` to go on from."""
        self._write(self.partial)

    @contextmanager
    def adding(self) -> Iterator[Callable[[Iterable[dict]], None]]:
        """A function that adds answers to the unfinished file, whole lines whoever else is adding some.

        A worker that outlives its run goes on writing to the file that it opened, which the next run has replaced.
        """
        with open(self.partial, "r+b") as file:

            def add(records: Iterable[dict]) -> None:
                records = list(records)
                lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
                fcntl.flock(file, fcntl.LOCK_EX)
                end = file.seek(0, os.SEEK_END)
                file.seek(start := max(0, end - _LONGEST_LINE))
                # A process that was killed in the middle of a line leaves the first part of it.
                file.seek(start + file.read().rfind(b"\n") + 1)
                file.truncate()
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
                fcntl.flock(file, fcntl.LOCK_UN)
                self.known |= {(record["place"], record["sample"]): record for record in records}

            yield add

    def finish(self) -> None:
        """Put all answers, if there are any, under the final name."""
        if self.known:
            self._write(self.file)
        self.partial.unlink(missing_ok=True)

    def _write(self, file: Path) -> None:
        write_json_lines(file, [{"header": self.header}, *(self.known[key] for key in sorted(self.known))])

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those of `keys` that have no answer yet."""
        return [key for key in keys if key not in self.known]


def _read(file: Path) -> tuple[Mapping[str, Any], list[dict]]:
    """(header, answers) of a file, both empty where there is none."""
    try:
        head, *records = read_json_lines(file) or [{}]
        return head.get("header") or {}, records
    except (AttributeError, ValueError) as error:
        raise InferenceError(f"{file}: {error}; expected lines that this command wrote, move the file away") from None
