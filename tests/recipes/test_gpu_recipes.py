# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The GPU shell recipes, run as a user runs them: what they compose, and how they refuse to start."""

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from recipe_shell import ROOT, composed, messages, pretended_machine, run, start_copy

from reward_score.conventions import CONVENTIONS

SECRET = "sk-never-to-be-shown"
QWEN2_5, QWEN3 = "run_medgrpo_qwen2_5_vl_7b.sh", "run_medgrpo_qwen3_vl_4b.sh"
PRINT = ("--cfg", "job", "--resolve")
QWEN3_5 = "run_medgrpo_qwen3_5_4b.sh"
FAMILIES = {QWEN2_5: "qwen2_5_vl", QWEN3: "qwen3_vl", QWEN3_5: "qwen3_5"}


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, subprocess.CompletedProcess]:
    """Each script once, with a key in the environment: one from a CPU run's shell, one from a plain shell."""
    elsewhere = tmp_path_factory.mktemp("else where")
    return {
        QWEN2_5: run(QWEN2_5, *PRINT, cwd=elsewhere, OPENAI_API_KEY=SECRET, VERL_PLATFORM="cpu"),
        QWEN3: composed(
            *(QWEN3, *PRINT, "data.seed=7", "trainer.save_freq=50"),
            cwd=elsewhere,
            MEDGRPO_JUDGE_API_KEY=SECRET,
            JUDGE_BASE_URL="http://judge.example:8000/v1",
            JUDGE_MODEL="open judge",
            MODEL_PATH="an sft's folder",
            TASKS="tal stg",
            LOGGER="wandb tensorboard",
        ),
        QWEN3_5: composed(QWEN3_5, *PRINT, cwd=elsewhere, OPENAI_API_KEY=SECRET),
    }


@pytest.fixture(scope="module")
def configs(printed) -> dict[str, dict]:
    for script, done in printed.items():
        assert done.returncode == 0, f"{script}\n{done.stderr[-3000:]}"
    return {script: yaml.safe_load(done.stdout) for script, done in printed.items()}


@pytest.mark.slow
def test_without_the_trainers_imports_the_same_is_composed(printed, tmp_path):
    assert composed(QWEN2_5, *PRINT, cwd=tmp_path).stdout == printed[QWEN2_5].stdout


@pytest.mark.parametrize("script", FAMILIES)
def test_paper_settings(configs, script):
    config = configs[script]
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert config["algorithm"]["adv_estimator"] == "grpo"
    assert rollout["n"] == 8
    assert (actor["clip_ratio_low"], actor["clip_ratio_high"]) == (0.2, 0.3)
    assert actor["use_kl_loss"] is False and config["algorithm"]["use_kl_in_reward"] is False
    assert float(actor["optim"]["lr"]) == 5e-7
    assert config["trainer"]["total_training_steps"] == config["data"]["medgrpo"]["steps"] == 5000


@pytest.mark.parametrize("script", FAMILIES)
def test_hooks_are_those_of_the_cpu_run(configs, script):
    config = configs[script]
    assert config["data"]["custom_cls"] == {"path": "pkg://recipes.medgrpo.data.dataset", "name": "MedVidDataset"}
    reward = config["reward"]["custom_reward_function"]
    assert (reward["path"], reward["name"]) == ("pkg://reward_score.medgrpo", "compute_score")
    sampler = config["trainer"]["v1"]["sampler"]
    assert sampler["custom_sampler"] == {"path": "pkg://recipes.medgrpo.training.sampler", "name": "MedGRPOSampler"}
    assert sampler["sampler_kwargs"]["group_size"] == 8
    assert config["data"]["shuffle"] is False and config["data"]["filter_overlong_prompts"] is False
    assert config["trainer"]["resume_mode"] == "auto"


@pytest.mark.parametrize("script", FAMILIES)
def test_reward_settings_are_settings_that_the_reward_knows(configs, script):
    from reward_score.settings import Settings

    Settings(**configs[script]["reward"]["custom_reward_function"]["reward_kwargs"])


@pytest.mark.parametrize("script", FAMILIES)
def test_judge_settings_make_a_judge(configs, tmp_path, script):
    from reward_score.judge import Judge

    config = configs[script]
    settings = config["reward"]["custom_reward_function"]["reward_kwargs"]["judge_settings"]
    assert "api_key" not in settings
    assert settings["store"] == f"{config['trainer']['default_local_dir']}/judge"
    assert (settings["budget_usd"], settings["max_in_flight"]) == (None, 128)
    Judge(api_key="any", **settings | {"store": str(tmp_path / "judge")})


