# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The paired control: only what comes after an element counts, so that putting it in earns nothing by itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_answers import TARGETS, row

from recipes.medgrpo.interventions.attempts import Attempt
from recipes.medgrpo.interventions.control import score_after
from recipes.medgrpo.interventions.location import Asked, Mistake, locate
from reward_score.medgrpo import score_many
from reward_score.pieces import JOIN, PIECES

SCORING = {"judge": "offline"}
RULES = ("tal", "stg", "cvs")
"""Tasks that need no encoder: hundreds of answers of theirs are scored in a second."""
FILLERS = {
    "tal": ["1.0-3.0", "5.0-9.0", "12.0-14.0", "4.0-9.0", "70.0-71.0"],
    "stg": [
        "0.0 seconds: [0, 0, 10, 10]",
        "4.0 seconds: [20, 0, 30, 10]",
        "8.0 seconds: [41, 0, 50, 10]",
        "8.0 seconds: [0, 0, 9, 9]",
    ],
    "cvs": ["Two structures: 2", "Cystic plate: 1", "Cystic plate: 2", "Hepatocystic triangle: 0"],
}


def arms(task, answer, said):
    """What a continuation earns behind the correction, and behind the answer's own element."""
    data = row(task)
    mistake = locate(Asked.of(data, answer))
    assert isinstance(mistake, Mistake)
    attempt = Attempt(0, 0, data["data_source"], Asked.of(data, answer), mistake)
    records = [{"place": place, "sample": 0, "answer": said} for place in (0, 1)]
    corrected, original = score_after([attempt], records, {0: data, 1: data}, SCORING)
    return mistake, corrected["score"], original["score"]


def whole(task, text):
    data = row(task)
    truth, extra = data["reward_model"]["ground_truth"], data["extra_info"]
    return score_many([(data["data_source"], text, truth, extra)], **SCORING)[0]["score"]


@st.composite
def tried(draw):
    """A task, an answer with a mistake, and a continuation: any elements, and an end of the answer or none."""
    task = draw(st.sampled_from(RULES))
    elements = st.lists(st.sampled_from(FILLERS[task]), max_size=3)
    ends = {"tal": [" seconds.", ""], "stg": [""], "cvs": [""]}[task]
    said = "".join(JOIN[task] + one for one in draw(elements)) + draw(st.sampled_from(ends))
    answer = JOIN[task].join(draw(st.lists(st.sampled_from(FILLERS[task]), min_size=1, max_size=3)))
    return task, answer + (" seconds." if task == "tal" else ""), said


@settings(max_examples=300, deadline=None)
@given(tried())
def test_an_inserted_element_alone_never_raises_what_is_kept_for(case):
    """Whatever the same words earn behind the correction, they earn behind the model's own element."""
    task, answer, said = case
    if isinstance(locate(Asked.of(row(task), answer)), Mistake):
        _, corrected, original = arms(task, answer, said)
        assert corrected <= original


@pytest.mark.parametrize("task", RULES)
def test_the_whole_answer_would_have_risen_by_the_insertion_alone(task):
    """What the rule above is for: any filter that scores the whole answer lets every insertion pass."""
    answer = {
        "tal": "70.0-71.0 seconds.",
        "stg": "0.0 seconds: [900, 900, 950, 950]",
        "cvs": "Two structures: 0, Cystic plate: 2, Hepatocystic triangle: 2",
    }[task]
    said = {"tal": ", 80.0-81.0 seconds.", "stg": " 99.0 seconds: [1, 1, 2, 2]", "cvs": ", Cystic plate: 0"}[task]
    mistake, corrected, original = arms(task, answer, said)
    assert whole(task, mistake.guided + said) > whole(task, mistake.control + said)
    assert corrected <= original


def test_the_rest_earns_what_the_reward_gives_it():
    """Behind the first span two are left: both, one of them, none, and one too many."""
    answer = "70.0-71.0 seconds."
    earned = {
        ", 5.0-9.0, 12.0-14.0 seconds.": 1.0,
        ", 5.0-9.0 seconds.": 0.5,
        " seconds.": 0.0,
        "": 0.0,
        ", 5.0-9.0, 12.0-14.0, 1.0-3.0 seconds.": 2 / 3,
    }
    for said, expected in earned.items():
        assert arms("tal", answer, said)[1] == pytest.approx(expected), said


def test_an_answer_that_recovers_by_itself_is_not_worse_than_a_corrected_one():
    """The right element, said behind the wrong one, is neither rewarded nor punished; said twice it is."""
    _, corrected, original = arms("tal", "70.0-71.0 seconds.", ", 1.0-3.0, 5.0-9.0, 12.0-14.0 seconds.")
    assert (corrected, original) == (pytest.approx(2 / 3), 1.0)
    _, corrected, original = arms("tal", "70.0-71.0 seconds.", ", 5.0-9.0, 12.0-14.0, 1.0-3.0 seconds.")
    assert (corrected, original) == (pytest.approx(2 / 3), 1.0)
    _, _, original = arms("tal", "70.0-71.0 seconds.", ", 1.0-3.0 seconds.")
    assert original == 0.0


def test_captions_and_events_are_scored_behind_the_element_too():
    clipper = "A clipper is seen. It dissects the gallbladder."
    target = TARGETS["vs"][0]
    rest = target[PIECES["vs"](target)[1].start :]
    mistake, corrected, original = arms("vs", clipper, " " + rest)
    assert mistake.left == (1, 2) and corrected == original == pytest.approx(1.0, abs=1e-3)
    lines = TARGETS["dvc"][0].partition("\n")[2]
    _, corrected, original = arms("dvc", "40.0-41.0 seconds: The hook.", lines)
    assert corrected == original == pytest.approx(1.0, abs=1e-3)
