# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`examples/run_curation.sh`: killed while it works, it goes on, and ends with training steps on the curated rows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[3]
SFT, GRPO = "sft/global_step_2/huggingface", "grpo/global_step_2/actor/huggingface"


def started(output: Path) -> subprocess.Popen[str]:
    """The script in a session of its own, over a small tree."""
    small = {"OUTPUT_DIR": str(output), "VIDEOS": "2", "SECONDS_EACH": "90", "MISTAKES": "0.4"}
    environment = os.environ | small | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = ["bash", str(ROOT / "examples/run_curation.sh")]
    return subprocess.Popen(
        script, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_and_two_steps_are_trained_on_its_rows(tmp_path):
    output = tmp_path / "out"
    killed = started(output)
    assert killed.stdout is not None
    for line in killed.stdout:
        # The first source is written, the others are not.
        if line.startswith("sources.partial/"):
            os.killpg(killed.pid, signal.SIGKILL)
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (output / "sources").exists()

    run = started(output)
    told, _ = run.communicate(timeout=3000)
    assert run.returncode == 0, told
    wrong = re.search(r"descriptions of stand-ins, (\d+) with a mistake, (\d+) rejected", told)
    assert wrong is not None and int(wrong[1]) > 0
    for name in ("precision", "recall"):
        share = re.search(rf"{name} [0-9.]+ \((\d+) of (\d+)\)", told)
        assert share is not None and int(share[1]) > 0, told
    audit = json.loads((output / "data" / "audit.json").read_text(encoding="utf-8"))
    rows = pq.read_table(output / "data" / "train.parquet", columns=["data_source"])["data_source"].to_pylist()
    assert {name.rpartition("/")[2] for name in rows} == {"tal", "stg", "dvc", "nap", "vs", "rc", "sa", "cvs", "qa"}
    assert audit["curation"], audit.keys()
    steps = [json.loads(line) for line in (output / "sft_metrics.jsonl").read_text().splitlines()]
    losses = [one["data"]["train/loss"] for one in steps if "train/loss" in one["data"]]
    assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)

    pairs = set(rows)
    assert set(json.loads((output / "statistics.json").read_text(encoding="utf-8"))["pairs"]) == pairs
    [attempt] = (output / "attempts").glob("grpo_*.jsonl")
    grpo = {one["step"]: one["data"] for one in map(json.loads, attempt.read_text().splitlines())}
    assert sorted(grpo) == [1, 2] and re.findall(r"  step +(\d+)  reward", told) == ["1", "2"]
    for number, metrics in grpo.items():
        assert metrics["medgrpo/rollouts/failed"] == metrics["medgrpo/groups/dropped"] == 0
        assert 0 < metrics["critic/rewards/mean"] < 1 and metrics["medgrpo/groups/dead_share"] < 1
        assert 0 < metrics["actor/grad_norm"] < 10 and abs(metrics["actor/loss"]) < 10
        record = output / "grpo" / "rollouts" / f"step_{number:06}.jsonl"
        answers = [json.loads(line) for line in record.read_text().splitlines()]
        assert Counter(one["data_source"] for one in answers) == dict.fromkeys(pairs, 4)
    trained, before = (output / f"{place}/model.safetensors" for place in (GRPO, SFT))
    assert trained.read_bytes() != before.read_bytes()

    again = started(output)
    told, _ = again.communicate(timeout=3000)
    assert again.returncode == 0 and "up to date" in told and "  step    1" not in told, told
