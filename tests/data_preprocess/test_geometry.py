# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Canvases and processed sizes."""

import ast
import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.geometry import (
    CANVASES,
    NATIVE_SIZES,
    SOURCES,
    assumed_size,
    canvas_of,
    processed_size,
    rescale,
    rounding_ious,
    vision_tokens,
)
from reward_score.boxes import iou, to_canvas, to_model
from reward_score.conventions import CONVENTIONS

SIDES = st.integers(min_value=56, max_value=2000)


def test_the_canvas_is_the_sources_own_whatever_the_file_is():
    assert canvas_of("CholecTrack20", (1920, 1080)) == (854, 480)
    assert canvas_of("CoPESD", (108, 84)) == (1306, 1009)
    assert canvas_of("AVOS", (640, 480)) == (640, 480)


@pytest.mark.parametrize(
    "frame, family, expected",
    [
        ((1920, 1080), "qwen2_5_vl", (252, 140)),
        ((640, 480), "qwen2_5_vl", (224, 168)),
        ((480, 640), "qwen2_5_vl", (168, 224)),
        ((1920, 1080), "qwen3_vl", (256, 128)),
        ((40, 40), "qwen2_5_vl", (84, 84)),
    ],
)
def test_examples_at_the_released_pixel_bounds(frame, family, expected):
    assert processed_size(frame, family) == expected


def test_bounds_that_nothing_satisfies_are_refused():
    with pytest.raises(ValueError, match="max >= 784"):
        processed_size((640, 480), "qwen2_5_vl", 100, 500)
    with pytest.raises(ValueError, match="min <= max"):
        processed_size((640, 480), "qwen2_5_vl", 9000, 8000)
    with pytest.raises(ValueError, match="200:1"):
        processed_size((4000, 10), "qwen2_5_vl")


@pytest.fixture(scope="module")
def reference():
    """qwen_vl_utils' own function, read from its file: importing the package needs a working torchvision."""
    package = importlib.util.find_spec("qwen_vl_utils")
    if package is None:
        pytest.skip("qwen_vl_utils is not installed")
    source = Path(package.submodule_search_locations[0], "vision_process.py").read_text()
    wanted = {"smart_resize", "round_by_factor", "ceil_by_factor", "floor_by_factor"}
    body = [
        node
        for node in ast.parse(source).body
        if (isinstance(node, ast.FunctionDef) and node.name in wanted)
        or (isinstance(node, ast.Assign) and node.targets[0].id == "MAX_RATIO")
    ]
    names = {"math": math, "Optional": __import__("typing").Optional, "Tuple": tuple}
    exec(compile(ast.Module(body, []), "vision_process.py", "exec"), names)
    return names["smart_resize"]


@settings(max_examples=300, deadline=None)
@given(
    width=SIDES,
    height=SIDES,
    family=st.sampled_from(sorted(CONVENTIONS)),
    bounds=st.sampled_from([(6272, 37632), (784, 6272), (100352, 602112), (4096, 16384)]),
)
def test_the_rule_is_qwen_vl_utils(reference, width, height, family, bounds):
    theirs = reference(height, width, CONVENTIONS[family].cell, *bounds)
    if 0 in theirs:  # there, a side may vanish; ours keeps one block
        theirs = tuple(max(side, CONVENTIONS[family].cell) for side in theirs)
    assert processed_size((width, height), family, *bounds) == theirs[::-1]


def test_two_frames_share_a_vision_token():
    assert vision_tokens(8, (112, 56), "qwen2_5_vl") == 4 * 4 * 2
    assert vision_tokens(9, (96, 64), "qwen3_vl") == 5 * 3 * 2


def test_without_a_look_at_the_disk_a_source_has_its_usual_size():
    assert assumed_size("JIGSAWS") == (640, 480)
    assert assumed_size("AVOS") == assumed_size("a source of tomorrow") == (854, 480)
    assert set(CANVASES) <= set(NATIVE_SIZES) <= set(SOURCES)


@pytest.mark.parametrize("family", sorted(CONVENTIONS))
def test_the_guess_does_not_matter_among_16_to_9_frames(family):
    """AVOS and NurViD are guessed, CholecTrack20 comes in two sizes."""
    sizes = {processed_size(size, family) for size in ((854, 480), (640, 360), (1280, 720), (1920, 1080))}
    assert sizes == {processed_size(assumed_size("AVOS"), family)}


CANVAS = st.sampled_from([*CANVASES.values(), (640, 480), (480, 854)])
# Three pixels over the edge were seen.
BOX = st.tuples(*[st.floats(-3, 1923, allow_nan=False)] * 4)


@settings(max_examples=150, deadline=None)
@given(box=BOX, canvas=CANVAS, disk=CANVAS, family=st.sampled_from(sorted(CONVENTIONS)))
def test_unrounded_a_box_comes_back_from_disk_and_from_either_model(box, canvas, disk, family):
    size = processed_size(disk, family)
    assert to_canvas(to_model(box, canvas, size, family), canvas, size, family) == pytest.approx(box, abs=1e-6)
    assert rescale(rescale(box, canvas, disk), disk, canvas) == pytest.approx(box, abs=1e-6)


def test_a_canvas_box_on_the_frame_on_disk():
    assert rescale((427, 120, 854, 480), (854, 480), (1920, 1080)) == (960, 270, 1920, 1080)


GOLD = {
    "CholecTrack20": [(311, 104, 432, 287), (519, 96, 731, 322), (402, 250, 470, 318)],
    "CoPESD": [(117.54, 339.56, 626.88, 1005.62), (700.12, 410.31, 905.77, 560.02)],
    "EgoSurgery": [(801, 512, 1011, 766), (1200, 340, 1320, 470)],
}


@pytest.mark.parametrize("source", sorted(GOLD))
@pytest.mark.parametrize("family", sorted(CONVENTIONS))
def test_one_decimal_keeps_a_written_box_on_its_gold_one(source, family):
    canvas = CANVASES[source]
    size = processed_size(canvas, family)
    said = [to_model(box, canvas, size, family) for box in GOLD[source]]
    kept = [float(np.mean(rounding_ious(said, decimals))) for decimals in (0, 1, 6)]
    assert kept[0] < kept[1] < kept[2] == pytest.approx(1)
    assert kept[1] > 0.98


def test_whole_pixels_of_a_small_frame_lose_too_much():
    said = [to_model(box, (854, 480), (224, 112), "qwen2_5_vl") for box in GOLD["CholecTrack20"]]
    assert np.mean(rounding_ious(said, 0)) < 0.98


def test_the_overlap_by_hand_and_on_the_canvas():
    """10x10 pixels of a 100x100 canvas at half the size: 5.2 and 10.2 are written as 5 and 10."""
    exact, off = (10, 10, 20, 20), (10.4, 10, 20.4, 20)
    said = [to_model(box, (100, 100), (50, 50), "qwen2_5_vl") for box in (exact, off)]
    assert rounding_ious(said, 0) == [1, pytest.approx(9.6 / 10.4)]
    written = [tuple(round(value) for value in box) for box in said]
    back = [to_canvas(box, (100, 100), (50, 50), "qwen2_5_vl") for box in written]
    assert [iou(off, back[1])] == pytest.approx(rounding_ious(said[1:], 0))
    assert rounding_ious([(10, 10, 10, 20)], 0) == [0]
