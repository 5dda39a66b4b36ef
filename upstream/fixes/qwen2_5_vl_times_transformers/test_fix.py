# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Temporal positions of Qwen2.5-VL follow the rate of the video, and text goes on after the last of them."""

import types

import pytest
import torch
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

TEXT, VIDEO = 0, 2
CELLS = 4  # of a temporal patch, after merging


def positions(fps, patches=4, before=3, after=2):
    """Positions (3, n) of text, a video of 2 frames a patch, and text; and the delta for what is generated."""
    config = Qwen2_5_VLConfig()
    config.vision_config.tokens_per_second = 2  # of the released models
    model = types.SimpleNamespace(config=config)
    model.get_vision_position_ids = types.MethodType(Qwen2_5_VLModel.get_vision_position_ids, model)
    kinds = torch.tensor([[TEXT] * before + [VIDEO] * patches * CELLS + [TEXT] * after])
    placed, delta = Qwen2_5_VLModel.get_rope_index(
        model,
        input_ids=torch.zeros_like(kinds),
        mm_token_type_ids=kinds,
        video_grid_thw=torch.tensor([[patches, 4, 4]]),
        second_per_grid_ts=torch.tensor([2 / fps]),
    )
    return placed[:, 0], int(delta)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (8, [0, 0, 1, 1]),
        (4, [0, 1, 2, 3]),
        (2, [0, 2, 4, 6]),
        (1, [0, 4, 8, 12]),
        (0.75, [0, 5, 10, 16]),
        (0.3, [0, 13, 26, 40]),
    ],
)
def test_a_patch_stands_at_its_time(fps, expected):
    placed, _ = positions(fps)
    assert placed.dtype == torch.int64
    assert (placed[0, 3 : 3 + 4 * CELLS : CELLS] - 3).tolist() == expected
    assert (placed[1, 3 : 3 + CELLS] - 3).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("fps", [8, 2, 0.75])
def test_text_goes_on_after_the_last_position_as_generation_does(fps):
    placed, delta = positions(fps)
    text = placed[:, -2:]
    assert text.tolist() == [[int(placed[:, :-2].max()) + 1, int(placed[:, :-2].max()) + 2]] * 3
    assert placed.shape[1] + delta == int(text.max()) + 1
