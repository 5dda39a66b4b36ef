# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The leak audit: what counts as a mark, what chance is, and that a planted leak is found while none is not."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess import leaks, synthetic
from data_preprocess.timeline import Clock, uniform

AVOS, NURVID, COPESD = Clock(15.0, "table"), Clock(2.0, "table"), Clock(1.0, "table")


def marks_of(numbers: list[int], clock: Clock, fps: float) -> list[tuple[float, str]]:
    times = [(number - numbers[0]) / clock.rate for number in numbers]
    marks = leaks.listed_marks(numbers, times, clock, fps)
    return [(round(float(place), 2), kind) for place, kind in zip(marks.places, marks.kinds, strict=True)]


def marks_at(*places: float, reach: float = 1.0) -> leaks.Marks:
    return leaks.Marks(np.array(places), ("repeat",) * len(places), reach)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Reports over a synthetic set without and with the leak."""
    made = {}
    for name, switch in (("clean", []), ("leaking", ["--plant-leak"])):
        folder = tmp_path_factory.mktemp(name) / "set"
        assert synthetic.main(["--output", str(folder), "--rows", "600", "--no-frames", *switch]) == 0
        made[name] = leaks.run([str(folder / "train_annotations.json")])
    return made


def test_an_even_list_has_no_marks_whatever_its_rounding():
    assert marks_of(list(range(0, 900, 15)), AVOS, 1.0) == []
    assert marks_of([round(i * 17.3) for i in range(40)], AVOS, 1.0) == []
    assert marks_of([round(i * 4 / 3) for i in range(40)], NURVID, 1.5) == []


def test_a_repeated_frame_is_a_mark():
    assert marks_of([0, 2, 4, 6, 6, 8, 10, 12], NURVID, 1.0) == [(3.0, "repeat")]
    assert marks_of([0, 2, 4, 6, 6, 6, 8, 10, 12], NURVID, 1.0) == [(3.0, "repeat")]


def test_two_neighbouring_numbers_are_one_joint():
    head, tail = [0, 16, 31, 47, 62], [63, 80, 97, 114, 131]
    assert marks_of(head + tail, AVOS, 1.0) == [(round(62.5 / 15, 2), "joint")]


def test_a_hole_has_two_edges_and_a_doubled_rate_two_changes():
    assert marks_of([0, 1, 2, 3, 30, 31, 32, 33], COPESD, 1.0) == [(3.0, "hole"), (30.0, "hole")]
    doubled = [0, 2, 4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20]
    assert [place for place, _ in marks_of(doubled, COPESD, 0.5)] == [8.0, 14.0]


def test_clip_ends_are_no_marks():
    assert marks_of([0, 0, 2, 4, 6, 8, 8], NURVID, 1.0) == []
    assert marks_of([5], NURVID, 1.0) == marks_of([5, 5, 5], NURVID, 1.0) == []


def test_in_a_uniform_list_only_frames_that_stay_can_be_seen():
    def seen(times: list[float]) -> list[float]:
        return leaks.emitted_marks(uniform(times, 1.0), times).places.tolist()

    assert seen([0.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == []
    assert seen([0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0]) == [3.5]
    assert seen([0.0, 1.0, 2.0, 3.46, 3.54, 5.0, 6.0, 7.0]) == [3.5]
    # Ticks 29 to 33 stay on one frame, 34 to 38 on the next; the two inner ends are one mark.
    assert seen([float(t) for t in range(30)] + [38.0 + t for t in range(30)]) == [29.0, 33.5, 38.0]


def test_boundaries_are_distinct_and_not_at_the_clips_ends():
    spans = [(0.0, 4.0), (4.0, 9.5), (9.5, 29.2), (29.2, 30.4)]
    assert leaks.boundaries(spans, 1.0, 30.0).tolist() == [4.0, 9.5]


def test_chance_is_the_share_of_the_clip_that_is_near_a_mark():
    times = np.arange(0.0, 101.0)
    assert leaks.chance(np.array([20.0, 50.4]), times, marks_at(30.0)) == pytest.approx(3 / 97 + 2 / 97, abs=1e-3)
    assert leaks.chance(np.array([20.0]), times, marks_at(30.0, 60.0)) == pytest.approx(6 / 97, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(8, 40),
    stride=st.sampled_from([0.5, 1.0, 1.15]),
    place=st.integers(2, 5),
    offset=st.sampled_from([0.0, 0.1, -0.3]),
)
def test_boundaries_at_every_frame_in_turn_meet_chance_exactly(count, stride, place, offset):
    """What is measured has no bias: over all places that a boundary can have, near and chance are the same."""
    times = np.arange(count) * stride
    marks = marks_at(float(times[place]), reach=stride)
    spots = times + offset
    spots = spots[(spots > stride + 1e-3) & (spots < times[-1] - stride - 1e-3)]
    each = [leaks.chance(np.array([spot]), times, marks) for spot in spots]
    assert sum(each) == pytest.approx(leaks.near(spots, marks).sum())


def test_a_guesser_that_reads_the_borders_scores_full():
    spans = [(0.0, 10.0), (10.0, 25.0), (25.0, 40.0)]
    assert leaks.guess("tal", spans, np.array([10.0, 25.0]), 40.0) == (1.0, 1.0)
    assert leaks.guess("dvc", spans, np.array([10.0, 25.0]), 40.0) == (1.0,)


def test_the_guessers_scores_by_hand():
    """Proposals 0-20 and 20-40. tal 0-10 and 30-40: IoU 0.5 each. dvc: 0-15 hit, 15-30 (0.33) and 30-40 (0.5) ..."""
    middle = np.array([20.0])
    assert leaks.guess("tal", [(0.0, 10.0), (30.0, 40.0)], middle, 40.0) == (0.5, 1.0)
    assert leaks.guess("tal", [(0.0, 5.0)], middle, 40.0) == (0.25, 0.0)
    assert leaks.guess("tal", [(7.0, 7.0)], middle, 40.0) == (0.0, 0.0)
    found = leaks.guess("dvc", [(0.0, 15.0), (15.0, 28.0), (31.0, 40.0)], middle, 40.0)
    assert found == (pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),)
    assert leaks.guess("dvc", [(1.0, 3.0)], middle, 40.0) == (0.0,)


def by_definition(task, spans, edges, places, times, reach):
    """Near, chance and guess as the module's text says them, over all pairs."""

    def is_near(place):
        return any(abs(place - mark) <= reach + 1e-6 for mark in places)

    def inside(place):
        return reach + 1e-6 < place < times[-1] - reach - 1e-6

    expected = 0.0
    for edge in edges:
        offset = edge - min(times, key=lambda time: abs(time - edge))
        moved = [time + min(max(offset, -reach / 2), reach / 2) for time in times]
        expected += sum(inside(m) and is_near(m) for m in moved) / max(1, sum(map(inside, moved)))
    cuts = [0.0, *places, times[-1]]
    table = np.zeros((len(spans), len(cuts) - 1))
    for row, (a, b) in enumerate(spans):
        for column, (c, d) in enumerate(zip(cuts, cuts[1:], strict=False)):
            shared = min(b, d) - max(a, c)
            table[row, column] = shared / max(max(b, d) - min(a, c), 1e-6) if shared > 0 else 0.0
    best, hits = table.max(axis=1), table >= leaks.OVERLAP
    recall, precision = hits.any(axis=1).mean(), hits.any(axis=0).mean()
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    guessed = (best.mean(), (best >= leaks.OVERLAP).mean()) if task == "tal" else (f1,)
    return [is_near(edge) for edge in edges], expected, guessed


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.0, 1.1, 7.0]), min_size=1, max_size=30),
    spans=st.lists(st.tuples(st.floats(-1, 40), st.floats(-1, 40)), min_size=1, max_size=5),
    places=st.lists(st.floats(0.01, 39), max_size=8, unique=True),
    reach=st.sampled_from([0.5, 1.0, 2.0]),
    task=st.sampled_from(leaks.TASKS),
)
def test_the_fast_measures_are_those_of_the_definition(steps, spans, places, reach, task):
    times = np.cumsum([0.0, *steps])
    places = sorted(place for place in places if place < times[-1])
    edges = np.unique(np.array(spans))
    marks = marks_at(*places, reach=reach)
    found, expected, guessed = by_definition(task, spans, edges.tolist(), places, times.tolist(), reach)
    assert leaks.near(edges, marks).tolist() == found
    assert leaks.chance(edges, times, marks) == pytest.approx(expected)
    assert leaks.guess(task, spans, np.array(places), float(times[-1])) == pytest.approx(guessed)


