# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The same conversion as a Ray Data job, for data beyond one machine.

Blocks are byte ranges of the input files and parts are files, so the machines must share the folders of the input, the
frames and the output; nothing large travels through Ray. `RAY_ADDRESS` names the cluster; without it, Ray runs here.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_preprocess.convert import Settings
from data_preprocess.json_stream import Block
from data_preprocess.parts import Part, PipelineError, existing_part, make_part, part_path

_ROOT = str(Path(__file__).resolve().parent.parent)


def _make(row: dict[str, bytes], settings: Settings, folder: Path) -> dict[str, int]:
    """Makes the part of a block; what its process learned about folders and sizes serves all its blocks."""
    block = pickle.loads(row["block"])
    make_part(block, settings, folder)
    return {"number": block.number}


def make_parts_on_ray(blocks: Iterable[Block], settings: Settings, folder: Path, workers: int) -> Iterator[Part]:
    """The parts of all blocks, in order; made by `workers` Ray workers, those that lie there already taken as they are.

    Raises:
        PipelineError: gzip input, which cannot be read from the middle; or Ray, or a worker, failed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PipelineError(f"--engine ray: expected an installed Ray ({error})") from None
    blocks = list(blocks)
    if packed := next((block.file for block in blocks if block.data is not None), None):
        raise PipelineError(f"{packed}: --engine ray reads byte ranges, which gzip has not: unzip it first")
    missing = [block for block in blocks if existing_part(block, folder) is None]
    if missing:
        here = os.environ.get("PYTHONPATH")
        environment = {"PYTHONPATH": os.pathsep.join([_ROOT, here] if here else [_ROOT])}
        local: dict[str, Any] = (
            {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        )
        try:
            ray.init(ignore_reinit_error=True, runtime_env={"env_vars": environment}, log_to_driver=False, **local)
            ray.data.DataContext.get_current().enable_progress_bars = False
            items = [{"block": pickle.dumps(block)} for block in missing]
            made = ray.data.from_items(items, override_num_blocks=min(len(items), 4 * workers)).map(
                _make, fn_args=(settings, folder), concurrency=workers
            )
            for _ in made.iter_rows():
                pass
        # Ray raises what it likes: its own errors, ValueError for an address, ConnectionError for a cluster.
        except Exception as error:
            lines = str(error.__cause__ or error).strip().splitlines()
            raise PipelineError(f"the Ray job failed: {lines[-1] if lines else type(error).__name__}") from None
    for block in blocks:
        yield Part.made(part_path(folder, block.number))
