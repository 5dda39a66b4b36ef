# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import asyncio
import logging
import subprocess
import sys

import pytest

from recipes.medgrpo.training.judge_watch import JudgeStops, JudgeWatch, judge_stops, members_of, step_metrics
from recipes.medgrpo.training.stopping import JudgeStop
from reward_score.paid_call.limits import Estimate, Limits
from reward_score.paid_call.store import open_store


def settings(folder, model="m", **more):
    return {"base_url": "http://127.0.0.1:9/v1", "model": model, "store": str(folder), **more}


def work(folder, lane="m", *, dollars=0.0, **counts):
    """What a reward worker, another client of the store, leaves there."""

    async def judge():
        store = open_store(str(folder))
        if dollars:
            store.settle(await store.admit(lane, Estimate(100, dollars), Limits(), 10), 100, dollars, 0.1)
        store.count(lane, {name.replace("__", "/"): number for name, number in counts.items()})
        await store.close()

    asyncio.run(judge())


def test_a_step_is_what_the_workers_counted_since_the_last(tmp_path):
    work(tmp_path, judgements=7, calls=5, dollars=0.5)
    watch = JudgeWatch("openai", settings(tmp_path))
    work(tmp_path, judgements=3, calls=2, cache_hits=1, dollars=0.25)
    work(tmp_path, judgements=1, failed__JudgeTimeout=1)
    metrics = step_metrics(watch.step())
    assert metrics["medgrpo/judge/judgements"] == 4
    assert metrics["medgrpo/judge/calls"] == 2
    assert metrics["medgrpo/judge/cache_hits"] == 1
    assert metrics["medgrpo/judge/failed/JudgeTimeout"] == 1
    assert metrics["medgrpo/judge/failed_share"] == 0.2
    assert metrics["medgrpo/judge/cost_usd"] == pytest.approx(0.25)
    # The budget is over the store's whole life.
    assert metrics["medgrpo/judge/cost_usd_total"] == pytest.approx(0.75)
    assert 0.05 < metrics["medgrpo/judge/latency_s/p50"] < 0.2
    assert watch.total_usd() == pytest.approx(0.75)
    assert step_metrics(watch.step())["medgrpo/judge/judgements"] == 0


def test_two_judges_are_told_apart_and_added(tmp_path):
    watch = JudgeWatch("openai", settings(tmp_path, "a") | {"second": {"model": "b/c"}})
    work(tmp_path, "a", judgements=3)
    work(tmp_path, "b/c", judgements=2)
    work(tmp_path, "of another command", judgements=50)
    metrics = step_metrics(watch.step())
    names = ("medgrpo/judge/judgements", "medgrpo/judge/a/judgements", "medgrpo/judge/b/c/judgements")
    assert [metrics[name] for name in names] == [5, 3, 2]
    assert not any("another" in name for name in metrics)


def test_the_watch_may_be_asked_inside_of_a_running_loop(tmp_path):
    watch = JudgeWatch("openai", settings(tmp_path))
    work(tmp_path, judgements=2)

    async def driver():
        return watch.step()[""]["judgements"]

    assert asyncio.run(driver()) == 2


@pytest.mark.parametrize(
    ("judge", "given"),
    [("offline", {}), (None, None), ("openai", {"model": "m"}), ("openai", {"second": {"kind": "offline"}})],
)
def test_without_a_store_nothing_is_seen(judge, given):
    watch = JudgeWatch(judge, given)
    assert not watch and watch.step() == {} and watch.total_usd() == 0
    assert step_metrics({}) == {}
    JudgeStops(None).check_step(1, {})


def test_a_store_that_cannot_be_read_is_an_error_in_the_log(tmp_path, caplog):
    watch = JudgeWatch("openai", settings(tmp_path))
    (store,) = watch._stores
    asyncio.run(store.close())
    with caplog.at_level(logging.ERROR):
        assert watch.step() == {}
    assert "the judge's account cannot be read: " in caplog.text


ON_RAY = """
import asyncio, sys
import ray
from recipes.medgrpo.training.judge_watch import JudgeWatch
from reward_score.paid_call.store import open_store

ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
where = sys.argv[1]

@ray.remote(num_cpus=0)
class Trainer:  # verl's is an actor too
    def __init__(self):
        self.watch = JudgeWatch("openai", {"model": "m", "store": where})

    def judgements(self):
        return self.watch.step()[""].get("judgements")

trainer = Trainer.remote()
ray.get(trainer.judgements.remote())

@ray.remote
def work():
    store = open_store(where)
    store.count("m", {"judgements": 3})
    asyncio.run(store.close())

ray.get(work.remote())
print("JUDGEMENTS", ray.get(trainer.judgements.remote()))
"""


