# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A file of answers, measured: every figure of every group of its rows, with a 95 % interval by bootstrap over videos.

Rows of one video are not independent, so whole videos are drawn, over all sources together: within a source that has a
few videos only, the spread would come out too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reward_score.bootstrap import RESAMPLES, Bootstrap, finite, interval
from reward_score.leaderboard.contributions import Parts
from reward_score.leaderboard.figures import Figures, record_numbers

if TYPE_CHECKING:
    from recipes.medgrpo.evaluation.inputs import Graded


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


def estimates(figures: Figures, videos: np.ndarray, bootstrap: Bootstrap, rows: np.ndarray) -> dict[str, Estimate]:
    """Every figure with rows behind it, with its interval.

    Args:
        figures: of the file.
        videos: each row's video, array (rows,).
        bootstrap: over the videos of the whole file.
        rows: mask of the rows to look at.
    """
    by_video = bootstrap.sums(figures.cells[rows], videos[rows])
    behind = figures.support(by_video) > 0
    used = by_video.any(axis=1)
    resampled = figures.values(bootstrap.drawn[:, used] @ by_video[used])
    totals = by_video.sum(0)
    value, support = figures.values(totals), figures.support(totals)
    found = {}
    for column, name in enumerate(figures.names):
        if not support[column]:
            continue
        seen = int(behind[:, column].sum())
        low, high, undefined = interval(resampled[:, column], seen)
        found[name] = Estimate(finite(value[column]), low, high, round(support[column]), seen, undefined)
    return found


@dataclass(frozen=True)
class Evaluation:
    """One file of answers, measured.

    Attributes:
        mode: ``leaderboard`` or ``strict``.
        rows: what was evaluated, in the order of the input.
        parts: what each row gives to each figure, and which rows figures lack.
        scores: by level (``overall``, ``tasks``, ``sources``, ``pairs``) and group the figures. ``overall`` has the
            one group ``all``.
        resamples, seed: of the bootstrap.
    """

    mode: str
    rows: Sequence[Graded]
    parts: Parts
    scores: dict[str, dict[str, dict[str, Estimate]]]
    resamples: int
    seed: int

    @property
    def records(self) -> list[dict[str, float]]:
        """Of every row its own numbers."""
        return record_numbers(self.parts)

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


def evaluated(
    mode: str, rows: Sequence[Graded], parts: Parts, *, resamples: int = RESAMPLES, seed: int = 0
) -> Evaluation:
    """By level and group every figure of the rows, with its interval; `parts` is what each row gives to them."""
    figures = Figures(parts)
    videos = np.array([row.video for row in rows], dtype=object)
    bootstrap = Bootstrap(videos, resamples, seed)
    groups = groups_of(rows) | ({} if len(rows) else {"overall": {"all": np.zeros(0, dtype=bool)}})
    scores = {
        level: {group: estimates(figures, videos, bootstrap, mask) for group, mask in found.items()}
        for level, found in groups.items()
    }
    return Evaluation(mode, rows, parts, scores, resamples, seed)
