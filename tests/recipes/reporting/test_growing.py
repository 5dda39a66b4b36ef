# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Files that are read while they are written."""

import json
import os

import pytest

from recipes.medgrpo.files import InputError, write_json_lines
from recipes.medgrpo.reporting.growing import StepFolder, Tail


def test_lines_come_once_and_a_half_line_when_it_is_whole(tmp_path):
    file = tmp_path / "log.jsonl"
    tail = Tail(file)
    assert tail.new() == []
    with open(file, "w") as log:
        log.write('{"step": 1}\n{"step": 2}\n{"st')
        log.flush()
        assert tail.new() == [{"step": 1}, {"step": 2}]
        assert tail.new() == []
        log.write('ep": 3}\n')
        log.flush()
        assert tail.new() == [{"step": 3}]


def test_a_line_that_is_cut_within_a_letter_waits_too(tmp_path):
    file, whole = tmp_path / "log.jsonl", '{"text": "ä"}\n'.encode()
    tail = Tail(file)
    file.write_bytes(whole[:11])
    assert tail.new() == []
    file.write_bytes(whole)
    assert tail.new() == [{"text": "ä"}]


def test_a_file_that_was_replaced_is_read_from_its_start(tmp_path):
    file = tmp_path / "log.jsonl"
    write_json_lines(file, [{"step": 1}, {"step": 2}])
    tail = Tail(file)
    assert len(tail.new()) == 2
    write_json_lines(file, [{"step": 7}, {"step": 8}, {"step": 9}])
    assert [record["step"] for record in tail.new()] == [7, 8, 9]


def test_a_bad_line_is_named_after_the_good_ones_before_it(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    tail = Tail(file)
    assert tail.new() == [{"step": 1}]
    with pytest.raises(InputError, match=r"log.jsonl: line 2 is not JSON"):
        tail.new()


def put(folder, step, content="{}\n"):
    """As a step's file is written: whole, by a rename."""
    draft = folder / ".draft"
    draft.write_text(content)
    os.replace(draft, folder / f"step_{step:06d}.jsonl")


def test_a_steps_file_is_given_once(tmp_path):
    steps = StepFolder(tmp_path, ".jsonl")
    assert steps.changed() == ({}, set())
    for step in (2, 1):
        put(tmp_path, step)
    (tmp_path / "step_000003.jsonl.gz").write_text("of another kind")
    (tmp_path / "notes.txt").write_text("no step")
    assert list(steps.changed().new) == [1, 2]
    assert steps.changed() == ({}, set())
    put(tmp_path, 3)
    assert steps.changed().new == {3: tmp_path / "step_000003.jsonl"}


def test_a_step_that_is_done_again_is_new_and_one_that_is_removed_is_gone(tmp_path):
    steps = StepFolder(tmp_path, ".jsonl")
    for step in (1, 2, 3):
        put(tmp_path, step)
    steps.changed()
    put(tmp_path, 2, json.dumps({"other": True}))
    (tmp_path / "step_000003.jsonl").unlink()
    assert steps.changed() == ({2: tmp_path / "step_000002.jsonl"}, {3})


def test_a_folder_that_is_not_there_yet_has_no_steps(tmp_path):
    steps = StepFolder(tmp_path / "later", ".jsonl")
    assert steps.changed() == ({}, set())
    (tmp_path / "later").mkdir()
    put(tmp_path / "later", 1)
    assert list(steps.changed().new) == [1]
