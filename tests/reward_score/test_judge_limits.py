# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pace, the budget and the breaker of a lane, on a clock of the test's own."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reward_score.judge.errors import JudgeBudgetExceeded, JudgeRateLimited, JudgeSettingsError, JudgeUnavailable
from reward_score.judge.limits import Estimate, Held, Lane, Limits, decide, judged, settled

FREE = Estimate(tokens=0, cost_usd=0.0)
START = 1_700_000_000.0
NO_HURRY = 1e9


def ask(lane, now, limits, estimate=FREE, held=None, within_s=NO_HURRY):
    return decide("m", lane, held or Held(), now, estimate, limits, within_s)


def send_all(limits, calls):
    """When the calls, (seconds after the one before, tokens) each, are sent: (time, tokens) in order of time."""
    lane, now, sent = Lane(), START, []
    for gap, tokens in calls:
        now += gap
        decision = ask(lane, now, limits, Estimate(tokens, 0.0))
        assert decision.granted and decision.wait_s >= 0
        lane = decision.lane
        sent.append((now + decision.wait_s, tokens))
    return sorted(sent)


def most_in_a_minute(sent):
    """(calls, tokens) of the fullest half-open minute."""
    windows = [[tokens for time, tokens in sent if start <= time < start + 60] for start, _ in sent]
    return max(len(window) for window in windows), max(sum(window) for window in windows)


GAPS = st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 200))


# --- the pace --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.lists(GAPS, min_size=1, max_size=250))
@example(1, [0.0] * 3)
@example(60, [0.0] * 200)
@example(50, [0.0] * 60 + [59.9] + [0.0] * 60)
def test_no_minute_sees_more_requests_than_the_limit(per_min, gaps):
    sent = send_all(Limits(requests_per_min=per_min), [(gap, 0) for gap in gaps])

    assert most_in_a_minute(sent)[0] <= per_min


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1_000, 50_000),
    st.lists(st.tuples(GAPS, st.floats(0.001, 0.05)), min_size=1, max_size=150),
)
def test_no_minute_sees_more_tokens_than_the_limit(per_min, calls):
    sent = send_all(Limits(tokens_per_min=per_min), [(gap, int(share * per_min)) for gap, share in calls])

    assert most_in_a_minute(sent)[1] <= per_min


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(GAPS, st.integers(1, 100)), min_size=1, max_size=200))
@example([(0.0, 1)] * 40 + [(0.0, 100)] * 40)
@example([(0.0, 100)] * 20 + [(0.0, 1)] * 80)
def test_both_limits_hold_together(calls):
    """Small calls that the one pace lets go must not run ahead in the other."""
    requests, tokens = most_in_a_minute(send_all(Limits(requests_per_min=40, tokens_per_min=2_000), calls))

    assert requests <= 40 and tokens <= 2_000


def test_a_call_above_the_burst_goes_over_by_its_excess_at_most():
    sent = send_all(Limits(tokens_per_min=1_000), [(0.0, 200)] * 50)

    assert most_in_a_minute(sent)[1] <= 1_000 + (200 - 50)


@pytest.mark.parametrize("per_min", [1, 2, 10, 60, 600, 6_000])
def test_the_full_rate_of_requests_is_reached(per_min):
    sent = send_all(Limits(requests_per_min=per_min), [(0.0, 0)] * (10 * per_min + 1))

    minutes = (sent[-1][0] - sent[0][0]) / 60
    assert 10 * per_min / minutes >= 0.975 * per_min


