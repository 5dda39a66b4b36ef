# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The inference command with the transformers engine: its files, what reads them, and what a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parquet_rows import given_out

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def infer(plugged, qwen2_5_vl, tmp_path):
    """Runs the command on the tiny model's held-out rows; (status, answers.json, lines of answers.jsonl)."""
    from recipes.medgrpo.generate import main

    def command(*options, data=None, model=None, name="answers.json"):
        data = data or qwen2_5_vl.data / "val.parquet"
        output = tmp_path / name
        where = ["--model", model or qwen2_5_vl.path, "--data", data, "--output", output]
        status = main([*map(str, where), "--engine", "transformers", "--device", "cpu", *map(str, options)])
        lines = output.with_suffix(".jsonl")
        released = json.loads(output.read_text()) if name.endswith(".json") and output.exists() else None
        return status, released, [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []

    return command


def held_out(family, *tasks):
    rows = pq.read_table(family.data / "val.parquet").to_pylist()
    return [row for row in rows if not tasks or row["ability"] in tasks]


def test_answers_are_in_the_released_format_in_the_rows_order(infer, qwen2_5_vl, tmp_path, capsys):
    status, released, (header, *lines) = infer(
        "--max-new-tokens", "4", "stg=6", "--tasks", "stg", "tal", "--limit", "5"
    )
    rows = held_out(qwen2_5_vl, "stg", "tal")[:5]
    assert status == 0
    assert list(released) == [str(row["extra_info"]["index"]) for row in rows]
    for record, line, row in zip(released.values(), lines, rows, strict=True):
        assert record["qa_type"] == row["extra_info"]["qa_type"] and record["question"] == row["extra_info"]["question"]
        assert record["metadata"]["video_id"] == row["extra_info"]["video_id"]
        assert set(record) - {"box_space", "truncated"} == {
            *("metadata", "qa_type", "struc_info", "question", "answer", "data_source")
        }
        assert line["tokens"] == (6 if row["ability"] == "stg" else 4) and line["truncated"] and record["truncated"]
        assert line["data_source"] == row["data_source"] and line["index"] == row["extra_info"]["index"]
    assert header["header"]["settings"]["temperature"] == 0.0
    said = capsys.readouterr().out
    boxes = sum(row["ability"] == "stg" for row in rows)
    assert f"stg: {boxes} of {boxes} answers cut off by the token budget" in said
    assert "engine transformers: as asked" in said


def test_evaluation_and_submission_take_the_file_as_it_is(infer, qwen2_5_vl, tmp_path, monkeypatch, capsys):
    """A model that answers perfectly scores perfectly from either file: the boxes went to the canvas once."""
    from recipes.medgrpo import evaluate, submission
    from recipes.medgrpo.rollout.transformers_engine import Answer, TransformersEngine

    table = pq.read_table(qwen2_5_vl.data / "val.parquet")
    rows = [row for row in given_out(qwen2_5_vl.data / "val.parquet") if row["ability"] in ("stg", "tal")]
    # As a test file has them: every row of its file, numbered through.
    rows = [{**row, "extra_info": {**row["extra_info"], "index": at}} for at, row in enumerate(rows)]
    data = tmp_path / "data" / "test.parquet"
    data.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, table.schema), data)

    def perfect(self, requests, settings):
        ids = [self.processor.tokenizer(rows[int(r.key)]["extra_info"]["answer"])["input_ids"] for r in requests]
        return [Answer(answer, [], False) for answer in ids]

    monkeypatch.setattr(TransformersEngine, "generate", perfect)
    status, released, lines = infer(data=data)
    assert status == 0 and len(released) == len(rows)
    for number, name in enumerate(("answers.json", "answers.jsonl")):
        output = tmp_path / f"eval{number}"
        given = ["score", "--results", tmp_path / name, "--ground-truth", data, "--output", output, "--mode", "strict"]
        assert evaluate.main([*map(str, given), "--resamples", "10"]) == 0, capsys.readouterr()
        tasks = json.loads((output / "report.json").read_text())["scores"]["tasks"]
        assert tasks["tal"]["acc"]["value"] == 1.0 and tasks["stg"]["acc"]["value"] > 0.97
        files = ["--results", tmp_path / name, "--test", data, "--output", tmp_path / f"{number}.json"]
        assert submission.main(list(map(str, files))) == 0, capsys.readouterr()
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2))
    assert first == second and [entry["qa_type"] for entry in first] == [row["extra_info"]["qa_type"] for row in rows]


