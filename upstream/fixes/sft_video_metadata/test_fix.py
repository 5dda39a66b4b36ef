# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""SFT shows a video at the rate that its row says, with all its frames."""

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2_5_VLProcessor, Qwen2TokenizerFast, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

TEMPLATE = """{% for turn in messages %}<|im_start|>{{ turn.role }}
{% if turn.content is string %}{{ turn.content }}{% else %}{% for part in turn.content %}
{% if part.type == "video" %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def processor():
    """A real processor with a tokenizer of bytes."""
    marks = "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>".split()
    tokens = [*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = dict(bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None)
    tokenizer = Qwen2TokenizerFast(tokenizer_object=backend, additional_special_tokens=marks[1:], **special)
    video_processor = Qwen2VLVideoProcessor(do_resize=False)
    tokenizer.chat_template = TEMPLATE
    return Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), tokenizer, video_processor, chat_template=TEMPLATE)


@pytest.fixture
def example(tmp_path):
    """A row's inputs, whose video has six frames at some rate."""
    frames = []
    for number in range(6):
        frames.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(np.full((56, 56, 3), 40 * number, dtype=np.uint8)).save(frames[-1])

    def _example(fps):
        row = {
            "messages": [{"role": "user", "content": "<video>when?"}, {"role": "assistant", "content": "at 3 s"}],
            "videos": [{"type": "video", "video": frames, "sample_fps": fps}],
        }
        pd.DataFrame([row]).to_parquet(tmp_path / "rows.parquet")
        made = processor()
        config = OmegaConf.create({"max_length": 4096, "pad_mode": "no_padding"})
        return MultiTurnSFTDataset(str(tmp_path / "rows.parquet"), made.tokenizer, config, made)[0], made

    return _example


@pytest.mark.parametrize(("fps", "expected"), [(4.0, [0, 1, 2]), (1.0, [0, 4, 8]), (0.5, [0, 8, 16])])
def test_frames_stand_at_their_times(example, fps, expected):
    row, made = example(fps)
    assert row["multi_modal_inputs"]["second_per_grid_ts"].tolist() == [2 / fps]
    assert row["multi_modal_inputs"]["video_grid_thw"][0, 0] == 3
    temporal = row["position_ids"][1][row["input_ids"] == made.video_token_id]
    assert torch.unique(temporal - temporal[0]).tolist() == expected


def test_the_answer_alone_is_trained_on(example):
    row, made = example(1.0)
    trained = row["input_ids"][row["loss_mask"].bool()]
    assert trained.tolist() == made.tokenizer.encode("at 3 s<|im_end|>\n")
