# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run as pieces of data: what they say is what the run's files and the evaluation's own functions say."""

import json
import shutil

import numpy as np
import pytest
from made_run import Characters, Maker, made_run, tried

from data_preprocess.synthetic_rows import PAIRS
from recipes.medgrpo.evaluation.comparison import paired_difference
from recipes.medgrpo.files import InputError, read_json, read_json_lines, write_atomic
from recipes.medgrpo.reporting.overview import overview
from recipes.medgrpo.reporting.thumbnails import Thumbnails
from recipes.medgrpo.reporting.view import RunView
from recipes.medgrpo.summary import answers


@pytest.fixture(scope="module")
def data(synthetic_data):
    return synthetic_data["qwen2_5_vl"]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "made", data)


def view_of(run, data=None, **settings):
    settings = {"rows_per_pair": 2, "most": 100_000, **settings}
    view = RunView(run, 0, "made", Thumbnails(), data=data, **settings)
    view.refresh()
    return view


@pytest.fixture(scope="module")
def view(run, data):
    return view_of(run, data)


def test_figures_are_those_of_the_summary(view, run):
    summary, figures = read_json(run / "summary.json"), overview(view)["figures"]
    whole = next(row for row in figures if row["task"] is None and row["source"] is None)
    assert whole["before"] == summary["sft"]["acc"] and whole["after"] == summary["medgrpo"]["acc"]
    expected = summary["acc_change"]
    assert (whole["change"], whole["low"], whole["high"]) == (expected["acc_change"], expected["low"], expected["high"])
    pairs = {f"medvidbench/{row['source']}/{row['task']}": row for row in figures if row["task"] and row["source"]}
    assert pairs.keys() == summary["by_pair"].keys()
    assert all(row["after"] == summary["by_pair"][pair]["medgrpo"]["acc"] for pair, row in pairs.items())


def test_a_tasks_change_is_the_paired_difference_of_its_rows(view, run):
    before, after = (
        [one for one in answers(run / f"eval/{name}") if one["data_source"].endswith("/tal")]
        for name in ("sft", "medgrpo")
    )
    (row,) = [row for row in overview(view)["figures"] if row["task"] == "tal" and row["source"] is None]
    expected = paired_difference([(before, after)])
    assert (row["change"], row["low"], row["high"]) == (expected["acc_change"], expected["low"], expected["high"])
    assert row["n"] == len(before)


def test_columns_are_the_recorded_answers(view, run):
    lines = [line for step in (1, 2, 3) for line in read_json_lines(run / f"grpo/rollouts/step_{step:06d}.jsonl")]
    columns = view.rollouts()["columns"]
    assert columns["step"] == [line["step"] for line in lines]
    assert [view.pairs[pair] for pair in columns["pair"]] == [line["data_source"] for line in lines]
    for name, field in (("reward", "score"), ("acc", "acc"), ("advantage", "advantage"), ("tokens", "tokens")):
        assert columns[name].tolist() == [line[field] for line in lines]
    assert [bool(flags & 4) for flags in columns["flags"]] == [line["format"] == 0 for line in lines]
    rows = [row for chunk in range(view.book.chunks) for row in view.book.chunk(chunk)["rows"]]
    assert [(rows[row]["file"], rows[row]["index"]) for row in columns["row"]] == [
        (x["file"], x["index"]) for x in lines
    ]
    # Answers to one row are a group.
    one = [
        row
        for row, group, step in zip(columns["row"], columns["group"], columns["step"], strict=True)
        if (step, group) == (2, 5)
    ]
    assert len(one) == 4 and len(set(one)) == 1


def test_only_later_steps_are_given_when_asked(view):
    later = view.rollouts(3)
    assert set(later["columns"]["step"]) == {3} and list(later["texts"]) == ["3"] and later["from"] == 3


