# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The actor's temporal positions of a Qwen2.5-VL video at 0.5, 1 and 2 fps. Exit status 1 if they are the same."""

import sys
import tempfile
from types import SimpleNamespace

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2TokenizerFast, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from verl.experimental.agent_loop.agent_loop import AgentLoopWorker
from verl.utils.tokenizer import build_multimodal_processor_inputs, hf_processor

TEMPLATE = "{{ messages }}"


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
    made = processor()
    made.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    config = Qwen2_5_VLConfig(image_token_id=made.image_token_id, video_token_id=made.video_token_id)
    config.vision_config.tokens_per_second = 2  # of the released models
    config.save_pretrained(folder)
    loaded = hf_processor(folder)
found = []
for fps in (0.5, 1.0, 2.0):
    metadata = {"fps": fps, "frames_indices": list(range(6)), "total_num_frames": 6}
    text, videos = ["<|vision_start|><|video_pad|><|vision_end|>when?"], [(torch.zeros(6, 3, 56, 56), metadata)]
    inputs = dict(build_multimodal_processor_inputs(loaded, text=text, videos=videos))
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    positions = AgentLoopWorker._compute_position_ids(SimpleNamespace(processor=loaded), ids, mask, inputs)
    temporal = positions[0, 1][ids[0] == loaded.video_token_id]
    found.append(torch.unique(temporal - temporal[0]).tolist())
    print(f"{fps} fps, second_per_grid_ts {inputs['second_per_grid_ts'].tolist()}: patches at {found[-1]}")
sys.exit(found[0] == found[1] == found[2])
