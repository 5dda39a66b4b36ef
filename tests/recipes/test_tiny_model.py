# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recipes.medgrpo.data.families import FAMILIES


@pytest.fixture
def tiny_model(plugged):
    from recipes.medgrpo import tiny_model

    return tiny_model


def test_what_is_written_loads_as_the_real_architecture(family):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(family.path)
    assert config.model_type == family.name
    assert config.vision_config.patch_size == {"qwen2_5_vl": 14, "qwen3_vl": 16, "qwen3_5": 16}[family.name]
    assert type(family.engine.model).__name__ in config.architectures
    assert sum(weight.numel() for weight in family.engine.model.parameters()) < 2_000_000


def test_the_tokenizer_says_every_reference_answer(family):
    tokenizer = family.processor.tokenizer
    for row in pq.read_table(family.data / "train.parquet").to_pylist():
        answer = row["extra_info"]["answer"]
        assert tokenizer.decode(tokenizer.encode(answer)) == answer
    # Bytes are in its alphabet, so text that it never saw is safe too.
    assert tokenizer.decode(tokenizer.encode("Gänseblümchen ⚕ 12")) == "Gänseblümchen ⚕ 12"


def test_digits_are_single_tokens(family):
    tokenizer = family.processor.tokenizer
    pieces = [tokenizer.decode([token]) for token in tokenizer.encode("2026.75 40.0")]
    assert pieces[:7] == list("2026.75") and pieces[-4:] == list("40.0")
    assert not [token for token in tokenizer.get_vocab() if re.search(r"\d\d", token)]


def test_special_tokens_are_one_token_each_and_known_to_the_config(family, tiny_model):
    tokenizer, config = family.processor.tokenizer, family.engine.model.config
    for token in tiny_model.SPECIAL_TOKENS:
        assert len(tokenizer.encode(token)) == 1
    assert tokenizer.decode([config.video_token_id]) == "<|video_pad|>"
    assert tokenizer.decode([tokenizer.eos_token_id]) == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert config.text_config.vocab_size == len(tokenizer)


def test_a_chat_is_rendered_as_qwens(family):
    chat = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "video", "video": ["x"]}, {"type": "text", "text": "Q"}]},
    ]
    said = (
        "<|im_start|>system\nS<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>Q<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    kind, unasked = FAMILIES[family.name], {"tokenize": False, "add_generation_prompt": True}
    if kind.convention.thinks:
        # Told not to, as every room does, the thought is there and closed; otherwise the model is to write one.
        assert kind.prompt(family.processor, chat) == said + "<think>\n\n</think>\n\n"
        assert family.processor.apply_chat_template(chat, **unasked) == said + "<think>\n"
    else:
        assert kind.prompt(family.processor, chat) == family.processor.apply_chat_template(chat, **unasked) == said


def test_every_frame_counts_and_none_is_resized(family):
    """The preprocessor sized the frames: a processor that did so again would move every box."""
    request = family.request(0)
    grid = family.engine._vision(request.videos)["video_grid_thw"][0].tolist()
    frames = request.videos[0][0]
    patch = family.engine.model.config.vision_config.patch_size
    assert grid == [len(frames) // 2, frames.shape[2] // patch, frames.shape[3] // patch]
    assert request.prompt_ids.count(family.engine.model.config.video_token_id) == grid[0] * grid[1] * grid[2] // 4


@pytest.fixture
def words(tmp_path) -> str:
    prompt = [{"role": "user", "content": "<video>\nWhich phase is this?"}]
    rows = [{"prompt": prompt, "extra_info": {"answer": "dissection"}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "words.parquet")
    return str(tmp_path / "words.parquet")


def make(tiny_model, words, output, *more):
    arguments = ["--family", "qwen2_5_vl", "--text", words, "--output", str(output), "--hidden", "32", "--layers", "1"]
    assert tiny_model.main([*arguments, *more]) == 0


def test_the_seed_decides_the_weights(tiny_model, words, tmp_path):
    from safetensors.torch import load_file

    weights = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        make(tiny_model, words, tmp_path / name, "--seed", seed)
        weights.append(load_file(tmp_path / name / "model.safetensors")["lm_head.weight"])
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_model_that_is_there_is_kept_and_a_half_written_one_is_not(tiny_model, words, tmp_path):
    output = tmp_path / "model"
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "leftover").write_text("of a killed run")
    make(tiny_model, words, output)
    assert not (tmp_path / "model.partial").exists() and not (output / "leftover").exists()
    config = json.loads((output / "config.json").read_text())
    (output / "config.json").write_text(json.dumps({**config, "mark": 1}))
    make(tiny_model, words, output)
    assert json.loads((output / "config.json").read_text())["mark"] == 1


def test_random_weights_get_the_dimensions_of_a_published_model_and_the_tokenizers_words(tiny_model, qwen3_vl):
    from recipes.medgrpo.planning.shapes import MODELS

    tokenizer = qwen3_vl.processor.tokenizer
    with torch.device("meta"):
        model, processor = tiny_model.build_like("Qwen3-VL-2B", tokenizer)
    config = model.config
    missing = (MODELS["Qwen3-VL-2B"]["config"]["text_config"]["vocab_size"] - len(tokenizer)) * 2048
    assert sum(weight.numel() for weight in model.parameters()) == MODELS["Qwen3-VL-2B"]["parameters"] - missing
    assert model.dtype == torch.bfloat16 and torch.get_default_dtype() == torch.float32
    assert tokenizer.convert_ids_to_tokens([config.video_token_id, config.vision_start_token_id]) == [
        "<|video_pad|>",
        "<|vision_start|>",
    ]
    assert type(processor) is type(qwen3_vl.processor)


def test_an_unknown_model_is_one_line(tiny_model, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tiny_model.main(["--like", "Llama-3-8B", "--text", words, "--output", str(tmp_path / "model")])
    assert "--like Llama-3-8B: expected one of Qwen2.5-VL-3B" in capsys.readouterr().err


def test_an_unknown_family_is_refused(tiny_model, family):
    with pytest.raises(ValueError, match="'llava', expected one of qwen2_5_vl, qwen3_vl, qwen3_5"):
        tiny_model.build("llava", family.processor.tokenizer)
