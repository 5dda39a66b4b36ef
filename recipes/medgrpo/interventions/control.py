# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The paired control: does what a model says after a correction earn more than what it says after its own element?

Both arms go on K times with the same engine, budget and draws. Only what comes after the element is scored, against
the reference without what is there by then: the inserted element itself earns nothing, however right it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.files import code_fingerprint
from recipes.medgrpo.inference.answer_log import AnswerLog, Key, header_of
from recipes.medgrpo.inference.jobs import Engine, Job
from recipes.medgrpo.inference.run import Work
from recipes.medgrpo.inference.scored_samples import ANSWERED, FEWEST, get_scored
from recipes.medgrpo.interventions.attempts import Attempt, Found
from recipes.medgrpo.interventions.location import ELEMENTS
from recipes.medgrpo.interventions.rest import what_comes_after, what_is_left
from recipes.medgrpo.judge_guard import check, count
from recipes.medgrpo.reward_options import defining
from reward_score.medgrpo import score_many
from reward_score.tasks import TASKS

ARMS = ("corrected", "original")


@dataclass(frozen=True)
class Continued(Work):
    """Jobs that go on from attempts: place 2 n is attempt n with its correction, 2 n + 1 the same as it was said."""

    attempts: Sequence[Attempt] = ()

    def job(self, row: dict, key: Key) -> Job:
        number, arm = divmod(key[0], len(ARMS))
        mistake = self.attempts[number].mistake
        # The draws of a row and a sample: the same in both arms.
        return replace(super().job(row, key), prefix=mistake.control if arm else mistake.guided)


@dataclass(frozen=True)
class Outcome:
    """Mean reward of what comes after, 0 to 1, in each arm."""

    corrected: float
    original: float

    @property
    def gain(self) -> float:
        return self.corrected - self.original


def score_after(
    attempts: Sequence[Attempt], records: Sequence[Mapping], rows: Mapping[int, dict], scoring: dict
) -> list[dict]:
    """The continuations' records with the text that is scored, `after`, and its scores, the best of its readings.

    Raises:
        JudgeFailed: the judge refused or garbled too many.
    """
    samples, readings = [], []
    for record in records:
        number, arm = divmod(record["place"], len(ARMS))
        attempt, row = attempts[number], rows[record["place"]]
        left = json.dumps(what_is_left(attempt.asked, attempt.mistake))
        texts = what_comes_after(attempt.asked, attempt.mistake, record["answer"], corrected=ARMS[arm] == "corrected")
        readings.append(texts)
        samples += [(row["data_source"], text, left, row["extra_info"]) for text in texts]
    scores = score_many(samples, **scoring)
    check(count(scores), fewest=FEWEST)
    found = iter(scores)
    kept = [{name: record[name] for name in ANSWERED if name in record} for record in records]
    return [
        one | max(({"after": text} | next(found) for text in texts), key=lambda scored: scored["score"])
        for one, texts in zip(kept, readings, strict=True)
    ]


def outcomes(
    found: Found,
    rows: Rows,
    data: str,
    output: Path,
    *,
    engine: Engine,
    continuations: int = 8,
    max_new_tokens: int = 96,
    batch_size: int | None = None,
    seed: int = 0,
    scoring: dict,
) -> list[Outcome]:
    """What each attempt's two arms earn; every continuation is kept in `output`, and a second call goes on there.

    Args:
        rows: all of `data`, which the attempts' places count in.
        scoring: what `reward_options.signal_settings` returns.

    Raises:
        InferenceError, JudgeFailed: as `get_scored`.
    """
    attempts = found.attempts
    if not attempts:
        return []
    settings = {
        "continuations": continuations,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "attempts": found.digest,
    }
    header = header_of(engine, data, settings) | {"scoring": defining(scoring), "code": code_of_control()}
    log = AnswerLog(output, header)
    taken = rows.take([attempt.place for attempt in attempts for _ in ARMS])
    work = Continued(taken, dict.fromkeys(TASKS, max_new_tokens), seed, attempts=attempts)
    # An attempt's arms side by side: they share a clip, and a stopped run has whole pairs.
    places = range(len(ARMS) * len(attempts))
    keys = [(place, sample) for place in places for sample in range(continuations)]
    records = get_scored(
        engine, work, keys, log, lambda known, said: score_after(attempts, said, known, scoring), batch_size
    )
    means = [
        fmean(r["score"] for r in records[at : at + continuations]) for at in range(0, len(records), continuations)
    ]
    return [Outcome(*means[at : at + len(ARMS)]) for at in range(0, len(means), len(ARMS))]


def code_of_control() -> str:
    """sha256 of the code that the scores depend on: the reward's, and what is scored of a continuation."""
    digest = hashlib.sha256(code_fingerprint().encode())
    for name in ("control.py", "location.py", "rest.py", "slots.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


def judged_higher(attempts: Sequence[Attempt], rows: Rows, scoring: dict) -> list[bool]:
    """Of each attempt, whether its beginning earns more with the correction than as it was said.

    Asked of captions only, whose correction is a sentence of another wording: elsewhere it is the reference's own.

    Raises:
        JudgeFailed: the judge refused or garbled too many.
    """
    asked = [at for at, attempt in enumerate(attempts) if ELEMENTS[attempt.asked.task].field == "text"]
    samples = []
    for at in asked:
        row = rows.row(attempts[at].place)
        for text in (attempts[at].mistake.guided, attempts[at].mistake.control):
            samples.append((row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"]))
    scores = score_many(samples, **scoring) if samples else []
    check(count(scores), fewest=FEWEST)
    found = [True] * len(attempts)
    for number, at in enumerate(asked):
        found[at] = scores[2 * number]["score"] > scores[2 * number + 1]["score"]
    return found
