# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How far ratings agree: a judge with people, people with each other, and a judge with itself when it is asked again.

Every figure is a function of rows of ratings and of how often a resample of the videos has each row. Pearson and
Spearman use the ratings as they are. Kappas, exact and within-one agreement need categories: a rating that is not whole
(a mean of raters, a judge with decimals) is rounded first, halves up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from recipes.medgrpo.studies.judge.ratings import Ratings
from reward_score.bootstrap import CONSTANT, Bootstrap, correlation, finite, interval
from reward_score.judge import DIMENSIONS

CATEGORIES = np.arange(1, 6)
MEAN, POOLED = "mean", "pooled"
"""Rows beside the five dimensions: the mean of the five (items that have all five on both sides), and all ratings of
all dimensions in one list."""

Measure = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""Rows (n, ratings per row) and how often each counts, (resamples, n), to figures (resamples,), nan where undefined."""


def estimate(
    bootstrap: Bootstrap, measure: Measure, rows: np.ndarray, clusters: Sequence[str], why: Mapping[str, str]
) -> dict[str, Any]:
    """The figures of some rows with their 95 % intervals, as JSON.

    Args:
        bootstrap: over the videos of the study.
        measure: what is computed.
        rows: (n, ratings per row).
        clusters: the video of each row.
        why: by figure what is missing where it is undefined.

    Returns:
        `n`, `videos`, and by figure its `value`, `low` and `high` (None where undefined; below two videos there is no
        interval), `undefined` (resamples without a value, which the interval leaves out) and `why`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        values = measure(rows, np.ones((1, len(rows))))
        drawn = bootstrap.resample(lambda weights: measure(rows, weights), clusters)
    videos = len(set(clusters))
    found: dict[str, Any] = {"n": len(rows), "videos": videos}
    for name, (value,) in values.items():
        known = not np.isnan(value)
        low, high, undefined = interval(drawn[name], videos) if known and videos > 1 else (None, None, 0)
        reason = None if known else why[name]
        found[name] = {"value": finite(value), "low": low, "high": high, "undefined": undefined, "why": reason}
    return found


