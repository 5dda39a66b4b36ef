# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The store in the process that owns it: replies and money in SQLite, everything else in memory.

Any thread and any event loop of the process may use it. An operation takes some 50 us and runs where it is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path

from ..errors import CallError, CallRateLimited, CallUnavailable
from ..flights import Flights
from ..limits import Estimate, Lane, Limits, Ticket
from ..metering import latency_bucket
from .database import BOOK, Database, snapshot


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
    others (``calls``, ``cache_hits``, ``prompt_tokens``, ...) come through `count`.

    Attributes:
        folder: where it is kept.
        flights: questions under way, by the key of their reply.
    """

    def __init__(self, folder: Path | None, max_mb: float) -> None:
        super().__init__(folder, max_mb)
        self.flights = Flights()
        self._lanes: dict[str, Lane] = {}
        with self._transaction() as connection:
            for name, found in snapshot(connection).items():
                self._lane(name).confirmed_usd = found.get("cost_usd", 0.0)
                self._lane(name).unconfirmed_usd = found.get("unconfirmed_usd", 0.0)
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)

    def __repr__(self) -> str:
        return f"Store({'in memory' if self.folder is None else str(self.folder)!r})"

    async def admit(self, lane: str, estimate: Estimate, limits: Limits, within_s: float) -> Ticket:
        """Reserve a call: a slot, its place in the pace, its dollars. Callers of a lane are served in turn.

        Args:
            within_s: the longest wait for a slot and for the pace.

        Raises:
            CallBudgetExceeded: what was spent leaves too little for this call.
            CallUnavailable: the breaker is open.
            CallRateLimited: it would have to wait longer.
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
                    told = f"{lane}: waited {within_s:.3g} s for our own limits"
                    raise CallRateLimited(told) from None
                raise

    def _ticket_or_place(
        self, lane: str, estimate: Estimate, limits: Limits, within_s: float, waited: bool
    ) -> Ticket | asyncio.Future:
        with self._locked():
            state, waiting = self._lane(lane), self._waiting[lane]
            if waiting and not waited:
                return waiting.join(first=False)
            others, ticket = [other for other in self._lanes.values() if other is not state], None
            try:
                ticket = state.admit(time.monotonic(), estimate, limits, within_s, others)
                if ticket is None:
                    return waiting.join(first=waited)
                if estimate.cost_usd:
                    with self._transaction() as connection:
                        row = (ticket.number, lane, estimate.cost_usd)
                        connection.execute("INSERT INTO reserved VALUES (?, ?, ?)", row)
            except CallError:
                if ticket is not None:
                    state.settle(ticket, 0, 0.0)  # what cannot be noted is not sent
                waiting.wake()  # what stops this caller stops those who wait, or they may go in its place
                raise
            waiting.wake()  # there may be room for another one
            return ticket

    def _lane(self, name: str) -> Lane:
        return self._lanes.setdefault(name, Lane(name))

    def settle(self, ticket: Ticket, tokens: int | None, cost_usd: float | None, latency_s: float | None) -> None:
        """Free a call's slot, and correct pace and ledger by what it took.

        None where it is unknown (a timeout, a broken reply): the estimate then stays spent, as ``unconfirmed_usd``.
        A call that was never sent settles with zeros. Settling twice is harmless.
        """
        with self._lock:
            if not self._lane(ticket.lane).settle(ticket, tokens, cost_usd):
                return
            for waiting in self._waiting.values():  # other lanes may wait for the dollars
                waiting.wake()
            spent = (0.0, ticket.estimate.cost_usd) if cost_usd is None else (cost_usd, 0.0)
            with self._transaction() as connection:
                connection.execute("DELETE FROM reserved WHERE ticket = ?", (ticket.number,))
                connection.execute(BOOK, (ticket.lane, *spent))
            if latency_s is not None:
                super().count(ticket.lane, {latency_bucket(latency_s): 1})

    def count(self, lane: str, counts: Mapping[str, float], answered: bool | None = None) -> None:
        """Add to the lane's counters. Where a broken database does not take them, the work goes on.

        Args:
            answered: feeds the breaker: True for a question that the endpoint answered (a refusal is an answer),
                False for one that failed for the infrastructure's sake, None for what did not ask it (blank, kept).
        """
        with self._locked():
            if counts:
                with contextlib.suppress(CallUnavailable):
                    super().count(lane, counts)
            if answered is not None:
                self._lane(lane).answered(time.monotonic(), answered)
                self._waiting[lane].wake()


OPEN: weakref.WeakValueDictionary[Path, Store] = weakref.WeakValueDictionary()
"""What this process owns, by folder; some may be closed."""


def own_store(folder: Path, max_mb: float) -> Store:
    """The store of a folder, owned by this process whatever it is."""
    store = OPEN[folder] = Store(folder, max_mb)
    return store
