# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A written target is read back: the task's parser finds the reward's ground truth in it, or the row is refused."""

import json
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.annotations import RecordError, parse_record
from data_preprocess.audit import Audit
from data_preprocess.convert import Converter, Settings
from reward_score.answers import ASPECTS
from reward_score.conventions import CONVENTIONS
from reward_score.reward import get_scorer
from reward_score.tasks import check_target

QA = {
    "nap": "next_action",
    "vs": "video_summary",
    "rc": "region_caption",
    "dvc": "dc",
    "cvs": "cvs_assessment",
    "sa": "skill_assessment",
}
BOX = [480, 270, 1440, 810]


def row(task, answer, structure=None, **changes):
    """A row of EgoSurgery, frames 2 s apart in a clip of 8 s, boxes on a canvas of 1920x1080."""
    metadata = {"video_id": "01_1", "fps": "0.5", "input_video_start_frame": "1", "input_video_end_frame": "5"}
    made = {
        "qa_type": QA.get(task, task),
        "data_source": "EgoSurgery",
        "conversations": [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": answer}],
        "video": [f"/root/data/EgoSurgery/images/01/01_1_{n:04}.jpg" for n in range(1, 6)],
        "sampled_video_frames": list(range(1, 6)),
        "metadata": metadata,
        "struc_info": structure,
    }
    if task == "rc":
        made["RC_info"] = {"start_frame": made["video"][0], "start_frame_bbox": BOX}
    return {**made, **changes}


def convert(record, **options):
    """The parquet row of a record; raises RecordError."""
    sample = parse_record(json.dumps(record).encode(), "a.json", 7)
    return Converter(Settings("/nowhere", verify="none", **options)).convert(sample, Audit()).row


def refused(record, **options):
    with pytest.raises(RecordError) as caught:
        convert(record, **options)
    assert str(caught.value).startswith("a.json: row 7: ") and "\n" not in str(caught.value)
    return caught.value


def spans(*bounds):
    return [{"spans": [{"start": start, "end": end} for start, end in bounds]}]


def boxes(*times, **changes):
    entry = {"start": times[0], "end": times[-1], "stride": 4, "object": "hook"}
    return [{**entry, "bbox_dict": {str(time): BOX for time in times}, **changes}]


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("tal", "2,0-5,0 seconds."),
        ("tal", "Steps 1-2 at 3.0-5.0 seconds."),
        ("tal", "0.1-0.2 minutes."),
        ("tal", "1.0-2.0, 3.0 seconds."),
        ("tal", "from 2.0 to 4.0 seconds"),
        ("tal", "between 2 and 4 s"),
        ("tal", "5.0-2.0 seconds."),
        ("stg", "2.0: [1, 2, 30, 40]"),
        ("stg", "0,0 seconds: [1, 2, 30, 40]"),
        ("dvc", "1. 0.0-2.0 seconds: Clip."),
        ("dvc", "0.0-2.0: Clip."),
        ("cvs", "Two structures = 2, Cystic plate = 1, Hepatocystic triangle = 0"),
        ("sa", "Respect for tissue: 2/5"),
        ("nap", "The next action is tying"),
        ("nap", "Next action: cut"),
        ("nap", "-"),
        ("vs", "3"),
        ("vs", "..."),
        ("vs", "A cut. " * 10_000),
        ("vs", "</think> A cut."),
        ("rc", "Assistant: the hook is seen."),
    ],
)
def test_what_only_the_lenient_reading_understands_is_no_truth(task, answer):
    assert refused(row(task, answer)).key == "conversations.1.value"


@pytest.mark.parametrize(
    "label", ["needle_driving", "2nd-suture", "cut + tie", "B", "sutüre", "a|b|c", "cut.", "tying"]
)
def test_a_label_is_said_back_or_its_row_is_refused(label):
    try:
        made = convert(row("nap", label))
    except RecordError as error:
        assert error.key == "conversations.1.value" and label in error.found
    else:
        check_target(made["data_source"], label, json.loads(made["reward_model"]["ground_truth"]), made["extra_info"])


