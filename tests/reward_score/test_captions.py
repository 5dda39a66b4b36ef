# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which texts are compared, and what unmatched ones cost."""

import pytest

from reward_score.answers import Event
from reward_score.captions import event_pairs, judge_value, text_pair
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


def test_judge_value():
    assert [judge_value(mean) for mean in (1, 3, 5)] == [0, 0.5, 1]
    for mean in (0.9, 5.1, float("nan")):
        with pytest.raises(RewardError):
            judge_value(mean)
