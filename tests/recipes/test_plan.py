# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The planner: its dimensions, tokens, operations and bytes are those of the real models and processors."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401  isort: skip

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import bench_plan as bench  # noqa: E402

from data_preprocess.geometry import ASSUMED_SIZE, processed_size  # noqa: E402
from data_preprocess.prompt_length import PromptLength  # noqa: E402
from recipes.medgrpo import plan  # noqa: E402
from recipes.medgrpo.data.families import FAMILIES  # noqa: E402
from recipes.medgrpo.planning import steptime  # noqa: E402
from recipes.medgrpo.planning.recipe_settings import read_settings  # noqa: E402
from recipes.medgrpo.planning.shapes import MODELS, builtin_config, read_shape, shape_of  # noqa: E402
from recipes.medgrpo.planning.tokens import clip_of  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---- dimensions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_built_in_model_has_the_published_parameters_and_those_of_the_real_class(name):
    shape, config = read_shape(f"Qwen/{name}-Instruct"), builtin_config(name)
    with torch.device("meta"):
        model = bench.model_of(config)
    real = sum(parameter.numel() for parameter in model.parameters())
    assert shape.parameters == real == MODELS[name]["parameters"]
    assert shape.parts["vision"] == sum(parameter.numel() for parameter in model.model.visual.parameters())
    assert shape.layers.largest == sum(p.numel() for p in model.model.language_model.layers[0].parameters())


@pytest.mark.parametrize("family", bench.FAMILIES)
def test_adapters_are_those_that_peft_makes_with_the_recipes_settings(family):
    from peft import LoraConfig, get_peft_model

    with torch.device("meta"):
        model = bench.model_of(bench.small_config(family))
    shape = shape_of(model.config, "small")
    model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", exclude_modules=".*visual.*"))
    assert shape.lora(8) == sum(p.numel() for p in model.parameters() if p.requires_grad)


TOWERS = [("qwen2_5_vl", "through"), ("qwen3_vl", "forward"), ("qwen3_5", "forward")]


@pytest.mark.parametrize(("family", "tower"), TOWERS)
def test_with_adapters_gradients_pass_the_frozen_tower_of_one_family_only(family, tower):
    found = bench.case(bench.small_config(family, layers=1, depth=2), 2)
    found.model.requires_grad_(False)
    found.model.enable_input_require_grads()
    seen = {}
    found.model.model.visual.merger.register_forward_hook(lambda _, __, out: seen.update(grad=out.requires_grad))
    found.model(**found.inputs, use_cache=False)
    settings = read_settings("rl", ["actor_rollout_ref.model.lora_rank=8"])
    assert settings.tower(family) == tower
    assert seen["grad"] == (tower == "through")


# ---- tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", bench.FAMILIES)
def test_tokens_of_60_120_and_180_frames_are_those_of_the_processor(family, tmp_path):
    from recipes.medgrpo.tiny_model import build, train_tokenizer

    question = "When does the surgeon cut? Answer in seconds, as 1.0-2.0 seconds."
    tokenizer = train_tokenizer([question, "<1.5 seconds> <12.5 seconds>"] * 20, 600)
    _, processor = build(family, tokenizer, hidden=32 * 2, layers=1)
    chat = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}]
    text = FAMILIES[family].prompt(processor, chat)
    tokenizer.save_pretrained(tmp_path)
    length = PromptLength(tmp_path, family)
    prompt = [{"role": "user", "content": "<video>" + question}]
    width, height = processed_size(ASSUMED_SIZE, family)
    for frames in (60, 120, 180):
        clip = torch.zeros(frames, 3, height, width, dtype=torch.uint8)
        metadata = {"fps": 1.0, "frames_indices": list(range(frames)), "total_num_frames": frames}
        inputs = processor(
            text=[text],
            videos=[clip],
            video_metadata=[metadata],
            do_sample_frames=False,
            do_resize=False,
            return_tensors="pt",
        )
        ids = inputs["input_ids"][0]
        pads = tokenizer.convert_tokens_to_ids("<|video_pad|>")
        words = length(prompt, (width, height), [float(n) for n in range(frames)], 1.0)
        empty = clip_of(frames, ASSUMED_SIZE, family, 0)
        said = clip_of(frames, ASSUMED_SIZE, family, words - empty.prompt_tokens)
        assert said.vision_tokens == int((ids == pads).sum())
        assert said.patches == len(inputs["pixel_values_videos"])
        assert (said.pairs, 2 * said.grid[0], 2 * said.grid[1]) == tuple(inputs["video_grid_thw"][0].tolist())
        assert said.prompt_tokens == words == len(ids)
        # The marks: whatever is neither a patch nor the text around the clip.
        around = len(tokenizer(text.replace("<|vision_start|><|video_pad|><|vision_end|>", "")).input_ids)
        assert said.mark_tokens == len(ids) - said.vision_tokens - around


