# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge beside human raters, and the raters beside each other: which ratings are compared, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from recipes.medgrpo.studies.judge.agreement import agreement
from recipes.medgrpo.studies.judge.ratings import Item, Rated
from reward_score.bootstrap import Bootstrap
from reward_score.judge import DIMENSIONS

MEAN, POOLED = "mean", "pooled"
ROWS = (*DIMENSIONS, MEAN, POOLED)
"""Beside each dimension: the mean of the five (items that have all five on both sides), and all ratings of all
dimensions in one list."""

Side = Callable[[Rated, str], float | None]
Observation = tuple[float, float, Rated]


def judge_against_humans(
    bootstrap: Bootstrap, rated: Sequence[Rated], scores: Mapping[Item, Mapping[str, float]]
) -> dict[str, Any]:
    """The judge against the mean of an item's raters: `overall` by row, and `sources` by source and row."""

    def judge(item: Rated, dimension: str) -> float | None:
        return scores.get(item.item, {}).get(dimension)

    observed = _observe(rated, Rated.mean, judge)
    sources = sorted({item.item.source for item in rated})
    return {
        "overall": _figures(bootstrap, observed, ("human", "judge")),
        "sources": {
            source: _figures(
                bootstrap,
                {row: [seen for seen in found if seen[2].item.source == source] for row, found in observed.items()},
                ("human", "judge"),
            )
            for source in sources
        },
    }


def humans_against_humans(bootstrap: Bootstrap, rated: Sequence[Rated]) -> dict[str, Any] | None:
    """Each rater against the mean of the other raters of the item, all raters in one list, and rater against rater.

    The first is what a judge's agreement with the mean may be held against. None where no item has two raters.
    """
    raters = sorted({rater for item in rated for rater in item.ratings})

    def one(rater: str) -> Side:
        return lambda item, dimension: item.ratings.get(rater, {}).get(dimension)

    def others(rater: str) -> Side:
        return lambda item, dimension: item.mean(dimension, without=rater)

    each: dict[str, list[Observation]] = {row: [] for row in ROWS}
    for rater in raters:
        for row, found in _observe(rated, others(rater), one(rater)).items():
            each[row] += found
    if not each[POOLED]:
        return None
    pairs = {}
    for first, second in combinations(raters, 2):
        observed = _observe(rated, one(first), one(second))
        if observed[POOLED]:
            pairs[f"{first} - {second}"] = _figures(bootstrap, observed, (first, second))
    return {"each_against_the_others": _figures(bootstrap, each, ("others", "rater")), "pairs": pairs}


def _observe(rated: Sequence[Rated], first: Side, second: Side) -> dict[str, list[Observation]]:
    observed: dict[str, list[Observation]] = {row: [] for row in ROWS}
    for item in rated:
        known = []
        for dimension in DIMENSIONS:
            one, other = first(item, dimension), second(item, dimension)
            if one is not None and other is not None:
                known.append((one, other, item))
                observed[dimension].append(known[-1])
        observed[POOLED] += known
        if len(known) == len(DIMENSIONS):
            means = (sum(values[side] for values in known) / len(known) for side in (0, 1))
            observed[MEAN].append((*means, item))
    return observed


def _figures(
    bootstrap: Bootstrap, observed: Mapping[str, Sequence[Observation]], sides: tuple[str, str]
) -> dict[str, Any]:
    return {
        row: agreement(
            bootstrap,
            [first for first, _, _ in found],
            [second for _, second, _ in found],
            [item.item.cluster for _, _, item in found],
            sides,
        )
        for row, found in observed.items()
    }
