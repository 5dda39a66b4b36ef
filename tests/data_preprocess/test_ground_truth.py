# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Structure against answer text: who decides, what is flagged, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_preprocess.ground_truth import GROUND, MAX_TEXT, ShapeError, gold_times, outside_clip
from data_preprocess.wording import short
from reward_score.answers import ASPECTS, render_cvs, render_sa, render_tal

SPANS = [{"action": "cutting", "spans": [{"start": 1.04, "end": 2}, {"start": "3.0", "end": 4.0}]}]
BOXES = {"start": 66, "end": 74, "stride": 8, "object": "hook", "bbox_dict": {"66": [1, 2, 3, 4], "74.0": [5, 6, 7, 8]}}
EVENTS = [{"start": 0.03, "end": 2, "caption": "Clip."}, {"start": 2, "end": 4, "caption": "Cut."}]
CVS = {"two_structures": 2, "cystic_plate": 1, "hepatocystic_triangle": 0}
SKILL = dict(zip(ASPECTS, [2, 1, 1, 2, 1, 3], strict=True))


def refused(task, answer, structure, truth="structure"):
    with pytest.raises(ShapeError) as caught:
        GROUND[task](answer, structure, truth)
    error = caught.value
    return f"{error.key}: expected {error.expected}, found {error.found}"


# task, structure, a text that agrees, one that does not, one that cannot be read
CASES = [
    ("tal", SPANS, "1.0-2.0, 3.0-4.0 seconds.", "1.0-2.0, 3.0-5.0 seconds.", "later"),
    (
        "stg",
        [BOXES],
        "66.0 seconds: [1, 2, 3.04, 4] 74.0 seconds: [5, 6, 7, 8]",
        "66.0 seconds: [1, 2, 3, 4] 74.0 seconds: [5, 6, 7, 9]",
        "everywhere",
    ),
    ("dvc", EVENTS, "0.0-2.0 seconds: Clip.\n2.0-4.0 seconds: Cut.", "0.0-2.5 seconds: Clip.", "Clip, then cut."),
    ("cvs", [{"cvs_scores": CVS}], render_cvs(CVS), render_cvs({**CVS, "cystic_plate": 2}), "good"),
    ("sa", [{"skill_scores": SKILL}], render_sa(SKILL), render_sa({**SKILL, "Time and motion": 5}), "good"),
]


@pytest.mark.parametrize("task, structure, agrees, differs, unreadable", CASES, ids=[case[0] for case in CASES])
def test_who_decides(task, structure, agrees, differs, unreadable):
    def facts(answer, structure, truth):
        said, ground, flags = GROUND[task](answer, structure, truth)
        assert ground["text"] == answer
        return said, {key: value for key, value in ground.items() if key != "text"}, flags

    answer, given, flags = facts(agrees, structure, "structure")
    assert (answer, flags) == (agrees, ())

    answer, ground, flags = facts(differs, structure, "structure")
    assert (ground, flags) == (given, ("text_disagrees",)) and (task == "stg" or answer != differs)
    answer, ground, flags = facts(unreadable, structure, "structure")
    assert (ground, flags) == (given, ("text_unreadable",)) and (task == "stg" or answer != unreadable)

    alone = facts(differs, None, "text")[1]
    answer, ground, flags = facts(differs, structure, "text")
    assert (answer, flags) == (differs, ("text_disagrees",))
    named = {"start", "end", "stride", "object"}
    assert {k: v for k, v in ground.items() if k not in named} == {k: v for k, v in alone.items() if k not in named}
    assert facts(unreadable, structure, "text")[1:] == (given, ("text_unreadable",))

    assert facts(agrees, None, "structure")[2] == ("from_text",)
    assert "conversations.1.value: expected" in refused(task, unreadable, None)


def test_the_answer_is_written_anew_where_the_text_says_something_else():
    assert GROUND["tal"]("later", SPANS, "structure")[0] == "1.0-2.0, 3.0-4.0 seconds."
    assert GROUND["dvc"]("later", EVENTS, "structure")[0] == "0.0-2.0 seconds: Clip.\n2.0-4.0 seconds: Cut."
    assert GROUND["cvs"]("later", [{"cvs_scores": CVS}], "structure")[0] == render_cvs(CVS)


def test_an_answer_in_another_order_says_the_same():
    assert GROUND["tal"]("3.0-4.0, 1.0-2.0 seconds.", SPANS, "structure")[2] == ()
    answer = "2.0-4.0 seconds: Cut.\n0.0-2.0 seconds: Clip."
    said, ground, flags = GROUND["dvc"](answer, EVENTS, "structure")
    assert (said, flags, ground["events"]) == (answer, (), EVENTS)