@pytest.mark.parametrize("task", leaks.TASKS)
def test_memory_and_time_are_linear_in_frames_and_spans(task):
    """50,000 frames with 1,000 spans: the pairs alone would take 400 MB, and 17 guesses as often."""
    rng = np.random.default_rng(0)
    times = np.arange(50_000.0)
    marks = marks_at(*(times[3:-3:3] + 0.2).tolist())
    starts = rng.uniform(0, 40_000, 1_000)
    spans = list(zip(starts.tolist(), (starts + rng.uniform(1, 9_000, 1_000)).tolist(), strict=True))
    tracemalloc.start()
    try:
        sums = leaks.measure(task, spans, times, marks, rng)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()
    assert np.isfinite(sums).all() and sums[0] == len(np.unique(np.array(spans)))


def test_the_interval_is_over_videos():
    """Half of the videos at 1 and half at 0 is wide, all at 0.5 is not; fewer than five say nothing."""
    rng = np.random.default_rng(0)

    def table(values: list[float]) -> np.ndarray:
        rows = np.zeros((len(values), len(leaks._SUMS)))
        rows[:, leaks._SUMS.index("boundaries")] = 10
        rows[:, leaks._SUMS.index("near")] = [10 * value for value in values]
        rows[:, leaks._SUMS.index("chance")] = 3
        return rows

    names = ("near", "chance", "boundaries")
    mixed = leaks.difference(table([1.0, 0.0] * 4), *names, rng)
    assert mixed["difference"] == pytest.approx(0.2) and mixed["found"] is False
    assert mixed["interval"][0] < 0 < mixed["interval"][1]
    alike = leaks.difference(table([0.5] * 8), *names, rng)
    assert alike["found"] is True and alike["interval"] == pytest.approx([0.2, 0.2])
    assert leaks.difference(table([1.0] * 4), *names, rng)["found"] is None


