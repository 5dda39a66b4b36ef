# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Histograms of raw signals and rewards, before and after normalisation."""

import json

import numpy as np
import pytest

from recipes.medgrpo.reporting.distributions import counts, distributions, figures, scorer_of
from reward_score.normalization import needed_share
from reward_score.statistics import summarize

TAL = "medvidbench/AVOS/tal"
SPREAD = [0.0, 0.01, 0.5, 0.5, 0.99, 1.0, 0.26, 0.26]


def test_a_histograms_numbers():
    values = np.array(SPREAD)
    bins, found = counts(values), figures(values)
    assert sum(bins) == found["n"] == 8
    assert (bins[0], bins[5], bins[10], bins[19]) == (2, 2, 2, 2)
    assert found["saturated"] == 0.5
    assert found["median"] == pytest.approx(0.38)
    assert found["variance"] == pytest.approx(np.var(SPREAD))


@pytest.fixture
def statistics(tmp_path):
    """Medians and spreads of 64 answers, half of them at 0.2, half at 0.6."""
    file = tmp_path / "statistics.json"
    row = summarize([0.2, 0.6] * 32)
    file.write_text(json.dumps({"format": 1, "pairs": {TAL: {"iou": row}}}))
    return file


def shown(statistics, sft=(), recent=(), **settings):
    return distributions(scorer_of({"judge": None, **settings}, statistics), {TAL: list(sft)}, {TAL: list(recent)})[TAL]


def test_rewards_before_and_after_are_the_rewards_own(statistics):
    answers = [(1.0, {"iou": 0.2}), (0.5, {"iou": 0.6}), (0.0, {"iou": 0.0})]
    scorer = scorer_of({"judge": None}, statistics)
    content = shown(statistics, sft=answers)
    assert content["rewards_before_figures"]["mean"] == pytest.approx((0.2 + 0.5 * 0.6) / 3)
    after = [scorer.reward(TAL, form, raw) for form, raw in answers]
    assert after[2] == 0 and content["rewards_after_figures"]["mean"] == pytest.approx(np.mean(after))


def test_the_newest_answers_rewards_are_those_that_were_trained_on(statistics):
    content = shown(statistics, recent=[(0.9, 1.0, {"iou": 0.2}), (0.1, 1.0, {"iou": 0.6})])
    assert content["recent_after_figures"]["mean"] == pytest.approx(0.5)
    assert content["recent_before_figures"]["mean"] == pytest.approx(0.4)
    assert sum(content["signals"]["iou"]["recent"]) == 2 and "bins" not in content["signals"]["iou"]


def test_the_median_is_where_the_curve_says(statistics):
    signal = shown(statistics)["signals"]["iou"]
    assert signal["p50"] == pytest.approx(0.4) and signal["k"] == 3
    assert signal["linear_share"] == needed_share(signal["p50"], signal["iqr"])
    curve = np.array(signal["curve"])
    # The logistic's half at the median, and the raw signal's own share beside it.
    share = signal["linear_share"]
    assert np.interp(0.4, *curve.T) == pytest.approx(share * 0.4 + (1 - share) * 0.5, abs=1e-3)
    assert shown(statistics, linear_share=0)["signals"]["iou"]["linear_share"] == 0


def test_without_statistics_there_are_histograms_and_no_curve():
    content = shown(None, recent=[(0.9, 1.0, {"iou": 0.2})])
    assert "curve" not in content["signals"]["iou"] and content["signals"]["iou"]["recent_figures"]["n"] == 1
