# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What captioners are shown and told, and how it is drawn."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from captioned import FEW, clip_of, context_of, contexts_of
from PIL import Image

from data_preprocess.curation.captions.captioner import load_prompt, wording
from data_preprocess.curation.captions.context import PAIRS, contexts
from data_preprocess.curation.captions.overlay import REGION, THING, Mark, draw
from data_preprocess.curation.model import Clip, Run, Video
from data_preprocess.curation.prompts import PromptError
from data_preprocess.curation.transcripts import Segment
from data_preprocess.frames import FrameError
from reward_score.errors import BadSetting

VIDEO = Video(
    source="CholecT50",
    video_id="VID01",
    rate=1.0,
    first=0,
    numbers=range(100),
    path="CholecT50/VID01/%06d.png",
    size=(854, 480),
    procedure="laparoscopic cholecystectomy",
    runs=(
        Run(0, 40, "preparation", "phase"),
        Run(41, 41, "gallbladder-dissection", "phase"),
        Run(30, 60, "hook,dissect,gallbladder", "triplet"),
    ),
    labels={"phase": ("preparation", "gallbladder-dissection")},
)


@pytest.mark.parametrize("source", sorted({source for sources in PAIRS.values() for source in sources}))
def test_each_published_pair_has_contexts(source):
    asked = contexts_of(source, videos=2)
    assert {one.task for one in asked} == {task for task, sources in PAIRS.items() if source in sources}
    assert len({one.key for one in asked}) == len(asked)
    assert [one.key for one in contexts_of(source, videos=2)] == [one.key for one in asked]


def test_times_are_clip_seconds_and_short_events_are_told_as_labels():
    clip = Clip(VIDEO, 0.5, tuple(range(10, 70, 2)))
    (dense, summary) = contexts(clip, FEW)
    assert [(one.start, one.end, one.text) for one in dense.events] == [(0.0, 30.0, "preparation")]
    assert [(one.start, one.end, one.kind, one.text) for one in dense.labels] == [
        (0.0, 30.0, "phase", "preparation"),
        (20.0, 50.0, "triplet", "hook dissect gallbladder"),
        (31.0, 31.0, "phase", "gallbladder-dissection"),
    ]
    assert summary.events == () and [frame.time for frame in summary.shown] == [0.0, 28.0, 58.0]


def test_what_is_said_is_cut_to_the_clip_and_moved():
    clip = Clip(VIDEO, 1.0, tuple(range(10, 70)))
    speech = [Segment(0, 5, "before"), Segment(12, 20, "the hook"), Segment(90, 95, "after")]
    dense = next(contexts(clip, FEW, speech))
    assert [(one.start, one.end, one.text) for one in dense.speech] == [(2, 10, "the hook")]
    assert "2.0-10.0: the hook" in wording(dense, load_prompt("dvc"))["user"]


def test_a_region_is_marked_on_its_frame_and_is_seen_without_a_break():
    context = context_of("CholecTrack20", "rc")
    region = context.region
    frame = next(frame for frame in context.shown if frame.index == region.index)
    assert [mark.box for mark in frame.marks if mark.region] == [region.box]
    seen = sorted(one.time for one in context.clip.boxes() if one.label == region.label)
    seen = [time for time in seen if region.start <= time <= region.end]
    assert seen[0] == pytest.approx(region.start) and seen[-1] == pytest.approx(region.end)
    assert max(b - a for a, b in zip(seen, seen[1:], strict=False)) <= 2 / context.clip.fps
    assert all(region.start <= frame.time <= region.end for frame in context.shown)


def test_without_expert_prompting_only_the_region_is_drawn_and_nothing_is_told():
    (context,) = contexts(clip_of("CholecTrack20"), FEW, expert=False)
    marks = [mark for frame in context.shown for mark in frame.marks]
    assert [(mark.label, mark.region) for mark in marks] == [("", True)]
    said = wording(context, load_prompt("rc", plain=True))
    assert context.region.label not in said["user"] + said["system"]


def test_a_key_follows_all_that_is_shown_and_told():
    context = context_of("CholecT50", "dvc")
    other = replace(context, labels=context.labels[1:])
    assert replace(context).key == context.key
    assert len({context.key, other.key, replace(context, longest=97).key, replace(context, task="vs").key}) == 4


def colours(packed: bytes) -> set[tuple[int, int, int]]:
    with Image.open(io.BytesIO(packed)) as image:
        near = Image.new("P", (1, 1))
        near.putpalette([*REGION, *THING, 90, 80, 80, 0, 0, 0])
        return {tuple(colour) for _, colour in image.quantize(palette=near, dither=0).convert("RGB").getcolors(999)}


def test_boxes_are_drawn_in_canvas_pixels_and_small_frames_stay_as_they_are(tmp_path):
    file = tmp_path / "frame.png"
    Image.new("RGB", (854, 480), (90, 80, 80)).save(file)
    marks = [Mark((100, 100, 700, 400), "hook"), Mark((200, 200, 400, 300), "grasper", region=True)]
    bare = draw(str(file), [], (854, 480), 427)
    with Image.open(io.BytesIO(bare)) as image:
        assert image.size == (427, 240)
    assert THING not in colours(bare) and {THING, REGION} <= colours(draw(str(file), marks, (854, 480), 427))
    with Image.open(io.BytesIO(draw(str(file), marks[1:], (854, 480), 427))) as image:
        # The left side of (200, 200, 400, 300) at half of the canvas.
        red, green, blue = image.getpixel((100, 130))
        assert green > 150 > max(red, blue)
    assert draw(str(file), marks, (854, 480), 427) == draw(str(file), marks, (854, 480), 427)


def test_a_frame_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "frame.png").write_bytes(b"no picture")
    with pytest.raises(FrameError, match="frame.png: not a readable picture"):
        draw(str(tmp_path / "frame.png"), [], (854, 480), 427)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: v1\n=== system ===\nx\n", "expected the sections system and user, found system"),
        ("version: v1\n=== system ===\nx\n=== user ===\n{{answer}}\n", "placeholder {{answer}} cannot be filled"),
        ("no version\n", "expected the one line 'version: NAME'"),
    ],
)
def test_a_wrong_prompt_file_is_said(tmp_path, text, told):
    (tmp_path / "vs.txt").write_text(text)
    with pytest.raises((PromptError, BadSetting)) as raised:
        load_prompt("vs", str(tmp_path))
    assert str(raised.value).startswith(str(tmp_path / "vs.txt")) and told in str(raised.value)