def test_rows_that_are_answered_are_not_asked_again(infer, tmp_path, capsys):
    short = ("--max-new-tokens", "3")
    _, first, lines = infer(*short, "--limit", "3")
    records = lines[1:]
    records[1]["answer"] = "kept"
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [lines[0], *records]))
    capsys.readouterr()
    _, released, lines = infer(*short, "--limit", "5")
    assert "3 of 5 answers are there" in capsys.readouterr().out
    assert [record["answer"] for record in list(released.values())[:3]] == [r["answer"] for r in records]
    assert [record["place"] for record in lines[1:]] == [0, 1, 2, 3, 4]

    # Another budget is another answer: the former ones are kept under another name.
    _, other, _ = infer("--max-new-tokens", "2", "--limit", "2")
    former = (tmp_path / "answers.former.jsonl").read_text()
    assert len(other) == 2 and "kept" in former and "former.jsonl" in capsys.readouterr().out


def test_what_is_set_aside_is_never_written_over(infer, tmp_path, monkeypatch):
    """Three settings one after the other, the last of which dies at once: two sets of former answers, none current."""
    from recipes.medgrpo.rollout.transformers_engine import TransformersEngine

    for tokens in (2, 3):
        assert infer("--max-new-tokens", tokens, "--limit", 1)[0] == 0

    def dies(*_):
        raise OSError("gone")

    monkeypatch.setattr(TransformersEngine, "generate", dies)
    status, released, _ = infer("--max-new-tokens", 4, "--limit", 1)
    # What another run answered does not stand under this one's name.
    assert status == 2 and released is None
    lines = [[json.loads(line) for line in file.read_text().splitlines()] for file in tmp_path.glob("*.former*.jsonl")]
    assert sorted(line["tokens"] for (_, line) in lines) == [2, 3]
    assert len(list(tmp_path.glob("answers.former*.json"))) == 2


def test_answers_of_wrong_times_are_not_taken_for_those_of_true_ones(infer, monkeypatch, capsys):
    asked = ("--max-new-tokens", 2, "--limit", 1)
    assert infer(*asked)[0] == 0
    monkeypatch.setenv("MEDGRPO_TIME_FIX", "0")
    status, _, (header, *_) = infer(*asked)
    assert status == 0 and header["header"]["settings"]["time_fix"] is False
    assert "answers are there" not in capsys.readouterr().out


def test_a_worker_whose_run_is_gone_leaves_the_next_runs_file_alone(plugged, tmp_path):
    """One that has not begun does not begin; one that is in the middle goes on writing where nobody looks."""
    from recipes.medgrpo.inference.answer_log import AnswerLog, partial_of
    from recipes.medgrpo.inference.run import answer

    partial = partial_of(tmp_path / "answers.jsonl")
    partial.write_text("another run's")
    log = AnswerLog(tmp_path / "answers.json", {})
    assert answer(None, None, [(0, 0)], log, batch=1, go_on=lambda: False) == []
    assert partial.read_text() == "another run's"

    partial.write_text('{"header": {}}\n')
    with log.adding() as add:
        (tmp_path / "new").write_text("another run's")
        (tmp_path / "new").replace(partial)
        add([{"place": 0, "sample": 0, "answer": "late"}])
    assert partial.read_text() == "another run's"


