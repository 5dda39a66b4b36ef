# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The statistics file, what is done where it is degenerate, and what is missing from it."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.errors import BadStatistics, MissingStatistics
from reward_score.normalization import Normalizer
from reward_score.statistics import Percentiles, Statistics, missing_pairs, summarize, used_rows

ROW = {"n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.5, "iqr": 0.4}
FULL = ROW | {"mean": 0.3, "std": 0.2, "min": 0.0, "max": 0.9, "quantiles": [number / 100 for number in range(101)]}
PAIR = "medvidbench/AVOS/tal"
NAP = "medvidbench/AVOS/nap"


def content(**row):
    return {"format": 1, "judge": "offline-lexical-v1", "pairs": {PAIR: {"iou": ROW | row}}}


def test_summarize():
    assert summarize([0, 1, 2, 3, 10]) == {
        "n": 5,
        "p25": 1.0,
        "p50": 2.0,
        "p75": 3.0,
        "iqr": 2.0,
        "mean": 3.2,
        "std": pytest.approx(math.sqrt(12.56)),
        "min": 0.0,
        "max": 10.0,
        "quantiles": pytest.approx(
            [number / 25 for number in range(76)] + [3 + 7 * number / 25 for number in range(1, 26)]
        ),
    }
    alone = summarize([0.5])
    assert (alone["n"], alone["p50"], alone["iqr"], alone["std"]) == (1, 0.5, 0.0, 0.0)
    assert alone["quantiles"] == [0.5] * 101
    for bad in ([], [0.1, math.nan]):
        with pytest.raises(ValueError):
            summarize(bad)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_what_is_summarized_can_be_loaded(values):
    row = summarize(values)
    loaded = Statistics.from_dict({"format": 1, "pairs": {PAIR: {"iou": row}}}).get(PAIR, "iou")
    assert asdict(loaded) == row | {"quantiles": tuple(row["quantiles"])}


def test_load(tmp_path):
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(content()))
    statistics = Statistics.load(path)
    assert statistics.get(PAIR, "iou") == Percentiles(64, 0.1, 0.2, 0.5, 0.4)
    assert statistics.meta["judge"] == "offline-lexical-v1"
    assert statistics.name == str(path)


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
        (json.dumps(content(p50=10**400)), f"{PAIR}: iou: p50"),
        ("[" * 100_000, "cannot be read"),
        (json.dumps(content(p50=0.9)), "p25 <= p50 <= p75"),
        (json.dumps(content(iqr=0.3)), "iqr"),
        (json.dumps(content(mean="x")), f"{PAIR}: iou: mean"),
        (json.dumps(content(std=-0.1)), f"{PAIR}: iou: std"),
        (json.dumps(content(min=0.5, max=0.4)), f"{PAIR}: iou: expected min <= max"),
        (json.dumps(content(quantiles=[0.0, 1.0])), f"{PAIR}: iou: quantiles: expected 101"),
        (json.dumps(content(quantiles=[1.0] + [0.0] * 100)), f"{PAIR}: iou: quantiles: expected numbers that never"),
        (json.dumps(content() | {"degenerate": {"min_iqr": 0}}), "degenerate.*min_iqr 0"),
        (json.dumps(content() | {"degenerate": {"min_samples": 0.5}}), "degenerate.*min_samples 0.5"),
        (json.dumps(content() | {"degenerate": 3}), "degenerate"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path, text, words):
    path = tmp_path / "statistics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadStatistics, match=words) as error:
        Statistics.load(path)
    assert str(path) in str(error.value)


def test_what_is_missing_is_an_error_and_can_be_asked_before():
    statistics = Statistics.from_dict(content(mean=0.3))
    for pair, signal in ((PAIR, "closeness"), ("medvidbench/AVOS/dvc", "temporal_f1")):
        with pytest.raises(MissingStatistics, match=pair):
            statistics.get(pair, signal)
    sources = [PAIR, "medvidbench/AVOS/dvc", PAIR]
    assert missing_pairs(statistics, sources, {"tal": ("iou",), "dvc": ("f1",)}) == ["medvidbench/AVOS/dvc"]
    needed = {"tal": ("iou", "other"), "dvc": ()}
    assert missing_pairs(statistics, sources, needed) == [f"{PAIR}: other"]
    assert missing_pairs(statistics, [PAIR], {"tal": ("iou",)}, ("mean", "std")) == [f"{PAIR}: iou: std"]


def row(n, p50, iqr, **more):
    return Percentiles(n, p50 - iqr / 2, p50, p50 + iqr / 2, iqr, **more)


