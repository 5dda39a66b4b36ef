# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Strict mode: the very signals that training rewards, where an omission never pays.

A pair counts once, however many rows it has: every figure is the plain mean over pairs of the mean over a pair's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recipes.medgrpo.evaluation.intervals import Evaluation, evaluated
from recipes.medgrpo.judge_guard import check, count
from reward_score.bootstrap import RESAMPLES
from reward_score.errors import BadGroundTruth, UnknownTask
from reward_score.leaderboard.contributions import Entry, Loss, Parts
from reward_score.medgrpo import score_many
from reward_score.reward import MARK
from reward_score.tasks import find_task, read_gold

if TYPE_CHECKING:
    from recipes.medgrpo.evaluation.inputs import Graded
    from recipes.medgrpo.evaluation.truths import Truth


def parts_of(pairs: Sequence[str], numbers: Sequence[Mapping[str, float]]) -> Parts:
    """Answers to these pairs with their numbers, as parts of figures; one that could not be scored has no numbers."""
    parts = Parts(len(pairs))
    for row, (pair, found) in enumerate(zip(pairs, numbers, strict=True)):
        for name, value in found.items():
            parts.entries.setdefault(name, []).append(Entry(row, pair, {"": (value, 1.0)}))
    return parts


def unscorable(row: Graded | Truth) -> str | None:
    """Why a row's reference cannot be scored against, None where it can."""
    if row.ground_truth is None:
        return "the row has no reference that strict scoring can read"
    try:
        read_gold(find_task(row.data_source)[0].name, row.ground_truth)
    except (BadGroundTruth, UnknownTask) as error:
        return str(error)
    return None


def score_strict(
    rows: Sequence[Graded],
    *,
    scoring: Mapping[str, Any],
    notes: list[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Strict mode: accuracy, format and every raw signal, per pair, task, source and overall, with intervals.

    Args:
        rows: their answers go to the scorer as they are; one that is no text cannot be read, and scores 0.
        scoring: settings of the scorer, `recipes.medgrpo.reward_options.signal_settings`.
        notes: gets a line about answers that the judge gave no verdict on, if there are any.
        resamples, seed: of the bootstrap over videos.

    Raises:
        RewardError and the judge's errors: the scoring failed through no fault of an answer.
        JudgeFailed: the judge refused or garbled too many.
    """
    reasons = [unscorable(row) for row in rows]
    kept = [number for number, reason in enumerate(reasons) if reason is None]
    results = score_many(
        [(row.data_source, row.answer, row.ground_truth, row.extra) for row in (rows[number] for number in kept)],
        **scoring,
    )
    (notes if notes is not None else []).extend(check(count(results)))
    numbers: list[dict[str, float]] = [{} for _ in rows]
    for number, result in zip(kept, results, strict=True):
        # The reward depends on statistics of a training run, and is none of the file's. The judge's marks stand behind
        # one of the signals.
        numbers[number] = {
            name: value
            for name, value in result.items()
            if name not in ("score", "unjudged") and not name.startswith(MARK)
        }
    parts = parts_of([row.data_source for row in rows], numbers)
    parts.losses += [Loss(number, (), reason) for number, reason in enumerate(reasons) if reason is not None]
    return evaluated("strict", rows, parts, resamples=resamples, seed=seed)


def pair_scores(records: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Mean accuracy, mean format and count per pair, of records with ``data_source``, ``acc`` and ``format``."""
    pairs = pd.DataFrame(records, columns=["data_source", "acc", "format"]).groupby("data_source")
    return pairs.mean().assign(n=pairs.size()).to_dict("index")


def overall(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Plain means over pairs."""
    return {name: float(np.mean([values[name] for values in scores.values()])) for name in ("acc", "format")}
