# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a normaliser does to rewards, advantages and the gradient share of each pair: numbers, no files, no models.

With r_i the reward of answer i, A_i its advantage and w_i its weight (its tokens where they are known, as verl's
token-mean loss counts every token alike, else 1):

    gradient share of a pair    sum over its answers of w_i |A_i|, divided by the same sum over all answers.
                                It says how hard the advantages ask, not how long the answers' gradients are nor how
                                far they pull together: `gradients.py` has the true norms.
    effective pairs             exp(-sum s log s) of the shares s: as many pairs as if all pulled alike
    easy over hard              share of the easier half of the pairs, by mean raw reward, over the harder half's
                                (the middle one of an odd number is in neither)
    easy (Spearman)             rank correlation over pairs of mean raw reward and gradient share: above 0, easy
                                pairs pull harder
    left of a against b         1 - cos(A^a, A^b): 0 where both give one direction, whatever the step size

A group of one answer has no advantage: leave it out before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr
from scipy.stats import rankdata

from recipes.medgrpo.answers.recorded import Recorded, RecordedError
from recipes.medgrpo.training.advantages import make_advantage
from recipes.medgrpo.training.groups import Part, stacked
from reward_score.bootstrap import correlation, draw, finite, interval, ratio
from reward_score.normalization import Normalizer
from reward_score.reward import Scorer
from reward_score.statistics import used_rows

Normalized = Callable[[str, str, float], float]


class Tangent:
    """The logistic's tangent at the median, 1/2 + k (x - p50) / (4 iqr), neither bounded nor clipped: a probe.

    It has the logistic's offset and slope and no curvature. Degenerate statistics are mended as the logistic mends
    them; `logistic` is that normaliser.
    """

    def __init__(self, logistic: Normalizer) -> None:
        assert logistic.statistics is not None
        self._rows = used_rows(logistic.statistics.pairs, logistic.min_iqr, logistic.min_samples)
        self._k = logistic.k

    def __call__(self, data_source: str, signal: str, x: float) -> float:
        row = self._rows[data_source][signal]
        return 0.5 + self._k * (x - row.p50) / (4 * row.iqr)


def usable(recorded: Recorded, scorer: Scorer) -> tuple[Recorded, list[str]]:
    """The answers that a comparison can use, and a line for what was left out: tasks without reward, lone answers.

    Raises:
        RecordedError: an answer lacks a signal that the reward needs, or nothing is left.
    """
    notes = []
    rewarded = np.array([scorer.rewarded[task] for task in recorded.tasks], dtype=bool)
    if not rewarded.all():
        notes.append(f"{int((~rewarded).sum())} answers of tasks without reward left out")
    recorded = recorded.take(rewarded)
    group, _ = pd.factorize(recorded.group)
    alone = np.bincount(group)[group] < 2
    if alone.any():
        notes.append(f"{int(alone.sum())} answers alone in their group left out: a group needs two")
    recorded = recorded.take(~alone)
    if not len(recorded):
        raise RecordedError("no group of two answers to a rewarded task is left: sample a row at least twice")
    for task in sorted(set(recorded.tasks)):
        rows = recorded.tasks == task
        for signal in scorer.signals[task]:
            values = recorded.raw.get(signal)
            if values is None or np.isnan(values[rows]).any():
                raise RecordedError(f"raw_{signal}: an answer of {task} lacks it, and the reward needs it")
    return recorded, notes


def rewards_of(
    recorded: Recorded, scorer: Scorer, normalizer: Normalized, forms: np.ndarray | None = None
) -> np.ndarray:
    """Rewards (N,) under a normaliser, by the reward's own formula; `forms` (N,) stands in for the formats."""
    return np.array([scorer.reward(*scored, normalizer) for scored in _scored(recorded, scorer, forms)])


def parts_of(
    recorded: Recorded, scorer: Scorer, normalizer: Normalized, forms: np.ndarray | None = None
) -> dict[str, Part]:
    """What the rewards are the sums of, for advantages that need it; arguments as in `rewards_of`."""
    return stacked([scorer.summands(*scored, normalizer) for scored in _scored(recorded, scorer, forms)])


