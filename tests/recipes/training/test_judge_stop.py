# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge's budget that ends in the middle of a step, with verl's own trainer: the message, the checkpoint, and the
run that goes on from it as if nothing had been."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))
from mock_judge_server import MockJudge, Reply, Request, honest  # noqa: E402

from recipes.medgrpo.data.rows import Rows  # noqa: E402
from recipes.medgrpo.data.schedule import balanced_order, choose_rows  # noqa: E402

pytestmark = pytest.mark.slow

STEPS, PAIRS = 4, 23
SMALL = {
    "VIDEOS": "12",
    "ROWS": "12",
    "SFT_STEPS": "12",
    "STEPS": str(STEPS),
    "SAVE_FREQ": "100",
    "CALIBRATION_ROWS": "2",
    "CALIBRATION_SAMPLES": "2",
    "EVAL_SAMPLES": "1",
}
KEY = "key-of-the-mock-endpoint-5f1c"
# A model whose price is known: a call is taken for $0.015 at most, and costs what the mock says that it took. The
# budget ends with the third of the dear calls.
FREE, CHEAP, DEAR = (0, 0), (400, 20), (12_000, 250)
BUDGET = "0.05"


def start(run: Path, judge: MockJudge, budget: str) -> subprocess.CompletedProcess:
    env = os.environ | SMALL | {"OUTPUT_DIR": str(run), "MEDGRPO_JUDGE_API_KEY": KEY, "JUDGE": "openai"}
    env |= {"JUDGE_BASE_URL": judge.base_url, "JUDGE_MODEL": "gpt-4.1", "JUDGE_BUDGET_USD": budget}
    overrides = ["actor_rollout_ref.rollout.n=2", "data.max_response_length=24", f"trainer.rollout_data_dir={run}/dump"]
    command = ["bash", str(ROOT / "examples/run_medgrpo.sh"), *overrides]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=1200, check=False)


def asked(request: Request) -> tuple[str, ...]:
    """What a call was about."""
    return tuple(request.body["messages"][at]["content"].replace(request.nonce, "") for at in (0, 1))


def schedule(run: Path) -> list[list[str]]:
    """The references of every step's prompts, as a run that is never stopped would have them."""
    rows = Rows.open([str(run / "data/train.parquet")])
    rows = rows.take(choose_rows(rows.column("data_source"), 5, 0))
    order = balanced_order(rows.column("data_source"), PAIRS, STEPS, seed=0, mix="pairs")
    truths = [rows.row(number)["reward_model"]["ground_truth"] for number in order]
    return [truths[at : at + PAIRS] for at in range(0, len(truths), PAIRS)]


def test_a_budget_that_ends_in_a_step_leaves_a_checkpoint_to_go_on_from(tmp_path):
    run = tmp_path / "run"

    def tokens() -> tuple[int, int]:
        if not (run / "logs/grpo.log").exists():
            return FREE
        return DEAR if (run / "grpo/rollouts/step_000001.jsonl").exists() else CHEAP

    def behave(request: Request) -> Reply:
        spent = tokens()
        return Reply(content=honest(request, score=3), prompt_tokens=spent[0], completion_tokens=spent[1])

    with MockJudge(behave) as judge:
        done = start(run, judge, BUDGET)
        said = done.stdout + done.stderr
        assert done.returncode != 0, said[-3000:]
        assert "JudgeStop: step 2: the judge's budget is used up: " in done.stderr, said[-3000:]
        assert f"the checkpoint is {run}/grpo/global_step_1" in done.stderr
        assert (run / "grpo/latest_checkpointed_iteration.txt").read_text() == "1"
        assert sorted(path.name for path in (run / "grpo/rollouts").iterdir()) == ["step_000001.jsonl"]

        done = start(run, judge, "1000")
        said += done.stdout + done.stderr
        assert done.returncode == 0, said[-3000:]
        assert "resuming after step 1" in done.stdout
        calls = Counter(map(asked, judge.requests))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["failed_rollouts"]) == ("complete", STEPS, 0)
    assert summary["resumed_from"] == 1 and summary["judge"] == "openai:gpt-4.1"

    # Every step has the prompts that the schedule gives it.
    for step, planned in enumerate(schedule(run), 1):
        lines = [json.loads(line) for line in (run / f"dump/{step}.jsonl").read_text().splitlines()]
        assert Counter(line["gts"] for line in lines) == Counter(planned * 2), step

    # Nothing was paid for twice, neither after the stop nor by another command of the run.
    assert [number for number in calls.values() if number > 1] == []
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(record["medgrpo/judge/judgements"] > 0 for record in metrics)
    assert metrics[-1]["medgrpo/judge/cost_usd_total"] > float(BUDGET)
    for file in run.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert KEY not in said
