# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An endpoint that fails in every way it can: true scores or typed errors, sums that add up, limits that hold."""

import asyncio
import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from fast_judge_endpoint import FastJudge, Faults, worst_window  # noqa: E402
from mock_judge_server import true_scores  # noqa: E402

from reward_score.judge import (  # noqa: E402
    Judge,
    JudgeError,
    JudgeMalformed,
    Judgement,
    JudgeRateLimited,
    JudgeTimeout,
    JudgeUnavailable,
    JudgeUnproven,
    Usage,
)
from reward_score.medgrpo import compute_score  # noqa: E402

MODEL = "mock"
REFERENCE = "The hook dissects the cystic duct while a grasper retracts the gallbladder."
SAMPLES = 200
PER_MINUTE = 6_000
PACED_JUDGES, PACED_CALLS = 3, 120


def judge_at(url: str, **settings) -> Judge:
    # A reply that we gave up waiting for and the endpoint sent would be in its sums alone: patience for slow machines.
    return Judge(url, "key", MODEL, **{"backoff_s": 0.01, "timeout_s": 5.0, **settings})


def texts(count: int, kind: str = "candidate") -> list[str]:
    return [f"The hook opens the peritoneum, {kind} {number}." for number in range(count)]


async def judge_all(judge: Judge, candidates: list[str], at_once: int = 64) -> list[Judgement | JudgeError]:
    """A judgement or a `JudgeError` for each; any other exception is the test's failure."""
    gate = asyncio.Semaphore(at_once)

    async def one(text: str) -> Judgement | JudgeError:
        async with gate:
            try:
                return await judge.score(text, REFERENCE, task="vs")
            except JudgeError as error:
                return error

    return await asyncio.gather(*map(one, candidates))


async def judge_and_count(judge: Judge, candidates: list[str]) -> tuple[list[Judgement | JudgeError], dict]:
    results = await judge_all(judge, candidates)
    counters = (await judge.store.snapshot())[MODEL]
    await judge.aclose()
    return results, counters


@pytest.mark.slow
def test_every_sample_gets_its_true_score_or_a_typed_error_and_the_sums_are_the_endpoints(tmp_path):
    store, candidates = str(tmp_path / "store"), texts(SAMPLES)
    prices = {"prompt_price": 2.0, "completion_price": 8.0}
    with FastJudge(latency_s=0.01, faults=Faults(1)) as endpoint:
        judge = judge_at(endpoint.base_url, store=store, **prices)
        results, counters = asyncio.run(judge_and_count(judge, candidates))
    kinds = {"ok", "rate_limited", "patience", "failing", "given_up", "cut_body", "cut_verdict", "reset"}
    assert set(endpoint.counts) == kinds

    failed = [result for result in results if isinstance(result, JudgeError)]
    for text, result in zip(candidates, results, strict=True):
        if isinstance(result, Judgement):
            assert result.scores() == true_scores(text)
        else:
            assert type(result) in (JudgeRateLimited, JudgeTimeout, JudgeUnavailable, JudgeMalformed, JudgeUnproven)
    assert 0 < len(failed) < SAMPLES / 4

    assert counters["calls"] == endpoint.calls
    assert counters["calls"] == SAMPLES + counters["retries"]
    assert counters["judgements"] == SAMPLES - len(failed)
    by_name = {name: count for name, count in counters.items() if name.startswith("failed/") and count}
    assert by_name == {
        name: sum(f"failed/{type(error).__name__}" == name for error in failed)
        for name in {f"failed/{type(error).__name__}" for error in failed}
    }
    told = (endpoint.prompt_tokens, endpoint.completion_tokens)
    assert (counters["prompt_tokens"], counters["completion_tokens"]) == told
    assert counters["cost_usd"] == pytest.approx((told[0] * 2 + told[1] * 8) / 1e6)
    # A hang, a reset or half a reply may have been billed.
    assert counters["unconfirmed_usd"] > 0
    spent = sum((result.usage for result in results), Usage())
    assert spent == judge.usage == Usage(*told, requests=endpoint.calls)

    # The failures were not kept, and nothing else is asked for again.
    with FastJudge() as healthy:
        again, _ = asyncio.run(judge_and_count(judge_at(healthy.base_url, store=store, **prices), candidates))
    assert healthy.calls == len(failed)
    assert [result.scores() for result in again] == [true_scores(text) for text in candidates]


@pytest.mark.parametrize(
    "faults, error",
    [
        (Faults(rate_limited=1.0), JudgeRateLimited),
        (Faults(rate_limited=0.0, failing=1.0), JudgeUnavailable),
        (Faults(rate_limited=0.0, failing=0.0, hang=1.0), JudgeTimeout),
        (Faults(rate_limited=0.0, failing=0.0, hang=0.0, cut_body=1.0), JudgeUnavailable),
        (Faults(rate_limited=0.0, failing=0.0, hang=0.0, cut_body=0.0, cut_verdict=1.0), JudgeUnproven),
        (Faults(rate_limited=0, failing=0, hang=0, cut_body=0, cut_verdict=0, reset=1), JudgeUnavailable),
    ],
    ids=["429", "500", "hangs", "half a body", "half a verdict", "resets"],
)
def test_a_fault_without_an_end_is_that_fault_s_error_after_the_attempts_allowed(faults, error):
    with FastJudge(faults=faults) as endpoint:
        # Only what hangs has to be waited for; a busy machine may take longer than that to answer.
        judge = judge_at(endpoint.base_url, timeout_s=0.5 if error is JudgeTimeout else 30, max_attempts=3)
        results, counters = asyncio.run(judge_and_count(judge, texts(4)))
    assert [type(result) for result in results] == [error] * 4
    attempts = 2 if error is JudgeUnproven else 3
    assert endpoint.calls == counters["calls"] == 4 * attempts
    assert counters[f"failed/{error.__name__}"] == 4 and not counters.get("judgements")


