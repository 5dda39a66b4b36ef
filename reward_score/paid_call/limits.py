# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How much may be asked of an endpoint: the pace, the calls in flight, the budget and the circuit breaker.

The state of one *lane* (one model), which the store's owner keeps. Its clock is an argument.

The pace is a generic cell rate algorithm: a clock that runs ahead of time by what was reserved. A call is sent when
its own units fit into the burst, so that in any half-open minute at most ``burst + 60 s x rate`` units are sent. Rate
and burst are chosen so that this sum is the limit itself. A single call of more tokens than the burst waits for the
excess in advance; only then a minute may hold more, by that excess.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from .errors import CallBudgetExceeded, CallRateLimited, CallSettingsError, CallUnavailable

WINDOW_S = 60.06
"""The minute of the limits, a hair longer, so that neither rounding nor a clock's grain makes one call too many."""
REQUEST_BURST, TOKEN_BURST = 0.02, 0.05
"""Shares of a minute's limit that may be sent at once."""
MAX_OUTCOMES = 1_000
"""Questions that a lane remembers for its breaker."""
GIVEN, FAILED = ".", "x"
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Limits:
    """Limits of one lane, over all that share its store. None: no such limit.

    Attributes:
        requests_per_min: HTTP requests in any minute.
        tokens_per_min: tokens in any minute, as estimated when sent and corrected when known.
        max_in_flight: requests under way at once.
        budget_usd: dollars over the whole life of the store, with what may have been spent by calls without a reply.
        max_failed_share: no calls any more when more than this share of the last questions failed for the
            infrastructure's sake; 1 never stops.
        failure_window: how many last questions these are.
        cooldown_s: seconds without calls; after them one call at a time is tried.

    Raises:
        CallSettingsError: a value out of range.
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
        check(self, "failure_window", lambda window: 1 <= window <= MAX_OUTCOMES, f"1 to {MAX_OUTCOMES} calls")
        check(self, "cooldown_s", lambda seconds: 0 <= seconds < math.inf, "seconds, 0 or more")


def check(settings: object, name: str, right: Callable[[Any], bool], expected: str) -> None:
    """Raises CallSettingsError if a setting is not right."""
    value = getattr(settings, name)
    if not right(value):
        raise CallSettingsError(f"{name} is {value!r}: expected {expected}")


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
class Ticket:
    """A call that may be sent ``wait_s`` seconds from now: what it reserved, to be settled afterwards."""

    number: int
    lane: str
    estimate: Estimate
    token_s: float
    trial: bool
    wait_s: float


@dataclass
class Lane:
    """What is known of a lane: its two clocks, its ledger, its breaker, its calls under way.

    Times are seconds of the owner's clock. ``outcomes`` are those of the last questions, oldest first; ``open_until``
    is the end of the breaker's cool-down, 0 when it is closed.
    """

    name: str
    request_clock: float = 0.0
    token_clock: float = 0.0
    confirmed_usd: float = 0.0
    unconfirmed_usd: float = 0.0
    outcomes: str = ""
    open_until: float = 0.0
    cooldown_s: float = 0.0
    calls: list[Ticket] = field(default_factory=list)

    @property
    def spent_usd(self) -> float:
        """Dollars that the budget counts."""
        return self.confirmed_usd + self.unconfirmed_usd

    @property
    def reserved_usd(self) -> float:
        """The most that the calls under way can cost."""
        return sum(call.estimate.cost_usd for call in self.calls)

    def admit(
        self, now: float, estimate: Estimate, limits: Limits, within_s: float, others: Collection[Lane] = ()
    ) -> Ticket | None:
        """Reserve a call. None: it has to wait until another one is over.

        Args:
            within_s: the longest wait for the pace.
            others: the other lanes of the store, which share the budget.

        Raises:
            CallError: it may not be sent. Nothing is reserved then.
        """
        tail = self.outcomes[-limits.failure_window :]
        failed = tail.count(FAILED)
        if not self.open_until and len(tail) == limits.failure_window and failed > limits.max_failed_share * len(tail):
            self.open_until, self.cooldown_s = now + limits.cooldown_s, limits.cooldown_s
        if now < self.open_until:
            told = f"{failed} of the last {len(tail)} calls failed; no calls for {self.open_until - now:.0f} s"
            raise CallUnavailable(f"{self.name}: {told}")
        trial = self.open_until > 0
        if limits.budget_usd is not None and not self._affords(estimate.cost_usd, limits.budget_usd, others):
            return None
        if trial and any(call.trial for call in self.calls):
            return None
        if limits.max_in_flight is not None and len(self.calls) >= limits.max_in_flight:
            return None
        paces: dict[str, tuple[Pace, float, float]] = {}
        if limits.requests_per_min:
            paces["request_clock"] = Pace.of_requests(limits.requests_per_min), self.request_clock, 1
        if limits.tokens_per_min:
            paces["token_clock"] = Pace.of_tokens(limits.tokens_per_min), self.token_clock, estimate.tokens
        send = max([now, *(pace.earliest(clock, now, units) for pace, clock, units in paces.values())])
        if send - now > within_s:
            told = f"our own limits would make it wait {send - now:.0f} s, longer than {within_s:.0f} s"
            raise CallRateLimited(f"{self.name}: {told}")
        # Both clocks count the call where it is really sent, which is where the slower of the two lets it go.
        for name, (pace, clock, units) in paces.items():
            setattr(self, name, pace.after(clock, now, units, send))
        token_s = paces["token_clock"][0].unit_s if limits.tokens_per_min else 0.0
        self.calls.append(Ticket(next(_NUMBERS), self.name, estimate, token_s, trial, send - now))
        return self.calls[-1]

    def _affords(self, cost_usd: float, budget_usd: float, others: Collection[Lane]) -> bool:
        """Whether the budget has room beside the calls under way, most of which end far below their upper bounds."""
        by_others = sum(lane.spent_usd for lane in others)
        reserved = sum(lane.reserved_usd for lane in (self, *others))
        spent = self.spent_usd + by_others + cost_usd
        most = budget_usd + 1e-9  # a billionth of a dollar for the rounding of many small sums
        if spent > most:
            raise CallBudgetExceeded(
                f"{self.name}: the budget of ${budget_usd:.4f} is used up: ${self.confirmed_usd:.4f} spent, "
                + (f"${by_others:.4f} by other models, " if by_others else "")
                + f"${self.unconfirmed_usd:.4f} perhaps spent by calls without a reply, "
                f"${reserved:.4f} reserved, and the next call may cost ${cost_usd:.4f}"
            )
        return spent + reserved <= most

    def settle(self, ticket: Ticket, tokens: int | None, cost_usd: float | None) -> bool:
        """Book what a call took, None where it is unknown and may be all that was reserved; False if it is booked."""
        if ticket not in self.calls:
            return False
        self.calls.remove(ticket)
        if tokens is not None:
            self.token_clock += (tokens - ticket.estimate.tokens) * ticket.token_s
        if cost_usd is None:
            self.unconfirmed_usd += ticket.estimate.cost_usd
        else:
            self.confirmed_usd += cost_usd
        return True

    def answered(self, now: float, given: bool) -> None:
        """A question was answered, or failed for the infrastructure's sake.

        After the cool-down the first one closes the breaker or begins another cool-down. During it, answers are
        those of calls from before, and say nothing new.
        """
        if now < self.open_until:
            return
        if self.open_until and given:
            self.outcomes, self.open_until = "", 0.0
        elif self.open_until:
            self.open_until = now + self.cooldown_s
        self.outcomes = (self.outcomes + (GIVEN if given else FAILED))[-MAX_OUTCOMES:]
