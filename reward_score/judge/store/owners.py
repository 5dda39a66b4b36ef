# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which process holds something in the store, and whether it is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def me() -> str:
    """This process, as no other one on any host is called: host, process number, start time."""
    return f"{_host()}|{os.getpid()}|{_started(os.getpid())}"


def gone(owner: str) -> bool:
    """True when the process of that name ran on this host and does not any more. Of other hosts nothing is known."""
    host, pid, started = owner.split("|")
    return host == _host() and _started(int(pid)) != started


def _host() -> str:
    """The name, the boot and the process name space: in another container the same number is another process."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # not Linux: the host's name has to do
    return "/".join(parts)


def _started(pid: int) -> str:
    import psutil  # only here: who keeps nothing in a store needs it not

    try:
        process = psutil.Process(pid)
        # A killed child that nobody waited for keeps its number and does nothing any more.
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        try:
            # Clock ticks since the boot: `create_time` moves with every step of the wall clock.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        except OSError:
            return f"{process.create_time():.2f}"
    except psutil.Error:
        return ""