@pytest.mark.parametrize(
    "structure",
    [
        spans(*((at / 100, (at + 1) / 100) for at in range(201))),
        spans((0, 9e9)),
        spans((-30, 3)),
    ],
)
def test_spans_that_no_answer_can_give_are_refused(structure):
    assert refused(row("tal", "x", structure), outside_clip="keep").key == "struc_info"


@pytest.mark.parametrize(
    "caption",
    ["1.0-2.0 seconds: cut", "cut, 1.0-2.0 seconds: sew", "a <think> b", "x" * 70_000, "...", "<|im_end|>"],
)
def test_events_that_no_answer_can_give_are_refused(caption):
    events = [{"start": 0, "end": 2, "caption": caption}]
    refused(row("dvc", "x", events))
    refused(row("dvc", "x", [{"dc_segments": [{**events[0], "caption": "Cut."} for _ in range(201)]}]))


@pytest.mark.parametrize(
    ("task", "answer", "structure", "target", "flags"),
    [
        ("tal", "from 2 to 4 s", spans((2, 4)), "2.0-4.0 seconds.", ["text_rewritten"]),
        ("tal", "2,0-4,0 seconds.", spans((2, 4)), "2.0-4.0 seconds.", None),
        ("tal", "-0.5-3.0 seconds.", spans((-0.5, 3)), "0.0-3.0 seconds.", ["text_unreadable", "time_clipped"]),
        ("dvc", "", [{"start": -1, "end": 2, "caption": "Cut."}], "0.0-2.0 seconds: Cut.", None),
        ("dvc", "", [{"start": 0, "end": 2, "caption": "Cu\u200bt."}], "0.0-2.0 seconds: Cut.", None),
        ("rc", "A ho\u00adok.\u200b", None, "A hook.", ["unseen_characters"]),
        ("tal", "x", spans((2.01, 2.04)), "2.01-2.04 seconds.", ["text_unreadable"]),
    ],
)
def test_what_can_be_mended_is_mended_and_counted(task, answer, structure, target, flags):
    extra = convert(row(task, answer, structure))["extra_info"]
    assert extra["answer"] == target
    assert extra["flags"] and (flags is None or [f for f in extra["flags"] if f != "box_not_drawn"] == flags)


def test_a_box_slightly_before_the_clip_stands_at_its_start():
    made = convert(row("stg", "x", boxes(-0.5, 4)))
    assert list(json.loads(made["reward_model"]["ground_truth"])["boxes"]) == ["0.0", "4.0"]
    assert made["extra_info"]["answer"].startswith("0.0 seconds: [") and "time_clipped" in made["extra_info"]["flags"]
    assert "the clip's start" in refused(row("stg", "x", boxes(-0.5, 0))).expected
    refused(row("stg", "x", boxes(-30, 0)), outside_clip="keep")


def test_boxes_that_rounding_makes_flat_or_that_are_too_many_are_refused():
    assert refused(row("stg", "x", boxes(0, bbox_dict={"0": [3, 3, 3.5, 900]})), stg_decimals=0).key == "struc_info"
    refused(row("stg", "x", boxes(*(at / 100 for at in range(201)))))


@pytest.mark.parametrize(
    ("box", "space"),
    [
        ([0.25, 0.25, 0.75, 0.75], "0 to 1"),
        ([0.1, 0.1, 1, 1], "0 to 1"),
        ([900, 500, 300, 200], "x, y, width and height"),
        ([300, 600, 900, 200], "exchanged"),
        ([100, 100, 4000, 500], "beyond it"),
        ([-500, 100, 400, 500], "beyond it"),
    ],
)
def test_boxes_of_another_space_are_named(box, space):
    error = refused(row("stg", "x", boxes(0, 4, bbox_dict={"0": box, "4": box})))
    assert error.key == "struc_info" and "1920x1080 canvas" in error.expected and space in error.found
    region = row("rc", "A hook.")
    region["RC_info"]["start_frame_bbox"] = box
    error = refused(region)
    assert error.key == "RC_info.start_frame_bbox" and space in error.found and str(float(box[0])) in error.found


