# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What one process keeps in memory for its judges: things per event loop, verdicts, and judgements under way."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
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


class Memory(Generic[T]):
    """The values used last, by key: at most ``size`` of them. Safe in any thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[str, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> T | None:
        """The value, which counts as used, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: str, value: T) -> None:
        """Keep a value; the one not used for longest goes when there are too many."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)


@dataclass
class _Flight:
    task: asyncio.Task[Any]
    waiting: int = 0


class Flights:
    """Work under way on one event loop. Who asks for what is under way already waits for the same result.

    The work is a task of its own, so a caller that is cancelled leaves it to the others; it ends with the last one.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}

    async def share(self, key: str, work: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The result of the work for this key, and whether another caller had begun it."""
        flight = self._flights.get(key)
        begun = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(work()))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), begun
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
            # By now another flight may have begun under this key, which is not ours to forget.
            if (flight.task.done() or not flight.waiting) and self._flights.get(key) is flight:
                del self._flights[key]
