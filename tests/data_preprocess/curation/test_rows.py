# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Curated rows: what is asked of a clip, and that every row passes the preprocessor and its answer earns full marks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess import curate, medvidbench
from data_preprocess.annotations import parse_record
from data_preprocess.curation.clips import ClipSettings, Cutter, shares_of
from data_preprocess.curation.model import Boxed, Run, Scores, Video
from data_preprocess.curation.produce import Recipe, chosen, keys_of, read_all, rows_of
from data_preprocess.curation.rows import TASKS_OF, drafts
from data_preprocess.curation.rows.drafts import RowSettings
from data_preprocess.curation.rows.spans import merge
from data_preprocess.curation.rows.wordings import Wordings
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.synthetic import TRUTHS, write_source
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.splits import even_shares, group_of
from reward_score.answers import ASPECTS, CVS_COMPONENTS
from reward_score.medgrpo import compute_score

SHORT = ClipSettings(frames_least=4, frames_most=20, shortest=8)
# A video of a minute is one clip.
ONE = ClipSettings(rates="1:1", passes=1)


def asked(video: Video, task: str, clips: ClipSettings = SHORT, rules: RowSettings | None = None) -> list:
    """What is asked of a task about a video."""
    return [draft for draft in drafts(video, clips, rules or RowSettings(), 0) if draft.task == task]


def actions(*runs: tuple[float, float, str], seconds: int = 60) -> Video:
    """A video of AVOS with actions."""
    found = tuple(Run(start, end, label, "action") for start, end, label in runs)
    labels = {"action": ("cutting", "tying", "suturing")}
    numbers = range(seconds * 15 + 1)
    return Video("AVOS", "aaaaaaaaaaa", 15.0, 0, numbers, "AVOS/x/%d.jpg", (854, 480), runs=found, labels=labels)


@settings(max_examples=20, deadline=None)
@given(
    source=st.sampled_from(sorted(TASKS_OF)),
    seed=st.integers(0, 10_000),
    seconds=st.integers(60, 200),
    errata=st.booleans(),
    least=st.integers(2, 60),
    merged=st.sampled_from([0.0, 5.0]),
)
def test_every_row_passes_and_its_gold_answer_earns_full_marks(source, seed, seconds, errata, least, merged):
    videos = list(TRUTHS[source](Scale(seed, 2, seconds, errata)))
    clips = ClipSettings(frames_least=least, frames_most=least + 60)
    recipe = Recipe(clips=clips, rows=RowSettings(merge=merged), seed=seed)
    samples = []
    for at, (pair, row) in enumerate(row for video in videos for row in rows_of((video, None), recipe)):
        samples.append(parse_record(row, "curated.json", at))
        assert f"medvidbench/{pair}" == samples[-1].pair
        assert samples[-1].flags == () and samples[-1].ground is not None

    async def scores() -> list[dict[str, float]]:
        return [await compute_score(one.pair, one.answer, json.dumps(one.ground), normalizer="none") for one in samples]

    for got in asyncio.run(scores()):
        assert got["format"] == 1.0 and got["acc"] == pytest.approx(1.0, abs=1e-9)


def test_curated_files_go_through_the_preprocessor_without_a_reject(tmp_path, capsys):
    arguments = ["--no-media", "--output", str(tmp_path / "sources"), "--errata", "--seconds", "240"]
    assert curate.main(["synthetic", *arguments]) == 0
    arguments = ["all", "--root", str(tmp_path / "sources"), "--output", str(tmp_path / "rows")]
    assert curate.main(arguments) == 0
    annotations = str(tmp_path / "rows" / "annotations.json")
    output = str(tmp_path / "data")
    options = ["--verify", "none", "--no-frame-store", "--strict", "--workers", "1"]
    assert medvidbench.main(["--annotations", annotations, "--frames-root", "/", "--output", output, *options]) == 0
    audit = json.loads((tmp_path / "data" / "audit.json").read_text(encoding="utf-8"))
    manifest = json.loads((tmp_path / "rows" / "curation.json").read_text(encoding="utf-8"))
    assert audit["rows"]["written"] == manifest["rows"] and audit["rejected"] == [] and audit["flags"] == {}
    assert audit["curation"] == {"annotations.json": manifest}, "the audit quotes what the rows were made of"
    wanted = {f"medvidbench/{source}/{task}" for source, tasks in TASKS_OF.items() for task in tasks}
    assert set(audit["pairs"]) == wanted and audit["own_groups"] == {}
    assert {pair: entry["rows"] for pair, entry in audit["pairs"].items()} == {
        f"medvidbench/{pair}": entry["rows"] for pair, entry in manifest["pairs"].items()
    }


