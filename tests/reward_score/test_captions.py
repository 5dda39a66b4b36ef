# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which texts are compared, and what unmatched ones cost."""

import pytest

from reward_score.answers import Event
from reward_score.captions import event_pairs, judge_value, said_once, text_pair
from reward_score.errors import BadGroundTruth, RewardError


def test_text_pair():
    pairs = text_pair("a knot", "the knot")
    assert pairs.pairs == (("a knot", "the knot"),)
    assert pairs.mean([0.7]) == 0.7
    with pytest.raises(BadGroundTruth):
        text_pair("a knot", " \n")


@pytest.mark.parametrize(
    ("predicted", "value"),
    [
        ([Event(0, 10, "cut"), Event(20, 30, "sew")], 1.0),
        ([Event(0, 10, "cut")], 0.5),
        ([Event(0, 10, "cut"), Event(20, 30, "sew"), Event(50, 60, "tie"), Event(70, 80, "tie")], 0.5),
        ([Event(0, 30, "cut and sew")], 0.5),
        ([Event(50, 60, "cut")], 0.0),
        ([], 0.0),
    ],
)
def test_unmatched_events_count_nothing(predicted, value):
    gold = [Event(0, 10, "cut"), Event(20, 30, "sew")]
    pairs = event_pairs(predicted, gold)
    assert pairs.mean([1.0] * len(pairs.pairs)) == pytest.approx(value)


REFERENCE = "The hook cuts. The grasper holds. The hook cuts. A clip is placed."


@pytest.mark.parametrize(
    ("text", "once", "share"),
    [
        ("A knot is tied.", "A knot is tied.", 1),
        ("A knot is tied. A knot is tied.", "A knot is tied.", 1 / 2),
        ("a knot A KNOT a knot", "a knot", 1 / 3),
        ("A knot is tied. A knot is", "A knot is tied. A knot is", 1),  # broken off: begins anew, too short to tell
        ("cut cut cut", "cut", 1 / 3),
        ("A clip. A knot! A clip; A thread.", "A clip. A knot! A thread.", 6 / 8),
        ("The hook cuts. Then the hook cuts. The hook cuts.", "The hook cuts. Then the hook cuts. The hook cuts.", 1),
        ("A clip. The hook cuts. The hook cuts. The hook cuts.", "A clip. The hook cuts. The hook cuts.", 8 / 11),
        (REFERENCE, REFERENCE, 1),
        (REFERENCE.upper(), REFERENCE.upper(), 1),
        (REFERENCE + " " + REFERENCE, REFERENCE, 1 / 2),
        ("A knot is tied. Ａ ｋｎｏｔ ｉｓ ｔｉｅｄ.", "A knot is tied.", 1 / 2),
        ("Ａ knot ½ tied", "Ａ knot ½ tied", 1),
        ("...", "...", 1),
    ],
)
def test_said_once(text, once, share):
    assert said_once(text, REFERENCE) == (once, pytest.approx(share))


def test_what_is_said_again_counts_as_words_that_match_nothing():
    pairs = text_pair("a knot. a knot.", "the knot")
    assert pairs.pairs == (("a knot.", "the knot"),)
    assert pairs.mean([0.8]) == pytest.approx(0.4)
    gold = [Event(0, 10, "cut"), Event(20, 30, "sew")]
    pairs = event_pairs([Event(0, 10, "cut cut"), Event(20, 30, "sew")], gold)
    assert pairs.mean([1.0, 1.0]) == pytest.approx(0.75)


def test_judge_value():
    assert [judge_value(mean) for mean in (1, 3, 5)] == [0, 0.5, 1]
    for mean in (0.9, 5.1, float("nan")):
        with pytest.raises(RewardError):
            judge_value(mean)
