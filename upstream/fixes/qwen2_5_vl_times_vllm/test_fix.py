# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""vLLM places the frames of a Qwen2.5-VL video at the rate that comes with them."""

from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2TokenizerFast, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from vllm.config import ModelConfig
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec

TEMPLATE = "{{ messages }}"
FRAMES = np.zeros((6, 56, 56, 3), dtype=np.uint8)


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
def positions(tmp_path_factory):
    """Temporal positions of the patches of a video, by vLLM's processor and model class."""
    folder = tmp_path_factory.mktemp("model")
    made = processor()
    made.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    text = {"vocab_size": len(made.tokenizer), "hidden_size": 64, "num_hidden_layers": 1, "intermediate_size": 64}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    vision = {"depth": 1, "hidden_size": 64, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 64}
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision | {"tokens_per_second": 2},  # of the released models
        image_token_id=made.image_token_id,
        video_token_id=made.video_token_id,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
    )
    config.save_pretrained(folder)
    # bfloat16 as in training: what the processor returns is cast to it.
    served = MULTIMODAL_REGISTRY.create_processor(ModelConfig(model=str(folder), dtype="bfloat16"))
    ids = made.tokenizer.encode("<|vision_start|><|video_pad|><|vision_end|>when?")

    def _positions(video):
        out = served(ids, mm_items=served.info.parse_mm_data({"video": [video]}))
        place = out["mm_placeholders"]["video"][0]
        feature = MultiModalFeatureSpec(
            data=out["mm_kwargs"]["video"][0], modality="video", identifier="", mm_position=place
        )
        model = SimpleNamespace(config=config)
        model.iter_mm_grid_thw = lambda features: Qwen2_5_VLForConditionalGeneration.iter_mm_grid_thw(model, features)
        placed, _ = Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions(
            model, out["prompt_token_ids"], [feature]
        )
        temporal = placed[0, place.offset : place.offset + place.length]
        return sorted(set((temporal - temporal[0]).tolist()))

    return _positions


@pytest.mark.parametrize(
    ("fps", "expected"), [(4.0, [0, 1, 2]), (1.0, [0, 4, 8]), (0.75, [0, 5, 10]), (0.01, [0, 400, 800])]
)
def test_frames_stand_at_their_times(positions, fps, expected):
    assert positions((FRAMES, {"fps": fps, "total_num_frames": 6, "frames_indices": list(range(6))})) == expected


def test_a_rate_that_bfloat16_cannot_hold_is_kept(positions):
    # 2 / 0.0301 = 66.445 seconds a patch. bfloat16 makes 66.5 of it, and 133 and 266 of the positions.
    video = (FRAMES, {"fps": 0.0301, "total_num_frames": 6, "frames_indices": list(range(6))})
    assert positions(video) == [0, 132, 265]


def test_bare_frames_are_accepted_as_before(positions):
    # 24 fps, the processor's default: all three patches within 0.2 s.
    assert positions(FRAMES) == [0]
