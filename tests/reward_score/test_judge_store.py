# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The store in the process that owns it: verdicts, limits, money and counters, and what a kill leaves of them."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reward_score.paid_call.errors import (
    CallBudgetExceeded,
    CallError,
    CallRateLimited,
    CallSettingsError,
    CallUnavailable,
)
from reward_score.paid_call.limits import Estimate, Limits
from reward_score.paid_call.store import open_store
from reward_score.paid_call.store.maintenance import statistics

VERDICT = {"terminology": 3, "action_state": 5}
ABOUT = {"model": "m", "prompt": "comparative-v2", "task": "rc"}
FREE = Estimate(tokens=100, cost_usd=0.0)
SOON_S = 0.05
"""A caller that has not got its ticket by now is waiting for it."""

PROCESS = """
import asyncio, os, sys
from reward_score.paid_call.errors import *
from reward_score.paid_call.limits import Estimate, Limits
from reward_score.paid_call.store import open_store

def say(*words):
    print(*words, flush=True)

store = open_store(sys.argv[1])
"""


def start(folder, body):
    """Another process that runs ``body`` in a coroutine, with ``store``."""
    code = PROCESS + "async def main():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\nasyncio.run(main())"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=pipe, stderr=pipe, text=True)


def kill_after(process, lines=1):
    """Kill -9 once it has printed so many lines; what it printed."""
    said = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.communicate()
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


def ticket(store, limits=Limits(), estimate=FREE, within_s=60.0):  # noqa: B008 - it is frozen
    return store.admit("m", estimate, limits, within_s)


async def waits(asking):
    """The task of a caller that has to wait."""
    task = asyncio.ensure_future(asking)
    await asyncio.sleep(SOON_S)
    assert not task.done()
    return task


async def counters(store):
    return (await store.snapshot())["m"]


# --- one owner -------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_in_one_line_and_let_in_after_a_kill(tmp_path):
    first = start(tmp_path, "say('open'); await asyncio.sleep(60)")
    assert first.stdout.readline() == "open\n"

    with pytest.raises(CallSettingsError) as refused:
        open_store(str(tmp_path))
    kill_after(first, lines=0)

    assert str(refused.value).startswith(f"{tmp_path}: process {first.pid} on ")
    assert str(refused.value).endswith(
        "has the store open: expected one process at a time, or the workers of one Ray cluster"
    )
    run(str(tmp_path), lambda store: store.snapshot())


def test_a_killed_child_that_nobody_waited_for_keeps_nobody_out(tmp_path):
    process = start(tmp_path, "say('open'); await asyncio.sleep(60)")
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    # Without a wait() that would take the dead child away; the signal needs a moment.
    for _ in range(500):
        try:
            run(str(tmp_path), lambda store: store.snapshot())
            break
        except CallSettingsError:
            time.sleep(0.01)
    else:
        raise AssertionError("a dead process has the store open")
    process.communicate()


def test_all_of_one_process_have_the_same_store_until_the_last_one_closes_it(tmp_path):
    (tmp_path / "other name").symlink_to(tmp_path / "store")

    async def use():
        first, second = open_store(str(tmp_path / "store")), open_store(f"ray:{tmp_path}/other name")
        assert first is second
        await first.close()
        second.put("key", VERDICT, ABOUT)
        await second.close()
        await second.close()
        with pytest.raises(CallError, match="closed"):
            second.get("key")
        return open_store(str(tmp_path / "store"))

    assert asyncio.run(use()).get("key") == VERDICT


def test_a_forked_child_is_another_process(tmp_path):
    body = """
    child = os.fork()
    if child == 0:
        for use in (lambda: store.count("m", {"calls": 1}), lambda: open_store(sys.argv[1])):
            try:
                use()
            except CallSettingsError as error:
                say(error)
        os._exit(0)
    os.waitpid(child, 0)
    store.count("m", {"calls": 1})
    """
    said, complaint = start(tmp_path, body).communicate(timeout=60)

    assert complaint == "" and [line.partition("forked from")[0] for line in said.splitlines()] == [
        "this process was ",
        f"{tmp_path}: this process, or the one it was ",
    ]
    assert run(str(tmp_path), counters)["calls"] == 1


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_verdict_is_kept_and_the_first_of_two_stays(where):
    async def use(store):
        assert store.get("key") is None
        store.put("key", VERDICT, ABOUT)
        store.put("key", {"terminology": 1}, ABOUT)
        return store.get("key")

    assert run(where, use) == VERDICT


