# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A block of the registered trainings in miniature: two side by side, killed, gone on with, and read by the table."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from small_pipeline import OVERRIDES, ROOT, SMALL, finish, records_of

NAMES = ("A", "B")
BLOCK = {"WORLDS": "heterogeneous", "RATES": "0.1", "SEEDS": "0", "VARIANTS": " ".join(NAMES), "AT_ONCE": "2"}
STEPS = {"STEPS": "2", "EVAL_STEPS": "1"}


def start(folder: Path, log: Path) -> subprocess.Popen:
    env = os.environ | SMALL | BLOCK | STEPS | {"OUTPUT_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "examples/run_collapse.sh"), *OVERRIDES]
    with open(log, "a") as out:
        return subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


@pytest.mark.slow
def test_a_block_is_killed_goes_on_and_is_read(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "out"
    runs = {name: folder / "heterogeneous_rate0.1_seed0" / name for name in NAMES}
    process = start(folder, log)
    deadline = time.monotonic() + 900
    # Behind the first checkpoint of A, while the second step or the evaluation is under way.
    while not (runs["A"] / "grpo/latest_checkpointed_iteration.txt").exists():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    model = folder / "heterogeneous_seed0/sft/latest_checkpointed_iteration.txt"
    made = model.stat().st_mtime_ns
    finish(start(folder, log), log)
    assert model.stat().st_mtime_ns == made
    for name, run in runs.items():
        plan = json.loads((run / "plan.json").read_text())
        assert (plan["world"], plan["learning_rate"], plan["steps"]) == ("heterogeneous", "0.1", 2)
        assert plan.get("linear_share") == (0 if name == "A" else None)
        assert json.loads((run / "summary.json").read_text())["status"] == "complete"
        assert [record["step"] for record in records_of(run / "metrics.jsonl")] == [1, 2]
        assert (run / "sft/latest_checkpointed_iteration.txt").samefile(model)
        answered = [records_of(run / f"eval/{look}/answers.jsonl") for look in ("sft", "step_1", "medgrpo")]
        assert len({len(records) for records in answered}) == 1
        assert answered[0][0]["header"]["settings"]["seed"] == 0
    assert len(list((runs["A"] / "attempts").glob("grpo_*.jsonl"))) == 2
    found = json.loads((folder / "trainings.json").read_text())
    assert [(one["variant"], one["complete"], one["world"], one["rate"]) for one in found["trainings"]] == [
        (name, True, "heterogeneous", 0.1) for name in NAMES
    ]
    # Two of four variants are no whole block.
    assert found["not_whole"] == [{"world": "heterogeneous", "rate": 0.1, "seed": 0}] and found["tested"] == []
