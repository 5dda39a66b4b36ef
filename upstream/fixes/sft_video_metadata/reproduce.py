# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What MultiTurnSFTDataset makes of a clip at 1 fps. Exit status 1 if it is no clip at 1 fps any more."""

import sys
import tempfile

import pandas as pd
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


with tempfile.TemporaryDirectory() as folder:
    frames = [f"{folder}/{number}.png" for number in range(6)]
    for frame in frames:
        Image.new("RGB", (56, 56)).save(frame)
    messages = [{"role": "user", "content": "<video>when?"}, {"role": "assistant", "content": "at 3 s"}]
    row = {"messages": messages, "videos": [{"type": "video", "video": frames, "sample_fps": 1.0}]}
    pd.DataFrame([row]).to_parquet(f"{folder}/rows.parquet")
    made, config = processor(), OmegaConf.create({"max_length": 4096, "pad_mode": "no_padding"})
    found = MultiTurnSFTDataset(f"{folder}/rows.parquet", made.tokenizer, config, made)[0]
seconds = found["multi_modal_inputs"]["second_per_grid_ts"].tolist()
temporal = found["position_ids"][1][found["input_ids"] == made.video_token_id]
print(f"seconds of a patch of two frames: {seconds}, expected [2.0]")
print(f"temporal positions of the patches: {torch.unique(temporal - temporal[0]).tolist()}, expected [0, 4, 8]")
sys.exit(seconds != [2.0])
