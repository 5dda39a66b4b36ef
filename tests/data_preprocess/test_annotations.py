# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Annotation rows: every known variant, and what is said of the others."""

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.annotations import RecordError, parse_record
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
    assert parse(row("stg", answer, moved)).flags == ("text_disagrees",)


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


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        ("<video>\n<video>What is it?", "What is it?"),
        ("What is it?\n<video>", "What is it?"),
        ("What is it?", "What is it?"),
        ("<video>\nWhat does <video> show?", None),
        ("<video>\nWhat is in the <vid<video>eo>?", None),
        ("<vid<video>eo>\nWhat is it?", None),
        ("<video>\nWhat is <vid\u200beo> it?", None),
        ("<video> \n ", None),
    ],
)
def test_the_mark_of_the_clip_stands_before_or_behind_the_question(asked, question):
    record = row("next_action", conversations=[{"from": "human", "value": asked}, {"from": "gpt", "value": "tying"}])
    if question:
        assert parse(record).question == question
    else:
        assert "row 7: conversations.0.value: expected" in refused(record) and "<video>" in refused(record)


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


def test_a_row_comes_as_raw_json_or_decoded():
    assert parse_record(json.dumps(row()).encode(), "a.json", 7) == parse(row())


@pytest.mark.parametrize(
    "raw", [b'{"id": nan}', b"{'id': 1}", b'{"id": "\xff"}', b'{"id": 1', b'{"a": "\\ud800"}', b""]
)
def test_a_row_that_is_no_json(raw):
    with pytest.raises(RecordError, match=r"a\.json: row 7: expected valid JSON, found ") as caught:
        parse_record(raw, "a.json", 7)
    assert (caught.value.key, caught.value.row, pickle.loads(pickle.dumps(caught.value)).args) == (
        "",
        7,
        caught.value.args,
    )


def test_a_nest_of_a_thousand_levels_is_refused():
    nested = b"[" * 3000 + b"]" * 3000
    with pytest.raises(RecordError, match="row 7: expected valid JSON"):
        parse_record(json.dumps(row()).encode()[:-1] + b', "more": ' + nested + b"}", "a.json", 7)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"sampled_video_frames": [15, True, 45, 60, 75]}, "sampled_video_frames.1: expected a valid integer"),
        ({"sampled_video_frames": [15, 1.5, 45, 60, 75]}, "sampled_video_frames.1: expected"),
        ({"sampled_video_frames": [15, None, 45, 60, 75]}, "sampled_video_frames.1: expected a valid integer"),
        ({"sampled_video_frames": "15"}, "sampled_video_frames: expected a valid list"),
        ({"sampled_video_frames": [-15, 30, 45, 60, 75]}, "sampled_video_frames: expected numbers from 0"),
        ({"sampled_video_frames": [15, 30, 45, 60, 10**17]}, "sampled_video_frames: expected numbers from 0"),
        ({"sampled_video_frames": [15, 30, 20, 60, 75]}, "found 20 after 30, at entry 2"),
        ({"video": ["a.jpg", "", "b.jpg", "c.jpg", "d.jpg"]}, "video: expected a path in each entry"),
        ({"video": ["a.jpg", 3, "b.jpg", "c.jpg", {}]}, "video.4: expected a valid string, found {}"),
        ({"video": "a.jpg"}, "video: expected a valid list"),
        ({"metadata": {"video_id": "v", "fps": True, "start_frame": "1", "end_frame": "2"}}, "metadata.fps: expected"),
        ({"metadata": {"video_id": "v", "fps": "0", "start_frame": "1", "end_frame": "2"}}, "metadata.fps: expected"),
        ({"metadata": {"video_id": "v", "fps": "Infinity", "start_frame": "1", "end_frame": "2"}}, "metadata.fps"),
        ({"metadata": {"video_id": True, "fps": "1", "start_frame": "1", "end_frame": "2"}}, "metadata.video_id"),
        ({"metadata": {"video_id": "v" * 5000, "fps": "1", "start_frame": "1", "end_frame": "2"}}, "metadata.video_id"),
        (
            {"metadata": {"video_id": "v", "fps": "1", "input_video_start_time": "9", "input_video_end_time": "2"}},
            "metadata: expected a clip that ends after its start, found 9 to 2",
        ),
        (
            {"metadata": {"video_id": "v", "fps": "1", "input_video_start_time": "a", "input_video_end_time": "2"}},
            "metadata.start: expected a valid number",
        ),
        ({"conversations": []}, "conversations: expected list should have at least 1 item"),
        (
            {"conversations": [{"from": "human", "value": "a?"}] * 2},
            "conversations: expected a human turn, then at most",
        ),
        (
            {"conversations": [{"from": "human", "value": "a?"}] * 3},
            "conversations: expected list should have at most 2",
        ),
        ({"conversations": [{"from": "system", "value": "a?"}]}, "conversations.0.from: expected 'human' or 'gpt'"),
        (
            {"conversations": [{"from": "human", "value": "a" * 1_000_001}]},
            "conversations.0.value: expected string should",
        ),
        (
            {"conversations": [{"from": "human", "value": ["<video>"]}]},
            "conversations.0.value: expected a valid string",
        ),
        ({"conversations": {"from": "human"}}, "conversations: expected a valid list"),
    ],
)
def test_wrong_types_and_sizes_are_named(changes, said):
    message = refused(row(**changes))
    assert message.startswith("a.json: row 7: ") and said in message
    assert "\n" not in message and len(message) < 300


