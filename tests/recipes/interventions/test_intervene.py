# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The command on a tiny model: what it writes, what it refuses, and what a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time
from ast import literal_eval
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from parquet_rows import given_out

from recipes.medgrpo.files import data_fingerprint, model_fingerprint, read_json_lines, write_json_lines
from recipes.medgrpo.interventions.attempts import find_attempts
from recipes.medgrpo.interventions.training_rows import REPEATS, balanced

ROOT = Path(__file__).resolve().parents[3]
WRONG = {"cvs": "Two structures: {0}, Cystic plate: {0}, Hepatocystic triangle: {0}"}


def recorded(family, file, split="train", **header):
    """What `calibrate` writes: each row of cvs, nap and sa answered wrongly twice and rightly twice."""
    from recipes.medgrpo.inference.jobs import Reply
    from recipes.medgrpo.inference.run import record_of
    from recipes.medgrpo.inference.scored_samples import scored

    data = family.data / f"{split}.parquet"
    rows, records = given_out(data), []
    for place, row in enumerate(rows):
        target = row["extra_info"]["answer"]
        if row["ability"] == "cvs":
            said = [WRONG["cvs"].format(score) for score in (0, 1)]
        elif row["ability"] == "sa":
            said = [target.replace(": 1/5", ": 4/5").replace(": 2/5", ": 5/5").replace(": 3/5", ": 5/5")] * 2
        elif row["ability"] == "nap":
            said = ["nothing of the kind"] * 2
        else:
            continue
        for sample, answer in enumerate([*said, target, target]):
            records.append(record_of(row, (place, sample), Reply(answer, False, 9)))
    head = {
        "model": model_fingerprint(family.path),
        "data": data_fingerprint(data),
        "settings": {},
        "scoring": {"judge": "offline"},
        "code": "x",
        **header,
    }
    write_json_lines(file, [{"header": head}, *scored(dict(enumerate(rows)), records, {"judge": "offline"})])
    return file


def arguments(family, folder, *more, split="train", file=None):
    given = ["--model", family.path, "--recorded", file or folder / "raw_signals.jsonl", "--output", folder / "int"]
    return [*map(str, given), "--data", str(family.data / f"{split}.parquet"), *map(str, more)]


@pytest.fixture
def helped(monkeypatch):
    """A model that says the rest of the reference behind a right element, and nothing behind a wrong one.

    Gives {(place of the job, sample): seed} of what it was asked.
    """
    from recipes.medgrpo.inference.run import Work
    from recipes.medgrpo.rollout.transformers_engine import Answer, TransformersEngine

    asked, drawn = {}, {}
    make = Work.job

    def job(self, row, key):
        made = make(self, row, key)
        drawn[key] = made.seed
        asked[str(made.place)] = row["extra_info"]["answer"]
        return made

    def generate(self, requests, settings):
        found = []
        for request in requests:
            place, _, prefix = request.key.partition(" ")
            target, prefix = asked[place], literal_eval(prefix)
            rest = target[len(prefix) :] if target.startswith(prefix) else ""
            found.append(Answer(self.processor.tokenizer(rest)["input_ids"], [], False))
        return found

    monkeypatch.setattr(Work, "job", job)
    monkeypatch.setattr(TransformersEngine, "generate", generate)
    return drawn


def test_what_helps_is_written_and_everything_is_accounted_for(plugged, qwen2_5_vl, tmp_path, helped, capsys):
    from recipes.medgrpo import intervene

    file = recorded(qwen2_5_vl, tmp_path / "raw_signals.jsonl")
    assert intervene.main(arguments(qwen2_5_vl, tmp_path, "--continuations", 2)) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "int/summary.json").read_text())
    lines = read_json_lines(tmp_path / "int/interventions.jsonl")
    rows = given_out(tmp_path / "int/interventions.parquet")

    # Every recorded answer has one end.
    for pair, one in summary["pairs"].items():
        ends = Counter(one["answers"])
        assert ends.pop("recorded") == sum(ends.values()), pair
        assert pair.partition("/")[2] in said
    total = sum(one["answers"]["recorded"] for one in summary["pairs"].values())
    assert total == len(read_json_lines(file)) - 1
    nap = next(one for pair, one in summary["pairs"].items() if pair.endswith("/nap"))
    assert nap["answers"]["the task's answers have no elements"] > 0 and nap["rows"] == 0

    # Both arms of an attempt go on with the same draws, and each sample with others.
    places = {place for place, _ in helped}
    assert places == set(range(2 * len(lines)))
    for place in range(0, len(places), 2):
        first, second = ([helped[arm, sample] for sample in (0, 1)] for arm in (place, place + 1))
        assert first == second and first[0] != first[1]

    # The right element, and the rest of the reference behind it, against nothing.
    kept = [line for line in lines if line["end"] == "kept"]
    assert kept and all(line["after"]["corrected"] > line["after"]["original"] == 0 for line in kept)
    assert summary["kept"] == len(kept) and summary["tried"] == len(lines)
    assert max(Counter(line["place"] for line in lines).values()) <= 2
    texts = {line["prefix"] + line["correction"] for line in kept}
    sources = given_out(qwen2_5_vl.data / "train.parquet")
    for row in rows:
        extra = row["extra_info"]
        assert extra["answer"] in texts and extra["answer_open"] is True and extra["split"] == "train"
        (mine,) = [one for one in sources if one["extra_info"]["index"] == extra["index"]]
        assert all(Path(frame).exists() for video in row["videos"] for frame in video["video"])
        assert mine["prompt"] == row["prompt"] and mine["extra_info"]["answer"].startswith(extra["answer"])
    gold = pq.read_table(tmp_path / "int/gold.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in gold] == [row["extra_info"]["index"] for row in rows]
    assert [mine["extra_info"]["answer_open"] for mine in gold] == [False] * len(rows)
    assert len({number for number in Counter(row["data_source"] for row in rows).values()}) == 1

    # A second call finds everything there, and writes the same.
    before = {path.name: path.read_bytes() for path in (tmp_path / "int").iterdir()}
    assert intervene.main(arguments(qwen2_5_vl, tmp_path, "--continuations", 2)) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "int").iterdir()} == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("split", "split: expected train, found val"),
        ("data", "header: data: expected answers to"),
        ("model", "header: model: expected answers of the model in --model"),
        ("absent", "expected the raw_signals.jsonl of a finished calibration"),
    ],
)
def test_what_must_not_be_learnt_from_is_refused_by_name(plugged, qwen2_5_vl, tmp_path, capsys, wrong, words):
    from recipes.medgrpo import intervene

    split = "val" if wrong == "split" else "train"
    header = {wrong: "other"} if wrong in ("data", "model") else {}
    file = recorded(qwen2_5_vl, tmp_path / "raw_signals.jsonl", split, **header)
    if wrong == "absent":
        file.unlink()
    assert intervene.main(arguments(qwen2_5_vl, tmp_path, split=split)) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    if wrong == "split":
        row = given_out(qwen2_5_vl.data / "val.parquet")[0]["extra_info"]
        assert f"row {row['index']} of {row['file']} ({row['source']}/{row['video_id']})" in said
    assert not (tmp_path / "int").exists()