def test_what_a_killed_worker_left_of_a_line_is_written_over(plugged, tmp_path):
    """The workers of a run share its file: the others' answers stand on lines of their own."""
    from recipes.medgrpo.inference.answer_log import AnswerLog

    log = AnswerLog(tmp_path / "answers.json", {"model": 1, "data": 2, "settings": {}})
    with log.locked():
        log.begin()
        with log.adding() as add:
            add([{"place": 0, "sample": 0, "answer": "ä"}])
            with open(log.partial, "a") as file:
                file.write('{"place": 1, "sam')
            add([{"place": 2, "sample": 0, "answer": "x" * (1 << 21)}])
            add([{"place": 1, "sample": 0, "answer": "y"}])
    whole = [json.loads(line) for line in log.partial.read_text().splitlines()]
    assert [line.get("place") for line in whole] == [None, 0, 2, 1]
    again = AnswerLog(tmp_path / "answers.json", log.header)
    with again.locked():
        assert again.known == log.known and list(again.missing([(0, 0), (3, 0)])) == [(3, 0)]


def test_what_vllm_did_not_finish_is_no_answer(plugged):
    from types import SimpleNamespace

    from recipes.medgrpo.inference.jobs import Failure, Job
    from recipes.medgrpo.inference.vllm_engine import Offline

    job = Job(place=0, sample=0, row={}, messages=[], budget=8, seed=0)
    for reason in ("abort", "error"):
        out = SimpleNamespace(finish_reason=reason, token_ids=[1])
        assert isinstance(Offline("nowhere", temperature=0.0)._reply(job, out), Failure)


def test_vllm_spawns_its_processes_and_says_why_it_did_not_start(qwen2_5_vl, monkeypatch):
    """Under pytest torch has been asked for GPUs already, as it has in the command: a fork could not use them."""
    from types import ModuleType, SimpleNamespace

    from recipes.medgrpo.inference.jobs import InferenceError
    from recipes.medgrpo.inference.vllm_engine import Offline

    def refuses(**_):
        raise ValueError("1 validation error\n  Value error, 9 heads\n    For further information visit https://x")

    fake, platforms = ModuleType("vllm"), ModuleType("vllm.platforms")
    fake.LLM, platforms.current_platform = refuses, SimpleNamespace(is_cpu=lambda: False)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    # Set and taken away, so that what is set here is put back.
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "")
    monkeypatch.delenv("VLLM_WORKER_MULTIPROC_METHOD")
    with pytest.raises(InferenceError, match="vLLM did not start: 1 validation error Value error, 9 heads"):
        Offline(str(qwen2_5_vl.path), temperature=0.0).__enter__()
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_samples_have_seeds_and_lines_of_their_own(infer):
    asked = ("--samples", 3, "--temperature", 1, "--limit", 2, "--max-new-tokens", 8, "--seed", 5)
    _, _, (_, *lines) = infer(*asked, name="answers.jsonl")
    assert [(line["place"], line["sample"]) for line in lines] == [(row, k) for row in (0, 1) for k in range(3)]
    assert len({line["answer"] for line in lines}) > 2
    _, _, (_, *again) = infer(*asked, "--batch-size", 2, name="again.jsonl")
    assert again == lines


