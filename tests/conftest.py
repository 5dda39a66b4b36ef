# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What every test runs under: this checkout's modules, no network for models, few threads, no GPU where none is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = (
    *("test_pipeline_judged.py", "test_pipeline.py", "test_gpu_recipes.py", "test_upstream.py", "test_parts.py"),
    *("test_judge_bribery.py", "test_judge_guard.py", "test_sft_recipes.py", "test_configs.py", "test_environment.py"),
)
"""Files that begin first: `tests/run.sh` gives a process a file at a time, and one of these alone at the end would
leave the other cores idle."""


@cache
def gpu_listed() -> bool:
    """Whether `nvidia-smi -L` lists a GPU: the question that `examples/lib/environment.sh` asks too."""
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and listing.stdout.startswith("GPU ")


if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
# For the processes that tests start: pytest's own `pythonpath` ends with this process.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "2")
if not gpu_listed():
    # verl asks for its platform while it is imported, so this cannot wait for a fixture.
    os.environ.setdefault("VERL_PLATFORM", "cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    if gpu_listed():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and nvidia-smi lists none")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="module")
def start_ray() -> Iterator[Callable[..., None]]:
    """Starts a Ray of the test's own, with settings of `ray.init`, and stops it behind the module's last test.

    Ray gives up when its processes have not started after 30 s, and has no setting for it. On a machine with few cores
    that are busy with other tests they may take longer.
    """
    import ray

    def start(**settings) -> None:
        for left in (2, 1, 0):
            try:
                ray.init(address="local", include_dashboard=False, **settings)
                return
            except Exception as error:  # Ray raises no narrower one
                if not left or "timed out during startup" not in str(error):
                    raise
                ray.shutdown()

    yield start
    ray.shutdown()