def test_equal_recipes_give_equal_bytes_and_a_root_elsewhere_does_too(tmp_path):
    for name in ("a", "b"):
        sources = str(tmp_path / name / "sources")
        assert curate.main(["synthetic", "--no-media", "--output", sources, "--sources", "AVOS", "CoPESD"]) == 0
        arguments = ["AVOS", "CoPESD", "--root", sources, "--output", str(tmp_path / name), "--rows-per-pair", "9"]
        assert curate.main(arguments) == 0
    for file in ("annotations.json", "curation.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    manifest = json.loads((tmp_path / "a" / "curation.json").read_text(encoding="utf-8"))
    assert {entry["rows"] for entry in manifest["pairs"].values()} == {9}


def test_a_subset_is_balanced_over_tasks_and_its_larger_one_has_the_same_rows():
    videos = [video for source in ("AVOS", "CoPESD", "JIGSAWS") for video in TRUTHS[source](Scale(videos=3))]
    keys = [keys_of(video, Recipe()) for video in videos]
    small, large = (chosen(keys, Recipe(subset=count)) for count in (40, 80))
    there, taken = Counter(), Counter()
    for of_video, few, many in zip(keys, small, large, strict=True):
        for pair, found in of_video.items():
            there[pair.rsplit("/")[-1]] += len(found)
            taken[pair.rsplit("/")[-1]] += len(few[pair])
            assert few[pair] <= many[pair] <= set(found)
    assert taken == even_shares(there, 40) and set(taken) == {"tal", "nap", "stg", "sa"}


def test_a_grounding_has_all_spans_of_a_label_in_clip_seconds():
    video = actions((10, 15, "cutting"), (20, 22, "tying"), (30, 35, "cutting"))
    whole, _ = asked(video, "tal", ONE)
    assert (whole.target, whole.clip.start, whole.clip.end) == ("cutting", 0, 60)
    assert whole.truth == [(10, 15), (30, 35)]
    merged, _ = asked(video, "tal", ONE, RowSettings(merge=15))
    assert merged.truth == [(10, 35)]


def test_a_label_with_a_span_that_cannot_be_asked_for_is_left_out():
    video = actions((10, 15, "cutting"), (30, 30.2, "cutting"), (40, 45, "tying"))
    assert {draft.target for draft in asked(video, "tal", ONE)} == {"tying"}


def test_a_label_that_fills_the_clip_is_not_asked_for_unless_wanted():
    video = actions((0, 60, "cutting"))
    assert asked(video, "tal") == []
    assert {draft.target for draft in asked(video, "tal", SHORT, RowSettings(whole_clip="keep"))} == {"cutting"}


def test_overlapping_spans_are_one():
    assert merge([(4, 9), (0, 5), (20, 21)], 0) == [(0, 9), (20, 21)]
    assert merge([(0, 5), (7, 9)], 2) == [(0, 9)]


def test_a_clip_of_a_next_action_ends_before_the_action_and_shows_none_of_it():
    video = actions((5, 20, "cutting"), (25, 40, "tying"), (44, 58, "suturing"))
    clips = ClipSettings(frames_least=8, frames_most=12, rates="1:1", passes=6, shortest=5)
    found = asked(video, "nap", clips)
    assert {draft.target for draft in found} == {"tying", "suturing"}
    for draft in found:
        start = {"tying": 25, "suturing": 44}[draft.target]
        assert start - 6 <= draft.clip.end < start


def test_no_next_action_is_asked_for_where_two_begin_at_once():
    video = actions((5, 20, "cutting"), (25, 40, "tying"), (25, 41, "suturing"))
    assert "suturing" not in {draft.target for draft in asked(video, "nap")}


def tracked(*boxes: Boxed, seconds: int = 40) -> Video:
    numbers = [25 * second + 1 for second in range(seconds)]
    return Video("CholecTrack20", "VID99", 25.0, 1, numbers, "C/%06d.png", (854, 480), boxes=boxes)


def test_a_tube_is_of_one_track_on_a_grid_whose_times_are_listed_frames():
    track = lambda second: "1" if second < 20 else "2"
    boxes = [Boxed(float(at), (at, 0, at + 9, 9), "hook", track(at)) for at in range(40)]
    clips = ClipSettings(rates="0.5:1", frames_least=10, frames_most=20, passes=8)
    found = asked(tracked(*boxes), "stg", clips)
    assert found
    for draft in found:
        start, end, stride, truth = draft.truth
        assert list(truth) == list(range(start, end + 1, stride)) and stride in (4, 8)
        assert set(truth) <= {round(time) for time in draft.clip.times}
        begin = draft.clip.start
        assert len({second + begin < 20 for second in truth}) == 1, "a track ends where the next one begins"
        assert all(box == (second + begin, 0, second + begin + 9, 9) for second, box in truth.items())


def test_two_things_of_one_label_in_a_frame_leave_that_frame_out():
    twice = [Boxed(float(second), (0, 0, 9, 9), "grasper", track) for second in range(40) for track in "ab"]
    assert asked(tracked(*twice), "stg") == []


def test_boxes_that_no_listed_frame_shows_are_not_asked_for():
    boxes = [Boxed(float(second), (0, 0, 9, 9), "hook", "1") for second in range(0, 40, 4)]
    assert asked(tracked(*boxes), "stg", ClipSettings(rates="0.1:1", frames_least=2, frames_most=4)) == []


def test_a_clip_of_a_score_lies_in_its_stretch_and_a_trial_is_shown_whole():
    zeros, ones = dict.fromkeys(CVS_COMPONENTS, 0), dict.fromkeys(CVS_COMPONENTS, 1)
    scores = (Scores(0, 100, zeros), Scores(100, 130, ones), Scores(140, 150, ones))
    video = Video("Cholec80_CVS", "video03", 25.0, 0, range(5000), "c/%06d.jpg", (854, 480), scores=scores)
    found = asked(video, "cvs", ClipSettings())
    assert {draft.truth.start for draft in found} == {0, 100}, "the last stretch is shorter than a clip"
    assert all(draft.truth.start <= draft.clip.start and draft.clip.end < draft.truth.end for draft in found)
    trial = Scores(0.0, 4499 / 30, dict.fromkeys(ASPECTS, 3), "I")
    video = Video(
        "JIGSAWS", "Suturing_B001_capture1", 30.0, 1, range(1, 4501), "j/%06d.jpg", (640, 480), scores=(trial,)
    )
    found = asked(video, "sa", ClipSettings(passes=8))
    assert found and all(draft.clip.start == 0 and draft.clip.end > trial.end - 2 for draft in found)
    assert all(len(draft.clip.numbers) <= 180 for draft in found)


def test_clips_cover_a_video_at_the_published_rates():
    video = actions(seconds=3600)
    clips = list(Cutter(video, ClipSettings(passes=3), 0).all())
    assert {clip.fps for clip in clips} <= set(shares_of(ClipSettings().rates))
    assert all(20 <= clip.duration <= 1800 and 2 <= len(clip.numbers) for clip in clips)
    assert sum(clip.duration for clip in clips) > 3 * 3600 * 0.98
    assert all(clip.numbers[-1] in video.numbers for clip in clips)
    assert clips != list(Cutter(video, ClipSettings(passes=3), 1).all())


def test_a_clip_lists_only_frames_that_are_there():
    numbers = [1, 26, 51, 76, 501, 526, 551, 576]
    video = Video("CholecTrack20", "VID99", 25.0, 1, numbers, "C/%06d.png", (854, 480))
    clip = Cutter(video, SHORT, 0).cut(0, 30, 1.0)
    assert clip is not None and list(clip.numbers) == numbers and clip.times[4] == 20


def test_surgeries_that_sources_share_are_one_group():
    names = {"CholecT50": "VID06", "CholecTrack20": "VID06", "Cholec80_CVS": "video06"}
    assert len({group_of(source, name) for source, name in names.items()}) == 1
    cameras = {group_of("JIGSAWS", f"Suturing_B001_capture{camera}") for camera in (1, 2)}
    assert len(cameras) == 1


def test_an_operation_in_the_test_split_of_one_source_is_left_out_of_all(tmp_path):
    for source in ("CholecT50", "CholecTrack20", "Cholec80_CVS"):
        write_source(source, tmp_path / source, Scale(videos=4))
    roots = {source: tmp_path / source for source in ("CholecT50", "CholecTrack20", "Cholec80_CVS")}
    kept, _ = read_all(roots, Recipe(without_test=True))
    every, _ = read_all(roots, Recipe())
    test = {int(video.video_id[-2:]) for video in every if video.split == "test"}
    # VID06 tests CholecT50, VID01 CholecTrack20, video05 Cholec80-CVS.
    assert {6, 1, 5} <= test
    numbers = [int(video.video_id.removeprefix("VID").removeprefix("video")) for video in kept]
    assert numbers and not test & set(numbers)
    assert {"VID01", "video01"} <= {video.video_id for video in every} - {video.video_id for video in kept}


def test_every_wording_asks_and_equal_rows_ask_alike():
    words = Wordings()
    fields = dict.fromkeys(("labels", "options", "target", "start", "end", "stride", "time", "kind", "procedure"), "x")
    for task, texts in words.tasks.items():
        said = {words.ask(task, "NurViD", drawn, **fields) for drawn in range(4 * 2 * len(texts))}
        assert len(said) == 4 * 2 * len(texts), "roles, sources and tasks are drawn independently"
        assert not any(mark in text for text in said for mark in "{}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("roles = []", "roles: expected a list of texts"),
        ('roles = ["a {b}"]', r"roles.0: expected placeholders of labels.*found \{b\}"),
        ('roles = ["a {"]', "roles.0: expected placeholders in braces"),
        (
            'roles = ["a"]\n[sources]\nAVOS = ["b"]',
            "sources: expected a list of texts for each of .* none for CholecT50",
        ),
        ("roles", "expected a TOML file of wordings"),
    ],
)
def test_a_wrong_file_of_wordings_is_one_line(content, said, tmp_path):
    file = tmp_path / "words.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=said):
        Wordings(file)


