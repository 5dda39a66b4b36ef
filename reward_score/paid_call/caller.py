# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Who asks a model behind an OpenAI-compatible endpoint: a hosted one, a local one under ``vllm serve``, or verl's own.

Every question is paid for once: the store keeps the replies, and who asks what is being asked waits for it. A failure
is never kept. The owner of a store asks the endpoint for all who share it.

One `Caller` may be used from several event loops and threads. The key appears in no ``repr``, message, log, store or
exception of ours: exceptions of the client library, which hold the request, are not chained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from .attempts import Attempts, Outcome, Wording
from .errors import CallError, CallUnavailable
from .metering import FAILED
from .options import Options
from .store import MAX_MB, RayStore, Store, open_store
from .usage import Usage

CACHED, SHARED = "cache_hits", "shared"
"""Counters of replies that were kept before, and that somebody else was about to get."""
LOCAL_NAMES = {"calls": "requests"}
"""Counters of the store whose names in `Caller.counters` are others."""


class Caller(Wording):
    """Asks one model. A subclass says what is asked and what a reply has to be; its constructor takes the fields of
    its options, ``store`` and ``max_mb``, so that the owner of a store can make another one like it.

    Args:
        options: whom to ask and how.
        asks: what decides about a reply besides the question; it is part of every key. The endpoint's address is not:
            the same model may move.
        schema: as in `Endpoint`.
        store: a folder for replies, budget and counters, which one process at a time has; all tasks and actors of a
            Ray cluster share it, and its limits. None: nothing is shared or kept.
        max_mb: megabytes of replies in the store; above those, the ones go that were not used for longest.

    Attributes:
        store: where it counts, see `open_store`.
        counters: what this caller did: `GIVEN`, ``requests``, ``retries``, ``cache_hits``, ``shared``, and failures by
            error name. Without those that are 0.
        usage: tokens and requests so far, those of failed questions included.
        asks: as given. Callers with the same share their replies.
        price_known: whether `cost_usd` is what was spent, and not 0 for want of a price.

    Raises:
        CallSettingsError: no key, no model, or a setting out of range.
    """

    GIVEN: ClassVar[str] = "replies"
    """The counter of questions that were answered."""

    def __init__(
        self,
        options: Options,
        *,
        asks: list[Any],
        schema: dict[str, Any] | None = None,
        store: str | None = None,
        max_mb: float = MAX_MB,
    ) -> None:
        self._options = options
        self._attempts = Attempts(options, self, schema, self._count)
        self.base_url, self.model = options.base_url, options.model
        self.price_known = options.prices is not None
        self.asks = asks
        self.counters: Counter[str] = Counter()
        self.usage = Usage()
        self._lock = threading.Lock()
        self.store = open_store(store, max_mb)

    @abstractmethod
    def key_of(self, question: Mapping[str, Any]) -> list[Any]:
        """What tells this question from others of the same `asks`: JSON values."""

    @abstractmethod
    def topic(self, question: Mapping[str, Any]) -> dict[str, str]:
        """What the store's statistics say of a question: ``prompt`` and ``task``."""

    @abstractmethod
    def kept(self, reply: dict[str, Any]) -> dict[str, Any] | None:
        """What a reply of the store says; None where it is none of ours."""

    def failure(self, error: CallError) -> CallError:
        """A failure as it is counted and raised."""
        return error

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r}, model={self.model!r})"

    @property
    def cost_usd(self) -> float:
        """Dollars spent by this caller so far, as far as the endpoint counted tokens; 0 without known prices."""
        return self._options.cost_usd(self.usage)

    async def ask(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], Usage]:
        """What the reply says, and what this call spent: nothing where the reply was kept or another caller's.

        Raises:
            CallError: no reply; which subclass says why, and ``usage`` what was spent.
        """
        if isinstance(self.store, RayStore):
            outcome = await self._asked_of_the_owner(self.store, question)
        else:
            outcome = await self.outcome(question)
        how = {outcome.how: 1} if outcome.how else {}
        if isinstance(outcome.result, CallError):
            error = self.failure(outcome.result)
            self._count({f"{FAILED}{type(error).__name__}": 1, **how})
            raise error
        self._count({self.GIVEN: 1, **how})
        return outcome.result, outcome.usage

    async def outcome(self, question: Mapping[str, Any]) -> Outcome:
        """The outcome for a question in the store's owner.

        Only what is asked of the endpoint is counted. No CallError is raised.
        """
        store = self.store
        assert isinstance(store, Store)
        if not self._options.cache:
            return await self._attempts.ask(store, question)
        key = hashlib.sha256(json.dumps([*self.asks, *self.key_of(question)], sort_keys=True).encode()).hexdigest()
        while (kept := self._kept(store, key)) is None:
            (outcome, caller), begun = await store.flights.share(key, lambda: self._kept_or_asked(store, key, question))
            if not begun:
                return outcome
            if not isinstance(outcome.result, CallError):
                return Outcome(outcome.result, Usage(), outcome.how or SHARED)
            if caller is self:
                # Each asker raises an error of its own, and only the first one's tells what was spent.
                return Outcome(type(outcome.result)(str(outcome.result)), Usage(), SHARED)
            # Another caller failed, which may have less patience or another endpoint.
        return kept

    def _kept(self, store: Store, key: str) -> Outcome | None:
        try:
            reply = store.get(key)
        except CallError as error:
            return Outcome(error, Usage())
        if reply is None:
            return None
        said = self.kept(reply)
        if said is None:
            return Outcome(CallUnavailable("the store holds a reply that is none of ours"), Usage())
        self._attempts.answered = True
        return Outcome(said, Usage(), CACHED)

    async def _kept_or_asked(self, store: Store, key: str, question: Mapping[str, Any]) -> tuple[Outcome, Caller]:
        if (kept := self._kept(store, key)) is not None:  # by another thread, meanwhile
            return kept, self
        outcome = await self._attempts.ask(store, question)
        if not isinstance(outcome.result, CallError):
            # A reply that was paid for counts, kept or not: with a store that is broken nothing more is admitted.
            with contextlib.suppress(CallError):
                store.put(key, outcome.result, {"model": self.model, **self.topic(question)})
        return outcome, self

    async def _asked_of_the_owner(self, store: RayStore, question: Mapping[str, Any]) -> Outcome:
        try:
            outcome = await store.outcome(type(self), asdict(self._options), question)
        except CallError as error:
            return Outcome(error, error.usage)
        usage = outcome.usage
        with self._lock:  # the store has counted it already
            self.counters += Counter(requests=usage.requests, retries=max(0, usage.requests - 1))
            self.usage += usage
        return outcome

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the caller stays usable."""
        await self._attempts.endpoint.aclose()

    def _count(self, counts: Mapping[str, int], usage: Usage | None = None, answered: bool | None = None) -> None:
        with self._lock:
            for name, number in counts.items():
                if number and not name.endswith("_tokens"):
                    self.counters[LOCAL_NAMES.get(name, name.removeprefix(FAILED))] += number
            if usage:
                self.usage += usage
        self.store.count(self.model, counts, *[] if answered is None else [answered])