def test_the_verdict_says_which_side_of_chance_it_is() -> None:
    def of(rows: int, interval: list[float] | None) -> str:
        return leaks.verdict({"rows_with_marks": rows, "boundaries": {"interval": interval}})

    assert of(0, None) == "no, no marks" and of(3, None) == "too few videos"
    assert of(9, [0.1, 0.2]) == "YES" and of(9, [-0.1, 0.2]) == "no"
    assert of(9, [-0.2, -0.1]) == "no, fewer than by chance"


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0, 1, 7, 15, 15, 15, 16, 31, 900]), max_size=30),
    fps=st.sampled_from([0.1, 1.0, 3.0]),
    spans=st.lists(st.tuples(st.floats(-2, 80), st.floats(-2, 80)), min_size=1, max_size=4),
    task=st.sampled_from(leaks.TASKS),
)
def test_any_list_can_be_measured(gaps: list[int], fps: float, spans: list, task: str) -> None:
    times = np.cumsum([0, *gaps]) / 15
    numbers = np.cumsum([0, *gaps]).tolist()
    for marks in (
        leaks.listed_marks(numbers, times.tolist(), AVOS, fps),
        leaks.emitted_marks(uniform(times.tolist(), fps), times.tolist()),
    ):
        assert (np.diff(marks.places) > 0).all() and len(marks.kinds) == len(marks.places)
        assert ((marks.places > marks.reach) & (marks.places < times[-1] - marks.reach)).all()
        sums = leaks.measure(task, spans, times, marks, np.random.default_rng(0))
        assert np.isfinite(sums).all() and (sums >= 0).all() and sums[1] <= sums[0] >= sums[2]