def test_an_answer_with_all_that_is_known_of_it(view, run):
    records = read_json_lines(run / "grpo/answers/step_000002.jsonl.gz")
    shown = view.answers(2)["answers"]
    assert [one["text"] for one in shown] == [record["text"] for record in records]
    assert [one["normalised"] for one in shown] == [record["normalised"] for record in records]
    assert [(one["judge"] or {}).get("marks") for one in shown] == [record.get("marks") for record in records]
    lines = read_json_lines(run / "grpo/rollouts/step_000002.jsonl")
    assert [one["raw"] for one in shown] == [
        {name[4:]: value for name, value in line.items() if name.startswith("raw_")} for line in lines
    ]
    # What cannot be read says so, and says nothing else.
    for one, line in zip(shown, lines, strict=True):
        assert (line["format"] == 1) == (one["error"] is None)
        assert (line["format"] == 0) == (one["said"] == {})


def test_a_right_answer_says_what_the_reference_says(data, tmp_path):
    """Boxes on the canvas, spans and events in clip seconds: the same numbers, up to an answer's one decimal."""
    Maker(tmp_path / "right", data, rows=1, say=lambda answer, draw: answer).step(1)
    right = view_of(tmp_path / "right", data)
    columns, shown = right.rollouts()["columns"], right.answers(1)["answers"]
    seen = set()
    for row, pair, one in zip(columns["row"], columns["pair"], shown, strict=True):
        gold, task = right.book.chunk(0)["rows"][row]["gold"], right.pairs[pair].rpartition("/")[2]
        if task == "stg":
            assert [box["time"] for box in one["said"]["boxes"]] == [box["time"] for box in gold["boxes"]]
            for mine, theirs in zip(one["said"]["boxes"], gold["boxes"], strict=True):
                assert mine["box"] == pytest.approx(theirs["box"], abs=1)
        elif task in ("tal", "nap", "cvs", "sa", "rc", "vs"):
            assert one["said"] == gold
        seen.add(task)
    assert seen == {task for _, task in PAIRS}


def test_rows_with_their_frames(view, data):
    row = view.book.chunk(0)["rows"][0]
    assert row["question"] and row["gold_text"] and row["duration"] > 0 and row["width"] > row["height"]
    times = [frame["time"] for frame in row["frames"]]
    assert times == sorted(times) and times[0] == 0 and times[-1] <= row["duration"]
    for frame in row["frames"]:
        assert view.book._thumbs.picture(frame["thumb"])[:2] == b"\xff\xd8"


def test_frames_of_so_many_rows_of_a_pair(run, data):
    view = view_of(run, data, rows_per_pair=1)
    pictured = [row["pair"] for row in view.book.chunk(0)["rows"] if row["frames"]]
    assert sorted(pictured) == sorted(view.pairs)
    bare = view_of(run, data, rows_per_pair=0)
    assert not any(row["frames"] for row in bare.book.chunk(0)["rows"])


def test_a_run_whose_frames_are_gone_is_shown_without_them(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "data", ignore=shutil.ignore_patterns("frames"))
    view = view_of(run, tmp_path / "data")
    row = view.book.chunk(0)["rows"][0]
    assert row["gold"] and row["frames"] and all(frame["thumb"] is None for frame in row["frames"])


def test_a_run_whose_rows_are_gone_is_shown_without_them(run):
    view = view_of(run)
    assert view.book.chunk(0)["rows"][0].keys() == {"pair", "file", "index", "frames"}
    assert overview(view)["has"]["rollouts"] and view.answers(1)["answers"][0]["text"]


def test_a_run_of_before_there_were_texts(run, data, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run, old, ignore=shutil.ignore_patterns("answers", "versions.json"))
    for file in (old / "grpo/rollouts").iterdir():
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        kept = [{name: line[name] for name in line if name not in ("file", "index", "truncated")} for line in lines]
        file.write_text("".join(json.dumps(line) + "\n" for line in kept))
    view = view_of(old, data)
    index = overview(view)
    assert index["has"] == {"rollouts": True, "texts": False, "evaluation": True, "statistics": True}
    assert set(view.rollouts()["columns"]["row"]) == {-1} and index["versions"] == {}
    one = view.answers(1)["answers"][0]
    assert one["text"] is None and one["said"] == {} and one["raw"]


