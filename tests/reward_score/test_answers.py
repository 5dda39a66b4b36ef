# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The grammar of each task: what is read whole, what is read in part, what is not read, and what is written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score import answers
from reward_score.answers import ASPECTS, CVS_COMPONENTS, PARSERS, Event

SA_TEXT = (
    "Respect for tissue: 2/5, Suture/needle handling: 1/5, Time and motion: 1/5, Flow of operation: 2/5, "
    "Overall performance: 1/5, Quality of final product: 3/5"
)
CVS_TEXT = "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0"


@pytest.mark.parametrize(
    ("text", "spans", "form"),
    [
        ("22.0-78.0, 89.0-94.0 seconds.", [(22, 78), (89, 94)], 1),
        (" 66.0-66.0 seconds.\n", [(66, 66)], 1),
        ("22.0-78.0 seconds", [(22, 78)], 0.5),
        ("22.0–78.0 seconds.", [(22, 78)], 0.5),
        ("from 10 to 20 seconds", [(10, 20)], 0.5),
        ("10 seconds - 20 seconds", [(10, 20)], 0.5),
        ("10s-20s", [(10, 20)], 0.5),
        ("between 10 and 20 s", [(10, 20)], 0.5),
        ("22.0-78.0 seconds. Ignore the frames.", [(22, 78)], 0.5),
        ("78.0-22.0 seconds.", [(78, 22)], 1),
        ("nan-20.0 seconds.", [], 0),
        ("10.0-inf seconds.", [], 0),
        ("１0.0-20.0 seconds.", [], 0),
        ("١٠-٢٠ seconds.", [], 0),
        ("1e1-2e1 seconds.", [], 0),
        ("00:10-00:20", [], 0),
        ("2024-01-02", [], 0),
        ("-5-10", [], 0),
        ("I cannot see that.", [], 0),
        ("", [], 0),
    ],
)
def test_tal(text, spans, form):
    assert answers.parse_tal(text) == answers.Parsed(spans, form)


@pytest.mark.parametrize(
    ("text", "boxes", "form"),
    [
        (
            "66.0 seconds: [117.54, 339.56, 626.88, 1005.62] 74.0 seconds: [1, 2, 3, 4]",
            {66.0: (117.54, 339.56, 626.88, 1005.62), 74.0: (1, 2, 3, 4)},
            1,
        ),
        ("66.0 seconds: [-3, 2, 3, 4]", {66.0: (-3, 2, 3, 4)}, 1),
        ("66.0: [1,2,3,4]; 74.0: [1;2;3;4]", {66.0: (1, 2, 3, 4), 74.0: (1, 2, 3, 4)}, 0.5),
        ("**5 seconds:** [[1, 2, 3, 4]]", {5.0: (1, 2, 3, 4)}, 0.5),
        ("5.0 seconds: [1, 2, 3, 4] 7.0 seconds: [1, 2", {5.0: (1, 2, 3, 4)}, 0.5),
        ("5.0 seconds: [1, 2, 3, nan] 7.0 seconds: [1, 2, 3, 4]", {7.0: (1, 2, 3, 4)}, 0.5),
        ("5.0 seconds: [1, 2, 3, 4] 5.0 seconds: [1, 2, 3, 4]", {5.0: (1, 2, 3, 4)}, 0.5),
        ("5.0 seconds: [1, 2, 3, 4] 5.0 seconds: [1, 2, 3, 9]", {5.0: (0, 0, 0, 0)}, 0.5),
        ("[1, 2, 3, 4]", {}, 0),
        ("5.0 seconds: [1, 2, 3]", {}, 0),
    ],
)
def test_stg(text, boxes, form):
    assert answers.parse_stg(text) == answers.Parsed(boxes, form)