@pytest.mark.parametrize("tokens", [10, 300, 1_500, 4_000])
def test_the_full_rate_of_tokens_is_reached(tokens):
    sent = send_all(Limits(tokens_per_min=30_000), [(0.0, tokens)] * (300_000 // tokens + 1))

    minutes = (sent[-1][0] - sent[0][0]) / 60
    assert sum(tokens for _, tokens in sent) / minutes >= 0.94 * 30_000


def test_less_than_one_request_a_minute():
    sent = send_all(Limits(requests_per_min=0.5), [(0.0, 0)] * 3)

    assert [round(time - START) for time, _ in sent] == [0, 120, 240]


def test_tokens_that_were_not_used_are_given_back():
    limits = Limits(tokens_per_min=6_000)  # 300 at once, then 95 a second
    lane = ask(Lane(), START, limits, Estimate(300, 0.0)).lane
    waiting = ask(lane, START, limits, Estimate(300, 0.0)).wait_s

    # What `settle` does when a call of 300 estimated tokens took 100.
    per_token = 60 / 5_700
    lane = settled(lane, 0.0, 0.0, more_s=(100 - 300) * per_token)

    assert waiting == pytest.approx(300 * per_token, rel=0.01)
    assert ask(lane, START, limits, Estimate(300, 0.0)).wait_s == pytest.approx(100 * per_token, rel=0.01)


def test_a_wait_that_is_too_long_reserves_nothing():
    limits = Limits(requests_per_min=1)
    lane = ask(Lane(), START, limits).lane

    decision = ask(lane, START, limits, within_s=59)

    assert isinstance(decision.error, JudgeRateLimited)
    assert "60 s, longer than 59 s" in str(decision.error)
    assert decision.lane.request_clock == lane.request_clock
    assert ask(lane, START, limits, within_s=61).granted


# --- in flight -------------------------------------------------------------------------------------------------------


def test_full_slots_reserve_nothing():
    limits = Limits(max_in_flight=2, requests_per_min=60)

    decision = ask(Lane(), START, limits, held=Held(in_flight=2))

    assert not decision.granted and decision.error is None
    assert decision.lane.request_clock == 0.0
    assert ask(Lane(), START, limits, held=Held(in_flight=1)).granted


# --- the budget ------------------------------------------------------------------------------------------------------


def test_the_budget_counts_what_was_and_what_may_have_been_spent():
    lane = settled(settled(Lane(), 0.2, 0.1), 0.2, None)  # 0.10 spent, 0.20 perhaps
    limits = Limits(budget_usd=0.5)

    assert ask(lane, START, limits, Estimate(0, 0.2)).granted
    error = ask(lane, START, limits, Estimate(0, 0.21)).error

    assert isinstance(error, JudgeBudgetExceeded)
    for figure in ("$0.5000", "$0.1000 spent", "$0.2000 perhaps", "may cost $0.2100"):
        assert figure in str(error)


def test_dollars_of_calls_under_way_are_waited_for_and_those_of_calls_without_a_reply_are_not():
    limits = Limits(budget_usd=1.0)

    waiting = ask(Lane(), START, limits, Estimate(0, 0.3), Held(in_flight=1, usd=0.8))
    lost = ask(Lane(unconfirmed_usd=0.8), START, limits, Estimate(0, 0.3))

    assert not waiting.granted and waiting.error is None
    assert isinstance(lost.error, JudgeBudgetExceeded)


def test_a_budget_of_nothing_allows_what_costs_nothing():
    assert ask(Lane(), START, Limits(budget_usd=0.0)).granted
    assert isinstance(ask(Lane(), START, Limits(budget_usd=0.0), Estimate(1, 1e-6)).error, JudgeBudgetExceeded)


# --- the breaker -----------------------------------------------------------------------------------------------------

FRAGILE = Limits(max_failed_share=0.5, failure_window=4, cooldown_s=30)


def test_the_breaker_opens_above_its_share_of_a_full_window():
    assert ask(judged(Lane(), START, [False] * 3), START, FRAGILE).granted
    assert ask(judged(Lane(), START, [False, False, True, True]), START, FRAGILE).granted
    assert ask(judged(Lane(), START, [False] * 4 + [True] * 4), START, FRAGILE).granted

    error = ask(judged(Lane(), START, [True, False, False, False]), START, FRAGILE).error

    assert isinstance(error, JudgeUnavailable)
    assert "3 of the last 4 judgements failed; no calls for 30 s" in str(error)


def test_after_the_cooldown_one_trial_at_a_time():
    opened = ask(judged(Lane(), START, [False] * 4), START, FRAGILE).lane

    assert ask(opened, START + 29.9, FRAGILE).error
    assert ask(opened, START + 30, FRAGILE).trial
    second = ask(opened, START + 30, FRAGILE, held=Held(in_flight=1, trials=1))
    assert not second.granted and second.error is None


def test_a_given_judgement_closes_it_and_a_failed_one_opens_it_again():
    opened = ask(judged(Lane(), START, [False] * 4), START, FRAGILE).lane

    closed = judged(opened, START + 31, [True])
    assert ask(closed, START + 31, FRAGILE, held=Held(in_flight=9)).granted
    again = judged(opened, START + 31, [False])
    assert isinstance(ask(again, START + 60.9, FRAGILE).error, JudgeUnavailable)
    assert ask(again, START + 61.1, FRAGILE).trial


def test_outcomes_of_calls_from_before_do_not_move_an_open_breaker():
    opened = ask(judged(Lane(), START, [False] * 4), START, FRAGILE).lane

    late = judged(opened, START + 20, [True, False, False])

    assert ask(late, START + 29, FRAGILE).error
    assert ask(late, START + 30, FRAGILE).trial


def test_a_share_of_one_never_stops():
    assert ask(judged(Lane(), START, [False] * 100), START, Limits(max_failed_share=1.0)).granted


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_min": 0},
        {"tokens_per_min": -1},
        {"max_in_flight": 0},
        {"max_in_flight": 0.5},
        {"budget_usd": -0.01},
        {"budget_usd": float("nan")},
        {"requests_per_min": float("inf")},
        {"max_failed_share": 1.1},
        {"failure_window": 0},
        {"failure_window": 1_001},
        {"cooldown_s": -1},
    ],
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(JudgeSettingsError, match=f"judge: {next(iter(wrong))} is .*: expected"):
        Limits(**wrong)
