# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Several processes at once, each with GPUs, a model and a share of the missing answers of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from recipes.medgrpo.files import InputError

COMMAND = "recipes.medgrpo.generate"


def devices(processes: int, each: int, gpus: Sequence[str]) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of every process; None on a machine without a GPU.

    Raises:
        InputError: too few GPUs.
    """
    if not gpus:
        return [None] * processes
    if len(gpus) < processes * each:
        expected = f"{processes * each} GPUs, {each} for each process"
        raise InputError(f"--data-parallel {processes}: expected {expected}, found {len(gpus)}")
    return [",".join(gpus[each * number : each * (number + 1)]) for number in range(processes)]


def run_workers(argv: Sequence[str], processes: int, each: int, gpus: Sequence[str]) -> list[int]:
    """Runs the command again as worker 0 to `processes` - 1 and waits: their exit statuses.

    The workers end with this process: it terminates them, and they look before every batch whether it is still there.
    """
    workers: list[subprocess.Popen] = []
    try:
        for number, visible in enumerate(devices(processes, each, gpus)):
            environment = {**os.environ, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})}
            command = [sys.executable, "-m", COMMAND, *argv, "--worker", f"{number}/{processes}/{os.getpid()}"]
            workers.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        return [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in workers:
            worker.wait()
