# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Canvases and processed sizes."""

import ast
import importlib.util
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.geometry import FACTORS, canvas_of, processed_size, vision_tokens

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
    family=st.sampled_from(sorted(FACTORS)),
    bounds=st.sampled_from([(6272, 37632), (784, 6272), (100352, 602112), (4096, 16384)]),
)
def test_the_rule_is_qwen_vl_utils(reference, width, height, family, bounds):
    theirs = reference(height, width, FACTORS[family], *bounds)
    if 0 in theirs:  # there, a side may vanish; ours keeps one block
        theirs = tuple(max(side, FACTORS[family]) for side in theirs)
    assert processed_size((width, height), family, *bounds) == theirs[::-1]


def test_two_frames_share_a_vision_token():
    assert vision_tokens(8, (112, 56), "qwen2_5_vl") == 4 * 4 * 2
    assert vision_tokens(9, (96, 64), "qwen3_vl") == 5 * 3 * 2
