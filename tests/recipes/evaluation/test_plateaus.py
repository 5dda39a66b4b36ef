# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The default reward at the ends of the scale: no ties, no plateaus, nothing to gain by an answer to no clip."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_plateaus import HALVED, blended, constant_answers, constant_share, measure, models  # noqa: E402

from data_preprocess.synthetic_rows import PAIRS  # noqa: E402
from reward_score.normalization import NEEDED, Normalizer, logistic, needed_share  # noqa: E402
from reward_score.settings import Settings  # noqa: E402
from reward_score.statistics import Statistics, summarize  # noqa: E402

TASKS = sorted({task for _, task in PAIRS})
DEFAULT = blended(NEEDED)
MODELS = models()


def test_what_is_measured_here_is_the_default():
    assert Settings().linear_share is NEEDED and Settings().normalizer == "logistic"
    assert set(constant_answers()) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_no_constant_answer_earns_three_quarters_of_a_right_one(model, task):
    assert constant_share(DEFAULT(MODELS[model]), task) <= 0.75


@pytest.mark.parametrize("model", MODELS)
def test_right_beats_wrong_in_every_pair_and_better_always_pays(model):
    found = measure(DEFAULT, MODELS[model], with_constants=False)
    assert found["tied"] == 0
    assert found["slope_least"] > 0.4
    assert found["box"] < 0.5
    assert found["saturated"] < 0.1


def test_where_the_model_is_good_the_formula_is_the_papers():
    statistics = MODELS["good"]
    paper, default = blended(0.0)(statistics), DEFAULT(statistics)
    for pair, signals in statistics.pairs.items():
        for signal in signals:
            assert all(paper[pair][signal](x) == default[pair][signal](x) for x in (0.0, 0.3, 0.6, 0.8, 1.0))


def test_the_formula_alone_has_what_the_default_answers():
    """So the tests above can fail."""
    found = measure(blended(0.0), MODELS["recorded"])
    assert found["tied"] == 7 and found["box"] > 0.85 and found["slope_least"] < 0.001
    assert max(found["constants"].values()) > 0.75


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(0.1, 1))
def test_the_share_is_the_least_that_keeps_the_bounds(p50, iqr):
    share = needed_share(p50, iqr)
    assert 0 <= share < 0.7

    def paid(x, s=share):
        return (1 - s) * logistic(x, p50, iqr) + s * x

    assert paid(0.0) <= 0.45 * paid(1.0) + 1e-9 and paid(0.6) <= 0.74 * paid(1.0) + 1e-9
    less = share - 0.01
    if less > 0:
        assert paid(0.0, less) > 0.45 * paid(1.0, less) or paid(0.6, less) > 0.74 * paid(1.0, less)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=40), st.floats(0, 1))
def test_whatever_the_statistics(values, x):
    rows = {"medvidbench/AVOS/tal": {"iou": summarize(values)}}
    normalizer = Normalizer(Statistics.from_dict({"format": 1, "pairs": rows}), linear_share=NEEDED)
    wrong, found, right = (normalizer("medvidbench/AVOS/tal", "iou", value) for value in (0.0, x, 1.0))
    assert 0 <= wrong <= found <= right <= 1
    assert wrong < HALVED * right