def test_stored_lengths_come_from_the_preprocessors_column(tmp_path, capsys):
    rows = [
        {"frames": 10 * n, "vision_tokens": 45 * n, "prompt_tokens": 100 * n, "model_family": "qwen2_5_vl"}
        for n in range(1, 101)
    ]
    pq.write_table(pa.table({"extra_info": rows}), tmp_path / "train.parquet")
    options = ["--model", "Qwen2.5-VL-7B", "--stage", "sft", "--data", str(tmp_path)]
    assert plan.main([*options, "--json", str(tmp_path / "plan.json")]) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["stored"]["rows"] == 100
    assert found["stored"]["quantiles"] == {"50 %": 5100, "90 %": 9100, "99 %": 10000, "all": 10000}
    # Three epochs over 100 rows, 32 a step.
    assert found["time"]["steps"] == 9
    assert set(found["time"]["frames"]) == {"60", "120", "180", "data"}
    assert "mean 5,050" in capsys.readouterr().out
    assert plan.main(["--model", "Qwen3-VL-4B", "--data", str(tmp_path)]) == 2
    assert "rows are made for qwen2_5_vl, the model is a qwen3_vl" in capsys.readouterr().err


# ---- operations and bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", bench.FAMILIES)
@pytest.mark.parametrize("mode", ["forward", "training", "checkpointed"])
def test_operations_are_those_that_torch_counts(family, mode):
    found = bench.case(bench.small_config(family, 128, 2, 2), 4, attention="eager")
    measured, said = bench.flops(found, mode)
    # Left out, and all that is: the product of positions and rotary frequencies, 3 axes x 16 frequencies a token, once;
    # half as many where half of a head is rotated.
    rotated = found.shape.text.rope_parameters.get("partial_rotary_factor", 1.0)
    assert measured - said == 2 * 3 * 16 * rotated * found.tokens