def test_a_run_that_has_only_begun(tmp_path, data):
    maker = Maker(tmp_path / "run", data, tasks=["tal"])
    view = view_of(tmp_path / "run", data, patient=True)
    assert overview(view)["status"] == "running or interrupted" and overview(view)["steps"] == 0
    assert view.rollouts()["columns"]["step"] == [] and view.distributions() == {}
    maker.step(1)
    assert view.refresh() and not view.refresh()
    assert overview(view)["steps"] == 1 and set(view.rollouts()["columns"]["step"]) == {1}


def test_steps_that_a_resume_trains_again_replace_the_others(tmp_path, data):
    maker = Maker(tmp_path / "run", data, tasks=["tal", "nap"])
    view = view_of(tmp_path / "run", data)
    for step in (1, 2, 3):
        maker.step(step)
    view.refresh()
    eras = [overview(view)["era"]]
    maker.recorder.begin(1)
    view.refresh()
    assert set(view.rollouts()["columns"]["step"]) == {1}
    maker.step(2, attempt=2)
    view.refresh()
    index = overview(view)
    assert index["steps"] == 2 and index["resumes"] == [2] and index["era"] > eras[0]
    assert (
        view.answers(2)["answers"][0]["text"]
        == read_json_lines(tmp_path / "run/grpo/answers/step_000002.jsonl.gz")[0]["text"]
    )


