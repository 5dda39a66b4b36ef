# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The logistic and its rivals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.errors import BadStatistics, MissingStatistics
from reward_score.normalization import NORMALIZERS, Normalizer, logistic, saturated
from reward_score.statistics import Statistics, summarize

ROW = {"n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.5, "iqr": 0.4}
MOMENTS = {"mean": 0.3, "std": 0.2, "min": 0.1, "max": 0.9}
PAIR = "medvidbench/AVOS/tal"


def statistics_of(row, **meta):
    return Statistics.from_dict({"format": 1, "pairs": {PAIR: {"iou": row}}, **meta}, "some/statistics.json")


def measured(values):
    return statistics_of(summarize(values))


def values_of(name, values, *xs, **chosen):
    normalizer = Normalizer(measured(values), name, **chosen)
    return [normalizer(PAIR, "iou", x) for x in xs]


def test_logistic_values():
    assert logistic(0.2, 0.2, 0.4) == 0.5
    assert logistic(0.6, 0.2, 0.4) == pytest.approx(1 / (1 + math.exp(-3)))
    assert logistic(-0.2, 0.2, 0.4) == pytest.approx(1 - logistic(0.6, 0.2, 0.4))
    assert logistic(0.6, 0.2, 0.4, k=1.0) == pytest.approx(1 / (1 + math.exp(-1)))


FINITE = st.floats(-1e300, 1e300)


@settings(max_examples=100, deadline=None)
@given(FINITE, FINITE, FINITE, st.floats(1e-300, 1e300))
def test_logistic_is_bounded_and_monotone(x, y, p50, iqr):
    low, high = logistic(min(x, y), p50, iqr), logistic(max(x, y), p50, iqr)
    assert 0 <= low <= high <= 1
    assert logistic(p50, p50, iqr) == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logistic_takes_finite_numbers_only(bad):
    for arguments in ((bad, 0.5, 0.1), (0.5, bad, 0.1), (0.5, 0.5, bad), (0.5, 0.5, 0.1, bad)):
        with pytest.raises(ValueError):
            logistic(*arguments)


@pytest.mark.parametrize("iqr", [0.0, -0.1])
def test_logistic_needs_a_spread(iqr):
    with pytest.raises(ValueError):
        logistic(0.5, 0.5, iqr)


def test_a_file_of_the_first_version_serves_logistic_and_none():
    statistics = statistics_of(ROW)
    assert Normalizer(statistics)(PAIR, "iou", 0.3) == logistic(0.3, 0.2, 0.4)
    assert Normalizer(statistics, k=1.0)(PAIR, "iou", 0.3) == logistic(0.3, 0.2, 0.4, k=1.0)
    assert Normalizer(statistics, name="none")(PAIR, "closeness", 0.3) == 0.3
    assert Normalizer(None)(PAIR, "iou", 0.3) == 0.3


def test_no_spread_is_widened_to_min_iqr():
    statistics = statistics_of(ROW | {"p25": 0.0, "p50": 0.0, "p75": 0.0, "iqr": 0.0})
    assert Normalizer(statistics)(PAIR, "iou", 0.0) == 0.5
    assert Normalizer(statistics)(PAIR, "iou", 0.1) == logistic(0.1, 0.0, 0.1)
    assert Normalizer(statistics, min_iqr=0.4)(PAIR, "iou", 0.1) == logistic(0.1, 0.0, 0.4)


def test_the_file_says_what_degenerate_means_unless_told_otherwise():
    pairs = {PAIR: {"iou": ROW | {"n": 10}}, "medvidbench/B/tal": {"iou": ROW | {"n": 30, "p25": 0.0, "iqr": 0.5}}}
    content = {"format": 1, "pairs": pairs, "degenerate": {"min_iqr": 0.6, "min_samples": 20}}
    statistics = Statistics.from_dict(content)
    normalizer = Normalizer(statistics)
    assert (normalizer.min_iqr, normalizer.min_samples) == (0.6, 20)
    assert normalizer(PAIR, "iou", 0.3) == pytest.approx(logistic(0.3, 0.2, 0.6))
    # 10 of 20 answers: half its own spread, 0.4, and half the pooled (10 x 0.4 + 30 x 0.5) / 40 = 0.475.
    normalizer = Normalizer(statistics, min_iqr=0.01)
    assert normalizer(PAIR, "iou", 0.3) == pytest.approx(logistic(0.3, 0.2, 0.4375))
    normalizer = Normalizer(statistics, min_iqr=0.01, min_samples=1)
    assert normalizer(PAIR, "iou", 0.3) == logistic(0.3, 0.2, 0.4)


def test_zscore():
    # Mean 0.4, standard deviation 0.2: three of them away from the mean is the end of the scale.
    assert values_of("zscore", [0.2, 0.6], 0.4, 0.6, 1.0, 1.5, -0.2, -9.0) == pytest.approx([0.5, 2 / 3, 1, 1, 0, 0])


def test_zscore_of_a_tie_has_the_floor_for_a_slope():
    floor = 0.1 / 1.349
    assert values_of("zscore", [0.4] * 9, 0.4, 0.4 + floor) == pytest.approx([0.5, 2 / 3])
    assert values_of("zscore", [0.4] * 9, 0.4 + 2 * floor, min_iqr=0.2) == pytest.approx([2 / 3])


def test_minmax():
    assert values_of("minmax", [0.2, 0.3, 0.6], 0.1, 0.2, 0.3, 0.6, 0.7) == pytest.approx([0, 0, 0.25, 1, 1])
    assert values_of("minmax", [0.2] * 5, 0.0, 0.2, 1.0) == [0.5, 0.5, 0.5]


def test_percentile_rank_of_distinct_values_is_the_share_below():
    hundredths = [number / 100 for number in range(101)]
    assert values_of("percentile_rank", hundredths, 0.25, 0.255, 0.99) == pytest.approx([0.25, 0.255, 0.99])
    assert values_of("percentile_rank", hundredths, -0.001, 1.001) == [0.0, 1.0]


def test_percentile_rank_counts_ties_half():
    # 0.5 fills the percentiles 25 to 75 of 0, 0.5, 0.5, 0.5, 1.
    assert values_of("percentile_rank", [0.0, 0.5, 0.5, 0.5, 1.0], 0.5) == [0.5]
    right_or_wrong = [0.0] * 70 + [1.0] * 30
    # True mid-ranks are 0.35 and 0.85; the file knows whole percentiles.
    assert values_of("percentile_rank", right_or_wrong, 0.0, 1.0) == pytest.approx([0.35, 0.85], abs=0.01)
    assert values_of("percentile_rank", [0.4], 0.39, 0.4, 0.41) == [0.0, 0.5, 1.0]


def test_percentile_rank_of_an_answer_just_above_a_tie_is_above_all_that_tie():
    """605 of 1,000 answers score 0, as is common in grounding: a little better than 0 is better than those."""
    values = [0.0] * 605 + [number / 395 for number in range(1, 396)]
    expected = [0.605 / 2, 0.605, 0.6055]
    assert values_of("percentile_rank", values, 0.0, 0.001, 1 / 395) == pytest.approx(expected, abs=0.01)


def test_what_is_saturated():
    assert saturated(np.array([0.0, 0.019, 0.02, 0.5, 0.98, 0.981, 1.0])).tolist() == [1, 1, 0, 0, 0, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1) | st.just(0.0), min_size=1, max_size=60), st.floats(0, 1))
