# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json

import numpy as np
import pytest

from recipes.medgrpo.training.adaptive import AdaptiveStatistics
from reward_score.errors import MissingStatistics
from reward_score.normalization import logistic
from reward_score.statistics import Statistics, summarize

TAL, TAL2 = "medvidbench/AVOS/tal", "medvidbench/NurViD/tal"
SFT = Statistics.from_dict(
    {
        "format": 1,
        "pairs": {
            TAL: {"iou": {"n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.4, "iqr": 0.3}},
            TAL2: {"iou": {"n": 64, "p25": 0.0, "p50": 0.3, "p75": 0.5, "iqr": 0.5}},
        },
    }
)


def test_the_sft_models_percentiles_hold_until_there_are_enough_values():
    following = AdaptiveStatistics(SFT, window=8, min_values=4)
    following.add(TAL, "iou", [0.5, 0.75, 1.0])
    assert following.normalizer(3.0)(TAL, "iou", 0.2) == 0.5
    following.add(TAL, "iou", [0.25])
    now = following.normalizer(3.0, min_samples=1)
    assert now(TAL, "iou", 0.625) == 0.5
    row = summarize([0.25, 0.5, 0.75, 1.0])
    assert now(TAL, "iou", 0.875) == logistic(0.875, row["p50"], row["iqr"])
    # Another pair stands where it stood.
    assert now(TAL2, "iou", 0.3) == 0.5


def test_only_the_newest_values_count():
    following = AdaptiveStatistics(SFT, window=4, min_values=2)
    following.add(TAL, "iou", [0.0] * 100)
    following.add(TAL, "iou", [0.25, 0.5])
    following.add(TAL, "iou", [0.75, 1.0])
    assert following.normalizer(3.0, min_samples=1)(TAL, "iou", 0.625) == 0.5
    assert following.statistics().pairs[TAL]["iou"].n == 4


def test_a_normaliser_is_of_its_moment():
    following = AdaptiveStatistics(SFT, window=4, min_values=2)
    before = following.normalizer(3.0, min_samples=1)
    following.add(TAL, "iou", [0.9, 0.9])
    assert before(TAL, "iou", 0.2) == 0.5
    assert following.normalizer(3.0, min_samples=1)(TAL, "iou", 0.9) == 0.5


def test_a_window_without_spread_has_the_least_spread():
    following = AdaptiveStatistics(SFT, window=4, min_values=2)
    following.add(TAL, "iou", [0.6] * 4)
    now = following.normalizer(3.0, min_iqr=0.2, min_samples=1)
    assert now(TAL, "iou", 0.7) == logistic(0.7, 0.6, 0.2)


def test_without_a_start_a_signal_waits_for_its_values():
    following = AdaptiveStatistics(None, window=4, min_values=2)
    following.add(TAL, "iou", [0.1])
    with pytest.raises(MissingStatistics, match="no statistics for medvidbench/AVOS/tal, signal iou"):
        following.normalizer(3.0)(TAL, "iou", 0.1)
    following.add(TAL, "iou", [0.3])
    assert following.normalizer(3.0)(TAL, "iou", 0.2) == pytest.approx(0.5)


def test_it_goes_on_from_its_state():
    rng = np.random.default_rng(1)
    through, resumed = (AdaptiveStatistics(SFT, window=16, min_values=4) for _ in range(2))
    through.add(TAL, "iou", rng.random(13))
    resumed.load_state_dict(json.loads(json.dumps(through.state_dict())))
    more = rng.random(5)
    for one in (through, resumed):
        one.add(TAL, "iou", more)
    assert resumed.state_dict() == through.state_dict()
    assert resumed.statistics() == through.statistics()


@pytest.mark.parametrize("state", [{}, [], {"values": [1]}, {"values": {TAL: 3}}, {"values": {TAL: {"iou": None}}}])
def test_a_foreign_state_is_refused(state):
    with pytest.raises(ValueError, match="adaptive statistics: state"):
        AdaptiveStatistics(SFT, window=4, min_values=2).load_state_dict(state)


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="min_values 5, window 4"):
        AdaptiveStatistics(SFT, window=4, min_values=5)
    with pytest.raises(ValueError, match=r"AVOS/tal: signal iou: expected finite numbers"):
        AdaptiveStatistics(SFT, window=4, min_values=2).add(TAL, "iou", [0.1, float("nan")])
