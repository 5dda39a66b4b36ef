# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Figures that are functions of sums over rows, and their 95 % intervals by bootstrap over videos.

A mean, a macro mean over datasets, a mean over pairs: each is a function of a few sums. With one matrix of *cells*
(what each row adds to each sum) any resample of the videos is a product of matrices. Rows of one video are not
independent, so whole videos are drawn, over all sources together: within a source that has a few videos only, the
spread would come out too small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reward_score.bootstrap import RESAMPLES, Bootstrap, finite, interval

if TYPE_CHECKING:
    from recipes.medgrpo.evaluation.inputs import Graded


@dataclass(frozen=True)
class Additive:
    """Figures of a set of rows.

    Attributes:
        cells: array (rows, cells), finite: what a row adds to each sum.
        figures: names of the figures.
        values: sums, array (..., cells), to figures, array (..., figures); nan where a figure is undefined.
        support: sums to the number of rows that stand behind each figure, array (..., figures).
    """

    cells: np.ndarray
    figures: tuple[str, ...]
    values: Callable[[np.ndarray], np.ndarray]
    support: Callable[[np.ndarray], np.ndarray]

    def at(self, weights: np.ndarray | None = None) -> np.ndarray:
        """The figures, array (figures,); with weights (rows,) or (resamples, rows), array (..., figures)."""
        return self.values(self.cells.sum(0) if weights is None else np.asarray(weights, dtype=float) @ self.cells)


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: None where the figure is undefined on these rows.
        low, high: None below two videos, where nothing tells the spread.
        rows, videos: how many stand behind the figure.
        undefined: resamples in which the figure was undefined; they are left out of the interval.
    """

    value: float | None
    low: float | None
    high: float | None
    rows: int
    videos: int
    undefined: int = 0

    def as_dict(self) -> dict:
        return asdict(self)


def estimates(additive: Additive, videos: np.ndarray, bootstrap: Bootstrap, rows: np.ndarray) -> dict[str, Estimate]:
    """Every figure with rows behind it, with its interval.

    Args:
        additive: the figures.
        videos: each row's video, array (rows,).
        bootstrap: over the videos of the whole file.
        rows: mask of the rows to look at.
    """
    by_video = bootstrap.sums(additive.cells[rows], videos[rows])
    behind = additive.support(by_video) > 0
    used = by_video.any(axis=1)
    resampled = additive.values(bootstrap.drawn[:, used] @ by_video[used])
    totals = by_video.sum(0)
    value, support = additive.values(totals), additive.support(totals)
    found = {}
    for column, figure in enumerate(additive.figures):
        if not support[column]:
            continue
        seen = int(behind[:, column].sum())
        low, high, undefined = interval(resampled[:, column], seen)
        found[figure] = Estimate(finite(value[column]), low, high, round(support[column]), seen, undefined)
    return found


@dataclass(frozen=True)
class LeftOut:
    """A row that some figures lack.

    Attributes:
        row: position among the rows of the evaluation.
        figures: which ones; empty: all of them.
        reason: one line.
    """

    row: int
    figures: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """One file of answers, measured.

    Attributes:
        mode: ``leaderboard`` or ``strict``.
        rows: what was evaluated, in the order of the input.
        records: of every row its own numbers.
        measured: what the figures are made of: `contributions.Parts` or `strict.Answers`.
        scores: by level (``overall``, ``tasks``, ``sources``, ``pairs``) and group the figures. ``overall`` has the
            one group ``all``.
        left_out: rows that figures lack.
        official: by column what the official evaluator would show (`contributions.Parts.official`); empty in strict
            mode.
        resamples, seed: of the bootstrap.
    """

    mode: str
    rows: Sequence[Graded]
    records: list[dict[str, float]]
    measured: Any
    scores: dict[str, dict[str, dict[str, Estimate]]]
    left_out: list[LeftOut]
    official: dict[str, str]
    resamples: int
    seed: int

    @property
    def overall(self) -> dict[str, Estimate]:
        return self.scores["overall"]["all"]


def groups_of(rows: Sequence[Graded]) -> dict[str, dict[str, np.ndarray]]:
    """By level and group the mask of its rows."""
    names = [row.data_source for row in rows]
    labels = {
        "overall": ["all"] * len(names),
        "tasks": [name.rsplit("/", 1)[-1] for name in names],
        "sources": [name.split("/")[1] if name.count("/") == 2 else name for name in names],
        "pairs": names,
    }
    return {
        level: {group: np.array([label == group for label in found]) for group in sorted(set(found))}
        for level, found in labels.items()
    }


def breakdown(
    additive: Additive, rows: Sequence[Graded], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """By level and group every figure with its interval."""
    videos = np.array([row.video for row in rows], dtype=object)
    bootstrap = Bootstrap(videos, resamples, seed)
    groups = groups_of(rows) | ({} if len(rows) else {"overall": {"all": np.zeros(0, dtype=bool)}})
    return {
        level: {group: estimates(additive, videos, bootstrap, mask) for group, mask in found.items()}
        for level, found in groups.items()
    }