def test_captions_are_the_texts_where_its_events_are_the_same_ones():
    text = "0.0-2.0 seconds: place a clip: Clip.\n2.0-3.5 seconds: cut it: Cut."
    said, ground, flags = GROUND["dvc"](text, EVENTS, "structure")
    assert flags == ("text_disagrees",)
    assert [(e["end"], e["caption"]) for e in ground["events"]] == [(2, "place a clip: Clip."), (4, "cut it: Cut.")]
    assert said == "0.0-2.0 seconds: place a clip: Clip.\n2.0-4.0 seconds: cut it: Cut."
    elsewhere = "0.0-2.0 seconds: Clip.\n7.0-9.0 seconds: Sew."
    _, ground, flags = GROUND["dvc"](elsewhere, EVENTS, "structure")
    assert ground["events"] == EVENTS and flags == ("text_disagrees", "caption_disagrees")


def test_another_caption_is_flagged_and_the_texts_is_used():
    _, ground, flags = GROUND["dvc"]("0.0-2.0 seconds: Sew.\n2.0-4.0 seconds:  cut", EVENTS, "structure")
    assert flags == ("text_rewritten", "caption_disagrees")
    assert [e["caption"] for e in ground["events"]] == ["Sew.", "cut"]


def test_segments_in_several_lists_are_all_read():
    text = "0.0-2.0 seconds: Clip.\n2.0-4.0 seconds: Cut."
    for structure in ([[EVENTS[0]], [EVENTS[1]]], [{"dc_segments": [event]} for event in EVENTS]):
        assert GROUND["dvc"](text, structure, "structure")[1]["events"] == EVENTS


def test_zero_length_spans_and_boxes_over_the_canvas_are_legal():
    spans = [{"spans": [{"start": 66.0, "end": 66.0}]}]
    assert GROUND["tal"]("66.0-66.0 seconds.", spans, "structure")[1:] == (
        {"text": "66.0-66.0 seconds.", "spans": [[66.0, 66.0]]},
        (),
    )
    boxes = {**BOXES, "bbox_dict": {"66": [-3, -1.5, 1923, 1083]}, "end": 66}
    _, ground, flags = GROUND["stg"]("66.0 seconds: [-3, -1.5, 1923, 1083]", boxes, "structure")
    assert (ground["boxes"], flags) == ({"66.0": [-3.0, -1.5, 1923.0, 1083.0]}, ())


def test_oddities_of_boxes_are_flagged():
    text = "66.0 seconds: [3, 2, 1, 4]"
    boxes = {**BOXES, "bbox_dict": {"66": [3, 2, 1, 4]}}
    assert GROUND["stg"](text, [boxes, boxes], "structure")[2] == ("more_than_one_object",)


def test_scores_by_any_spelling_and_beside_other_scores():
    snake = {"_".join(aspect.lower().replace("/", " ").split()): score for aspect, score in SKILL.items()}
    assert "suture_needle_handling" in snake
    structure = [{"skill_level": "N", "skill_scores": {**snake, "total": 10, "note": None}}]
    assert GROUND["sa"](render_sa(SKILL), structure, "structure")[1:] == (
        {"text": render_sa(SKILL), "scores": SKILL},
        (),
    )
    more = {"cvs_scores": {**CVS, "total": 3, "achieved": False}}
    assert GROUND["cvs"](render_cvs(CVS), more, "structure")[1]["scores"] == CVS


def test_a_text_with_a_component_missing_does_not_win():
    text = "Two structures: 0, Cystic plate: 1"
    _, ground, flags = GROUND["cvs"](text, [{"cvs_scores": CVS}], "text")
    assert (ground["scores"], flags) == (CVS, ("text_disagrees",))
    assert "conversations.1.value: expected scores for" in refused("cvs", text, None)


