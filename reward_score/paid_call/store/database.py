# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The store's SQLite database: what must survive a kill, which is replies, money and counters.

One process owns a folder and writes to it; others may read. Write-ahead logging without a sync per transaction: a
killed process loses nothing that was committed, and a reader waits for nobody. A power failure may lose the last
seconds. SQLite's locks need a local disk.

A call's highest cost is in ``reserved`` before the call is sent. Its owner removes it when the call is over; the next
owner finds what a killed one left there and books it as ``unconfirmed_usd``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CallSettingsError, CallUnavailable

FILE_NAME, LOCK_NAME = "judge.sqlite", "judge.lock"
"""Named after the first who paid, as the tables below are: stores of earlier versions keep their names."""
SCHEMA_VERSION = 2
APPLICATION_ID = 0x4D47524A  # "MGRJ": that a SQLite file is one of ours
EVICT_EVERY, EVICT_ROWS = 64, 128
"""The size is checked after this many replies; above the limit this many of the least recently used ones go."""
DAY_S = 86_400
VERDICTS = """
CREATE TABLE verdicts (
    key TEXT PRIMARY KEY, verdict TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL, task TEXT NOT NULL,
    created REAL NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX verdicts_by_use ON verdicts (used, created);
CREATE TABLE counters (
    lane TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (lane, name)
) WITHOUT ROWID;
"""
MONEY = """
CREATE TABLE ledger (lane TEXT PRIMARY KEY, cost_usd REAL NOT NULL, unconfirmed_usd REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE reserved (ticket INTEGER PRIMARY KEY, lane TEXT NOT NULL, usd REAL NOT NULL);
"""
LEDGER_OF_VERSION_1 = """
SELECT lane, state ->> 'confirmed_usd',
    (state ->> 'unconfirmed_usd') + (SELECT total(cost_usd) FROM tickets WHERE tickets.lane = lanes.lane) FROM lanes
"""
"""Version 1 kept a lane's dollars with its pace, and the highest cost of each call under way as a ticket."""
FROM_VERSION_1 = f"""
INSERT INTO ledger {LEDGER_OF_VERSION_1};
DROP TABLE claims; DROP TABLE tickets; DROP TABLE lanes;
"""
BOOK = """
INSERT INTO ledger VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET
    cost_usd = cost_usd + excluded.cost_usd, unconfirmed_usd = unconfirmed_usd + excluded.unconfirmed_usd
"""
_HELD: set[Path] = set()
"""Folders that this process owns. The system's lock would let the same process in twice."""


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own a folder: until the end of the block or of the process, nobody else may.

    Raises:
        CallSettingsError: somebody owns it already.
    """
    folder = folder.resolve()
    if folder in _HELD:
        raise CallSettingsError(f"{folder}: this process, or the one it was forked from, has the store open already")
    with open(folder / LOCK_NAME, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise CallSettingsError(
                f"{folder}: {file.read().strip() or 'another process'} has the store open: expected one process "
                "at a time, or the workers of one Ray cluster"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        _HELD.add(folder)
        try:
            yield
        finally:
            _HELD.discard(folder)


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the database, made if need be; None: one in memory.

    Raises:
        CallSettingsError: not a file of this version's store, or it cannot be opened.
    """
    where = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    try:
        connection = sqlite3.connect(where, isolation_level="IMMEDIATE", check_same_thread=False, uri=path is not None)
        try:
            _prepare(connection, where if path is None else str(path), read_only)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise CallSettingsError(f"{path}: {error}: expected a store of paid calls") from None
    return connection


def _prepare(connection: sqlite3.Connection, name: str, read_only: bool) -> None:
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if _pragma(connection, "application_id") != APPLICATION_ID and (read_only or not empty):
        raise CallSettingsError(f"{name}: a database of something else: expected a store of paid calls")
    version = SCHEMA_VERSION if empty else _pragma(connection, "user_version")
    if version not in (1, SCHEMA_VERSION):
        raise CallSettingsError(f"{name}: a store of version {version}: expected version {SCHEMA_VERSION}")
    if read_only:
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if empty or version == 1:
        made = VERDICTS + MONEY if empty else MONEY + FROM_VERSION_1
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        connection.executescript(f"BEGIN IMMEDIATE; {made} {marks} COMMIT;")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def live_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the database in use; those of removed rows, which new ones fill again, are not counted."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def remove_least_used(connection: sqlite3.Connection, rows: int) -> int:
    """Remove so many replies, the least recently used first; how many there were."""
    chosen = "SELECT key FROM verdicts ORDER BY used, created LIMIT ?"
    return connection.execute(f"DELETE FROM verdicts WHERE key IN ({chosen})", (rows,)).rowcount