@pytest.mark.parametrize("script", FAMILIES)
def test_machine_fsdp2_and_vllm_on_eight_gpus(configs, script):
    config = configs[script]
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert actor["strategy"] == "fsdp2" and actor["fsdp_config"]["model_dtype"] == "fp32"
    assert rollout["name"] == "vllm" and rollout["tensor_model_parallel_size"] == 1
    assert config["trainer"]["device"] == "cuda"
    assert (config["trainer"]["nnodes"], config["trainer"]["n_gpus_per_node"]) == (1, 8)
    assert config["actor_rollout_ref"]["model"]["enable_gradient_checkpointing"] is True
    assert config["actor_rollout_ref"]["model"]["use_remove_padding"] is True


@pytest.mark.parametrize(("script", "family"), [(QWEN2_5, "qwen2_5_vl"), (QWEN3, "qwen3_vl")])
def test_vllm_measures_its_memory_with_the_longest_clip(configs, script, family):
    from data_preprocess.geometry import MAX_PIXELS
    from reward_score.conventions import convention_of

    clips = configs[script]["actor_rollout_ref"]["rollout"]["engine_kwargs"]["vllm"]["limit_mm_per_prompt"]
    clip, cell = clips["video"], convention_of(family).cell
    assert (clip["count"], clip["num_frames"], clips["image"]) == (1, 2, 0)
    assert clip["width"] % cell == clip["height"] % cell == 0
    assert (clip["width"] // cell) * (clip["height"] // cell) == 91 * (MAX_PIXELS // cell**2)


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_a_single_machine_never_joins_a_ray_cluster_that_happens_to_run(configs, script):
    assert configs[script]["ray_kwargs"]["ray_init"]["address"] == "local"


def test_the_recipe_composes_for_a_machine_without_a_gpu(tmp_path):
    """As `RECIPE=gpu bash examples/run_medgrpo.sh` starts it."""
    done = composed(QWEN2_5, *PRINT, cwd=tmp_path, DEVICE="cpu", N_GPUS="2", JUDGE="offline")
    assert done.returncode == 0, done.stderr[-2000:]
    config = yaml.safe_load(done.stdout)
    assert (config["trainer"]["device"], config["ray_kwargs"]["ray_init"]["address"]) == ("cpu", "local")
    assert config["actor_rollout_ref"]["model"]["override_config"]["attn_implementation"] == "sdpa"


def test_defaults_are_the_papers_tasks_and_judge(configs):
    config = configs[QWEN2_5]
    reward = config["reward"]["custom_reward_function"]["reward_kwargs"]
    assert config["data"]["medgrpo"]["tasks"] == reward["rewarded_tasks"] == ["tal", "stg", "vs", "rc"]
    assert (reward["judge"], reward["judge_settings"]["model"]) == ("openai", "gpt-4.1")


def test_variables_and_overrides_arrive(configs, tmp_path):
    config = configs[QWEN3]
    reward = config["reward"]["custom_reward_function"]["reward_kwargs"]
    assert reward["judge_settings"]["base_url"] == "http://judge.example:8000/v1"
    assert reward["judge_settings"]["model"] == "open judge"
    assert config["data"]["medgrpo"]["tasks"] == reward["rewarded_tasks"] == ["tal", "stg"]
    # A relative path means the caller's folder, although the trainer runs elsewhere.
    assert config["actor_rollout_ref"]["model"]["path"].endswith("/an sft's folder")
    assert Path(config["actor_rollout_ref"]["model"]["path"]).is_absolute()
    assert config["data"]["seed"] == 7
    assert config["trainer"]["save_freq"] == 50
    assert config["trainer"]["logger"] == ["console", "file", "wandb", "tensorboard"]
    assert config["trainer"]["v1"]["sampler"]["sampler_kwargs"]["image_every"] == 50
    assert configs[QWEN2_5]["trainer"]["logger"] == ["console", "file"]


def test_families_differ_in_name_and_in_what_their_conventions_say(configs):
    for script, family in FAMILIES.items():
        data = configs[script]["data"]
        assert data["image_patch_size"] == CONVENTIONS[family].patch_size
        assert data["apply_chat_template_kwargs"] == CONVENTIONS[family].template
    names = {config["trainer"]["experiment_name"] for config in configs.values()}
    folders = {config["trainer"]["default_local_dir"] for config in configs.values()}
    assert len(names) == len(folders) == 3


@pytest.mark.parametrize("script", FAMILIES)
def test_no_key_is_printed(printed, script):
    assert SECRET not in printed[script].stdout
    # The shell's trace (set -x) is on: it must not show the key either.
    assert "+ " in printed[script].stderr and SECRET not in printed[script].stderr


def test_everything_missing_is_one_list(tmp_path):
    done = run(QWEN2_5, cwd=tmp_path, N_GPUS="1000")
    assert done.returncode == 2
    said = "\n".join(messages(done))
    for name in ("MODEL_PATH", "DATA_DIR", "STATISTICS", "MEDGRPO_JUDGE_API_KEY", "N_GPUS is 1000"):
        assert name in said
    # What only Python sees comes in the same refusal, where it needs no installation.
    assert "preflight: flash-attn is not installed" in done.stderr or importlib.util.find_spec("flash_attn")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_does_not_show_the_key(tmp_path):
    done = run(QWEN3, cwd=tmp_path, OPENAI_API_KEY=SECRET, N_GPUS="1000")
    assert done.returncode == 2
    assert "no key for the judge" not in "\n".join(messages(done))
    assert SECRET not in done.stdout + done.stderr


def test_wrong_settings_are_one_list_also_where_only_the_configuration_is_asked_for(tmp_path):
    done = run(QWEN3, "--cfg", "job", cwd=tmp_path, N_GPUS="0", STEPS="-1", FREEZE_VISION="yes")
    assert done.returncode == 2 and done.stdout == ""
    assert [line.split(": ")[1].split()[0] for line in messages(done)] == ["N_GPUS", "STEPS", "FREEZE_VISION"]


def test_several_nodes_the_offline_judge_and_all_tasks_compose(tmp_path):
    done = composed(
        *(QWEN2_5, "--resolve", "trainer.project_name=other", "-c", "job"),
        cwd=tmp_path,
        NNODES="2",
        JUDGE="offline",
        TASKS="all",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    config = yaml.safe_load(done.stdout)
    reward = config["reward"]["custom_reward_function"]["reward_kwargs"]
    assert reward["judge"] == "offline" and "judge_settings" not in reward
    assert reward["rewarded_tasks"] is None and config["data"]["medgrpo"]["tasks"] is None
    assert config["trainer"]["nnodes"] == 2 and config["trainer"]["project_name"] == "other"
    environment = config["ray_kwargs"]["ray_init"]["runtime_env"]["env_vars"]
    assert "address" not in config["ray_kwargs"]["ray_init"]
    assert environment == {"PYTHONPATH": str(ROOT), "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin"}


def test_a_judge_on_gpus_of_its_own_and_its_limits_compose(tmp_path):
    done = composed(
        *(QWEN3, *PRINT),
        cwd=tmp_path,
        NNODES="2",
        JUDGE="router",
        JUDGE_MODEL="open judge",
        JUDGE_MODEL_PATH="a judge's folder",
        JUDGE_GPUS="4",
        JUDGE_TP="2",
        JUDGE_PROMPT="rubric",
        JUDGE_IN_FLIGHT="200",
        JUDGE_REQUESTS_PER_MIN="600",
        JUDGE_BUDGET_USD="12.5",
        JUDGE_PROMPT_PRICE="0.5",
        JUDGE_COMPLETION_PRICE="1",
        JUDGE_STORE="the store",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    config = yaml.safe_load(done.stdout)
    reward, servers = config["reward"]["custom_reward_function"]["reward_kwargs"], config["reward"]["reward_model"]
    assert reward["judge"] == "router"
    assert reward["judge_settings"] == {
        "model": "open judge",
        "prompt": "rubric",
        # Reward workers on several nodes share it through an actor.
        "store": f"{tmp_path}/the store",
        "max_in_flight": 200,
        "requests_per_min": 600,
        "tokens_per_min": None,
        "budget_usd": 12.5,
        "prompt_price": 0.5,
        "completion_price": 1,
    }
    assert config["trainer"]["v1"]["sampler"]["sampler_kwargs"]["reward_kwargs"] == reward
    assert (servers["enable"], servers["enable_resource_pool"]) == (True, True)
    assert (servers["nnodes"], servers["n_gpus_per_node"]) == (1, 4)
    assert servers["model_path"] == f"{tmp_path}/a judge's folder"
    rollout = servers["rollout"]
    assert (rollout["name"], rollout["tensor_model_parallel_size"]) == ("vllm", 2)
    assert rollout["engine_kwargs"]["vllm"]["served_model_name"] == "open judge"
    # Asleep, they would never answer.
    assert rollout["free_cache_engine"] is False


def test_adapters_on_one_card_compose(tmp_path):
    done = composed(
        *(QWEN3, *PRINT),
        cwd=tmp_path,
        N_GPUS="1",
        LORA_RANK="64",
        FREEZE_VISION="true",
        JUDGE="none",
        NORMALIZER="none",
        ADVANTAGE="dr_grpo",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    config = yaml.safe_load(done.stdout)
    model, actor = config["actor_rollout_ref"]["model"], config["actor_rollout_ref"]["actor"]
    assert (model["lora_rank"], model["lora_alpha"], model["lora"]["merge"]) == (64, 64, True)
    assert re.fullmatch(model["exclude_modules"], "model.visual.blocks.0.attn.qkv")
    assert not re.fullmatch(model["exclude_modules"], "model.language_model.layers.0.self_attn.q_proj")
    assert actor["fsdp_config"]["freeze_vision"] is True and actor["fsdp_config"]["model_dtype"] == "fp32"
    assert float(actor["optim"]["lr"]) == 5e-6
    assert config["trainer"]["n_gpus_per_node"] == 1
    # Every pair of the paper's tasks in every step.
    assert config["data"]["train_batch_size"] == actor["ppo_mini_batch_size"] == 16
    assert config["actor_rollout_ref"]["rollout"]["gpu_memory_utilization"] == 0.5
    reward = config["reward"]["custom_reward_function"]["reward_kwargs"]
    assert reward["judge"] is None and "judge_settings" not in reward
    assert reward["normalizer"] == "none"
    assert config["algorithm"]["norm_adv_by_std_in_grpo"] is False


def test_qwen3_vl_composes_without_flash_attn(tmp_path):
    done = composed(QWEN3, "--cfg", "job", "--resolve", cwd=tmp_path, ATTENTION="sdpa")
    assert done.returncode == 0, done.stderr[-3000:]
    model = yaml.safe_load(done.stdout)["actor_rollout_ref"]["model"]
    assert model["override_config"]["attn_implementation"] == "sdpa" and model["use_remove_padding"] is True


@pytest.fixture
def machine(tmp_path) -> dict[str, str]:
    more = {"STATISTICS": "statistics.json", "OPENAI_API_KEY": SECRET, "VERL_PLATFORM": "cpu"}
    return pretended_machine(tmp_path) | more


def start(machine: dict[str, str], tmp_path: Path, **more: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    return start_copy(machine | more, tmp_path, QWEN2_5, "data.seed=5")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"JUDGE": "gpt"}, "JUDGE 'gpt': expected offline or openai or router"),
        ({"JUDGE_BUDGET_USD": "much"}, "JUDGE_BUDGET_USD is 'much', expected a number"),
        ({"JUDGE_MODEL": 'a"b'}, "JUDGE_MODEL 'a\"b': expected the model's name"),
        ({"JUDGE": "router", "JUDGE_MODEL_PATH": "nowhere"}, "no config.json there, expected the judge's model"),
        ({"TRAIN_BATCH_SIZE": "many"}, "TRAIN_BATCH_SIZE is 'many', expected a whole number above 0"),
        ({"LOGGER": "wandb notes"}, "LOGGER: 'notes', expected some of wandb tensorboard trackio mlflow swanlab"),
        ({"LORA_RANK": "some"}, "LORA_RANK is 'some', expected a whole number, 0 for no adapters"),
        ({"FREEZE_VISION": "1"}, "FREEZE_VISION is '1', expected true or false"),
        ({"ATTENTION": "sdpa"}, "ATTENTION is 'sdpa', expected flash_attention_2: verl trains qwen2_5_vl with"),
        ({"LR": "small"}, "LR is 'small', expected a number as 5e-7"),
        ({"JUDGE": "offline", "NNODES": "2"}, "NNODES is 2 and RAY_ADDRESS is not set"),
    ],
)
def test_bad_settings_are_named(machine, tmp_path, settings, expected):
    done, _ = start(machine, tmp_path, **settings)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert any(expected in line for line in messages(done))


def test_a_start_checks_first_and_then_trains_in_the_output_folder(machine, tmp_path):
    done, (environment, preflight, trainer) = start(machine, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert environment == "environment gpu"
    assert f"--data {tmp_path}/data " in preflight and f"--statistics {tmp_path}/statistics.json" in preflight
    assert "preflight --machine gpu --model-family qwen2_5_vl" in preflight
    assert f"--checkpoints {tmp_path}/out/checkpoints " in preflight and f"--model {tmp_path}/sft " in preflight
    assert "--host-gib 176 --shm-gib 16 --attention flash_attention_2" in preflight
    assert "--gpus 8 --gpu-gib 79" in preflight and "--partial" not in preflight
    assert f"--judge openai --judge-model gpt-4.1 --judge-store {tmp_path}/out/checkpoints/judge" in preflight
    assert "--judge-base-url https://api.openai.com/v1" in preflight and "--judge-ping" not in preflight
    assert "--tasks tal stg vs rc" in preflight
    assert trainer.startswith("python -m verl.trainer.main_ppo ") and " data.seed=5 | " in trainer
    module, log, platform, folder = trainer.split(" | ")[1].split()
    assert (module, platform) == ("recipes.medgrpo.plugin", "none")
    assert (log, folder) == (f"{tmp_path}/out/attempts/grpo_1.jsonl", f"{tmp_path}/out")
    assert "resuming after step 40" in done.stdout
    assert SECRET not in done.stdout + done.stderr + preflight + trainer


def test_each_attempt_has_its_own_metrics_file(machine, tmp_path):
    start(machine, tmp_path)
    (tmp_path / "out/attempts/grpo_1.jsonl").touch()
    _, calls = start(machine, tmp_path)
    assert "/attempts/grpo_2.jsonl " in calls[-1]


def test_on_a_cluster_the_metrics_file_is_told_to_the_trainer_too(machine, tmp_path):
    _, calls = start(machine, tmp_path, NNODES="2", RAY_ADDRESS="10.0.0.1:6379")
    variables = "+ray_kwargs.ray_init.runtime_env.env_vars."
    assert f"{variables}VERL_FILE_LOGGER_PATH='{tmp_path}/out/attempts/grpo_1.jsonl' " in calls[-1]
    assert f"{variables}VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin " in calls[-1]


def test_nothing_trains_when_preflight_refuses(machine, tmp_path):
    done, calls = start(machine, tmp_path, REFUSE="yes")
    assert done.returncode == 2
    assert not any("main_ppo" in call for call in calls)


def test_all_tasks_are_checked_when_all_are_trained(machine, tmp_path):
    _, calls = start(machine, tmp_path, TASKS="all")
    assert "--tasks" not in calls[1] and "data.medgrpo.tasks=null" in calls[2]


def test_a_dry_run_prints_the_commands_and_starts_nothing(machine, tmp_path):
    done, calls = start_copy(machine, tmp_path, QWEN3, "--dry-run", "data.seed=5")
    assert done.returncode == 0, done.stderr[-2000:]
    preflight, trainer = done.stdout.splitlines()
    assert preflight.startswith("python -m recipes.medgrpo preflight ")
    assert trainer.startswith("python -m verl.trainer.main_ppo ") and trainer.endswith(" data.seed=5")
    assert calls == [] and not (tmp_path / "out").exists()


def test_rows_of_the_ablation_compose_by_the_recipe_on_any_machine(tmp_path):
    done = composed("run_ablation.sh", "B", "E", "tal_wasserstein", *PRINT, "data.seed=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    without_normalisation, without_judge, with_a_signal = yaml.safe_load_all(done.stdout)
    assert with_a_signal["reward"]["custom_reward_function"]["reward_kwargs"]["tal_wasserstein"] is True
    reward = without_normalisation["reward"]["custom_reward_function"]["reward_kwargs"]
    assert (reward["normalizer"], reward["judge"]) == ("none", "openai")
    assert reward["rewarded_tasks"] == ["tal", "stg", "vs", "rc"]
    reward = without_judge["reward"]["custom_reward_function"]["reward_kwargs"]
    assert (reward["normalizer"], reward["judge"], reward["rewarded_tasks"]) == ("logistic", None, ["vs", "rc"])
    assert without_judge["data"]["medgrpo"]["tasks"] == ["vs", "rc"] and without_judge["data"]["seed"] == 4
    assert list(tmp_path.iterdir()) == []


def test_what_calibrations_servers_start_with_can_be_printed(tmp_path):
    done = composed("run_calibrate.sh", *PRINT, cwd=tmp_path, N_GPUS="4", ROLLOUT_TP="2")
    assert done.returncode == 0, done.stderr[-3000:]
    config = yaml.safe_load(done.stdout)
    rollout = config["actor_rollout_ref"]["rollout"]
    assert config["trainer"]["n_gpus_per_node"] == 4
    assert (rollout["name"], rollout["tensor_model_parallel_size"], rollout["temperature"]) == ("vllm", 2, 1.0)
