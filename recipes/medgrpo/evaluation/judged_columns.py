# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The leaderboard's three judged columns, by a judge of ours.

The leaderboard's judge has a prompt of its own, which asks how good a text is. So does `rubric`, in words of ours; the
reward's `comparative` asks how close a text is to the reference. The columns are computed as there, and their numbers
are comparable only with those of the same judge and prompt.

`reward_score.leaderboard` asks for one pair at a time. So a first pass only collects the pairs, which are then judged
side by side, each distinct one once; the second pass looks them up.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm.asyncio import tqdm

from recipes.medgrpo.evaluation.inputs import Graded
from reward_score.errors import BadGroundTruth
from reward_score.judge import DIMENSIONS, Judge, JudgeError, OfflineJudge
from reward_score.leaderboard.contributions import read_parts
from reward_score.leaderboard.scoring import ASPECTS
from reward_score.medgrpo import AT_ONCE

JUDGED_TASKS = ("dvc", "vs", "rc")
Pair = tuple[str, str]
Scores = dict[str, float]


def pairs_of(rows: Iterable[Graded]) -> dict[Pair, str]:
    """The distinct (prediction, reference) pairs that the leaderboard would send to its judge, each with its task."""
    records: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        if (task := row.data_source.rpartition("/")[2]) in JUDGED_TASKS:
            records[task].append(row.record)
    asked: dict[Pair, str] = {}
    for task, members in records.items():

        def collect(prediction: str, reference: str, task: str = task) -> None:
            asked.setdefault((prediction, reference), task)

        read_parts(members, judge=collect)
    return asked


class Judged:
    """Judged pairs, as `reward_score.leaderboard` asks for them: None where a text has no judgement, left out there.

    Args:
        judge: asked about every pair once.
        pairs: from `pairs_of`.

    Attributes:
        failures: by kind of error, how many pairs have no judgement: the judge refused the text or could make nothing
            of it, or the reference has no word.

    Raises:
        JudgeError: the judge itself failed: no column is better than one over the calls that got through.
    """

    def __init__(self, judge: Judge | OfflineJudge, pairs: Mapping[Pair, str]) -> None:
        self.failures: Counter[str] = Counter()
        self._known: dict[Pair, Scores | None] = {}
        asyncio.run(self._ask(judge, pairs))

    async def _ask(self, judge: Judge | OfflineJudge, pairs: Mapping[Pair, str]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(pair: Pair, task: str) -> None:
            async with gate:
                try:
                    judgement = await judge.score(*map(_sendable, pair), task=task)
                except (JudgeError, BadGroundTruth) as error:
                    if isinstance(error, JudgeError) and not error.answer_caused:
                        raise
                    self.failures[type(error).__name__] += 1
                    self._known[pair] = None
                else:
                    scores = judgement.scores()
                    self._known[pair] = {aspect: scores[name] for aspect, name in zip(ASPECTS, DIMENSIONS, strict=True)}

        try:
            await tqdm.gather(
                *(one(pair, task) for pair, task in pairs.items()), desc="judge", unit="pair", mininterval=2
            )
        finally:
            await judge.aclose()

    def __call__(self, prediction: str, reference: str) -> Scores | None:
        return self._known[prediction, reference]

    def notes(self) -> list[str]:
        """A line about failed calls, if there are any."""
        if not self.failures:
            return []
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.failures.items()))
        return [f"captions without a judgement: {sum(self.failures.values())} of {len(self._known)} ({kinds})"]


def _sendable(text: str) -> str:
    """Half a surrogate pair cannot be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")
