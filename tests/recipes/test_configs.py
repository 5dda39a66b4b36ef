# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The hydra configurations: the CPU run and the GPU recipes are one method and differ in the machine only."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reward_score.settings import SETTING_NAMES

ROOT = Path(__file__).resolve().parents[2]

# A process of its own: composing reads MEDGRPO_* and imports verl. verl's own validation runs on the GPU recipe.
COMPOSE = """
import json, sys
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

configs = {}
with initialize_config_dir(sys.argv[1], version_base=None):
    for name in ("medgrpo_cpu", "medgrpo_gpu", "sft_cpu", "sft_gpu"):
        configs[name] = compose(name)
    configs["vllm_cpu"] = compose("medgrpo_cpu", ["+engine=vllm_cpu"])
    configs["gpu_on_cpu"] = compose("medgrpo_gpu", ["+engine=gpu_on_cpu"])
    configs["sft_gpu_on_cpu"] = compose("sft_gpu", ["+engine@_global_=sft_gpu_on_cpu"])

from verl.utils.config import omega_conf_to_dataclass, validate_config

for name in ("medgrpo_cpu", "medgrpo_gpu", "vllm_cpu", "gpu_on_cpu"):
    validate_config(configs[name], use_reference_policy=False, use_critic=False)
    omega_conf_to_dataclass(configs[name].actor_rollout_ref.rollout)
for name in ("sft_cpu", "sft_gpu", "sft_gpu_on_cpu"):
    for part in ("engine", "optim", "checkpoint"):
        omega_conf_to_dataclass(configs[name][part])
print("CONFIGS " + json.dumps({name: OmegaConf.to_container(c, resolve=True) for name, c in configs.items()}))
"""

# Where the GPU recipe may differ from the CPU run, as prefixes. Whatever is not here is shared through base.yaml.
MACHINE = {
    "trainer.device",
    "trainer.n_gpus_per_node",
    "actor_rollout_ref.rollout.n_gpus_per_node",
    "actor_rollout_ref.rollout.name",
    "actor_rollout_ref.rollout.dtype",
    "actor_rollout_ref.rollout.engine_kwargs.vllm",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.rollout.free_cache_engine",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class",
    "actor_rollout_ref.rollout.agent.num_workers",
    "actor_rollout_ref.actor.fsdp_config",
    "actor_rollout_ref.actor.entropy_from_logits_with_chunking",
    "actor_rollout_ref.actor.use_remove_padding",
    "actor_rollout_ref.actor.use_torch_compile",
    "actor_rollout_ref.ref.fsdp_config.use_torch_compile",
    "actor_rollout_ref.ref.use_torch_compile",
    "actor_rollout_ref.model.enable_gradient_checkpointing",
    "actor_rollout_ref.model.override_config.attn_implementation",
    "actor_rollout_ref.model.use_remove_padding",
    "distillation.teacher_models",
    "data.medgrpo.pixels",
    "ray_kwargs.ray_init",
    "reward.num_workers",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units",
    "trainer.v1.sampler.sampler_kwargs.poll_interval",
}
SIZE = {
    "data.max_prompt_length",
    "data.max_response_length",
    "data.train_batch_size",
    "data.val_batch_size",
    # In answers of a pair: the CPU run has 8 of them a step and 20 steps.
    "trainer.v1.sampler.sampler_kwargs.adaptive_window",
    "trainer.v1.sampler.sampler_kwargs.adaptive_min_values",
    "data.medgrpo.rows_per_pair",
    "data.medgrpo.steps",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu",
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu",
    "actor_rollout_ref.rollout.max_model_len",
    "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.prompt_length",
    "actor_rollout_ref.rollout.response_length",
    "critic.ppo_mini_batch_size",
    "trainer.v1.sampler.sampler_kwargs.record_answers",
    "trainer.save_freq",
    "trainer.max_actor_ckpt_to_keep",
    "trainer.total_training_steps",
}
# A random tiny model must move in minutes, on all tasks; a judge needs a network.
METHOD = {
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.optim.optimizer",
    "actor_rollout_ref.actor.optim.override_optimizer_config",
    "actor_rollout_ref.actor.optim.lr_warmup_steps",
    "actor_rollout_ref.actor.optim.weight_decay",
    "data.medgrpo.mix",
    "trainer.v1.sampler.sampler_kwargs.mix",  # the same
    "data.medgrpo.tasks",
    "reward.custom_reward_function.reward_kwargs.judge",
    "reward.custom_reward_function.reward_kwargs.judge_settings",
    "reward.custom_reward_function.reward_kwargs.rewarded_tasks",
    # The sampler is told the reward's settings.
    "trainer.v1.sampler.sampler_kwargs.reward_kwargs.judge",
    "trainer.v1.sampler.sampler_kwargs.reward_kwargs.judge_settings",
    "trainer.v1.sampler.sampler_kwargs.reward_kwargs.rewarded_tasks",
}


