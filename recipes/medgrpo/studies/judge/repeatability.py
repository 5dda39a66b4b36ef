# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Whether a judge says the same when it is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from recipes.medgrpo.studies.judge.agreement import CONSTANT, figure
from reward_score.bootstrap import Bootstrap

FIGURES = ("identical", "within_sd", "icc")


def measure(scores: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Figures of scores (n items, k turns) under weights (resamples, n), each (resamples,), nan where undefined.

    `identical`: share of items that got the same score in all turns. `within_sd`: square root of the mean variance
    within items (k - 1 in the denominator). `icc`: intraclass correlation of a single score, one-way random effects,
    (MSB - MSW) / (MSB + (k - 1) MSW); undefined where all scores are the same, or with a single item.
    """
    scores = np.asarray(scores, dtype=float)
    turns = scores.shape[1]
    weights = np.ones((1, len(scores))) if weights is None else np.asarray(weights, dtype=float)
    means, variances = scores.mean(1), scores.var(1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(1)
        within = weights @ variances / total
        center = (weights @ means / total)[:, None]
        between = turns * (weights * (means - center) ** 2).sum(1) / (total - 1)
        spread = between + (turns - 1) * within
        icc = np.where(spread > CONSTANT, (between - within) / spread, np.nan)
        return {
            "identical": weights @ (np.ptp(scores, axis=1) == 0) / total,
            "within_sd": np.sqrt(within),
            "icc": icc,
        }


def repeatability(bootstrap: Bootstrap, scores: Sequence[Sequence[float]], clusters: Sequence[str]) -> dict:
    """The figures of items judged k times each, with intervals, as JSON."""
    table = np.asarray(scores, dtype=float).reshape(len(clusters), -1)
    videos = len(set(clusters))
    if not len(table):
        return {"n": 0, "videos": 0, **{name: asdict(figure(np.nan, table, 0, "no items")) for name in FIGURES}}
    plain = measure(table)
    drawn = bootstrap.resample(lambda weights: measure(table, weights), clusters)
    why = "a single item" if len(table) < 2 else "all scores are the same"
    return {
        "n": len(table),
        "videos": videos,
        **{name: asdict(figure(plain[name][0], drawn[name], videos, why)) for name in FIGURES},
    }
