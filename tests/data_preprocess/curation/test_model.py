# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Video seconds, clip seconds and native numbers; and rows of the official format that the preprocessor reads."""

from __future__ import annotations

import json

from data_preprocess.annotations import parse_record
from data_preprocess.curation.model import Boxed, Clip, Event, Run, Video
from data_preprocess.curation.official import official_row
from reward_score.answers import render_tal

VIDEO = Video(
    source="CholecTrack20",
    video_id="VID99",
    rate=25.0,
    first=1,
    numbers=[1, 26, 51, 151, 176],
    path="CAMMA_data/CholecTrack20/Testing/VID99/Frames/%06d.png",
    size=(854, 480),
    runs=(Run(2.0, 6.0, "hook", "instrument"), Run(0.0, 7.0, "preparation", "phase")),
    events=(Event(6.0, 7.0, "the hook burns the duct"), Event(0.0, 1.0, "the hook comes in")),
    boxes=(Boxed(7.0, (10, 10, 20, 20), "hook", "4"), Boxed(1.0, (0, 0, 10, 10), "hook", "4")),
)
CLIP = Clip(VIDEO, 1.0, (26, 51, 151, 176))


def test_a_number_stands_at_its_distance_from_the_first_over_the_rate():
    assert [VIDEO.seconds(number) for number in VIDEO.numbers] == [0, 1, 2, 6, 7]
    assert VIDEO.duration == 7
    assert (CLIP.start, CLIP.end, CLIP.duration, CLIP.times) == (1, 7, 6, [0, 1, 5, 6])


def test_a_clip_cuts_what_reaches_into_it_and_tells_it_in_its_own_seconds():
    assert CLIP.runs("instrument") == (Run(1.0, 5.0, "hook", "instrument"),)
    assert CLIP.runs("phase") == (Run(0.0, 6.0, "preparation", "phase"),)
    assert CLIP.runs("gesture") == ()
    assert [event.text for event in CLIP.events()] == ["the hook comes in", "the hook burns the duct"]
    assert [(boxed.time, boxed.box) for boxed in CLIP.boxes()] == [(0, (0, 0, 10, 10)), (6, (10, 10, 20, 20))]


def test_a_row_of_the_official_format_is_read_by_the_preprocessor():
    spans = [(run.start, run.end) for run in CLIP.runs("instrument")]
    structure = [{"action": "hook", "spans": [{"start": start, "end": end} for start, end in spans]}]
    row = official_row(CLIP, "tal", "When is the hook seen?", render_tal(spans), structure)
    sample = parse_record(json.dumps(row).encode(), "rows.json", 0)
    assert (sample.pair, sample.video_id, sample.fps) == ("medvidbench/CholecTrack20/tal", "VID99", 1.0)
    assert sample.frames[0] == "CAMMA_data/CholecTrack20/Testing/VID99/Frames/000026.png"
    assert (sample.numbers, sample.clip_start, sample.clip_end) == ((26, 51, 151, 176), "26", "176")
    assert (sample.answer, sample.flags) == ("1.0-5.0 seconds.", ())


def test_the_bounds_of_a_row_are_those_of_its_source():
    nurvid = Video("NurViD", "aaaaaaaaaa1", 2.0, 0, range(0, 40), "NurViD/frames_2fps/aaaaaaaaaa1/%06d.jpg", (4, 3))
    row = official_row(Clip(nurvid, 1.0, (2, 4, 6)), "tal", "When?", "0.0-1.0 seconds.", [])
    assert row["metadata"] == {
        "video_id": "aaaaaaaaaa1",
        "fps": "1.0",
        "input_video_start_time": "1.00",
        "input_video_end_time": "3.00",
    }
    assert row["id"] == "aaaaaaaaaa1&&1.00&&3.00&&1.0"
