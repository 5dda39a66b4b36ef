# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The linear schedule, the frozen vision tower and LoRA checkpoints, on verl's real SFT trainer."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Several trainings in one process of their own. The rates are read where they are used: just before every update.
TRAIN = """
import json, pathlib, shutil, sys
import verl
from hydra import compose, initialize_config_dir
from torch.optim.optimizer import register_optimizer_step_pre_hook
from verl.trainer.sft_trainer import run_sft

rates = []
register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append([g["lr"] for g in optimizer.param_groups]))
for folder, kept, lost, overrides in json.loads(sys.argv[2]):
    if lost:
        shutil.rmtree(f"{folder}/global_step_{lost}")
        pathlib.Path(folder, "latest_checkpointed_iteration.txt").write_text(str(kept))
    with initialize_config_dir(sys.argv[1], version_base=None):
        config = compose("sft_cpu", [f"trainer.default_local_dir={folder}", *overrides])
    rates.clear()
    run_sft(config)
    print("RATES " + json.dumps(rates), flush=True)
"""
SMALL = [
    *("data.train_batch_size=2", "data.micro_batch_size_per_gpu=2", "data.val_files=null", "trainer.logger=[file]"),
    *("optim.lr=0.008", "optim.lr_scheduler_type=linear", "optim.min_lr_ratio=null", "trainer.total_training_steps=4"),
]
NO_WARMUP = "optim.lr_warmup_steps=0"


def train(family, folder: Path, *runs: tuple[Path, int, int, list[str]]) -> list[list[float]]:
    """The rates of every update, by training.

    A run is its folder, the checkpoint that it resumes from, a later one that a kill prevented (0 and 0 for a start),
    and its hydra overrides.
    """
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin",
        "VERL_PLATFORM": "cpu",
        "MEDGRPO_DATA": str(family.data),
        "MEDGRPO_MODEL": str(family.path),
        "VERL_FILE_LOGGER_PATH": str(folder / "log.jsonl"),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        # One process of a distributed training, as torchrun would start it.
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"},
        **{"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
    }
    plan = json.dumps([(str(where), kept, lost, SMALL + overrides) for where, kept, lost, overrides in runs])
    command = [sys.executable, "-c", TRAIN, str(ROOT / "recipes/medgrpo/config"), plan]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("RATES ")]
    return [[group for (group,) in json.loads(line.removeprefix("RATES "))] for line in lines]


def logged_rates(folder: Path) -> list[float]:
    return [json.loads(line)["data"]["train/lr"] for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def changed(before: dict, after: dict) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not before[name].equal(after[name])}


@pytest.mark.slow
def test_the_rate_is_a_line_and_goes_on_along_it_after_a_resume(qwen2_5_vl, tmp_path):
    line = [0.008, 0.006, 0.004, 0.002]
    whole, warm = tmp_path / "whole", tmp_path / "warm"
    save = ["trainer.save_freq=2", NO_WARMUP]
    runs = [(warm, 0, 0, ["optim.lr_warmup_steps=2"]), (whole, 0, 0, save), (whole, 2, 4, save)]
    warmed, used, resumed = train(qwen2_5_vl, tmp_path, *runs)
    assert warmed == pytest.approx([0.0, 0.004, 0.008, 0.004])
    assert used == pytest.approx(line)
    assert resumed == pytest.approx(line[2:])
    # verl logs after the schedule's step: what a step logs is the next update's rate.
    assert logged_rates(tmp_path) == pytest.approx([0.002, 0.0])


@pytest.fixture
def tied(qwen3_vl, tmp_path):
    """The tiny Qwen3-VL with one matrix for input and output words, as Qwen3-VL-4B has."""
    from safetensors.torch import save_file

    folder = Path(shutil.copytree(qwen3_vl.path, tmp_path / "tied"))
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    one = {name: value for name, value in weights(folder).items() if name != "lm_head.weight"}
    save_file(one, folder / "model.safetensors", metadata={"format": "pt"})
    return replace(qwen3_vl, path=folder)


