# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What `python -m reward_score.judge cache` does with the store of a folder: look, copy out, remove.

A run may use the folder while it is looked at or copied out. Who removes has to own it, so a run has to be over. Only
replies are removed. The ledger stays: what was spent was spent.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import CallSettingsError
from .database import DAY_S, EVICT_ROWS, FILE_NAME, connect, live_bytes, owned, remove_least_used, snapshot

COLUMNS = ("key", "model", "prompt", "task", "created", "verdict")


@contextlib.contextmanager
def opened(folder: Path, *, read_only: bool) -> Iterator[sqlite3.Connection]:
    """The database of a store that is there.

    Raises:
        CallSettingsError: none is there; or it is to be written and somebody else has it open.
    """
    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise CallSettingsError(f"{folder}: no {FILE_NAME} here: expected a store of paid calls")
    with contextlib.nullcontext() if read_only else owned(Path(folder)):
        connection = connect(path, read_only=read_only)
        try:
            yield connection
        except sqlite3.Error as error:
            raise CallSettingsError(f"{path}: {error}") from None
        finally:
            connection.close()


def statistics(folder: Path) -> dict[str, Any]:
    """Replies by model, prompt and task, their times (seconds since 1970), bytes, ledger and counters by lane."""
    with opened(folder, read_only=True) as connection:
        groups = connection.execute(
            "SELECT model, prompt, task, count(*) FROM verdicts GROUP BY model, prompt, task ORDER BY 1, 2, 3"
        ).fetchall()
        oldest, newest = connection.execute("SELECT min(created), max(created) FROM verdicts").fetchone()
        return {
            "verdicts": [dict(zip(("model", "prompt", "task", "n"), group, strict=True)) for group in groups],
            "oldest": oldest,
            "newest": newest,
            "bytes": live_bytes(connection),
            "file_bytes": (Path(folder) / FILE_NAME).stat().st_size,
            "lanes": snapshot(connection),
        }


def reply_lines(folder: Path) -> Iterator[str]:
    """All replies as JSON lines, with what they are about. The texts are not in the store: only their digest is."""
    with opened(folder, read_only=True) as connection:
        for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM verdicts ORDER BY created, key"):
            record = dict(zip(COLUMNS, row, strict=True))
            yield json.dumps({**record, "verdict": json.loads(record["verdict"])}) + "\n"


def prune(
    folder: Path,
    *,
    older_than_days: float | None = None,
    model: str | None = None,
    prompt: str | None = None,
    max_mb: float | None = None,
    dry_run: bool = False,
) -> int:
    """Remove replies and give their space back.

    Args:
        older_than_days, model, prompt: those go that were last used so many days ago or longer, of this model, of this
            prompt version: all of it.
        max_mb: then the least recently used ones go, until the database has so many megabytes.

    Returns:
        How many they were, or (dry run) about would be.
    """
    # A use is kept as the day's number: a reply used on the first day of the span stays.
    oldest = None if older_than_days is None else math.floor(time.time() / DAY_S - older_than_days)
    wanted = {"used < ?": oldest, "model = ?": model, "prompt = ?": prompt}
    wanted = {part: value for part, value in wanted.items() if value is not None}
    condition, values = " AND ".join(wanted), list(wanted.values())
    with opened(folder, read_only=dry_run) as connection:
        removed = 0
        if condition and dry_run:
            removed = connection.execute(f"SELECT count(*) FROM verdicts WHERE {condition}", values).fetchone()[0]
        elif condition:
            removed = connection.execute(f"DELETE FROM verdicts WHERE {condition}", values).rowcount
        if max_mb is not None:
            removed += _shrink(connection, max_mb * 2**20, removed if dry_run else 0, dry_run)
        if removed and not dry_run:
            connection.commit()
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed


def _shrink(connection: sqlite3.Connection, max_bytes: float, gone: int, dry_run: bool) -> int:
    """Remove down to a size; of a dry run the number that replies of average size would make (``gone`` left out)."""
    if dry_run:
        rows = connection.execute("SELECT count(*) FROM verdicts").fetchone()[0]
        share = max_bytes / live_bytes(connection)
        return max(0, math.ceil(rows * (1 - share)) - gone)
    removed = 0
    while live_bytes(connection) > max_bytes and (count := remove_least_used(connection, EVICT_ROWS)):
        removed += count
    return removed
