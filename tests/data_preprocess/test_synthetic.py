# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The synthetic set: official format with its variants, answers that agree with structure and with the pictures."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_preprocess import synthetic
from data_preprocess.synthetic_rows import PAIRS, Settings, build_row, clip_of
from data_preprocess.synthetic_video import INSTRUMENTS, PALETTE, PROFILES, SOURCES, TOOL_COLOURS, picture_key
from data_preprocess.synthetic_worlds import EVEN, WORLDS, difficulty, faded

COMMAND = [sys.executable, str(Path(synthetic.__file__))]
TASK_OF = {
    "tal": "tal",
    "stg": "stg",
    "next_action": "nap",
    "cvs_assessment": "cvs",
    "skill_assessment": "sa",
    "dc": "dvc",
    **{f"{n}{s}": t for n, t in (("dense_captioning", "dvc"), ("video_summary", "vs"), ("region_caption", "rc"))
       for s in ("", "_gpt", "_gemini")},
}  # fmt: skip
BOUNDS = {
    "NurViD": ("input_video_start_time", "input_video_end_time"),
    "Cholec80_CVS": ("start_frame", "end_frame"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default set, with test rows."""
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    assert synthetic.main(["--output", str(folder), "--test-rows"]) == 0
    return folder


@pytest.fixture(scope="module")
def annotations(tiny: Path) -> list[dict]:
    return json.loads((tiny / "train_annotations.json").read_bytes())


def source_of(row: dict) -> str:
    return (row.get("data_source") or row["dataset_name"]).replace("Cholec80-CVS", "Cholec80_CVS")


def of_task(annotations: list[dict], task: str) -> list[dict]:
    return [row for row in annotations if TASK_OF[row["qa_type"]] == task]


def answer(row: dict) -> str:
    return row["conversations"][1]["value"]


def struc(row: dict) -> dict:
    return row["struc_info"] if isinstance(row["struc_info"], dict) else row["struc_info"][0]


def digest(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@cache
def background(tiny: Path, path: str) -> tuple[int, int, int]:
    """Colour of a frame's corner, where no instrument ever stands, as the nearest palette entry."""
    with Image.open(tiny / "frames" / synthetic.frame_file(path)) as image:
        seen = image.convert("RGB").getpixel((0, 0))
    return min(PALETTE, key=lambda colour: sum(abs(a - b) for a, b in zip(colour, seen, strict=True)))


def test_every_pair_has_its_48_rows(annotations: list[dict]) -> None:
    counted: dict[tuple[str, str], int] = {}
    for row in annotations:
        pair = (source_of(row), TASK_OF[row["qa_type"]])
        counted[pair] = counted.get(pair, 0) + 1
    assert counted == {pair: 48 for pair in PAIRS}
    assert len(PAIRS) == 23


def test_rows_have_the_official_keys_and_types(annotations: list[dict]) -> None:
    for row in annotations:
        assert {"id", "qa_type", "conversations", "video", "sampled_video_frames", "metadata", "is_RC"} <= row.keys()
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
        assert row["conversations"][0]["value"].startswith("<video>\n")
        assert all(isinstance(value, str) for value in row["metadata"].values())
        keys = BOUNDS.get(source_of(row), ("input_video_start_frame", "input_video_end_frame"))
        assert set(row["metadata"]) == {"video_id", "fps", *keys}
        assert (row["RC_info"] is not None) is row["is_RC"] is (TASK_OF[row["qa_type"]] == "rc")


def test_frame_numbers_are_those_of_the_files_and_the_files_exist(tiny: Path, annotations: list[dict]) -> None:
    for row in annotations:
        stems = [int(Path(path).stem.split("_")[-1]) for path in row["video"]]
        assert stems == row["sampled_video_frames"]
        assert 6 <= len(stems) <= 10
        assert all((tiny / "frames" / synthetic.frame_file(path)).stat().st_size > 100 for path in row["video"])
        if row["is_RC"]:
            assert row["RC_info"]["start_frame"] in row["video"]


def test_frames_decode_with_the_size_of_their_source(tiny: Path, annotations: list[dict]) -> None:
    kinds = set()
    for row in annotations[:23]:
        with Image.open(tiny / "frames" / synthetic.frame_file(row["video"][-1])) as image:
            image.load()
            assert image.size == SOURCES[source_of(row)].tiny_size
            kinds.add((image.format, row["video"][-1][-3:]))
    assert kinds == {("JPEG", "jpg"), ("PNG", "png")}


def test_variants_of_the_format_occur(annotations: list[dict]) -> None:
    assert {row["qa_type"] for row in annotations} == TASK_OF.keys()
    assert {row["video"][0].split("/")[1 if row["video"][0][0] == "/" else 0] for row in annotations} == {
        "root",
        "testdata",
        "valdata",
    }
    assert {"data_source", "dataset_name"} == {
        key for row in annotations for key in ("data_source", "dataset_name") if key not in row
    }
    assert "Cholec80-CVS" in {row.get("data_source") for row in annotations}
    assert any(isinstance(row.get("struc_info"), dict) for row in annotations)
    assert any("struc_info" not in row for row in of_task(annotations, "nap"))
    nursing = {row["metadata"]["input_video_start_time"] == "0.0" for row in annotations if source_of(row) == "NurViD"}
    assert nursing == {True, False}
    assert len({row["id"] for row in annotations}) < len(annotations)
    assert any(re.search(r"(?<![\d.])(\d+\.\d)-\1(?!\d)", answer(row)) for row in of_task(annotations, "tal"))
    rare = [row for row in annotations if float(row["metadata"]["fps"]) != SOURCES[source_of(row)].fps]
    assert 0 < len(rare) < 0.05 * len(annotations)


def test_frame_lists_have_the_oddities_of_their_source(annotations: list[dict]) -> None:
    seen: dict[str, set[str]] = {name: set() for name in SOURCES}
    for row in annotations:
        source, numbers = source_of(row), row["sampled_video_frames"]
        stride = SOURCES[source].native / float(row["metadata"]["fps"])
        for step in (b - a for a, b in zip(numbers, numbers[1:], strict=False)):
            if step == 0:
                seen[source].add("repeat")
            elif step == 1 and stride > 1:
                seen[source].add("neighbour")
            elif step >= 2 * stride:
                seen[source].add("hole")
    assert seen["AVOS"] == {"neighbour"}
    assert seen["CholecT50"] == {"neighbour"}
    assert seen["CoPESD"] == {"hole", "neighbour"}
    assert seen["CholecTrack20"] == {"hole"}
    assert seen["NurViD"] == {"repeat"}
    assert seen["EgoSurgery"] == seen["JIGSAWS"] == seen["Cholec80_CVS"] == set()
    tracked = [row for row in annotations if source_of(row) == "CholecTrack20"]
    assert {number % 25 for row in tracked for number in row["sampled_video_frames"]} == {1}


def test_plain_rows_have_no_oddity() -> None:
    wanted = Settings(variants="plain")
    for source, task in PAIRS:
        for number in range(48):
            row = build_row(wanted, source, task, number)
            steps = {b - a for a, b in zip(row["sampled_video_frames"], row["sampled_video_frames"][1:], strict=False)}
            assert steps == {SOURCES[source].native / SOURCES[source].fps}
            assert row["data_source"] == row["dataset_name"] == source
            assert row["video"][0].startswith("/root/data/") and isinstance(row["struc_info"], list)


def joints(row: dict) -> list[int]:
    """Places of a list where it repeats a frame or lists the next one."""
    numbers = row["sampled_video_frames"]
    return [i for i in range(1, len(numbers)) if numbers[i] - numbers[i - 1] <= (source_of(row) == "AVOS")]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_planted_leak_joins_lists_at_the_gold_boundaries(profile: str) -> None:
    wanted = Settings(profile=profile, plant_leak=True)
    for source in ("AVOS", "NurViD"):
        for number in range(48):
            row, clip = build_row(wanted, source, "dvc", number), clip_of(wanted, source, number)
            low, high = PROFILES[profile].frames
            assert low <= len(clip.numbers) <= high and clip.time(-1) + 24 < PROFILES[profile].slot
            assert len(set(clip.starts)) > 1 and joints(row) == list(clip.starts[1:])
            events = row["struc_info"]
            events = events[0].get("dc_segments", events)
            borders = {round(clip.time(start), 1) for start in clip.starts}
            assert {event["start"] for event in events} <= borders


def test_a_planted_leak_touches_no_other_source_and_no_other_content() -> None:
    for source, task in PAIRS:
        for number in range(20):
            rows = [build_row(Settings(plant_leak=plant), source, task, number) for plant in (False, True)]
            if source not in ("AVOS", "NurViD"):
                assert rows[0] == rows[1]
            else:
                assert [len(row["video"]) for row in rows] == [len(rows[0]["video"])] * 2
                assert rows[0]["sampled_video_frames"][0] == rows[1]["sampled_video_frames"][0]
                assert rows[0]["conversations"][0] == rows[1]["conversations"][0]


def test_the_bytes_of_a_set_without_the_leak_are_the_ones_of_always(tmp_path: Path) -> None:
    """What the switch must not change; a generator that is changed on purpose has another hash here."""
    assert synthetic.main(["--output", str(tmp_path / "set"), "--rows-per-pair", "6", "--no-frames"]) == 0
    found = hashlib.sha256((tmp_path / "set" / "train_annotations.json").read_bytes()).hexdigest()
    assert found == "25df85eb3e1ec64779094c2d2c39637901a92a2a43bd7b8aefa642873b3964de"


def test_questions_are_a_pair_more_and_change_no_other_row(tmp_path: Path) -> None:
    for name, more in (("plain", []), ("asked", ["--questions"])):
        assert synthetic.main(["--output", str(tmp_path / name), "--rows-per-pair", "6", "--no-frames", *more]) == 0
    plain, asked = (
        json.loads((tmp_path / name / "train_annotations.json").read_bytes()) for name in ("plain", "asked")
    )
    rows = [row for row in asked if row["qa_type"] == "question_answering"]
    assert len(rows) == 6 and {source_of(row) for row in rows} == {"AVOS"}
    assert [row for row in asked if row not in rows] == plain
    for row in rows:
        when = "first" if "first" in row["conversations"][0]["value"] else "last"
        assert answer(row).startswith(f"{when.capitalize()} the surgeon ")


def test_structure_says_what_the_text_says(annotations: list[dict]) -> None:
    for row in of_task(annotations, "tal"):
        spans = [f"{span['start']:.1f}-{span['end']:.1f}" for span in struc(row)["spans"]]
        assert answer(row) == ", ".join(spans) + " seconds."
        assert (struc(row).get("action") or struc(row).get("phase")) in row["conversations"][0]["value"]
    for row in of_task(annotations, "stg"):
        item = struc(row)
        found = re.findall(r"([\d.]+) seconds: (\[[^\]]*\])", answer(row))
        assert {float(time): json.loads(box) for time, box in found} == {
            float(time): box for time, box in item["bbox_dict"].items()
        }
        times = [float(time) for time in item["bbox_dict"]]
        assert times == [item["start"] + i * item["stride"] for i in range(len(times))]
        assert 2 <= len(times) <= 3 and times[-1] <= item["end"] < times[-1] + item["stride"]
    for row in of_task(annotations, "dvc"):
        events = row["struc_info"]
        events = events[0] if isinstance(events[0], list) else events[0].get("dc_segments", events)
        lines = [f"{event['start']:.1f}-{event['end']:.1f} seconds: {event['caption']}" for event in events]
        assert answer(row).splitlines() == lines
        assert (source_of(row) == "CholecT50") is isinstance(events[0]["start"], int)
    for row in of_task(annotations, "cvs"):
        scores = struc(row)["cvs_scores"]
        shown = [scores["two_structures"], scores["cystic_plate"], scores["hepatocystic_triangle"]]
        assert [int(digit) for digit in re.findall(r": (\d)", answer(row))] == shown
    for row in of_task(annotations, "sa"):
        pairs = [f"{aspect}: {score}/5" for aspect, score in struc(row)["skill_scores"].items()]
        assert answer(row) == ", ".join(pairs) and len(pairs) == 6
    for row in of_task(annotations, "nap"):
        assert f"'{answer(row)}'" in row["conversations"][0]["value"]
    for row in of_task(annotations, "rc"):
        info = struc(row)["struc_info"]
        assert info["start_frame_bbox"] == row["RC_info"]["start_frame_bbox"]
        assert info["object"] in answer(row)


def test_parsers_read_the_answers(annotations: list[dict]) -> None:
    answers = pytest.importorskip("reward_score.answers")
    for row in annotations:
        parsed = answers.PARSERS[TASK_OF[row["qa_type"]]](answer(row))
        assert parsed.format == 1.0, answer(row)
    for row in of_task(annotations, "tal"):
        spans = [(span["start"], span["end"]) for span in struc(row)["spans"]]
        assert answers.parse_tal(answer(row)).value == spans


def test_action_colour_fills_the_frames_of_its_spans_and_no_others(tiny: Path, annotations: list[dict]) -> None:
    colours: dict[tuple[str, str], set] = {}
    for row in of_task(annotations, "tal"):
        source, item = source_of(row), struc(row)
        numbers = row["sampled_video_frames"]
        times = [(number - numbers[0]) / SOURCES[source].native for number in numbers]
        spans = [(span["start"], span["end"]) for span in item["spans"]]
        inside, outside = set(), set()
        for time, path in zip((round(time, 1) for time in times), row["video"], strict=True):
            if any(start <= time < end or start == time == end for start, end in spans):
                inside.add(background(tiny, path))
            elif all(time != end for _, end in spans) or time != round(times[-1], 1):
                # A clip's last frame belongs to the event that ends there or to one of length zero.
                outside.add(background(tiny, path))
        assert len(inside) == 1 and not inside & outside
        key = (source + item.get("procedure", ""), item.get("action") or item.get("phase"))
        colours.setdefault(key, set()).update(inside)
    assert all(len(seen) == 1 for seen in colours.values())


def test_next_action_follows_from_the_last_colour(tiny: Path, annotations: list[dict]) -> None:
    for source in ("AVOS", "CholecT50", "CoPESD", "EgoSurgery"):
        rule: dict[tuple, set[str]] = {}
        for row in of_task(annotations, "nap"):
            if source_of(row) == source:
                rule.setdefault(background(tiny, row["video"][-1]), set()).add(answer(row))
        assert len(rule) >= 3 and all(len(answers) == 1 for answers in rule.values())


def test_instrument_stands_where_the_box_says(tiny: Path, annotations: list[dict]) -> None:
    for row in of_task(annotations, "rc"):
        source, info = source_of(row), struc(row)["struc_info"]
        spec = SOURCES[source]
        fill = TOOL_COLOURS[INSTRUMENTS[source].index(info["object"])]
        path = tiny / "frames" / synthetic.frame_file(row["RC_info"]["start_frame"])
        with Image.open(path) as image:
            sx, sy = image.width / spec.canvas[0], image.height / spec.canvas[1]
            x1, y1, x2, y2 = (v * s for v, s in zip(info["start_frame_bbox"], (sx, sy, sx, sy), strict=True))
            assert x2 - x1 >= 0.2 * image.width and y2 - y1 >= 0.3 * image.height
            pixels = image.convert("RGB")
            near = [
                (x, y)
                for x in range(image.width)
                for y in range(image.height)
                if sum(abs(a - b) for a, b in zip(pixels.getpixel((x, y)), fill, strict=True)) < 60
            ]
        found = (min(x for x, _ in near), min(y for _, y in near), max(x for x, _ in near), max(y for _, y in near))
        assert all(abs(a - b) <= 3 for a, b in zip(found, (x1, y1, x2, y2), strict=True))


def test_scores_are_bright_cells(tiny: Path, annotations: list[dict]) -> None:
    for task, rows, values in (("cvs", 1, (0, 1, 2)), ("sa", 2, (1, 2, 3, 4, 5))):
        levels: dict[int, list[int]] = {value: [] for value in values}
        for row in of_task(annotations, task):
            scores = [int(digit) for digit in re.findall(r": (\d)", answer(row))]
            with Image.open(tiny / "frames" / synthetic.frame_file(row["video"][0])) as image:
                for i, score in enumerate(scores):
                    at = ((i % 3 * 2 + 1) * image.width // 6, (i // 3 * 2 + 1) * image.height // (2 * rows))
                    levels[score].append(sum(image.convert("RGB").getpixel(at)))
        ordered = [levels[value] for value in values if levels[value]]
        assert len(ordered) == len(values)
        assert all(max(a) < min(b) for a, b in zip(ordered, ordered[1:], strict=False))


def test_text_stays_small(annotations: list[dict]) -> None:
    text = " ".join(turn["value"] for row in annotations for turn in row["conversations"])
    assert len(set(re.findall(r"[a-z]+", text.lower()))) <= 250


def test_test_rows_have_no_answers_and_other_videos(tiny: Path, annotations: list[dict]) -> None:
    rows = json.loads((tiny / "test_annotations.json").read_bytes())
    assert len(rows) >= 23 and {TASK_OF[row["qa_type"]] for row in rows} == set(TASK_OF.values())
    for row in rows:
        assert "struc_info" not in row and [turn["from"] for turn in row["conversations"]] == ["human"]
        assert all((tiny / "frames" / synthetic.frame_file(path)).exists() for path in row["video"])
    videos = [{(source_of(row), row["metadata"]["video_id"]) for row in part} for part in (annotations, rows)]
    assert not videos[0] & videos[1]


def test_same_seed_same_bytes_and_another_seed_other_rows(tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        arguments = ["--output", str(tmp_path / name), "--seed", seed, "--rows-per-pair", "2"]
        assert synthetic.main(arguments) == 0
    first, second, other = (digest(tmp_path / name) for name in "abc")
    assert first == second
    assert first["train_annotations.json"] != other["train_annotations.json"]


@settings(max_examples=40, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    number=st.integers(0, 5000),
    seed=st.integers(0, 99),
    profile=st.sampled_from(tuple(PROFILES)),
)
def test_any_row_of_any_set_is_sound(pair: tuple[str, str], number: int, seed: int, profile: str) -> None:
    wanted = Settings(seed=seed, profile=profile, videos=7)
    row, clip = build_row(wanted, *pair, number), clip_of(wanted, pair[0], number)
    numbers = row["sampled_video_frames"]
    low, high = PROFILES[profile].frames
    assert low <= len(numbers) == len(row["video"]) <= high
    assert list(numbers) == sorted(numbers) and numbers[0] >= 0
    assert clip.time(-1) + 24 < PROFILES[profile].slot
    events = clip.events
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in zip(events, events[1:], strict=False))
    if clip.track:
        corners = clip.box(0.0) + clip.box(clip.time(-1))
        assert all(-3 <= v <= limit + 3 for v, limit in zip(corners, clip_canvas(pair[0]) * 4, strict=True))


def clip_canvas(source: str) -> tuple[int, int]:
    return SOURCES[source].canvas


def test_runs_as_a_script_from_anywhere_streams_without_frames_and_is_done_once(tmp_path: Path) -> None:
    arguments = [*COMMAND, "--output", "set", "--rows", "500", "--no-frames"]
    first = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0 and "written" in first.stdout, first.stderr
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["synthetic.json", "train_annotations.json"]
    rows = json.loads((tmp_path / "set" / "train_annotations.json").read_bytes())
    assert len(rows) == 500 and min(len(row["video"]) for row in rows) >= 50
    again = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0 and "already there" in again.stdout


def test_a_small_set_of_real_sizes_has_frames_of_real_sizes(tmp_path: Path) -> None:
    wanted, clip = SOURCES["CholecTrack20"], clip_of(Settings(profile="full"), "CholecTrack20", 0)
    painted = synthetic.paint_clip(clip, wanted.full_size, tmp_path)
    assert painted == len(set(clip.numbers)) >= 50
    with Image.open(tmp_path / synthetic.frame_file(clip.frames[0])) as image:
        assert image.size == (1920, 1080) and wanted.canvas == (854, 480)


@pytest.mark.parametrize(
    "change", [["--seed", "1"], ["--rows-per-pair", "3"], ["--variants", "plain"], ["--plant-leak"]]
)
def test_other_settings_do_not_overwrite_a_set(tmp_path: Path, capsys: pytest.CaptureFixture, change: list) -> None:
    base = ["--output", str(tmp_path / "set"), "--rows-per-pair", "1", "--no-frames"]
    assert synthetic.main(base) == 0
    before = digest(tmp_path)
    arguments = base if change[0] != "--rows-per-pair" else base[:2] + ["--no-frames"]
    assert synthetic.main(arguments + change) == 2
    assert "made with other settings" in capsys.readouterr().err
    assert digest(tmp_path) == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert synthetic.main(["--output", str(tmp_path)]) == 2
    assert "not a synthetic set" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_set_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--output", str(tmp_path / "set"), "--rows-per-pair", "1"]

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "paint_clip", stop)
        assert synthetic.main(arguments) == 130
    assert not (tmp_path / "set" / "train_annotations.json").exists()
    assert synthetic.main(arguments) == 0
    assert len(json.loads((tmp_path / "set" / "train_annotations.json").read_bytes())) == 23


# ---- worlds --------------------------------------------------------------------------------------------------------


def test_the_even_world_is_the_set_of_always() -> None:
    """Rows, and what each frame shows, as they were before there were worlds."""
    found = hashlib.sha256()
    for source, task in PAIRS:
        for number in range(40):
            clip = clip_of(Settings(seed=3), source, number)
            keys = [picture_key(clip, index) for index in range(len(clip.numbers))]
            found.update(repr((build_row(Settings(seed=3), source, task, number), keys)).encode())
    assert found.hexdigest() == "de23f58394c1eec68fb855f3864a7531a2cd3706133186fccb583098c1d3d29e"


def test_a_world_changes_the_sources_that_it_names_and_no_other() -> None:
    worlds = [Settings(world=world) for world in WORLDS]
    for source, task in PAIRS:
        even, other = ([build_row(world, source, task, number) for number in range(30)] for world in worlds)
        # A larger instrument is in the answers with boxes alone.
        assert (even == other) is not (
            source in ("NurViD", "Cholec80_CVS") or (source in ("CoPESD", "EgoSurgery") and task in ("stg", "rc"))
        )


@pytest.mark.parametrize("profile", PROFILES)
def test_what_makes_a_pair_hard_or_easy_is_in_the_frames(profile: str) -> None:
    """The answers still say what is shown: the colour of every event, and the box where the instrument is painted."""
    wanted = Settings(profile=profile, world="heterogeneous")
    for source, hard in WORLDS["heterogeneous"].items():
        width, height = SOURCES[source].canvas
        for number in range(20):
            clip = clip_of(wanted, source, number)
            for index in range(len(clip.numbers)):
                key = picture_key(clip, index)
                if clip.scores:
                    assert key == ("scores", clip.scores)
                    continue
                time = clip.time(index)
                label = next(label for start, _, label in reversed(clip.events) if start <= time)
                assert key[1] == faded(PALETTE[(clip.palette_offset + label) % len(PALETTE)], hard.contrast)
                if clip.tool is not None:
                    box = clip.box(time)
                    assert key[3] == tuple(box)
                    share = (box[2] - box[0]) / width, (box[3] - box[1]) / height
                    assert share == pytest.approx(hard.sides[clip.tool % 3], abs=0.01)
                    centre = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
                    if hard.places == (1, 1) and number % 17 != 5:  # an overrun stands at the edge
                        assert centre == pytest.approx((0.5, 0.5), abs=hard.drift + 0.01)


def test_faint_events_can_still_be_told_apart() -> None:
    """Neighbouring events of the faintest source differ by more than the frames' compression takes away."""
    wanted, least = Settings(world="heterogeneous"), 999
    for number in range(60):
        clip = clip_of(wanted, "NurViD", number)
        colours = [picture_key(clip, start)[1] for start in clip.starts]
        for one, next_one in zip(colours, colours[1:], strict=False):
            least = min(least, sum(abs(a - b) for a, b in zip(one, next_one, strict=True)))
    assert 20 < least < 60


def test_a_clip_of_short_events_has_more_of_them() -> None:
    even, hard = ([len(clip_of(Settings(world=world), "NurViD", n).starts) for n in range(60)] for world in WORLDS)
    assert max(even) == 3 and set(hard) == {4}
    scores = [score for n in range(60) for score in clip_of(Settings(world="heterogeneous"), "Cholec80_CVS", n).scores]
    assert 0.85 < scores.count(0) / len(scores) < 0.97


def test_a_colour_of_full_contrast_is_itself() -> None:
    assert all(faded(colour, 1.0) == colour for colour in PALETTE)
    assert faded((0, 255, 128), 0.0) == (128, 128, 128)
    assert difficulty("even", "CoPESD") is difficulty("heterogeneous", "AVOS") is EVEN


def test_another_world_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--output", str(tmp_path / "set"), "--rows-per-pair", "1", "--no-frames"]
    assert synthetic.main(arguments) == 0
    assert synthetic.main([*arguments, "--world", "heterogeneous"]) == 2
    assert "made with other settings (world)" in capsys.readouterr().err