@pytest.mark.parametrize(
    "options,expected",
    [
        (["--max_pixels_per_frame", "37632"], "expected where frames are made: medvidbench.py --max-pixels"),
        (["--samples", "2"], "expected 1 with a .json output"),
        (["--max-new-tokens", "box=3"], "expected a task of tal, stg"),
        (["--max-new-tokens", "tal=0"], "expected a whole number from 1, got '0'"),
        (["--base-url", "http://127.0.0.1:1/v1"], "expected together with --engine endpoint"),
        (["--config", "medgrpo_gpu"], "--config, --override: expected together with --engine rollout"),
        (["--engine", "endpoint"], "--base-url, --endpoint-model: expected with --engine endpoint"),
        (["--tasks", "tal", "gone"], "val.parquet: no row of the task gone"),
        (["--model", "/nowhere"], "--model: /nowhere: no *.safetensors here"),
        (
            ["--data", "test.json"],
            "--data test.json: expected a parquet file: make it with data_preprocess/medvidbench.py",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(infer, capsys, options, expected):
    try:
        status, *_ = infer(*options)
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and said.startswith("generate") or "generate: error" in said or ": error: " in said
    assert expected in said


def test_the_released_names_of_arguments_are_taken(plugged):
    from recipes.medgrpo.generate import parse

    args = parse(
        [
            *("--model_path", "M", "--data_path", "d.parquet", "--output_path", "o.json", "--batch_size", "4"),
            *("--tensor_parallel_size", "2", "--gpu_memory_utilization", "0.7", "--max_new_tokens", "256"),
            *("--limit_data", "9"),
        ]
    )
    assert (args.model, args.data, args.batch_size, args.tensor_parallel_size) == ("M", "d.parquet", 4, 2)
    assert (args.gpu_memory_utilization, args.limit, set(args.budgets.values())) == (0.7, 9, {256})


def test_a_budget_is_the_commands_else_the_rows_else_the_tables():
    from data_preprocess.chat import RESPONSE_TOKENS
    from recipes.medgrpo.inference.budgets import budget_of, budgets

    row = {"ability": "stg", "extra_info": {"response_tokens": 300}}
    assert budget_of(row, budgets(["64", "stg=512"])) == 512
    assert budget_of(row, budgets(["tal=64"])) == 300
    assert budget_of({"ability": "stg", "extra_info": {}}, {}) == RESPONSE_TOKENS["stg"] == 256


def test_an_example_is_of_the_same_pair_and_of_another_surgery(plugged, qwen2_5_vl):
    from data_preprocess.splits import group_of
    from recipes.medgrpo.data.rows import DataError
    from recipes.medgrpo.inference.one_shot import Examples

    train = str(qwen2_5_vl.data / "train.parquet")
    examples = Examples(train, seed=3)
    drawn = set()
    # The training rows themselves: there every row's own video is among the examples.
    for place, row in enumerate(examples.rows.to_pylist()):
        try:
            at = examples.draw(row)
        except DataError:
            continue
        example = examples.rows.row(at)
        assert example["data_source"] == row["data_source"] and at != place
        assert group_of(*(example["extra_info"][key] for key in ("source", "video_id"))) != group_of(
            *(row["extra_info"][key] for key in ("source", "video_id"))
        )
        assert Examples(train, seed=3).draw(row) == at
        drawn.add((row["data_source"], at))
    assert len(drawn) > 20
    *_, shown, answer, question = examples.messages(row := examples.rows.row(0))
    assert [turn["role"] for turn in (shown, answer, question)] == ["user", "assistant", "user"]
    assert [part["type"] for part in shown["content"]] == [part["type"] for part in question["content"]]
    assert question["content"][-1]["text"].strip() == row["extra_info"]["question"].strip()

    row["extra_info"]["model_family"] = "qwen3_vl"
    with pytest.raises(DataError, match="extra_info.model_family: expected qwen3_vl, found qwen2_5_vl"):
        examples.messages(row)
    row["data_source"] = "medvidbench/Nowhere/tal"
    with pytest.raises(DataError, match="expected a row of medvidbench/Nowhere/tal about another video"):
        examples.draw(row)


def test_an_example_changes_the_prompt_and_the_header(infer, qwen2_5_vl, tmp_path):
    train = qwen2_5_vl.data / "train.parquet"
    asked = ("--tasks", "tal", "--limit", 2, "--max-new-tokens", 3)
    status, shown, (header, *_) = infer(*asked, "--one-shot", train)
    assert status == 0 and len(shown) == 2 and len(header["header"]["settings"]["one_shot"]) == 64


def test_a_frame_that_is_gone_leaves_its_row_open(infer, qwen2_5_vl, tmp_path, capsys):
    table = pq.read_table(qwen2_5_vl.data / "val.parquet")
    rows = given_out(qwen2_5_vl.data / "val.parquet")[:3]
    there, rows[1]["videos"][0]["video"][0] = rows[1]["videos"][0]["video"][0], str(tmp_path / "gone.ppm")
    data = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows, table.schema), data)
    status, released, _ = infer("--max-new-tokens", "2", data=data)
    said = capsys.readouterr()
    assert status == 1 and len(released) == 2 and "2 answers, 1 missing" in said.out
    assert f"row {rows[1]['extra_info']['index']}: {tmp_path}/gone.ppm: cannot read this frame" in said.err
    assert f"(listed in {data}: row 1)" in said.err
    os.link(there, tmp_path / "gone.ppm")
    status, released, _ = infer("--max-new-tokens", "2", data=data)
    assert status == 0 and len(released) == 3


def test_rows_of_another_family_are_refused(infer, synthetic_data, capsys):
    status, released, lines = infer("--limit", "2", data=synthetic_data["qwen3_vl"] / "val.parquet")
    assert (status, released, lines) == (2, None, [])
    assert "made for qwen3_vl, the model is qwen2_5_vl: preprocess again" in capsys.readouterr().err


def test_rows_of_two_files_need_lines(infer, qwen2_5_vl, tmp_path, capsys):
    table = pq.read_table(qwen2_5_vl.data / "val.parquet")
    rows = given_out(qwen2_5_vl.data / "val.parquet")[:2]
    rows[1]["extra_info"] |= {"file": "other.json", "index": rows[0]["extra_info"]["index"]}
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "two.parquet")
    status, *_ = infer("--max-new-tokens", "2", data=tmp_path / "two.parquet")
    assert status == 2 and "expected those of one file, or a .jsonl output" in capsys.readouterr().err
    status, _, lines = infer("--max-new-tokens", "2", data=tmp_path / "two.parquet", name="two.jsonl")
    assert status == 0 and [line["file"] for line in lines[1:]] == [row["extra_info"]["file"] for row in rows]


