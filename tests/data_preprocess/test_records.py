# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Annotation rows: every known variant, and what is said of the others."""

import copy
import gzip
import json

import pytest

from data_preprocess.records import RecordError, parse_record, read_rows
from reward_score.answers import ASPECTS

SKILL = dict(zip(ASPECTS, [2, 1, 1, 2, 1, 3], strict=True))
CVS = {"two_structures": 2, "cystic_plate": 1, "hepatocystic_triangle": 0}
EVENTS = [{"start": 0, "end": 2, "caption": "Clip."}, {"start": 2, "end": 4, "caption": "Cut."}]


def row(qa_type="tal", answer="1.0-2.0, 3.0-4.0 seconds.", structure="default", **changes):
    if structure == "default":
        structure = [{"action": "cutting", "spans": [{"start": 1.0, "end": 2.0}, {"start": 3.0, "end": 4.0}]}]
    record = {
        "id": "1.0$v$15$75",
        "qa_type": qa_type,
        "data_source": "AVOS",
        "dataset_name": "AVOS",
        "conversations": [{"from": "human", "value": "<video>\nWhen?"}, {"from": "gpt", "value": answer}],
        "video": [f"/root/data/AVOS/frames_15fps/v/{15 * i}.jpg" for i in range(1, 6)],
        "sampled_video_frames": [15 * i for i in range(1, 6)],
        "metadata": {
            "video_id": "v",
            "fps": "1.0",
            "input_video_start_frame": "15",
            "input_video_end_frame": "75",
        },
        "is_RC": False,
        "RC_info": None,
        "struc_info": structure,
        "train": True,
    }
    return {**record, **changes}


def parse(record):
    return parse_record(record, "a.json", 7)


def refused(record):
    with pytest.raises(RecordError) as caught:
        parse(record)
    return str(caught.value)


def test_a_plain_row():
    sample = parse(row())
    assert (sample.task, sample.source, sample.video_id, sample.fps) == ("tal", "AVOS", "v", 1.0)
    assert (sample.question, sample.pair) == ("When?", "medvidbench/AVOS/tal")
    assert (sample.numbers, sample.clip_start, sample.clip_end) == ((15, 30, 45, 60, 75), "15", "75")
    assert sample.ground == {"text": "1.0-2.0, 3.0-4.0 seconds.", "spans": [[1.0, 2.0], [3.0, 4.0]]}
    assert (sample.flags, sample.declared, sample.extra) == ((), None, {"train": True})


@pytest.mark.parametrize(
    "qa_type, task",
    [
        ("next_action", "nap"),
        ("dense_captioning_gpt", "dvc"),
        ("dense_captioning_gemini", "dvc"),
        ("dense_captioning", "dvc"),
        ("dc", "dvc"),
        ("video_summary_gemini", "vs"),
        ("video_summary", "vs"),
    ],
)
def test_question_types(qa_type, task):
    answer = "0.0-2.0 seconds: Clip.\n2.0-4.0 seconds: Cut." if task == "dvc" else "tying"
    assert parse(row(qa_type, answer, EVENTS)).task == task


def test_the_source_may_stand_under_either_key_and_with_a_dash():
    plain = row("cvs_assessment", "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0", [{"cvs_scores": CVS}])
    del plain["dataset_name"]
    assert parse({**plain, "data_source": "Cholec80-CVS"}).source == "Cholec80_CVS"
    assert parse({**plain, "data_source": None, "dataset_name": "Cholec80_CVS"}).source == "Cholec80_CVS"


@pytest.mark.parametrize(
    "bounds, expected",
    [
        ({"input_video_start_time": "165.8", "input_video_end_time": "239.2"}, ("165.8", "239.2", 73.4)),
        ({"start_frame": "10", "end_frame": "90"}, ("10", "90", None)),
        ({"start_frame": 10, "end_frame": 90}, ("10", "90", None)),
    ],
)
def test_metadata_conventions(bounds, expected):
    sample = parse(row(metadata={"video_id": "v", "fps": "0.5", **bounds}))
    assert (sample.clip_start, sample.clip_end) == expected[:2]
    assert sample.declared == (pytest.approx(expected[2]) if expected[2] else None)