def test_eight_identical_rollouts_cost_one_call(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGRPO_JUDGE_API_KEY", "key")
    truth = json.dumps({"text": REFERENCE})
    answer = "The hook opens the peritoneum."

    async def group(**settings) -> list[dict[str, float]]:
        return await asyncio.gather(
            *(compute_score("medvidbench/AVOS/vs", answer, truth, {"question": "What?"}, **settings) for _ in range(8))
        )

    with FastJudge(latency_s=0.05) as endpoint:
        at = {"base_url": endpoint.base_url, "model": MODEL, "store": str(tmp_path / "store")}
        rollouts = asyncio.run(group(judge="openai", judge_settings=at))
        assert endpoint.calls == 1
    mean = sum(true_scores(answer).values()) / 5
    assert [rollout["raw_judge"] for rollout in rollouts] == [pytest.approx((mean - 1) / 4)] * 8
    assert len({json.dumps(rollout) for rollout in rollouts}) == 1


def in_threads(judges: list[Judge], orders: list[list[str]]) -> list[dict[str, Judgement | JudgeError]]:
    """Each judge on a thread and an event loop of its own, all begun together; for each, results by text."""
    start = threading.Barrier(len(judges))

    async def work(judge: Judge, candidates: list[str]) -> dict[str, Judgement | JudgeError]:
        start.wait(60)
        results = await judge_all(judge, candidates)
        await judge.aclose()
        return dict(zip(candidates, results, strict=True))

    with ThreadPoolExecutor(len(judges)) as threads:
        return list(threads.map(lambda one, texts: asyncio.run(work(one, texts)), judges, orders))


@pytest.mark.slow
def test_the_sums_of_four_judges_of_the_same_texts_are_the_endpoints(tmp_path):
    store, candidates = str(tmp_path / "store"), texts(SAMPLES)
    prices = {"prompt_price": 2.0, "completion_price": 8.0}
    with FastJudge(latency_s=0.02, faults=Faults(5)) as endpoint:
        orders = [random.Random(number).sample(candidates, SAMPLES) for number in range(4)]
        judges = [judge_at(endpoint.base_url, store=store, **prices) for _ in orders]
        results = in_threads(judges, orders)
        counters = asyncio.run(judges[0].store.snapshot())[MODEL]
    failed = 0
    for result in results:
        for text, outcome in result.items():
            failed += isinstance(outcome, JudgeError)
            assert isinstance(outcome, JudgeError) or outcome.scores() == true_scores(text)
    assert counters["judgements"] == 4 * SAMPLES - failed
    assert sum(count for name, count in counters.items() if name.startswith("failed/")) == failed
    assert counters["calls"] == endpoint.calls
    told = (endpoint.prompt_tokens, endpoint.completion_tokens)
    assert (counters["prompt_tokens"], counters["completion_tokens"]) == told
    assert counters["cost_usd"] == pytest.approx((told[0] * 2 + told[1] * 8) / 1e6)
    # A text with a verdict was judged once: of all the replies with one, none was a second of its text.
    judged = {text for result in results for text, outcome in result.items() if isinstance(outcome, Judgement)}
    assert endpoint.counts["ok"] == len(judged)


def test_judges_that_share_a_store_share_one_pace(tmp_path):
    settings = {"store": str(tmp_path / "store"), "requests_per_min": PER_MINUTE, "timeout_s": 30}
    orders = [texts(PACED_CALLS, f"judge {number}, candidate") for number in range(PACED_JUDGES)]
    with FastJudge() as endpoint:
        judges = [judge_at(endpoint.base_url, **settings) for _ in orders]
        begun = time.monotonic()
        results = in_threads(judges, orders)
    assert all(result[text].scores() == true_scores(text) for result in results for text in result)
    assert endpoint.calls == PACED_JUDGES * PACED_CALLS
    # Whatever delays a call lets it arrive later, never earlier than its turn: the burst (2 % of a minute's calls)
    # at once, then one in every hundredth of a second.
    rate, burst = PER_MINUTE / 60, 0.02 * PER_MINUTE
    early = [number for number, at in enumerate(endpoint.arrivals, 1) if number > burst + rate * (at - begun)]
    assert early == []


def test_the_worst_window_is_counted_wherever_it_lies():
    assert worst_window([0, 1, 59.9, 60, 60.5, 61], 60) == 4
    assert worst_window([], 60) == 0
