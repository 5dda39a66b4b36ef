# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The store in the process that owns it: verdicts and money in SQLite, everything else in memory.

Any thread and any event loop of the process may use it. An operation takes some 50 us and runs where it is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import JudgeError, JudgeRateLimited, JudgeUnavailable
from ..flights import Flights
from ..limits import Estimate, Held, Lane, Limits, decide, judged, settled, token_seconds
from ..metering import latency_bucket
from .database import BOOK, Database, snapshot


@dataclass(frozen=True)
class Ticket:
    """A call that may be sent ``wait_s`` seconds from now: what it reserved, to be settled afterwards."""

    number: int
    lane: str
    estimate: Estimate
    token_s: float
    trial: bool
    wait_s: float


class _Waiting(deque[asyncio.Future]):
    """Callers of one lane that found no room, the one who waits longest first. The store's lock is held around it."""

    def join(self, first: bool) -> asyncio.Future:
        """What the caller waits for until there may be room. ``first``: it waited before, and keeps its place."""
        future = asyncio.get_running_loop().create_future()
        self.insert(0 if first else len(self), future)
        return future

    def wake(self) -> None:
        """There may be room: the first one looks."""
        while self:
            future = self.popleft()
            with contextlib.suppress(RuntimeError):  # that loop was closed, its callers are gone
                future.get_loop().call_soon_threadsafe(_wake, future)
                return


def _wake(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)


class Store(Database):
    """The store of a folder, or (None) of this process's memory.

    Who writes which counter: `settle` writes ``cost_usd``, ``unconfirmed_usd`` and the latency histogram; all the
    others (``judgements``, ``calls``, ``prompt_tokens``, ...) come through `count`.

    Attributes:
        folder: where it is kept.
        flights: judgements under way, by the key of their verdict.
    """

    def __init__(self, folder: Path | None, max_mb: float) -> None:
        super().__init__(folder, max_mb)
        self.flights = Flights()
        self._lanes: defaultdict[str, Lane] = defaultdict(Lane)
        with self._transaction() as connection:
            for name, found in snapshot(connection).items():
                self._lanes[name] = Lane(
                    confirmed_usd=found.get("cost_usd", 0.0), unconfirmed_usd=found.get("unconfirmed_usd", 0.0)
                )
        self._tickets: dict[int, Ticket] = {}
        self._numbers = itertools.count(1)
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)

    def __repr__(self) -> str:
        return f"Store({'in memory' if self.folder is None else str(self.folder)!r})"

    async def admit(self, lane: str, estimate: Estimate, limits: Limits, within_s: float) -> Ticket:
        """Reserve a call: a slot, its place in the pace, its dollars. Callers of a lane are served in turn.

        Args:
            within_s: the longest wait for a slot and for the pace.

        Raises:
            JudgeBudgetExceeded: what was spent leaves too little for this call.
            JudgeUnavailable: the breaker is open.
            JudgeRateLimited: it would have to wait longer.
        """
        until, waited = time.monotonic() + within_s, False
        while True:
            found = self._ticket_or_place(lane, estimate, limits, max(0.0, until - time.monotonic()), waited)
            if isinstance(found, Ticket):
                return found
            waited = True
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await found
            except BaseException as error:
                with self._lock:
                    if found in self._waiting[lane]:
                        self._waiting[lane].remove(found)
                    else:
                        self._waiting[lane].wake()  # it was this caller's turn, and is the next one's
                if isinstance(error, TimeoutError):
                    told = f"judge: {lane}: waited {within_s:.3g} s for our own limits"
                    raise JudgeRateLimited(told) from None
                raise

    def _ticket_or_place(
        self, lane: str, estimate: Estimate, limits: Limits, within_s: float, waited: bool
    ) -> Ticket | asyncio.Future:
        with self._locked():
            waiting = self._waiting[lane]
            if waiting and not waited:
                return waiting.join(first=False)
            try:
                decision = decide(
                    lane, self._lanes[lane], self._held(lane), time.monotonic(), estimate, limits, within_s
                )
                if decision.error is None and not decision.granted:
                    return waiting.join(first=waited)
                number = next(self._numbers)
                if decision.granted and estimate.cost_usd:
                    with self._transaction() as connection:
                        connection.execute("INSERT INTO reserved VALUES (?, ?, ?)", (number, lane, estimate.cost_usd))
                self._lanes[lane] = decision.lane
                if decision.error:
                    raise decision.error
            except JudgeError:
                waiting.wake()  # what stops this caller stops those who wait, or they may go in its place
                raise
            ticket = Ticket(number, lane, estimate, token_seconds(limits), decision.trial, decision.wait_s)
            self._tickets[number] = ticket
            waiting.wake()  # there may be room for another one
            return ticket

    def _held(self, lane: str) -> Held:
        mine = [ticket for ticket in self._tickets.values() if ticket.lane == lane]
        usd = sum(ticket.estimate.cost_usd for ticket in mine)
        others = [state for name, state in self._lanes.items() if name != lane]
        return Held(
            in_flight=len(mine),
            usd=usd,
            trials=sum(ticket.trial for ticket in mine),
            others_spent_usd=sum(other.confirmed_usd + other.unconfirmed_usd for other in others),
            others_usd=sum(ticket.estimate.cost_usd for ticket in self._tickets.values()) - usd,
        )

    def settle(self, ticket: Ticket, tokens: int | None, cost_usd: float | None, latency_s: float | None) -> None:
        """Free a call's slot, and correct pace and ledger by what it took.

        None where it is unknown (a timeout, a broken reply): the estimate then stays spent, as ``unconfirmed_usd``.
        A call that was never sent settles with zeros. Settling twice is harmless.
        """
        with self._lock:
            if self._tickets.pop(ticket.number, None) is None:
                return
            lane, reserved_usd = ticket.lane, ticket.estimate.cost_usd
            more_s = 0.0 if tokens is None else (tokens - ticket.estimate.tokens) * ticket.token_s
            self._lanes[lane] = settled(self._lanes[lane], reserved_usd, cost_usd, more_s)
            for waiting in self._waiting.values():  # other lanes may wait for the dollars
                waiting.wake()
            spent = (0.0, reserved_usd) if cost_usd is None else (cost_usd, 0.0)
            with self._transaction() as connection:
                connection.execute("DELETE FROM reserved WHERE ticket = ?", (ticket.number,))
                connection.execute(BOOK, (lane, *spent))
            if latency_s is not None:
                super().count(lane, {latency_bucket(latency_s): 1})

    def count(self, lane: str, counts: Mapping[str, float], answered: bool | None = None) -> None:
        """Add to the lane's counters. Where a broken database does not take them, the judging goes on.

        Args:
            answered: feeds the breaker: True for a judgement that the endpoint answered (a refusal is an answer),
                False for one that failed for the infrastructure's sake, None for what did not ask it (blank, kept).
        """
        with self._locked():
            if counts:
                with contextlib.suppress(JudgeUnavailable):
                    super().count(lane, counts)
            if answered is not None:
                self._lanes[lane] = judged(self._lanes[lane], time.monotonic(), [answered])
                self._waiting[lane].wake()


OPEN: weakref.WeakValueDictionary[Path, Store] = weakref.WeakValueDictionary()
"""What this process owns, by folder; some may be closed."""


def own_store(folder: Path, max_mb: float) -> Store:
    """The store of a folder, owned by this process whatever it is."""
    store = OPEN[folder] = Store(folder, max_mb)
    return store
