# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A judge under Ray: one actor owns the store of a folder, whoever asks, and whoever is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from fast_judge_endpoint import FastJudge  # noqa: E402
from mock_judge_server import true_scores  # noqa: E402

from reward_score.paid_call.store.maintenance import statistics  # noqa: E402

WORKERS, SAME, OWN, PER_MINUTE = 3, 30, 60, 3_000
IN_FLIGHT = 16
"""Calls that an owner has in flight at most, where its death is tested."""
REFERENCE = "The hook dissects the cystic duct."

PROGRAM = '''
import asyncio, json, os, signal, sys, time
import ray
from reward_score.judge import Judge
from reward_score.paid_call import CallError, CallSettingsError
from reward_score.paid_call.store.maintenance import statistics

folder, url, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR")

@ray.remote(num_cpus=0)
class Worker:
    async def score(self, texts, **more):
        judge = Judge(url, "key", "mock", store=folder, backoff_s=0.01, **more)
        gate = asyncio.Semaphore(32)
        async def one(text):
            async with gate:
                try:
                    return (await judge.score(text, REFERENCE, task="vs")).scores()
                except Exception as error:
                    return f"{type(error).__name__}: {error}"
        found = dict(zip(texts, await asyncio.gather(*map(one, texts))))
        try:
            await judge.store.close()
        except CallSettingsError:
            pass  # refused, as the scores were
        return found, judge.usage.requests, dict(judge.counters)

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

def all_workers(texts, **more):
    workers = [Worker.remote() for _ in range(WORKERS)]
    return ray.get([worker.score.remote(texts(n), **more) for n, worker in enumerate(workers)]), workers

def after(calls):
    """Returns once so many calls are in the store."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if statistics(folder)["lanes"]["mock"]["calls"] >= calls:
                return
        except (CallError, KeyError):
            pass  # not there yet
        time.sleep(0.1)
    raise TimeoutError(f"{calls} calls")

def owner():
    (found,) = [one for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].startswith("call-store")]
    return ray.get_actor(found["name"], namespace=found["namespace"])
'''


def program(folder, url, body, **settings):
    """What a program that starts Ray and runs ``body`` prints as its last line of JSON."""
    constants = f"WORKERS, SAME, OWN, IN_FLIGHT, REFERENCE = {WORKERS}, {SAME}, {OWN}, {IN_FLIGHT}, {REFERENCE!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", constants + PROGRAM + body, str(folder), url, json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_workers_share_verdicts_pace_and_counters(tmp_path):
    """Every worker asks about the same texts and about some of its own."""
    body = """
def texts(n):
    return [f"same {i}" for i in range(SAME)] + [f"worker {n} text {i}" for i in range(OWN)]
all_workers(lambda n: ["same 0"], **settings)  # connections take time when they are first opened
begun = time.monotonic()
found, _ = all_workers(texts, **settings)
print(json.dumps([begun, found]))
"""
    with FastJudge(latency_s=0.02) as endpoint:
        prices = {"prompt_price": 2.0, "completion_price": 8.0}
        begun, found = program(tmp_path / "store", endpoint.base_url, body, requests_per_min=PER_MINUTE, **prices)
    for scores, _, _ in found:
        assert [(text, score) for text, score in scores.items() if score != true_scores(text)] == []
    assert endpoint.calls == SAME + WORKERS * OWN == 1 + sum(requests for _, requests, _ in found)
    # At most the burst (2 % of a minute's calls) at once, then no faster than the pace.
    rate, burst = PER_MINUTE / 60, 0.02 * PER_MINUTE
    early = [number for number, at in enumerate(endpoint.arrivals[1:], 1) if number > burst + rate * (at - begun)]
    assert early == []
    lane = statistics(tmp_path / "store")["lanes"]["mock"]
    assert (lane["calls"], lane["judgements"]) == (endpoint.calls, WORKERS * (1 + SAME + OWN))
    told = (endpoint.prompt_tokens, endpoint.completion_tokens)
    assert lane["cost_usd"] == pytest.approx((told[0] * 2 + told[1] * 8) / 1e6)
    assert lane.get("cache_hits", 0) + lane.get("shared", 0) == WORKERS * (1 + SAME) - SAME
    counted = [counters for _, _, counters in found]
    assert sum(counters["judgements"] for counters in counted) == WORKERS * (SAME + OWN)
    assert sum(counters.get("requests", 0) for counters in counted) == endpoint.calls - 1


@pytest.mark.slow
def test_the_budget_holds_over_workers_and_the_death_of_worker_and_owner(tmp_path):
    """A worker and the owner are killed in the middle: at most what was under way is asked again, no dollar is lost."""
    body = """
def texts(n):
    return [f"same {i}" for i in range(400)]
workers = [Worker.remote() for _ in range(WORKERS)]
asked = [worker.score.remote(texts(0), max_in_flight=IN_FLIGHT, **settings) for worker in workers]
after(100)
workers[0].die.remote()
after(200)
ray.kill(owner())
found = ray.get(asked[1:])
spent, _ = all_workers(lambda n: [f"more {n} {i}" for i in range(20)], budget_usd=0.1, **settings)
print(json.dumps([found, spent]))
"""
    with FastJudge(latency_s=0.2) as endpoint:
        prices = {"prompt_price": 2.0, "completion_price": 8.0}
        found, spent = program(tmp_path / "store", endpoint.base_url, body, **prices)
    for scores, _, _ in found:
        assert [(text, score) for text, score in scores.items() if score != true_scores(text)] == []
    lane = statistics(tmp_path / "store")["lanes"]["mock"]
    # Either death may be an owner's: the worker that made one takes it along.
    assert 400 <= endpoint.calls <= 400 + 2 * IN_FLIGHT
    assert lane["cost_usd"] + lane["unconfirmed_usd"] > 0.1
    told = [str(score) for scores, _, _ in spent for score in scores.values()]
    assert [score for score in told if not score.startswith("JudgeBudgetExceeded: ")] == []


@pytest.mark.slow
def test_a_folder_that_another_process_owns_is_refused_under_ray_too(tmp_path):
    body = """
import subprocess
holder = "import sys; from reward_score.paid_call.store import open_store; store = open_store(sys.argv[1]); "
holder += "print(1, flush=True); sys.stdin.read()"
first = subprocess.Popen([sys.executable, "-c", holder, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
first.stdout.readline()
refused, workers = all_workers(lambda n: ["one text"])
first.communicate()
let_in = ray.get(workers[0].score.remote(["one text"]))
print(json.dumps([first.pid, refused, let_in]))
"""
    with FastJudge() as endpoint:
        pid, refused, let_in = program(tmp_path / "store", endpoint.base_url, body)
    for scores, _, _ in refused:
        assert scores["one text"].startswith(f"JudgeSettingsError: judge: {tmp_path}/store: process {pid} on ")
    assert let_in[0]["one text"] == true_scores("one text")
