# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.medgrpo.planning.judge_cost import BYTES_PER_TOKEN, Plan, by_pair, estimate, hours, main, row_calls
from reward_score.judge.prompting import load_prompt, messages

TEXT = "The hook dissects the cystic duct."
EVENTS = [{"start": at, "end": at + 5, "caption": TEXT} for at in (0, 5, 10)]
TRUTHS = {"vs": {"text": TEXT}, "rc": {"text": TEXT}, "dvc": {"events": EVENTS}, "tal": {"spans": [[0, 1]]}}


def row(task: str, index: int = 0, truth: dict | None = None) -> dict:
    return {
        "data_source": f"medvidbench/AVOS/{task}",
        "ability": task,
        "reward_model": {"style": "rule", "ground_truth": json.dumps(TRUTHS[task] if truth is None else truth)},
        "extra_info": {"index": index, "question": "What happens?"},
    }


@pytest.fixture
def data(tmp_path):
    """A folder with two rows of every task."""
    rows = [row(task, index) for task in TRUTHS for index in (0, 1)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    return tmp_path


PROMPT = load_prompt()


def test_an_answers_calls_have_the_bytes_of_the_messages_that_are_sent():
    row_ = row_calls(PROMPT, "vs", json.dumps(TRUTHS["vs"]), "What happens?")
    sent = messages(
        PROMPT, nonce="0123456789abcdef", candidate=TEXT, reference=TEXT, task="vs", question="What happens?"
    )
    assert row_.calls == 1
    assert row_.prompt_bytes + row_.reference_bytes == sum(len(message["content"].encode()) for message in sent)
    three = row_calls(PROMPT, "dvc", json.dumps(TRUTHS["dvc"]), None)
    assert three.calls == 3 and three.reference_bytes == 3 * len(TEXT)
    assert row_calls(PROMPT, "tal", json.dumps(TRUTHS["tal"]), "When?").calls == 0


def test_the_schedule_says_how_often_each_pair_is_judged(data):
    rows = by_pair(data / "train.parquet", None, PROMPT)
    found = estimate(rows, Plan(steps=10, batch=8, rollouts=4), (2.0, 8.0))
    # Eight prompts of four tasks: two of each; of every answer one call, of dense captioning three.
    assert found["answers"] == 320
    assert {pair.rpartition("/")[2]: one["calls"] for pair, one in found["pairs"].items()} == {
        "dvc": 2 * 10 * 4 * 3,
        "rc": 80,
        "vs": 80,
    }
    assert found["calls"] == 400 and found["calls_per_step"] == 40
    assert found["low"]["prompt_tokens"] < found["likely"]["prompt_tokens"] < found["high"]["prompt_tokens"]
    per_call = sum(
        len(message["content"].encode())
        for message in messages(
            PROMPT, nonce="0123456789abcdef", candidate=TEXT, reference=TEXT, task="rc", question="What happens?"
        )
    )
    # The kinds' descriptions differ by some words.
    assert found["likely"]["prompt_tokens"] == pytest.approx(400 * per_call / BYTES_PER_TOKEN["likely"], rel=0.05)
    likely = found["likely"]
    assert likely["cost_usd"] == pytest.approx(
        (likely["prompt_tokens"] * 2 + likely["completion_tokens"] * 8) / 1e6, abs=1e-4
    )
    cached = estimate(rows, Plan(steps=10, batch=8, rollouts=4, cached=0.25), None)
    assert cached["calls"] == 300 and cached["likely"]["cost_usd"] is None


def test_hours_by_what_limits_the_judging():
    found = {"calls": 7200, "likely": {"prompt_tokens": 700_000, "completion_tokens": 20_000}}
    assert hours(found, 2.0, 8) == {"8 in flight, 2 s each": pytest.approx(0.5)}
    limited = hours(found, 2.0, 8, requests_per_min=60, tokens_per_min=6000)
    assert limited["60 requests/min"] == pytest.approx(2) and limited["6000 tokens/min"] == pytest.approx(2)


def test_the_command_prints_a_table_or_json(data, capsys):
    plan = ["--data", str(data), "--judge-model", "gpt-4.1-2025-04-14", "--steps", "10", "--batch", "8"]
    assert main([*plan, "--rollouts", "4", "--tasks", "vs", "rc"]) == 0
    said = capsys.readouterr().out
    assert "dollars, gpt-4.1-2025-04-14" in said and "medvidbench/AVOS/rc" in said and "/dvc" not in said
    assert main([*plan, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prompt"] == PROMPT.version and found["price_usd_per_million"] == [2.0, 8.0]
    assert main([*plan[:3], "of-no-known-price", "--steps", "1", "--batch", "4"]) == 0
    assert "unknown" in capsys.readouterr().out
    own = ["--prompt-price", "1000000", "--completion-price", "0", "--json"]
    assert main([*plan[:3], "of-no-known-price", "--steps", "1", "--batch", "4", *own]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["likely"]["cost_usd"] == pytest.approx(found["likely"]["prompt_tokens"], abs=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "2"], "a batch of 2 rows cannot hold all 4 dataset-task pairs"),
        (["--tasks", "cvs"], "no row of the tasks cvs"),
        (["--judge-prompt", "none-such"], "none-such"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_line(data, capsys, arguments, words):
    assert main(["--data", str(data), "--judge-model", "m", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("judge_cost: error: ") and words in said and said.count("\n") == 1


def test_a_broken_row_or_file_is_named(data, capsys):
    pq.write_table(pa.Table.from_pylist([row("vs"), row("vs", 1, {"text": " "})]), data / "train.parquet")
    assert main(["--data", str(data), "--judge-model", "m"]) == 2
    assert "train.parquet: row 1: ground_truth: text: expected text" in capsys.readouterr().err
    (data / "train.parquet").write_text("{")
    assert main(["--data", str(data), "--judge-model", "m"]) == 2
    assert "train.parquet: cannot be read as parquet" in capsys.readouterr().err


def test_one_price_alone_is_no_price(data, capsys):
    with pytest.raises(SystemExit):
        main(["--data", str(data), "--judge-model", "m", "--prompt-price", "1"])
    assert "expected both or none" in capsys.readouterr().err
