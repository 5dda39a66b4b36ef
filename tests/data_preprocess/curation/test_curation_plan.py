# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A plan counts what would be made, asks nobody, and says what is short and why."""

from __future__ import annotations

import json

from data_preprocess import curate
from data_preprocess.curation.captions.context import ShowSettings
from data_preprocess.curation.clips import ClipSettings, Cutter
from data_preprocess.curation.planning import PlanSettings, plan, short_of, wanted
from data_preprocess.curation.produce import Recipe
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.synthetic import TRUTHS
from data_preprocess.curation.synthetic.drawing import Scale
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
    assert made.calls == {"CholecT50/dvc": 2 * clips, "CholecT50/vs": 2 * clips}
    assert made.prompt_tokens == 4 * clips * (50 + 10 * 100) and made.answer_tokens == 2 * clips * (7 + 3)
    assert made.rows["CholecT50/vs"] == clips
    assert made.dollars((2.0, 8.0)) == (made.prompt_tokens * 2 + made.answer_tokens * 8) / 1e6
    assert made.frame_bytes == 0, "its frames come as files"


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
