# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One run of Qwen2.5-VL with a judge behind an endpoint, for all tests that look at what such a run leaves.

Its judge's budget ends in a step, its folder is moved, it is killed, and then it ends. A trainer takes a minute to
start, so three starts serve six tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_pipeline import PAIRS, ROLLOUTS, ROOT, SMALL, check_whole, finish, records_of, start

sys.path.insert(0, str(ROOT / "tests"))
from mock_judge_server import MockJudge, Reply, Request, truthful  # noqa: E402

from recipes.medgrpo.data.rows import Rows  # noqa: E402
from recipes.medgrpo.data.schedule import balanced_order, choose_rows  # noqa: E402
from recipes.medgrpo.files import read_json_lines  # noqa: E402
from recipes.medgrpo.training.recording import ROLLOUTS as ROLLOUTS_FOLDER  # noqa: E402
from recipes.medgrpo.training.recording import step_file  # noqa: E402

pytestmark = pytest.mark.slow

STEPS = 5
KEY = "sk-pipeline-5f0c1d7e92ab43"
LATENCY_S = 0.5
# A model whose price is known: a call is taken for $0.015 at most, and costs what the mock says that it took. The
# budget ends with the third of the dear calls, those of step 2.
FREE, CHEAP, DEAR, USUAL = (0, 0), (400, 20), (12_000, 250), (100, 20)
BUDGET = "0.05"
# What learns from its answers has to remember them across a stop and a kill.
LEARNING = {"NORMALIZER": "adaptive", "ADVANTAGE": "drpo"}
# verl's own agent loop, which also notes when each answer was there.
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


@dataclass
class Told:
    """What one run of three starts left, and what its judge was asked."""

    run: Path
    ray_folder: Path
    log: Path
    requests: list[Request]
    answer_times: Path
    stopped: dict = field(default_factory=dict)
    killed_at: float = 0.0
    resumed_at: float = 0.0


class Judge:
    """What the endpoint does: true verdicts after half a second, at the price of the moment."""

    def __init__(self) -> None:
        self.run: Path | None = None
        self.raised = threading.Event()

    def tokens(self) -> tuple[int, int]:
        if self.raised.is_set():
            return USUAL
        if self.run is None or not (self.run / "logs/grpo.log").exists():
            return FREE
        return DEAR if (self.run / "grpo/rollouts/step_000001.jsonl").exists() else CHEAP

    def __call__(self, request: Request) -> Reply:
        prompt, completion = self.tokens()
        return Reply(truthful(request), delay_s=LATENCY_S, prompt_tokens=prompt, completion_tokens=completion)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> Iterator[Told]:
    scratch = tmp_path_factory.mktemp("judged")
    # Ray's sockets lie in it, and their paths must stay short.
    ray_folder = Path(tempfile.mkdtemp(prefix="mgj", dir="/tmp"))
    (scratch / "noting_agent_loop.py").write_text(NOTING)
    agents = scratch / "agents.yaml"
    agents.write_text("- name: noting\n  _target_: noting_agent_loop.NotingAgentLoop\n")
    behave = Judge()
    log, run = scratch / "log", scratch / "run"
    with MockJudge(behave) as server:
        settings = {
            "STEPS": str(STEPS),
            "JUDGE": "openai",
            "JUDGE_BASE_URL": server.base_url,
            "JUDGE_MODEL": "gpt-4.1",
            "MEDGRPO_JUDGE_API_KEY": KEY,
            "NO_PROXY": "127.0.0.1",
            "RAY_TMPDIR": str(ray_folder),
            "ANSWER_TIMES": str(scratch / "answer_times"),
            "PYTHONPATH": os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")]),
            **LEARNING,
        }

        def go(folder: Path, **more: str) -> subprocess.Popen:
            return start(
                folder,
                log,
                # The engine serves a step in several calls, as one that generates for longer than the judge judges.
                "actor_rollout_ref.rollout.max_num_seqs=8",
                "actor_rollout_ref.rollout.agent.default_agent_loop=noting",
                f"actor_rollout_ref.rollout.agent.agent_loop_config_path={agents}",
                **(settings | more),
            )

        told = Told(scratch / "moved", ray_folder, log, server.requests, scratch / "answer_times")
        behave.run = run
        # 1. The budget ends in step 2, long before a checkpoint is due.
        process = go(run, JUDGE_BUDGET_USD=BUDGET, SAVE_FREQ="100")
        status = process.wait(timeout=900)
        told.stopped = {
            "status": status,
            "said": log.read_text(),
            "tracker": (run / "grpo/latest_checkpointed_iteration.txt").read_text() if status else None,
            "rollouts": sorted(path.name for path in (run / "grpo/rollouts").iterdir()),
            "checkpoint": f"{run}/grpo/global_step_1",
        }
        assert status != 0, log.read_text()[-4000:]

        # 2. The folder is moved. More money, and killed once the next checkpoint is whole.
        run = run.rename(told.run)
        behave.raised.set()
        process = go(run, JUDGE_BUDGET_USD="1000")
        deadline = time.monotonic() + 400
        while not (run / "grpo/global_step_2/data.pt").exists():
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, "no checkpoint in time: " + log.read_text()[-4000:]
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        told.killed_at = time.time()
        process.wait()
        # What a kill in the middle of verl's write leaves behind.
        (run / "grpo/latest_checkpointed_iteration.txt").write_text("")

        # 3. To the end.
        told.resumed_at = time.time()
        finish(go(told.run, JUDGE_BUDGET_USD="1000"), log)
        yield told
    shutil.rmtree(ray_folder, ignore_errors=True)