@pytest.mark.parametrize(
    "structure",
    [
        EVENTS,
        [EVENTS],
        [{"dc_segments": EVENTS}],
        {"dc_segments": EVENTS},
    ],
    ids=["plain", "list in list", "dc_segments", "lone dict"],
)
def test_dense_captioning_shapes(structure):
    sample = parse(row("dc", "0.0-2.0 seconds: Clip.\n2.0-4.0 seconds: Cut.", structure))
    assert sample.ground["events"] == [{**event, "start": float(event["start"])} for event in EVENTS]
    assert sample.flags == ()


def test_captions_come_from_the_text_and_times_from_the_structure():
    """NurViD: the text carries the action in front of the caption; the structure's times are not rounded."""
    structure = [{"dc_segments": [{"start": 0.04, "end": 2.0, "caption": "A pad."}]}]
    sample = parse(row("dc", "0.0-2.0 seconds: place an underpad: A pad.", structure))
    assert sample.ground["events"] == [{"start": 0.04, "end": 2.0, "caption": "place an underpad: A pad."}]


def test_where_text_and_structure_disagree_on_times_the_structure_is_the_answer():
    sample = parse(row(answer="1.0-2.0, 3.0-9.0 seconds."))
    assert sample.flags == ("text_disagrees",)
    assert sample.ground["spans"] == [[1.0, 2.0], [3.0, 4.0]]
    assert sample.ground["text"] == "1.0-2.0, 3.0-9.0 seconds."
    assert sample.answer == "1.0-2.0, 3.0-4.0 seconds."


def test_boxes_by_seconds_with_or_without_decimals():
    structure = {"start": 66, "end": 74, "stride": 8, "object": "hook"}
    structure["bbox_dict"] = {"74.0": [5, 6, 7, 8], "66": [1.5, 2, 3, 4]}
    answer = "66.0 seconds: [1.5, 2, 3, 4] 74.0 seconds: [5, 6, 7, 8]"
    for shape in (structure, [structure]):
        ground = parse(row("stg", answer, shape)).ground
        assert ground["boxes"] == {"66.0": [1.5, 2.0, 3.0, 4.0], "74.0": [5.0, 6.0, 7.0, 8.0]}
        assert (ground["start"], ground["end"], ground["stride"], ground["object"]) == (66.0, 74.0, 8.0, "hook")
    moved = copy.deepcopy(structure)
    moved["bbox_dict"]["66"] = [3, 2, 1, 4]
    assert parse(row("stg", answer, moved)).flags == ("text_disagrees", "box_without_area")


def test_scores():
    assert parse(row("cvs_assessment", "no grammar", [{"cvs_scores": {**CVS, "total": 3}}])).ground["scores"] == CVS
    spelled = {aspect.lower().replace(" ", "_"): score for aspect, score in SKILL.items()}
    sample = parse(row("skill_assessment", "no grammar", [{"skill_level": "N", "skill_scores": spelled}]))
    assert sample.ground["scores"] == SKILL
    assert sample.answer.startswith("Respect for tissue: 2/5, Suture/needle handling: 1/5")


def test_without_a_structure_the_text_is_the_truth():
    sample = parse(row(structure=None))
    assert sample.ground["spans"] == [[1.0, 2.0], [3.0, 4.0]] and sample.flags == ("from_text",)
    assert "a.json: row 7: conversations.1.value: expected" in refused(row(structure=None, answer="later"))


def test_next_action_and_summaries_ignore_whatever_structure_there_is():
    for structure in (None, "text", [1, 2], {"next": {}}):
        assert parse(row("next_action", " carlot-triangle-dissection ", structure)).ground["label"] == (
            "carlot-triangle-dissection"
        )
        assert parse(row("video_summary_gpt", "A summary.", structure)).ground == {"text": "A summary."}


def test_region_captions_carry_their_box():
    frame = "/root/data/AVOS/frames_15fps/v/30.jpg"
    region = {"start_frame": frame, "start_frame_bbox": [1, 2, 3, 4]}
    sample = parse(row("region_caption_gpt", "The hook.", [{"question": "q"}], is_RC=True, RC_info=region))
    assert sample.region == (frame, (1.0, 2.0, 3.0, 4.0))
    assert "RC_info: expected start_frame" in refused(row("region_caption_gpt", "The hook."))
    elsewhere = {**region, "start_frame": "other.jpg"}
    assert "RC_info.start_frame" in refused(row("region_caption_gpt", "The hook.", RC_info=elsewhere))