def test_a_verdict_is_there_in_the_next_process(tmp_path):
    process = start(tmp_path, "store.put('key', {'terminology': 3, 'action_state': 5}, {'model': 'm'})")
    assert process.communicate(timeout=60) == ("", "")

    async def use(store):
        return store.get("key")

    assert run(str(tmp_path), use) == VERDICT


def test_what_was_kept_survives_a_kill_in_the_middle_of_writing(tmp_path):
    body = """
    for i in range(100_000):
        store.put(f"key{i}", {"value": i}, {"model": "m"})
        say(i)
    """
    said = kill_after(start(tmp_path, body), lines=100)
    told = [int(line) for line in said[:-1]]  # the last line may have been cut

    async def use(store):
        return [store.get(f"key{i}") for i in told]

    assert len(told) >= 99
    assert run(str(tmp_path), use) == [{"value": i} for i in told]
    with sqlite3.connect(tmp_path / "judge.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


# --- limits ----------------------------------------------------------------------------------------------------------


def in_threads(use, count):
    """What ``use()``, a coroutine function, returns on so many threads with an event loop each."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: asyncio.run(use()), range(count)))


def test_all_threads_share_one_pace(where):
    """6,000 a minute: 120 at once, then 98 a second, whoever asks. When each call is to be sent is told, not waited."""
    store, limits = open_store(where), Limits(requests_per_min=6_000, max_in_flight=None)

    async def use():
        return [time.monotonic() + (await ticket(store, limits)).wait_s for _ in range(60)]

    sent = sorted(at for times in in_threads(use, 8) for at in times)

    assert len(sent) == 480
    for start_at in sent:
        for seconds in (0.5, 1.0, 2.0):
            in_window = sum(start_at <= at < start_at + seconds for at in sent)
            assert in_window <= 1.05 * (120 + 98 * seconds)
    assert sent[-1] - sent[0] >= (480 - 120) / 98 * 0.95


def test_no_more_calls_in_flight_than_allowed_over_all_threads(where):
    store, limits, calls = open_store(where), Limits(max_in_flight=5), []

    async def call():
        mine = await ticket(store, limits)
        begun = time.monotonic()
        await asyncio.sleep(0.01)
        calls.append((begun, time.monotonic()))
        store.settle(mine, 100, 0.0, 0.01)

    async def use():
        await asyncio.wait_for(asyncio.gather(*[call() for _ in range(15)]), 60)

    in_threads(use, 4)

    assert len(calls) == 60
    assert max(sum(begun <= at < ended for begun, ended in calls) for at, _ in calls) <= 5


def test_callers_are_served_in_turn_and_wait_no_longer_than_they_want(where):
    limits = Limits(max_in_flight=1)

    async def use(store):
        first = await ticket(store, limits)
        second, third = await waits(ticket(store, limits)), await waits(ticket(store, limits))
        with pytest.raises(CallRateLimited, match="m: waited 0.1 s for our own limits"):
            await ticket(store, limits, within_s=0.1)
        store.settle(first, 100, 0.0, 0.1)
        mine = await second
        assert not third.done()
        store.settle(mine, 100, 0.0, 0.1)
        return await third

    assert run(where, use).lane == "m"


def test_what_stops_one_waiting_caller_stops_all(where):
    """A caller that holds the only slot spends the budget: those behind it are told, and not kept."""
    limits = Limits(max_in_flight=1, budget_usd=1.0)

    async def use(store):
        first = await ticket(store, limits, Estimate(100, 0.5))
        waiting = [asyncio.ensure_future(ticket(store, limits, Estimate(100, 0.5))) for _ in range(50)]
        await asyncio.sleep(SOON_S)
        waiting[0].cancel()
        store.settle(first, 100, 0.9, 0.1)
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)

    assert [type(error) for error in run(where, use)] == [asyncio.CancelledError] + [CallBudgetExceeded] * 49


def test_who_is_cancelled_when_it_is_its_turn_passes_it_on(where):
    limits = Limits(max_in_flight=1)

    async def use(store):
        for _ in range(20):
            first = await ticket(store, limits, Estimate(0, 0.3))
            waiting = [asyncio.ensure_future(ticket(store, limits, Estimate(0, 0.3))) for _ in range(3)]
            await asyncio.sleep(0.001)
            store.settle(first, 0, 0.0, None)
            waiting[0].cancel()  # before it hears that it is its turn
            last = await asyncio.wait_for(waiting[1], 10)
            waiting[2].cancel()
            store.settle(last, 0, 0.0, None)
            await asyncio.gather(*waiting, return_exceptions=True)
        return await asyncio.wait_for(ticket(store, limits), 10), await counters(store)

    mine, found = run(where, use)

    assert mine.lane == "m"
    assert (found["cost_usd"], found["unconfirmed_usd"]) == (0.0, 0.0)


def test_callers_whose_loop_is_gone_keep_nobody_waiting(where):
    limits = Limits(max_in_flight=1)
    store = open_store(where)
    first = asyncio.run(ticket(store, limits))
    gone = asyncio.new_event_loop()
    left = gone.create_task(ticket(store, limits))
    gone.run_until_complete(asyncio.sleep(SOON_S))
    gone.close()

    async def use():
        mine = await waits(ticket(store, limits))
        store.settle(first, 100, 0.0, 0.1)
        return await asyncio.wait_for(mine, 10)

    assert asyncio.run(use()).lane == "m"
    assert not left.done()


def test_dollars_of_a_killed_process_stay_counted(tmp_path):
    """Its slots are free again, and the budget is not exceeded by what its calls may have cost."""
    body = """
    for _ in range(3):
        await store.admit("m", Estimate(100, 0.25), Limits(max_in_flight=3, budget_usd=1.0), 60)
    say("held")
    await asyncio.sleep(60)
    """
    kill_after(start(tmp_path, body))
    limits = Limits(max_in_flight=3, budget_usd=1.0)

    async def use(store):
        with pytest.raises(CallBudgetExceeded, match=r"\$0.7500 perhaps spent by calls without a reply"):
            await ticket(store, limits, Estimate(100, 0.26))
        await ticket(store, limits, Estimate(100, 0.25), within_s=1)
        return await counters(store)

    found = run(str(tmp_path), use)

    assert found["unconfirmed_usd"] == pytest.approx(0.75)
    assert found["cost_usd"] == 0.0
    # The last one was not settled either: the next owner counts it.
    assert run(str(tmp_path), counters)["unconfirmed_usd"] == pytest.approx(1.0)


def test_the_budget_is_never_exceeded_over_kills_and_used_to_its_end(tmp_path):
    """Each call reserves four times of what it then costs, as real ones do. A process is killed again and again."""
    body = """
    limits = Limits(budget_usd=1.0)
    async def calls():
        while True:
            mine = await store.admit("m", Estimate(100, 0.04), limits, 60)
            say("sent")
            await asyncio.sleep(0.001)
            store.settle(mine, 100, 0.01, 0.1)
    try:
        await asyncio.gather(*[calls() for _ in range(4)])
    except CallBudgetExceeded:
        say("over")
    """
    sent = sum(kill_after(start(tmp_path, body), lines).count("sent") for lines in (5, 10, 3))
    said, complaint = start(tmp_path, body).communicate(timeout=60)
    sent += said.split().count("sent")
    found = run(str(tmp_path), counters)

    assert complaint == "" and "over" in said.split()
    # Whatever was sent is in the ledger, with its cost or with the most that it can have cost.
    assert found["cost_usd"] + found["unconfirmed_usd"] >= sent * 0.01 - 1e-9
    assert found["unconfirmed_usd"] <= 4 * 4 * 0.04 + 1e-9
    assert 0.96 < found["cost_usd"] + found["unconfirmed_usd"] <= 1.0 + 1e-9

    # The next run finds it as it was left.
    with pytest.raises(CallBudgetExceeded, match=r"budget of \$1.0000 is used up"):
        run(str(tmp_path), lambda store: ticket(store, Limits(budget_usd=1.0), Estimate(100, 0.04)))


def test_the_budget_holds_for_all_threads(where):
    store, limits = open_store(where), Limits(budget_usd=1.0)

    async def use():
        made = 0
        while True:
            try:
                mine = await ticket(store, limits, Estimate(100, 0.04))
            except CallBudgetExceeded:
                return made
            made += 1
            await asyncio.sleep(0)
            store.settle(mine, 100, 0.01, 0.1)

    made = sum(in_threads(use, 8))
    found = asyncio.run(counters(store))

    assert found["cost_usd"] == pytest.approx(made * 0.01)
    assert 0.96 < found["cost_usd"] <= 1.0 + 1e-9


def test_a_budget_is_one_for_all_models_of_a_store(where):
    limits = Limits(budget_usd=1.0)

    async def use(store):
        store.settle(await store.admit("a", Estimate(1, 0.5), limits, 60), 1, 0.5, 0.1)
        other = await store.admit("b", Estimate(1, 0.4), limits, 60)
        # What the other model has only reserved may come back; what was spent does not.
        waiting = await waits(store.admit("a", Estimate(1, 0.2), limits, 60))
        store.settle(other, 1, 0.4, 0.1)
        with pytest.raises(CallBudgetExceeded, match=r"\$0.5000 spent, \$0.4000 by other models"):
            await asyncio.wait_for(waiting, 10)

    run(where, use)


def test_what_a_call_without_a_reply_may_have_cost_counts(where):
    async def use(store):
        mine = await ticket(store, estimate=Estimate(100, 0.6))
        store.settle(mine, None, None, None)
        store.settle(mine, 5, 0.1, 1.0)  # settled before: nothing
        with pytest.raises(CallBudgetExceeded, match=r"\$0.6000 perhaps"):
            await ticket(store, Limits(budget_usd=1.0), Estimate(100, 0.5))
        return await counters(store)

    assert run(where, use) == {"cost_usd": 0.0, "unconfirmed_usd": 0.6}


def test_the_breaker_opens_for_all_of_a_lane_and_closes_after_a_trial(where):
    limits = Limits(failure_window=4, cooldown_s=0.2)

    async def use(store):
        for _ in range(4):
            store.count("m", {"failed/CallUnavailable": 1}, answered=False)
        with pytest.raises(CallUnavailable, match="4 of the last 4 calls failed"):
            await ticket(store, limits)
        await store.admit("another", FREE, limits, 1)
        await asyncio.sleep(0.25)
        trial = await ticket(store, limits)
        second = await waits(ticket(store, limits))
        store.count("m", {"judgements": 1}, answered=True)
        store.settle(trial, 100, 0.0, 0.1)
        return trial, await second, *[await ticket(store, limits, within_s=1) for _ in range(3)]

    trial, *closed = run(where, use)

    assert trial.trial
    assert not any(mine.trial for mine in closed)


# --- counters --------------------------------------------------------------------------------------------------------


def test_counters_are_written_when_a_process_ends_and_add_up(tmp_path):
    """Processes that neither close the store nor wait."""
    body = """
    for i in range(1_000):
        store.count("m", {"calls": 1, "prompt_tokens": 2}, answered=True)
    store.count("other", {"calls": 1})
    """
    for _ in range(2):
        assert start(tmp_path, body).communicate(timeout=60) == ("", "")

    found = run(str(tmp_path), lambda store: store.snapshot())

    assert found == {"m": {"calls": 2_000, "prompt_tokens": 4_000}, "other": {"calls": 2}}


def test_a_snapshot_has_what_was_just_counted_and_the_latencies(where):
    async def use(store):
        store.count("m", {"calls": 2, "cost": 0.5})
        for seconds in (0.0011, 0.0012, 1.05):
            store.settle(await ticket(store), 100, 0.0, seconds)
        return await counters(store)

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
        store.settle(await ticket(store, estimate=Estimate(100, 0.5)), None, None, None)
        for key in range(2_000):
            store.put(f"old{key}", long, ABOUT)

    run(str(tmp_path), fill)
    with sqlite3.connect(tmp_path / "judge.sqlite") as connection:
        connection.execute("UPDATE verdicts SET used = 1")
    connection.close()

    async def more(store):
        assert store.get("old7") == long  # used today
        for key in range(1_000):
            store.put(f"new{key}", long, ABOUT)
        return store.get("old7"), store.get("old8"), store.get("new0"), await counters(store)

    used, unused, new, found = run(str(tmp_path), more, max_mb=2)

    assert (used, unused, new) == (long, None, long)
    assert found["unconfirmed_usd"] == 0.5


def test_what_is_no_store_is_said(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "judge.sqlite").write_text("not a database " * 100)
    other = sqlite3.connect(tmp_path / "judge.sqlite")
    other.execute("CREATE TABLE something (x)")
    other.commit()
    other.close()

    for _ in range(2):  # the folder is let go again
        with pytest.raises(CallSettingsError, match=r"text/judge.sqlite: .*expected a store of paid calls"):
            open_store(str(tmp_path / "text"))
    with pytest.raises(CallSettingsError, match="a database of something else"):
        open_store(str(tmp_path))
    with pytest.raises(CallSettingsError, match="expected a folder"):
        open_store(str(tmp_path / "judge.sqlite"))
    with pytest.raises(CallSettingsError, match="store is empty"):
        open_store(" ")
    with pytest.raises(CallSettingsError, match="max_mb"):
        open_store(None, max_mb=0)


async def kept(store):
    store.put("key", VERDICT, ABOUT)


def test_a_store_of_another_version_is_said(tmp_path):
    run(str(tmp_path), kept)
    connection = sqlite3.connect(tmp_path / "judge.sqlite")
    connection.execute("PRAGMA user_version = 7")
    connection.close()

    with pytest.raises(CallSettingsError, match="a store of version 7: expected version 2"):
        open_store(str(tmp_path))


def test_a_store_of_version_1_keeps_its_verdicts_counters_and_dollars(tmp_path):
    """Version 1 kept claims, tickets and the state of each lane, from when several processes wrote to a folder."""
    run(str(tmp_path), kept)
    connection = sqlite3.connect(tmp_path / "judge.sqlite")
    connection.executescript("""
        DROP TABLE ledger; DROP TABLE reserved; PRAGMA user_version = 1;
        CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
        CREATE TABLE tickets (id INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, owner TEXT NOT NULL,
            until REAL NOT NULL, tokens INTEGER NOT NULL, token_s REAL NOT NULL, cost_usd REAL NOT NULL,
            trial INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0);
        CREATE TABLE lanes (lane TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
        INSERT INTO lanes VALUES ('m', '{"request_clock": 1.5, "confirmed_usd": 0.25, "unconfirmed_usd": 0.5}');
        INSERT INTO tickets (lane, owner, until, tokens, token_s, cost_usd, trial) VALUES ('m', 'o', 9, 1, 0, 0.125, 0);
        INSERT INTO counters VALUES ('m', 'calls', 3);
    """)
    connection.close()

    async def use(store):
        return store.get("key"), await counters(store)

    assert statistics(tmp_path)["lanes"]["m"] == {"calls": 3.0, "cost_usd": 0.25, "unconfirmed_usd": 0.625}
    for _ in range(2):
        assert run(str(tmp_path), use) == (VERDICT, {"calls": 3.0, "cost_usd": 0.25, "unconfirmed_usd": 0.625})


def test_a_database_that_breaks_is_a_failure_and_no_verdict(tmp_path):
    async def use(store):
        store.put("key", VERDICT, ABOUT)
        connection = sqlite3.connect(tmp_path / "judge.sqlite")
        connection.execute("DROP TABLE verdicts")
        connection.execute("DROP TABLE reserved")
        connection.close()
        for broken in (lambda: store.get("key"), lambda: store.put("key", VERDICT, ABOUT)):
            with pytest.raises(CallUnavailable, match="judge.sqlite: no such table: verdicts"):
                broken()
        with pytest.raises(CallUnavailable, match="judge.sqlite: no such table: reserved"):
            await ticket(store, estimate=Estimate(100, 0.1))  # what cannot be noted is not sent
        return await ticket(store)

    assert run(str(tmp_path), use).lane == "m"


def test_verdicts_are_json_and_nothing_else(where):
    async def use(store):
        store.put("key", {"value": float("nan")}, ABOUT)

    with pytest.raises(ValueError):
        run(where, use)
    assert json.loads(json.dumps(VERDICT)) == VERDICT