@pytest.mark.parametrize("given", ["rates=fast", "rates=0.5", "rates=0.5:0", "rates=1:nan", "rates=inf:1"])
def test_wrong_rates_are_one_line(given, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        curate.main(["AVOS", "--root", str(tmp_path), "--output", str(tmp_path), "--set", given])
    assert stopped.value.code == 2
    assert "expected RATE:SHARE,RATE:SHARE with numbers above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["frames_most=10"], "--set frames_most=10: expected a number from frames_least, which is 50"),
        (["shortest=60", "longest=30"], "--set longest=30: expected a number from shortest, which is 60"),
    ],
)
def test_bounds_that_no_clip_can_keep_are_one_line(given, told, tmp_path, capsys):
    chosen = [word for text in given for word in ("--set", text)]
    with pytest.raises(SystemExit) as stopped:
        curate.main(["AVOS", "--root", str(tmp_path), "--output", str(tmp_path), *chosen])
    assert stopped.value.code == 2 and f"curate: error: {told}" in capsys.readouterr().err


def test_videos_too_short_for_clips_write_nothing(tmp_path, capsys):
    assert (
        curate.main(["synthetic", "--no-media", "--output", str(tmp_path), "--sources", "AVOS", "--seconds", "60"]) == 0
    )
    arguments = ["AVOS", "--root", str(tmp_path / "AVOS"), "--output", str(tmp_path / "rows"), "--set", "shortest=500"]
    assert curate.main(arguments) == 2
    assert "expected a question about the videos, found none" in capsys.readouterr().err
    assert list((tmp_path / "rows").iterdir()) == []
