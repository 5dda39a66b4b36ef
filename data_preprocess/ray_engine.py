# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Work on many things as Ray Data jobs, for data beyond one machine: the preprocessor's parts, the curation's videos.

`RAY_ADDRESS` names the cluster; without it, Ray runs here. The machines must share the folders of the input, the frames
and the output.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from data_preprocess.convert import Settings
from data_preprocess.json_stream import Block
from data_preprocess.parts import Part, PipelineError, existing_part, make_part, part_path

Job = TypeVar("Job")
Result = TypeVar("Result")

_ROOT = str(Path(__file__).resolve().parent.parent)
# Ray Data holds all things of one job of its own at once, so a long list becomes several of them.
_AT_ONCE_BYTES = 64 << 20
# Few things to a task where they are few: one may take as long as a hundred others.
_TASKS_A_WORKER = 64


def each_on_ray(work: Callable[[Job], Result], things: Iterable[Job], workers: int) -> Iterator[Result]:
    """What `work` makes of each thing, in their order, done by `workers` Ray workers.

    Args:
        work: a function of a module, or a `partial` of one; it runs in other processes, perhaps on other machines.
        things: taken from as far as 64 MiB of them go, before what is made of these is handed out.
        workers: processes at a time.

    Raises:
        PipelineError: Ray is missing or cannot be reached, a worker died, or `work` failed. Whatever `things` raises.
    """
    waiting: list[bytes] = []
    size = 0
    for thing in things:
        waiting.append(pickle.dumps(thing))
        size += len(waiting[-1])
        if size >= _AT_ONCE_BYTES:
            yield from _job(work, waiting, workers)
            waiting, size = [], 0
    if waiting:
        yield from _job(work, waiting, workers)


def _job(work: Callable[[Any], Any], packed: list[bytes], workers: int) -> Iterator[Any]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PipelineError(f"--engine ray: expected an installed Ray ({error})") from None
    here = os.environ.get("PYTHONPATH")
    environment = {"PYTHONPATH": os.pathsep.join([_ROOT, here] if here else [_ROOT])}
    local: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
    try:
        if not ray.is_initialized():
            # Ray of its own accord puts its workers behind every other process of the machine (nice 15).
            os.environ.setdefault("RAY_worker_niceness", "0")
            quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
            ray.init(runtime_env={"env_vars": environment}, **quiet, **local)
            logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        tasks = min(len(packed), _TASKS_A_WORKER * workers)
        items = ray.data.from_items([{"thing": thing} for thing in packed], override_num_blocks=tasks)
        pool = ray.data.TaskPoolStrategy(size=workers)
        for row in items.map(_do, fn_args=(work,), compute=pool).iter_rows():
            yield pickle.loads(row["made"])
    # Ray raises what it likes: its own errors, ValueError for an address, ConnectionError for a cluster.
    except Exception as error:
        lines = str(error.__cause__ or error).strip().splitlines()
        raise PipelineError(f"the Ray job failed: {lines[-1] if lines else type(error).__name__}") from None


def _do(row: dict[str, bytes], work: Callable[[Any], Any]) -> dict[str, bytes]:
    return {"made": pickle.dumps(work(pickle.loads(row["thing"])))}


def make_parts_on_ray(blocks: Iterable[Block], settings: Settings, folder: Path, workers: int) -> Iterator[Part]:
    """The parts of all blocks, in order; made by `workers` Ray workers, those that lie there already taken as they are.

    Blocks are byte ranges of the input files and parts are files, so that nothing large travels through Ray.

    Raises:
        PipelineError: gzip input, which cannot be read from the middle; or as `each_on_ray`.
    """
    blocks = list(blocks)
    if packed := next((block.file for block in blocks if block.data is not None), None):
        raise PipelineError(f"{packed}: --engine ray reads byte ranges, which gzip has not: unzip it first")
    missing = [block for block in blocks if existing_part(block, folder) is None]
    # What a worker's process learned about folders and sizes serves all its blocks.
    for _ in each_on_ray(partial(make_part, settings=settings, folder=folder), missing, workers):
        pass
    for block in blocks:
        yield Part.made(part_path(folder, block.number))
