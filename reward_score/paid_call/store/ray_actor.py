# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The owner of a folder for Ray's workers: one named actor on the head node, which asks for all nodes.

Whoever comes first makes the actor, and it ends with its maker. Then the next one who asks makes another: what the
first one owned is in the folder. Questions that were under way are asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import CallError, CallUnavailable
from .owner import Store, own_store

NAMESPACE = "medgrpo"
AGAIN_S, LOST_S = 0.5, 60.0
"""How often, and for how long, a caller whose actor is gone looks for another one."""
HEAD = {"node:__internal_head__": 0.001}
"""Of the resource that Ray gives to its head node alone."""


class Owner:
    """What runs in the actor. Failures of calls come back as values, because Ray would wrap what is raised.

    Args:
        folder, max_mb: as in `open_store`.
    """

    def __init__(self, folder: str, max_mb: float) -> None:
        self._folder, self._max_mb = Path(folder), max_mb
        self._callers: dict[str, Any] = {}

    @cached_property
    def _store(self) -> Store:
        return own_store(self._folder, self._max_mb)

    async def outcome(self, kind: type, settings: Mapping[str, Any], question: Mapping[str, Any]) -> Any:
        """What `Caller.outcome` of a caller of this kind and these settings returns."""
        try:
            which = f"{self._store} {kind} {sorted(settings.items())}"  # opened, so that the caller finds it
            if which not in self._callers:
                self._callers[which] = kind(**settings, store=str(self._folder))
            return await self._callers[which].outcome(question)
        except CallError as error:
            return error

    async def count(self, lane: str, counts: Mapping[str, float]) -> None:
        """Add to the counters."""
        with contextlib.suppress(CallError):  # `outcome` and `snapshot` tell it
            self._store.count(lane, counts)

    async def snapshot(self) -> Any:
        """All counters by lane."""
        try:
            return await self._store.snapshot()
        except CallError as error:
            return error


class RayStore:
    """A folder's store as a task or an actor of Ray sees it. An actor that is lost is CallUnavailable.

    Args:
        folder: absolute, on the head node's local disk.
        max_mb: as in `open_store`; that of the actor's maker holds.
    """

    def __init__(self, folder: Path, max_mb: float) -> None:
        self.folder, self._max_mb = folder, max_mb
        self._actor = self._find()

    def _find(self) -> Any:
        import ray

        # Questions that wait for a limit wait in the actor, and must leave room for those who give one back.
        made = ray.remote(Owner).options(
            name="call-store-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:16],
            namespace=NAMESPACE,
            get_if_exists=True,
            num_cpus=0,
            resources=HEAD,
            max_concurrency=100_000,
        )
        return made.remote(str(self.folder), self._max_mb)

    async def outcome(self, kind: type, settings: Mapping[str, Any], question: Mapping[str, Any]) -> Any:
        """What `Caller.outcome` of a caller of this kind and these settings returns in the actor.

        Raises:
            CallError: the caller cannot be made there, or the store fails.
        """
        return await self._ask("outcome", kind, dict(settings), dict(question))

    def count(self, lane: str, counts: Mapping[str, float]) -> None:
        """Add to the lane's counters, without waiting."""
        self._actor.count.remote(lane, dict(counts))

    async def snapshot(self) -> dict[str, dict[str, float]]:
        """All counters by lane, with what this process counted before."""
        return await self._ask("snapshot")

    async def close(self) -> None:
        """Wait until what was counted is there. The actor goes on: others use it."""
        await self.snapshot()

    async def _ask(self, method: str, *args: Any) -> Any:
        import ray

        until = time.monotonic() + LOST_S
        while True:
            reference = getattr(self._actor, method).remote(*args)
            try:
                answer = await asyncio.shield(asyncio.wrap_future(reference.future()))
                break
            except asyncio.CancelledError:
                ray.cancel(reference)
                raise
            except ray.exceptions.RayError as error:
                lost = isinstance(error, ray.exceptions.RayActorError)
                if not lost or time.monotonic() > until:
                    told = f"{type(error).__name__}: the actor that owns it is lost"
                    raise CallUnavailable(f"store {self.folder}: {told}") from None
            await asyncio.sleep(AGAIN_S)
            self._actor = await asyncio.to_thread(self._find)
        if isinstance(answer, CallError):
            raise answer
        return answer