def _scored(
    recorded: Recorded, scorer: Scorer, forms: np.ndarray | None
) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Of every answer its pair, its format and the signals that the reward reads."""
    forms = recorded.format if forms is None else forms
    signals = [scorer.signals[task] for task in recorded.tasks]
    columns = {name: column.tolist() for name, column in recorded.raw.items()}
    for at, (source, form, names) in enumerate(zip(recorded.data_source, forms.tolist(), signals, strict=True)):
        yield source, form, {name: columns[name][at] for name in names}


def advantages_of(
    name: str, rewards: np.ndarray, recorded: Recorded, parts: Mapping[str, Part] | None = None, **settings: Any
) -> np.ndarray:
    """Advantages (N,), step by step in the recorded order, so that a rival with a memory builds it as in training.

    `parts` are those of `parts_of`, for an advantage that needs them.
    """
    advantage = make_advantage(name, **settings)
    result = np.zeros(len(rewards))
    for rows in recorded.batches():
        own = {key: Part(part.values[rows], part.weights[rows]) for key, part in (parts or {}).items()}
        groups, pairs = recorded.group[rows].tolist(), recorded.data_source[rows].tolist()
        result[rows] = advantage(rewards[rows], groups, pairs, own)
    return result


def weights_of(recorded: Recorded, equal_pairs: bool = False) -> np.ndarray:
    """What an answer counts (N,): its tokens where known, else 1; with `equal_pairs` every pair counts the same."""
    weights = np.ones(len(recorded)) if recorded.tokens is None else recorded.tokens.astype(float)
    if equal_pairs:
        pair, _ = pd.factorize(recorded.data_source)
        weights = weights / np.bincount(pair)[pair]
    return weights


class Layout:
    """Pairs and groups of N answers as numbers: `pairs` (P,) names, `pair` (N,), `group` (N,), `group_pair` (G,)."""

    def __init__(self, recorded: Recorded) -> None:
        self.pair, pairs = pd.factorize(recorded.data_source, sort=True)
        self.group, groups = pd.factorize(recorded.group, sort=True)
        self.pairs, self.groups = pairs.tolist(), len(groups)
        self.group_pair = self.pair[np.unique(self.group, return_index=True)[1]]

    def pair_mean(self, values: np.ndarray) -> np.ndarray:
        """(P,) means of a column."""
        return np.bincount(self.pair, values) / np.bincount(self.pair)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(G,) range of a column within each group."""
        groups = pd.Series(values).groupby(self.group)
        return (groups.max() - groups.min()).to_numpy()

    def group_std(self, values: np.ndarray) -> np.ndarray:
        """(G,) std within each group, n - 1 below as in GRPO."""
        return pd.Series(values).groupby(self.group).std().to_numpy()


