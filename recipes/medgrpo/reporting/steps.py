# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The answers of a run's steps as columns, taken up as they come."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.answers.recorded import NUMBERS, ROLLED_OUT, numbers_of
from recipes.medgrpo.files import InputError, read_json_lines
from recipes.medgrpo.reporting.growing import StepFolder
from recipes.medgrpo.reporting.rows import RowBook
from recipes.medgrpo.training.recording import ANSWERS, ENDINGS, ROLLOUTS
from reward_score.errors import RewardError

TRUNCATED, ATTACK, NO_PARSE, REFUSED = 1, 2, 4, 8
"""Bits of `flags`."""
INTEGERS, REALS = ("group", "pair", "row", "flags"), ("score", "format", "acc", "advantage", "tokens")


@dataclass
class Step:
    """The N answers of a step, a column each.

    Attributes:
        columns: `INTEGERS` and `REALS`: the answer's group within the step, its pair and row by number, bits of
            `flags`; `tokens` is 0 and `acc` is nan where the record does not say.
        raw: of each answer its raw signals.
        tokens: mean length of a pair's answers, by the pair's number.
    """

    columns: dict[str, array] = field(
        default_factory=lambda: {**{n: array("l") for n in INTEGERS}, **{n: array("d") for n in REALS}}
    )
    raw: list[dict[str, float]] = field(default_factory=list)
    tokens: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.raw)


class StepBook:
    """The steps below a folder of checkpoints.

    Args:
        root: the folder that holds `rollouts/` and perhaps `answers/`.
        rows: gives rows their numbers.
        pairs: the pairs by number; new ones are added to it.
        most: of a longer run whole steps are left out, evenly, so that about this many answers are shown.
        planned: how many steps the run is to have, 0 where nobody says.

    Attributes:
        every: only the first step and those that this number divides are taken up; 0 until there is a step.
        steps: by number. said: by step the file of its texts. problems: by step why its file is not taken up.
        era: grows when a step that was there is another one now, or gone: what was read before is to be read anew.
    """

    def __init__(self, root: Path, rows: RowBook, pairs: list[str], most: int, planned: int = 0):
        self.root, self.rows, self.pairs, self.most, self.planned = root, rows, pairs, most, planned
        self.every = 0
        self.steps: dict[int, Step] = {}
        self.said: dict[int, Path] = {}
        self.problems: dict[int, str] = {}
        self.era = 0
        self._files = StepFolder(root / ROLLOUTS, ENDINGS[ROLLOUTS])
        self._answers = StepFolder(root / ANSWERS, ENDINGS[ANSWERS])

    def refresh(self, patient: bool = False) -> set[int]:
        """Take up what is new; the steps that have changed.

        Args:
            patient: a file that cannot be read is a problem of its step, not an error.

        Raises:
            InputError: a step's file that cannot be used; names file and line.
        """
        files, answers = self._files.changed(), self._answers.changed()
        self.era += bool(self.steps.keys() & {*files.new, *files.gone, *answers.new, *answers.gone})
        for step in answers.gone:
            self.said.pop(step, None)
        for step in files.gone:
            self.steps.pop(step, None)
            self.problems.pop(step, None)
        self.said |= answers.new
        for step, path in files.new.items():
            if self._taken(step):
                self._take(step, path, patient)
                if not self.every and (size := len(self.steps.get(step, ()))):
                    self.every = max(1, -(-max(self.planned, len(files.new)) * size // self.most))
        return files.gone | {step for step in {**files.new, **answers.new} if step in self.steps}

    def _take(self, step: int, path: Path, patient: bool) -> None:
        self.steps.pop(step, None)
        self.problems.pop(step, None)
        try:
            self.steps[step] = self._read(path)
        except (InputError, OSError) as error:
            if not patient:
                raise
            self.problems[step] = str(error)

    def _taken(self, step: int) -> bool:
        return self.every < 2 or step == 1 or step % self.every == 0

    def _read(self, path: Path) -> Step:
        step, groups = Step(), dict[str, int]()
        known = {pair: number for number, pair in enumerate(self.pairs)}
        for line, record in enumerate(read_json_lines(path), 1):
            try:
                numbers = numbers_of(record, ROLLED_OUT, NUMBERS)
            except (ValueError, RewardError) as error:
                raise InputError(f"{path}: line {line}: {error}") from error
            pair = record["data_source"]
            if pair not in known:
                known[pair] = len(self.pairs)
                self.pairs.append(pair)
            named = isinstance(record.get("file"), str) and isinstance(record.get("index"), int)
            columns = step.columns
            columns["group"].append(groups.setdefault(record["group"], len(groups)))
            columns["pair"].append(known[pair])
            columns["row"].append(self.rows.number((record["file"], record["index"]), pair) if named else -1)
            columns["flags"].append(_flags(record))
            columns["score"].append(numbers["score"])
            columns["format"].append(numbers["format"])
            columns["acc"].append(_real(record.get("acc")))
            columns["advantage"].append(numbers.get("advantage", float("nan")))
            columns["tokens"].append(numbers.get("tokens", 0))
            step.raw.append({name[4:]: value for name, value in numbers.items() if name.startswith("raw_")})
        pair, tokens = np.array(step.columns["pair"]), np.array(step.columns["tokens"])
        step.tokens = {int(one): float(tokens[pair == one].mean()) for one in np.unique(pair)}
        return step

    def texts(self, step: int) -> list[dict[str, Any]]:
        """By place the recorded texts of a step; a record of another attempt's answers is left out.

        Raises:
            InputError: a file that cannot be used.
        """
        path = self.said.get(step)
        many = len(self.steps[step])
        found: list[dict[str, Any]] = [{} for _ in range(many)]
        for record in [] if path is None else read_json_lines(path):
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise InputError(f"{path}: expected objects with text and place, found {record!r:.60}")
            if isinstance(record.get("place"), int) and 0 <= record["place"] < many:
                found[record["place"]] = record
        return found

    def since(self, first: int = 0) -> Iterable[tuple[int, Step]]:
        """The steps from one on, in order."""
        return ((step, self.steps[step]) for step in sorted(self.steps) if step >= first)

    def last(self, many: int) -> list[Step]:
        """The newest steps."""
        return [self.steps[step] for step in sorted(self.steps)[-many:]]


def _real(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _flags(record: Mapping[str, Any]) -> int:
    return (
        TRUNCATED * bool(record.get("truncated"))
        | ATTACK * bool(record.get("attack"))
        | NO_PARSE * (record["format"] == 0)
        | REFUSED * bool(record.get("unjudged"))
    )
