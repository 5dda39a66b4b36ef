# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The whole pipeline in miniature, as real processes: both model families, a kill in the middle, a resume."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

# Small enough for minutes, large enough for every dataset-task pair to be in every step.
SMALL = {
    "VIDEOS": "12",
    "ROWS": "12",
    "SFT_STEPS": "12",
    "SAVE_FREQ": "1",
    "CALIBRATION_ROWS": "2",
    "CALIBRATION_SAMPLES": "2",
    "EVAL_SAMPLES": "1",
}
PAIR = re.compile(r"medgrpo/\w+/\w+/reward")
# What learns from its answers has to remember them across a kill.
LEARNING = {"NORMALIZER": "adaptive", "ADVANTAGE": "drpo"}
OVERRIDES = ["actor_rollout_ref.rollout.n=2", "data.max_response_length=24"]


def start(folder: Path, model: str, steps: int, log: Path, **settings: str) -> subprocess.Popen:
    env = os.environ | SMALL | {"MODEL": model, "STEPS": str(steps), "OUTPUT_DIR": str(folder)} | settings
    with open(log, "a") as out:
        return subprocess.Popen(
            ["bash", str(ROOT / "examples/run_medgrpo.sh"), *OVERRIDES],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen, log: Path) -> None:
    status = process.wait(timeout=600)
    assert status == 0, log.read_text()[-4000:]


def check_whole(folder: Path, steps: int) -> dict:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert summary["steps"] == steps and summary["pairs"] == 23
    assert summary["failed_rollouts"] == 0
    assert summary["probs_pearson_min"] >= 0.999
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in metrics] == list(range(1, steps + 1))
    for record in metrics:
        pairs = {name.removeprefix("medgrpo/").removesuffix("/reward") for name in record if PAIR.fullmatch(name)}
        assert len(pairs) == 23
        assert all(f"medgrpo/{pair}/{part}" in record for pair in pairs for part in ("reward", "acc", "format"))
        shares = [record.get(f"medgrpo/{pair}/gradient_share") for pair in pairs]
        assert None in shares or abs(sum(shares) - 1) < 1e-6
    assert len(list((folder / "grpo/rollouts").glob("step_*.jsonl"))) == steps
    columns = json.loads((folder / "eval/leaderboard/report.json").read_text())["scores"]["overall"]["all"]
    assert {"tag_miou_03", "stg_miou", "nap_acc", "dvc_f1", "cvs_acc", "sa_acc"} <= set(columns)
    assert all("blind" in column for column in columns.values())
    assert (folder / "pictures/calibration/overview.png").stat().st_size > 10_000
    assert (folder / "pictures/training/gradient_share.png").stat().st_size > 10_000
    return summary


def test_qwen3_vl_goes_through_every_stage_and_says_why_it_cannot_go_on(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    finish(start(run, "qwen3_vl", 2, log), log)
    summary = check_whole(run, 2)
    assert summary["resumed_from"] is None
    statistics = json.loads((run / "statistics.json").read_text())
    assert len(statistics["pairs"]) == 23

    # Frames that vanish under a finished preparation: every rollout fails, and the run must end instead of waiting.
    shutil.rmtree(run / "grpo")
    # A store that is gone as a whole would be made again; this one only lost its pictures.
    for frame in (run / "data/frames").rglob("*.ppm"):
        frame.unlink()
    (run / "summary.json").unlink()
    process = start(run, "qwen3_vl", 2, log)
    assert process.wait(timeout=300) != 0
    tail = log.read_text()[-3000:]
    assert "every rollout failed" in tail and "cannot read this frame" in tail, tail


def test_qwen2_5_vl_killed_in_grpo_resumes_and_ends_with_the_same_steps(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(run, "qwen2_5_vl", 3, log, **LEARNING)
    first = run / "grpo/global_step_1/data.pt"
    deadline = time.monotonic() + 400
    while not first.exists():
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, "no checkpoint in time: " + log.read_text()[-4000:]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # What a kill in the middle of verl's write leaves behind.
    (run / "grpo/latest_checkpointed_iteration.txt").write_text("")

    finish(start(run, "qwen2_5_vl", 3, log, **LEARNING), log)
    summary = check_whole(run, 3)
    assert summary["resumed_from"] in (1, 2)
    assert "already done" in log.read_text()

    state = json.loads((run / "grpo/sampler/step_3.json").read_text())
    questions = state["advantage"]["state"]["history"]
    assert len(questions) == 23 and {len(rows) for rows in questions.values()} == {3}
    window = [values for signals in state["window"]["values"].values() for values in signals.values()]
    assert {len(values) for values in window} == {3 * 2}

    # A third start finds nothing to do and says the same again.
    finish(start(run, "qwen2_5_vl", 3, log, **LEARNING), log)
    assert json.loads((run / "summary.json").read_text())["resumed_from"] == summary["resumed_from"]
