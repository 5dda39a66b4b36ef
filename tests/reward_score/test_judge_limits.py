# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The pace, the budget and the breaker of a lane, on a clock of the test's own."""

from copy import deepcopy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reward_score.paid_call.errors import CallBudgetExceeded, CallRateLimited, CallSettingsError, CallUnavailable
from reward_score.paid_call.limits import Estimate, Lane, Limits

FREE = Estimate(tokens=0, cost_usd=0.0)
START = 1_700_000_000.0
NO_HURRY = 1e9


def ask(lane, now, limits, estimate=FREE, within_s=NO_HURRY):
    """The lane's ticket, or None for a call that has to wait for another one."""
    return lane.admit(now, estimate, limits, within_s)


def refused(lane, now, limits, estimate=FREE, *, error, within_s=NO_HURRY):
    """What the lane says to a call that may not be sent. Nothing is reserved for it."""
    before = deepcopy(lane)
    with pytest.raises(error) as raised:
        ask(lane, now, limits, estimate, within_s)
    assert (lane.calls, lane.request_clock, lane.token_clock) == (
        before.calls,
        before.request_clock,
        before.token_clock,
    )
    return str(raised.value)


def after(*outcomes):
    """A lane whose judgements were given (True) or failed (False)."""
    lane = Lane("m")
    for outcome in outcomes:
        lane.answered(START, outcome)
    return lane


def send_all(limits, calls):
    """When the calls, (seconds after the one before, tokens) each, are sent: (time, tokens) in order of time."""
    lane, now, sent = Lane("m"), START, []
    for gap, tokens in calls:
        now += gap
        ticket = ask(lane, now, limits, Estimate(tokens, 0.0))
        assert ticket.wait_s >= 0
        sent.append((now + ticket.wait_s, tokens))
        lane.settle(ticket, tokens, 0.0)
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
    lane = Lane("m")
    first = ask(lane, START, limits, Estimate(300, 0.0))
    waiting = ask(deepcopy(lane), START, limits, Estimate(300, 0.0)).wait_s

    assert lane.settle(first, 100, 0.0) and not lane.settle(first, 100, 0.0)

    per_token = 60 / 5_700
    assert waiting == pytest.approx(300 * per_token, rel=0.01)
    assert ask(lane, START, limits, Estimate(300, 0.0)).wait_s == pytest.approx(100 * per_token, rel=0.01)


def test_a_wait_that_is_too_long_reserves_nothing():
    limits = Limits(requests_per_min=1)
    lane = Lane("m")
    ask(lane, START, limits)

    assert "60 s, longer than 59 s" in refused(lane, START, limits, error=CallRateLimited, within_s=59)
    assert ask(lane, START, limits, within_s=61)


# --- in flight -------------------------------------------------------------------------------------------------------


def test_full_slots_reserve_nothing():
    limits = Limits(max_in_flight=2, requests_per_min=60)

    lane = Lane("m")
    first, _ = ask(lane, START, limits), ask(lane, START, limits)
    clock = lane.request_clock

    assert ask(lane, START, limits) is None
    assert lane.request_clock == clock and len(lane.calls) == 2
    lane.settle(first, 0, 0.0)
    assert ask(lane, START, limits)


# --- the budget ------------------------------------------------------------------------------------------------------


def test_the_budget_counts_what_was_and_what_may_have_been_spent():
    lane, limits = Lane("m"), Limits(budget_usd=0.5)
    for cost_usd in (0.1, None):  # 0.10 spent, 0.20 perhaps
        lane.settle(ask(lane, START, limits, Estimate(0, 0.2)), 0, cost_usd)

    assert ask(deepcopy(lane), START, limits, Estimate(0, 0.2))
    told = refused(lane, START, limits, Estimate(0, 0.21), error=CallBudgetExceeded)

    for figure in ("$0.5000", "$0.1000 spent", "$0.2000 perhaps", "may cost $0.2100"):
        assert figure in told


def test_dollars_of_calls_under_way_are_waited_for_and_those_of_calls_without_a_reply_are_not():
    limits = Limits(budget_usd=1.0)

    lane = Lane("m")
    under_way = ask(lane, START, limits, Estimate(0, 0.8))
    assert ask(lane, START, limits, Estimate(0, 0.3)) is None

    lane.settle(under_way, None, None)
    refused(lane, START, limits, Estimate(0, 0.3), error=CallBudgetExceeded)


def test_a_budget_of_nothing_allows_what_costs_nothing():
    assert ask(Lane("m"), START, Limits(budget_usd=0.0))
    refused(Lane("m"), START, Limits(budget_usd=0.0), Estimate(1, 1e-6), error=CallBudgetExceeded)


# --- the breaker -----------------------------------------------------------------------------------------------------

FRAGILE = Limits(max_failed_share=0.5, failure_window=4, cooldown_s=30)


def test_the_breaker_opens_above_its_share_of_a_full_window():
    assert ask(after(False, False, False), START, FRAGILE)
    assert ask(after(False, False, True, True), START, FRAGILE)
    assert ask(after(*[False] * 4, *[True] * 4), START, FRAGILE)

    told = refused(after(True, False, False, False), START, FRAGILE, error=CallUnavailable)

    assert "3 of the last 4 calls failed; no calls for 30 s" in told


def opened():
    """A lane whose breaker opened just now."""
    lane = after(*[False] * 4)
    refused(lane, START, FRAGILE, error=CallUnavailable)
    return lane


def test_after_the_cooldown_one_trial_at_a_time():
    lane = opened()

    refused(lane, START + 29.9, FRAGILE, error=CallUnavailable)
    assert ask(lane, START + 30, FRAGILE).trial
    assert ask(lane, START + 30, FRAGILE) is None


def test_a_given_judgement_closes_it_and_a_failed_one_opens_it_again():
    closed, again = opened(), opened()

    closed.answered(START + 31, True)
    assert [ask(closed, START + 31, FRAGILE).trial for _ in range(9)] == [False] * 9
    again.answered(START + 31, False)
    refused(again, START + 60.9, FRAGILE, error=CallUnavailable)
    assert ask(again, START + 61.1, FRAGILE).trial


def test_outcomes_of_calls_from_before_do_not_move_an_open_breaker():
    lane = opened()

    for outcome in (True, False, False):
        lane.answered(START + 20, outcome)

    refused(lane, START + 29, FRAGILE, error=CallUnavailable)
    assert ask(lane, START + 30, FRAGILE).trial


def test_a_share_of_one_never_stops():
    assert ask(after(*[False] * 100), START, Limits(max_failed_share=1.0))


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
    with pytest.raises(CallSettingsError, match=f"{next(iter(wrong))} is .*: expected"):
        Limits(**wrong)
