# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json
import shutil

import pytest

from recipes.medgrpo import files
from recipes.medgrpo.files import (
    NO_SIGNAL,
    code_fingerprint,
    data_fingerprint,
    model_fingerprint,
    read_json_lines,
    write_atomic,
    write_json,
    write_json_lines,
)


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "scores.json"
    write_json(target, {"acc": 0.5})

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_json(target, {"acc": 0.9})
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert json.loads(target.read_text()) == {"acc": 0.5}


def test_folders_are_made_and_others_may_read(tmp_path):
    target = tmp_path / "eval" / "sft" / "scores.json"
    write_atomic(target, "x")
    assert target.read_text() == "x" and target.stat().st_mode & 0o777 == 0o644


def test_a_number_that_is_none_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "scores.json", {"acc": float("nan")})
    with pytest.raises(ValueError):
        write_json_lines(tmp_path / "lines.jsonl", [{"acc": 1.0}, {"acc": float("inf")}])
    assert list(tmp_path.iterdir()) == []


def test_lines_come_back(tmp_path):
    records = [{"answer": "a\nb\u2028c"}, {"acc": 0.25}]
    write_json_lines(tmp_path / "lines.jsonl", records)
    assert read_json_lines(tmp_path / "lines.jsonl") == records


def test_no_file_has_no_lines(tmp_path):
    assert read_json_lines(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("kept", range(1, 14))
def test_the_line_that_a_kill_cut_short_is_left_out(tmp_path, kept):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n' + '{"answer": "b"}'[:kept])
    assert read_json_lines(path) == [{"a": 1}]


def test_a_broken_line_before_the_last_is_an_error(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"b": \n{"c": 3}\n')
    with pytest.raises(ValueError, match=r"lines\.jsonl: line 2"):
        read_json_lines(path)
    path.write_text('{"a": 1}\n{"b": \n')
    with pytest.raises(ValueError, match="line 2"):
        read_json_lines(path)


def test_a_fingerprint_follows_name_and_content(tmp_path):
    one, same, other = (tmp_path / folder / "train.parquet" for folder in "abc")
    for path, content in ((one, "rows"), (same, "rows"), (other, "rowz")):
        write_atomic(path, content)
    write_atomic(tmp_path / "a" / "val.parquet", "rows")
    assert data_fingerprint(one) == data_fingerprint(same)
    assert len({data_fingerprint(path) for path in (one, other, tmp_path / "a" / "val.parquet")}) == 3


def test_a_models_fingerprint_follows_whatever_decides_its_answers(tmp_path):
    for name in ("config.json", "chat_template.jinja", "model-1.safetensors", "model-2.safetensors", "README.md"):
        write_atomic(tmp_path / name, name)
    seen = [model_fingerprint(tmp_path)]
    write_atomic(tmp_path / "README.md", "other")
    assert model_fingerprint(tmp_path) == seen[0]
    for name in ("config.json", "chat_template.jinja", "model-2.safetensors"):
        write_atomic(tmp_path / name, "other")
        seen.append(model_fingerprint(tmp_path))
    assert len(set(seen)) == 4


def test_a_folder_without_weights_has_no_fingerprint(tmp_path):
    write_atomic(tmp_path / "config.json", "{}")
    with pytest.raises((OSError, ValueError), match=str(tmp_path)):
        model_fingerprint(tmp_path)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of the reward's room, which a test may change."""
    shutil.copytree(
        files.ROOT / "reward_score", tmp_path / "reward_score", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(files, "ROOT", tmp_path)
    return tmp_path / "reward_score"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *[(name, True) for name in ("tasks.py", "answers.py", "temporal.py", "captions.py", "similarity/encoders.py")],
        *[(name, True) for name in ("judge/prompts/comparative.txt", "judge/verdict.py", "judge/offline.py")],
        ("paid_call/failures.py", True),
        *[(name, False) for name in ("normalization.py", "leaderboard/scoring.py", "paid_call/store/database.py")],
        *[(name, False) for name in ("paid_call/limits.py", "paid_call/prices.py", "similarity/server.py")],
    ],
)
def test_answers_are_scored_again_when_a_raw_signal_may_have_changed(sources, name, counts):
    before = code_fingerprint()
    with open(sources / name, "a") as source:
        source.write("\n")
    assert (code_fingerprint() != before) is counts


def test_a_new_module_counts_and_what_does_not_is_there(sources):
    before = code_fingerprint()
    (sources / "new_signal.py").write_text("")
    assert code_fingerprint() != before
    assert all((sources / name).exists() for name in NO_SIGNAL)