def test_what_is_half_written_is_taken_up_later(tmp_path, data):
    maker = Maker(tmp_path / "run", data, tasks=["nap"])
    maker.step(1)
    view = view_of(tmp_path / "run", data, patient=True)
    log = tmp_path / "run/attempts/grpo_1.jsonl"
    whole = log.read_text()
    log.write_text(whole + whole[: len(whole) // 2])
    (tmp_path / "run/grpo/rollouts/step_000002.jsonl").write_text('{"step": 2, "gro')
    view.refresh()
    assert overview(view)["steps"] == 1 and set(view.rollouts()["columns"]["step"]) == {1}
    maker.recorder.begin(1)
    log.write_text(whole)
    maker.step(2)
    view.refresh()
    assert overview(view)["steps"] == 2 and set(view.rollouts()["columns"]["step"]) == {1, 2}


def test_a_bad_file_is_an_error_of_a_report_and_a_warning_of_a_watched_run(tmp_path, data):
    Maker(tmp_path / "run", data, tasks=["nap"]).step(1)
    bad = tmp_path / "run/grpo/rollouts/step_000002.jsonl"
    bad.write_text('{"step": 2, "group": "a", "data_source": "medvidbench/AVOS/nap", "format": 7, "score": 0}\n')
    with pytest.raises(InputError, match=r"step_000002.jsonl: line 1: format: expected a finite number, 0 to 1, got 7"):
        view_of(tmp_path / "run", data)
    (warning,) = [w for w in overview(view_of(tmp_path / "run", data, patient=True))["warnings"] if w["kind"] == "file"]
    assert "step_000002.jsonl: line 1" in warning["text"]


def test_of_a_long_run_steps_are_left_out_evenly(tmp_path, data):
    maker = Maker(tmp_path / "run", data, tasks=["nap"], rows=1, steps=12)
    for step in range(1, 13):
        maker.step(step)
    size = len(read_json_lines(tmp_path / "run/grpo/rollouts/step_000001.jsonl"))
    view = view_of(tmp_path / "run", data, most=4 * size)
    assert sorted(set(view.rollouts()["columns"]["step"])) == [1, 3, 6, 9, 12]
    assert overview(view)["every"] == 3 and overview(view)["steps"] == 12


def test_the_map_that_is_drawn_is_the_one_that_was_trained_with(view, run):
    shown = view.distributions()
    assert set(shown) == set(view.pairs)
    seen = 0
    for number in (1, 2, 3):
        columns, answers_ = view.steps.steps[number].columns, view.answers(number)["answers"]
        for pair, one in zip(columns["pair"], answers_, strict=True):
            for signal, value in one["normalised"].items():
                curve = np.array(shown[view.pairs[pair]]["signals"][signal]["curve"])
                assert np.interp(one["raw"][signal], *curve.T) == pytest.approx(value, abs=0.02)
                seen += 1
    assert seen > 100


def test_histograms_count_every_answer(view, run):
    shown, raw = view.distributions(), read_json_lines(run / "raw_signals.jsonl")[1:]
    for pair, content in shown.items():
        many = sum(record["data_source"] == pair for record in raw)
        for signal in content["signals"].values():
            assert sum(signal["bins"]) == signal["bins_figures"]["n"] == many
        columns = view.rollouts()["columns"]
        mine = columns["reward"][columns["pair"] == view.pairs.index(pair)]
        assert content["recent_after_figures"]["mean"] == pytest.approx(mine.mean())


def test_answers_that_differ_most_come_first(view, run):
    content = view.piece("evaluation", None)
    differences = [abs(row["difference"]) for row in content["rows"]]
    assert differences == sorted(differences, reverse=True) and differences[0] > 0
    texts = {(one["index"], one["sample"], one["data_source"]): one["answer"] for one in answers(run / "eval/medgrpo")}
    rows = [row for chunk in range(view.book.chunks) for row in view.book.chunk(chunk)["rows"]]
    for row in content["rows"]:
        assert texts[rows[row["row"]]["index"], row["sample"], row["pair"]] == row["b"]["text"]
        assert row["difference"] == row["b"]["acc"] - row["a"]["acc"]


def test_answers_that_cannot_be_read_are_a_warning(tmp_path, data):
    maker = Maker(tmp_path / "run", data, tasks=["tal"], say=lambda answer, draw: "nobody knows")
    maker.step(1)
    lines = overview(view_of(tmp_path / "run", data))["warnings"]
    unread = [line for line in lines if line["kind"] == "format"]
    assert len(unread) == len(view_of(tmp_path / "run", data).pairs)
    assert all("100% of the newest answers cannot be read" in line["text"] for line in unread)


def test_a_steps_lines_and_texts_stay_together_when_only_some_are_kept(tmp_path, data):
    maker = Maker(tmp_path / "run", data, tasks=["nap"], texts=1)
    maker.step(1)
    view = view_of(tmp_path / "run", data)
    texts = [one["text"] for one in view.answers(1)["answers"]]
    kept = read_json_lines(tmp_path / "run/grpo/answers/step_000001.jsonl.gz")
    assert 0 < len(kept) < len(texts)
    assert {place: text for place, text in enumerate(texts) if text is not None} == {
        one["place"]: one["text"] for one in kept
    }
    assert Characters.decode(Characters.encode("ab")) == "ab" and tried("x y", maker.draw)


def test_a_run_is_watched_from_its_first_moment(tmp_path, data):
    folder = tmp_path / "run"
    folder.mkdir()
    view = view_of(folder, patient=True)
    assert overview(view)["steps"] == 0 and overview(view)["settings"] == []
    (folder / "data").symlink_to(data)
    Maker(folder, data, tasks=["tal"]).step(1)
    assert view.refresh()
    assert view.book.chunk(0)["rows"][0]["frames"] and overview(view)["settings"]


def test_a_bad_line_of_the_metrics_is_a_warning_of_a_watched_run(tmp_path, data):
    Maker(tmp_path / "run", data, tasks=["nap"]).step(1)
    log = tmp_path / "run/attempts/grpo_1.jsonl"
    log.write_text(log.read_text() + "no JSON\n")
    view = view_of(tmp_path / "run", data, patient=True)
    view.refresh()
    (warning,) = [line for line in overview(view)["warnings"] if line["kind"] == "file"]
    assert "grpo_1.jsonl: line 2 is not JSON" in warning["text"] and overview(view)["steps"] == 1


def test_a_step_that_cannot_be_read_is_news_and_so_is_that_it_can(data, tmp_path):
    maker = Maker(tmp_path / "run", data, tasks=["tal"], rows=1)
    maker.step(1)
    view = view_of(tmp_path / "run", data, patient=True)
    file = maker.recorder.root / "rollouts/step_000002.jsonl"
    write_atomic(file, '{"step"\n{}\n')
    assert view.refresh() and str(file) in view.steps.problems[2]
    assert not view.refresh()
    maker.step(2)
    assert view.refresh() and view.steps.problems == {}
