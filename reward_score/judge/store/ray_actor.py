# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A store for the processes of several nodes: a Ray actor that owns the store of a folder.

One process calls `create` before the others look for it with ``open_store("ray:/folder")``, and keeps what it gets:
the actor ends with the last handle of its maker. What it owns is in the folder, and survives it.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import JudgeError, JudgeSettingsError, JudgeUnavailable
from ..limits import Admission, Estimate, Limits
from . import owners
from .sqlite import FLUSH_S, Counts, SqliteStore

NAMESPACE = "medgrpo"
FIND_S = 60.0
"""How long a client waits for the actor to be made."""
RESTART_S, AGAIN_S = 60.0, 0.5
"""How long, and how often, a client asks an actor that is being restarted. What took place twice then is a claim or a
ticket whose lease ends it, its dollars booked as unconfirmed."""


class _Restarting(JudgeUnavailable):
    """The actor will be back."""


class StoreActor:
    """What runs in the actor: the folder's store, and failures as values, which arrive as they were raised."""

    def __init__(self, folder: str, max_mb: float) -> None:
        self._store = SqliteStore(Path(folder), max_mb)

    async def ready(self) -> None:
        """Nothing; it returns when the store is open."""

    async def call(self, method: str, counted: list[tuple], *args: Any) -> tuple[Any, tuple | None]:
        """(result, None) or (None, (error's name, message)) of one method, after the caller's counters."""
        self._add(counted)
        try:
            return await getattr(self._store, method)(*args), None
        except JudgeError as error:
            return None, (type(error).__name__, str(error))

    async def count(self, counted: list[tuple]) -> None:
        self._add(counted)

    def _add(self, counted: list[tuple]) -> None:
        for lane, counts, outcomes in counted:
            self._store.add(lane, counts, outcomes)


class RayStore:
    """A client of the actor. See `Store`; a lost actor is JudgeUnavailable."""

    def __init__(self, actor: Any, name: str) -> None:
        self._actor, self._name, self._me = actor, name, owners.me()
        self._counts = Counts()
        self._ended = threading.Event()
        # The thread refers to what it needs and not to the client, so that a forgotten client can go.
        parts = (actor, self._counts, self._ended)
        self._thread = threading.Thread(target=_send_counts, args=parts, name="judge-counts", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._ended.set)

    def __repr__(self) -> str:
        return f"RayStore({self._name!r})"

    async def get(self, key: str) -> dict | None:
        return await self._ask("get", key)

    async def claim(self, key: str, lease_s: float) -> dict | bool:
        def undo(found: Any) -> tuple | None:
            return ("release", key, self._me) if found is True else None

        return await self._ask("claim", key, lease_s, self._me, undo=undo)

    async def put(self, key: str, verdict: dict, about: dict) -> None:
        await self._ask("put", key, verdict, about)

    async def renew(self, key: str, lease_s: float) -> None:
        await self._ask("renew", key, lease_s, self._me)

    async def release(self, key: str) -> None:
        await self._ask("release", key, self._me)

    async def admit(self, lane: str, estimate: Estimate, limits: Limits, lease_s: float, within_s: float) -> Admission:
        def undo(found: Any) -> tuple | None:
            return ("settle", lane, found.ticket, 0, 0.0, None) if found and found.ticket else None

        return await self._ask("admit", lane, estimate, limits, lease_s, within_s, self._me, undo=undo)

    async def settle(
        self, lane: str, ticket: int, tokens: int | None, cost_usd: float | None, latency_s: float | None
    ) -> None:
        await self._ask("settle", lane, ticket, tokens, cost_usd, latency_s)

    def count(self, lane: str, counts: Mapping[str, float], judged: bool | None = None) -> None:
        self._counts.add(lane, counts, [] if judged is None else [judged])

    async def snapshot(self) -> dict[str, dict[str, float]]:
        return await self._ask("snapshot")

    async def close(self) -> None:
        """Send what was counted. The actor goes on: others use it."""
        self._ended.set()
        counted = self._counts.take()
        if counted:
            try:
                await self._reply(self._actor.count.remote(counted))
            except _Restarting as error:
                raise JudgeUnavailable(str(error)) from None

    async def _ask(self, method: str, *args: Any, undo: Callable[[Any], tuple | None] | None = None) -> Any:
        """A method's result. ``undo``: of a result that a cancelled caller does not get, the call that reverts it."""
        counted, until = self._counts.take(), time.monotonic() + RESTART_S
        reference = self._actor.call.remote(method, counted, *args)
        try:
            while True:
                try:
                    value, failure = await self._reply(reference)
                    break
                except _Restarting as error:
                    if time.monotonic() > until:
                        for lane in counted:
                            self._counts.add(*lane)
                        raise JudgeUnavailable(str(error)) from None
                # What was paid for must not be lost with a restart.
                await asyncio.sleep(AGAIN_S)
                reference = self._actor.call.remote(method, counted, *args)
        except asyncio.CancelledError:
            if undo:
                actor = self._actor

                def undone(done: Future) -> None:
                    if done.exception() is None and (call := undo(done.result()[0])):
                        actor.call.remote(call[0], [], *call[1:])

                reference.future().add_done_callback(undone)
            raise
        if failure:
            name, message = failure
            raise getattr(errors, name)(message)
        return value

    async def _reply(self, reference: Any) -> Any:
        import ray

        try:
            return await asyncio.shield(asyncio.wrap_future(reference.future()))
        except ray.exceptions.ActorUnavailableError:
            raise _Restarting(f"judge: store {self._name}: its actor is being restarted") from None
        except ray.exceptions.RayError as error:
            raise JudgeUnavailable(f"judge: store {self._name}: {type(error).__name__}: its actor is lost") from None


