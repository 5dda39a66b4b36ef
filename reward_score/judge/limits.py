# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How much may be asked of an endpoint: the pace, the calls in flight, the budget and the circuit breaker.

Pure functions on the state of one *lane* (one model), which the store's owner keeps.

The pace is a generic cell rate algorithm: a clock that runs ahead of time by what was reserved. A call is sent when
its own units fit into the burst, so that in any half-open minute at most ``burst + 60 s x rate`` units are sent. Rate
and burst are chosen so that this sum is the limit itself. A single call of more tokens than the burst waits for the
excess in advance; only then a minute may hold more, by that excess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from .errors import JudgeBudgetExceeded, JudgeError, JudgeRateLimited, JudgeSettingsError, JudgeUnavailable

WINDOW_S = 60.06
"""The minute of the limits, a hair longer, so that neither rounding nor a clock's grain makes one call too many."""
REQUEST_BURST, TOKEN_BURST = 0.02, 0.05
"""Shares of a minute's limit that may be sent at once."""
MAX_OUTCOMES = 1_000
"""Judgements that a lane remembers for its breaker."""
GIVEN, FAILED = ".", "x"


@dataclass(frozen=True)
class Limits:
    """Limits of one lane, over all that share its store. None: no such limit.

    Attributes:
        requests_per_min: HTTP requests in any minute.
        tokens_per_min: tokens in any minute, as estimated when sent and corrected when known.
        max_in_flight: requests under way at once.
        budget_usd: dollars over the whole life of the store, with what may have been spent by calls without a reply.
        max_failed_share: no calls any more when more than this share of the last judgements failed for the
            infrastructure's sake; 1 never stops.
        failure_window: how many last judgements these are.
        cooldown_s: seconds without calls; after them one call at a time is tried.

    Raises:
        JudgeSettingsError: a value out of range.
    """

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    max_in_flight: int | None = 64
    budget_usd: float | None = None
    max_failed_share: float = 0.5
    failure_window: int = 50
    cooldown_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("requests_per_min", "tokens_per_min"):
            expected = "more than 0, or None for no limit"
            check(self, name, lambda per_min: per_min is None or 0 < per_min < math.inf, expected)
        expected = "more than 0 calls, or None for no limit"
        check(self, "max_in_flight", lambda calls: calls is None or 1 <= calls < math.inf, expected)
        check(self, "budget_usd", lambda usd: usd is None or 0 <= usd < math.inf, "dollars, 0 or more")
        check(self, "max_failed_share", lambda share: 0 <= share <= 1, "0 to 1")
        check(self, "failure_window", lambda window: 1 <= window <= MAX_OUTCOMES, f"1 to {MAX_OUTCOMES} judgements")
        check(self, "cooldown_s", lambda seconds: 0 <= seconds < math.inf, "seconds, 0 or more")


def check(settings: object, name: str, right: Callable[[Any], bool], expected: str) -> None:
    """Raises JudgeSettingsError if a setting is not right."""
    value = getattr(settings, name)
    if not right(value):
        raise JudgeSettingsError(f"judge: {name} is {value!r}: expected {expected}")


@dataclass(frozen=True)
class Estimate:
    """What a request will take: likely ``tokens`` (prompt and reply), and the most dollars it can cost."""

    tokens: int
    cost_usd: float


@dataclass(frozen=True)
class Pace:
    """So many units in any minute: each takes ``unit_s`` seconds of the clock, ``burst`` of them may come at once."""

    unit_s: float
    burst: float

    @classmethod
    def of_requests(cls, per_min: float) -> Pace:
        whole = math.floor(per_min) if per_min >= 1 else per_min
        burst = max(1, math.floor(REQUEST_BURST * whole))
        # Whole requests: fewer than whole + 1 in a half-open window are at most whole.
        return cls(WINDOW_S / (whole + 1 - burst if whole >= 1 else whole), burst)

    @classmethod
    def of_tokens(cls, per_min: float) -> Pace:
        return cls(WINDOW_S / (per_min * (1 - TOKEN_BURST)), per_min * TOKEN_BURST)

    def earliest(self, clock: float, now: float, units: float) -> float:
        """When ``units`` more may be sent."""
        return max(now, max(clock, now) + (units - self.burst) * self.unit_s)

    def after(self, clock: float, now: float, units: float, sent: float) -> float:
        """The clock once ``units`` are to be sent at ``sent``, which is `earliest` or later."""
        return max(max(clock, now) + units * self.unit_s, sent + min(units, self.burst) * self.unit_s)


@dataclass(frozen=True)
class Lane:
    """What is known of a lane: its two clocks, its ledger, its breaker. Times are seconds of the owner's clock.

    ``outcomes`` are the last judgements, oldest first; ``open_until`` is the end of the breaker's cool-down, 0 when it
    is closed.
    """

    request_clock: float = 0.0
    token_clock: float = 0.0
    confirmed_usd: float = 0.0
    unconfirmed_usd: float = 0.0
    outcomes: str = ""
    open_until: float = 0.0
    cooldown_s: float = 0.0


@dataclass(frozen=True)
class Held:
    """What the calls under way hold: slots and dollars, trials among them.

    Where there is a budget, which is one for all lanes of a store, also what the other lanes spent and hold.
    """

    in_flight: int = 0
    usd: float = 0.0
    trials: int = 0
    others_spent_usd: float = 0.0
    others_usd: float = 0.0