def test_gpus_are_dealt_to_the_processes(plugged):
    from recipes.medgrpo.files import InputError
    from recipes.medgrpo.inference.shards import devices

    assert devices(2, 2, ["0", "1", "4", "5"]) == ["0,1", "4,5"]
    assert devices(2, 1, []) == [None, None]
    with pytest.raises(InputError, match="expected 4 GPUs, 2 for each process, found 3"):
        devices(2, 2, ["0", "1", "2"])


@pytest.mark.slow
def test_a_kill_costs_one_batch_and_two_processes_go_on(qwen2_5_vl, infer, tmp_path):
    """Killed with SIGKILL after its first answers, then finished by two processes: as if nothing had happened."""
    asked = ["--max-new-tokens", "40", "--limit", "20"]
    where = [
        "--model",
        qwen2_5_vl.path,
        "--data",
        qwen2_5_vl.data / "val.parquet",
        "--output",
        tmp_path / "killed.json",
    ]
    command = [sys.executable, "-m", "recipes.medgrpo.generate", *map(str, where), *asked, "--engine", "transformers"]
    process = subprocess.Popen([*command, "--batch-size", "1"], cwd=ROOT, stdout=subprocess.DEVNULL)
    part = tmp_path / "killed.jsonl.partial"
    end = time.monotonic() + 120
    while time.monotonic() < end and not (part.exists() and part.read_bytes().count(b"\n") >= 4):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = part.read_text().splitlines()[1:]
    assert 3 <= len(lines) < 20
    # What was written when the machine went down in the middle of a line.
    part.write_text(part.read_text() + '{"place": 19, "sam')

    done = subprocess.run([*command, "--data-parallel", "2"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{len(lines)} of 20 answers are there" in done.stdout
    _, whole, expected = infer(*asked)
    assert json.loads((tmp_path / "killed.json").read_text()) == whole
    found = [json.loads(line) for line in (tmp_path / "killed.jsonl").read_text().splitlines()]
    assert found == expected and found[1 : len(lines) + 1] == [json.loads(line) for line in lines]
    assert not part.exists()