def snapshot(connection: sqlite3.Connection) -> dict[str, dict[str, float]]:
    """All counters by lane, the ledger's dollars among them."""
    found: dict[str, dict[str, float]] = {}
    for lane, name, value in connection.execute("SELECT lane, name, value FROM counters").fetchall():
        found.setdefault(lane, {})[name] = value
    ledger = LEDGER_OF_VERSION_1 if _pragma(connection, "user_version") == 1 else "SELECT * FROM ledger"
    for lane, cost_usd, unconfirmed_usd in connection.execute(ledger).fetchall():
        found.setdefault(lane, {}).update(cost_usd=cost_usd, unconfirmed_usd=unconfirmed_usd)
    return found


class Database:
    """The owner's connection, for one thread at a time. CallUnavailable where it is closed or SQLite fails.

    Args:
        folder: where the database is, made if need be; None: in memory.
        max_mb: megabytes above which the least recently used replies go.

    Raises:
        CallSettingsError: another process owns the folder, or no store can be opened there.
    """

    def __init__(self, folder: Path | None, max_mb: float) -> None:
        self.folder, self._max_bytes, self._puts = folder, max_mb * 2**20, 0
        self._lock, self._pid, self._users = threading.RLock(), os.getpid(), 1
        path = None if folder is None else folder / FILE_NAME
        self._name = path or "memory"
        with contextlib.ExitStack() as stack:
            if folder is not None:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(owned(folder))
                except OSError as error:
                    raise CallSettingsError(f"{folder}: {error.strerror}: expected a folder") from None
            self._connection = connect(path)
            stack.callback(self._connection.close)
            self._close = weakref.finalize(self, _close, stack.pop_all(), self._pid)
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO ledger SELECT lane, 0, sum(usd) FROM reserved WHERE true GROUP BY lane"
                " ON CONFLICT DO UPDATE SET unconfirmed_usd = unconfirmed_usd + excluded.unconfirmed_usd"
            )
            connection.execute("DELETE FROM reserved")

    def _locked(self) -> contextlib.AbstractContextManager[bool]:
        """The lock of a store that is open."""
        if self._pid != os.getpid():  # before the lock, which a fork may have copied while it was held
            raise CallSettingsError("this process was forked from the one that has the store open")
        if not self._close.alive:
            raise CallUnavailable("the store is closed")
        return self._lock

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._locked():
            try:
                with self._connection:
                    yield self._connection
            except sqlite3.Error as error:
                raise CallUnavailable(f"store {self._name}: {error}") from None

    def get(self, key: str) -> dict | None:
        """A kept reply, or None; reading it counts as its use today."""
        with self._transaction() as connection:
            row = connection.execute("SELECT verdict, used FROM verdicts WHERE key = ?", (key,)).fetchone()
            today = int(time.time()) // DAY_S
            if row and row[1] != today:
                connection.execute("UPDATE verdicts SET used = ? WHERE key = ?", (today, key))
        try:
            reply = row and json.loads(row[0])
        except (TypeError, ValueError):
            reply = {}
        # What is no reply is an empty one, which the reader refuses.
        return reply if reply is None or isinstance(reply, dict) else {}

    def put(self, key: str, reply: Mapping[str, Any], about: Mapping[str, str]) -> None:
        """Keep a reply; of two the first stays. ``about``: ``model``, ``prompt``, ``task``, for the statistics."""
        now = time.time()
        told = [str(about.get(name, "")) for name in ("model", "prompt", "task")]
        row = (key, json.dumps(reply, allow_nan=False), *told, now, int(now) // DAY_S)
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._puts += 1
            if self._puts % EVICT_EVERY == 0 and live_bytes(connection) > self._max_bytes:
                remove_least_used(connection, EVICT_ROWS)

    def count(self, lane: str, counts: Mapping[str, float]) -> None:
        """Add to the lane's counters."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                [(lane, name, value) for name, value in counts.items()],
            )

    async def snapshot(self) -> dict[str, dict[str, float]]:
        """All counters by lane since the store was made, the ledger's dollars among them."""
        with self._transaction() as connection:
            return snapshot(connection)

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


def _close(resources: contextlib.ExitStack, pid: int) -> None:
    if pid == os.getpid():  # in a forked child SQLite must not be touched
        resources.close()