@dataclass(frozen=True)
class Decision:
    """The lane afterwards, and either an error, or whether the call may be sent (`trial`: as a trial) and when.

    Without either, the call has to wait until another one is over.
    """

    lane: Lane
    granted: bool = False
    wait_s: float = 0.0
    trial: bool = False
    error: JudgeError | None = None


def decide(
    name: str, lane: Lane, held: Held, now: float, estimate: Estimate, limits: Limits, within_s: float
) -> Decision:
    """May a call of the lane ``name`` be sent, and when? Unless it is granted, nothing is reserved."""
    tail = lane.outcomes[-limits.failure_window :]
    failed = tail.count(FAILED)
    if not lane.open_until and len(tail) == limits.failure_window and failed > limits.max_failed_share * len(tail):
        lane = replace(lane, open_until=now + limits.cooldown_s, cooldown_s=limits.cooldown_s)
    if now < lane.open_until:
        told = f"{failed} of the last {len(tail)} judgements failed; no calls for {lane.open_until - now:.0f} s"
        return Decision(lane, error=JudgeUnavailable(f"judge: {name}: {told}"))
    trial = lane.open_until > 0
    if limits.budget_usd is not None:
        spent = lane.confirmed_usd + lane.unconfirmed_usd + held.others_spent_usd
        if _more(spent + estimate.cost_usd, limits.budget_usd):
            return Decision(lane, error=JudgeBudgetExceeded(f"judge: {name}: {_budget(lane, held, estimate, limits)}"))
        if _more(spent + held.usd + held.others_usd + estimate.cost_usd, limits.budget_usd):
            # Most of what is reserved comes back when calls under way end far below their upper bounds.
            return Decision(lane)
    if (trial and held.trials) or (limits.max_in_flight is not None and held.in_flight >= limits.max_in_flight):
        return Decision(lane)
    return _paced(name, lane, now, estimate, limits, within_s, trial)


def settled(lane: Lane, reserved_usd: float, cost_usd: float | None, more_s: float = 0.0) -> Lane:
    """The lane after a call. ``more_s``: seconds of the token clock beyond the estimate.

    A cost of None is unknown, and may be all that was reserved.
    """
    lane = replace(lane, token_clock=lane.token_clock + more_s)
    if cost_usd is None:
        return replace(lane, unconfirmed_usd=lane.unconfirmed_usd + reserved_usd)
    return replace(lane, confirmed_usd=lane.confirmed_usd + cost_usd)


def judged(lane: Lane, now: float, outcomes: Iterable[bool]) -> Lane:
    """The lane after judgements that were given (True) or failed for the infrastructure's sake (False).

    After the cool-down the first outcome closes the breaker or begins another cool-down. During it, outcomes are those
    of calls from before, and say nothing new.
    """
    kept, open_until = lane.outcomes, lane.open_until
    for given in outcomes:
        if now < open_until:
            continue
        if open_until and given:
            kept, open_until = "", 0.0
        elif open_until:
            open_until = now + lane.cooldown_s
        kept += GIVEN if given else FAILED
    return replace(lane, outcomes=kept[-MAX_OUTCOMES:], open_until=open_until)


def token_seconds(limits: Limits) -> float:
    """Seconds of the token clock for one token, 0 without a limit."""
    return Pace.of_tokens(limits.tokens_per_min).unit_s if limits.tokens_per_min else 0.0


def _paced(
    name: str, lane: Lane, now: float, estimate: Estimate, limits: Limits, within_s: float, trial: bool
) -> Decision:
    paces = {}
    if limits.requests_per_min:
        paces["request_clock"] = Pace.of_requests(limits.requests_per_min), lane.request_clock, 1
    if limits.tokens_per_min:
        paces["token_clock"] = Pace.of_tokens(limits.tokens_per_min), lane.token_clock, estimate.tokens
    send = max([now, *(pace.earliest(clock, now, units) for pace, clock, units in paces.values())])
    if send - now > within_s:
        told = f"our own limits would make it wait {send - now:.0f} s, longer than {within_s:.0f} s"
        return Decision(lane, error=JudgeRateLimited(f"judge: {name}: {told}"))
    # Both clocks count the call where it is really sent, which is where the slower of the two lets it go.
    clocks = {name: pace.after(clock, now, units, send) for name, (pace, clock, units) in paces.items()}
    return Decision(replace(lane, **clocks), granted=True, wait_s=send - now, trial=trial)


def _more(sum_usd: float, budget_usd: float) -> bool:
    return sum_usd > budget_usd + 1e-9  # a billionth of a dollar for the rounding of many small sums


def _budget(lane: Lane, held: Held, estimate: Estimate, limits: Limits) -> str:
    return (
        f"the budget of ${limits.budget_usd:.4f} is used up: ${lane.confirmed_usd:.4f} spent, "
        + (f"${held.others_spent_usd:.4f} by other models, " if held.others_spent_usd else "")
        + f"${lane.unconfirmed_usd:.4f} perhaps spent by calls without a reply, "
        f"${held.usd + held.others_usd:.4f} reserved, and the next call may cost ${estimate.cost_usd:.4f}"
    )
