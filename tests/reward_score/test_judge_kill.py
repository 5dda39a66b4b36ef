# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Killed in the middle, started again: what was paid for is not paid for twice, but for the calls in flight."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from fast_judge_endpoint import FastJudge  # noqa: E402
from mock_judge_server import true_scores  # noqa: E402

from reward_score.judge import Judge  # noqa: E402

AT_ONCE = 32
REFERENCE = "The hook dissects the cystic duct."


class Killer:
    """Kills a process with SIGKILL when the endpoint sees a certain call."""

    def __init__(self, at_call: int) -> None:
        self.at_call = at_call
        self.victim: subprocess.Popen | None = None

    def __call__(self, calls: int) -> None:
        if calls == self.at_call:
            os.kill(self.victim.pid, signal.SIGKILL)


def start(store: Path, url: str, count: int) -> subprocess.Popen:
    """A process that has the same texts judged, in its own order."""
    command = [sys.executable, __file__, str(store), url, str(count)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def scores_of(process: subprocess.Popen) -> list[dict[str, float]]:
    told, complaint = process.communicate(timeout=240)
    assert process.returncode == 0, complaint
    return json.loads(told.removeprefix("open\n"))


def text(number: int) -> str:
    return f"The hook opens the peritoneum, candidate {number}."


@pytest.mark.slow
def test_after_a_kill_at_half_of_2000_calls_only_those_in_flight_are_repeated(tmp_path):
    killer = Killer(1_000)
    with FastJudge(latency_s=0.02, on_call=killer) as endpoint:
        killer.victim = start(tmp_path / "store", endpoint.base_url, 2_000)
        killer.victim.stdin.close()
        assert killer.victim.wait(240) == -signal.SIGKILL
        seen = endpoint.calls
        assert 1_000 <= seen < 1_000 + AT_ONCE
        scores = scores_of(start(tmp_path / "store", endpoint.base_url, 2_000))
    assert scores == [true_scores(text(number)) for number in range(2_000)]
    print(f"{endpoint.calls - 2_000} of 2,000 calls repeated, {AT_ONCE} judgements under way at the kill")
    assert 0 <= endpoint.calls - 2_000 <= AT_ONCE


def test_a_second_process_is_refused_until_the_first_one_is_killed(tmp_path):
    count, killer = 200, Killer(100)
    with FastJudge(latency_s=0.02, on_call=killer) as endpoint:
        killer.victim = first = start(tmp_path / "store", endpoint.base_url, count)
        assert first.stdout.readline() == "open\n"
        second = start(tmp_path / "store", endpoint.base_url, count)
        said, complaint = second.communicate(timeout=60)
        first.stdin.close()  # go on
        assert first.wait(60) == -signal.SIGKILL
        scores = scores_of(start(tmp_path / "store", endpoint.base_url, count))
    first.stdout.close()
    first.stderr.close()
    assert (said, second.returncode) == ("", 1)
    assert f"JudgeSettingsError: judge: {tmp_path}/store: process {first.pid} on " in complaint.splitlines()[-1]
    assert scores == [true_scores(text(number)) for number in range(count)]
    assert 0 <= endpoint.calls - count <= AT_ONCE


async def _judge(store: str, url: str, count: int) -> None:
    judge, gate = Judge(url, "key", "mock", store=store, backoff_s=0.01), asyncio.Semaphore(AT_ONCE)
    print("open", flush=True)
    sys.stdin.read()  # until our parent closes it

    async def one(number: int) -> dict[str, float]:
        async with gate:
            return (await judge.score(text(number), REFERENCE, task="vs")).scores()

    scores = await asyncio.gather(*map(one, range(count)))
    await judge.aclose()
    print(json.dumps(scores), flush=True)


if __name__ == "__main__":
    asyncio.run(_judge(sys.argv[1], sys.argv[2], int(sys.argv[3])))
