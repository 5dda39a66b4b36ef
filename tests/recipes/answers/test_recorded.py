# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Recorded answers are read into columns, or refused with one line per bad file."""

import json
import tracemalloc

import numpy as np
import pytest

from recipes.medgrpo.answers.recorded import RecordedError, read_recorded

TAL, VS = "medvidbench/AVOS/tal", "medvidbench/CoPESD/vs"


def sampled(index: int, sample: int, source: str = TAL, **changes) -> dict:
    raw = {"raw_iou": 0.25} if source == TAL else {"raw_similarity": 0.5, "raw_judge": 0.75}
    record = {"file": "train.json", "index": index, "sample": sample, "data_source": source, "video": "AVOS/v1"}
    return record | {"answer": "0-1", "truncated": False, "format": 1.0, "score": 0.4, "acc": 0.25} | raw | changes


def rollout(step: int, group: str, **changes) -> dict:
    record = {"step": step, "group": group, "data_source": TAL, "format": 1.0, "score": 0.4, "acc": 0.25}
    return record | {"raw_iou": 0.25, "tokens": 12, "advantage": -0.5} | changes


def write(path, records, header=True):
    lines = ([{"header": {"model": "m"}}] if header else []) + list(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_sampled_answers_are_grouped_by_file_and_row(tmp_path):
    records = [sampled(7, 0), sampled(7, 1), sampled(7, 0, file="other.json"), sampled(8, 0, VS)]
    recorded = read_recorded([write(tmp_path / "raw_signals.jsonl", records)])
    assert recorded.group.tolist() == ["0:train.json:7", "0:train.json:7", "0:other.json:7", "0:train.json:8"]
    assert recorded.tasks.tolist() == ["tal", "tal", "tal", "vs"]
    assert recorded.raw["iou"].tolist()[:3] == [0.25] * 3 and np.isnan(recorded.raw["iou"][3])
    assert recorded.raw["judge"][3] == 0.75 and np.isnan(recorded.raw["judge"][:3]).all()
    assert recorded.texts[0] == ("train.json", 7, "0-1", False)
    assert recorded.headers == [{"model": "m"}]
    assert recorded.tokens is None and recorded.step is None and recorded.advantage is None


def test_a_run_is_read_step_by_step(tmp_path):
    for step in (2, 10, 1):
        rows = [rollout(step, "a"), rollout(step, "b", tokens=3)]
        write(tmp_path / f"run/rollouts/step_{step:06d}.jsonl", rows, header=False)
    recorded = read_recorded([tmp_path / "run"])
    assert recorded.step.tolist() == [1, 1, 2, 2, 10, 10]
    assert recorded.group.tolist()[:2] == ["0:1:a", "0:1:b"]
    assert [batch.tolist() for batch in recorded.batches()] == [[0, 1], [2, 3], [4, 5]]
    assert recorded.tokens.tolist() == [12, 3] * 3
    assert recorded.advantage.tolist() == [-0.5] * 6
    assert recorded.texts is None
    folder, one = tmp_path / "run/rollouts", tmp_path / "run/rollouts/step_000002.jsonl"
    assert read_recorded([folder]).group.tolist() == recorded.group.tolist()
    assert read_recorded([one]).step.tolist() == [2, 2]


def test_what_a_step_lacks_another_may_have(tmp_path):
    other = rollout(2, "b", data_source=VS, raw_similarity=0.5, raw_judge=0.75)
    del other["raw_iou"], other["advantage"]
    for step, row in ((1, rollout(1, "a")), (2, other)):
        write(tmp_path / f"rollouts/step_{step:06d}.jsonl", [row, row], header=False)
    recorded = read_recorded([tmp_path])
    assert recorded.raw["iou"][:2].tolist() == [0.25, 0.25] and np.isnan(recorded.raw["iou"][2:]).all()
    assert recorded.raw["judge"][2:].tolist() == [0.75, 0.75] and np.isnan(recorded.raw["judge"][:2]).all()
    assert recorded.tokens.tolist() == [12] * 4 and recorded.advantage is None


def test_a_long_run_takes_little_memory(tmp_path):
    """Kept as objects, the answers would be some 900 bytes each."""
    for step in range(1, 201):
        rows = [rollout(step, f"prompt-{number // 8}-{step}") for number in range(64)]
        write(tmp_path / f"rollouts/step_{step:06d}.jsonl", rows, header=False)
    tracemalloc.start()
    recorded = read_recorded([tmp_path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(recorded) == 12_800 and len(set(map(id, recorded.group))) == 1_600
    assert peak < 300 * len(recorded)


def test_the_same_row_in_two_files_makes_two_groups(tmp_path):
    files = [write(tmp_path / name, [sampled(7, 0), sampled(7, 1)]) for name in ("a.jsonl", "b.jsonl")]
    assert len(set(read_recorded(files).group)) == 2


def test_some_answers_can_be_taken(tmp_path):
    recorded = read_recorded([write(tmp_path / "raw.jsonl", [sampled(7, 0), sampled(8, 0, VS), sampled(9, 0)])])
    some = recorded.take(recorded.tasks == "tal")
    assert len(some) == 2 and some.raw["iou"].tolist() == [0.25, 0.25] and [t.row for t in some.texts] == [7, 9]


BAD = {
    "format": (sampled(7, 0, format=1.5), "line 2: format: expected a finite number, 0 to 1, got 1.5"),
    "score": (sampled(7, 0, score=None), "line 2: score: expected a finite number, got None"),
    "signal": (sampled(7, 0, raw_iou="0.5"), "line 2: raw_iou: expected a finite number, got '0.5'"),
    "source": (sampled(7, 0, data_source="AVOS"), "line 2: data_source 'AVOS'"),
    "sources": (sampled(7, 0, data_source=[TAL]), "line 2: data_source: expected str, got ['medvid"),
    "list": ([1, 2], "line 2: expected one JSON object, got list"),
    "index": (sampled([7], 0), "line 2: index: expected int, got [7]"),
    "sample": (sampled(7, {}), "line 2: sample: expected int, got {}"),
    "huge": (sampled(7, 0, raw_iou=10**400), "line 2: raw_iou: expected a finite number, got 1000"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_field_is_named(tmp_path, name):
    record, message = BAD[name]
    file = write(tmp_path / "raw.jsonl", [record])
    with pytest.raises(RecordedError) as caught:
        read_recorded([file])
    assert str(caught.value).startswith(f"{file}: {message}")


def test_every_bad_file_gets_a_line(tmp_path):
    good = write(tmp_path / "good.jsonl", [sampled(7, 0)])
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{\n{}\n")
    empty = write(tmp_path / "empty.jsonl", [])
    twice = write(tmp_path / "twice.jsonl", [sampled(7, 0), sampled(7, 0)])
    no_header = write(tmp_path / "no_header.jsonl", [sampled(7, 0)], header=False)
    (tmp_path / "folder").mkdir()
    deep, binary = tmp_path / "deep.jsonl", tmp_path / "binary.jsonl"
    deep.write_text("[" * 100_000 + "\n{}\n")
    binary.write_bytes(b"\xff\xfe")
    bad = [broken, empty, twice, no_header, tmp_path / "folder", tmp_path / "gone.jsonl", deep, binary]
    with pytest.raises(RecordedError) as caught:
        read_recorded([good, *bad])
    lines = str(caught.value).split("\n")
    assert len(lines) == len(bad)
    for line, file, what in zip(
        lines,
        bad,
        (
            "not JSON",
            "no answers",
            "sample 0 of row 7 of train.json is there 2 times",
            "step: missing",
            "no step_",
            "no such",
            "recursion",
            "utf-8",
        ),
        strict=True,
    ):
        assert line.startswith(str(file)) and what in line