def create(folder: str | Path, max_mb: float | None = None) -> RayStore:
    """Make the actor of a folder on this process's node, or find the one that is there.

    Keep the result for as long as the store is needed.

    Args:
        folder: absolute, on this node's local disk.
        max_mb: as for `open_store`.

    Raises:
        JudgeSettingsError: the folder's store cannot be opened, or Ray is not running.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from . import MAX_MB

    folder = _absolute(folder)
    _check_ray(ray, folder)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    made = ray.remote(StoreActor).options(
        name=actor_name(folder),
        namespace=NAMESPACE,
        get_if_exists=True,
        num_cpus=0,
        max_restarts=3,
        # Callers that wait for a slot wait in the actor, and must leave room for those who give one back.
        max_concurrency=100_000,
        scheduling_strategy=here,
    )
    actor = made.remote(folder, MAX_MB if max_mb is None else max_mb)
    try:
        ray.get(actor.ready.remote())
    except ray.exceptions.RayError as error:
        # The actor's own error is at the end of what Ray tells about it.
        told = str(error).strip().splitlines()[-1]
        raise JudgeSettingsError(f"judge: store ray:{folder}: its actor cannot start: {told}") from None
    return RayStore(actor, f"ray:{folder}")


def connect(folder: str | Path, wait_s: float = FIND_S) -> RayStore:
    """A client of the folder's actor, for which it waits so many seconds.

    Raises:
        JudgeSettingsError: Ray is not running here, or nobody made the actor in time.
    """
    import ray

    folder = _absolute(folder)
    _check_ray(ray, folder)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return RayStore(ray.get_actor(actor_name(folder), namespace=NAMESPACE), f"ray:{folder}")
        except ValueError:
            if time.monotonic() > deadline:
                raise JudgeSettingsError(
                    f"judge: store ray:{folder}: no actor after {wait_s:.0f} s: "
                    "the driver has to call reward_score.judge.store.ray_actor.create with this folder first"
                ) from None
        time.sleep(0.2)


def actor_name(folder: str) -> str:
    """The actor's name, the same in every process for the same folder."""
    return "judge-store-" + hashlib.sha256(folder.encode()).hexdigest()[:16]


def _absolute(folder: str | Path) -> str:
    if not str(folder).startswith("/"):
        raise JudgeSettingsError(f"judge: store ray:{folder}: expected ray: and an absolute folder")
    return str(Path(folder))


def _check_ray(ray: Any, folder: str) -> None:
    if not ray.is_initialized():
        raise JudgeSettingsError(f"judge: store ray:{folder}: Ray is not running in this process: use a folder")


def _send_counts(actor: Any, counts: Counts, ended: threading.Event) -> None:
    last = False
    while not last:
        last = ended.wait(FLUSH_S)
        if counts:
            try:
                actor.count.remote(counts.take())
            except Exception:  # Ray was shut down: there is nobody left to tell, or to count for
                return
