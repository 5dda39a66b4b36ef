# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Judging a pair once: in memory, among the callers of one loop, and among all processes that share a store."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import JudgeError, JudgeUnavailable
from .flights import Flights, Memory, PerLoop
from .judgement import DIMENSIONS, HIGHEST, LOWEST, Usage
from .store import Store

MEMORY_VERDICTS = 32_768
"""Verdicts that are remembered without asking the store; some 10 MB."""
FIRST_POLL_S, LONGEST_POLL_S = 0.05, 1.0
"""How often to look whether another process is done with a pair: the wait grows from the first to the longest."""
CLAIM_S, RENEW_S = 120.0, 30.0
"""How long a claim holds without news of its holder, and how often a holder that lives says so."""
CACHED, SHARED = "cache_hits", "shared"
"""Counters of verdicts that were kept before, and that somebody else was about to give."""

Scores = dict[str, int]
Ask = Callable[[], Awaitable[tuple[Scores | JudgeError, Usage]]]


@dataclass(frozen=True)
class Answer:
    """A verdict or what is to be raised; what this caller spent on it; the counter of how it came without spending."""

    result: Scores | JudgeError
    usage: Usage
    how: str | None = None


class Recall:
    """Asks for a verdict only where nobody has it and nobody else asks. Failures are shared, and never kept.

    Args:
        store: where verdicts are kept and pairs are claimed.
        patience_s: seconds to wait for another process that judges the pair.
    """

    def __init__(self, store: Store, patience_s: float) -> None:
        self._store, self._patience_s = store, patience_s
        self._memory: Memory[tuple[int, ...]] = Memory(MEMORY_VERDICTS)
        self._flights = PerLoop(Flights)

    async def verdict(self, key: str, ask: Ask, about: Mapping[str, str]) -> Answer:
        """The verdict under a key, asked for if need be. ``about``: what the store shall know of it."""
        scores = self._memory.get(key)
        if scores is not None:
            return Answer(dict(zip(DIMENSIONS, scores, strict=True)), Usage(), CACHED)
        answer, begun = await self._flights.get().share(key, lambda: self._kept_or_asked(key, ask, about))
        if not begun:
            return answer
        result = answer.result
        if isinstance(result, JudgeError):
            # Each caller raises an error of its own, and only the first one's tells what was spent.
            result = type(result)(str(result))
        return Answer(result, Usage(), SHARED)

    async def _kept_or_asked(self, key: str, ask: Ask, about: Mapping[str, str]) -> Answer:
        try:
            answer = await self._kept_or_claimed(key) or await self._asked(key, ask, about)
        except JudgeError as error:  # the store's own
            return Answer(error, error.usage)
        if not isinstance(answer.result, JudgeError):
            self._memory.put(key, tuple(answer.result[name] for name in DIMENSIONS))
        return answer

    async def _kept_or_claimed(self, key: str) -> Answer | None:
        """A kept verdict, or None: the pair is ours to judge."""
        kept = await self._store.get(key)
        if kept is not None:
            return Answer(_checked(kept), Usage(), CACHED)
        how, poll_s, until = CACHED, FIRST_POLL_S, time.monotonic() + self._patience_s
        while True:
            claim = await self._store.claim(key, CLAIM_S)
            if claim is True:
                return None
            if claim is not False:
                return Answer(_checked(claim), Usage(), how)
            if time.monotonic() >= until:
                told = f"judge: another process has not judged this pair within {self._patience_s:.3g} s"
                raise JudgeUnavailable(told)
            how = SHARED
            await asyncio.sleep(poll_s * random.uniform(0.5, 1.0))
            poll_s = min(2 * poll_s, LONGEST_POLL_S)

    async def _asked(self, key: str, ask: Ask, about: Mapping[str, str]) -> Answer:
        """A verdict of our own, kept; whatever happens, the claim is given up."""
        kept = False
        renewing = asyncio.ensure_future(self._renew(key))
        try:
            result, usage = await ask()
            if not isinstance(result, JudgeError):
                # A verdict that was paid for counts, kept or not: with a store that is broken for good, nothing more is
                # admitted.
                with contextlib.suppress(JudgeError):
                    await self._store.put(key, result, dict(about))
                    kept = True
            return Answer(result, usage)
        finally:
            renewing.cancel()
            if not kept:
                with contextlib.suppress(JudgeError):  # what failed before is to be told; the claim lapses
                    await self._store.release(key)

    async def _renew(self, key: str) -> None:
        """Until cancelled, or its event loop is gone: a claim outlives the loss of its holder by `CLAIM_S`."""
        while True:
            await asyncio.sleep(RENEW_S)
            with contextlib.suppress(JudgeError):
                await self._store.renew(key, CLAIM_S)


def _checked(verdict: Mapping[str, Any]) -> Scores:
    """The scores of a kept verdict; JudgeUnavailable for one that we would not have kept."""
    scores = {name: verdict.get(name) for name in DIMENSIONS}
    if not all(type(score) is int and LOWEST <= score <= HIGHEST for score in scores.values()):
        raise JudgeUnavailable("judge: the store holds a verdict that is none of ours")
    return scores
