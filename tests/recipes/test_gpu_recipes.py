# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The GPU shell recipes, run as a user runs them: what they compose, and how they refuse to start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SECRET = "sk-never-to-be-shown"
QWEN2_5, QWEN3 = "run_medgrpo_qwen2_5_vl_7b.sh", "run_medgrpo_qwen3_vl_4b.sh"


def run(script: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess:
    """A recipe in a shell that has only this interpreter's folder, the system's tools and `settings`."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    env = kept | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | settings
    command = ["bash", str(ROOT / "examples" / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, subprocess.CompletedProcess]:
    """Each script once, with a key in the environment: one from a CPU run's shell, one from a plain shell."""
    elsewhere = tmp_path_factory.mktemp("else where")
    return {
        QWEN2_5: run(QWEN2_5, "--cfg", "job", "--resolve", cwd=elsewhere, OPENAI_API_KEY=SECRET, VERL_PLATFORM="cpu"),
        QWEN3: run(
            *(QWEN3, "--cfg", "job", "--resolve", "data.seed=7", "trainer.save_freq=50"),
            cwd=elsewhere,
            MEDGRPO_JUDGE_API_KEY=SECRET,
            JUDGE_BASE_URL="http://judge.example:8000/v1",
            JUDGE_MODEL="open judge",
            MODEL_PATH="an sft's folder",
            TASKS="tal stg",
        ),
    }


@pytest.fixture(scope="module")
def configs(printed) -> dict[str, dict]:
    for script, done in printed.items():
        assert done.returncode == 0, f"{script}\n{done.stderr[-3000:]}"
    return {script: yaml.safe_load(done.stdout) for script, done in printed.items()}


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_paper_settings(configs, script):
    config = configs[script]
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert config["algorithm"]["adv_estimator"] == "grpo"
    assert rollout["n"] == 8
    assert (actor["clip_ratio_low"], actor["clip_ratio_high"]) == (0.2, 0.3)
    assert actor["use_kl_loss"] is False and config["algorithm"]["use_kl_in_reward"] is False
    assert float(actor["optim"]["lr"]) == 5e-7
    assert config["trainer"]["total_training_steps"] == config["data"]["medgrpo"]["steps"] == 5000


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_hooks_are_those_of_the_cpu_run(configs, script):
    config = configs[script]
    assert config["data"]["custom_cls"] == {"path": "pkg://recipes.medgrpo.dataset", "name": "MedVidDataset"}
    reward = config["reward"]["custom_reward_function"]
    assert (reward["path"], reward["name"]) == ("pkg://reward_score.medgrpo", "compute_score")
    sampler = config["trainer"]["v1"]["sampler"]
    assert sampler["custom_sampler"] == {"path": "pkg://recipes.medgrpo.sampler", "name": "MedGRPOSampler"}
    assert sampler["sampler_kwargs"]["group_size"] == 8
    assert config["data"]["shuffle"] is False and config["data"]["filter_overlong_prompts"] is False
    assert config["trainer"]["resume_mode"] == "auto"


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_reward_settings_are_settings_that_the_reward_knows(configs, script):
    from reward_score.medgrpo import Settings

    Settings(**configs[script]["reward"]["custom_reward_function"]["reward_kwargs"])


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_judge_settings_make_a_judge(configs, tmp_path, script):
    from reward_score.judge import Judge

    config = configs[script]
    settings = config["reward"]["custom_reward_function"]["reward_kwargs"]["judge_settings"]
    assert "api_key" not in settings
    assert settings["store"] == f"{config['trainer']['default_local_dir']}/judge"
    assert (settings["budget_usd"], settings["max_in_flight"]) == (None, 128)
    Judge(api_key="any", **settings | {"store": str(tmp_path / "judge")})


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_machine_fsdp2_and_vllm_on_eight_gpus(configs, script):
    config = configs[script]
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert actor["strategy"] == "fsdp2" and actor["fsdp_config"]["model_dtype"] == "fp32"
    assert rollout["name"] == "vllm" and rollout["tensor_model_parallel_size"] == 1
    assert config["trainer"]["device"] == "cuda"
    assert (config["trainer"]["nnodes"], config["trainer"]["n_gpus_per_node"]) == (1, 8)
    assert config["actor_rollout_ref"]["model"]["enable_gradient_checkpointing"] is True
    assert config["actor_rollout_ref"]["model"]["use_remove_padding"] is True


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


def test_families_differ_in_patch_size_and_name(configs):
    assert (configs[QWEN2_5]["data"]["image_patch_size"], configs[QWEN3]["data"]["image_patch_size"]) == (14, 16)
    names = {configs[script]["trainer"]["experiment_name"] for script in (QWEN2_5, QWEN3)}
    folders = {configs[script]["trainer"]["default_local_dir"] for script in (QWEN2_5, QWEN3)}
    assert len(names) == len(folders) == 2


@pytest.mark.parametrize("script", [QWEN2_5, QWEN3])
def test_no_key_is_printed(printed, script):
    assert SECRET not in printed[script].stdout
    # The shell's trace (set -x) is on: it must not show the key either.
    assert "+ " in printed[script].stderr and SECRET not in printed[script].stderr


def messages(done: subprocess.CompletedProcess) -> list[str]:
    """What a recipe said on standard error, without the shell's trace."""
    return [line for line in done.stderr.splitlines() if line.startswith("medgrpo_")]


def test_everything_missing_is_one_list(tmp_path):
    done = run(QWEN2_5, cwd=tmp_path, N_GPUS="1000")
    assert done.returncode == 2
    said = "\n".join(messages(done))
    for name in ("MODEL_PATH", "DATA_DIR", "STATISTICS", "MEDGRPO_JUDGE_API_KEY", "N_GPUS is 1000"):
        assert name in said
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_does_not_show_the_key(tmp_path):
    done = run(QWEN3, cwd=tmp_path, OPENAI_API_KEY=SECRET, N_GPUS="1000")
    assert done.returncode == 2
    assert "no key for the judge" not in "\n".join(messages(done))
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"JUDGE": "gpt"}, "JUDGE 'gpt': expected openai or offline or router"),
        ({"JUDGE_BUDGET_USD": "much"}, "JUDGE_BUDGET_USD is 'much', expected a number"),
        ({"JUDGE_MODEL": 'a"b'}, "JUDGE_MODEL 'a\"b': expected the model's name"),
        ({"JUDGE": "router", "JUDGE_MODEL_PATH": "nowhere"}, "no config.json there, expected the judge's model"),
        ({"TRAIN_BATCH_SIZE": "many"}, "TRAIN_BATCH_SIZE is 'many', expected a whole number above 0"),
        ({"JUDGE": "offline", "NNODES": "2"}, "NNODES is 2 and RAY_ADDRESS is not set"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, expected):
    done = run(QWEN2_5, cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert any(expected in line for line in messages(done))


def test_several_nodes_the_offline_judge_and_all_tasks_compose(tmp_path):
    done = run(
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
    assert environment == {"PYTHONPATH": str(ROOT), "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin"}


def test_a_judge_on_gpus_of_its_own_and_its_limits_compose(tmp_path):
    done = run(
        *(QWEN3, "--cfg", "job", "--resolve"),
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
        "store": f"ray:{tmp_path}/the store",
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


@pytest.fixture
def machine(tmp_path) -> dict[str, str]:
    """A copy of the recipes on a pretended machine of 8 GPUs, whose `python` writes down how it is called."""
    shutil.copytree(ROOT / "examples", tmp_path / "checkout/examples")
    library = tmp_path / "checkout/examples/lib"
    (library / "environment.sh").write_text('ensure_environment() { echo "environment $1" >>"$CALLS"; }\n')
    tools = tmp_path / "tools"
    tools.mkdir()
    scripts = {
        "nvidia-smi": 'for i in 0 1 2 3 4 5 6 7; do echo "GPU $i: pretended"; done',
        "python": (
            'said="$VERL_USE_EXTERNAL_MODULES $VERL_FILE_LOGGER_PATH ${VERL_PLATFORM-none} $PWD"\n'
            'echo "python $* | $said" >>"$CALLS"\n'
            "case $* in *preflight*) [[ -z ${REFUSE:-} ]] || exit 2; echo 40 ;; esac"
        ),
    }
    for name, body in scripts.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tools / name).chmod(0o755)
    for name in ("sft/config.json", "data/train.parquet", "data/val.parquet", "statistics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return {
        "PATH": f"{tools}:/usr/bin:/bin",
        "CALLS": str(tmp_path / "calls"),
        "MODEL_PATH": "sft",
        "DATA_DIR": "data",
        "STATISTICS": "statistics.json",
        "OUTPUT_DIR": "out",
        "OPENAI_API_KEY": SECRET,
        "VERL_PLATFORM": "cpu",
    }


def start(machine: dict[str, str], tmp_path: Path, **more: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """The copied recipe, started; and the lines that its `python` wrote down."""
    command = ["bash", str(tmp_path / "checkout/examples" / QWEN2_5), "data.seed=5"]
    done = subprocess.run(command, cwd=tmp_path, env=machine | more, capture_output=True, text=True, check=False)
    calls = tmp_path / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


def test_a_start_checks_first_and_then_trains_in_the_output_folder(machine, tmp_path):
    done, (environment, preflight, trainer) = start(machine, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert environment == "environment gpu"
    assert f"--data {tmp_path}/data --statistics {tmp_path}/statistics.json" in preflight
    assert f"--checkpoints {tmp_path}/out/checkpoints --model-family qwen" in preflight
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


def test_nothing_trains_when_preflight_refuses(machine, tmp_path):
    done, calls = start(machine, tmp_path, REFUSE="yes")
    assert done.returncode == 2
    assert not any("main_ppo" in call for call in calls)


def test_all_tasks_are_checked_when_all_are_trained(machine, tmp_path):
    _, calls = start(machine, tmp_path, TASKS="all")
    assert "--tasks" not in calls[1] and "data.medgrpo.tasks=null" in calls[2]
