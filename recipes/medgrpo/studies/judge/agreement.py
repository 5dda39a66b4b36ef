# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How far two raters agree: correlations, kappas, shares and bias, with intervals by bootstrap over videos.

Every figure is a function of two ratings per item and of the items' weights: how often a resample has each. Pearson
and Spearman use the ratings as they are. Kappas, exact and within-one agreement need categories: a rating that is not
whole (a mean of raters, a judge with decimals) is rounded first, halves up.

Weighted sums of whole numbers are exact, so a figure is undefined exactly where its formula divides by 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from reward_score.bootstrap import Bootstrap, interval, ratio

CATEGORIES = np.arange(1, 6)
FIGURES = ("pearson", "spearman", "kappa_quadratic", "kappa", "exact", "within_one", "bias")
"""`bias` is the mean of second minus first; the others are 1 where both agree."""
CONSTANT = 1e-9
"""A variance below this is 0: ratings differ by far more, rounding errors by far less."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval.

    Attributes:
        value: None where the formula has none; `why` says what is missing then.
        low, high: None where `value` is, and below two videos.
        undefined: resamples without a value; they are left out of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    undefined: int = 0
    why: str | None = None


def rounded(ratings: np.ndarray) -> np.ndarray:
    """Ratings as whole categories, halves up."""
    return np.floor(np.asarray(ratings, dtype=float) + 0.5)


def measure(first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All `FIGURES` of ratings (n,) under weights (resamples, n), each an array (resamples,), nan where undefined.

    Weights are whole numbers: an item of weight 2 counts as two items. Without weights every item counts once.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    weights = np.ones((1, len(first))) if weights is None else np.asarray(weights, dtype=float)
    total = weights.sum(1)
    one, other = rounded(first), rounded(second)
    apart = np.abs(one - other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "pearson": correlation(first, second, weights),
            "spearman": correlation(ranks(first, weights), ranks(second, weights), weights),
            "kappa_quadratic": kappa(one, other, weights, (CATEGORIES[:, None] - CATEGORIES) ** 2),
            "kappa": kappa(one, other, weights, CATEGORIES[:, None] != CATEGORIES),
            "exact": weights @ (apart == 0) / total,
            "within_one": weights @ (apart <= 1) / total,
            "bias": weights @ (second - first) / total,
        }


def correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation (resamples,) of `x` and `y`, (n,) or (resamples, n); nan where one of them is constant."""
    total = weights.sum(1, keepdims=True)
    dx = x - (weights * x).sum(1, keepdims=True) / total
    dy = y - (weights * y).sum(1, keepdims=True) / total
    xx, yy, xy = ((weights * product).sum(1) for product in (dx * dx, dy * dy, dx * dy))
    constant = np.minimum(xx, yy) <= CONSTANT * total[:, 0]
    return np.where(constant, np.nan, np.clip(xy / np.sqrt(xx * yy), -1, 1))


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ranks (resamples, n) of values (n,), each repeated as its weight says; ties share their mean rank."""
    kinds, kind = np.unique(values, return_inverse=True)
    held = weights @ (kind[:, None] == np.arange(len(kinds)))
    return (np.cumsum(held, axis=1) - held + (held + 1) / 2)[:, kind]


def kappa(one: np.ndarray, other: np.ndarray, weights: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Cohen's kappa (resamples,) of categories 1 to 5: 1 - cost as rated / cost by chance; nan where chance costs 0."""
    first, second = (weights @ (side[:, None] == CATEGORIES) for side in (one, other))
    paid = weights @ costs[one.astype(int) - 1, other.astype(int) - 1]
    by_chance = np.einsum("ri,ij,rj->r", first, costs.astype(float), second)
    return np.where(by_chance == 0, np.nan, 1 - weights.sum(1) * paid / by_chance)


def reasons(first: np.ndarray, second: np.ndarray, sides: Sequence[str] = ("human", "judge")) -> dict[str, str]:
    """Why figures of these ratings are undefined, by figure, whether or not they are."""
    if not len(first):
        return dict.fromkeys(FIGURES, "no ratings")
    constant = [side for side, ratings in zip(sides, (first, second), strict=True) if np.var(ratings) <= CONSTANT]
    flat = f"constant ratings: {' and '.join(constant)}"
    return dict.fromkeys(FIGURES[:2], flat) | dict.fromkeys(FIGURES[2:4], "one and the same category throughout")


def agreement(
    bootstrap: Bootstrap,
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[str],
    sides: Sequence[str] = ("human", "judge"),
) -> dict:
    """`FIGURES` of two ratings per item with their intervals, as JSON: n, videos, and each figure's `Figure`."""
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    why = reasons(one, other, sides)
    plain = measure(one, other)
    drawn = bootstrap.resample(lambda weights: measure(one, other, weights), clusters)
    videos = len(set(clusters))
    found = {name: asdict(figure(plain[name][0], drawn[name], videos, why.get(name))) for name in FIGURES}
    return {"n": len(one), "videos": videos, **found}


def share(bootstrap: Bootstrap, holds: Sequence[bool], clusters: Sequence[str]) -> dict:
    """A share of items with its interval, as JSON."""
    values = np.asarray(holds, dtype=float)
    sums = bootstrap.sums(np.stack([values, np.ones_like(values)], axis=1), clusters)
    draws = ratio(*(bootstrap.drawn @ sums).T)
    videos = len(set(clusters))
    value = values.mean() if len(values) else np.nan
    return {"n": len(values), "videos": videos, **asdict(figure(value, draws, videos, "no items"))}


def figure(value: float, draws: np.ndarray, videos: int, why: str | None) -> Figure:
    """A value and its resamples, nan where undefined, as a `Figure`."""
    if np.isnan(value):
        return Figure(None, why=why or "undefined")
    return Figure(float(value), *interval(draws, videos)) if videos > 1 else Figure(float(value))
