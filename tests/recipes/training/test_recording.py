# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a step leaves of its answers: lines of numbers for all, texts for as many as were asked for."""

import asyncio
import gzip

import numpy as np
import pytest

from recipes.medgrpo.answers.recorded import read_recorded
from recipes.medgrpo.files import InputError, read_json_lines
from recipes.medgrpo.training.curves import Rollout
from recipes.medgrpo.training.recording import ANSWERS, ROLLOUTS, Recorder, kept, step_file, step_of
from reward_score.judge import DIMENSIONS
from reward_score.medgrpo import compute_score

TAL, RC = "medvidbench/AVOS/tal", "medvidbench/CoPESD/rc"
GOLD = '{"text": "The grasper lifts the gallbladder."}'


@pytest.fixture
def tokenizer(qwen2_5_vl):
    return qwen2_5_vl.processor.tokenizer


def said(tokenizer, text: str, group: str = "a", source: str = TAL, end: str = "<|im_end|>", **parts: float) -> Rollout:
    ids = tokenizer.encode(text + end, add_special_tokens=False)
    return Rollout(group, source, len(ids), 0.5, {"acc": 0.5, "format": 1.0, **parts}, ("train.json", 7), ids)


def write(recorder: Recorder, step: int, rollouts: list[Rollout]) -> None:
    half = np.full(len(rollouts), 0.5)
    recorder.write(step, rollouts, half, half - 0.5, [{"iou": 0.25}] * len(rollouts))


def test_the_text_is_what_the_reward_was_given(tokenizer, qwen2_5_vl, tmp_path):
    recorder = Recorder(tmp_path, None, str(qwen2_5_vl.path))
    write(recorder, 3, [said(tokenizer, "3.0-5.0 seconds."), said(tokenizer, "3.0-5.0", end="")])
    whole, cut = read_json_lines(step_file(tmp_path, ANSWERS, 3))
    assert whole == {"place": 0, "text": "3.0-5.0 seconds.", "normalised": {"iou": 0.25}}
    assert cut["text"] == "3.0-5.0"
    assert [line["truncated"] for line in read_json_lines(step_file(tmp_path, ROLLOUTS, 3))] == [False, True]


def test_the_lines_of_numbers_name_their_row_and_are_read_as_before(tokenizer, qwen2_5_vl, tmp_path):
    recorder = Recorder(tmp_path, None, str(qwen2_5_vl.path))
    write(recorder, 1, [said(tokenizer, "x", raw_iou=0.25), said(tokenizer, "y", raw_iou=0.75)])
    (first, _) = read_json_lines(step_file(tmp_path, ROLLOUTS, 1))
    assert (first["file"], first["index"]) == ("train.json", 7)
    recorded = read_recorded([tmp_path])
    assert recorded.raw["iou"].tolist() == [0.25, 0.75] and recorded.step.tolist() == [1, 1]


def test_a_cap_counts_prompts_of_a_pair_and_keeps_groups_whole(tokenizer):
    groups = [("a", TAL), ("b", TAL), ("a", TAL), ("c", RC), ("b", TAL), ("c", RC)]
    rollouts = [said(tokenizer, "x", group, source) for group, source in groups]
    assert kept(rollouts, 1) == [0, 2, 3, 5]
    assert kept(rollouts, 2) == kept(rollouts, None) == [0, 1, 2, 3, 4, 5]
    assert kept(rollouts, 0) == []


def test_a_step_that_is_trained_again_replaces_its_files(tokenizer, qwen2_5_vl, tmp_path):
    recorder = Recorder(tmp_path, None, str(qwen2_5_vl.path))
    write(recorder, 1, [said(tokenizer, "first"), said(tokenizer, "second")])
    write(recorder, 1, [said(tokenizer, "again")])
    assert [one["text"] for one in read_json_lines(step_file(tmp_path, ANSWERS, 1))] == ["again"]
    # A run that goes on without texts does not leave those of another attempt beside its own numbers.
    write(Recorder(tmp_path, 0, None), 1, [said(tokenizer, "unsaid")])
    assert not step_file(tmp_path, ANSWERS, 1).exists() and step_file(tmp_path, ROLLOUTS, 1).exists()
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["step_000001.jsonl"]


def test_the_judges_marks_are_kept_where_it_gave_some(tokenizer, qwen2_5_vl, tmp_path):
    answer = "The grasper lifts the liver."
    parts = asyncio.run(compute_score(RC, answer, GOLD, {}, judge="offline", normalizer="none"))
    recorder = Recorder(tmp_path, None, str(qwen2_5_vl.path))
    unjudged = said(tokenizer, "Grasper.", unjudged=1.0)
    write(recorder, 1, [said(tokenizer, answer, source=RC, **parts), unjudged])
    judged, other = read_json_lines(step_file(tmp_path, ANSWERS, 1))
    assert set(judged["marks"]) == set(DIMENSIONS) and "marks" not in other
    # The judge's signal is those marks, brought to 0 to 1.
    assert (np.mean(list(judged["marks"].values())) - 1) / 4 == pytest.approx(parts["raw_judge"])
    assert read_json_lines(step_file(tmp_path, ROLLOUTS, 1))[1]["unjudged"] == 1.0


def test_a_file_that_is_cut_short_is_named(tmp_path):
    file = step_file(tmp_path, ANSWERS, 1)
    file.parent.mkdir()
    file.write_bytes(gzip.compress(b'{"place": 0}\n' * 100)[:-9])
    with pytest.raises(InputError, match=r"step_000001.jsonl.gz: expected a gzip file"):
        read_json_lines(file)


def test_the_step_of_a_files_name(tmp_path):
    assert [step_of(step_file(tmp_path, folder, 12)) for folder in (ROLLOUTS, ANSWERS)] == [12, 12]
    assert step_of(tmp_path / "step_x.jsonl") is None