def used_of(values, **chosen):
    summary = summarize(values)
    return used_rows({NAP: {"exact": Percentiles(**summary)}}, **chosen)[NAP]["exact"]


def test_a_healthy_row_is_used_as_measured():
    used = used_rows({PAIR: {"iou": row(32, 0.2, 0.3)}})[PAIR]["iou"]
    assert (used.p50, used.iqr, used.why) == (0.2, 0.3, ())


def test_few_samples_are_shrunk_toward_the_task_and_only_the_task():
    pairs = {
        "medvidbench/A/tal": {"iou": row(8, 0.8, 0.6)},
        "medvidbench/B/tal": {"iou": row(72, 0.2, 0.2)},
        "medvidbench/A/stg": {"iou": row(500, 0.9, 0.9)},
        "medvidbench/A/cvs": {"exact": row(8, 0.4, 0.3)},
    }
    used = used_rows(pairs)
    # Pooled: p50 (8 x 0.8 + 72 x 0.2) / 80 = 0.26, iqr (8 x 0.6 + 72 x 0.2) / 80 = 0.24; a quarter of 32 answers.
    few = used["medvidbench/A/tal"]["iou"]
    assert few.p50 == pytest.approx(0.25 * 0.8 + 0.75 * 0.26)
    assert few.iqr == pytest.approx(0.25 * 0.6 + 0.75 * 0.24)
    assert few.why == ("few_samples",)
    assert used["medvidbench/B/tal"]["iou"].p50 == 0.2
    # Alone of its task: nothing to lean on.
    alone = used["medvidbench/A/cvs"]["exact"]
    assert (alone.p50, alone.iqr) == (pytest.approx(0.4), pytest.approx(0.3))
    assert used_rows(pairs, min_samples=8)["medvidbench/A/tal"]["iou"].why == ()


def test_no_spread_is_widened_and_named():
    assert used_of([0.5] * 40) == used_of([0.5] * 99)
    assert (used_of([0.5] * 40).iqr, used_of([0.5] * 40).why) == (0.1, ("constant", "zero_iqr"))
    narrow = used_of([number / 1000 for number in range(101)])
    assert (narrow.p50, narrow.iqr, narrow.why) == (pytest.approx(0.05), 0.1, ("narrow_iqr",))
    assert used_of([0.0] * 32 + [0.5] * 4 + [1.0] * 4).why == ("zero_iqr",)
    assert used_of([0.0], min_iqr=0.2).why == ("constant", "few_samples", "zero_iqr")
    assert used_of([0.0], min_iqr=0.2).iqr == 0.2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_two_values_are_recognised_from_the_row_alone(sixths):
    values = {number / 6 for number in sixths}
    why = used_of([number / 6 for number in sixths]).why
    assert ("constant" in why) == (len(values) == 1)
    assert ("two_valued" in why) == (len(values) == 2)


LITTLE = math.exp(-30) / (1 + math.exp(-30))


@pytest.mark.parametrize(
    ("right", "p50", "iqr", "wrong_earns", "right_earns"),
    [
        (0, 0.0, 0.1, 0.5, 1 - LITTLE),
        (20, 0.0, 0.1, 0.5, 1 - LITTLE),
        (40, 0.0, 1.0, 0.5, 1 / (1 + math.exp(-3))),
        (60, 1.0, 1.0, 1 - 1 / (1 + math.exp(-3)), 0.5),
        (80, 1.0, 0.1, LITTLE, 0.5),
        (100, 1.0, 0.1, LITTLE, 0.5),
    ],
)
def test_what_right_and_wrong_earn(right, p50, iqr, wrong_earns, right_earns):
    values = [1.0] * right + [0.0] * (100 - right)
    used = used_of(values)
    assert (used.p50, used.iqr) == (p50, iqr)
    normalizer = Normalizer(Statistics.from_dict({"format": 1, "pairs": {NAP: {"exact": summarize(values)}}}))
    assert normalizer(NAP, "exact", 0.0) == pytest.approx(wrong_earns, rel=1e-9)
    assert normalizer(NAP, "exact", 1.0) == pytest.approx(right_earns, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=32, max_size=80))
def test_the_median_answer_earns_exactly_half(values):
    summary = summarize(values)
    statistics = Statistics.from_dict({"format": 1, "pairs": {PAIR: {"iou": summary}}})
    assert Normalizer(statistics)(PAIR, "iou", summary["p50"]) == 0.5


@pytest.mark.parametrize("bad", [{"min_iqr": 0.0}, {"min_iqr": math.nan}, {"min_samples": 0}, {"min_samples": 2.5}])
def test_bad_settings(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        used_rows({PAIR: {"iou": row(8, 0.2, 0.2)}}, **bad)