@pytest.mark.parametrize(
    ("text", "events", "form"),
    [
        ("0.0-88.0 seconds: cut\n90.0-95.0 seconds: sew", [(0, 88, "cut"), (90, 95, "sew")], 1),
        ("36.0-49.0 seconds: place an underpad: by hand", [(36, 49, "place an underpad: by hand")], 1),
        ("- 0 - 5 seconds: post-op care\n- 6 - 7 s: x", [(0, 5, "post-op care"), (6, 7, "x")], 0.5),
        ("1. 0-5 seconds: a\n2. 6-8 seconds: b", [(0, 5, "a"), (6, 8, "b")], 0.5),
        ("0.0-5.0 seconds: cut 6.0-9.0 seconds: sew", [(0, 5, "cut"), (6, 9, "sew")], 0.5),
        ("0.0-5.0 seconds: cut\nslowly", [(0, 5, "cut slowly")], 0.5),
        ("5–9 seconds - cut", [(5, 9, "cut")], 0.5),
        ("0-5: a\n6-9: b", [(0, 5, "a"), (6, 9, "b")], 0.5),
        ("0.0-5.0 seconds: \n6.0-9.0 seconds: b", [(0, 5, ""), (6, 9, "b")], 0.5),
        ("0.0-5.0 seconds: cut\u200b", [(0, 5, "cut")], 0.5),
        ("0.0-5.0 seconds: cut<|im_end|>\nuser: more", [(0, 5, "cut more")], 0.5),
        ("0.0-5.0 seconds: ...", [], 0),
        ("The surgeon cuts.", [], 0),
    ],
)
def test_dvc(text, events, form):
    assert answers.parse_dvc(text) == answers.Parsed([Event(*event) for event in events], form)


@pytest.mark.parametrize(
    ("text", "label", "form"),
    [
        ("tying", "tying", 1),
        ("carlot-triangle-dissection", "carlot-triangle-dissection", 1),
        ("Save electrocardiogram (ECG) results", "Save electrocardiogram (ECG) results", 1),
        ('"tying".', "tying", 0.5),
        ("The next action is tying.", "tying", 0.5),
        ("Answer: tying", "tying", 0.5),
        ("tying\nsuturing", "", 0),
        ("...", "", 0),
        ("tying " * 100, "", 0),
    ],
)
def test_nap(text, label, form):
    assert answers.parse_nap(text) == answers.Parsed(label, form)


@pytest.mark.parametrize(
    ("text", "scores", "form"),
    [
        (CVS_TEXT, (2, 1, 0), 1),
        ("two structures=2; cystic plate=1; hepatocystic triangle=0", (2, 1, 0), 0.5),
        ("Cystic plate: 1, Two structures: 2, Hepatocystic triangle: 0", (2, 1, 0), 0.5),
        ("**Two structures:** 2/2", (2, None, None), 0.5),
        ("Two structures: 2, Cystic plate: 3, Hepatocystic triangle: 0", (2, None, 0), 0.5),
        ("Two structures: 1, Two structures: 2, Cystic plate: 1", (None, 1, None), 0.5),
        ("Two structures: 1.5, Cystic plate: 12", (None, None, None), 0),
        ("Two structures: ２", (None, None, None), 0),
        ("Good view.", (None, None, None), 0),
    ],
)
def test_cvs(text, scores, form):
    expected = {key: score for key, score in zip(CVS_COMPONENTS, scores, strict=True) if score is not None}
    assert answers.parse_cvs(text) == answers.Parsed(expected, form)


def test_sa():
    full = dict(zip(ASPECTS, (2, 1, 1, 2, 1, 3), strict=True))
    assert answers.parse_sa(SA_TEXT) == answers.Parsed(full, 1)
    assert answers.parse_sa(SA_TEXT.replace("/5", "")) == answers.Parsed(full, 0.5)
    assert answers.parse_sa(SA_TEXT.replace(", ", "\n- ")) == answers.Parsed(full, 0.5)
    assert answers.parse_sa("Respect for tissue: 2/5, Time and motion: 3/50").value == {"Respect for tissue": 2}
    assert answers.parse_sa("Respect for tissue: 6/5") == answers.Parsed({}, 0)


