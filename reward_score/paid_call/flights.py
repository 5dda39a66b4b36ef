# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Things per event loop, and work under way that several callers wait for."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One thing per event loop, made at first use: connections and locks belong to the loop that made them."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._things: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()

    def get(self) -> T:
        """The running loop's."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._things:
                # Connections refer to their loop, so weak keys alone would never let a finished loop go.
                for old in [known for known in self._things if known.is_closed()]:
                    del self._things[old]
                self._things[loop] = self._make()
            return self._things[loop]

    def pop(self) -> T | None:
        """The running loop's, if there is one; the next `get` makes another."""
        with self._lock:
            return self._things.pop(asyncio.get_running_loop(), None)


@dataclass
class _Flight:
    loop: asyncio.AbstractEventLoop
    result: Future
    waiting: int = 1


class Flights:
    """Work under way in this process. Who asks for what is under way already waits for the same result.

    The work is a task of its own on the event loop of the caller that began it; callers on other loops may wait for
    it. A caller that is cancelled leaves it to the others, and it ends with the last one. When its loop ends, one of
    those who wait begins anew.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._flights: dict[str, _Flight] = {}

    async def share(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The result of the work for this key, and whether another caller had begun it."""
        while True:
            flight, begun = self._boarded(key, work)
            try:
                return await asyncio.shield(asyncio.wrap_future(flight.result)), begun
            except asyncio.CancelledError:
                caller = asyncio.current_task()
                if (caller is not None and caller.cancelling()) or not flight.result.cancelled():
                    raise
            finally:
                self._leave(key, flight)

    def _boarded(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> tuple[_Flight, bool]:
        with self._lock:
            begun = self._flights.get(key)
            if begun is not None and not begun.loop.is_closed():
                begun.waiting += 1
                return begun, True
            loop = asyncio.get_running_loop()
            flight = self._flights[key] = _Flight(loop, asyncio.run_coroutine_threadsafe(work(), loop))
            flight.result.add_done_callback(lambda _: self._forget(key, flight))
            return flight, False

    def _leave(self, key: str, flight: _Flight) -> None:
        with self._lock:
            flight.waiting -= 1
            if flight.waiting or flight.result.done():
                return
            self._forget(key, flight)
            if not flight.loop.is_closed():
                flight.result.cancel()

    def _forget(self, key: str, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:  # another one may have begun under this key
                del self._flights[key]
