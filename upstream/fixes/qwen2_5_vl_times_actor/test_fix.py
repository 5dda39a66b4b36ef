# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The actor places the frames of a Qwen2.5-VL video at the times that the processor was told."""

from types import SimpleNamespace

import pytest
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


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The processor as verl loads it."""
    folder = tmp_path_factory.mktemp("model")
    made = processor()
    made.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    ids = {name: made.tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    config = Qwen2_5_VLConfig(image_token_id=ids["image_pad"], video_token_id=ids["video_pad"])
    config.vision_config.tokens_per_second = 2  # of the released models
    config.save_pretrained(folder)
    return hf_processor(str(folder))


# Whole seconds a patch: other rates need transformers to multiply before it rounds.
@pytest.mark.parametrize(("fps", "expected"), [(2.0, [0, 2, 4]), (1.0, [0, 4, 8]), (0.5, [0, 8, 16])])
def test_the_actor_places_frames_at_their_times(loaded, fps, expected):
    frames = torch.zeros(6, 3, 56, 56)
    metadata = {"fps": fps, "frames_indices": list(range(6)), "total_num_frames": 6}
    inputs = build_multimodal_processor_inputs(
        loaded, text=["<|vision_start|><|video_pad|><|vision_end|>when?"], videos=[(frames, metadata)]
    )
    inputs = dict(inputs)
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    positions = AgentLoopWorker._compute_position_ids(SimpleNamespace(processor=loaded), ids, mask, inputs)
    on_frames = ids[0] == loaded.video_token_id
    temporal = positions[0, 1][on_frames]
    assert torch.unique(temporal - temporal[0]).tolist() == expected
