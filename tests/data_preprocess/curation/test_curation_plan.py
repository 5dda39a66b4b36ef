# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A plan counts what would be made, asks nobody, and says what is short and why."""

from __future__ import annotations

import json

import pytest

from data_preprocess import curate
from data_preprocess.curation.captions.context import ShowSettings
from data_preprocess.curation.clips import ClipSettings, Cutter
from data_preprocess.curation.planning import PlanSettings, plan, short_of, wanted
from data_preprocess.curation.produce import Recipe
from data_preprocess.curation.questions.excerpts import ExcerptSettings, excerpts
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.synthetic import TRUTHS
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.lectures import write_lectures
from data_preprocess.curation.synthetic.published import published_videos


def test_a_plan_counts_the_rows_that_are_then_made(tmp_path, capsys):
    root = str(tmp_path / "sources")
    arguments = ["--no-media", "--output", root, "--sources", "CoPESD", "AVOS", "--videos", "2"]
    assert curate.main(["synthetic", *arguments]) == 0
    capsys.readouterr()
    assert curate.main(["plan", "CoPESD", "AVOS", "--root", root, "--rows", "2000"]) == 0
    said = capsys.readouterr().out
    assert curate.main(["CoPESD", "AVOS", "--root", root, "--output", str(tmp_path / "rows")]) == 0
    manifest = json.loads((tmp_path / "rows" / "curation.json").read_text(encoding="utf-8"))
    lines = {line.split()[0]: line.split() for line in said.splitlines() if "/" in line.split()[0]}
    assert {pair: int(lines[pair][3]) for pair in manifest["pairs"]} == {
        pair: entry["rows"] for pair, entry in manifest["pairs"].items()
    }
    assert {pair: int(lines[pair][1]) for pair in manifest["pairs"]} == {
        pair: entry["videos"] for pair, entry in manifest["pairs"].items()
    }
    assert "gpt-4.1: $" in said and "GB to write" in said


def test_calls_and_tokens_are_those_of_two_captioners_and_every_clip():
    videos = list(TRUTHS["CholecT50"](Scale(videos=2)))
    recipe = Recipe(clips=ClipSettings(rates="1:1", passes=3))
    settings = PlanSettings(frame_tokens=100, prompt_tokens=50, dvc_tokens=7, vs_tokens=3, kept=0.5)
    made = plan(videos, recipe, ShowSettings(frames=10), settings)
    clips = sum(1 for video in videos for _ in Cutter(video, recipe.clips, 0).all())
    asked = made.captions
    assert asked.calls == {"CholecT50/dvc": 2 * clips, "CholecT50/vs": 2 * clips}
    assert asked.prompt_tokens == 4 * clips * (50 + 10 * 100) and asked.answer_tokens == 2 * clips * (7 + 3)
    assert made.rows["CholecT50/vs"] == clips
    assert asked.dollars((2.0, 8.0)) == (asked.prompt_tokens * 2 + asked.answer_tokens * 8) / 1e6
    assert made.lectures.calls == {}, "nobody speaks in it"
    assert made.frame_bytes == 0, "its frames come as files"


def test_the_rows_that_are_wanted_are_shared_out_over_the_pairs(tmp_path, capsys):
    root = str(tmp_path / "sources")
    assert curate.main(["synthetic", "--no-media", "--output", root, "--sources", "NurViD", "--videos", "2"]) == 0
    capsys.readouterr()
    for rows in (2000, 23):
        assert curate.main(["plan", "NurViD", "--root", str(tmp_path / "sources/NurViD"), "--rows", str(rows)]) == 0
        said = capsys.readouterr().out
        goal = wanted(rows, ["NurViD"])
        lines = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith("NurViD/")}
        assert {pair: int(lines[pair][4]) for pair in goal} == goal
        made = {pair: int(lines[pair][3]) for pair in goal}
        enough = sum(min(made[pair], goal[pair]) for pair in goal)
        assert f"rows: {enough:,} of {sum(goal.values()):,} wanted ({sum(made.values()):,} can be made)" in said
        assert lines["NurViD/qa"][4:] == ["on", "top"]
        short = {pair for pair in goal if made[pair] < goal[pair]}
        assert {line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith("short:")} == short
    with pytest.raises(SystemExit) as ended:
        curate.main(["plan", "NurViD", "--root", root, "--rows", "0"])
    assert ended.value.code == 2 and "--rows: expected a number from 1" in capsys.readouterr().err


def test_calls_for_lectures_are_those_of_their_excerpts(tmp_path):
    scale = Scale(videos=2, seconds=120)
    videos = list(TRUTHS["AVOS"](scale))
    write_lectures(videos, tmp_path, scale)
    read = [one for video in videos for one in excerpts(video, tmp_path, ExcerptSettings())]
    settings = PlanSettings(
        facts=3, facts_tokens=10, questions_tokens=20, blind_tokens=5, fact_tokens=7, kept_questions=0.5
    )
    made = plan(videos, Recipe(), ShowSettings(), settings, tmp_path)
    assert made.lectures.calls == {"AVOS/qa": len(read) * (1 + 1 + 3)} and made.clips["AVOS/qa"] == len(read)
    said = sum(round(10 + len(one.text) / 4 + 20 + 3 * 7 + 3 * 5) for one in read)
    assert made.lectures.prompt_tokens == said and made.lectures.answer_tokens == len(read) * 3 * 3 * 7
    assert made.rows["AVOS/qa"] == int(len(read) * 3 * 0.5)
    assert plan(videos, Recipe(), ShowSettings(), settings, tmp_path / "none").lectures.calls == {}
    # Without a folder of transcripts, half of 120 s is taken as spoken, in excerpts of 20 s.
    assumed = plan(videos, Recipe(), ShowSettings(), PlanSettings(spoken=0.5, excerpt_seconds=20))
    assert assumed.lectures.calls == {"AVOS/qa": 2 * 3 * (2 + 4)}


def test_the_published_set_is_wanted_to_the_row_and_short_pairs_say_why():
    goal = wanted(531_850, READERS)
    assert sum(goal.values()) == 531_850 and len(goal) == 23
    assert wanted(531_850, ["NurViD"]) == {pair: goal[pair] for pair in ("NurViD/tal", "NurViD/dvc")}
    videos = list(TRUTHS["JIGSAWS"](Scale(videos=1))) + list(TRUTHS["CoPESD"](Scale(videos=1)))
    made = plan(videos, Recipe(), ShowSettings(), PlanSettings())
    goal = {"JIGSAWS/sa": 500, "CoPESD/tal": 2 * made.rows["CoPESD/tal"], "NurViD/tal": 1, "CoPESD/nap": 1}
    short = short_of(made, goal, Recipe())
    assert "a trial is shown whole" in short["JIGSAWS/sa"]
    assert "--set passes=4 would make about enough" in short["CoPESD/tal"]
    assert "nothing can be asked" in short["NurViD/tal"]
    assert "CoPESD/nap" not in short


def test_published_sizes_are_those_of_the_sources():
    cholec = list(published_videos("CholecT50"))
    assert len(cholec) == 50 and 100_000 < sum(len(video.numbers) for video in cholec) < 101_000
    assert len(list(published_videos("NurViD"))) == 1538
