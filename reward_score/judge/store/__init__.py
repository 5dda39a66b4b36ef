# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What all clients of a judge share: kept verdicts, limits, the ledger and the counters.

A store is private to a process (`open_store(None)`), shared by the processes of one host (a folder), or by those of
several nodes (``ray:/folder``: a Ray actor that owns the folder). A *lane* is a model's name: limits, ledger and
counters hold per lane.

Who writes which counter: `Store.settle` writes ``cost_usd``, ``unconfirmed_usd`` and the latency histogram; all the
others (``judgements``, ``calls``, ``prompt_tokens``, ...) come through `Store.count`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ..errors import JudgeSettingsError
from ..limits import Admission, Estimate, Limits
from .sqlite import SqliteStore

RAY_PREFIX = "ray:"
MAX_MB = 2_048.0


class Store(Protocol):
    """The shared state. Failures of the store itself are JudgeUnavailable, never a verdict."""

    async def get(self, key: str) -> dict | None:
        """A kept verdict, or None."""

    async def claim(self, key: str, lease_s: float) -> dict | bool:
        """The verdict, True (it is the caller's to judge, within ``lease_s`` seconds), or False (another is at it)."""

    async def put(self, key: str, verdict: dict, about: dict) -> None:
        """Keep a verdict and end the claim. ``about``: ``model``, ``prompt``, ``task``, for the statistics."""

    async def renew(self, key: str, lease_s: float) -> None:
        """Keep a claim of this process for so many seconds from now."""

    async def release(self, key: str) -> None:
        """End a claim of this process without a verdict."""

    async def admit(self, lane: str, estimate: Estimate, limits: Limits, lease_s: float, within_s: float) -> Admission:
        """Reserve a call: a slot, its place in the pace, its dollars.

        Args:
            lease_s: seconds after its sending when an unsettled call counts as lost.
            within_s: the longest wait for the pace.

        Returns:
            The ticket to settle, and when to send. Without a ticket nothing is reserved: slots or dollars are with
            calls under way, or a trial call is. The caller has then waited here for some seconds, and asks again.

        Raises:
            JudgeBudgetExceeded: what was spent leaves too little for this call.
            JudgeUnavailable: the breaker is open.
            JudgeRateLimited: the pace would make it wait longer than ``within_s``.
        """

    async def settle(
        self, lane: str, ticket: int, tokens: int | None, cost_usd: float | None, latency_s: float | None
    ) -> None:
        """Free a call's slot, and correct pace and ledger by what it took.

        None where it is unknown (a timeout, a broken reply): the estimate then stays spent, as ``unconfirmed_usd``.
        A call that was never sent settles with zeros. Settling twice is harmless.
        """

    def count(self, lane: str, counts: Mapping[str, float], judged: bool | None = None) -> None:
        """Add to the lane's counters, without waiting.

        Args:
            judged: feeds the breaker: True for a judgement that the endpoint answered (a refusal is an answer), False
                for one that failed for the infrastructure's sake, None for what did not ask it (blank, cached).
        """

    async def snapshot(self) -> dict[str, dict[str, float]]:
        """All counters by lane since the store was made, those of this process up to now."""

    async def close(self) -> None:
        """Write what is left, and let go. A store that is not closed does so when its process ends."""


def open_store(where: str | None, max_mb: float = MAX_MB) -> Store:
    """A client of the store at ``where``.

    Args:
        where: None for one in this process's memory; a folder, made if need be, on a local disk; or ``ray:/folder``
            for the actor of `ray_actor.create`, for which it waits up to a minute.
        max_mb: megabytes of the database above which the least recently used verdicts go, never the ledger. Not for
            ``ray:``, where the actor's maker says it.

    Raises:
        JudgeSettingsError: nothing that can be opened as a store is there.
    """
    if where is not None and not str(where).strip():
        raise JudgeSettingsError("judge: store is empty: expected a folder, ray:/folder, or None")
    if not max_mb > 0:
        raise JudgeSettingsError(f"judge: max_mb is {max_mb!r}: expected more than 0")
    if where is not None and str(where).startswith(RAY_PREFIX):
        from .ray_actor import connect

        return connect(str(where).removeprefix(RAY_PREFIX))
    return SqliteStore(None if where is None else Path(where), max_mb)
