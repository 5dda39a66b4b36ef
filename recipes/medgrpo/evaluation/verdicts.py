# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge's verdicts on many texts, asked for side by side, each distinct text once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from recipes.medgrpo.judge_guard import check
from recipes.medgrpo.terminal import progress
from reward_score.errors import BadGroundTruth
from reward_score.judge import JudgeError, JudgeSettingsError, JudgeUnproven
from reward_score.judge.metering import ANSWER_CAUSED
from reward_score.medgrpo import AT_ONCE


class Asked(NamedTuple):
    """What a judge is asked about, as `Judge.score` takes it."""

    prediction: str
    reference: str
    task: str
    question: str | None = None


@dataclass
class Verdicts:
    """What a judge said.

    Attributes:
        scores: the five dimensions by what was asked; what has no verdict is not there.
        failures: by kind of error, how many have none.
        broken: the kinds of `failures` that the infrastructure caused, and that are worth another run. The texts
            caused the others: the judge refused them or could make nothing of them, or a reference has no word.
    """

    scores: dict[Asked, dict[str, float]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    broken: set[str] = field(default_factory=set)


def ask(judge: Any, texts: Iterable[Asked], *, patient: bool = False, at_once: int = AT_ONCE) -> Verdicts:
    """A judge's verdicts on all texts; its store keeps each as soon as it is there.

    Args:
        judge: `reward_score.judge.Judge` or one with its interface. Its connections are closed at the end.
        texts: what to judge.
        patient: go on with the other texts when the infrastructure fails.
        at_once: judgements under way at once.

    Raises:
        JudgeError: the infrastructure failed, and `patient` is not set.
        JudgeSettingsError: the judge cannot work with these settings; another try is useless.
        JudgeFailed: too many texts are without a verdict.
    """
    verdicts = Verdicts()
    distinct = list(dict.fromkeys(texts))

    async def run() -> None:
        gate = asyncio.Semaphore(at_once)
        early: list[Asked] = []

        async def one(text: Asked, bar: Any) -> None:
            prediction, reference = (_sendable(side) for side in text[:2])
            async with gate:
                try:
                    said = await judge.score(prediction, reference, task=text.task, question=text.question)
                    verdicts.scores[text] = said.scores()
                except (JudgeError, BadGroundTruth) as error:
                    if isinstance(error, JudgeUnproven) and text not in early and len(early) + 1 < len(distinct):
                        early.append(text)
                        return
                    kind, ours = type(error).__name__, isinstance(error, JudgeError) and not error.answer_caused
                    if isinstance(error, JudgeSettingsError) or (ours and not patient):
                        raise
                    verdicts.failures[kind] += 1
                    verdicts.broken |= {kind} if ours else set()
                bar.update()

        try:
            with progress(len(distinct), "pair", "judge") as bar:
                await asyncio.gather(*(one(text, bar) for text in distinct))
                # By now the judge has answered others, so that it can be told whose fault a reply is.
                await asyncio.gather(*(one(text, bar) for text in early))
        finally:
            await judge.aclose()

    asyncio.run(run())
    # A blank text has its verdict without the judge.
    given = sum(bool(text.prediction.strip()) for text in verdicts.scores)
    refused, broken = (sum(verdicts.failures[kind] for kind in kinds) for kinds in (ANSWER_CAUSED, verdicts.broken))
    check({"judged": given, "unjudged": refused, "broken": broken}, "texts")
    return verdicts


def _sendable(text: str) -> str:
    """Half a surrogate pair cannot be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")
