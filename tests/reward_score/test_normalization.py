# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The logistic, the statistics file, and what is missing from it."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.errors import BadStatistics, MissingStatistics
from reward_score.normalization import Normalizer, Statistics, logistic, missing_pairs, summarize

ROW = {"n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.5, "iqr": 0.4}
PAIR = "medvidbench/AVOS/tal"


def content(**row):
    return {"format": 1, "judge": "offline-lexical-v1", "pairs": {PAIR: {"iou": ROW | row}}}


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


def test_summarize():
    assert summarize([0, 1, 2, 3, 10]) == {"n": 5, "p25": 1.0, "p50": 2.0, "p75": 3.0, "iqr": 2.0}
    assert summarize([0.5]) == {"n": 1, "p25": 0.5, "p50": 0.5, "p75": 0.5, "iqr": 0.0}
    for bad in ([], [0.1, math.nan]):
        with pytest.raises(ValueError):
            summarize(bad)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_what_is_summarized_can_be_loaded(values):
    statistics = Statistics.from_dict({"format": 1, "pairs": {PAIR: {"iou": summarize(values)}}})
    assert 0 <= Normalizer(statistics)(PAIR, "iou", 0.5) <= 1


def test_load(tmp_path):
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(content()))
    statistics = Statistics.load(path)
    assert statistics.get(PAIR, "iou").iqr == 0.4
    assert statistics.meta["judge"] == "offline-lexical-v1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "format"),
        ('{"format": 2, "pairs": {}}', "format"),
        ('{"format": 1, "pairs": {}}', "pairs"),
        (json.dumps(content(n=0)), f"{PAIR}: iou: n"),
        (json.dumps(content(p50=math.nan)), f"{PAIR}: iou: p50"),
        (json.dumps(content(p50="0.2")), f"{PAIR}: iou: p50"),
        (json.dumps(content(p50=0.9)), "p25 <= p50 <= p75"),
        (json.dumps(content(iqr=0.3)), "iqr"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path, text, words):
    path = tmp_path / "statistics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadStatistics, match=words) as error:
        Statistics.load(path)
    assert str(path) in str(error.value)


def test_normalizer():
    statistics = Statistics.from_dict(content())
    assert Normalizer(statistics)(PAIR, "iou", 0.3) == logistic(0.3, 0.2, 0.4)
    assert Normalizer(statistics, k=1.0)(PAIR, "iou", 0.3) == logistic(0.3, 0.2, 0.4, k=1.0)
    assert Normalizer(statistics, name="none")(PAIR, "closeness", 0.3) == 0.3
    assert Normalizer(None)(PAIR, "iou", 0.3) == 0.3


def test_no_spread_is_widened_to_min_iqr():
    statistics = Statistics.from_dict(content(p25=0.0, p50=0.0, p75=0.0, iqr=0.0))
    assert Normalizer(statistics)(PAIR, "iou", 0.0) == 0.5
    assert Normalizer(statistics)(PAIR, "iou", 0.1) == logistic(0.1, 0.0, 0.1)
    assert Normalizer(statistics, min_iqr=0.4)(PAIR, "iou", 0.1) == logistic(0.1, 0.0, 0.4)


def test_what_is_missing_is_an_error_and_can_be_asked_before():
    statistics = Statistics.from_dict(content())
    for pair, signal in ((PAIR, "closeness"), ("medvidbench/AVOS/dvc", "temporal_f1")):
        with pytest.raises(MissingStatistics, match=pair):
            Normalizer(statistics)(pair, signal, 0.5)
    sources = [PAIR, "medvidbench/AVOS/dvc", PAIR]
    assert missing_pairs(statistics, sources) == ["medvidbench/AVOS/dvc"]
    needed = {"tal": ("iou", "other"), "dvc": ()}
    assert missing_pairs(statistics, sources, needed) == [f"{PAIR}: other"]


@pytest.mark.parametrize("setting", [{"name": "zscore2"}, {"k": 0.0}, {"min_iqr": -1.0}, {"min_iqr": math.nan}])
def test_bad_settings(setting):
    with pytest.raises(ValueError):
        Normalizer(None, **setting)
