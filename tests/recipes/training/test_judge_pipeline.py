# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The pipeline in miniature with a judge behind an endpoint: the account, the key, and when the judging is done."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))
from mock_judge_server import MockJudge, Reply, truthful  # noqa: E402

pytestmark = pytest.mark.slow

KEY = "sk-pipeline-5f0c1d7e92ab43"
LATENCY_S = 0.5
STEPS = 3
SMALL = {
    "VIDEOS": "12",
    "ROWS": "12",
    "SFT_STEPS": "12",
    "STEPS": str(STEPS),
    "SAVE_FREQ": "1",
    "CALIBRATION_ROWS": "2",
    "CALIBRATION_SAMPLES": "2",
    "EVAL_SAMPLES": "1",
}
# verl's own agent loop, which also notes when each answer was there. The engine serves a step in several calls, as
# one that generates for longer than the judge judges.
NOTING = """
import os, time
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

class NotingAgentLoop(SingleTurnAgentLoop):
    async def run(self, *args, **kwargs):
        output = await super().run(*args, **kwargs)
        with open(os.environ["ANSWER_TIMES"], "a") as out:
            out.write(f"{int(kwargs['global_steps'])} {time.time()}\\n")
        return output
"""
OVERRIDES = [
    "actor_rollout_ref.rollout.n=2",
    "data.max_response_length=24",
    "actor_rollout_ref.rollout.max_num_seqs=8",
    "actor_rollout_ref.rollout.agent.default_agent_loop=noting",
]


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    # Ray's sockets lie in it, and their paths must stay short.
    folder = Path(tempfile.mkdtemp(prefix="mgj", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run_pipeline(folder: Path, ray_folder: Path, base_url: str, scratch: Path) -> str:
    """Runs it to its end; the terminal's text."""
    (scratch / "noting_agent_loop.py").write_text(NOTING)
    agents = scratch / "agents.yaml"
    agents.write_text("- name: noting\n  _target_: noting_agent_loop.NotingAgentLoop\n")
    settings = {
        "OUTPUT_DIR": str(folder),
        "JUDGE": "openai",
        "JUDGE_BASE_URL": base_url,
        "JUDGE_MODEL": "mock",
        "MEDGRPO_JUDGE_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
        "RAY_TMPDIR": str(ray_folder),
        "ANSWER_TIMES": str(scratch / "answer_times"),
        "PYTHONPATH": os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")]),
    }
    found = f"actor_rollout_ref.rollout.agent.agent_loop_config_path={agents}"
    with open(scratch / "log", "w") as out:
        process = subprocess.Popen(
            ["bash", str(ROOT / "examples/run_medgrpo.sh"), *OVERRIDES, found],
            env=os.environ | SMALL | settings,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        status = process.wait(timeout=900)
    log = (scratch / "log").read_text()
    assert status == 0, log[-4000:]
    return log


def files_with(word: bytes, folder: Path) -> list[str]:
    """Files of a folder that hold a word; what a key must not be in."""
    regular = [path for path in sorted(folder.rglob("*")) if stat.S_ISREG(path.lstat().st_mode)]
    assert regular, f"{folder}: expected files"
    return [str(path) for path in regular if word in path.read_bytes()]


def test_the_judge_s_calls_are_accounted_for_its_key_stays_secret_and_judging_overlaps_with_generation(
    tmp_path, ray_folder
):
    run = tmp_path / "run"
    with MockJudge(lambda request: Reply(content=truthful(request), delay_s=LATENCY_S)) as server:
        log = run_pipeline(run, ray_folder, server.base_url, tmp_path)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}

    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "complete" and summary["failed_rollouts"] == 0
    assert "openai:mock" in summary["judge"]
    assert "openai:mock" in (run / "statistics.json").read_text()

    # Every judged answer of a step follows the answer, and a step's judging is over before the next step's answers.
    answers: dict[int, list[float]] = {step: [] for step in range(1, STEPS + 1)}
    for line in (tmp_path / "answer_times").read_text().splitlines():
        step, at = line.split()
        answers[int(step)].append(float(at))
    assert [len(times) for times in answers.values()] == [46] * STEPS
    begins = [min(times) for times in answers.values()]
    # Evaluation judges later, in another process.
    ends = [*begins[1:], (run / "attempts/grpo_1.jsonl").stat().st_mtime]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record, begin, end, times in zip(metrics, begins, ends, answers.values(), strict=True):
        asked = [request.at for request in server.requests if begin <= request.at < end]
        calls = len(asked)
        assert calls > 0
        assert record["medgrpo/judge/calls"] == calls
        assert record["medgrpo/judge/prompt_tokens"] == 100 * calls
        assert record["medgrpo/judge/completion_tokens"] == 20 * calls
        judged = record["medgrpo/judge/judgements"]
        free = sum(record.get(f"medgrpo/judge/{name}", 0) for name in ("cache_hits", "shared", "blank"))
        assert judged == calls + free and record["medgrpo/judge/failed_share"] == 0
        assert record["medgrpo/judge/latency_s/p50"] > LATENCY_S / 1.3  # a bucket is 26 % wide

        beside = sum(min(max(times), at + LATENCY_S) - at for at in asked if at < max(times))
        print(
            f"step {record['step']}: {calls} calls in {max(asked) + LATENCY_S - min(asked):.2f} s, answers came in "
            f"for {max(times) - begin:.2f} s; {beside / (calls * LATENCY_S):.0%} of the judging beside generation"
        )
        # Judging begins while answers still come. In the first step the reward's process loads its modules first.
        assert record["step"] == 1 or min(asked) < max(times)

    for folder in (run, ray_folder):
        assert files_with(KEY.encode(), folder) == []
    assert KEY not in log
