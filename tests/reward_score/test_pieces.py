# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Elements of an answer are what its grammar reads, and stand where they are said to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_score import answers
from reward_score.answers import Event
from reward_score.pieces import PIECES, sentences

times = st.integers(0, 999).map(lambda tenths: tenths / 10)
spans = st.lists(st.tuples(times, times), min_size=1, max_size=5)
boxes = st.dictionaries(times, st.tuples(*[st.integers(0, 1000).map(float)] * 4), min_size=1, max_size=5)
captions = st.sampled_from(["The hook lifts it.", "apply shampoo: The nurse, slowly: rubs.", "A 2 cm cut"])
events = st.lists(st.builds(Event, times, times, captions), min_size=1, max_size=5)
cvs = st.fixed_dictionaries({name: st.integers(0, 2) for name in answers.CVS_COMPONENTS})
sa = st.fixed_dictionaries({name: st.integers(1, 5) for name in answers.ASPECTS})


def said(task, text):
    found = PIECES[task](text)
    assert [PIECES[task](text[piece.start :])[0].value for piece in found] == [piece.value for piece in found]
    return [piece.value for piece in found]


@given(spans, boxes, events, cvs, sa)
def test_what_follows_the_grammar_is_read_as_its_parser_reads_it(spans, boxes, events, cvs, sa):
    assert said("tal", answers.render_tal(spans)) == answers.parse_tal(answers.render_tal(spans)).value
    text = answers.render_stg(boxes)
    assert dict(said("stg", text)) == answers.parse_stg(text).value
    text = answers.render_dvc(events)
    assert said("dvc", text) == answers.parse_dvc(text).value
    assert dict(said("cvs", answers.render_cvs(cvs))) == cvs
    assert dict(said("sa", answers.render_sa(sa))) == sa


@pytest.mark.parametrize(
    ("task", "text", "read"),
    [
        ("tal", "1.0-2.0, 3.0-4.0 sec", ["1.0-2.0"]),  # the last one goes on in another way
        ("tal", "8.0-8.0 seconds-14.", []),
        ("tal", "From 1.0-2.0 seconds.", []),
        ("stg", "1.0 seconds: [1, 2, 3, 4] 2.0 seconds: [1, 2, 3]", ["1.0 seconds: [1, 2, 3, 4]"]),
        ("sa", "Respect for tissue: 3/5, Time and motion: 1/5.4/5", ["Respect for tissue: 3/5"]),
        ("dvc", "0.0-2.0 seconds: A.\n\n4.0- seconds: B.", ["0.0-2.0 seconds: A.\n"]),
    ],
)
def test_what_breaks_the_grammar_ends_the_list(task, text, read):
    assert [text[piece.start : piece.end] for piece in PIECES[task](text)] == read


def test_sentences_stand_without_the_white_space_around_them():
    text = " First one. Then\nanother!  A last"
    assert [piece.value for piece in sentences(text)] == ["First one.", "Then", "another!", "A last"]
    assert all(text[piece.start : piece.end] == piece.value for piece in sentences(text))


def test_a_label_has_no_elements():
    assert set(answers.PARSERS) - set(PIECES) == {"nap"}
