# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Where the first wrong element of an answer is, and what is put in its place."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_answers import TARGETS, row

from recipes.medgrpo.interventions.location import ELEMENTS, Asked, LeftOut, Mistake, locate
from recipes.medgrpo.interventions.rest import what_is_left
from reward_score.pieces import JOIN, PIECES
from reward_score.tasks import TASKS, read_gold


def found(task, answer, truncated=False, **other):
    return locate(Asked.of(row(task, **other), answer, truncated))


@pytest.mark.parametrize(
    ("task", "answer", "prefix", "original", "correction", "left"),
    [
        # Wrong in the middle; what is right by an IoU of 0.5 is the model's own.
        ("tal", "1.0-2.0, 6.0-20.0, 12.0-14.0 seconds.", "1.0-2.0, ", "6.0-20.0", "5.0-9.0", (2,)),
        ("tal", "1.0-1.9, 5.0-9.0 seconds.", "", "1.0-1.9", "1.0-3.0", (1, 2)),
        # Passed over in the middle, with the rest right: put in where it belongs.
        ("tal", "1.0-3.0, 12.0-14.0 seconds.", "1.0-3.0", "", ", 5.0-9.0", (2,)),
        ("tal", "5.0-9.0, 12.0-14.0 seconds.", "", "", "1.0-3.0", (1, 2)),
        # Not said at the end.
        ("tal", "1.0-3.0 seconds.", "1.0-3.0", "", ", 5.0-9.0", (2,)),
        # Said in another order, every one of them right so far: the first that is missing is the second.
        ("tal", "5.0-9.0, 1.0-3.0, 40.0-41.0 seconds.", None, None, None, LeftOut.NOTHING_AFTER),
        # A box is compared with the reference's of its time.
        (
            "stg",
            "0.0 seconds: [0, 0, 10, 9] 4.0 seconds: [40, 0, 50, 10] 8.0 seconds: [40, 0, 50, 10]",
            "0.0 seconds: [0, 0, 10, 9] ",
            "4.0 seconds: [40, 0, 50, 10]",
            "4.0 seconds: [20, 0, 30, 10]",
            (2,),
        ),
        # At no time of the reference: half a stride is 2 s.
        (
            "stg",
            "30.0 seconds: [0, 0, 10, 10]",
            "",
            "30.0 seconds: [0, 0, 10, 10]",
            "0.0 seconds: [0, 0, 10, 10]",
            (1, 2),
        ),
        # The time is right, the instrument is not.
        (
            "dvc",
            "0.0-4.0 seconds: The clipper dissects the liver.\n4.0-8.0 seconds: It.",
            "",
            "0.0-4.0 seconds: The clipper dissects the liver.\n",
            "0.0-4.0 seconds: The hook dissects the liver.\n",
            (1, 2),
        ),
        # The last line has no break of its own: both arms get it.
        (
            "dvc",
            "0.0-4.0 seconds: The hook works.\n4.0-5.0 seconds: It.",
            "0.0-4.0 seconds: The hook works.\n",
            "4.0-5.0 seconds: It.\n",
            "4.0-8.0 seconds: The grasper lifts it.\n",
            (2,),
        ),
        (
            "dvc",
            "0.0-4.0 seconds: The hook works.",
            "0.0-4.0 seconds: The hook works.\n",
            "",
            "4.0-8.0 seconds: The grasper lifts it.\n",
            (2,),
        ),
        (
            "cvs",
            "Two structures: 2, Cystic plate: 2, Hepatocystic triangle: 0",
            "Two structures: 2, ",
            "Cystic plate: 2",
            "Cystic plate: 1",
            (2,),
        ),
        # A sentence that names another structure.
        (
            "vs",
            "The hook is seen. It dissects the liver. Dry.",
            "The hook is seen. ",
            "It dissects the liver.",
            "It dissects the gallbladder.",
            (2,),
        ),
        # An instrument's name is put into the model's own sentence.
        (
            "vs",
            "Here a clipper is seen. Dry field.",
            "",
            "Here a clipper is seen.",
            "Here a hook is seen.",
            (1, 2),
        ),
    ],
)
def test_the_first_wrong_element_is_found_and_the_references_takes_its_place(
    task, answer, prefix, original, correction, left
):
    mistake = found(task, answer)
    if isinstance(left, LeftOut):
        assert mistake is left
        return
    assert mistake == Mistake(prefix, original, correction, mistake.gold, left)
    assert mistake.gold not in left
    # The beginning is the model's own, to the character, but for the break behind a last line.
    assert (answer + "\n").startswith(mistake.control)