@pytest.mark.parametrize("family", bench.FAMILIES)
@pytest.mark.parametrize("part", ["layer", "block"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_layer_keeps_the_stated_bytes_for_its_backward_pass(family, part, checkpointing):
    measured, said = bench.kept_by_one(family, part, checkpointing, hidden=128, frames=4)
    assert measured == said


@pytest.mark.parametrize("family", bench.FAMILIES)
def test_weights_gradients_and_moments_take_the_stated_bytes(family):
    measured, said = bench.stored_bytes(bench.case(bench.small_config(family, 128, 2, 2), 2, dtype=torch.float32))
    assert measured == said


# ---- time -------------------------------------------------------------------------------------------------------


def test_decoding_one_sequence_reads_the_weights_once_a_token():
    shape, speed = read_shape("Qwen2.5-VL-7B"), steptime.Speed(flops=1e15, bytes=1e12)
    # 28 layers, the last norm and the head in bfloat16; keys and values of 4 heads of 128: 57,344 bytes a token.
    weights = 2 * (28 * 233_057_792 + 3_584 + 152_064 * 3_584)
    assert shape.kv_bytes == 57_344
    assert steptime.decode_step(shape, 1, 1000, 1, speed) == pytest.approx((weights + 1000 * 57_344) / 1e12)
    # Many sequences: their keys and values take as long as the weights, and at last the arithmetic longer than both.
    assert steptime.decode_step(shape, 10_000, 1, 1, speed) > 10_000 * 2 * 7e9 / 1e15


def test_a_step_takes_longer_with_more_frames_and_less_with_more_cards():
    shape, settings = read_shape("Qwen3-VL-4B"), read_settings("rl")
    speed = steptime.Speed.of("h100")
    clips = [clip_of(frames, ASSUMED_SIZE, shape.family, 300) for frames in (60, 120)]
    short, long = (sum(steptime.rl_step(shape, settings, clip, 256, 8, 64, speed).values()) for clip in clips)
    alone = sum(steptime.rl_step(shape, settings, clips[0], 256, 1, 64, speed).values())
    assert short < long
    assert short < alone < 9 * short


def test_a_prompt_on_one_replica_is_prefilled_once():
    shape, speed = read_shape("Qwen3-VL-4B"), steptime.Speed.of("h100")
    clip = clip_of(120, ASSUMED_SIZE, shape.family, 300)
    ours, verls = (
        steptime.rl_step(shape, read_settings("rl", overrides), clip, 256, 8, 64, speed)["prefill"]
        for overrides in ([], ["actor_rollout_ref.rollout.router_config_path=null"])
    )
    assert verls == pytest.approx(8 * ours)


# ---- the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["Qwen2.5-VL-7B", "Qwen3-VL-4B", "Qwen3.5-4B"])
def test_the_recipes_defaults_fit_eight_cards_of_80_gb(model, capsys):
    assert plan.main(["--model", model, "--gpus", "8"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("fits\n") and "5,000 steps of 32 prompts x 8 answers" in printed


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "Qwen2.5-VL-7B", "--gpus", "1"],
        ["--model", "Qwen2.5-VL-7B", "--gpus", "4", "--memory", "40"],
        ["--model", "Qwen2.5-VL-7B", "--gpus", "2", "--stage", "sft"],
    ],
)
def test_what_does_not_fit_is_named_and_following_the_advice_makes_it_fit(options, capsys):
    assert plan.main(options) == 1
    said = capsys.readouterr().out
    assert "does not fit: " in said
    advice = said.rsplit("try: ", 1)[1].split()
    assert plan.main([*options, *advice]) == 0


@pytest.mark.parametrize(("model", "copies"), [("Qwen2.5-VL-7B", 1), ("Qwen3-VL-4B", 8)])
def test_a_model_with_tied_words_is_loaded_by_every_process(model, copies, tmp_path):
    plan.main(["--model", model, "--gpus", "8", "--json", str(tmp_path / "plan.json")])
    host = json.loads((tmp_path / "plan.json").read_text())["memory"]["host_gib"]
    loading = copies * 4 * MODELS[model]["parameters"] / 2**30
    assert host["loading"]["copies of the weights"] == pytest.approx(loading)


def test_an_override_reaches_the_plan(tmp_path):
    key = "actor_rollout_ref.actor.fsdp_config.model_dtype"
    file = tmp_path / "plan.json"
    plan.main(["--model", "Qwen3-VL-4B", "--json", str(file)])
    whole = json.loads(file.read_text())["memory"]["phases"]["actor update"]["weights"]
    plan.main(["--model", "Qwen3-VL-4B", "--override", f"{key}=bf16", "--json", str(file)])
    assert json.loads(file.read_text())["memory"]["phases"]["actor update"]["weights"] == pytest.approx(whole / 2)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--model", "Llama-3-8B"], "--model Llama-3-8B: expected a folder with config.json or one of Qwen2.5-VL-3B"),
        (["--model", "Qwen3-VL-4B", "--override", "nonsense"], "--override 'nonsense': expected key=value"),
        (["--model", "Qwen3-VL-4B", "--data", "/nowhere"], "--data /nowhere: expected the preprocessor's"),
        (
            [
                "--model",
                "Qwen3-VL-4B",
                "--gpus",
                "3",
                "--override",
                "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
            ],
            "--gpus 3: expected a multiple",
        ),
    ],
)
def test_a_wrong_input_is_one_clear_line(options, line, capsys):
    assert plan.main(options) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


# ---- measuring on a card ----------------------------------------------------------------------------------------


def test_the_gpu_benchmark_says_in_one_line_that_there_is_no_gpu(monkeypatch, capsys):
    import bench_gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main([]) == 2
    assert capsys.readouterr().err == "bench_gpu: no CUDA device: nothing was measured\n"


@pytest.mark.parametrize("family", bench.FAMILIES)
def test_the_gpu_benchmark_runs_on_a_cpu_with_a_tiny_model(family, tmp_path, capsys):
    import bench_gpu

    bench.small_config(family, hidden=128, layers=2, depth=2).save_pretrained(tmp_path)
    file = tmp_path / "figures.json"
    options = ["--device", "cpu", "--model", str(tmp_path), "--frames", "2", "4", "--question-tokens", "20"]
    options += ["--answer-tokens", "8", "--repeat", "1"]
    assert bench_gpu.main([*options, "--no-rollout", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["frames"] for row in rows] == [2, 4]
    assert all(row["update_s"] > 0 and row["log_probs_s"] > 0 for row in rows)
    assert "machine" in capsys.readouterr().out