def share_summary(shares: np.ndarray, easy: np.ndarray) -> dict[str, np.ndarray]:
    """Summary numbers of gradient shares (..., P): largest, smallest, effective pairs and two of "easy".

    A number that is not defined (all shares 0, none of the hard half, no spread to correlate) is NaN.
    """
    size = shares.shape[-1]
    by_ease = shares[..., np.argsort(easy, kind="stable")]
    hard, soft = by_ease[..., : size // 2].sum(-1), by_ease[..., size - size // 2 :].sum(-1)
    return {
        "largest": shares.max(-1),
        "smallest": shares.min(-1),
        "effective_pairs": np.where(shares.any(-1), np.exp(entr(shares).sum(-1)), np.nan),
        "easy_over_hard": ratio(soft, hard),
        "easy_spearman": correlation(rankdata(shares, axis=-1), rankdata(easy), np.ones_like(shares)),
    }


def pull_summary(
    pulls: np.ndarray, layout: Layout, easy: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, dict[str, dict[str, float | None]]]:
    """Gradient shares (P,) and their summary numbers with 95 % bootstrap intervals.

    The intervals lean: drawing groups anew adds noise to the shares, and noise makes them less even.

    Args:
        pulls: (N,) w_i |A_i|.
        easy: (P,) mean raw reward of each pair.
        resamples, seed: groups are drawn with replacement within their pair. Advantages stay as they are, also where
            they depend on the rest of the batch, so do the rewards' statistics: the interval is of the answers' draw.
    """
    by_group = np.bincount(layout.group, pulls, minlength=layout.groups)
    totals = np.bincount(layout.group_pair, by_group, minlength=len(layout.pairs))
    rng = np.random.default_rng(seed)
    by_pair = [by_group[layout.group_pair == pair] for pair in range(len(layout.pairs))]
    drawn = np.stack([draw(len(mine), resamples, rng) @ mine for mine in by_pair], axis=-1)
    return summarized(totals, drawn, easy)


def summarized(
    totals: np.ndarray, drawn: np.ndarray, easy: np.ndarray
) -> tuple[np.ndarray, dict[str, dict[str, float | None]]]:
    """The pairs' shares (P,) of totals (P,), and their summary numbers with intervals by `drawn`, (resamples, P)."""
    shares = normal(totals)
    points, draws = share_summary(shares, easy), share_summary(normal(drawn), easy)
    summary = {}
    for name, value in points.items():
        low, high, _ = interval(draws[name])
        summary[name] = {"value": finite(float(value)), "low": low, "high": high}
    return shares, summary


def normal(totals: np.ndarray) -> np.ndarray:
    """Totals (..., P) as shares; all 0 where they sum to 0."""
    whole = totals.sum(-1, keepdims=True)
    return np.divide(totals, whole, out=np.zeros_like(totals), where=whole > 0)


def one_minus_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """1 - cos of two vectors, 0 to 2: 0 where both are zero, 1 where one is."""
    size_a, size_b = np.linalg.norm(a), np.linalg.norm(b)
    if size_a == 0 or size_b == 0:
        return 0.0 if size_a == size_b else 1.0
    # Half the squared distance of the unit vectors: 1 - a.b loses what lies below 1e-16, this does not.
    return float(0.5 * ((a / size_a - b / size_b) ** 2).sum())


def left(a: np.ndarray, b: np.ndarray, layout: Layout, rows: np.ndarray) -> dict[str, float]:
    """What is left between two advantage vectors on some answers.

    `across`: 1 - cos over all of them, scale between pairs included. `within`: the mean over pairs of each pair's own
    1 - cos, which a scale that a pair's answers share does not move.
    """
    mine = [rows & (layout.pair == pair) for pair in range(len(layout.pairs))]
    within = [one_minus_cosine(a[some], b[some]) for some in mine if some.any()]
    return {"across": one_minus_cosine(a[rows], b[rows]), "within": float(np.mean(within))}


def decompose(
    formed: Mapping[str, np.ndarray], plain: Mapping[str, np.ndarray], layout: Layout, single: np.ndarray
) -> dict[str, dict[str, float]]:
    """Where a logistic's effect comes from, one cause at a time, under one advantage.

    With all formats 1, an answer that cannot be read earns what its raw 0 earns.

    curvature   logistic against its tangent, tasks of one signal, all formats 1
    mixture     tangent against none, tasks of several signals, all formats 1: the relative weight of their signals
    epsilon     tangent against none, tasks of one signal, all formats 1: only the scale differs, so `within` is what
                epsilon and ties leave, `across` is the scale between pairs
    format      tangent against none, tasks of one signal, formats as recorded: beyond epsilon's part it is the
                factor, which multiplies the tangent's offset too

    Args:
        formed, plain: advantages (N,) by normaliser (none, logistic, affine), formats as recorded and all 1.
        single: (N,) whether the answer's task has one signal.
    """
    parts = {
        "curvature": (plain["logistic"], plain["affine"], single),
        "mixture": (plain["affine"], plain["none"], ~single),
        "epsilon": (plain["affine"], plain["none"], single),
        "format": (formed["affine"], formed["none"], single),
    }
    return {name: left(a, b, layout, rows) for name, (a, b, rows) in parts.items() if rows.any()}
