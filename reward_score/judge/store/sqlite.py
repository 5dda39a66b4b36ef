# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A store in one SQLite database, shared by the processes of a host: the asynchronous side of `database`.

One thread per store does all that writes. It takes whatever is waiting into one transaction, so that many callers
cost little more than one, and answers them when the transaction is in. Counters need no answer: they are added up and
written with the next transaction, or a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..errors import JudgeError, JudgeSettingsError, JudgeUnavailable
from ..limits import Admission, Estimate, Limits
from . import owners
from .database import FILE_NAME, Database, connect, read_verdict
from .queueing import Queue

FLUSH_S = 0.1
"""Counters are written at the latest so long after they were counted."""
MAX_BATCH = 256
"""Operations in one transaction, which other processes wait for."""
Operation = Callable[[Database], Any]


class Counts:
    """Counters of this process that are not in the database yet, and judgements for the breaker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, float]] = {}
        self._outcomes: dict[str, list[bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts or self._outcomes)

    def add(self, lane: str, counts: Mapping[str, float], outcomes: list[bool]) -> None:
        with self._lock:
            mine = self._counts.setdefault(lane, defaultdict(float))
            for name, value in counts.items():
                mine[name] += value
            if outcomes:
                self._outcomes.setdefault(lane, []).extend(outcomes)

    def take(self) -> list[tuple[str, dict[str, float], list[bool]]]:
        """All of it, by lane; it is the caller's to write, or to add again."""
        with self._lock:
            counts, outcomes = self._counts, self._outcomes
            self._counts, self._outcomes = {}, {}
        return [(lane, dict(values), outcomes.get(lane, [])) for lane, values in counts.items()]