@pytest.mark.parametrize(
    ("box", "space"),
    [
        ([0.25, 0.25, 0.75, 0.75], "0-1"),
        ([250, 250, 750, 750], "0-1000"),
        ([480, 270, 960, 540], "xywh"),
        ([0.25, 0.25, 0.5, 0.5], "xywh-0-1"),
        ([320, 180, 960, 540], "1280x720"),
        ([480, 270, 1440, 810], "canvas"),
    ],
)
def test_boxes_are_converted_from_the_space_that_the_user_names(box, space):
    made = convert(row("stg", "x", boxes(0, bbox_dict={"0": box})), box_spaces=(("EgoSurgery", space),))
    assert json.loads(made["reward_model"]["ground_truth"])["boxes"] == {"0.0": [480, 270, 1440, 810]}


@pytest.mark.parametrize(
    ("files", "flag"),
    [
        ([1, 2, 3, 4, 5], None),
        ([100, 125, 150, 175, 200], None),
        ([1, 2, 9000, 4, 5], "files_out_of_order"),
        ([1, 3, 2, 4, 5], "files_out_of_order"),
        ([5, 4, 3, 2, 1], "refused"),
        ([5, 5, 3, 3, 1], "refused"),
    ],
)
def test_files_in_another_order_than_their_numbers(files, flag):
    record = row("nap", "cutting", video=[f"/root/data/EgoSurgery/images/01/01_1_{n:04}.jpg" for n in files])
    if flag == "refused":
        assert refused(record).key == "video"
    else:
        assert convert(record)["extra_info"]["flags"] == [flag] * bool(flag)


@pytest.mark.parametrize(("fps", "flags"), [("30", ["fps_disagrees"]), ("0.5", []), ("0.1", ["fps_disagrees"])])
def test_a_rate_that_contradicts_the_frames_is_flagged(fps, flags):
    record = row("nap", "cutting")
    record["metadata"]["fps"] = fps
    assert convert(record)["extra_info"]["flags"] == flags


def test_a_next_action_that_was_not_offered_is_flagged():
    options = [{"from": "human", "value": "<video>\nWhich of ['tying', 'needle-driving', \"b'c\"] is next?"}]
    for answer, flags in (("Needle driving", []), ("tying", []), ("cutting", ["answer_not_an_option"])):
        record = row("nap", answer, conversations=[*options, {"from": "gpt", "value": answer}])
        assert convert(record)["extra_info"]["flags"] == flags
    assert convert(row("nap", "cutting", [{"next_action": "tying"}]))["extra_info"]["flags"] == ["structure_disagrees"]
    assert convert(row("nap", "Cutting", {"next_action": "cutting", "x": [1]}))["extra_info"]["flags"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b'"qa_type"', b'"qa_type": "tal", "qa_type"'), "qa_type: expected each key once"),
        ((b'"0": [', b'"0": [1, 2, 3, 4], "0": ['), "0: expected each key once"),
        ((b'"fps": "0.5"', b'"fps": "1_0"'), "metadata.fps: expected a valid number"),
        ((b'"stride": 4', b'"stride": "4_0"'), "struc_info.0.stride: expected a valid number"),
        ((b'"stride": 4', b'"stride": NaN'), "struc_info.0.stride: expected a finite number"),
        ((b'"stride": 4', b'"stride": NaN, "x": 99999999999999999999'), "expected valid JSON"),
        ((b'"stride": 4', b'"stride": NaN, "x": "\\ud800"'), "expected valid JSON"),
        ((b'"object": "hook"', b'"object": ' + b"[" * 300 + b"]" * 300), "nested at most 64 deep"),
        ((b'"object": "hook"', b'"object": ' + b"[" * 5000 + b"]" * 5000), "expected valid JSON"),
    ],
)
def test_json_that_libraries_read_in_their_own_ways_is_refused(change, said):
    raw = json.dumps(row("stg", "x", boxes(0))).encode()
    assert change[0] in raw and parse_record(raw, "a.json", 7)
    with pytest.raises(RecordError) as caught:
        parse_record(raw.replace(*change), "a.json", 7)
    assert said in str(caught.value) and "a.json: row 7" in str(caught.value)


