# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Boxes: overlap, and the way between canvas and model space."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.boxes import clip_to_canvas, iou, to_canvas, to_model
from reward_score.conventions import CONVENTIONS

COORDINATE = st.floats(-10, 2000, allow_nan=False)
BOX = st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE)


def test_to_model():
    assert to_model((427, 120, 854, 480), (854, 480), (448, 252), "qwen2_5_vl") == (224, 63, 448, 252)
    assert to_model((427, 120, 854, 480), (854, 480), (448, 252), "qwen3_vl") == (500, 250, 1000, 1000)


@settings(max_examples=60, deadline=None)
@given(BOX, st.sampled_from(tuple(CONVENTIONS)))
def test_there_and_back(box, family):
    canvas, size = (1306, 1009), (168, 168)
    back = to_canvas(to_model(box, canvas, size, family), canvas, size, family)
    assert back == pytest.approx(box, abs=1e-9)


def test_unknown_family_and_empty_canvas():
    with pytest.raises(ValueError, match="llava"):
        to_canvas((0, 0, 1, 1), (854, 480), (448, 252), "llava")
    with pytest.raises(ValueError, match="positive"):
        to_canvas((0, 0, 1, 1), (0, 480), (448, 252), "qwen3_vl")


def test_clip():
    assert clip_to_canvas((-3, 10, 900, 470), (854, 480)) == (0, 10, 854, 470)
    assert clip_to_canvas((900, 10, 990, 470), (854, 480)) == (854, 10, 854, 470)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((10, 10, 0, 0), (10, 10, 0, 0), 0),
        ((0, 0, 10, 0), (0, 0, 10, 0), 0),
        ((0, 0, math.inf, 10), (0, 0, 10, 10), 0),
        ((0, 0, math.nan, 10), (0, 0, 10, 10), 0),
    ],
)
def test_iou(a, b, value):
    assert iou(a, b) == pytest.approx(value)


@settings(max_examples=80, deadline=None)
@given(BOX, BOX)
def test_iou_is_symmetric_and_bounded(a, b):
    assert 0 <= iou(a, b) <= 1
    assert iou(a, b) == pytest.approx(iou(b, a))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.1, 20), st.integers(-100, 100))
def test_iou_knows_no_scale_or_shift(width, height, scale, shift):
    a, b = (0, 0, width, height), (width / 3, height / 4, width * 1.5, height * 1.2)
    moved = [tuple(scale * value + shift for value in box) for box in (a, b)]
    assert iou(*moved) == pytest.approx(iou(a, b), rel=1e-6)