def test_no_correction_that_helps_is_said_and_nothing_is_written_to_train_on(plugged, qwen2_5_vl, tmp_path, capsys):
    from recipes.medgrpo import intervene

    recorded(qwen2_5_vl, tmp_path / "raw_signals.jsonl")
    options = ("--continuations", 1, "--max-new-tokens", 1, "--tasks", "cvs")
    assert intervene.main(arguments(qwen2_5_vl, tmp_path, *options)) == 2
    assert "no correction helps" in capsys.readouterr().err
    assert not list((tmp_path / "int").glob("*.parquet"))
    assert json.loads((tmp_path / "int/summary.json").read_text())["kept"] == 0


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(plugged, qwen2_5_vl, tmp_path):
    """The same continuations in the end, and none of those that were there said anew."""
    recorded(qwen2_5_vl, tmp_path / "raw_signals.jsonl")
    environment = os.environ | {"VERL_PLATFORM": "cpu", "PYTHONPATH": str(ROOT)}

    def start(folder):
        more = ("--continuations", "8", "--max-new-tokens", "24", "--batch-size", "4")
        given = arguments(qwen2_5_vl, folder, *more, file=tmp_path / "raw_signals.jsonl")
        command = [sys.executable, "-m", "recipes.medgrpo", "intervene", *given]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    whole = start(tmp_path / "whole")
    # A random model's continuations help nobody.
    assert b"no correction helps" in whole.communicate(timeout=300)[1] and whole.returncode == 2

    killed = start(tmp_path / "killed")
    partial = tmp_path / "killed/int/continuations.jsonl.partial"
    for _ in range(3000):
        if partial.exists() and partial.read_bytes().count(b"\n") > 8:
            break
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    there = read_json_lines(partial)
    final = tmp_path / "killed/int/continuations.jsonl"
    assert 1 < len(there) < len(read_json_lines(tmp_path / "whole/int/continuations.jsonl")) and not final.exists()
    assert not (tmp_path / "killed/int/summary.json").exists()

    # What was said before the kill is not asked again: a mark in it is still there in the end.
    marked = {**there[1], "tokens": 9999}
    partial.write_text("".join(json.dumps(line) + "\n" for line in [there[0], marked, *there[2:]]))
    assert start(tmp_path / "killed").communicate(timeout=300)[1]
    lines = read_json_lines(final)
    at = next(at for at, line in enumerate(lines) if line == marked)
    lines[at] = there[1]
    assert lines == read_json_lines(tmp_path / "whole/int/continuations.jsonl")


def test_pairs_are_there_equally_often_as_far_as_they_go():
    pairs = ["a"] * 9 + ["b"] * 4 + ["c"]
    chosen = balanced(pairs)
    assert Counter(pairs[place] for place in chosen) == {"a": 4, "b": 4, "c": 4}
    assert Counter(chosen)[13] == 4 == REPEATS and len({place for place in chosen if place < 9}) == 4
    assert Counter(pairs[place] for place in balanced(pairs, 8)) == {"a": 8, "b": 8, "c": 4}
    assert balanced([]) == [] and balanced(pairs, 2, seed=1) != balanced(pairs, 2, seed=2)


def test_what_earned_nothing_has_failed_where_most_of_its_pair_have(plugged, qwen2_5_vl):
    """The median is 0 there, and nothing is below it."""
    from recipes.medgrpo.data.rows import Rows

    data = qwen2_5_vl.data / "train.parquet"
    rows = Rows.open([str(data)])
    place = next(at for at, row in enumerate(given_out(data)) if row["ability"] == "cvs")
    pair = rows.row(place)["data_source"]

    def attempts(*scores):
        texts = [WRONG["cvs"].format(at) for at in range(3)]
        records = [
            {"place": place, "sample": at, "data_source": pair, "score": score, "answer": text}
            for at, (score, text) in enumerate(zip(scores, texts, strict=True))
        ]
        return [one.sample for one in find_attempts(records, rows, per_prompt=9).attempts]

    below = attempts(0.1, 0.5, 0.9)
    assert set(below) <= {0} and set(attempts(0.5, 0.1, 0.9)) <= {1}
    assert attempts(0.5, 0.5, 0.5) == []
    assert set(attempts(0.0, 0.0, 0.5)) <= {0, 1} and attempts(0.0, 0.0, 0.5)