@pytest.mark.parametrize(
    ("task", "answer", "truncated", "reason"),
    [
        ("tal", TARGETS["tal"][0], False, LeftOut.NO_ERROR),
        # In another order all of it is said.
        ("tal", "5.0-9.0, 1.0-3.0, 12.0-14.0 seconds.", False, LeftOut.NO_ERROR),
        ("tal", "1.0-3.0, 5.0-9.0, 12.0-14.0, 20.0-21.0 seconds.", False, LeftOut.SURPLUS),
        ("tal", "1.0-3.0, 5.0-9.0, 30.0-31.0 seconds.", False, LeftOut.NOTHING_AFTER),
        ("tal", "no idea", False, LeftOut.UNREADABLE),
        # Whether more would have come is not known.
        ("tal", "1.0-3.0, 5.0-9.", True, LeftOut.UNREADABLE),
        # The budget may have cut a score's place or a caption.
        ("dvc", "0.0-4.0 seconds: The hook works.\n4.0-8.0 seconds: The clipper", True, LeftOut.UNREADABLE),
        ("vs", "The hook is seen. It dissects the gallbladder. The field is dry.", False, LeftOut.NO_ERROR),
    ],
)
def test_what_cannot_be_corrected_says_why(task, answer, truncated, reason):
    assert found(task, answer, truncated) is reason


def test_one_element_is_left_out_whatever_was_said():
    truth = {"spans": [[1, 3]]}
    assert found("tal", "9.0-10.0 seconds.", target="1.0-3.0 seconds.", truth=truth) is LeftOut.ONE_ELEMENT
    truth = {"text": "The hook is seen."}
    assert found("vs", "The clipper is seen.", target="The hook is seen.", truth=truth) is LeftOut.ONE_ELEMENT


def test_a_task_without_a_row_is_left_out_by_name():
    asked = Asked.of(row("tal"), "x")
    assert locate(Asked("nap", *[getattr(asked, name) for name in list(vars(asked))[1:]])) is LeftOut.NO_ELEMENTS
    assert set(TASKS) - set(ELEMENTS) == {"nap"}


def pieces_of(task):
    target = TARGETS[task][0]
    return [target[piece.start : piece.end] for piece in PIECES[task](target)]


WRONG = {
    "tal": "70.0-71.0",
    "stg": "{time} seconds: [900, 900, 950, 950]",
    "dvc": "70.0-71.0 seconds: Other.\n",
    "cvs": "{name}: {other}",
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(WRONG)), st.integers(0, 2), st.booleans())
def test_everything_before_the_first_wrong_element_is_kept_and_the_next_is_the_references(task, at, ends):
    """A right answer with element `at` spoilt, and, if `ends`, nothing said behind it."""
    right = pieces_of(task)
    name, _, score = right[at].rpartition(": ")
    wrong = WRONG[task].format(
        time=right[at].split()[0], name=name, other=(int(score) + 1) % 3 if score.isdigit() else ""
    )
    said = [*right[:at], wrong, *([] if ends else right[at + 1 :])]
    answer = JOIN[task].join(said) + (" seconds." if task == "tal" else "")
    mistake = found(task, answer)
    if at == len(right) - 1:
        assert mistake is LeftOut.NOTHING_AFTER
        return
    assert mistake.guided.rstrip("\n") == JOIN[task].join(right[: at + 1]).rstrip("\n")
    assert mistake.left == tuple(range(at + 1, len(right)))
    # What is left is a reference that the reward takes, without what is there by then.
    asked = Asked.of(row(task), answer)
    read_gold(task, json.dumps(what_is_left(asked, mistake)))
    (field,) = TARGETS[task][1]
    assert len(what_is_left(asked, mistake)[field]) == len(right) - at - 1


def test_scores_that_the_reference_does_not_have_are_no_elements():
    truth = {"scores": {"two_structures": 2, "cystic_plate": 1}}
    assert found("cvs", "Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0", truth=truth) is (
        LeftOut.OTHER_TARGET
    )