@pytest.mark.parametrize(
    "task, structure, said",
    [
        ("tal", [{"spans": [{"start": 2, "end": 1}]}], "struc_info: expected no start behind its end, found 2 to 1"),
        ("tal", [{"spans": [{"start": True, "end": 1}]}], "struc_info.0.spans.0.start: expected a valid number"),
        ("tal", [{"spans": [{"start": "NaN", "end": 1}]}], "struc_info.0.spans.0.start: expected a finite number"),
        ("tal", [{"spans": [{"start": "-Infinity", "end": 1}]}], "struc_info.0.spans.0.start: expected a finite"),
        ("tal", [{"spans": [{"start": "1 s", "end": 1}]}], "struc_info.0.spans.0.start: expected a valid number"),
        ("tal", [{"spans": []}], "struc_info.0.spans: expected list should have at least 1"),
        ("tal", [{"action": "x"}], "struc_info.0.spans: expected this key, found nothing"),
        ("tal", [], "struc_info: expected list should have at least 1"),
        ("tal", 5, "struc_info: expected a valid list, found 5"),
        ("tal", [None], "struc_info.0: expected a valid dictionary"),
        ("stg", [], "struc_info: expected a list with an object"),
        ("stg", {**BOXES, "bbox_dict": {}}, "struc_info.0.bbox_dict: expected dictionary should have at least 1"),
        ("stg", {**BOXES, "bbox_dict": {"66": [1, 2, 3]}}, "struc_info.0.bbox_dict.66: expected list should have"),
        ("stg", {**BOXES, "bbox_dict": {"66": [1, 2, 3, False]}}, "struc_info.0.bbox_dict.66: expected numbers"),
        ("stg", {**BOXES, "bbox_dict": {"now": [1, 2, 3, 4]}}, "struc_info.0.bbox_dict.now"),
        ("stg", {**BOXES, "bbox_dict": {"6": [1, 2, 3, 4], "6.0": [1, 2, 3, 4]}}, "each time once"),
        ("stg", {**BOXES, "start": 99}, "struc_info.0: expected no start behind its end, found 99 to 74"),
        ("stg", {**BOXES, "stride": 0}, "struc_info.0.stride: expected greater than 0"),
        ("dvc", [{"start": 0, "end": 2, "caption": " "}], "struc_info.0.caption: expected string should have at least"),
        ("dvc", [{"start": 2, "end": 0, "caption": "x"}], "struc_info: expected no start behind its end"),
        ("dvc", [{"start": 2, "end": 4, "caption": "x" * (MAX_TEXT + 1)}], "struc_info.0.caption: expected string"),
        ("dvc", [[]], "struc_info: expected list should have at least 1"),
        ("cvs", [{"cvs_scores": {**CVS, "cystic_plate": 3}}], "struc_info.0.cvs_scores.cystic_plate: expected less"),
        ("cvs", [{"cvs_scores": {**CVS, "cystic_plate": True}}], "struc_info.0.cvs_scores.cystic_plate: expected"),
        ("cvs", [{"cvs_scores": {"cystic_plate": 1}}], "found none for two_structures, hepatocystic_triangle"),
        ("cvs", [{"cvs_scores": [1, 2, 3]}], "struc_info.0.cvs_scores: expected a valid dictionary"),
        ("sa", [{"skill_scores": {**SKILL, "Time and motion": 6}}], "struc_info.0.skill_scores.Time and motion: exp"),
        ("sa", [{"skill_scores": {**SKILL, "time_and_motion": 5}}], "expected one score for each name, found 1 and 5"),
    ],
)
def test_unknown_structures_are_refused_whatever_the_text_says(task, structure, said):
    answer = {"tal": "1.0-2.0 seconds.", "stg": "66.0 seconds: [1, 2, 3, 4]", "dvc": "0.0-2.0 seconds: Clip."}
    for truth in ("structure", "text"):
        assert said in refused(task, answer.get(task, "none"), structure, truth)


@pytest.mark.parametrize("task, answer", [("tal", "4.0-1.0 seconds."), ("dvc", "4.0-1.0 seconds: Cut.")])
def test_a_text_that_ends_before_it_starts_is_no_truth(task, answer):
    assert refused(task, answer, None).startswith("conversations.1.value: expected no start behind its end")
    structure = SPANS if task == "tal" else EVENTS
    assert refused(task, answer, structure, "text").startswith("conversations.1.value: expected no start")
    assert GROUND[task](answer, structure, "structure")[2][0] == "text_disagrees"


def test_blank_answers_of_free_text_tasks_are_refused():
    for task in ("nap", "vs", "rc"):
        assert refused(task, " \n", [{"anything": "x"}]) == "conversations.1.value: expected an answer, found a blank"


@given(
    st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 9999)).map(sorted), min_size=1, max_size=6),
    st.floats(-0.049, 0.049),
)
def test_rounding_is_no_disagreement(spans, shift):
    """Spans in tenths of a second, moved by less than the text can say."""
    exact = [(start / 10, end / 10) for start, end in spans]
    structure = [{"spans": [{"start": start + shift, "end": end + shift} for start, end in exact]}]
    _, ground, flags = GROUND["tal"](render_tal(exact), structure, "structure")
    assert flags == () and ground["spans"] == [[start + shift, end + shift] for start, end in exact]


@pytest.mark.parametrize(
    "task, ground",
    [
        ("tal", {"spans": [[-2.0, 3.0], [5.0, 12.0]]}),
        ("dvc", {"events": [{"start": -2.0, "end": 12.0, "caption": "x"}]}),
        ("stg", {"boxes": {"-2.0": [0, 0, 1, 1], "12.0": [0, 0, 1, 1]}, "start": -50.0, "end": 50.0}),
    ],
)
def test_how_far_outside_the_clip(task, ground):
    times = gold_times(ground)
    assert (min(times), max(times)) == (-2.0, 12.0)
    assert outside_clip(times, 12.0, 2.0) == outside_clip(times, 10.0, 2.0) == 0.0
    assert outside_clip(times, 10.0, 0.5) == 1.5
    assert outside_clip(times, 4.0, 2.0) == 6.0


def test_tasks_without_times_are_never_outside():
    assert outside_clip(gold_times({"text": "", "scores": CVS}), 0.0, 0.0) == 0.0


@given(st.text(max_size=200) | st.lists(st.text(max_size=9), max_size=40))
def test_what_was_found_is_one_short_line(value):
    line = short(value)
    assert len(line) <= 80 and len(line.splitlines()) <= 1 and line.encode() is not None