@pytest.mark.slow
def test_under_ray_the_trainer_and_the_workers_have_one_store(tmp_path):
    command = [sys.executable, "-c", ON_RAY, str(tmp_path / "judge")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert "JUDGEMENTS 3.0" in done.stdout, done.stderr[-3000:]


def test_the_members_of_an_averaged_judge_that_have_a_store():
    one = {"model": "a", "store": "s", "budget_usd": 2, "max_failed_share": 0.2}
    assert [member["model"] for member in members_of("openai", one | {"second": {"kind": "offline"}})] == ["a"]
    two = one | {"second": {"model": "b", "budget_usd": 3, "max_failed_share": 0.1}}
    stops = judge_stops("openai", two, window=3)
    assert (stops.budget, stops.max_failed_share, stops.window) == (2.0, 0.1, 3)


def step(**counts: float) -> dict:
    found = {"cost_usd_total": 0.0} | {name.replace("__", "/"): number for name, number in counts.items()}
    return {"": found, "m": found}


def test_a_budget_that_is_used_up_stops_at_once():
    stops = JudgeStops(2.0)
    line = (
        r"step 7: the judge's budget is used up: 2 of 12 judgements were not made. \$1.9990 are spent of \$2.0000. "
        "Raise it .judge_settings.budget_usd, JUDGE_BUDGET_USD. and start again"
    )
    with pytest.raises(JudgeStop, match=line):
        stops.check_step(7, step(judgements=10, failed__JudgeBudgetExceeded=2, cost_usd=0.5, cost_usd_total=1.999))


def test_no_step_begins_that_may_not_fit_the_budget():
    stops = JudgeStops(2.0)
    assert stops.too_dear(1.99) is None  # nothing is known of a step yet
    stops.check_step(1, step(judgements=9, cost_usd=0.3, unconfirmed_usd=0.1))
    stops.check_step(2, step(judgements=9, cost_usd=0.2))
    assert stops.too_dear(1.6) is None
    # The account of two steps, one of which could not be read, makes no step dearer.
    stops.check_step(4, step(judgements=18, cost_usd=0.8, steps=2))
    assert stops.too_dear(1.6) is None
    assert "$2.0000: $1.6100 are spent, the dearest step so far took $0.4000" in stops.too_dear(1.61)
    resumed = JudgeStops(2.0)
    resumed.load_state_dict(stops.state_dict())
    assert resumed.too_dear(1.61) and not resumed.too_dear(1.6)


def test_a_judge_that_fails_in_more_than_half_of_a_step_stops_at_once():
    stops = JudgeStops(None)
    stops.check_step(1, step(judgements=8, failed__JudgeTimeout=4, failed__JudgeUnavailable=4))
    with pytest.raises(JudgeStop, match=r"failed in 9 of 17 judgements \(JudgeTimeout 4, JudgeUnavailable 5\)"):
        stops.check_step(2, step(judgements=8, failed__JudgeTimeout=4, failed__JudgeUnavailable=5))
    # A few failures may be chance, or another command's that asks the same model.
    JudgeStops(None).check_step(1, step(failed__JudgeTimeout=7))
    # A refusal says that the judge is there; but where all is refused, nothing can be learnt.
    JudgeStops(None).check_step(1, step(judgements=1, failed__JudgeRefused=9))
    with pytest.raises(JudgeStop, match=r"step 1: all 9 judgements were refused or malformed \(JudgeRefused 9\)"):
        JudgeStops(None).check_step(1, step(failed__JudgeRefused=9))


def test_of_two_judges_each_is_looked_at_by_itself():
    fine = {"judgements": 20.0, "cost_usd_total": 0.0}
    garbling = {"judgements": 1.0, "failed/JudgeMalformed": 19.0, "cost_usd_total": 0.0}
    together = {"judgements": 21.0, "failed/JudgeMalformed": 19.0, "cost_usd_total": 0.0}
    stops = JudgeStops(None, max_refused_share=0.5, window=2)
    stops.check_step(1, {"": together, "a": fine, "b": garbling})
    with pytest.raises(JudgeStop, match="38 of the 40 judgements of b of the last 2 steps"):
        stops.check_step(2, {"": together, "a": fine, "b": garbling})


def test_refusals_stop_when_they_are_the_most_for_some_steps():
    stops = JudgeStops(None, max_refused_share=0.5, window=3)
    stops.check_step(1, step(judgements=9, failed__JudgeMalformed=1))
    stops.check_step(2, step(judgements=1, failed__JudgeRefused=9))
    # 16 of 30; a step before it there were no three steps to look at.
    resumed = JudgeStops(None, max_refused_share=0.5, window=3)
    resumed.load_state_dict(stops.state_dict())
    with pytest.raises(JudgeStop, match=r"step 3: 16 of the 30 judgements of the last 3 steps were refused or"):
        resumed.check_step(3, step(judgements=4, failed__JudgeMalformed=6))
    fewer = JudgeStops(None, max_refused_share=0.5, window=3)
    for number in range(1, 9):
        fewer.check_step(number, step(judgements=5, failed__JudgeMalformed=5))
