# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""vLLM's inputs for the same six frames at three rates. Exit status 1 if they tell the model the same times."""

import sys
import tempfile

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2TokenizerFast, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from vllm.config import ModelConfig
from vllm.multimodal import MULTIMODAL_REGISTRY

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
    text = {"vocab_size": len(made.tokenizer), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"image_token_id": made.image_token_id, "video_token_id": made.video_token_id}
    vision = {"depth": 1, "hidden_size": 64, "num_heads": 2, "out_hidden_size": 64}
    names = ["Qwen2_5_VLForConditionalGeneration"]
    Qwen2_5_VLConfig(text_config=text, vision_config=vision, architectures=names, **marks).save_pretrained(folder)
    served = MULTIMODAL_REGISTRY.create_processor(ModelConfig(model=folder, dtype="bfloat16"))
    found = []
    for fps in (0.5, 1.0, 2.0):
        metadata = {"fps": fps, "total_num_frames": 6, "frames_indices": list(range(6))}
        video = (np.zeros((6, 56, 56, 3), dtype=np.uint8), metadata)
        ids = made.tokenizer.encode("<|vision_start|><|video_pad|><|vision_end|>when?")
        out = served(ids, mm_items=served.info.parse_mm_data({"video": [video]}))
        found.append(out["mm_kwargs"]["video"][0]["second_per_grid_ts"].data.item())
        print(f"{fps} fps: {found[-1]} seconds a patch of two frames, expected {2 / fps}")
sys.exit(len(set(found)) == 1)