def test_an_answer_without_an_end_is_refused():
    turns = [{"from": "human", "value": "<video>a?"}, {"from": "gpt", "value": "a" * 1_000_001}]
    assert "conversations.1.value" in refused(row("video_summary_gpt", conversations=turns))


def test_two_thousand_frames_are_frames():
    paths = [f"/root/data/AVOS/frames_15fps/v/{n}.jpg" for n in range(2000)]
    sample = parse(row(video=paths, sampled_video_frames=list(range(2000))))
    assert len(sample.frames) == len(sample.numbers) == 2000


@pytest.mark.parametrize("turn", [0, 1])
def test_text_that_a_tokenizer_would_read_as_commands_is_refused(turn):
    record = row()
    record["conversations"][turn]["value"] += "<|im_end|>"
    said = f"a.json: row 7: conversations.{turn}.value: expected text without control tokens, found <|im_end|>"
    assert refused(record) == said


def test_unicode_names_and_questions_without_a_video_mark():
    metadata = {"video_id": "手术 é", "fps": 1, "start_frame": "1", "end_frame": "2"}
    turns = [{"from": "human", "value": "Où? \ud83d\ude00"}, {"from": "gpt", "value": "tying"}]
    raw = json.dumps(row("next_action", metadata=metadata, conversations=turns, id="ü$1")).encode()
    sample = parse_record(raw, "a.json", 7)
    assert (sample.video_id, sample.row_id, sample.question) == ("手术 é", "ü$1", "Où? 😀")


def test_unknown_keys_are_kept():
    assert parse(row(hospital={"id": [1]}, train=False)).extra == {"hospital": {"id": [1]}, "train": False}


def test_a_row_that_lost_its_answer_is_flagged():
    record = row()
    del record["conversations"][1]
    sample = parse(record)
    assert (sample.answer, sample.ground, sample.flags) == (None, None, ("structure_without_answer",))


def test_frame_numbers_may_repeat_at_a_joint():
    assert parse(row(sampled_video_frames=[15, 53, 53, 53, 75])).numbers == (15, 53, 53, 53, 75)


def test_an_unknown_truth_is_the_callers_mistake():
    with pytest.raises(ValueError, match="truth 'both': expected one of structure, text"):
        parse_record(row(), "a.json", 0, "both")


ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**70,
        1e308,
        -0.5,
        "",
        " ",
        "nan",
        "1e400",
        "3",
        "x" * 5000,
        "\x00",
        [],
        [[]],
        [None],
        {},
        {"": 1},
    ]
)
REGION = {"start_frame": "/root/data/AVOS/frames_15fps/v/30.jpg", "start_frame_bbox": [1, 2, 3, 4]}
STG = {"start": 1, "end": 2, "stride": 1, "object": "hook", "bbox_dict": {"1": [1, 2, 3, 4], "2.0": [1, 2, 3, 4]}}
WHOLE = [
    row(),
    row("stg", "1.0 seconds: [1, 2, 3, 4] 2.0 seconds: [1, 2, 3, 4]", [STG]),
    row("dc", "0.0-2.0 seconds: Clip.", [{"dc_segments": EVENTS[:1]}]),
    row("dc", "0.0-2.0 seconds: Clip.\n2.0-4.0 seconds: Cut.", [EVENTS]),
    row("cvs_assessment", "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0", {"cvs_scores": CVS}),
    row("skill_assessment", "none", [{"skill_scores": SKILL}]),
    row("next_action", "tying"),
    row("region_caption_gpt", "The hook.", RC_info=REGION),
]


def places(value, path=()):
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_stands_anywhere_a_row_is_read_or_refused(data):
    record = copy.deepcopy(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 2))):
        *path, last = data.draw(st.sampled_from(list(places(record))))
        target = record
        for key in path:
            target = target[key]
        target[last] = copy.deepcopy(data.draw(ODD))
    try:
        sample = parse_record(record, "a.json", 7, data.draw(st.sampled_from(["structure", "text"])))
    except RecordError as error:
        assert str(error).startswith("a.json: row 7: ") and len(str(error)) < 400 and "\n" not in str(error)
    else:
        json.dumps(sample.ground, allow_nan=False)
        assert len(sample.frames) == len(sample.numbers) > 0 and (sample.answer is None) == (sample.ground is None)
