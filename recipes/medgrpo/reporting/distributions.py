# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Raw signals and rewards per pair, before and after normalisation: the SFT model's answers beside the newest ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.answers.recorded import read_recorded
from recipes.medgrpo.reporting.steps import Step
from reward_score.errors import RewardError
from reward_score.normalization import Normalizer, needed_share, saturated
from reward_score.reward import Scorer, get_scorer
from reward_score.statistics import Statistics, used_rows

BINS = 20
POINTS = 33
"""Points of the drawn curve of a normaliser."""
RECENT = 5
"""The newest steps whose answers are shown beside the SFT model's."""
Answers = Sequence[tuple[float, Mapping[str, float]]]
"""Format and raw signals of each answer of a pair."""


def figures(values: np.ndarray) -> dict[str, Any]:
    """n, mean, variance, median, IQR and saturated share of values within 0..1.

    The share is that of the values as they are drawn: raw signals, and rewards of which no parse is 0. Calibration and
    the training's curves look at the normalised values of the answers that parse.
    """
    p25, median, p75 = np.percentile(values, [25, 50, 75]).tolist()
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "variance": float(values.var()),
        "median": median,
        "iqr": p75 - p25,
        "saturated": float(saturated(values).mean()),
    }


def counts(values: np.ndarray) -> list[int]:
    """How many values lie in each of `BINS` equal bins of 0..1."""
    return np.histogram(values, bins=BINS, range=(0, 1))[0].tolist()


def scorer_of(settings: Mapping[str, Any], statistics: Path | None) -> Scorer:
    """The reward of a run. The normaliser that follows the policy is drawn as it starts, from the file."""
    return get_scorer(**settings, statistics=None if statistics is None else str(statistics))


def sampled(file: Path) -> dict[str, Answers]:
    """By pair the answers that were sampled for calibration."""
    recorded = read_recorded([file])
    found: dict[str, Answers] = {}
    for pair, (rows, signals) in recorded.by_pair().items():
        columns = [column.tolist() for column in signals.values()]
        raws = [dict(zip(signals, values, strict=True)) for values in zip(*columns, strict=True)]
        found[pair] = list(zip(recorded.format[rows].tolist(), raws, strict=True))
    return found


def newest(steps: Iterable[Step], pairs: Sequence[str]) -> dict[str, list[tuple[float, float, Mapping[str, float]]]]:
    """By pair the (recorded reward, format, raw signals) of the answers of some steps."""
    found: dict[str, list[tuple[float, float, Mapping[str, float]]]] = {}
    for step in steps:
        columns = step.columns
        for pair, score, form, raw in zip(columns["pair"], columns["score"], columns["format"], step.raw, strict=True):
            found.setdefault(pairs[pair], []).append((score, form, raw))
    return found


def distributions(
    scorer: Scorer, sft: Mapping[str, Answers], recent: Mapping[str, Sequence[tuple[float, float, Mapping[str, float]]]]
) -> dict[str, Any]:
    """By pair: histograms of raw signals and rewards, and the map from raw to normalised values.

    Args:
        scorer: the run's reward.
        sft: answers of the SFT model, empty where none are kept.
        recent: answers of the newest steps; their reward after normalisation is the one they were trained on.
    """
    statistics, none = scorer.normalizer.statistics, Normalizer(None)
    used = used_rows(statistics.pairs, scorer.normalizer.min_iqr, scorer.normalizer.min_samples) if statistics else {}
    shown: dict[str, Any] = {}
    for pair in sorted({*sft, *recent, *used}):
        task = pair.rpartition("/")[2]
        old, new = sft.get(pair, ()), recent.get(pair, ())
        raws = [[raw for _, raw in old], [raw for *_, raw in new]]
        names = [name for name in scorer.signals[task] if all(name in raw for side in raws for raw in side)]
        content: dict[str, Any] = {"signals": {}}
        for name in names:
            before, after = (np.array([raw[name] for raw in side]) for side in raws)
            signal = content["signals"][name] = {**_histogram("bins", before), **_histogram("recent", after)}
            if row := used.get(pair, {}).get(name):
                signal |= {"p50": row.p50, "iqr": row.iqr, "why": list(row.why)}
                signal |= _drawn(scorer, pair, name, row.p50, row.iqr, statistics)
        if names == list(scorer.signals[task]):
            content |= _rewards(scorer, none, pair, old, new)
        shown[pair] = content
    return shown


def _histogram(name: str, values: np.ndarray) -> dict[str, Any]:
    return {name: counts(values), f"{name}_figures": figures(values)} if len(values) else {}


def _drawn(scorer: Scorer, pair: str, name: str, p50: float, iqr: float, statistics: Statistics | None) -> dict:
    normalizer = scorer.normalizer
    points = [(x, normalizer(pair, name, x)) for x in np.linspace(0, 1, POINTS).tolist()]
    drawn: dict[str, Any] = {"normalizer": scorer.settings.normalizer, "curve": points}
    if normalizer.name == "logistic" and statistics is not None:
        share = normalizer.linear_share
        drawn |= {"k": normalizer.k, "linear_share": needed_share(p50, iqr, normalizer.k) if share is None else share}
    return drawn


def _rewards(scorer: Scorer, none: Normalizer, pair: str, old: Answers, new: Sequence) -> dict[str, Any]:
    """Rewards of the SFT model's answers under both maps; of the newest ones without a map, and as trained on."""

    def rewards(answers: Iterable[tuple[float, Mapping[str, float]]], normalizer: Normalizer | None) -> np.ndarray:
        try:
            return np.array([scorer.reward(pair, form, raw, normalizer) for form, raw in answers])
        except RewardError:  # no statistics for this pair
            return np.empty(0)

    answers = [(form, raw) for _, form, raw in new]
    return {
        **_histogram("rewards_before", rewards(old, none)),
        **_histogram("rewards_after", rewards(old, None)),
        **_histogram("recent_before", rewards(answers, none)),
        **_histogram("recent_after", np.array([score for score, *_ in new])),
    }
