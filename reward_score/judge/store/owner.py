# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The store in the process that owns it: verdicts and money in SQLite, everything else in memory.

Any thread and any event loop of the process may use it. An operation takes some 50 us and runs where it is called.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import JudgeError, JudgeRateLimited, JudgeSettingsError, JudgeUnavailable
from ..flights import Flights
from ..limits import Estimate, Held, Lane, Limits, decide, judged, settled, token_seconds
from ..metering import latency_bucket
from .database import Database


@dataclass(frozen=True)
class Ticket:
    """A call that may be sent ``wait_s`` seconds from now: what it reserved, to be settled afterwards."""

    number: int
    lane: str
    estimate: Estimate
    token_s: float
    trial: bool
    wait_s: float


class _Waiting:
    """Callers of one lane that found no room, the one who waits longest first. The store's lock is held around it."""

    def __init__(self) -> None:
        self._callers: list[tuple[asyncio.Future, asyncio.AbstractEventLoop]] = []

    def __len__(self) -> int:
        return len(self._callers)

    def join(self, first: bool) -> asyncio.Future:
        """What the caller waits for until there may be room. ``first``: it waited before, and keeps its place."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._callers.insert(0 if first else len(self._callers), (future, loop))
        return future

    def leave(self, future: asyncio.Future) -> bool:
        """Wait no longer; False when it was the caller's turn already."""
        before = len(self._callers)
        self._callers = [caller for caller in self._callers if caller[0] is not future]
        return len(self._callers) < before

    def wake(self) -> None:
        """There may be room: the first one looks."""
        while self._callers:
            future, loop = self._callers.pop(0)
            try:
                loop.call_soon_threadsafe(_wake, future)
                return
            except RuntimeError:  # that loop was closed, its callers are gone
                continue


def _wake(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)


class Store:
    """The store of a folder, or (None) of this process's memory.

    Who writes which counter: `settle` writes ``cost_usd``, ``unconfirmed_usd`` and the latency histogram; all the
    others (``judgements``, ``calls``, ``prompt_tokens``, ...) come through `count`.

    Attributes:
        folder: where it is kept.
        flights: judgements under way, by the key of their verdict.

    Raises:
        JudgeSettingsError: another process owns the folder, or no store can be opened there. The methods raise
            JudgeUnavailable where the store is closed or broken.
    """

    def __init__(self, folder: Path | None, max_mb: float) -> None:
        self.folder = folder
        self.flights = Flights()
        self._database = Database(folder, max_mb)
        self._close = weakref.finalize(self, self._database.close)
        self._lock = threading.RLock()
        self._lanes: defaultdict[str, Lane] = defaultdict(Lane)
        for name, found in self._database.snapshot().items():
            self._lanes[name] = Lane(
                confirmed_usd=found.get("cost_usd", 0.0), unconfirmed_usd=found.get("unconfirmed_usd", 0.0)
            )
        self._tickets: dict[int, Ticket] = {}
        self._numbers = itertools.count(1)
        self._waiting: defaultdict[str, _Waiting] = defaultdict(_Waiting)
        self._pid, self._users = os.getpid(), 1

    def __repr__(self) -> str:
        return f"Store({'in memory' if self.folder is None else str(self.folder)!r})"

    def get(self, key: str) -> dict | None:
        """A kept verdict, or None."""
        with self._opened() as database:
            return database.get(key)

    def put(self, key: str, verdict: Mapping[str, int], about: Mapping[str, str]) -> None:
        """Keep a verdict; of two the first stays. ``about``: ``model``, ``prompt``, ``task``, for the statistics."""
        with self._opened() as database:
            database.put(key, verdict, about)

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
                    if not self._waiting[lane].leave(found):
                        self._waiting[lane].wake()  # it was this caller's turn, and is the next one's
                if isinstance(error, TimeoutError):
                    told = f"judge: {lane}: waited {within_s:.3g} s for our own limits"
                    raise JudgeRateLimited(told) from None
                raise

    def _ticket_or_place(
        self, lane: str, estimate: Estimate, limits: Limits, within_s: float, waited: bool
    ) -> Ticket | asyncio.Future:
        with self._opened() as database:
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
                    database.reserve(number, lane, estimate.cost_usd)
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
            with self._opened() as database:
                spent = (0.0, reserved_usd) if cost_usd is None else (cost_usd, 0.0)
                database.book(ticket.number, lane, *spent)
                if latency_s is not None:
                    database.count(lane, {latency_bucket(latency_s): 1})

    def count(self, lane: str, counts: Mapping[str, float], answered: bool | None = None) -> None:
        """Add to the lane's counters. Where a broken database does not take them, the judging goes on.

        Args:
            answered: feeds the breaker: True for a judgement that the endpoint answered (a refusal is an answer),
                False for one that failed for the infrastructure's sake, None for what did not ask it (blank, kept).
        """
        with self._opened() as database:
            if counts:
                with contextlib.suppress(JudgeUnavailable):
                    database.count(lane, counts)
            if answered is not None:
                self._lanes[lane] = judged(self._lanes[lane], time.monotonic(), [answered])
                self._waiting[lane].wake()

    async def snapshot(self) -> dict[str, dict[str, float]]:
        """All counters by lane since the store was made."""
        with self._opened() as database:
            return database.snapshot()

    def opened_again(self) -> bool:
        """Count another user of this store; False when it is closed, or another process's."""
        if self._pid != os.getpid():
            return False
        with self._lock:
            self._users += self._close.alive
            return self._close.alive

    async def close(self) -> None:
        """With the last user, let the folder go. So does the end of the process."""
        with self._lock:
            self._users -= 1
            if self._users <= 0:
                self._close()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Database]:
        if self._pid != os.getpid():  # before the lock, which a fork may have copied while it was held
            raise JudgeSettingsError("judge: this process was forked from the one that has the store open")
        with self._lock:
            if not self._close.alive:
                raise JudgeUnavailable("judge: the store is closed")
            yield self._database


_OPEN: weakref.WeakValueDictionary[Path, Store] = weakref.WeakValueDictionary()


def own_store(folder: Path, max_mb: float) -> Store:
    """The store of a folder, owned by this process whatever it is."""
    store = _OPEN[folder] = Store(folder, max_mb)
    return store


def owned_already(folder: Path) -> Store | None:
    """The store of a folder that this process owns and has not closed, with one user more."""
    store = _OPEN.get(folder)
    return store if store is not None and store.opened_again() else None
