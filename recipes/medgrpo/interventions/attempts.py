# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which recorded answers are corrected: those below their pair's median, up to a few a prompt, and why not the others.

Only answers of training rows are, and only those that the model itself gave: a correction teaches it where it goes
wrong, which another model's answers do not tell.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from recipes.medgrpo.data.rows import DataError, Rows
from recipes.medgrpo.evaluation.percentiles import read_run
from recipes.medgrpo.files import InputError, data_fingerprint
from recipes.medgrpo.interventions.location import Asked, LeftOut, Mistake, locate

TRAIN = "train"
NOT_BELOW = "at or above the pair's median"
SAME, ENOUGH, OVER = "corrected to the same", "enough attempts of this prompt", "enough attempts of this pair"


@dataclass(frozen=True)
class Attempt:
    """A recorded answer, by the place of its row in the parquet, with its first wrong element."""

    place: int
    sample: int
    data_source: str
    asked: Asked = field(repr=False)
    mistake: Mistake

    def described(self) -> dict[str, Any]:
        """What of it the continuations depend on (JSON)."""
        return {"place": self.place, "sample": self.sample, **asdict(self.mistake)}


@dataclass
class Found:
    """The attempts, in the order of rows and samples, and by pair how many answers met which end."""

    attempts: list[Attempt]
    reasons: dict[str, Counter[str]]
    medians: dict[str, float]

    @property
    def digest(self) -> str:
        """SHA-256 of what the continuations depend on."""
        said = json.dumps([attempt.described() for attempt in self.attempts])
        return hashlib.sha256(said.encode()).hexdigest()

    def leave_out(self, good: Sequence[bool], reason: str) -> None:
        """Drop the attempts that are not good, and count the reason."""
        for attempt, fine in zip(self.attempts, good, strict=True):
            self.reasons[attempt.data_source][reason] += not fine
        self.attempts = [attempt for attempt, fine in zip(self.attempts, good, strict=True) if fine]


def check_training_rows(file: str, rows: Rows) -> None:
    """Raises `DataError`, with the first one's name, where some rows are not of the training split."""
    for place, split in enumerate(rows.column("split")):
        if split != TRAIN:
            extra = rows.row(place)["extra_info"]
            raise DataError(
                f"{file}: row {extra['index']} of {extra.get('file')} ({extra['source']}/{extra.get('video_id')}): "
                f"split: expected {TRAIN}, found {split}: nothing is learnt from held-out rows"
            )


def recorded_answers(file: Path, data: str, model: str | None = None) -> Sequence[Mapping[str, Any]]:
    """The answers in a ``raw_signals.jsonl``.

    Args:
        model: fingerprint of the model that has to have given them; None for any.

    Raises:
        InputError: no such file, answers to other rows, or of another model.
    """
    run = read_run(file)
    for name, expected in (("data", data_fingerprint(Path(data))), ("model", model)):
        if expected is not None and run.header[name] != expected:
            what = f"answers to {data}" if name == "data" else "answers of the model in --model"
            raise InputError(f"{file}: line 1: header: {name}: expected {what}, found others (sha256 {expected[:12]})")
    for number, record in enumerate(run.records, 2):
        if not isinstance(record.get("answer"), str) or not isinstance(record.get("place"), int):
            raise InputError(f"{file}: line {number}: answer, place: expected what the model said and to which row")
        if not isinstance(record.get("score"), int | float):
            raise InputError(f"{file}: line {number}: score: expected a number")
    return run.records


def find_attempts(
    records: Sequence[Mapping[str, Any]],
    rows: Rows,
    *,
    per_prompt: int = 2,
    per_pair: int | None = None,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
    locate: Callable[[Asked], Mistake | LeftOut] = locate,
) -> Found:
    """The attempts among recorded answers.

    An answer is below if its reward is below the median of its pair's, or 0: what has earned nothing has failed, even
    where most of a pair have.

    Args:
        records: of `recorded_answers`, each with the `place` of its row.
        per_prompt: most attempts of a row, of samples in their order.
        per_pair: most of a dataset-task pair, drawn by `seed`; None: all.
        tasks: of these alone.
        locate: what finds the first wrong element.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for record in records:
        scores[record["data_source"]].append(record["score"])
    medians = {pair: median(values) for pair, values in sorted(scores.items())}
    found = Found([], {pair: Counter() for pair in medians}, medians)
    taken: Counter[int] = Counter()
    seen: set[tuple[int, str]] = set()
    for record in sorted(records, key=lambda one: (one["place"], one["sample"])):
        pair, place = record["data_source"], record["place"]
        if tasks is not None and pair.rpartition("/")[2] not in tasks:
            continue
        mine = found.reasons[pair]
        mine["recorded"] += 1
        if 0 < record["score"] and record["score"] >= medians[pair]:
            mine[NOT_BELOW] += 1
            continue
        asked = Asked.of(rows.row(place), record["answer"], bool(record.get("truncated")))
        mistake = locate(asked)
        if isinstance(mistake, LeftOut):
            mine[str(mistake)] += 1
            continue
        if (place, mistake.guided) in seen or taken[place] >= per_prompt:
            mine[SAME if (place, mistake.guided) in seen else ENOUGH] += 1
            continue
        taken[place] += 1
        seen.add((place, mistake.guided))
        found.attempts.append(Attempt(place, record["sample"], pair, asked, mistake))
    _cut(found, per_pair, seed)
    return found


def _cut(found: Found, per_pair: int | None, seed: int) -> None:
    if per_pair is None:
        return
    kept = []
    for pair, mine in found.reasons.items():
        theirs = [attempt for attempt in found.attempts if attempt.data_source == pair]
        chosen = np.random.default_rng(seed).permutation(len(theirs))[:per_pair]
        kept += [theirs[number] for number in sorted(chosen)]
        if len(theirs) > len(chosen):
            mine[OVER] += len(theirs) - len(chosen)
    found.attempts = sorted(kept, key=lambda attempt: (attempt.place, attempt.sample))