def test_a_planted_leak_is_found(reports: dict) -> None:
    for source in ("AVOS", "NurViD"):
        listed = reports["leaking"]["sources"][source]["listed"]
        assert listed["rows_with_marks"] > 40
        assert listed["boundaries"]["value"] > 0.95 and listed["boundaries"]["interval"][0] > 0.5
        for name in ("boundaries", "tal_iou", "tal_share", "dvc_f1"):
            assert listed[name]["found"] is True, name
        assert listed["dvc_f1"]["value"] > 0.9 > 2 * listed["dvc_f1"]["chance"]


def test_uniform_lists_do_not_carry_the_planted_leak(reports: dict) -> None:
    for source in ("AVOS", "NurViD"):
        emitted = reports["leaking"]["sources"][source]["emitted"]
        assert not any(emitted[name].get("found") for name in ("boundaries", "tal_iou", "tal_share", "dvc_f1"))
    assert reports["leaking"]["sources"]["NurViD"]["emitted"]["rows_with_marks"] == 0


def test_joints_that_are_not_planted_are_no_leak(reports: dict) -> None:
    sources = reports["clean"]["sources"]
    assert sources["AVOS"]["listed"]["marks"].keys() == {"joint"}
    assert sources["NurViD"]["listed"]["marks"].keys() == {"repeat"}
    assert min(sources[name]["listed"]["rows_with_marks"] for name in ("AVOS", "NurViD")) >= 8
    for source in sources.values():
        for which in leaks.LISTS:
            assert not source[which]["boundaries"].get("found")


def test_a_clock_by_place_in_the_list_shows_every_repeat(tmp_path: Path) -> None:
    """By index / fps a list is regular as it stands: the uniform list is the same, and its repeats stay in it."""
    arguments = ["--output", str(tmp_path / "set"), "--rows", "300", "--videos-per-source", "30", "--plant-leak"]
    assert synthetic.main([*arguments, "--no-frames"]) == 0
    report = leaks.run([str(tmp_path / "set" / "train_annotations.json")], clock="index")
    nursing = report["sources"]["NurViD"]
    assert nursing["emitted"]["rows_with_marks"] == nursing["listed"]["rows_with_marks"] == nursing["rows"]
    assert nursing["emitted"]["dvc_f1"]["value"] == pytest.approx(nursing["listed"]["dvc_f1"]["value"], abs=0.1)


def test_the_command_prints_and_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "set"
    arguments = ["--output", str(folder), "--rows", "230", "--no-frames", "--plant-leak", "--test-rows"]
    assert synthetic.main([*arguments, "--videos-per-source", "20"]) == 0
    files = [str(folder / f"{name}_annotations.json") for name in ("train", "test")]
    capsys.readouterr()
    assert leaks.main([*files, "--json", str(tmp_path / "report.json")]) == 0
    shown = capsys.readouterr().out
    assert "frame lists as given lie about gold boundaries: yes, AVOS, NurViD" in shown
    assert "uniform lists still carry it: no" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["files"] == ["train_annotations.json", "test_annotations.json"]
    assert report["rows"]["without_answers"] > 0 and report["rows"]["bad"] == 0
    assert report["rows"]["read"] == sum(count for name, count in report["rows"].items() if name != "read")
    assert leaks.run(files) == leaks.run(files)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_bad_rows_are_counted_and_too_many_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert synthetic.main(["--output", str(tmp_path / "set"), "--rows", "230", "--no-frames"]) == 0
    rows = json.loads((tmp_path / "set" / "train_annotations.json").read_bytes())
    bad = tmp_path / "bad.json"
    rows[7]["metadata"]["fps"] = "fast"
    bad.write_text(json.dumps(rows))
    report = leaks.run([str(bad)])
    assert report["rows"]["bad"] == 1 and "bad.json: row 7: metadata.fps" in report["first_bad"]
    assert leaks.main([str(bad)]) == 0
    for row in rows[:10]:
        row["metadata"]["fps"] = "fast"
    bad.write_text(json.dumps(rows))
    assert leaks.main([str(bad), "--json", str(tmp_path / "report.json")]) == 2
    assert "10 of 230 rows are bad; the first: " in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


def test_an_unreadable_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert leaks.main([str(tmp_path / "absent.json")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("medvidbench leaks: error: ") and "absent.json" in lines[-1]