@pytest.mark.parametrize("unused", [float("nan"), float("inf"), {"x": [float("-inf")]}, 'a": "b', {'"x" :': 1}])
def test_a_key_that_nobody_uses_may_hold_anything_of_python(unused):
    raw = json.dumps(row("nap", "cutting", note=unused)).encode()
    assert json.loads(convert(json.loads(raw))["extra_info"]["other"]).keys() == {"note"}
    assert parse_record(raw, "a.json", 7).answer == "cutting"


times = st.floats(-3, 12, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "Clip.",
        "cut - sew",
        "1.0-2.0 seconds: cut",
        "**Cut**",
        "<answer>cut</answer>",
        "box: [1, 2, 3, 4]",
        "切开",
        "3/5",
    ]
)
records = st.one_of(
    st.builds(lambda bounds: row("tal", "", spans(*bounds)), st.lists(st.tuples(times, times), min_size=1, max_size=5)),
    st.builds(lambda text: row("tal", text), st.lists(st.sampled_from("0123. -,s"), max_size=20).map("".join)),
    st.builds(
        lambda found: row("dvc", "", [{"start": a, "end": b, "caption": c} for a, b, c in found]),
        st.lists(st.tuples(times, times, texts), min_size=1, max_size=4),
    ),
    st.builds(lambda text: row("dvc", f"0.0-2.0 seconds: {text}"), texts),
    st.builds(
        lambda found: row("stg", "", boxes(0, 8, bbox_dict={str(time): box for time, box in found.items()})),
        st.dictionaries(times, st.lists(st.floats(-50, 2500), min_size=4, max_size=4), min_size=1, max_size=3),
    ),
    st.builds(lambda text: row("nap", text), texts),
    st.builds(lambda text: row("vs", text), texts),
    st.builds(
        lambda scores: row("sa", "", [{"skill_scores": dict(zip(ASPECTS, scores, strict=True))}]),
        st.lists(st.integers(0, 6), min_size=6, max_size=6),
    ),
)


@settings(max_examples=400, deadline=None)
@given(record=records, family=st.sampled_from(sorted(CONVENTIONS)))
def test_whatever_is_written_earns_full_marks(record, family):
    """400 rows of every task: a row that is not refused has a target whose format and measure are 1."""
    try:
        made = convert(record, model_family=family)
    except RecordError as error:
        assert (error.file, error.row) == ("a.json", 7) and error.key
        return
    extra = made["extra_info"]
    entry = (made["data_source"], extra["answer"], made["reward_model"]["ground_truth"], extra)
    sample = get_scorer(normalizer="none").read(*entry)
    assert sample.format == 1
    expected = {"stg": 0.5, "tal": 0.7, "dvc": 0.9}.get(made["ability"], 0.99)
    assert all(value > expected for value in sample.raw.values()) or _tiny(made)


def _tiny(made):
    """Spans and boxes so small, or spans so alike, that the rounding of the answer's form is a part of the measure."""
    ground = json.loads(made["reward_model"]["ground_truth"])
    bounds = ground.get("spans") or [(e["start"], e["end"]) for e in ground.get("events", ())]
    sides = [side for x1, y1, x2, y2 in ground.get("boxes", {}).values() for side in (x2 - x1, y2 - y1)]
    alike = any(max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1.1 for a, b in combinations(bounds, 2))
    return alike or any(b - a < 1 for a, b in bounds) or any(side < 60 for side in sides)