def agreement(pairs: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """A `Measure` of pairs (n, 2). `bias` is the mean of second minus first; the others are 1 where both agree."""
    first, second = pairs.T
    total = counts.sum(1)
    one, other = rounded(first), rounded(second)
    apart = np.abs(one - other)
    return {
        "pearson": correlation(first, second, counts),
        "spearman": correlation(ranks(first, counts), ranks(second, counts), counts),
        "kappa_quadratic": kappa(one, other, counts, (CATEGORIES[:, None] - CATEGORIES) ** 2),
        "kappa": kappa(one, other, counts, CATEGORIES[:, None] != CATEGORIES),
        "exact": counts @ (apart == 0) / total,
        "within_one": counts @ (apart <= 1) / total,
        "bias": counts @ (second - first) / total,
    }


def repeatability(scores: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """A `Measure` of items judged k times, (n, k).

    `identical`: share of items that got the same score in all turns. `within_sd`: square root of the mean variance
    within items (k - 1 in the denominator). `icc`: intraclass correlation of a single score, one-way random effects,
    (MSB - MSW) / (MSB + (k - 1) MSW); undefined where all scores are the same, or with a single item.
    """
    turns = scores.shape[1]
    total = counts.sum(1)
    means = scores.mean(1)
    within = counts @ scores.var(1, ddof=1) / total
    center = (counts @ means / total)[:, None]
    between = turns * (counts * (means - center) ** 2).sum(1) / (total - 1)
    spread = between + (turns - 1) * within
    return {
        "identical": counts @ (np.ptp(scores, axis=1) == 0) / total,
        "within_sd": np.sqrt(within),
        "icc": np.where(spread > CONSTANT, (between - within) / spread, np.nan),
    }


def share(holds: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """A `Measure` of (n, 1) zeros and ones: `share`, that of ones."""
    return {"share": counts @ holds[:, 0] / counts.sum(1)}


def own_share(scores: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """A `Measure` of (n, 2), a dimension's scores and the sums of the others: `own`, the share of its variance that the
    others do not tell by a line. 0: it says what they say."""
    return {"own": 1 - correlation(scores[:, 0], scores[:, 1], counts) ** 2}


def rounded(ratings: np.ndarray) -> np.ndarray:
    """Ratings as whole categories, halves up; rounding errors of means do not make a half less than one."""
    return np.floor(np.asarray(ratings, dtype=float) + 0.5 + 1e-9)


def ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks (resamples, n) of values (n,), each repeated as its count says; ties share their mean rank."""
    kinds, kind = np.unique(values, return_inverse=True)
    held = counts @ (kind[:, None] == np.arange(len(kinds)))
    return (np.cumsum(held, axis=1) - held + (held + 1) / 2)[:, kind]


def kappa(one: np.ndarray, other: np.ndarray, counts: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Cohen's kappa (resamples,) of categories 1 to 5: 1 - cost as rated / cost by chance; nan where chance costs 0."""
    first, second = (counts @ (side[:, None] == CATEGORIES) for side in (one, other))
    paid = counts @ costs[one.astype(int) - 1, other.astype(int) - 1]
    by_chance = np.einsum("ri,ij,rj->r", first, costs.astype(float), second)
    return np.where(by_chance == 0, np.nan, 1 - counts.sum(1) * paid / by_chance)


def compared(
    bootstrap: Bootstrap, first: np.ndarray, second: np.ndarray, clusters: Sequence[str], sides: Sequence[str]
) -> dict[str, Any]:
    """Agreement of two raters of the same items, by dimension, of the means of the five and of all in one list.

    Args:
        first, second: (items, 5), nan where there is no rating.
        clusters: the video of each item.
        sides: what the two are called where one of them is the reason that a figure is undefined.
    """
    both = np.stack([first, second], axis=-1)
    videos = np.array(clusters, dtype=object)
    known = ~np.isnan(both).any(axis=-1)
    whole = known.all(axis=1)
    rows = {name: (both[known[:, at], at], videos[known[:, at]]) for at, name in enumerate(DIMENSIONS)}
    rows[MEAN] = both[whole].mean(axis=1), videos[whole]
    rows[POOLED] = both[known], np.repeat(videos, known.sum(axis=1))
    return {
        row: estimate(bootstrap, agreement, pairs, names, reasons(pairs, sides)) for row, (pairs, names) in rows.items()
    }


def reasons(pairs: np.ndarray, sides: Sequence[str]) -> dict[str, str]:
    """By figure of `agreement` why it is undefined for these pairs, where it is."""
    names = ("pearson", "spearman", "kappa_quadratic", "kappa", "exact", "within_one", "bias")
    if not len(pairs):
        return dict.fromkeys(names, "no ratings")
    constant = [side for side, ratings in zip(sides, pairs.T, strict=True) if np.var(ratings) <= CONSTANT]
    flat = f"constant ratings: {' and '.join(constant)}"
    return dict.fromkeys(names[:2], flat) | dict.fromkeys(names[2:4], "one and the same category throughout")


def judge_against_humans(bootstrap: Bootstrap, ratings: Ratings, judge: np.ndarray) -> dict[str, Any]:
    """The judge's scores (items, 5) against the mean of an item's raters: `overall`, and `sources` by source."""
    clusters, humans = ratings.clusters, ratings.mean()
    source = np.array([item.source for item in ratings.items])

    def among(rows: np.ndarray) -> dict[str, Any]:
        names = [clusters[at] for at in np.flatnonzero(rows)]
        return compared(bootstrap, humans[rows], judge[rows], names, ("human", "judge"))

    return {
        "overall": among(np.ones(len(source), dtype=bool)),
        "sources": {str(name): among(source == name) for name in np.unique(source)},
    }


def humans_against_humans(bootstrap: Bootstrap, ratings: Ratings) -> dict[str, Any] | None:
    """Each rater against the mean of the item's other raters, all raters in one list, and rater against rater.

    A judge's agreement with the mean may be held against the first. None where no item has two raters.
    """
    raters, clusters = range(len(ratings.raters)), ratings.clusters
    others = np.concatenate([ratings.mean(without=rater) for rater in raters])
    own = np.concatenate([ratings.human[:, rater] for rater in raters])
    each = compared(bootstrap, others, own, clusters * len(raters), ("others", "rater"))
    if not each[POOLED]["n"]:
        return None
    pairs = {}
    for first, second in combinations(raters, 2):
        sides = ratings.raters[first], ratings.raters[second]
        found = compared(bootstrap, ratings.human[:, first], ratings.human[:, second], clusters, sides)
        if found[POOLED]["n"]:
            pairs[" - ".join(sides)] = found
    return {"each_against_the_others": each, "pairs": pairs}