def test_percentile_rank_is_the_mid_rank_up_to_a_percent(values, other):
    for x in {values[0], min(values), max(values), other}:
        below, ties = sum(value < x for value in values), sum(value == x for value in values)
        # A percentile of few values lies between two of them: off by one value and one percent at most.
        slack = 1 / len(values) + 0.01
        assert values_of("percentile_rank", values, x)[0] == pytest.approx(
            (below + ties / 2) / len(values), abs=slack + 1e-9
        )


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(NORMALIZERS)),
    st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40),
    st.lists(st.floats(0, 1), min_size=2, max_size=8),
)
def test_every_map_is_monotone_and_within_bounds(name, values, xs):
    mapped = values_of(name, values, *sorted(xs + values))
    assert mapped == sorted(mapped)
    assert 0 <= mapped[0] and mapped[-1] <= 1


@pytest.mark.parametrize(
    ("name", "lacking"), [("zscore", "std"), ("zscore", "mean"), ("minmax", "max"), ("percentile_rank", "quantiles")]
)
def test_a_field_that_a_map_needs_is_missed_at_once(name, lacking):
    row = {key: value for key, value in (ROW | MOMENTS).items() if key != lacking}
    with pytest.raises(BadStatistics, match=f"some/statistics.json: {PAIR}: iou: {lacking}: missing.*{name}"):
        Normalizer(statistics_of(row), name)


@pytest.mark.parametrize("name", sorted(set(NORMALIZERS) - {"none"}))
def test_a_missing_row_and_a_bad_number_are_errors(name):
    normalizer = Normalizer(measured([0.1, 0.5, 0.7]), name)
    for pair, signal in ((PAIR, "closeness"), ("medvidbench/AVOS/dvc", "temporal_f1")):
        with pytest.raises(MissingStatistics, match=pair):
            normalizer(pair, signal, 0.5)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            normalizer(PAIR, "iou", bad)


@pytest.mark.parametrize(
    "setting", [{"name": "zscore2"}, {"k": 0.0}, {"min_iqr": -1.0}, {"min_iqr": math.nan}, {"min_samples": 0}]
)
def test_bad_settings(setting):
    with pytest.raises(ValueError):
        Normalizer(None, **setting)
