# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Qwen2.5-VL's temporal positions of eight frames at several rates. Exit status 1 if they do not follow the rate."""

import sys
import types

import torch
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

config = Qwen2_5_VLConfig()
config.vision_config.tokens_per_second = 2  # of the released models
model = types.SimpleNamespace(config=config)
model.get_vision_position_ids = types.MethodType(Qwen2_5_VLModel.get_vision_position_ids, model)
# Two words, four temporal patches of four cells each, two words.
kinds = torch.tensor([[0] * 2 + [2] * 16 + [0] * 2])
wrong = 0
for fps in (4, 2, 1, 0.75):
    placed, delta = Qwen2_5_VLModel.get_rope_index(
        model,
        input_ids=torch.zeros_like(kinds),
        mm_token_type_ids=kinds,
        video_grid_thw=torch.tensor([[4, 4, 4]]),
        second_per_grid_ts=torch.tensor([2 / fps]),
    )
    found = (placed[0, 0, 2:18:4] - 2).tolist()
    expected = [int(patch * 2 / fps * 2 + 1e-3) for patch in range(4)]
    text, generated = int(placed[0, 0, -1]), kinds.shape[1] + int(delta)
    wrong += found != expected or generated != text + 1
    print(
        f"{fps} fps: patches at {found}, expected {expected}; the last word at {text}, "
        f"the first generated one at {generated}, expected {expected[-1] + 5}"
    )
sys.exit(wrong > 0)