@pytest.mark.slow
def test_a_frozen_tower_keeps_its_weights_and_adapters_end_up_in_the_saved_model(tied, tmp_path):
    import torch

    frozen, lora = tmp_path / "frozen", tmp_path / "lora"
    # As the published models have it, and no configuration of theirs says.
    generation = json.dumps({"eos_token_id": [1, 2], "repetition_penalty": 1.05})
    (tied.path / "generation_config.json").write_text(generation)
    rank, alpha = 4, 12
    adapters = [f"model.lora_rank={rank}", f"model.lora_alpha={alpha}", "model.exclude_modules='.*visual.*'"]
    freeze = [NO_WARMUP, "engine.freeze_vision=true"]
    train(tied, tmp_path, (frozen, 0, 0, freeze), (lora, 0, 0, [NO_WARMUP, *adapters]))
    before = weights(tied.path)

    learnt = changed(before, weights(frozen / "global_step_4/huggingface"))
    assert learnt == {name for name in before if "visual." not in name}

    merged = weights(lora / "global_step_4/huggingface")
    trained = torch.load(lora / "global_step_4/model_world_size_1_rank_0.pt", weights_only=False)
    trained = {name: getattr(value, "full_tensor", lambda v=value: v)() for name, value in trained.items()}
    expected = set()
    for name, down in trained.items():
        if "lora_A" not in name:
            continue
        layer = name.split("language_model.")[1].replace(".lora_A.default", "")
        (target,) = [key for key in before if key.endswith(f".{layer}") and "visual." not in key]
        delta = trained[name.replace("lora_A", "lora_B")] @ down * (alpha / rank)
        assert delta.abs().max() > 0
        torch.testing.assert_close(merged[target], before[target] + delta)
        expected.add(target)
    assert changed(before, merged) == expected
    for saved in (frozen, lora):
        written = json.loads((saved / "global_step_4/huggingface/generation_config.json").read_text())
        assert (written["eos_token_id"], written["repetition_penalty"]) == ([1, 2], 1.05)


def test_a_model_without_a_vision_tower_cannot_have_it_frozen():
    import torch

    from recipes.medgrpo.training.fsdp_engine import freeze_vision

    with pytest.raises(ValueError, match="Linear has no parameter named"):
        freeze_vision(torch.nn.Linear(2, 2))


def test_schedules_that_make_no_sense_are_refused(plugged):
    from recipes.medgrpo.training.fsdp_engine import OptimizerConfig

    assert OptimizerConfig(lr=1.0, lr_scheduler_type="linear").lr_scheduler_type == "linear"
    assert OptimizerConfig(lr=1.0, lr_scheduler_type="cosine", min_lr_ratio=0.1).min_lr_ratio == 0.1
    with pytest.raises(ValueError, match="expected no min_lr_ratio"):
        OptimizerConfig(lr=1.0, lr_scheduler_type="linear", min_lr_ratio=0.1)
    with pytest.raises(AssertionError):
        OptimizerConfig(lr=1.0, lr_scheduler_type="square")


@pytest.mark.slow
def test_qwen3_vl_trains_packed_without_flash_attn_as_it_does_padded(qwen3_vl, tmp_path):
    """Two rows in one sequence under sdpa: neither sees the other, so losses and gradients are those of a batch."""
    if importlib.util.find_spec("flash_attn"):
        pytest.skip("flash-attn is installed here")
    logged = {}
    for packed in ("false", "true"):
        (folder := tmp_path / packed).mkdir()
        train(qwen3_vl, folder, (folder, 0, 0, [NO_WARMUP, "optim.lr=1e-5", f"model.use_remove_padding={packed}"]))
        lines = [json.loads(line)["data"] for line in (folder / "log.jsonl").read_text().splitlines()]
        logged[packed] = [(line["train/loss"], line["train/grad_norm"]) for line in lines]
    assert len(logged["true"]) == 4
    for packed, padded in zip(logged["true"], logged["false"], strict=True):
        assert packed == pytest.approx(padded, rel=1e-4)
