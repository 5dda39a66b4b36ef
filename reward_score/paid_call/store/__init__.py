# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What paid calls keep: replies, limits, the ledger and the counters.

A folder's store has exactly one owner. Ray's tasks and actors, verl's trainer and reward workers among them, leave it
to an actor of its own, which asks for them. Every other process owns the folder itself: without Ray, or as the driver
of a Ray job. Whoever wants a folder that somebody else owns is refused. A *lane* is a model's name: limits, ledger
and counters hold per lane.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from ..errors import CallSettingsError
from .owner import OPEN, Store, own_store
from .ray_actor import RayStore

MAX_MB = 2_048.0
_CLIENTS: dict[Path, RayStore] = {}
"""Kept, because the owner ends with its maker's `RayStore`."""
_OPENING = threading.Lock()


def folder_of(where: str | Path) -> Path:
    """The folder that the setting ``store`` names. ``ray:/folder``, as it was written earlier, is the same.

    Raises:
        CallSettingsError: it names none.
    """
    name = str(where).removeprefix("ray:")
    if not name.strip():
        raise CallSettingsError("store is empty: expected a folder or None")
    return Path(name).absolute()


def open_store(where: str | Path | None, max_mb: float = MAX_MB) -> Store | RayStore:
    """The store at ``where``. Who opens it again in the same process gets the same one, with its first ``max_mb``.

    Args:
        where: None for one in this process's memory; or a folder on a local disk, made if need be. In a task or an
            actor of Ray the disk is the head node's.
        max_mb: megabytes of the database above which the least recently used replies go, never the ledger.

    Raises:
        CallSettingsError: another process owns the folder, or nothing that can be opened as a store is there.
    """
    if not max_mb > 0:
        raise CallSettingsError(f"max_mb is {max_mb!r}: expected more than 0")
    if where is None:
        return Store(None, max_mb)
    folder = folder_of(where).resolve()
    with _OPENING:
        if (store := OPEN.get(folder)) is not None and store.opened_again():
            return store
        if not _works_for_ray():
            return own_store(folder, max_mb)
        if folder not in _CLIENTS:
            _CLIENTS[folder] = RayStore(folder, max_mb)
        return _CLIENTS[folder]


def _works_for_ray() -> bool:
    ray = sys.modules.get("ray")
    return bool(ray and ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE)
