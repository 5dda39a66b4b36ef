# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Frames as images to an OpenAI-compatible endpoint: what it is sent, and what its failures cost."""

import base64
import io
import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_rows import given_out
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from mock_judge_server import MockJudge, Reply  # noqa: E402


@pytest.fixture
def infer(plugged, synthetic_data, tmp_path, monkeypatch):
    """Runs the command against an endpoint that behaves as told, on rows of a family; the run's findings."""
    from recipes.medgrpo.generate import main

    for name in ("MEDGRPO_ENDPOINT_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def command(behave, *options, rows=6, family="qwen2_5_vl", data=None):
        data = data or synthetic_data[family] / "val.parquet"
        output = tmp_path / f"{family}.json"
        with MockJudge(behave) as server:
            where = ["--engine", "endpoint", "--base-url", server.base_url, "--endpoint-model", "big"]
            options = ["--limit", rows, "--retries", 2, "--concurrency", 2, *options]
            status = main([*where, *map(str, ["--data", data, "--output", output, *options])])
        return status, json.loads(output.read_text()) if output.exists() else None, server.requests

    return command


def test_a_frame_goes_as_an_image_behind_its_time(infer, synthetic_data, monkeypatch, capsys):
    monkeypatch.setenv("MEDGRPO_ENDPOINT_API_KEY", "secret")
    status, released, requests = infer(lambda request: Reply(content="0.0-5.0 seconds."), "--tasks", "tal", rows=2)
    assert status == 0 and [r["answer"] for r in released.values()] == ["0.0-5.0 seconds."] * 2
    row = next(
        r for r in pq.read_table(synthetic_data["qwen2_5_vl"] / "val.parquet").to_pylist() if r["ability"] == "tal"
    )
    wanted = row["extra_info"]["question"]
    request = next(r for r in requests if r.body["messages"][-1]["content"][-1]["text"].strip() == wanted.strip())
    assert request.headers["authorization"] == "Bearer secret"
    body = request.body
    assert (body["model"], body["temperature"], body["max_tokens"]) == (
        "big",
        0.0,
        row["extra_info"]["response_tokens"],
    )
    assert "seed" not in body
    *parts, _ = body["messages"][-1]["content"]
    times, images = parts[0::2], parts[1::2]
    clip = row["videos"][0]
    assert len(images) == len(clip["video"])
    assert [part["text"] for part in times] == [f"{k / clip['sample_fps']:.1f} seconds:" for k in range(len(images))]
    kind, data = images[0]["image_url"]["url"].split(",")
    assert kind == "data:image/jpeg;base64"
    assert list(Image.open(io.BytesIO(base64.b64decode(data))).size) == row["extra_info"]["processed_size"]
    said = capsys.readouterr()
    assert "2 replies, 200 prompt tokens, 40 completion tokens" in said.out
    assert "secret" not in said.out + said.err


@pytest.mark.parametrize("family,space", [("qwen2_5_vl", "pixels of the given images"), ("qwen3_vl", "from 0 to 1000")])
def test_boxes_are_asked_for_in_the_rows_space_and_come_back_on_the_canvas(infer, synthetic_data, family, space):
    """A model that answers the reference boxes in the space that it is told of gets the canvas's into the file."""
    rows = [r for r in pq.read_table(synthetic_data[family] / "val.parquet").to_pylist() if r["ability"] == "stg"][:2]
    right = {row["extra_info"]["question"].strip(): row for row in rows}

    def behave(request):
        texts = [part["text"] for part in request.body["messages"][-1]["content"] if part["type"] == "text"]
        assert space in texts[-1]
        return Reply(content=right[texts[-2].strip()]["extra_info"]["answer"])

    status, released, _ = infer(behave, "--tasks", "stg", rows=2, family=family)
    assert status == 0
    for row, record in zip(rows, released.values(), strict=True):
        box = next(iter(json.loads(row["reward_model"]["ground_truth"])["boxes"].values()))
        found = [float(number) for number in re.search(r"\[(.*?)\]", record["answer"])[1].split(",")]
        # A tenth of a pixel of the small frame is about two of the canvas.
        size, canvas = row["extra_info"]["processed_size"], row["extra_info"]["canvas"]
        step = 1.0 if family == "qwen3_vl" else 0.1
        extent = (1000, 1000) if family == "qwen3_vl" else size
        for axis, (mine, gold) in enumerate(zip(found, box, strict=True)):
            assert abs(mine - gold) <= step * canvas[axis % 2] / extent[axis % 2]
        assert record["box_space"] == "canvas"


def test_a_request_that_may_pass_is_sent_again_when_the_endpoint_says(infer):
    def behave(request):
        if request.number == 0:
            return Reply(status=429, headers={"Retry-After": "0.05"}, body={"error": {"message": "slow down"}})
        return Reply(reset=True) if request.number == 1 else Reply(content="cutting")

    status, released, requests = infer(behave, "--concurrency", 1, rows=1)
    assert status == 0 and len(released) == 1 and len(requests) == 3


def test_a_failure_is_no_empty_answer_and_its_row_is_asked_again(plugged, synthetic_data, tmp_path, capsys):
    """Of six rows one is refused, one blank, one filtered: three answers, and the next run asks for the other three."""
    ways = {
        0: Reply(status=400, body={"error": {"message": "too long"}}),
        1: Reply(content="  "),
        2: Reply(content="cut", finish_reason="content_filter"),
    }
    val = synthetic_data["qwen2_5_vl"] / "val.parquet"
    table = pq.read_table(val)
    rows = {row["extra_info"]["question"]: row for row in given_out(val) if row["ability"] != "stg"}
    data = tmp_path / "six.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows.values())[:6], table.schema), data)
    seen = {}

    def behave(request):
        # Row by row, in whatever order they come.
        question = json.dumps(request.body["messages"][-1]["content"][-1])
        return ways.get(seen.setdefault(question, len(seen)), Reply(content="fine", finish_reason="length"))

    from recipes.medgrpo.generate import main

    with MockJudge(behave) as server:
        where = ["--engine", "endpoint", "--base-url", server.base_url, "--endpoint-model", "m", "--data", str(data)]
        command = [*where, "--output", str(tmp_path / "a.json"), "--retries", "0", "--concurrency", "2"]
        assert main(command) == 1
        said = capsys.readouterr()
        assert "3 answers, 3 missing" in said.out and "status 400: " in said.err and "too long" in said.err
        assert "no text in the reply (finish_reason content_filter)" in said.err
        records = json.loads((tmp_path / "a.json").read_text())
        assert [record["truncated"] for record in records.values()] == [True] * 3
        asked = len(server.requests)
        ways.clear()
        assert main(command) == 0 and len(server.requests) == asked + 3
    assert len(json.loads((tmp_path / "a.json").read_text())) == 6


def test_a_wrong_key_or_a_dead_endpoint_stops_the_run(infer, tmp_path, capsys):
    denied = Reply(status=401, body={"error": {"message": "no"}})
    status, released, requests = infer(lambda request: denied, rows=6)
    assert status == 2 and released is None and len(requests) < 6
    assert "expected a key in MEDGRPO_ENDPOINT_API_KEY or OPENAI_API_KEY" in capsys.readouterr().err
    broken = Reply(status=500, body={"error": {"message": "down"}})
    status, _, requests = infer(lambda request: broken, "--retries", 0, "--batch-size", 2, rows=6)
    assert status == 2 and len(requests) == 2
    assert "a whole batch without an answer" in capsys.readouterr().err


def test_a_clip_of_many_frames_is_thinned_evenly_and_it_is_said(infer, capsys):
    from recipes.medgrpo.inference.endpoint_engine import thinned

    status, _, requests = infer(lambda request: Reply(content="x"), "--tasks", "nap", "--max-images", 3, rows=1)
    images = [part for part in requests[0].body["messages"][-1]["content"] if part["type"] == "image_url"]
    assert status == 0 and len(images) == 3
    assert "clips of 1 answers thinned to 3 images" in capsys.readouterr().out
    assert thinned(9, 3) == [0, 4, 8] and thinned(3, None) == [0, 1, 2] and thinned(9, 1) == [4]


def test_the_marked_frame_of_a_region_is_never_thinned_away(infer, synthetic_data):
    """One frame of the clip has the box that the question is about, and the row does not say which."""
    rows = pq.read_table(synthetic_data["qwen2_5_vl"] / "val.parquet").to_pylist()
    row = next(row for row in rows if row["ability"] == "rc")
    status, _, requests = infer(lambda request: Reply(content="x"), "--tasks", "rc", "--max-images", 2, rows=1)
    images = [part for part in requests[0].body["messages"][-1]["content"] if part["type"] == "image_url"]
    assert status == 0 and len(images) == len(row["videos"][0]["video"]) > 2


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_half_an_answer_of_a_server_that_went_down_is_none(infer, capsys, reason):
    status, released, _ = infer(lambda request: Reply(content="0.0-", finish_reason=reason), rows=1)
    assert status == 1 and released is None
    assert f"finish_reason: expected stop or length, found {reason}" in capsys.readouterr().err


def test_a_batch_of_filtered_rows_does_not_keep_the_others_from_being_asked(infer):
    filtered = Reply(content="", finish_reason="content_filter")
    status, released, requests = infer(
        lambda request: filtered if request.number < 2 else Reply(content="x"), "--batch-size", 2, rows=4
    )
    assert status == 1 and len(released) == 2 and len(requests) == 4


def test_an_example_is_an_earlier_turn(infer, synthetic_data):
    train = synthetic_data["qwen2_5_vl"] / "train.parquet"
    status, _, requests = infer(
        lambda request: Reply(content="x"),
        "--tasks",
        "nap",
        "--one-shot",
        train,
        "--tokens-field",
        "max_completion_tokens",
        rows=1,
    )
    shown, answer, asked = requests[0].body["messages"][-3:]
    assert status == 0 and [turn["role"] for turn in (shown, answer, asked)] == ["user", "assistant", "user"]
    assert isinstance(answer["content"], str) and answer["content"]
    assert any(part["type"] == "image_url" for part in shown["content"])
    assert "max_completion_tokens" in requests[0].body and "max_tokens" not in requests[0].body