def asked(request: Request) -> tuple[str, ...]:
    """What a call was about."""
    return tuple(request.body["messages"][at]["content"].replace(request.nonce, "") for at in (0, 1))


def test_a_budget_that_ends_in_a_step_leaves_a_checkpoint_to_go_on_from(told):
    stopped = told.stopped
    assert stopped["status"] != 0
    assert "JudgeStop: step 2: the judge's budget is used up: " in stopped["said"], stopped["said"][-3000:]
    assert f"the checkpoint is {stopped['checkpoint']}" in stopped["said"]
    assert stopped["tracker"] == "1" and stopped["rollouts"] == ["step_000001.jsonl"]
    assert "resuming after step 1" in told.log.read_text().removeprefix(stopped["said"])


def test_a_run_that_was_stopped_moved_and_killed_ends_with_the_same_steps(told):
    summary = check_whole(told.run, STEPS)
    # After the stop; a kill that took the log line of step 2 leaves the second resume as the first that is known.
    assert summary["resumed_from"] in (1, 2)
    assert "already done" in told.log.read_text()
    state = json.loads((told.run / f"grpo/sampler/step_{STEPS}.json").read_text())
    questions = state["advantage"]["state"]["history"]
    assert len(questions) == PAIRS and {len(rows) for rows in questions.values()} == {STEPS}
    window = [values for signals in state["window"]["values"].values() for values in signals.values()]
    assert {len(values) for values in window} == {STEPS * ROLLOUTS}

    # A start that finds nothing to do says the same again.
    env = os.environ | SMALL | LEARNING | {"OUTPUT_DIR": str(told.run), "STEPS": str(STEPS), "JUDGE": "openai"}
    env |= {"JUDGE_BASE_URL": "http://127.0.0.1:9/v1", "JUDGE_MODEL": "gpt-4.1", "MEDGRPO_JUDGE_API_KEY": KEY}
    overrides = json.loads((told.run / "plan.json").read_text())["overrides"].split()
    command = ["bash", str(ROOT / "examples/run_medgrpo.sh"), *overrides]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "nothing is left to do" in done.stdout, done.stderr[-2000:]
    assert json.loads((told.run / "summary.json").read_text()) == summary


