# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Transcripts of three forms become one schema; lectures are cut where nobody speaks and where the picture changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_preprocess.curation.transcripts import Segment, TranscriptError, Word, cut_lecture, read_transcript, to_json

SRT = """1\r
00:00:01,000 --> 00:00:03,500\r
Now <i>the hook</i>\r
is used.\r
\r
2\r
00:01:00,25 --> 00:01:02,000\r
Clip.\r
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

00:01.000 --> 00:03.500 align:start position:0%
<v Anna>Now the hook</v>
is used.

01:00:00.250 --> 01:00:02.000
Clip.
"""
WHISPERX = {
    "language": "en",
    "segments": [
        {
            "start": 1.0,
            "end": 3.5,
            "text": " Now the hook\n is used 3",
            "words": [{"word": "Now", "start": 1.0, "end": 1.2, "score": 0.9}, {"word": "3"}],
        }
    ],
}


def test_three_forms_are_one(tmp_path):
    for name, text in (("a.srt", SRT), ("a.vtt", VTT), ("a.json", json.dumps(WHISPERX))):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_transcript(tmp_path / "a.srt") == [
        Segment(1.0, 3.5, "Now the hook is used."),
        Segment(60.25, 62.0, "Clip."),
    ]
    assert read_transcript(tmp_path / "a.vtt") == [
        Segment(1.0, 3.5, "Now the hook is used."),
        Segment(3600.25, 3602.0, "Clip."),
    ]
    assert read_transcript(tmp_path / "a.json") == [
        Segment(1.0, 3.5, "Now the hook is used 3", (Word(1.0, 1.2, "Now"),))
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "a.srt",
            "1\n00:00:05,000 --> 00:00:01,000\nback\n",
            "segment 1: expected 0 <= start <= end, found 5.0 to 1.0",
        ),
        ("a.srt", "1\n0:5 --> 0:6\nx\n", "line 2: expected 00:00:00.000 --> 00:00:00.000"),
        ("a.vtt", "no cues at all\n", "the file: expected lines such as"),
        ("a.json", "{", "the file: expected JSON"),
        ("a.json", '{"segments": [{"start": 0, "text": "a"}]}', "segments.0.end: expected field required"),
        ("a.txt", "", "name: expected one that ends in .srt, .vtt, .json"),
    ],
)
def test_what_is_no_transcript_is_said(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(TranscriptError) as raised:
        read_transcript(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name}: ") and told in str(raised.value)


def test_bytes_that_are_no_text_are_said(tmp_path):
    (tmp_path / "a.srt").write_bytes(b"1\n\xff\n")
    with pytest.raises(TranscriptError, match="byte 2: expected UTF-8"):
        read_transcript(tmp_path / "a.srt")


TIMES = st.floats(0, 1e5).map(lambda seconds: round(seconds, 3))
WORDS = st.text(st.characters(whitelist_categories=("Lu", "Ll", "Nd")), min_size=1, max_size=8)


@given(st.lists(st.tuples(TIMES, TIMES, WORDS), max_size=5))
def test_what_is_written_is_read(tmp_path_factory, items):
    found = [Segment(min(a, b), max(a, b), text, (Word(a, b, text),)) for a, b, text in items]
    file = tmp_path_factory.mktemp("said") / "a.json"
    file.write_text(to_json(found), encoding="utf-8")
    assert read_transcript(file) == sorted(found, key=lambda one: (one.start, one.end))


def speech(*spans: tuple[float, float]) -> list[Segment]:
    return [Segment(start, end, "words") for start, end in spans]


def test_sentences_are_joined_up_to_half_a_minute():
    assert cut_lecture(speech((0, 8), (8.5, 17), (17.5, 28), (28.5, 40), (41, 50))) == [(0, 28), (28.5, 50)]


def test_no_clip_goes_over_a_pause_or_a_shot():
    spans = speech((0, 10), (10.5, 20), (23, 32), (32.5, 41))
    assert cut_lecture(spans) == [(0, 20), (23, 41)]
    assert cut_lecture(spans, pause_s=5, longest_s=60) == [(0, 41)]
    assert cut_lecture(spans, shots=[16.0], shortest_s=5) == [(0, 16.0), (23, 41)]
    assert cut_lecture(spans, shots=[16.0], shortest_s=1) == [(0, 16.0), (16.0, 20), (23, 41)]


def test_a_long_sentence_is_cut_between_its_words():
    words = tuple(Word(float(second), second + 0.9, "word") for second in range(70))
    long = Segment(0.0, 70.0, "word " * 70, words)
    assert cut_lecture([long], shortest_s=5) == [(0.0, 29.9), (29.9, 59.9), (59.9, 70.0)]


def test_a_segment_that_goes_on_over_a_pause_is_cut_there():
    words = tuple(Word(float(second), second + 0.9, "word") for second in [*range(16), *range(20, 38)])
    assert cut_lecture([Segment(0.0, 38.0, "word " * 34, words)]) == [(0.0, 15.9), (20.0, 38.0)]
    assert cut_lecture([Segment(0.0, 29.0, "word " * 25, words[:25])], pause_s=5) == [(0.0, 29.0)]


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0.1, 90)), max_size=20), st.lists(st.floats(0, 400), max_size=6))
def test_clips_are_of_the_wanted_length_and_hold_no_shot(items, shots):
    segments = sorted((Segment(start, start + length, "a") for start, length in items), key=lambda one: one.start)
    for start, end in cut_lecture(segments, sorted(shots)):
        assert 15 <= end - start <= 30 + 1e-9
        assert not any(start < shot < end for shot in shots)
