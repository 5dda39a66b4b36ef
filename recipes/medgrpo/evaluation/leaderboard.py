# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Leaderboard mode: the columns of the public leaderboard, the three judged ones by a judge of ours.

The leaderboard's judge has a prompt of its own, which asks how good a text is. So does `rubric`, in words of ours; the
reward's `comparative` asks how close a text is to the reference. The columns are computed as there, and their numbers
are comparable only with those of the same judge and prompt.

`reward_score.leaderboard` asks for one pair at a time. So a first pass only collects the pairs, which are then judged
side by side, each distinct one once; the second pass looks them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.intervals import Evaluation, evaluated
from recipes.medgrpo.evaluation.verdicts import Asked, ask
from reward_score.bootstrap import RESAMPLES
from reward_score.judge import DIMENSIONS
from reward_score.leaderboard import actions
from reward_score.leaderboard.contributions import read_parts
from reward_score.leaderboard.scoring import ASPECTS, Judge

JUDGED_TASKS = ("dvc", "vs", "rc")


def pairs_of(rows: Sequence[Graded]) -> dict[tuple[str, str], Asked]:
    """By (prediction, reference) what the leaderboard would send to its judge, each pair once."""
    asked: dict[tuple[str, str], Asked] = {}
    # A text that two tasks share is asked about for the one that comes first.
    for task in dict.fromkeys(row.data_source.rpartition("/")[2] for row in rows):
        if task not in JUDGED_TASKS:
            continue

        def collect(prediction: str, reference: str, task: str = task) -> None:
            asked.setdefault((prediction, reference), Asked(prediction, reference, task))

        read_parts([row.record for row in rows if row.data_source.endswith(f"/{task}")], judge=collect)
    return asked


def judged(judge: Any, rows: Sequence[Graded]) -> tuple[Judge, list[str]]:
    """The judge of `score_leaderboard` for these rows, and a line about texts that have no judgement, if there are any.

    It returns None for such a text, which is then left out of the column.

    Raises:
        JudgeError: the judge itself failed: no column is better than one over the calls that got through.
    """
    pairs = pairs_of(rows)
    found = ask(judge, pairs.values())

    def look_up(prediction: str, reference: str) -> dict[str, float] | None:
        scores = found.scores.get(pairs[prediction, reference])
        return scores and {aspect: scores[name] for aspect, name in zip(ASPECTS, DIMENSIONS, strict=True)}

    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(found.failures.items()))
    counted = f"captions without a judgement: {found.failures.total()} of {len(pairs)} ({kinds})"
    return look_up, [counted] if found.failures else []


def score_leaderboard(
    rows: Sequence[Graded],
    *,
    encoder: actions.Encoder | None = None,
    judge: Judge | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Leaderboard mode: the columns of these rows, as a file of their own, with intervals and breakdowns.

    Within a pair or a source a column is what the file would score if it held these rows alone, except that the
    classes of next actions stay those of the whole file; so they do in the resamples.

    Args:
        rows: their `record` is what is scored.
        encoder, judge: see `read_parts`.
        resamples, seed: of the bootstrap over videos.
    """
    parts = read_parts([row.record for row in rows], encoder=encoder, judge=judge)
    return evaluated("leaderboard", rows, parts, resamples=resamples, seed=seed)