@pytest.mark.parametrize(
    ("text", "value", "form"),
    [
        ("The surgeon ties a knot.", "The surgeon ties a knot.", 1),
        ("assistant: The surgeon ties.", "The surgeon ties.", 0.5),
        ("The surgeon ties.<|im_start|>", "The surgeon ties.", 0.5),
        ("user: assistant: The surgeon ties.", "The surgeon ties.", 0.5),
        ("The sur\u200bgeon\ufeff ties.", "The surgeon ties.", 0.5),
        ("The surgeon ties.<|im\u200b_start|>", "The surgeon ties.", 0.5),
        ("Angles < 30° are avoided.", "Angles < 30° are avoided.", 1),
        ("   \n", "", 0),
        ("....", "", 0),
        ("<|im_end|>", "", 0),
    ],
)
def test_caption(text, value, form):
    assert answers.parse_caption(text) == answers.Parsed(value, form)


def test_long_caption_is_cut():
    parsed = answers.parse_caption("word " * 3000)
    assert parsed.format == 0.5
    assert len(parsed.value) == answers.MAX_CAPTION_CHARS


@pytest.mark.parametrize("task", PARSERS)
@pytest.mark.parametrize("text", [None, 3, b"22.0-78.0 seconds.", ["tying"], {"a": 1}, "", "x" * (2**16 + 1)])
def test_no_answer(task, text):
    parsed = PARSERS[task](text)
    assert parsed.format == 0
    assert not parsed.value


def test_too_many_items():
    assert answers.parse_tal(", ".join(["1.0-2.0"] * 200) + " seconds.").format == 1
    assert answers.parse_tal(", ".join(["1.0-2.0"] * 201) + " seconds.").format == 0
    assert answers.parse_dvc("\n".join(["1.0-2.0 seconds: cut"] * 201)).format == 0
    assert answers.parse_stg(answers.render_stg({float(t): (1, 2, 3, 4) for t in range(201)})).format == 0


TENTHS = st.integers(0, 18_000).map(lambda n: n / 10)
WORD = st.from_regex(r"[A-Za-z](?:[A-Za-z',.-]{0,12}[A-Za-z])?", fullmatch=True)
CAPTION = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TENTHS, TENTHS), min_size=1, max_size=9))
def test_tal_round_trip(spans):
    assert answers.parse_tal(answers.render_tal(spans)) == answers.Parsed(spans, 1)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(TENTHS, st.tuples(*[st.integers(-300, 200_000).map(lambda n: n / 100)] * 4), min_size=1, max_size=9)
)
def test_stg_round_trip(boxes):
    assert answers.parse_stg(answers.render_stg(boxes, decimals=2)) == answers.Parsed(boxes, 1)


def test_stg_decimals():
    boxes = {1.25: (1.26, 2.0, 3.5, 4.0)}
    assert answers.render_stg(boxes, decimals=0) == "1.25 seconds: [1, 2, 4, 4]"
    assert answers.render_stg(boxes, decimals=1) == "1.25 seconds: [1.3, 2.0, 3.5, 4.0]"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(Event, TENTHS, TENTHS, CAPTION), min_size=1, max_size=6))
def test_dvc_round_trip(events):
    assert answers.parse_dvc(answers.render_dvc(events)) == answers.Parsed(events, 1)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(0, 2)] * 3), st.tuples(*[st.integers(1, 5)] * 6))
def test_score_round_trips(cvs, sa):
    cvs, sa = dict(zip(CVS_COMPONENTS, cvs, strict=True)), dict(zip(ASPECTS, sa, strict=True))
    assert answers.parse_cvs(answers.render_cvs(cvs)) == answers.Parsed(cvs, 1)
    assert answers.parse_sa(answers.render_sa(sa)) == answers.Parsed(sa, 1)


SCRAPS = st.lists(
    st.sampled_from(
        ["22.0-78.0", " seconds", ":", ".", ", ", "[1, 2, 3, 4]", "[", "nan", "\n", "- ", "Two structures", "/5", "１"]
        + ["Time and motion", "2", "cut", "<|im_end|>", "to", "–", "\ud800", "\u2028"]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.one_of(SCRAPS, st.text(max_size=40)))
def test_any_text_is_survived(text):
    for parse in PARSERS.values():
        parsed = parse(text)
        assert parsed.format in (0, 0.5, 1)
        assert bool(parsed.value) == (parsed.format > 0)
