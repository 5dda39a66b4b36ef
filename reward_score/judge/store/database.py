# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The store's SQLite database: verdicts, claims, tickets, lanes and counters. Synchronous, for one thread.

Write-ahead logging without a sync per transaction: a killed process loses nothing that was committed, and a reader
waits for nobody; a power failure may lose the last seconds. SQLite's locks need a local disk.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import JudgeSettingsError, JudgeUnavailable
from ..limits import Admission, Decision, Estimate, Held, Lane, Limits, decide, judged, settled, token_seconds
from ..metering import latency_bucket
from .owners import gone

FILE_NAME = "judge.sqlite"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x4D47524A  # "MGRJ": that a SQLite file is one of ours
BUSY_S = 60.0
"""How long a transaction waits for those of other processes."""
RECLAIM_S = 1.0
"""Lost tickets are looked for at most this often."""
EVICT_EVERY, EVICT_ROWS = 64, 128
"""Every so many verdicts the size is checked, and above the limit so many of the least recently used ones go."""
DAY_S = 86_400
SCHEMA = """
CREATE TABLE verdicts (
    key TEXT PRIMARY KEY, verdict TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL, task TEXT NOT NULL,
    created REAL NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX verdicts_by_use ON verdicts (used, created);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE tickets (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, owner TEXT NOT NULL, until REAL NOT NULL,
    tokens INTEGER NOT NULL, token_s REAL NOT NULL, cost_usd REAL NOT NULL, trial INTEGER NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX tickets_by_lane ON tickets (lane);
CREATE TABLE lanes (lane TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE counters (
    lane TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (lane, name)
) WITHOUT ROWID;
"""


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the database, made if need be; None: one in memory.

    Raises:
        JudgeSettingsError: not a file of this version's store, or it cannot be opened.
    """
    where = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    try:
        connection = sqlite3.connect(
            where, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=path is not None
        )
        try:
            _prepare(connection, where if path is None else str(path), read_only)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise JudgeSettingsError(f"judge: {path}: {error}: expected a judge's store") from None
    return connection


def _prepare(connection: sqlite3.Connection, name: str, read_only: bool) -> None:
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not empty or read_only:
        _check(connection, name)
    if read_only:
        return
    # Changing the journal is the one step that does not wait for another process that does the same.
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in SCHEMA.split(";")[:-1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    _check(connection, name)


def _check(connection: sqlite3.Connection, name: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise JudgeSettingsError(f"judge: {name}: a database of something else: expected a judge's store")
    if version != SCHEMA_VERSION:
        raise JudgeSettingsError(f"judge: {name}: a store of version {version}: expected version {SCHEMA_VERSION}")


def read_verdict(connection: sqlite3.Connection, key: str) -> tuple[dict, bool] | None:
    """(verdict, whether its day of last use is to be brought up to date), or None."""
    row = connection.execute("SELECT verdict, used FROM verdicts WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    try:
        verdict = json.loads(row[0])
    except (TypeError, ValueError):
        verdict = None
    # What is no verdict is one without scores, which the reader refuses.
    return verdict if isinstance(verdict, dict) else {}, row[1] != int(time.time()) // DAY_S


def live_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the database in use; those of removed rows, which new ones fill again, are not counted."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


class Database:
    """One connection that writes. Its methods are operations inside of `transaction`."""

    def __init__(self, path: Path | None, max_mb: float) -> None:
        self.connection = connect(path)
        self.max_bytes = max_mb * 2**20
        self.name = "memory" if path is None else str(path)
        self._reclaimed, self._puts = float("-inf"), 0
        # What a transaction read and has not written yet: many operations on a lane cost one row.
        self._lanes: dict[str, Lane] = {}
        self._changed: set[str] = set()
        self._held: dict[str, Held] = {}
        self._counts: dict[tuple[str, str], float] = {}

    def transaction(self, work: Callable[[], Any]) -> Any:
        """Run ``work`` with all that it changes, or nothing of it. JudgeUnavailable where SQLite fails."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._forget()
            try:
                result = work()
                self._write()
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise JudgeUnavailable(f"judge: store {self.name}: {error}") from None
        return result

    def get(self, key: str) -> dict | None:
        found = read_verdict(self.connection, key)
        if found and found[1]:
            self.touch(key)
        return found[0] if found else None

    def touch(self, key: str) -> None:
        self.connection.execute("UPDATE verdicts SET used = ? WHERE key = ?", (int(time.time()) // DAY_S, key))

    def claim(self, key: str, lease_s: float, owner: str) -> dict | bool:
        verdict = self.get(key)
        if verdict is not None:
            return verdict
        now = time.time()
        held = self.connection.execute("SELECT owner, until FROM claims WHERE key = ?", (key,)).fetchone()
        if held and held[1] > now and not gone(held[0]):
            return False
        self.connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, owner, now + lease_s))
        return True

    def put(self, key: str, verdict: str, about: tuple[str, str, str]) -> None:
        """Keep a verdict (JSON); of two for the same key, which a lapsed claim can lead to, the first stays."""
        now = time.time()
        row = (key, verdict, *about, now, int(now) // DAY_S)
        self.connection.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self.connection.execute("DELETE FROM claims WHERE key = ?", (key,))
        self._puts += 1
        if self._puts % EVICT_EVERY == 0 and live_bytes(self.connection) > self.max_bytes:
            remove_least_used(self.connection, EVICT_ROWS)

    def renew(self, key: str, lease_s: float, owner: str) -> None:
        self.connection.execute(
            "UPDATE claims SET until = ? WHERE key = ? AND owner = ?", (time.time() + lease_s, key, owner)
        )

    def release(self, key: str, owner: str) -> None:
        self.connection.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, owner))

    def admit(
        self, name: str, estimate: Estimate, limits: Limits, lease_s: float, within_s: float, owner: str
    ) -> Admission:
        lane = self._lane(name)

        def decided() -> Decision:
            held = self._holding(name)
            if limits.budget_usd is not None:
                held = replace(held, **self._of_others(name))
            return decide(name, lane, held, time.time(), estimate, limits, within_s)

        decision = decided()
        if not decision.granted and decision.error is None and self.reclaim():
            decision = decided()
        if decision.granted or decision.lane.open_until != lane.open_until:
            self._keep(name, decision.lane)
        if decision.error:
            raise decision.error
        if not decision.granted:
            return Admission(None, decision.wait_s)
        self._held[name] = self._holding(name).plus(estimate.cost_usd, decision.trial)
        until = decision.lane.seen + decision.wait_s + lease_s
        columns = (name, owner, until, estimate.tokens, token_seconds(limits), estimate.cost_usd, decision.trial)
        cursor = self.connection.execute(
            "INSERT INTO tickets (lane, owner, until, tokens, token_s, cost_usd, trial) VALUES (?, ?, ?, ?, ?, ?, ?)",
            columns,
        )
        return Admission(cursor.lastrowid, decision.wait_s)

    def settle(
        self, name: str, ticket: int, tokens: int | None, cost_usd: float | None, latency_s: float | None
    ) -> None:
        row = self.connection.execute(
            "SELECT tokens, token_s, cost_usd, trial, lost FROM tickets WHERE id = ? AND lane = ?", (ticket, name)
        ).fetchone()
        if row is None:
            return  # settled before
        self.connection.execute("DELETE FROM tickets WHERE id = ?", (ticket,))
        estimated, token_s, reserved_usd, trial, lost = row
        more_s = 0.0 if tokens is None else (tokens - estimated) * token_s
        self._keep(name, settled(self._lane(name), reserved_usd, cost_usd, more_s))
        if name in self._held:
            self._held[name] = self._held[name].without(reserved_usd, bool(trial), bool(lost))
        if latency_s is not None:
            self.count(name, {latency_bucket(latency_s): 1}, ())

    def abandon(self, name: str, ticket: int) -> None:
        """Give a ticket back with which nothing was sent."""
        self.settle(name, ticket, 0, 0.0, None)

    def count(self, name: str, counts: Mapping[str, float], outcomes: Sequence[bool]) -> None:
        for counter, value in counts.items():
            self._counts[name, counter] = self._counts.get((name, counter), 0.0) + value
        if outcomes:
            self._keep(name, judged(self._lane(name), time.time(), outcomes))

    def snapshot(self) -> dict[str, dict[str, float]]:
        self._write()
        return snapshot(self.connection)

    def reclaim(self) -> bool:
        """Free what processes that are gone, or late, hold; True when there was something."""
        if time.monotonic() - self._reclaimed < RECLAIM_S:
            return False
        self._reclaimed = time.monotonic()
        self._held.clear()
        owners = self.connection.execute("SELECT owner FROM claims UNION SELECT owner FROM tickets WHERE NOT lost")
        ends = [("until < ?", time.time()), *(("owner = ?", owner) for (owner,) in owners.fetchall() if gone(owner))]
        freed = 0
        for condition, value in ends:
            lost = f"UPDATE tickets SET lost = 1 WHERE NOT lost AND {condition}"
            for statement in (lost, f"DELETE FROM claims WHERE {condition}"):
                freed += self.connection.execute(statement, (value,)).rowcount
        return freed > 0

    def _lane(self, name: str) -> Lane:
        if name not in self._lanes:
            row = self.connection.execute("SELECT state FROM lanes WHERE lane = ?", (name,)).fetchone()
            self._lanes[name] = Lane(**json.loads(row[0])) if row else Lane()
        return self._lanes[name]

    def _holding(self, name: str) -> Held:
        if name not in self._held:
            row = self.connection.execute(
                "SELECT total(NOT lost), total(iif(lost, 0, cost_usd)), total(trial AND NOT lost),"
                " total(iif(lost, cost_usd, 0)) FROM tickets WHERE lane = ?",
                (name,),
            ).fetchone()
            self._held[name] = Held(int(row[0]), row[1], int(row[2]), row[3])
        return self._held[name]

    def _of_others(self, name: str) -> dict[str, float]:
        """Dollars of all other lanes, for `Held`."""
        names = self.connection.execute("SELECT lane FROM lanes WHERE lane <> ?", (name,)).fetchall()
        others = [self._lane(other) for other in {*(other for (other,) in names), *self._changed} - {name}]
        lost, held = self.connection.execute(
            "SELECT total(iif(lost, cost_usd, 0)), total(iif(lost, 0, cost_usd)) FROM tickets WHERE lane <> ?", (name,)
        ).fetchone()
        ledger = sum(other.confirmed_usd + other.unconfirmed_usd for other in others)
        return {"others_spent_usd": ledger + lost, "others_usd": held}

    def _keep(self, name: str, lane: Lane) -> None:
        self._lanes[name] = lane
        self._changed.add(name)

    def _forget(self) -> None:
        for known in (self._lanes, self._changed, self._held, self._counts):
            known.clear()

    def _write(self) -> None:
        """What the operations of this transaction left to write."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO lanes VALUES (?, ?)",
            [(name, json.dumps(vars(self._lanes[name]))) for name in self._changed],
        )
        self.connection.executemany(
            "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [(*where, value) for where, value in self._counts.items()],
        )
        self._forget()


def snapshot(connection: sqlite3.Connection) -> dict[str, dict[str, float]]:
    """All counters by lane, the ledger's dollars among them."""
    found: dict[str, dict[str, float]] = {}
    for name, counter, value in connection.execute("SELECT lane, name, value FROM counters").fetchall():
        found.setdefault(name, {})[counter] = value
    lost = dict(connection.execute("SELECT lane, total(cost_usd) FROM tickets WHERE lost GROUP BY lane").fetchall())
    for name, state in connection.execute("SELECT lane, state FROM lanes").fetchall():
        lane = Lane(**json.loads(state))
        ledger = {"cost_usd": lane.confirmed_usd, "unconfirmed_usd": lane.unconfirmed_usd + lost.get(name, 0.0)}
        found.setdefault(name, {}).update(ledger)
    return found


def remove_least_used(connection: sqlite3.Connection, rows: int) -> int:
    """Remove so many verdicts, the least recently used first; how many there were."""
    chosen = "SELECT key FROM verdicts ORDER BY used, created LIMIT ?"
    return connection.execute(f"DELETE FROM verdicts WHERE key IN ({chosen})", (rows,)).rowcount
