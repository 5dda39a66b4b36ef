# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`python -m reward_score.judge cache`: stats, export and prune, with a store in use and without one."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from reward_score.judge.__main__ import main
from reward_score.paid_call.limits import Estimate, Limits
from reward_score.paid_call.store import open_store

KEYS = [(f"{number:064x}", "gpt" if number % 2 else "qwen") for number in range(10)]


async def fill(store):
    for key, model in KEYS:
        store.put(key, {"terminology": 3}, {"model": model, "prompt": "comparative-v2", "task": "rc"})
    store.settle(await store.admit("gpt", Estimate(100, 0.5), Limits(), 60), 900, 0.25, 0.5)
    counts = {"judgements": 12, "calls": 10, "cache_hits": 2, "prompt_tokens": 800, "failed/JudgeTimeout": 1}
    store.count("gpt", counts, answered=True)


@pytest.fixture
def folder(tmp_path):
    async def once():
        store = open_store(str(tmp_path / "store"))
        await fill(store)
        await store.close()

    asyncio.run(once())
    return tmp_path / "store"


def cache(use, folder, *more):
    return main(["cache", use, "--store", str(folder), *map(str, more)])


def kept(folder):
    with sqlite3.connect(folder / "judge.sqlite") as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM verdicts ORDER BY key")]
    connection.close()
    return keys


def age(folder, days, model):
    """Verdicts of a model as if last used so many days ago."""
    with sqlite3.connect(folder / "judge.sqlite") as connection:
        day = int(time.time()) // 86_400 - days
        connection.execute("UPDATE verdicts SET used = ? WHERE model = ?", (day, model))
    connection.close()


def test_stats_tells_verdicts_and_the_ledger(folder, capsys):
    assert cache("stats", folder) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("10 verdicts, ")
    assert [line.split() for line in lines[2:4]] == [
        ["5", "gpt", "comparative-v2", "rc"],
        ["5", "qwen", "comparative-v2", "rc"],
    ]
    assert lines[4] == (
        "gpt: 12 judgements (2 from the store), 1 failed, 10 calls, 800 + 0 tokens, "
        "$0.2500 spent, $0.0000 perhaps spent"
    )


def test_stats_as_json(folder, capsys):
    assert cache("stats", folder, "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert found["lanes"]["gpt"]["cost_usd"] == 0.25
    assert [group["n"] for group in found["verdicts"]] == [5, 5]
    assert found["oldest"] <= found["newest"] <= time.time()


def test_beside_a_run_one_may_look_and_not_remove(folder, capsys):
    """The store is open in this process, then in another one, and is no worse for it."""

    async def use():
        store = open_store(str(folder))
        assert await asyncio.to_thread(cache, "stats", folder) == 0
        assert await asyncio.to_thread(cache, "prune", folder, "--model", "gpt", "--dry-run") == 0
        assert await asyncio.to_thread(cache, "prune", folder, "--model", "gpt") == 2
        command = [sys.executable, "-m", "reward_score.judge", "cache", "prune", "--store", folder, "--model", "gpt"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        store.put("new", {"terminology": 1}, {"model": "gpt"})
        await store.close()
        return done

    done = asyncio.run(use())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert (
        f"{folder}: process {os.getpid()} on " in line and "has the store open: expected one process at a time" in line
    )
    assert "5 verdicts would be removed" in capsys.readouterr().out
    assert len(kept(folder)) == 11
    assert cache("prune", folder, "--model", "gpt") == 0
    assert "6 verdicts removed" in capsys.readouterr().out


def test_export_writes_one_json_object_a_verdict(folder, tmp_path, capsys):
    assert cache("export", folder) == 0
    printed = capsys.readouterr().out
    assert cache("export", folder, "--output", tmp_path / "new" / "verdicts.jsonl") == 0

    assert (tmp_path / "new" / "verdicts.jsonl").read_text() == printed
    records = [json.loads(line) for line in printed.splitlines()]
    assert sorted((record["key"], record["model"]) for record in records) == KEYS
    assert set(records[0]) == {"key", "model", "prompt", "task", "created", "verdict"}
    assert records[0]["verdict"] == {"terminology": 3}


def test_export_leaves_no_draft_where_it_cannot_write(folder, tmp_path, capsys):
    (tmp_path / "taken").mkdir()

    assert cache("export", folder, "--output", tmp_path / "taken") == 2

    assert capsys.readouterr().err.startswith("judge: error: ")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_export_to_a_reader_that_stops_early(folder):
    command = f"{sys.executable} -m reward_score.judge cache export --store {folder} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "options", [["--older-than", 30], ["--model", "qwen"], ["--older-than", 30, "--model", "qwen"]]
)
def test_prune_removes_what_matches_and_says_so_before(folder, capsys, options):
    age(folder, 40, "qwen")
    before = kept(folder)

    assert cache("prune", folder, *options, "--dry-run") == 0
    assert kept(folder) == before
    assert cache("prune", folder, *options) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: 5 verdicts would be removed",
        f"{folder}: 5 verdicts removed",
    ]
    assert kept(folder) == [key for key, model in KEYS if model == "gpt"]


def test_prune_by_what_nothing_matches_and_by_days_that_are_not_over(folder, capsys):
    age(folder, 30, "qwen")

    assert cache("prune", folder, "--older-than", 30) == 0
    assert cache("prune", folder, "--prompt", "rubric-v1") == 0

    assert len(kept(folder)) == 10


def test_prune_to_a_size_takes_the_least_recently_used_and_leaves_the_ledger(folder, capsys):
    async def more():
        store = open_store(str(folder))
        for number in range(3_000):
            store.put(f"large{number}", {"text": "x" * 1_000}, {"model": "large"})
        await store.close()

    asyncio.run(more())
    age(folder, 5, "large")

    assert cache("prune", folder, "--max-mb", 2) == 0
    assert cache("stats", folder) == 0

    out = capsys.readouterr().out
    assert {key for key, _ in KEYS} <= set(kept(folder))
    assert (folder / "judge.sqlite").stat().st_size <= 2 * 2**20
    assert "$0.2500 spent" in out


def test_what_is_wrong_is_one_line_and_not_zero(tmp_path, capsys):
    (tmp_path / "judge.sqlite").write_bytes(b"no database " * 500)

    assert cache("stats", tmp_path / "nowhere") == 2
    assert cache("stats", tmp_path) == 2

    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("nowhere: no judge.sqlite here: expected a store of paid calls")
    assert "judge.sqlite: file is not a database: expected a store of paid calls" in lines[1]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("options", [[], ["--max-mb", "0"], ["--older-than", "soon"]])
def test_prune_wants_to_be_told_what(folder, capsys, options):
    with pytest.raises(SystemExit) as stopped:
        cache("prune", folder, *options)

    assert stopped.value.code == 2
    assert len(kept(folder)) == 10