class Worker:
    """The thread that owns the database connection."""

    def __init__(self, database: Database) -> None:
        self.database, self.counts = database, Counts()
        self._wake = threading.Condition()
        self._waiting: list[tuple[Operation, Future]] = []
        self._flush_at: float | None = None
        self._thread: threading.Thread | None = None
        self._stopped, self._pid = False, os.getpid()

    def submit(self, operation: Operation) -> Future:
        self.check_process()  # before the lock, which a fork may have copied while it was held
        future: Future = Future()
        with self._wake:
            self._start()
            self._waiting.append((operation, future))
            self._wake.notify()
        return future

    def count(self, lane: str, counts: Mapping[str, float], outcomes: list[bool]) -> None:
        self.check_process()
        self.counts.add(lane, counts, outcomes)
        with self._wake:
            self._start()
            if self._flush_at is None:
                self._flush_at = time.monotonic() + FLUSH_S
                self._wake.notify()

    def stop(self) -> None:
        """Do what is waiting, write the counters, close the connection. Again: nothing."""
        if self._pid != os.getpid():
            return
        with self._wake:
            if self._stopped:
                return
            self._stopped = True
            self._wake.notify()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()
        if not self._thread:
            self.database.connection.close()

    def check_process(self) -> None:
        """JudgeSettingsError in a forked child: SQLite's connections and our thread do not go along."""
        if self._pid != os.getpid():
            raise JudgeSettingsError("judge: the store was opened before this process was forked: open it here")

    def _start(self) -> None:
        if self._stopped:
            raise JudgeUnavailable("judge: the store is closed")
        if self._thread is None:
            # A daemon, so that a store that nobody closes does not keep its process; `stop` runs at exit.
            self._thread = threading.Thread(target=self._run, name="judge-store", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopped:
                    left = None if self._flush_at is None else self._flush_at - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    self._wake.wait(left)
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                last = self._stopped and not self._waiting
                self._flush_at = None
            self._batch(batch)
            if last:
                self.database.connection.close()
                return

    def _batch(self, batch: list[tuple[Operation, Future]]) -> None:
        counts = self.counts.take()
        results: list[tuple[Any, BaseException | None]] = []

        def work() -> None:
            for lane in counts:
                self.database.count(*lane)
            for operation, _ in batch:
                try:
                    results.append((operation(self.database), None))
                except JudgeError as error:  # an answer, which the operation found before it changed anything
                    results.append((None, error))

        try:
            self.database.transaction(work)
        except Exception as error:
            results = [(None, _another(error)) for _ in batch]
            for lane in counts:
                self.counts.add(*lane)
            with self._wake:
                self._flush_at = time.monotonic() + FLUSH_S
        for (_, future), (value, error) in zip(batch, results, strict=True):
            future.set_exception(error) if error else future.set_result(value)


class SqliteStore:
    """The store of a folder, or (None) of this process's memory. See `Store`.

    ``owner``, where a method takes it, is the process that holds the claim or ticket: this one, unless another one
    asks through it.
    """

    def __init__(self, folder: Path | None, max_mb: float) -> None:
        path = None
        if folder is not None:
            path = Path(folder) / FILE_NAME
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise JudgeSettingsError(f"judge: {folder}: {error.strerror}: expected a folder") from None
        self.folder = folder
        self._me = owners.me()
        database = Database(path, max_mb)
        database.transaction(database.reclaim)
        self._worker = Worker(database)
        self._stop = weakref.finalize(self, self._worker.stop)
        self._reader = None if path is None else connect(path, read_only=True)
        if self._reader:
            self._reader.execute("PRAGMA busy_timeout = 0")
        self._reading = threading.Lock()
        self._queues: dict[str, Queue] = defaultdict(Queue)

    def __repr__(self) -> str:
        return f"SqliteStore({'in memory' if self.folder is None else str(self.folder)!r})"

    async def get(self, key: str) -> dict | None:
        if self._reader:
            self._worker.check_process()
            try:
                # A read of some 20 us waits for nobody; handing it to the thread and back takes longer.
                with self._reading:
                    found = read_verdict(self._reader, key)
            except sqlite3.Error:
                pass  # locked for a moment while the journal is restarted, or truly broken: the thread finds out
            else:
                if found and found[1]:
                    self._worker.submit(lambda database: database.touch(key))
                return found[0] if found else None
        return await self._ask(lambda database: database.get(key))

    async def claim(self, key: str, lease_s: float, owner: str | None = None) -> dict | bool:
        owner = owner or self._me
        return await self._ask(
            lambda database: database.claim(key, lease_s, owner),
            undo=lambda database, found: found is True and database.release(key, owner),
        )

    async def put(self, key: str, verdict: dict, about: dict) -> None:
        text = json.dumps(verdict, allow_nan=False)
        row = tuple(str(about.get(name, "")) for name in ("model", "prompt", "task"))
        await self._ask(lambda database: database.put(key, text, row))

    async def renew(self, key: str, lease_s: float, owner: str | None = None) -> None:
        owner = owner or self._me
        await self._ask(lambda database: database.renew(key, lease_s, owner))

    async def release(self, key: str, owner: str | None = None) -> None:
        owner = owner or self._me
        await self._ask(lambda database: database.release(key, owner))

    async def admit(
        self,
        lane: str,
        estimate: Estimate,
        limits: Limits,
        lease_s: float,
        within_s: float,
        owner: str | None = None,
    ) -> Admission:
        queue = self._queues[lane]
        if queue.full and not await queue.turn():
            return Admission(None, 0.0)
        owner = owner or self._me
        try:
            admission = await self._ask(
                lambda database: database.admit(lane, estimate, limits, lease_s, within_s, owner),
                undo=lambda database, found: found.ticket is None or database.abandon(lane, found.ticket),
            )
        except BaseException:
            queue.next()  # what stops this caller stops those who wait, or they may go in its place
            raise
        if admission.ticket is None:
            queue.look_again(admission.wait_s)
            return Admission(None, 0.0)
        queue.next()  # there may be another slot that another process gave back
        return admission

    async def settle(
        self, lane: str, ticket: int, tokens: int | None, cost_usd: float | None, latency_s: float | None
    ) -> None:
        try:
            await self._ask(lambda database: database.settle(lane, ticket, tokens, cost_usd, latency_s))
        finally:
            self._queues[lane].next()

    def count(self, lane: str, counts: Mapping[str, float], judged: bool | None = None) -> None:
        self.add(lane, counts, [] if judged is None else [judged])

    def add(self, lane: str, counts: Mapping[str, float], outcomes: list[bool]) -> None:
        """Counters and judgements that were added up elsewhere."""
        self._worker.count(lane, counts, outcomes)

    async def snapshot(self) -> dict[str, dict[str, float]]:
        return await self._ask(lambda database: database.snapshot())

    async def close(self) -> None:
        await asyncio.to_thread(self._stop)
        with self._reading:
            if self._reader:
                self._reader.close()

    async def _ask(self, operation: Operation, undo: Callable[[Database, Any], Any] | None = None) -> Any:
        """The operation's result. It takes place even when the caller is cancelled, and is then undone."""
        future = self._worker.submit(operation)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if undo:
                worker = self._worker

                def undone(done: Future) -> None:
                    if done.exception() is None:
                        with contextlib.suppress(JudgeError):  # closed meanwhile: the lease ends it
                            worker.submit(lambda database: undo(database, done.result()))

                future.add_done_callback(undone)
            raise


def _another(error: Exception) -> Exception:
    """An error of its own for each caller: who catches it may write to it."""
    return type(error)(str(error)) if isinstance(error, JudgeError) else error