def test_every_step_has_the_prompts_that_the_schedule_gives_it(told):
    rows = Rows.open([str(told.run / "data/train.parquet")])
    rows = rows.take(choose_rows(rows.column("data_source"), 5, 0))
    order = balanced_order(rows.column("data_source"), PAIRS, STEPS, seed=0, mix="pairs")
    keys = [(extra["file"], extra["index"]) for extra in (rows.row(number)["extra_info"] for number in order)]
    for step in range(1, STEPS + 1):
        # verl's own dump comes after the checkpoint, so a kill between them leaves a step without one.
        lines = read_json_lines(step_file(told.run / "grpo", ROLLOUTS_FOLDER, step))
        planned = keys[(step - 1) * PAIRS : step * PAIRS]
        assert Counter((line["file"], line["index"]) for line in lines) == Counter(planned * ROLLOUTS), step


def test_no_call_is_paid_for_twice(told):
    """Neither after a stop nor by another command; a kill repeats those under way and no others."""
    times: dict[tuple[str, ...], list[float]] = {}
    for request in told.requests:
        times.setdefault(asked(request), []).append(request.at)
    # A verdict is kept a moment after its reply.
    under_way = told.killed_at - LATENCY_S - 1
    assert [at for at in times.values() if len(at) > 1 and not (len(at) == 2 and at[0] > under_way)] == []


def test_the_judge_is_accounted_for_and_works_beside_generation(told):
    summary = json.loads((told.run / "summary.json").read_text())
    assert summary["judge"] == "openai:gpt-4.1"
    assert "openai:gpt-4.1" in (told.run / "statistics.json").read_text()
    metrics = {record["step"]: record for record in records_of(told.run / "metrics.jsonl")}
    assert all(record["medgrpo/judge/judgements"] > 0 for record in metrics.values())
    assert metrics[STEPS]["medgrpo/judge/cost_usd_total"] > float(BUDGET)

    # The answers of the last start. Every judged answer of a step follows the answer, and a step's judging is over
    # before the next step's answers.
    answers: dict[int, list[float]] = {}
    for line in told.answer_times.read_text().splitlines():
        step, at = line.split()
        if float(at) > told.resumed_at:
            answers.setdefault(int(step), []).append(float(at))
    # The killed start may have asked for some of step 3 already.
    steps = [step for step in sorted(answers) if step > 3]
    assert steps == [4, 5] and [len(answers[step]) for step in steps] == [PAIRS * ROLLOUTS] * 2
    # Evaluation judges later, in another process.
    trained = max((told.run / "attempts").glob("grpo_*.jsonl"), key=lambda file: file.stat().st_mtime)
    ends = [min(answers[5]), trained.stat().st_mtime]
    for step, end in zip(steps, ends, strict=True):
        record, begin, last = metrics[step], min(answers[step]), max(answers[step])
        at = [request.at for request in told.requests if begin <= request.at < end]
        calls = len(at)
        assert calls > 0
        assert record["medgrpo/judge/calls"] == calls
        assert record["medgrpo/judge/prompt_tokens"] == USUAL[0] * calls
        assert record["medgrpo/judge/completion_tokens"] == USUAL[1] * calls
        judged = record["medgrpo/judge/judgements"]
        free = sum(record.get(f"medgrpo/judge/{name}", 0) for name in ("cache_hits", "shared", "blank"))
        assert judged == calls + free and record["medgrpo/judge/failed_share"] == 0
        assert record["medgrpo/judge/latency_s/p50"] > LATENCY_S / 1.3  # a bucket is 26 % wide
        # Judging begins while answers still come.
        assert min(at) < last
        beside = sum(min(last, one + LATENCY_S) - one for one in at if one < last) / (calls * LATENCY_S)
        print(f"step {step}: {calls} calls, answers came in for {last - begin:.2f} s; {beside:.0%} judged beside them")


def test_the_key_is_in_no_file_and_on_no_terminal(told):
    assert {request.headers["authorization"] for request in told.requests} == {f"Bearer {KEY}"}
    for folder in (told.run, told.ray_folder):
        regular = [path for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
        assert regular and [path for path in regular if KEY.encode() in path.read_bytes()] == []
    assert KEY not in told.log.read_text()
