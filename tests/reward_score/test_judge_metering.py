# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Step metrics from cumulative counters, latency histograms, and prices."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.judge.metering import metrics
from reward_score.paid_call.metering import latency_bucket, latency_quantile
from reward_score.paid_call.prices import PRICES_FILE, price_of


def histogram(seconds):
    counts = [0.0] * 60
    for value in seconds:
        counts[int(latency_bucket(value).removeprefix("latency/"))] += 1
    return counts


# --- latencies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, "latency/00"),
        (0.001, "latency/00"),
        (0.00126, "latency/01"),
        (0.01, "latency/10"),
        (1.0, "latency/30"),
        (999.0, "latency/59"),
        (1e6, "latency/59"),
    ],
)
def test_ten_buckets_to_a_factor_of_ten(seconds, bucket):
    assert latency_bucket(seconds) == bucket


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 900), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_at_most_a_bucket_off(seconds, share):
    exact = float(np.quantile(seconds, share, method="inverted_cdf"))

    assert abs(math.log10(latency_quantile(histogram(seconds), share) / exact)) <= 0.1 + 1e-9


def test_quantiles_of_a_known_distribution():
    seconds = [0.1] * 50 + [1.0] * 40 + [10.0] * 10

    p40, p80, p95 = (latency_quantile(histogram(seconds), share) for share in (0.4, 0.8, 0.95))

    assert (p40, p80, p95) == (
        pytest.approx(0.12, abs=0.01),
        pytest.approx(1.19, abs=0.02),
        pytest.approx(11.2, abs=0.1),
    )


# --- steps -----------------------------------------------------------------------------------------------------------


def test_a_step_is_the_difference_of_two_snapshots():
    before = {"judgements": 100.0, "calls": 90.0, "cost_usd": 1.0, "failed/JudgeTimeout": 2.0, "latency/30": 90.0}
    after = {
        "judgements": 180.0,
        "calls": 150.0,
        "cost_usd": 1.5,
        "unconfirmed_usd": 0.1,
        "failed/JudgeTimeout": 12.0,
        "failed/JudgeRefused": 4.0,
        "failed/JudgeMalformed": 6.0,
        "latency/30": 90.0,
        "latency/40": 60.0,
        "disagreement": 3.0,
        "compared": 12.0,
    }

    found = metrics(before, after)

    # 80 given and 20 failed: 10 timeouts, 4 refused, 6 malformed.
    assert found == {
        "judgements": 80.0,
        "calls": 60.0,
        "cost_usd": 0.5,
        "unconfirmed_usd": 0.1,
        "failed/JudgeTimeout": 10.0,
        "failed/JudgeRefused": 4.0,
        "failed/JudgeMalformed": 6.0,
        "failed_share": 0.1,
        "refused_share": 0.1,
        "cost_usd_total": 1.6,
        "disagreement": 3.0,
        "compared": 12.0,
        "mean_disagreement": 0.25,
        **{f"latency_s/{name}": pytest.approx(11.3, abs=1.3) for name in ("p50", "p90", "p99")},
    }


def test_what_was_not_measured_is_no_number():
    assert metrics({}, {}) == {"cost_usd_total": 0.0}
    same = {"judgements": 5.0, "latency/30": 4.0, "compared": 2.0, "disagreement": 1.0}
    assert metrics(same, same) == {"judgements": 0.0, "compared": 0.0, "disagreement": 0.0, "cost_usd_total": 0.0}


# --- prices ----------------------------------------------------------------------------------------------------------


def test_prices_by_name_and_by_dated_name():
    assert price_of("gpt-4.1") == (2.0, 8.0)
    assert price_of("gpt-4.1-2025-04-14") == (2.0, 8.0)
    assert price_of("gpt-4o-mini-2024-07-18") == (0.15, 0.6)
    assert price_of("gpt-4o-2024-05-13") == (5.0, 15.0)


@pytest.mark.parametrize("model", ["", "gpt-4", "gpt-4.1-2025", "Qwen/Qwen2.5-72B-Instruct", "gpt-4.1-2025-04-14-x"])
def test_an_unknown_model_has_no_price(model):
    assert price_of(model) is None


def test_the_table_says_of_when_it_is():
    table = json.loads(PRICES_FILE.read_text())

    assert len(table["as_of"]) == 7 and "override" in table["note"]
    assert all(0 < price["prompt"] < price["completion"] for price in table["usd_per_million_tokens"].values())
