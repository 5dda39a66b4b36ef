# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Confidence intervals by bootstrap over clusters: the percentile method, with whole clusters drawn.

Answers about one video are not independent, so a resample draws videos, as many as there are, with replacement, and
takes each with all its rows. A resample is a row of whole numbers: how often it has each cluster. Every figure of a
study is computed from the same resamples, so two sets of rows of the same videos are resampled alike: their paired
difference is a difference of two figures of one resample, and a run pooled with itself has its own interval.

    videos = Bootstrap(["a", "a", "b", "c"], seed=7)
    totals, counts = videos.sums(values, rows), videos.sums(np.ones(4), rows)
    means = ratio(videos.drawn @ totals, videos.drawn @ counts)
    low, high, undefined = interval(means, clusters=3)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
MOST_WEIGHTS = 2_000_000
"""Weights (resamples x rows) held at once."""

CONSTANT = 1e-9
"""A variance below this is 0: what is compared here differs by far more, rounding errors by far less."""

Seed = int | np.random.Generator


class Interval(NamedTuple):
    """The bounds of a 95 % interval.

    Attributes:
        low, high: None where nothing tells the spread: no resample has a value, or there are fewer than two clusters.
        undefined: resamples without a value; they are left out.
    """

    low: float | None
    high: float | None
    undefined: int


def draw(count: int, resamples: int = RESAMPLES, seed: Seed = 0) -> np.ndarray:
    """How often each of `count` clusters is in each resample, array (resamples, count); every row sums to `count`."""
    if count == 0:
        return np.zeros((resamples, 0))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples).astype(float)


def ratio(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Totals by counts, element by element; nan where the count is 0."""
    totals, counts = np.broadcast_arrays(np.asarray(totals, dtype=float), counts)
    return np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts != 0)


def quantiles(values: np.ndarray, weights: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Quantiles (resamples, shares) of values (n,) of which a resample has each as often as its weight says.

    Args:
        values: (n,).
        weights: (resamples, n) whole numbers; every row has a weight above 0.
        shares: of each quantile, 0 to 1. Between order statistics it is interpolated linearly, as `numpy.quantile`.
    """
    order = np.argsort(values, kind="stable")
    values = np.asarray(values, dtype=float)[order]
    held = np.cumsum(weights[:, order], axis=1)  # how many values the resample has up to this one
    last = held[:, -1] - 1

    def at(position: np.ndarray) -> np.ndarray:
        return values[(held <= position[:, None]).sum(axis=1)]

    found = []
    for share in shares:
        place = last * share
        low = np.floor(place)
        below = at(low)
        found.append(below + (place - low) * (at(np.minimum(low + 1, last)) - below))
    return np.stack(found, axis=1)


def correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation (...) of `x` and `y`, (n,) or (..., n), under weights (..., n).

    It is nan where one of the two is constant.
    """
    total = weights.sum(-1)
    dx, dy = (side - ((weights * side).sum(-1) / total)[..., None] for side in (x, y))
    xx, yy, xy = ((weights * product).sum(-1) for product in (dx * dx, dy * dy, dx * dy))
    scale = np.where(np.minimum(xx, yy) > CONSTANT * total, np.sqrt(xx * yy), np.nan)
    return np.clip(xy / scale, -1, 1)


def interval(draws: np.ndarray, clusters: int | None = None) -> Interval:
    """The 95 % interval of a figure's resamples (resamples,), nan where undefined.

    Args:
        draws: the figure in each resample.
        clusters: how many stand behind the figure; below two there is no interval.
    """
    known = draws[np.isfinite(draws)]
    undefined = len(draws) - len(known)
    if not len(known) or (clusters is not None and clusters < 2):
        return Interval(None, None, undefined)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), undefined)


def finite(value: float) -> float | None:
    """A number as JSON can hold it: None where it is undefined."""
    return float(value) if np.isfinite(value) else None


class Bootstrap:
    """Resamples of the clusters of a study, the same for all of its figures.

    Args:
        clusters: the cluster of each row, repeats allowed; of several runs, the rows of all of them.
        resamples, seed: how many resamples, and which.

    Attributes:
        drawn: array (resamples, clusters), from `draw`; clusters in sorted order.
    """

    def __init__(self, clusters: Collection[Any], resamples: int = RESAMPLES, seed: Seed = 0) -> None:
        self._numbers: dict[Hashable, int] = {name: number for number, name in enumerate(sorted(set(clusters)))}
        self.drawn = draw(len(self._numbers), resamples, seed)

    def sums(self, values: np.ndarray, clusters: Collection[Any]) -> np.ndarray:
        """Values (n, ...) of rows of these clusters, summed by cluster, array (clusters, ...)."""
        sums = np.zeros((len(self._numbers), *np.shape(values)[1:]))
        np.add.at(sums, self._columns(clusters), values)
        return sums

    def resample(
        self, measure: Callable[[np.ndarray], Mapping[str, np.ndarray]], clusters: Collection[Any]
    ) -> dict[str, np.ndarray]:
        """Figures that are no function of sums, in each resample, array (resamples,) each.

        Args:
            measure: weights of the rows, (some resamples, n), to each figure's values (some resamples,).
            clusters: the cluster of each row, (n,).
        """
        columns = self._columns(clusters)
        step = max(1, MOST_WEIGHTS // max(1, len(columns)))
        starts = range(0, len(self.drawn), step)
        blocks = [measure(self.drawn[start : start + step][:, columns]) for start in starts]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def _columns(self, clusters: Collection[Any]) -> np.ndarray:
        return np.fromiter((self._numbers[name] for name in clusters), dtype=np.int64, count=len(clusters))
