# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Boxes at given times."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.errors import BadGroundTruth
from reward_score.spatial import pair_times, stg_iou

A, HALF, FAR = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 5.0, 10.0), (90.0, 90.0, 99.0, 99.0)
GOLD = {66.0: A, 74.0: A}


@pytest.mark.parametrize(
    ("predicted", "value"),
    [
        ({66.0: A, 74.0: A}, 1),
        ({66.0: A, 74.0: HALF}, 0.75),
        ({66.0: A}, 0.5),
        ({66.0: A, 74.0: A, 82.0: A}, 2 / 3),
        ({67.0: A, 73.0: A}, 1),
        ({70.0: A}, 0.5),
        ({61.9: A, 78.1: A}, 0),
        ({66.0: (10.0, 10.0, 0.0, 0.0), 74.0: (5.0, 5.0, 5.0, 5.0)}, 0),
        ({}, 0),
    ],
)
def test_stg_iou(predicted, value):
    assert stg_iou(predicted, GOLD, 8.0) == pytest.approx(value)


def test_one_box_for_all_times_is_carried_nowhere():
    gold = {float(t): A for t in range(0, 80, 8)}
    assert stg_iou({0.0: A}, gold, 8.0) == pytest.approx(0.1)


def test_a_junk_box_for_every_half_second_costs():
    predicted = {t / 2: A for t in range(120, 160)}
    assert stg_iou(predicted, GOLD, 8.0) == pytest.approx(2 / 40)


def test_stride_unknown():
    assert stg_iou({69.0: A}, GOLD) == pytest.approx(0.5)
    assert stg_iou({66.4: A}, {66.0: A}) == 1
    assert stg_iou({66.6: A}, {66.0: A}) == 0


def test_one_prediction_serves_one_time():
    assert pair_times([70.0], [66.0, 74.0], 4.0) == [(70.0, 66.0)]
    assert pair_times([65.0, 67.5], [66.0, 74.0], 4.0) == [(65.0, 66.0)]
    assert pair_times([67.5, 65.0], [66.0, 74.0], 4.0) == [(65.0, 66.0)]


def test_a_junk_box_cannot_push_another_to_a_time_that_suits_it():
    gold = {66.0: FAR, 70.0: A}
    assert stg_iou({68.0: A}, gold, 4.0) == 0
    assert stg_iou({66.0: HALF, 68.0: A}, gold, 4.0) == 0


def test_no_gold():
    with pytest.raises(BadGroundTruth):
        stg_iou({1.0: A}, {}, 8.0)


BOXES = st.dictionaries(
    st.integers(0, 20).map(float), st.sampled_from([A, HALF, FAR, (5.0, 5.0, 1.0, 1.0)]), min_size=1, max_size=6
)


@settings(max_examples=80, deadline=None)
@given(BOXES, BOXES, st.sampled_from([1.0, 4.0, 8.0]))
def test_bounded_and_order_free(predicted, gold, stride):
    value = stg_iou(predicted, gold, stride)
    assert 0 <= value <= 1
    assert stg_iou(dict(reversed(predicted.items())), dict(reversed(gold.items())), stride) == pytest.approx(value)
    assert stg_iou(predicted | {500.0: A}, gold, stride) <= value


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.integers(0, 20).map(float), st.sampled_from([A, HALF, FAR]), min_size=1, max_size=6), st.data()
)
def test_no_edit_of_a_right_answer_raises_it(gold, data):
    assert stg_iou(gold, gold, 1.0) == 1
    time = data.draw(st.sampled_from(sorted(gold)))
    without = {key: box for key, box in gold.items() if key != time}
    x1, y1, x2, y2 = gold[time]
    for edited in (without, gold | {time: (x2, y2, x1, y1)}, gold | {300.0: gold[time]}):
        assert stg_iou(edited, gold, 1.0) < 1
