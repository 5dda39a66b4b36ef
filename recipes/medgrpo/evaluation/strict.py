# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Strict mode: the very signals that training rewards, where an omission never pays.

A pair counts once, however many rows it has: every figure is the plain mean over pairs of the mean over a pair's rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.medgrpo.evaluation.intervals import Additive, Evaluation, LeftOut, breakdown
from reward_score.bootstrap import RESAMPLES
from reward_score.errors import BadGroundTruth, UnknownTask
from reward_score.medgrpo import score_many
from reward_score.tasks import find_task, read_gold

if TYPE_CHECKING:
    from recipes.medgrpo.evaluation.inputs import Graded


@dataclass(frozen=True)
class Answers:
    """The pair and the numbers of every answer; an answer that could not be scored has none."""

    pairs: Sequence[str]
    numbers: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Layout:
    """Which cells there are: sums (pairs x figures), then counts (the same)."""

    pairs: tuple[str, ...]
    figures: tuple[str, ...]


def layout_of(*files: Answers) -> Layout:
    """The cells that hold every answer of these files; ``acc`` and ``format`` first."""
    pairs = sorted({pair for file in files for pair in file.pairs})
    names = {name for file in files for numbers in file.numbers for name in numbers}
    return Layout(tuple(pairs), tuple(sorted(names, key=lambda name: (name.startswith("raw_"), name))))


def additive(answers: Answers, cells_of: Layout | None = None) -> Additive:
    """The figures of a file; `cells_of` is for two files that have to share their cells."""
    chosen = layout_of(answers) if cells_of is None else cells_of
    shape = (len(chosen.pairs), len(chosen.figures))
    pairs = {pair: number for number, pair in enumerate(chosen.pairs)}
    figures = {name: number for number, name in enumerate(chosen.figures)}
    cells = np.zeros((len(answers.numbers), 2, *shape))
    for line, pair, numbers in zip(cells, answers.pairs, answers.numbers, strict=True):
        for name, value in numbers.items():
            line[:, pairs[pair], figures[name]] = value, 1.0

    def split(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = sums.reshape(*sums.shape[:-1], 2, *shape)
        return both[..., 0, :, :], both[..., 1, :, :]

    def values(sums: np.ndarray) -> np.ndarray:
        totals, counts = split(sums)
        known = counts > 0
        means = np.divide(totals, counts, out=np.zeros_like(totals), where=known)
        number = known.sum(-2)
        # A pair that a resample did not draw is left out of its mean.
        return np.divide(means.sum(-2), number, out=np.full(number.shape, np.nan), where=number > 0)

    def support(sums: np.ndarray) -> np.ndarray:
        return split(sums)[1].sum(-2)

    return Additive(cells.reshape(len(cells), 2 * shape[0] * shape[1]), chosen.figures, values, support)


def unscorable(row: Graded) -> str | None:
    """Why a row's reference cannot be scored against, None where it can."""
    if row.ground_truth is None:
        return "the row has no reference that strict scoring can read"
    try:
        read_gold(find_task(row.data_source)[0].name, row.ground_truth)
    except (BadGroundTruth, UnknownTask) as error:
        return str(error)
    return None


def score_strict(
    rows: Sequence[Graded], *, scoring: Mapping[str, Any], resamples: int = RESAMPLES, seed: int = 0
) -> Evaluation:
    """Strict mode: accuracy, format and every raw signal, per pair, task, source and overall, with intervals.

    Args:
        rows: their answers go to the scorer as they are; one that is no text cannot be read, and scores 0.
        scoring: settings of the scorer, `recipes.medgrpo.reward_options.signal_settings`.
        resamples, seed: of the bootstrap over videos.

    Raises:
        RewardError and the judge's errors: the scoring failed through no fault of an answer.
    """
    reasons = [unscorable(row) for row in rows]
    kept = [number for number, reason in enumerate(reasons) if reason is None]
    results = score_many(
        [(row.data_source, row.answer, row.ground_truth, row.extra) for row in (rows[number] for number in kept)],
        **scoring,
    )
    numbers: list[dict[str, float]] = [{} for _ in rows]
    for number, result in zip(kept, results, strict=True):
        # The reward depends on statistics of a training run, and is none of the file's.
        numbers[number] = {name: value for name, value in result.items() if name != "score"}
    answers = Answers([row.data_source for row in rows], numbers)
    return Evaluation(
        mode="strict",
        rows=rows,
        records=numbers,
        measured=answers,
        scores=breakdown(additive(answers), rows, resamples=resamples, seed=seed),
        left_out=[LeftOut(number, (), reason) for number, reason in enumerate(reasons) if reason is not None],
        official={},
        resamples=resamples,
        seed=seed,
    )


def pair_scores(records: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Mean accuracy, mean format and count per pair, of records with ``data_source``, ``acc`` and ``format``."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        groups[record["data_source"]].append(record)
    return {
        pair: {
            "acc": float(np.mean([record["acc"] for record in members])),
            "format": float(np.mean([record["format"] for record in members])),
            "n": len(members),
        }
        for pair, members in sorted(groups.items())
    }


def overall(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Plain means over pairs."""
    return {name: float(np.mean([values[name] for values in scores.values()])) for name in ("acc", "format")}
