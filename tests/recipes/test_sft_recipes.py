# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The SFT shell recipes, run as a user runs them: what they compose, how they start, how they refuse."""

import re
from pathlib import Path

import pytest
import yaml
from recipe_shell import composed, messages, pretended_machine, run, start_copy

QWEN2_5, QWEN3 = "run_sft_qwen2_5_vl_7b.sh", "run_sft_qwen3_vl_4b.sh"
QWEN3_5 = "run_sft_qwen3_5_4b.sh"


ASKED = ("--cfg", "job", "--resolve")
PATHS = {"DATA_DIR": "the data", "MODEL_PATH": "a model's folder"}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("else where")


@pytest.fixture(scope="module")
def printed(elsewhere) -> dict[str, str]:
    """The first as it is, the second with adapters on one card."""
    one_card = {"N_GPUS": "1", "LORA_RANK": "64", "TASKS": "tal stg"}
    asked = {
        QWEN2_5: run(QWEN2_5, *ASKED, cwd=elsewhere, **PATHS),
        QWEN3: composed(QWEN3, *ASKED, "data.num_workers=2", cwd=elsewhere, **one_card),
    }
    for script, done in asked.items():
        assert done.returncode == 0, f"{script}\n{done.stderr[-3000:]}"
    return {script: done.stdout for script, done in asked.items()}


@pytest.fixture(scope="module")
def configs(printed) -> dict[str, dict]:
    return {script: yaml.safe_load(text) for script, text in printed.items()}


@pytest.mark.slow
def test_without_the_trainers_imports_the_same_is_composed(printed, elsewhere):
    assert composed(QWEN2_5, *ASKED, cwd=elsewhere, **PATHS).stdout == printed[QWEN2_5]


def test_paper_settings(configs):
    config = configs[QWEN2_5]
    assert config["trainer"]["total_epochs"] == 3 and config["trainer"]["total_training_steps"] is None
    optim = config["optim"]
    assert (float(optim["lr"]), optim["optimizer"], optim["lr_scheduler_type"]) == (5e-7, "AdamW", "linear")
    assert optim["_target_"] == "recipes.medgrpo.training.fsdp_engine.OptimizerConfig" and not optim["min_lr_ratio"]
    # All eight tasks, all parameters, on eight GPUs.
    assert config["data"]["medgrpo"]["tasks"] is None and config["model"]["lora_rank"] == 0
    assert config["engine"]["freeze_vision"] is False
    assert (config["trainer"]["nnodes"], config["trainer"]["n_gpus_per_node"]) == (1, 8)


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_hooks_and_machine(configs, script):
    config = configs[script]
    assert config["data"]["custom_cls"] == {"path": "pkg://recipes.medgrpo.data.dataset", "name": "MedVidSFTDataset"}
    assert config["trainer"]["resume_mode"] == "auto" and config["trainer"]["device"] == "cuda"
    engine = config["engine"]
    assert (engine["strategy"], engine["model_dtype"]) == ("fsdp2", "fp32")
    assert config["model"]["enable_gradient_checkpointing"] is True
    assert "hf_model" in config["checkpoint"]["save_contents"]
    assert config["data"]["max_token_len_per_gpu"] >= config["data"]["max_length"]


def test_paths_are_those_of_the_caller(configs):
    config = configs[QWEN2_5]
    assert config["model"]["path"].endswith("/a model's folder") and Path(config["model"]["path"]).is_absolute()
    assert re.search(r"/else where\d+/the data/train\.parquet$", config["data"]["train_files"])
    names = {configs[script]["trainer"]["default_local_dir"] for script in (QWEN2_5, QWEN3)}
    assert len(names) == 2


def test_adapters_on_one_card(configs):
    config = configs[QWEN3]
    model = config["model"]
    assert (model["lora_rank"], model["lora_alpha"], model["exclude_modules"]) == (64, 64, ".*visual.*")
    assert float(config["optim"]["lr"]) == 5e-6
    assert config["trainer"]["n_gpus_per_node"] == 1
    assert config["data"]["medgrpo"]["tasks"] == ["tal", "stg"] and config["data"]["num_workers"] == 2


def test_a_start_checks_first_and_then_trains_in_the_output_folder(tmp_path):
    done, calls = start_copy(pretended_machine(tmp_path), tmp_path, QWEN2_5, "data.num_workers=1")
    assert done.returncode == 0, done.stderr[-2000:]
    environment, preflight, trainer = calls
    assert environment == "environment gpu"
    assert "--stage sft" in preflight and "--statistics" not in preflight and "--judge" not in preflight
    assert f"--data {tmp_path}/data" in preflight and f"--model {tmp_path}/sft" in preflight
    assert trainer.startswith("torchrun --standalone --nproc_per_node=8 -m verl.trainer.sft_trainer ")
    assert " data.num_workers=1 | " in trainer
    module, log, platform, folder = trainer.split(" | ")[1].split()
    assert (module, platform, folder) == ("recipes.medgrpo.plugin", "none", f"{tmp_path}/out")
    assert log == f"{tmp_path}/out/attempts/sft_1.jsonl"
    assert "resuming after step 40" in done.stdout
    assert f"the model is {tmp_path}/out/checkpoints/global_step_60/huggingface" in done.stdout


def test_each_node_of_several_starts_its_own_processes(tmp_path):
    several = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"}
    done, calls = start_copy(pretended_machine(tmp_path) | several, tmp_path, QWEN3)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "torchrun --nnodes=2 --node_rank=1 --master_addr=10.0.0.1 --master_port=29500 " in calls[-1]
    assert "the model is" not in done.stdout


def test_each_familys_recipe_asks_for_its_own_data(tmp_path):
    machine = pretended_machine(tmp_path)
    for script, family in ((QWEN2_5, "qwen2_5_vl"), (QWEN3, "qwen3_vl"), (QWEN3_5, "qwen3_5")):
        done, _ = start_copy(machine, tmp_path, script, "--dry-run")
        preflight, trainer = done.stdout.splitlines()
        assert f"--model-family {family} " in preflight
        assert f"trainer.experiment_name={script.removeprefix('run_').removesuffix('.sh')} " in trainer


def test_nothing_trains_when_preflight_refuses(tmp_path):
    done, calls = start_copy(pretended_machine(tmp_path) | {"REFUSE": "yes"}, tmp_path, QWEN2_5)
    assert done.returncode == 2 and not any("torchrun" in call for call in calls)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"MODEL_PATH": "nowhere"}, "no config.json there, expected a model in HF format"),
        ({"N_GPUS": "7"}, "TRAIN_BATCH_SIZE 32: does not divide over NNODES 1 x N_GPUS 7"),
        ({"N_GPUS": "16"}, "8 GPUs found, N_GPUS is 16"),
        ({"NNODES": "2"}, "NNODES is 2 and MASTER_ADDR is not set"),
        ({"NODE_RANK": "1"}, "NODE_RANK is 1, expected less than NNODES, which is 1"),
        ({"EPOCHS": "three"}, "EPOCHS is 'three', expected a whole number above 0"),
        ({"STEPS": "0"}, "STEPS is '0', expected a whole number above 0"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, expected):
    done, _ = start_copy(pretended_machine(tmp_path) | settings, tmp_path, QWEN2_5)
    assert done.returncode == 2
    assert any(expected in line for line in messages(done)), done.stderr[-2000:]
    assert not (tmp_path / "out").exists()
