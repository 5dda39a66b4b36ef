# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Callers of this process that found no free slot: they wait here, and not all of them at the database."""

from __future__ import annotations

import asyncio
import threading
import time

HOLD_S = 5.0
"""Nobody is kept longer; who still wants a slot comes again."""


class Queue:
    """The callers of one lane, of any thread or event loop.

    When the database has no slot, it is left alone for a moment. Then one caller looks again, or at once when a call
    of this process ends; one that gets a slot sends the next, until there is none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Future, asyncio.AbstractEventLoop] = {}
        self._full_until, self._looked = 0.0, 0.0

    @property
    def full(self) -> bool:
        """Whether a caller has to wait for its turn."""
        return bool(self._waiting) or time.monotonic() < self._full_until

    def look_again(self, pause_s: float) -> None:
        """The caller found no slot; another one looks again so many seconds from now."""
        self._looked = time.monotonic()
        if self._looked >= self._full_until:
            # One at a time, or every look that finds nothing would lead to another one.
            self._full_until = self._looked + pause_s
            asyncio.get_running_loop().call_later(pause_s, self.next)

    def next(self) -> None:
        """There may be a slot: the one who waits longest looks."""
        with self._lock:
            while self._waiting:
                future, loop = next(iter(self._waiting.items()))
                del self._waiting[future]
                try:
                    loop.call_soon_threadsafe(_wake, future)
                    return
                except RuntimeError:  # that loop was closed, its callers are gone
                    continue
            self._full_until = 0.0

    async def turn(self) -> bool:
        """Wait; True when it is the caller's turn to look, False when it was kept long enough."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            self._waiting[future] = loop
        try:
            async with asyncio.timeout(HOLD_S):
                await future
            return True
        except TimeoutError:
            # The loop that was to look again may have been closed.
            return time.monotonic() - self._looked > HOLD_S
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.next()  # it was the caller's turn, and goes to another one
            raise
        finally:
            with self._lock:
                self._waiting.pop(future, None)


def _wake(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)