# Where SFT on GPUs may differ from SFT on the CPU.
SFT_MACHINE = {
    "trainer.device",
    "trainer.n_gpus_per_node",
    "data.medgrpo.pixels",
    "data.num_workers",
    "engine",
    "model.enable_gradient_checkpointing",
    "model.override_config.attn_implementation",
    "model.use_remove_padding",
}
SFT_SIZE = {
    "data.max_length",
    "data.max_token_len_per_gpu",
    "data.micro_batch_size_per_gpu",
    "data.train_batch_size",
    "data.use_dynamic_bsz",
    "trainer.max_ckpt_to_keep",
    "trainer.save_freq",
    "trainer.total_epochs",
    "trainer.total_training_steps",
}
# A random tiny model learns its whole language in 300 steps.
SFT_METHOD = {
    "optim.lr",
    "optim.lr_scheduler_type",
    "optim.lr_warmup_steps",
    "optim.min_lr_ratio",
    "optim.weight_decay",
}


def flatten(config: dict, prefix: str = "") -> dict:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`; lists and empty mappings are values."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(left: dict, right: dict) -> dict[str, tuple]:
    """Dotted keys whose values differ, with both; a key that one side lacks counts."""
    left, right = flatten(left), flatten(right)
    missing = "(none)"
    return {
        key: (left.get(key, missing), right.get(key, missing))
        for key in sorted(left.keys() | right.keys())
        if left.get(key, missing) != right.get(key, missing)
    }


def outside(keys, allowed: set[str]) -> list[str]:
    """Keys that are not below one of the allowed prefixes."""
    return [key for key in keys if not any(key == prefix or key.startswith(f"{prefix}.") for prefix in allowed)]


@pytest.fixture(scope="module")
def configs() -> dict[str, dict]:
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin",
        "VERL_PLATFORM": "cpu",
        "MEDGRPO_DATA": "/data",
        "MEDGRPO_MODEL": "/model",
        "MEDGRPO_STATISTICS": "/statistics.json",
    }
    command = [sys.executable, "-c", COMPOSE, str(ROOT / "recipes/medgrpo/config")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("CONFIGS "))
    return json.loads(line.removeprefix("CONFIGS "))


LISTED = {"medgrpo": (MACHINE, SIZE, METHOD), "sft": (SFT_MACHINE, SFT_SIZE, SFT_METHOD)}


# `pytest -s -k listed_keys` shows the differences.
@pytest.mark.parametrize("stage", LISTED)
def test_the_gpu_recipe_differs_from_the_cpu_run_in_listed_keys_only(configs, stage):
    found = differences(configs[f"{stage}_cpu"], configs[f"{stage}_gpu"])
    for title, prefixes in zip(("machine", "size", "method"), LISTED[stage], strict=True):
        print(f"\n{stage}, {title}: CPU | GPU")
        for key in found.keys() - outside(found, prefixes):
            print(f"  {key}: {found[key][0]} | {found[key][1]}")
    assert outside(found, set().union(*LISTED[stage])) == []


@pytest.mark.parametrize("stage", LISTED)
def test_every_listed_method_difference_exists(configs, stage):
    found = differences(configs[f"{stage}_cpu"], configs[f"{stage}_gpu"])
    assert [name for name in LISTED[stage][2] if outside(found, {name}) == list(found)] == []


def test_the_comparison_sees_a_changed_setting_of_the_method(configs):
    changed = json.loads(json.dumps(configs["medgrpo_gpu"]))
    changed["actor_rollout_ref"]["actor"]["clip_ratio_high"] = 0.2
    changed["algorithm"]["use_kl_in_reward"] = True
    found = differences(configs["medgrpo_cpu"], changed)
    assert outside(found, MACHINE | SIZE | METHOD) == [
        "actor_rollout_ref.actor.clip_ratio_high",
        "algorithm.use_kl_in_reward",
    ]


@pytest.mark.parametrize("name", ["medgrpo_cpu", "medgrpo_gpu"])
def test_the_published_algorithm_is_shared(configs, name):
    config = configs[name]
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert config["algorithm"]["adv_estimator"] == "grpo"
    assert rollout["n"] == 8
    assert (actor["clip_ratio_low"], actor["clip_ratio_high"]) == (0.2, 0.3)
    assert actor["use_kl_loss"] is False and config["algorithm"]["use_kl_in_reward"] is False
    reward = config["reward"]["custom_reward_function"]["reward_kwargs"]
    assert (reward["normalizer"], reward["k"]) == ("logistic", 3.0)
    sampler = config["trainer"]["v1"]["sampler"]["sampler_kwargs"]
    assert (sampler["advantage"], sampler["norm_adv_by_std"]) == ("grpo", True)
    assert sampler["reward_kwargs"] == reward
    assert set(reward) <= SETTING_NAMES
    assert sampler["state_dir"] == sampler["record_dir"] == config["trainer"]["default_local_dir"]
    # What mix=learnt reads is what the sampler writes.
    assert config["data"]["medgrpo"]["learnt_from"] == f"{sampler['state_dir']}/sampler"
    assert sampler["mix"] == config["data"]["medgrpo"]["mix"] != "learnt"


@pytest.mark.parametrize("name", ["medgrpo_cpu", "medgrpo_gpu"])
def test_lengths_and_budgets_fit_each_other(configs, name):
    config = configs[name]
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    longest = config["data"]["max_prompt_length"] + config["data"]["max_response_length"]
    assert actor["use_dynamic_bsz"] is True
    # A sample longer than the budget of a micro-batch cannot be placed.
    assert actor["ppo_max_token_len_per_gpu"] >= longest
    assert rollout["log_prob_max_token_len_per_gpu"] >= longest
    assert rollout["max_model_len"] is None or rollout["max_model_len"] >= longest
    assert config["data"]["train_batch_size"] % actor["ppo_mini_batch_size"] == 0


@pytest.mark.parametrize(("side", "family_tokens_per_pair"), [(28, 0), (32, 10)])
def test_the_longest_clip_fits_the_prompt_and_one_encoder_pass(configs, side, family_tokens_per_pair):
    pairs = -(-181 // 2)
    tokens = pairs * (37_632 // side**2 + family_tokens_per_pair)
    gpu = configs["medgrpo_gpu"]
    assert tokens + 700 < gpu["data"]["max_prompt_length"]
    assert tokens < gpu["actor_rollout_ref"]["rollout"]["max_num_batched_tokens"]


def test_gradients_stay_divided_and_clips_take_little_of_the_hosts_memory(configs):
    rl, sft = configs["medgrpo_gpu"], configs["sft_gpu"]
    for engine in (rl["actor_rollout_ref"]["actor"]["fsdp_config"], sft["engine"]):
        assert engine["use_no_sync_for_gradient_accumulation"] is False
        # Nothing is lost by these pixels where the model computes in the same type.
        assert engine["mixed_precision"]["param_dtype"] == "bf16"
    assert rl["data"]["medgrpo"]["pixels"] == sft["data"]["medgrpo"]["pixels"] == "bfloat16"
    assert sft["data"]["num_workers"] == 2


def test_a_step_holds_every_pair_and_divides_over_the_gpus(configs):
    gpu = configs["medgrpo_gpu"]
    batch = gpu["data"]["train_batch_size"]
    all_pairs = 23
    assert batch >= all_pairs
    assert batch * gpu["actor_rollout_ref"]["rollout"]["n"] % gpu["trainer"]["n_gpus_per_node"] == 0


def test_sft_recipes_share_the_dataset_and_the_published_rate(configs):
    cpu, gpu = configs["sft_cpu"], configs["sft_gpu"]
    assert gpu["optim"]["lr"] == 5e-7 and gpu["trainer"]["total_epochs"] == 3
    assert gpu["data"]["custom_cls"] == cpu["data"]["custom_cls"]
    assert gpu["data"]["custom_cls"]["name"] == "MedVidSFTDataset"
    assert gpu["engine"]["strategy"] == "fsdp2" and gpu["engine"]["model_dtype"] == "fp32"
    # verl's own FSDP engine raises for "linear": both stages have ours.
    assert gpu["optim"]["lr_scheduler_type"] == "linear"
    for name in ("sft_cpu", "sft_gpu"):
        assert configs[name]["optim"]["_target_"] == "recipes.medgrpo.training.fsdp_engine.OptimizerConfig"
        assert configs[name]["engine"]["_target_"] == "recipes.medgrpo.training.fsdp_engine.EngineConfig"
    for name in ("medgrpo_cpu", "medgrpo_gpu"):
        actor = configs[name]["actor_rollout_ref"]["actor"]
        assert actor["optim"]["_target_"] == "recipes.medgrpo.training.fsdp_engine.OptimizerConfig"
        assert actor["fsdp_config"]["_target_"] == "recipes.medgrpo.training.fsdp_engine.EngineConfig"
    assert gpu["data"]["max_token_len_per_gpu"] >= gpu["data"]["max_length"]
    assert gpu["data"]["medgrpo"]["tasks"] is None


def test_checkpoints_can_be_loaded_by_others(configs):
    for name in ("medgrpo_cpu", "medgrpo_gpu"):
        assert "hf_model" in configs[name]["actor_rollout_ref"]["actor"]["checkpoint"]["save_contents"]
    for name in ("sft_cpu", "sft_gpu"):
        assert "hf_model" in configs[name]["checkpoint"]["save_contents"]


def test_the_pinned_verl_is_the_one_that_preflight_asks_for():
    # Read, not imported: that would load transformers and verl for one word.
    source = (ROOT / "recipes/medgrpo/planning/machine.py").read_text(encoding="utf-8")
    version = re.search(r'^VERL = "(.+)"$', source, re.MULTILINE)[1]
    lines = (ROOT / "recipes/medgrpo/REQUIRED_VERL.txt").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert fields["MODE"] == "pinned_tag"
    assert fields["TAG"] == f"v{version}"
    assert fields["PIP_INSTALL"] == f"pip install verl=={version}"


# ---- without a GPU, in vLLM's build for CPUs ---------------------------------------------------------------------

SIZES = "the tiny model has 4,096 positions, and its answers are short"
PROCESSES = "a machine without a GPU has few cores and little memory"
COMPILED = "compiling takes minutes, and is for GPUs"
FLASH = "flash-attn needs a GPU"
OVERLAYS = {
    ("medgrpo_gpu", "gpu_on_cpu"): {
        "trainer.device": "no GPU",
        "actor_rollout_ref.model.use_remove_padding": FLASH,
        "actor_rollout_ref.actor.use_remove_padding": FLASH,
        "actor_rollout_ref.model.override_config.attn_implementation": FLASH,
        "actor_rollout_ref.actor.use_torch_compile": COMPILED,
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile": COMPILED,
        "actor_rollout_ref.ref.use_torch_compile": COMPILED,
        "actor_rollout_ref.ref.fsdp_config.use_torch_compile": COMPILED,
        "actor_rollout_ref.rollout.enforce_eager": COMPILED,
        "data.max_prompt_length": SIZES,
        "data.max_response_length": SIZES,
        "actor_rollout_ref.rollout.max_model_len": SIZES,
        "actor_rollout_ref.rollout.prompt_length": SIZES,
        "actor_rollout_ref.rollout.response_length": SIZES,
        "distillation.teacher_models.teacher_model.inference": SIZES,
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes": "several, as of a real model",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes": "else a share of the machine's memory",
        "reward.reward_model.rollout.engine_kwargs": "else a share of the machine's memory",
        "actor_rollout_ref.rollout.agent.num_workers": PROCESSES,
        "reward.num_workers": PROCESSES,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": PROCESSES,
        "ray_kwargs.ray_init": "Ray counts GPUs that are not there, and starts here",
    },
    ("sft_gpu", "sft_gpu_on_cpu"): {
        "trainer.device": "no GPU",
        "model.use_remove_padding": FLASH,
        "model.override_config.attn_implementation": FLASH,
        "engine.use_torch_compile": COMPILED,
        "data.num_workers": PROCESSES,
    },
}


@pytest.mark.parametrize(("gpu", "cpu"), OVERLAYS, ids=lambda name: name)
def test_the_gpu_configuration_without_a_gpu_differs_in_these_keys(configs, gpu, cpu):
    reasons = OVERLAYS[gpu, cpu]
    found = differences(configs[gpu], configs[cpu])
    assert outside(found, set(reasons)) == []
    assert [key for key in reasons if outside(found, {key}) == list(found)] == []


def test_vllm_in_the_cpu_run_is_the_gpu_recipes_rollout(configs):
    """It sleeps in every step, its weights are sent in several parts, and only sizes and types are its own."""
    gpu, cpu = (configs[name]["actor_rollout_ref"]["rollout"] for name in ("medgrpo_gpu", "vllm_cpu"))
    for key in ("name", "free_cache_engine", "enable_prefix_caching", "load_format", "n"):
        assert cpu[key] == gpu[key], key
    # verl's default, which the CPU run's own engine switches off.
    assert cpu["enable_sleep_mode"] is gpu.get("enable_sleep_mode", True) is True
    # One clip or still a prompt, and clips alone in the GPU recipes; how large they may be is the model's affair.
    mine, theirs = (side["engine_kwargs"]["vllm"] for side in (cpu, gpu))
    assert mine.keys() >= theirs.keys()
    assert mine["limit_mm_per_prompt"] == {"image": 1, "video": theirs["limit_mm_per_prompt"]["video"]["count"]}
    assert theirs["limit_mm_per_prompt"]["image"] == 0
    found = differences(configs["medgrpo_cpu"], configs["vllm_cpu"])
    # verl's unused settings of a teacher follow the rollout's.
    assert outside(found, {"actor_rollout_ref.rollout", "distillation.teacher_models"}) == []
