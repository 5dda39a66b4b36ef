# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What `examples/run_gpu_check.sh` prints of packages, and of a training's steps.

    python tests/benchmarks/gpu_steps.py                  # a line for each package
    python tests/benchmarks/gpu_steps.py RUN              # a line for each step; exit status 1: fewer than two

RUN is the folder that a recipe wrote to.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from recipes.medgrpo.redaction import versions

FIGURES = (
    *(f"timing_s/{part}" for part in ("step", "gen", "old_log_prob", "update_actor", "update_weights")),
    "training/rollout_actor_probs_pearson_corr",
    "training/rollout_probs_diff_max",
    "actor/grad_norm",
    "medgrpo/rollouts/failed",
    "perf/mfu/actor",
    "perf/max_memory_allocated_gb",
    "perf/cpu_memory_used_gb",
)
"""Of verl's metrics of a step, and of ours; one that a step lacks is left out."""


def packages() -> list[str]:
    found = versions()
    try:
        found["flash-attn"] = version("flash-attn")
    except PackageNotFoundError:
        found["flash-attn"] = None
    return [f"{name}: {value or 'not installed'}" for name, value in found.items()]


def steps(run: Path) -> list[str]:
    lines = []
    for file in sorted(run.glob("attempts/grpo_*.jsonl")):
        for record in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            data = record["data"]
            figures = [f"{name} {data[name]:.5g}" for name in FIGURES if name in data]
            lines.append("; ".join([f"step {record['step']}", *figures]))
    return lines


def main(arguments: list[str]) -> int:
    if not arguments:
        print("\n".join(packages()))
        return 0
    lines = steps(Path(arguments[0]))
    print("\n".join(lines) or "no step was finished")
    return 0 if len(lines) > 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