def test_a_row_without_an_answer_is_a_test_row():
    record = row()
    del record["struc_info"], record["conversations"][1]
    sample = parse(record)
    assert sample.answer is None and sample.ground is None


def test_every_video_mark_of_the_question_is_taken_off():
    turns = [{"from": "human", "value": "<video>\n<video>What <video>is it?"}, {"from": "gpt", "value": "tying"}]
    assert parse(row("next_action", conversations=turns)).question == "What is it?"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"qa_type": "quiz"}, "qa_type: expected one of tal,"),
        ({"qa_type": None}, "qa_type: expected a valid string, found None"),
        ({"data_source": "Cholec81"}, "data_source: expected one of AVOS"),
        ({"data_source": "CoPESD"}, "dataset_name: expected the same source"),
        ({"data_source": None, "dataset_name": None}, "data_source: expected a source"),
        ({"sampled_video_frames": [15, 30]}, "found 2 numbers for 5 frames"),
        ({"sampled_video_frames": [15, 30, 45, 60, 59]}, "never decrease"),
        ({"video": [], "sampled_video_frames": []}, "video: expected list should have at least 1"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "conversations: expected a human turn"),
        ({"conversations": [{"from": "human", "value": "<video>"}]}, "expected a question"),
        ({"metadata": {"video_id": "v", "fps": "nan", "start_frame": "1", "end_frame": "2"}}, "metadata.fps"),
        ({"metadata": {"video_id": "v", "fps": "1.0"}}, "exactly one pair of bounds"),
        ({"metadata": {"fps": "1.0", "start_frame": "1", "end_frame": "2"}}, "metadata.video_id: expected this key"),
        ({"struc_info": []}, "struc_info"),
        ({"struc_info": [{"action": "cutting", "spans": []}]}, "struc_info.0.spans"),
        ({"struc_info": [{"spans": [{"start": "soon", "end": 2}]}]}, "struc_info.0.spans.0.start"),
        ({"struc_info": "spans"}, "struc_info: expected a valid list, found 'spans'"),
        ({"struc_info": [{"spans": [{"start": 1, "end": float("inf")}]}]}, "struc_info.0.spans.0.end"),
    ],
)
def test_unknown_shapes_are_named(changes, said):
    message = refused(row(**changes))
    assert message.startswith("a.json: row 7: ") and said in message
    assert "\n" not in message


@pytest.mark.parametrize("record", [None, 3, "row", ["row"]])
def test_a_row_that_is_no_object(record):
    assert "expected a valid dictionary" in refused(record)


def test_lone_surrogates_are_refused():
    assert "video_id" in refused(json.loads(json.dumps(row()).replace('"v"', '"\\ud800"')))


@pytest.mark.parametrize("form", ["list", "lines", "gzip"])
def test_files_are_lists_or_lines_zipped_or_not(tmp_path, form):
    records = [{"a": 1.5}, {"a": [2, "ü"]}]
    path = tmp_path / "rows"
    text = json.dumps(records, indent=1) if form == "list" else "\n".join(map(json.dumps, records)) + "\n\n"
    path.write_bytes(gzip.compress(text.encode()) if form == "gzip" else b"\n " * (form == "list") + text.encode())
    assert list(read_rows(path)) == list(enumerate(records))


@pytest.mark.parametrize(
    "content, said",
    [
        (b'[{"a": 1}, {"a": ', "row 1: expected valid JSON"),
        (b'[{"a": 1}, {"a": NaN}]', "row 1: expected valid JSON"),
        (b'{"a": 1}\n{"a": \n', "row 1: expected valid JSON"),
        (b"", "expected a JSON list or JSON lines, found no data"),
        (b"hello", "expected a JSON list or JSON lines"),
        (gzip.compress(b'[{"a": 1}]' * 500)[:40], "expected valid JSON"),
    ],
)
def test_broken_files_are_named(tmp_path, content, said):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        list(read_rows(path))
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"none\.json: expected a readable file, found No such file"):
        list(read_rows(tmp_path / "none.json"))
