# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The shared store: verdicts, claims, limits and counters, in one process and over several, some of them killed."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from reward_score.judge.errors import JudgeBudgetExceeded, JudgeError, JudgeSettingsError, JudgeUnavailable
from reward_score.judge.limits import Estimate, Limits
from reward_score.judge.store import open_store, queueing

VERDICT = {"terminology": 3, "action_state": 5}
ABOUT = {"model": "m", "prompt": "comparative-v2", "task": "rc"}
FREE = Estimate(tokens=100, cost_usd=0.0)
LEASE_S = 60.0

WORKER_HEAD = """
import asyncio, os, sys, time
from reward_score.judge.errors import *
from reward_score.judge.limits import Estimate, Limits
from reward_score.judge.store import open_store

def say(*words):
    print(*words, flush=True)

store, number = open_store(sys.argv[1]), int(sys.argv[2])
"""


def start(folder, body, number=0):
    """A process that runs ``body`` in a coroutine, with ``store`` and its own ``number``."""
    code = (
        WORKER_HEAD + "async def main():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\nasyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(folder), str(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def together(folder, body, processes):
    """The lines that so many processes of ``body`` print, which begin together once all have opened the store."""
    started = [
        start(folder, "say('ready'); sys.stdin.readline()\n" + textwrap.dedent(body), n) for n in range(processes)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    lines = []
    for process in started:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        lines += out.splitlines()
    return lines


def kill_after(process, lines=1):
    """Kill -9 once it has printed so many lines; what it printed."""
    said = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.stdin.close()
    process.wait()
    return [line.strip() for line in said]


@pytest.fixture(params=["memory", "folder"])
def where(request, tmp_path):
    return None if request.param == "memory" else str(tmp_path / "store")


def run(where, use, **settings):
    """What ``use(store)`` returns, the store closed afterwards."""

    async def inner():
        store = open_store(where, **settings)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(inner())


async def ticket(store, limits=Limits(), estimate=FREE, lease_s=LEASE_S):  # noqa: B008 - it is frozen
    return await store.admit("m", estimate, limits, lease_s, within_s=60)


# --- verdicts and claims ---------------------------------------------------------------------------------------------


def test_a_verdict_is_kept_and_the_first_of_two_stays(where):
    async def use(store):
        assert await store.get("key") is None
        await store.put("key", VERDICT, ABOUT)
        await store.put("key", {"terminology": 1}, ABOUT)
        return await store.get("key"), await store.claim("key", LEASE_S)

    assert run(where, use) == (VERDICT, VERDICT)


def test_a_verdict_is_there_in_the_next_process(tmp_path):
    run(str(tmp_path), lambda store: store.put("key", VERDICT, ABOUT))

    assert run(str(tmp_path), lambda store: store.get("key")) == VERDICT


def test_one_claim_at_a_time_until_it_is_released_or_ends(where):
    async def use(store):
        first = await store.claim("key", LEASE_S), await store.claim("key", LEASE_S)
        await store.release("key")
        second = await store.claim("key", lease_s=0.0), await store.claim("key", LEASE_S)
        await store.put("key", VERDICT, ABOUT)
        await store.release("key")
        return *first, *second, await store.claim("key", LEASE_S)

    assert run(where, use) == (True, False, True, True, VERDICT)


def test_a_claim_holds_against_other_processes(tmp_path):
    body = """
    for i in range(40):
        if await store.claim(f"key{i}", 60) is True:
            say(i)
    await asyncio.sleep(0.5)
    """
    claimed = [int(line) for line in together(tmp_path, body, 4)]

    assert sorted(claimed) == list(range(40))


def test_a_claim_of_a_killed_process_is_free_at_once(tmp_path):
    process = start(tmp_path, "say(await store.claim('key', 3600)); await asyncio.sleep(60)")

    assert kill_after(process) == ["True"]
    assert run(str(tmp_path), lambda store: store.claim("key", LEASE_S)) is True


def test_a_claim_of_a_killed_child_that_nobody_waited_for_is_free(tmp_path):
    process = start(tmp_path, "say(await store.claim('key', 3600)); await asyncio.sleep(60)")
    process.stdout.readline()

    async def use(store):
        before = await store.claim("key", LEASE_S)
        process.send_signal(signal.SIGKILL)
        # Without a wait() that would take the dead child away; the signal needs a moment.
        for _ in range(500):
            if after := await store.claim("key", LEASE_S):
                break
            await asyncio.sleep(0.01)
        return before, after

    assert run(str(tmp_path), use) == (False, True)
    process.stdin.close()
    process.wait()


def test_what_was_kept_survives_a_kill_in_the_middle_of_writing(tmp_path):
    body = """
    async def put(i):
        await store.put(f"key{i}", {"value": i}, {"model": "m"})
        say(i)
    for start in range(0, 100_000, 20):
        await asyncio.gather(*[put(start + i) for i in range(20)])
    """
    told = [int(line) for line in kill_after(start(tmp_path, body), lines=100) if line.isdigit()]

    async def use(store):
        return [await store.get(f"key{i}") for i in told]

    assert len(told) >= 100
    assert run(str(tmp_path), use) == [{"value": i} for i in told]
    with sqlite3.connect(tmp_path / "judge.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


# --- limits ----------------------------------------------------------------------------------------------------------


def test_processes_share_one_pace(tmp_path):
    """6,000 a minute: 120 at once, then 98 a second, whoever asks. When each call is to be sent is told, not waited."""
    body = """
    limits = Limits(requests_per_min=6_000, in_flight=None)
    for _ in range(60):
        admission = await store.admit("m", Estimate(100, 0.0), limits, 60, 60)
        say(time.time() + admission.wait_s)
    """
    sent = sorted(float(line) for line in together(tmp_path, body, 8))

    assert len(sent) == 480
    for start_at in sent:
        for seconds in (0.5, 1.0, 2.0):
            in_window = sum(start_at <= time < start_at + seconds for time in sent)
            assert in_window <= 1.05 * (120 + 98 * seconds)
    assert sent[-1] - sent[0] >= (480 - 120) / 98 * 0.95


def test_no_more_calls_in_flight_than_allowed_over_all_processes(tmp_path):
    body = """
    limits = Limits(in_flight=5)
    async def call():
        while True:
            admission = await store.admit("m", Estimate(100, 0.0), limits, 60, 60)
            if admission.ticket is not None:
                break
            await asyncio.sleep(admission.wait_s)
        begun = time.time()
        await asyncio.sleep(0.01)
        say(begun, time.time())
        await store.settle("m", admission.ticket, 100, 0.0, 0.01)
    await asyncio.gather(*[call() for _ in range(10)])
    """
    calls = [tuple(map(float, line.split())) for line in together(tmp_path, body, 4)]

    assert len(calls) == 40
    assert max(sum(begun <= at < ended for begun, ended in calls) for at, _ in calls) <= 5


@pytest.fixture
def kept_for_long(monkeypatch):
    """A caller that is forgotten in the queue then hangs instead of coming back by itself."""
    monkeypatch.setattr(queueing, "HOLD_S", 3_600.0)


def test_waiting_callers_of_several_event_loops_all_get_their_turn(where, kept_for_long):
    limits = Limits(in_flight=2)

    async def call(store):
        while (admission := await ticket(store, limits)).ticket is None:
            await asyncio.sleep(admission.wait_s)
        await asyncio.sleep(0.001)
        await store.settle("m", admission.ticket, 100, 0.0, 0.001)

    async def use(store):
        async def calls():
            await asyncio.gather(*[call(store) for _ in range(15)])

        threads = [asyncio.to_thread(asyncio.run, calls()) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(calls(), *threads), 60)
        return (await store.snapshot())["m"]["latency/00"]

    assert run(where, use) == 60


def test_what_stops_one_waiting_caller_stops_all(where, kept_for_long):
    """A caller that holds the only slot spends the budget: those behind it are told, and not kept."""
    limits = Limits(in_flight=1, budget_usd=1.0)

    async def wait(store):
        while (admission := await ticket(store, limits, Estimate(100, 0.5))).ticket is None:
            await asyncio.sleep(admission.wait_s)

    async def use(store):
        first = await ticket(store, limits, Estimate(100, 0.5))
        waiting = [asyncio.ensure_future(wait(store)) for _ in range(50)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        await store.settle("m", first.ticket, 100, 0.9, 0.1)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)

    assert [type(error) for error in run(where, use)] == [asyncio.CancelledError] + [JudgeBudgetExceeded] * 49


def test_slots_and_dollars_of_a_killed_process(tmp_path):
    """Its slots are free again; what its calls may have cost stays counted."""
    body = """
    for _ in range(3):
        await store.admit("m", Estimate(100, 0.25), Limits(in_flight=3, budget_usd=1.0), 3600, 60)
    say("held")
    await asyncio.sleep(60)
    """
    process = start(tmp_path, body)
    limits = Limits(in_flight=3, budget_usd=1.0)
    process.stdout.readline()

    async def use(store):
        full = await ticket(store, limits)
        process.kill()
        process.communicate()
        while (free := await ticket(store, limits)).ticket is None:
            await asyncio.sleep(free.wait_s)
        with pytest.raises(JudgeBudgetExceeded):
            await ticket(store, limits, Estimate(100, 0.26))
        await ticket(store, limits, Estimate(100, 0.25))
        return full.ticket, (await store.snapshot())["m"]

    full, counters = run(str(tmp_path), use)

    assert full is None
    assert counters["unconfirmed_usd"] == pytest.approx(0.75)
    assert counters["cost_usd"] == 0.0


def test_a_call_whose_lease_ended_frees_its_slot_and_may_still_be_settled(where):
    limits = Limits(in_flight=1)

    async def use(store):
        first = await ticket(store, limits, Estimate(100, 0.5), lease_s=0.0)
        while (second := await ticket(store, limits)).ticket is None:
            await asyncio.sleep(second.wait_s)
        lost = (await store.snapshot())["m"]
        await store.settle("m", first.ticket, 100, 0.2, 1.0)
        return lost, (await store.snapshot())["m"]

    lost, late = run(where, use)

    assert (lost["cost_usd"], lost["unconfirmed_usd"]) == (0.0, 0.5)
    assert (late["cost_usd"], late["unconfirmed_usd"]) == (0.2, 0.0)


def test_a_cancelled_caller_leaves_no_slot_and_no_claim_behind(where):
    async def use(store):
        for _ in range(20):
            asking = [asyncio.ensure_future(ticket(store, Limits(in_flight=1), Estimate(0, 0.3)))]
            asking.append(asyncio.ensure_future(store.claim("key", LEASE_S)))
            await asyncio.sleep(0)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        while (mine := await ticket(store, Limits(in_flight=1))).ticket is None:
            await asyncio.sleep(mine.wait_s)
        return await store.claim("key", LEASE_S), (await store.snapshot())["m"]

    claimed, counters = run(where, use)

    assert claimed is True
    assert (counters["cost_usd"], counters["unconfirmed_usd"]) == (0.0, 0.0)


def test_the_budget_is_never_exceeded_and_used_to_its_end(tmp_path):
    """Each call reserves four times of what it then costs, as real ones do."""
    body = """
    limits = Limits(budget_usd=1.0)
    async def calls():
        while True:
            try:
                admission = await store.admit("m", Estimate(100, 0.04), limits, 60, 60)
            except JudgeBudgetExceeded:
                return
            if admission.ticket is None:
                await asyncio.sleep(admission.wait_s)
                continue
            await store.settle("m", admission.ticket, 100, 0.01, 0.1)
            say("call")
    await asyncio.gather(*[calls() for _ in range(4)])
    """
    made = len(together(tmp_path, body, 4))
    counters = run(str(tmp_path), lambda store: store.snapshot())["m"]

    assert counters["cost_usd"] == pytest.approx(made * 0.01)
    assert 0.96 < counters["cost_usd"] <= 1.0 + 1e-9

    # The next run finds it as it was left.
    with pytest.raises(JudgeBudgetExceeded, match=r"budget of \$1.0000 is used up: \$0.9"):
        run(str(tmp_path), lambda store: ticket(store, Limits(budget_usd=1.0), Estimate(100, 0.04)))


def test_what_a_call_without_a_reply_may_have_cost_counts(where):
    async def use(store):
        admission = await ticket(store, estimate=Estimate(100, 0.6))
        await store.settle("m", admission.ticket, None, None, None)
        await store.settle("m", admission.ticket, 5, 0.1, 1.0)  # settled before: nothing
        with pytest.raises(JudgeBudgetExceeded, match=r"\$0.6000 perhaps"):
            await ticket(store, Limits(budget_usd=1.0), Estimate(100, 0.5))
        return (await store.snapshot())["m"]

    assert run(where, use) == {"cost_usd": 0.0, "unconfirmed_usd": 0.6}


def test_the_breaker_opens_for_all_and_closes_after_a_trial(where):
    limits = Limits(failure_window=4, cooldown_s=0.2)

    async def use(store):
        for _ in range(4):
            store.count("m", {"failed/JudgeUnavailable": 1}, judged=False)
        with pytest.raises(JudgeUnavailable, match="4 of the last 4 judgements failed"):
            await ticket(store, limits)
        await asyncio.sleep(0.25)
        trial, second = await ticket(store, limits), await ticket(store, limits)
        await store.settle("m", trial.ticket, 100, 0.0, 0.1)
        store.count("m", {"judgements": 1}, judged=True)
        await asyncio.sleep(second.wait_s)
        closed = [await ticket(store, limits) for _ in range(3)]
        return trial.ticket, second.ticket, [admission.ticket for admission in closed]

    trial, second, closed = run(where, use)

    assert trial is not None and second is None
    assert None not in closed


def test_the_breaker_of_one_process_stops_another(tmp_path):
    body = """
    for _ in range(50):
        store.count("m", {"failed/JudgeTimeout": 1}, judged=False)
    await store.close()
    """
    together(tmp_path, body, 1)

    with pytest.raises(JudgeUnavailable):
        run(str(tmp_path), ticket)
    other = run(str(tmp_path), lambda store: store.admit("other", FREE, Limits(), 60, 60))
    assert other.ticket is not None


# --- counters --------------------------------------------------------------------------------------------------------


def test_counters_of_all_processes_add_up(tmp_path):
    """Processes that neither close the store nor wait: what they counted is written when they end."""
    body = """
    for i in range(1_000):
        store.count("m", {"calls": 1, "prompt_tokens": number}, judged=True)
        if i % 100 == 0:
            await asyncio.sleep(0.01)
    store.count(f"lane{number}", {"calls": 1})
    """
    together(tmp_path, body, 4)
    counters = run(str(tmp_path), lambda store: store.snapshot())

    assert counters["m"]["calls"] == 4_000
    assert counters["m"]["prompt_tokens"] == 1_000 * (0 + 1 + 2 + 3)
    assert [counters[f"lane{n}"]["calls"] for n in range(4)] == [1.0] * 4


def test_a_snapshot_has_what_was_just_counted_and_the_latencies(where):
    async def use(store):
        store.count("m", {"calls": 2, "cost": 0.5})
        for seconds in (0.0011, 0.0012, 1.05):
            admission = await ticket(store)
            await store.settle("m", admission.ticket, 100, 0.0, seconds)
        return (await store.snapshot())["m"]

    found = run(where, use)

    assert (found["calls"], found["cost"]) == (2.0, 0.5)
    assert {name: n for name, n in found.items() if name.startswith("latency/")} == {
        "latency/00": 2.0,
        "latency/30": 1.0,
    }


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_verdicts_go_and_the_ledger_stays(tmp_path):
    long = {"text": "x" * 600}

    async def fill(store):
        admission = await ticket(store, estimate=Estimate(100, 0.5))
        await store.settle("m", admission.ticket, None, None, None)
        await asyncio.gather(*[store.put(f"old{key}", long, ABOUT) for key in range(2_000)])

    run(str(tmp_path), fill)
    with sqlite3.connect(tmp_path / "judge.sqlite") as connection:
        connection.execute("UPDATE verdicts SET used = 1")
    connection.close()

    async def more(store):
        assert await store.get("old7") == long  # used today
        await asyncio.gather(*[store.put(f"new{key}", long, ABOUT) for key in range(1_000)])
        return await store.get("old7"), await store.get("old8"), await store.get("new0"), await store.snapshot()

    used, unused, new, counters = run(str(tmp_path), more, max_mb=2)

    assert (used, unused, new) == (long, None, long)
    assert counters["m"]["unconfirmed_usd"] == 0.5


def test_what_is_no_store_is_said(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "judge.sqlite").write_text("not a database " * 100)
    other = sqlite3.connect(tmp_path / "judge.sqlite")
    other.execute("CREATE TABLE something (x)")
    other.commit()
    other.close()

    with pytest.raises(JudgeSettingsError, match=r"text/judge.sqlite: .*expected a judge's store"):
        open_store(str(tmp_path / "text"))
    with pytest.raises(JudgeSettingsError, match="a database of something else"):
        open_store(str(tmp_path))
    with pytest.raises(JudgeSettingsError, match="expected a folder"):
        open_store(str(tmp_path / "judge.sqlite"))
    with pytest.raises(JudgeSettingsError, match="store is empty"):
        open_store(" ")
    with pytest.raises(JudgeSettingsError, match="max_mb"):
        open_store(None, max_mb=0)
    with pytest.raises(JudgeSettingsError, match="Ray is not running"):
        open_store(f"ray:{tmp_path}")


def test_a_store_of_another_version_is_said(tmp_path):
    run(str(tmp_path), lambda store: store.put("key", VERDICT, ABOUT))
    connection = sqlite3.connect(tmp_path / "judge.sqlite")
    connection.execute("PRAGMA user_version = 7")
    connection.close()

    with pytest.raises(JudgeSettingsError, match="a store of version 7: expected version 1"):
        open_store(str(tmp_path))


def test_a_database_that_breaks_is_a_failure_and_no_verdict(tmp_path):
    async def use(store):
        await store.put("key", VERDICT, ABOUT)
        connection = sqlite3.connect(tmp_path / "judge.sqlite")
        connection.execute("DROP TABLE verdicts")
        connection.close()
        for broken in (store.get("key"), store.claim("key", LEASE_S), store.put("key", VERDICT, ABOUT)):
            with pytest.raises(JudgeUnavailable, match="judge.sqlite: no such table: verdicts"):
                await broken
        return (await ticket(store)).ticket

    assert run(str(tmp_path), use) is not None


def test_a_closed_store_and_one_from_before_a_fork_say_so(tmp_path):
    async def use():
        store = open_store(str(tmp_path))
        await store.close()
        await store.close()
        with pytest.raises(JudgeError, match="closed"):
            await store.claim("key", LEASE_S)

    asyncio.run(use())
    body = """
    child = os.fork()
    if child == 0:
        try:
            store.count("m", {"calls": 1})
        except JudgeSettingsError as error:
            say(error)
        os._exit(0)
    os.waitpid(child, 0)
    """
    assert together(tmp_path, body, 1) == ["judge: the store was opened before this process was forked: open it here"]


def test_verdicts_are_json_and_nothing_else(where):
    with pytest.raises(ValueError):
        run(where, lambda store: store.put("key", {"value": float("nan")}, ABOUT))
    assert json.loads(json.dumps(VERDICT)) == VERDICT


# --- several nodes ---------------------------------------------------------------------------------------------------

RAY_PROGRAM = """
import asyncio, sys
import ray
from reward_score.judge.store import queueing
from reward_score.judge.errors import JudgeBudgetExceeded, JudgeSettingsError
from reward_score.judge.limits import Estimate, Limits
from reward_score.judge.store import ray_actor
from reward_score.judge.store import open_store

folder = sys.argv[1]
ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")

@ray.remote(num_cpus=0)
def use(number):
    async def inner():
        store = open_store("ray:" + folder)
        mine = [key for key in range(20) if await store.claim(str(key), 60) is True]
        for key in mine:
            await store.put(str(key), {"by": number}, {"model": "m"})
        spent = 0
        while True:
            try:
                admission = await store.admit("m", Estimate(10, 0.1), Limits(budget_usd=1.0), 60, 60)
            except JudgeBudgetExceeded as error:
                assert "used up" in str(error) and "Traceback" not in str(error)
                break
            if admission.ticket is None:
                await asyncio.sleep(admission.wait_s)
                continue
            await store.settle("m", admission.ticket, 10, 0.1, 0.5)
            spent += 1
        store.count("m", {"calls": spent}, judged=True)
        asking = asyncio.ensure_future(store.claim("cancelled", 60))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await store.close()
        return len(mine)
    return asyncio.run(inner())

try:
    ray_actor.connect(folder, wait_s=0.1)
except JudgeSettingsError as error:
    assert "ray_actor.create" in str(error)
else:
    raise AssertionError("found an actor that nobody made")
store = ray_actor.create(folder)
mine = ray.get([use.remote(n) for n in range(3)])
assert sum(mine) == 20, mine

async def check():
    assert await open_store("ray:" + folder).get("3") is not None
    counters = (await store.snapshot())["m"]
    assert counters["calls"] == 10 and abs(counters["cost_usd"] - 1.0) < 1e-9, counters
    for _ in range(100):
        if await store.claim("cancelled", 60) is True:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("a cancelled claim stayed")
asyncio.run(check())
print("all is well")
"""


@pytest.mark.slow
def test_a_ray_actor_shares_a_store(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RAY_PROGRAM, str(tmp_path / "store")], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("all is well")
    # What the actor owned is in the folder.
    assert run(str(tmp_path / "store"), lambda store: store.get("3")) is not None


def test_a_budget_is_one_for_all_models_of_a_store(tmp_path):
    limits = Limits(budget_usd=1.0)

    async def two_models() -> None:
        store = open_store(str(tmp_path))
        one = await store.admit("a", Estimate(1, 0.5), limits, 60, 60)
        await store.settle("a", one.ticket, 1, 0.5, 0.1)
        other = await store.admit("b", Estimate(1, 0.4), limits, 60, 60)
        # What the other model has only reserved may come back; what was spent does not.
        assert (await store.admit("a", Estimate(1, 0.2), limits, 60, 60)).ticket is None
        await store.settle("b", other.ticket, 1, 0.4, 0.1)
        with pytest.raises(JudgeBudgetExceeded, match=r"\$0.5000 spent, \$0.4000 by other models"):
            await store.admit("a", Estimate(1, 0.2), limits, 60, 60)
        await store.close()

    asyncio.run(two_models())
