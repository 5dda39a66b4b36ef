# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The scripts around a training as a user calls them, on pretended machines: what they run, and what they refuse."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECRET = "sk-never-to-be-shown"
KEYS = {"MEDGRPO_JUDGE_API_KEY": SECRET, "OPENAI_API_KEY": SECRET}
# As `run_medgrpo.sh` wrote it before it knew TASKS and JUDGE=none: those runs must go on.
PLAN = {
    **{"model": "qwen2_5_vl", "seed": 0, "steps": 20, "sft_steps": 300, "videos": 60, "rows": 160},
    **{"normalizer": "logistic", "advantage": "grpo"},
}
INTERVENED = {"intervene_rows": 32, "intervene_epochs": 4, "intervene_lr": "3e-4"}
PLACES = {"MODEL_PATH": "sft", "DATA_DIR": "data"}
GPUS = 'for i in 0 1 2 3 4 5 6 7; do echo "GPU $i: pretended"; done'
PYTHON = f"""echo "python $* | ${{TASKS-}} ${{JUDGE-}}" >>"$CALLS"
case $* in
  *run_plan*) PYTHONPATH={ROOT} exec {sys.executable} "$@" ;;
  *summary*--show*) exit "${{COMPLETE:-0}}" ;;
  *step_lines*) cat >/dev/null ;;
  *preflight*) echo 0 ;;
esac"""


class Machine:
    """A copy of the scripts in `folder`/checkout; `python` and `torchrun` only write down how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.examples, self.tools = folder, folder / "checkout/examples", folder / "tools"
        shutil.copytree(ROOT / "examples", self.examples)
        rows = "recipes/medgrpo/studies/ablation/variants.txt"
        for file in (rows, "reward_score/settings.py"):  # which names the kinds of judges
            (folder / "checkout" / file).parent.mkdir(parents=True)
            shutil.copy(ROOT / file, folder / "checkout" / file)
        (self.examples / "lib/environment.sh").write_text(
            'ensure_environment() { echo "environment $*" >>"$CALLS"; }\n'
        )
        self.tools.mkdir()
        for name in ("python", "torchrun"):
            self.tool(name, PYTHON)
        for name in ("sft/config.json", "data/train.parquet", "data/val.parquet", "data/test.parquet"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        self.env = {"PATH": f"{self.tools}:/usr/bin:/bin", "CALLS": str(folder / "calls")}

    def tool(self, name: str, body: str, shell: str = "#!/usr/bin/env bash") -> None:
        (self.tools / name).write_text(f"{shell}\n{body}\n")
        (self.tools / name).chmod(0o755)

    def gpus(self) -> None:
        self.tool("nvidia-smi", GPUS)

    def script(self, name: str, body: str) -> None:
        """Put another script in the place of one of ours."""
        (self.examples / name).write_text(body)

    def run(self, script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", str(self.examples / script), *arguments],
            cwd=self.folder,
            env=self.env | settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def dry(self, script: str, *arguments: str, **settings: str) -> list[list[str]]:
        """The commands of a dry run in words, this folder's name left out; nothing may have been started."""
        done = self.run(script, "--dry-run", *arguments, **settings)
        assert done.returncode == 0, done.stderr[-2000:]
        assert self.calls() == []
        return [shlex.split(line.replace(f"{self.folder}/", "")) for line in done.stdout.splitlines()]


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def said(done: subprocess.CompletedProcess) -> list[str]:
    """What a script said on standard error, without the shell's trace."""
    return [line for line in done.stderr.splitlines() if line.startswith("run_")]


def after(command: list[str], flag: str) -> list[str]:
    """What stands behind a flag up to the next one."""
    rest = command[command.index(flag) + 1 :]
    ends = [place for place, word in enumerate(rest) if word.startswith("--")]
    return rest[: ends[0]] if ends else rest


# ---- which machine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "settings", "why"),
    [
        (False, {}, "no GPU found and MODEL_PATH is not set"),
        (False, {"MODEL_PATH": "sft"}, "no GPU found"),
        (True, {}, "MODEL_PATH is not set"),
    ],
)
@pytest.mark.parametrize("script", ["run_medgrpo.sh", "run_ablation.sh"])
def test_the_cpu_run_says_why_it_is_the_cpu_run(machine, script, gpus, settings, why):
    if gpus:
        machine.gpus()
    done = machine.run(script, "--dry-run", *(["A"] if script == "run_ablation.sh" else []), **settings)
    assert done.returncode == 0, done.stderr
    assert machine.calls() == []
    assert f"on the CPU with a tiny qwen2_5_vl: {why} (the 8-GPU recipes need both)." in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("qwen2_5_vl", "run_medgrpo_qwen2_5_vl_7b.sh"),
        ("qwen3_vl", "run_medgrpo_qwen3_vl_4b.sh"),
        ("qwen3_5", "run_medgrpo_qwen3_5_4b.sh"),
    ],
)
def test_gpus_and_a_model_start_its_recipe(machine, model, recipe):
    machine.gpus()
    machine.script(recipe, 'echo "recipe $* | ${TASKS-unset} ${JUDGE-unset} ${OUTPUT_DIR-unset}" >>"$CALLS"\n')
    done = machine.run("run_medgrpo.sh", "data.seed=5", MODEL=model, MODEL_PATH="sft")
    assert f"8 GPUs found and MODEL_PATH is sft: running examples/{recipe}" in done.stdout
    # The CPU run's own defaults stay here.
    assert machine.calls() == ["recipe data.seed=5 | unset unset unset"]


# ---- the CPU run -------------------------------------------------------------------------------------------------


def test_the_plan_of_todays_default_is_the_former_one(machine):
    assert machine.run("run_medgrpo.sh", OUTPUT_DIR="out").returncode == 0
    file = machine.folder / "out/plan.json"
    assert json.loads(file.read_text()) == PLAN
    file.write_text(json.dumps(PLAN))
    assert machine.run("run_medgrpo.sh", OUTPUT_DIR="out", TASKS="all", JUDGE="offline").returncode == 0
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", TASKS="tal")
    assert done.returncode == 2 and "holds another run, with tasks unset and not tal: choose" in done.stderr


def test_tasks_and_no_judge_reach_the_training_and_not_the_evaluation(machine):
    done = machine.run("run_medgrpo.sh", "data.seed=7", OUTPUT_DIR="out", TASKS="vs  rc", JUDGE="none", COMPLETE="1")
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads((machine.folder / "out/plan.json").read_text())
    assert plan == PLAN | {"training_judge": "none", "tasks": "vs rc", "overrides": "data.seed=7"}
    stages = [call.split(" | ")[0].split() for call in machine.calls()]
    (trained,) = [words for words in stages if "verl.trainer.main_ppo" in words]
    assert "data.medgrpo.tasks=[vs,rc]" in trained
    assert "reward.custom_reward_function.reward_kwargs.judge=null" in trained
    assert trained[-1] == "data.seed=7"
    assert stages[-1][-4:] == ["report", str(machine.folder / "out"), "--output", str(machine.folder / "out/report")]
    (checked,) = [words for words in stages if "preflight" in words]
    assert after(checked, "--tasks") == after(checked, "--rewarded-tasks") == ["vs", "rc"]
    scored = [words for words in stages if "calibrate" in words or "--samples" in words]
    assert len(scored) == 3
    assert all(after(words, "--judge") == ["offline"] and "--tasks" not in words for words in scored)


def test_what_makes_a_run_another_one_is_part_of_its_plan(machine):
    """Overrides of the method and the calibration's size; where a run saves its checkpoints may change."""
    settings = {"OUTPUT_DIR": "out", "COMPLETE": "1", "CALIBRATION_ROWS": "16"}
    assert machine.run("run_medgrpo.sh", "+data.medgrpo.mix=pairs", "trainer.save_freq=4", **settings).returncode == 0
    plan = PLAN | {"calibration_rows": 16, "calibration_samples": 4, "overrides": "+data.medgrpo.mix=pairs"}
    assert json.loads((machine.folder / "out/plan.json").read_text()) == plan
    done = machine.run("run_medgrpo.sh", "+data.medgrpo.mix=tasks", **settings)
    assert done.returncode == 2
    assert "with overrides +data.medgrpo.mix=pairs and not +data.medgrpo.mix=tasks" in done.stderr


def test_trackers_reach_the_training_beside_the_loggers_that_are_read(machine):
    done = machine.run(
        "run_medgrpo.sh", OUTPUT_DIR="out", LOGGER="tensorboard wandb", LOGGER_IMAGE_EVERY="5", COMPLETE="1"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (trained,) = [call.split() for call in machine.calls() if "verl.trainer.main_ppo" in call]
    assert "trainer.logger=[console,file,tensorboard,wandb]" in trained
    assert "trainer.v1.sampler.sampler_kwargs.image_every=5" in trained


def test_shared_data_are_taken_as_they_are(machine):
    (machine.folder / "out").mkdir()
    (machine.folder / "out/shared").write_text("the run before\n")
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", COMPLETE="1")
    assert done.returncode == 0 and "data and model: shared with the run before" in done.stdout
    assert not any(
        name in call for call in machine.calls() for name in ("synthetic.py", "medvidbench.py", "tiny_model")
    )
    assert any("verl.trainer.main_ppo" in call for call in machine.calls())


def test_the_settings_of_the_collapse_study_reach_stages_and_plan(machine):
    overrides = "+reward.custom_reward_function.reward_kwargs.tal_wasserstein=true"
    settings = {"WORLD": "heterogeneous", "LR": "0.3", "LINEAR_SHARE": "0", "EVAL_STEPS": "5 10", "EVAL_SEED": "7"}
    done = machine.run("run_medgrpo.sh", overrides, OUTPUT_DIR="out", COMPLETE="1", **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    more = {"world": "heterogeneous", "learning_rate": "0.3", "linear_share": 0}
    assert json.loads((machine.folder / "out/plan.json").read_text()) == PLAN | more | {"overrides": overrides}
    stages = [call.split(" | ")[0].split() for call in machine.calls()]
    (made,) = [words for words in stages if "--world" in words]
    assert after(made, "--world") == ["heterogeneous"]
    (trained,) = [words for words in stages if "verl.trainer.main_ppo" in words]
    assert {
        "actor_rollout_ref.actor.optim.lr=0.3",
        "reward.custom_reward_function.reward_kwargs.linear_share=0",
        "trainer.max_actor_ckpt_to_keep=null",
    } <= set(trained)
    looks = [words for words in stages if "sample" in words]
    assert [after(words, "--output")[0] for words in looks] == [
        f"eval/{x}" for x in ("sft", "step_5", "step_10", "medgrpo")
    ]
    assert {after(words, "--seed")[0] for words in looks} == {"7"}
    assert after(looks[1], "--model")[0].endswith("grpo/global_step_5/actor/huggingface")
    # What calibration measures and preflight asks for follows the override.
    assert sum("--tal-wasserstein" in words for words in stages if {"calibrate", "preflight"} & set(words)) == 2


def test_only_sft_stops_before_the_training(machine):
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", ONLY_SFT="yes", COMPLETE="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((machine.folder / "out/plan.json").read_text()) == PLAN | {"only_sft": "yes"}
    last = machine.calls()[-1].split(" | ")[0].split()
    assert "sample" in last and after(last, "--output") == ["eval/sft"]
    assert not any("main_ppo" in call or "preflight" in call for call in machine.calls())


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"WORLD": "hard"}, "run_medgrpo: WORLD is 'hard', expected even or heterogeneous"),
        ({"LR": "fast"}, "run_medgrpo: LR is 'fast', expected a number"),
        (
            {"EVAL_STEPS": "7"},
            "run_medgrpo: EVAL_STEPS: '7', expected multiples of SAVE_FREQ, 5, below STEPS, 20",
        ),
        ({"TASKS": "tal sgt"}, "run_medgrpo: TASKS: 'sgt', expected all or some of tal stg dvc nap vs rc sa cvs qa"),
        ({"TASKS": " "}, "run_medgrpo: TASKS is blank, expected all or some of tal stg dvc nap vs rc sa cvs qa"),
        ({"JUDGE": "gpt"}, "run_medgrpo: JUDGE 'gpt': expected offline or openai or none"),
        ({"STILLS": "1", "RECIPE": "gpu"}, "run_medgrpo: STILLS is '1', expected RECIPE=cpu beside it"),
        ({"LORA_RANK": "8"}, "run_medgrpo: LORA_RANK is '8', expected RECIPE=gpu beside it"),
        ({"ROLLOUT_TP": "2"}, "run_medgrpo: ROLLOUT_TP is '2', expected RECIPE=gpu beside it"),
        (
            {"LOGGER": "tensorbord"},
            "run_medgrpo: LOGGER: 'tensorbord', expected some of wandb tensorboard trackio mlflow swanlab",
        ),
        (
            {"JUDGE": "none", "SCORING_JUDGE": "router"},
            "run_medgrpo: SCORING_JUDGE 'router': expected offline or openai",
        ),
    ],
)
def test_bad_settings_of_the_cpu_run_are_one_line(machine, settings, line):
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", **settings)
    assert done.returncode == 2 and said(done)[0] == line
    assert not (machine.folder / "out").exists()


@pytest.mark.parametrize(("arm", "rows"), [("1", "interventions"), ("gold", "gold")])
def test_interventions_stand_between_sft_and_calibration(machine, arm, rows):
    """What is calibrated and trained by GRPO is the model that was trained on the corrections."""
    trained = machine.folder / "out/int/sft"
    made = f"mkdir -p {trained}; echo 9 >{trained}/latest_checkpointed_iteration.txt"
    machine.tool("torchrun", f"{PYTHON}\n[[ $* != *int/sft* ]] || {{ {made}; }}")
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", INTERVENE=arm, COMPLETE="1")
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads((machine.folder / "out/plan.json").read_text())
    assert plan == PLAN | {"intervene": 1 if arm == "1" else arm, **INTERVENED}
    calls = [call.split(" | ")[0].split() for call in machine.calls()]
    named = [words[3] if "recipes.medgrpo" in words else words[-1] for words in calls]
    before, found, after_sft = (place for place, name in enumerate(named) if name in ("calibrate", "intervene"))
    out = str(machine.folder / "out")
    sft, corrected = f"{out}/sft/global_step_300/huggingface", f"{out}/int/sft/global_step_9/huggingface"
    assert [after(calls[place], "--model") for place in (before, found, after_sft)] == [[sft], [sft], [corrected]]
    assert after(calls[before], "--output") == ["int/statistics.json"]
    assert after(calls[found], "--recorded") == ["int/raw_signals.jsonl"]
    assert after(calls[found], "--data") == ["data/train.parquet"]
    trained = next(words for words in calls[found:after_sft] if "verl.trainer.sft_trainer" in words)
    assert f"data.train_files='{out}/int/{rows}.parquet'" in trained and f"model.path='{sft}'" in trained
    assert "trainer.total_epochs=4" in trained and "trainer.total_training_steps=null" in trained
    evaluated = [after(words, "--model") for words in calls if "sample" in words]
    assert evaluated[:2] == [[sft], [corrected]] and len(evaluated) == 3


def test_the_gpu_recipes_configuration_has_interventions_too(machine):
    """The recipe for SFT runs twice, and starts no interventions of its own."""
    machine.script(
        "run_sft_qwen2_5_vl_7b.sh",
        f'echo "${{INTERVENE-unset}} $MODEL_PATH ${{TRAIN_FILE:-}}" >>"{machine.folder}/recipes"\n'
        'echo 9 >"$OUTPUT_DIR/checkpoints/latest_checkpointed_iteration.txt"\n',
    )
    machine.script("run_medgrpo_qwen2_5_vl_7b.sh", f'echo "$MODEL_PATH" >>"{machine.folder}/recipes"\n')
    out = machine.folder / "out"
    (out / "int").mkdir(parents=True)  # what the pretended commands do not write
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", RECIPE="gpu", INTERVENE="1", COMPLETE="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (machine.folder / "recipes").read_text().splitlines() == [
        f" {out}/model ",
        f" {out}/sft/global_step_300/huggingface {out}/int/interventions.parquet",
        f"{out}/int/sft/global_step_9/huggingface",
    ]


def test_another_word_for_interventions_is_refused(machine):
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR="out", INTERVENE="yes")
    assert done.returncode == 2 and said(done) == ["run_medgrpo: INTERVENE is 'yes', expected 1 or gold"]


# ---- interventions on GPUs ---------------------------------------------------------------------------------------


def test_interventions_record_correct_and_train_with_the_published_settings(machine):
    recorded, corrected, trained = machine.dry(
        "run_intervene.sh", **PLACES, OUTPUT_DIR="int", JUDGE="offline", N_GPUS="4", MODEL="qwen3_vl"
    )
    assert after(recorded, "--output") == ["int/statistics.json"] and after(recorded, "--rows-per-pair") == ["256"]
    assert after(corrected, "--recorded") == ["int/raw_signals.jsonl"]
    assert after(corrected, "--continuations") == ["8"] and after(corrected, "--output") == ["int"]
    for command in (recorded, corrected):
        assert after(command, "--model") == ["sft"] and after(command, "--data") == ["data/train.parquet"]
        assert after(command, "--engine") == ["rollout"] and after(command, "--judge") == ["offline"]
        assert "trainer.n_gpus_per_node=4" in after(command, "--override")
    settings = dict(word.split("=", 1) for word in trained if "=" in word)
    assert settings["TRAIN_FILE"] == "int/interventions.parquet" and settings["OUTPUT_DIR"] == "int/sft"
    assert (settings["EPOCHS"], settings["LR"], settings["TRAIN_BATCH_SIZE"]) == ("4", "1e-6", "64")
    assert (settings["optim.lr_scheduler_type"], settings["optim.min_lr_ratio"]) == ("cosine", "0.1")
    assert trained[-3].endswith("examples/run_sft_qwen3_vl_4b.sh") and settings["INTERVENE"] == ""


def test_the_commands_of_interventions_are_ones_that_calibrate_and_intervene_take(machine):
    from recipes.medgrpo import calibrate, intervene

    recorded, corrected, _ = machine.dry("run_intervene.sh", **PLACES, JUDGE="offline")
    assert calibrate.parse(recorded[4:]).samples == 4
    parsed = intervene.parse(corrected[4:])
    assert (parsed.per_prompt, parsed.per_pair, parsed.continuations, parsed.temperature) == (2, 256, 8, 1.0)


def test_an_sft_recipe_goes_on_with_interventions_on_the_model_that_it_trained(machine):
    *_, trained, on = machine.dry(
        "run_sft_qwen2_5_vl_7b.sh", **PLACES, OUTPUT_DIR="out", INTERVENE="gold", JUDGE="offline"
    )
    assert "verl.trainer.sft_trainer" in trained
    settings = dict(word.split("=", 1) for word in on if "=" in word)
    assert on[-1].endswith("examples/run_intervene.sh") and settings["INTERVENE"] == "gold"
    assert settings["MODEL_PATH"] == "out/checkpoints/global_step_N/huggingface"
    assert (settings["OUTPUT_DIR"], settings["DATA_DIR"], settings["JUDGE"]) == ("out/int", "data", "offline")
    # Its own rate and length are not those of the stage.
    assert (settings["EPOCHS"], settings["LR"]) == ("", "")


# ---- calibration and evaluation ----------------------------------------------------------------------------------


def test_calibration_asks_the_servers_of_the_training(machine):
    check, command = machine.dry(
        *("run_calibrate.sh", "actor_rollout_ref.rollout.max_num_seqs=32"),
        **PLACES,
        STATISTICS="cal/statistics.json",
        N_GPUS="4",
        ROLLOUT_TP="2",
        JUDGE_MODEL="open judge",
        JUDGE_BASE_URL="http://127.0.0.1:8000/v1",
    )
    assert check[:4] == ["python", "-m", "recipes.medgrpo", "judge_check"] and "--judge-ping" not in check
    assert command[:4] == ["python", "-m", "recipes.medgrpo", "calibrate"]
    for flag, value in (
        ("--model", "sft"),
        ("--data", "data/train.parquet"),
        ("--output", "cal/statistics.json"),
        ("--engine", "rollout"),
        ("--config", "medgrpo_gpu"),
        ("--temperature", "1.0"),
        ("--judge", "openai"),
        ("--judge-model", "open judge"),
        ("--judge-store", "cal/judge"),
    ):
        assert after(command, flag) == [value]
    assert after(command, "--override") == [
        "trainer.n_gpus_per_node=4",
        "trainer.nnodes=1",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.85",
        "actor_rollout_ref.rollout.max_num_seqs=32",
    ]


def test_the_overrides_are_ones_that_the_gpu_configuration_takes(machine):
    from recipes.medgrpo.rollout.standalone import compose_config

    (command,) = machine.dry("run_calibrate.sh", **PLACES, JUDGE="offline", N_GPUS="4")
    config = compose_config("medgrpo_gpu", after(command, "--override"), "sft")
    assert (config.trainer.n_gpus_per_node, config.actor_rollout_ref.rollout.gpu_memory_utilization) == (4, 0.85)


def test_an_evaluation_answers_greedily_and_scores_in_both_modes(machine):
    check, answer, board, board_against, strict, strict_against = machine.dry(
        *("run_evaluate.sh", "--one-shot", "data/train.parquet"),
        **PLACES,
        OUTPUT_DIR="eval",
        COMPARE="other.json",
        ROLLOUT_TP="2",
    )
    assert check[:4] == ["python", "-m", "recipes.medgrpo", "judge_check"]
    assert answer[:4] == ["python", "-m", "recipes.medgrpo", "generate"]
    for flag, value in (
        *(("--engine", "vllm"), ("--model", "sft"), ("--data", "data/val.parquet"), ("--output", "eval/answers.json")),
        *(("--temperature", "0"), ("--data-parallel", "4"), ("--tensor-parallel-size", "2")),
    ):
        assert after(answer, flag) == [value]
    assert answer[-2:] == ["--one-shot", "data/train.parquet"]
    for mode, command in (("leaderboard", board), ("strict", strict)):
        assert after(command, "--results") == ["eval/answers.json"]
        assert after(command, "--ground-truth") == ["data/val.parquet"]
        assert (after(command, "--mode"), after(command, "--output")) == ([mode], [f"eval/{mode}"])
        assert after(command, "--blind-baseline") == ["data/train.parquet"]
        assert after(command, "--judge") == ["openai"]
    for mode, command in (("leaderboard", board_against), ("strict", strict_against)):
        assert after(command, "compare") == ["other.json", "eval/answers.json"]
        assert (after(command, "--mode"), after(command, "--output")) == ([mode], [f"eval/compare_{mode}"])


def test_the_commands_of_an_evaluation_are_ones_that_generate_and_evaluate_take(machine):
    from recipes.medgrpo import evaluate, generate

    commands = machine.dry("run_evaluate.sh", **PLACES, JUDGE="none", COMPARE="other.json", OUTPUT_DIR="eval")
    parsed = generate.parse(commands[0][4:])
    assert (parsed.data_parallel, parsed.temperature) == (8, 0.0)
    board, _, strict, _ = (evaluate.parse(command[4:]) for command in commands[1:])
    # Without a judge the leaderboard's judged columns are left out; the strict score of a caption needs one.
    assert (board.mode, board.judge) == ("leaderboard", None)
    assert (strict.mode, strict.judge) == ("strict", "offline")


def test_test_rows_become_a_submission_and_ask_no_judge(machine):
    answer, made, checked = machine.dry("run_evaluate.sh", **PLACES, EVAL_DATA="data/test.parquet", OUTPUT_DIR="eval")
    assert after(answer, "--data") == ["data/test.parquet"]
    assert after(made, "--results") == ["eval/answers.json"] and after(made, "--output") == ["eval/submission.json"]
    assert after(checked, "--check") == ["eval/submission.json"]
    assert after(made, "--test") == after(checked, "--test") == ["data/test.parquet"]


def test_test_rows_with_answers_elsewhere_are_scored(machine):
    commands = machine.dry(
        *("run_evaluate.sh",), **PLACES, EVAL_DATA="data/test.parquet", GROUND_TRUTH="answers.json", JUDGE="offline"
    )
    assert [command[3] for command in commands] == ["generate", "evaluate", "evaluate"]
    assert after(commands[1], "--ground-truth") == ["answers.json"]


def test_what_runs_is_what_a_dry_run_shows(machine):
    machine.gpus()
    settings = PLACES | KEYS | {"OUTPUT_DIR": "eval", "STATISTICS": "statistics.json"}
    for script in ("run_calibrate.sh", "run_evaluate.sh"):
        shown = machine.dry(script, **settings)
        done = machine.run(script, **settings)
        assert done.returncode == 0, done.stderr[-2000:]
        ran = [call.split(" | ")[0].replace(f"{machine.folder}/", "") for call in machine.calls()]
        assert ran == ["environment gpu", *(" ".join(command) for command in shown)]
        assert SECRET not in done.stdout + done.stderr + "".join(ran)
        (machine.folder / "calls").unlink()


def test_everything_wrong_is_one_list_and_nothing_starts(machine):
    for script, missing in (
        ("run_calibrate.sh", ("MODEL_PATH", "DATA_DIR", "no key for the judge", "0 GPUs found", "SEED is 'x'")),
        ("run_evaluate.sh", ("MODEL_PATH", "EVAL_DATA", "no key for the judge", "SEED is 'x'", "N_GPUS is 'all'")),
        ("run_judge_server.sh", ("JUDGE_MODEL_PATH is not set", "JUDGE_HOST is '0.0.0.0'", "JUDGE_TP is 'two'")),
    ):
        odd = {"SEED": "x", "JUDGE_HOST": "0.0.0.0", "JUDGE_TP": "two"}
        done = machine.run(script, **odd | ({"N_GPUS": "all"} if script == "run_evaluate.sh" else {}))
        assert done.returncode == 2
        lines = said(done)
        wanted = [name for name in missing if "GPUs found" not in name]
        assert all(any(name in line for line in lines) for name in wanted), lines
        assert machine.calls() == []
    done = machine.run("run_calibrate.sh")
    assert any("0 GPUs found, N_GPUS is 8" in line for line in said(done))


@pytest.mark.parametrize(
    ("script", "settings", "line"),
    [
        ("run_calibrate.sh", {"ROLLOUT_TP": "3"}, "ROLLOUT_TP is 3, expected a divisor of N_GPUS, which is 8"),
        ("run_calibrate.sh", {"CONFIG": "mine"}, "CONFIG is 'mine', expected medgrpo_gpu or medgrpo_cpu"),
        ("run_calibrate.sh", {"TEMPERATURE": "warm"}, "TEMPERATURE is 'warm', expected a number"),
        ("run_evaluate.sh", {"ENGINE": "sglang"}, "ENGINE is 'sglang', expected vllm or transformers"),
        (
            "run_evaluate.sh",
            {"COMPARE": "a.json", "GROUND_TRUTH": ""},
            "COMPARE is set and GROUND_TRUTH is empty: expected both or neither",
        ),
        ("run_judge_server.sh", {"JUDGE_PORT": "http"}, "JUDGE_PORT is 'http', expected a whole number above 0"),
        (
            "run_judge_server.sh",
            {"JUDGE_DEVICES": "6,7", "JUDGE_TP": "4"},
            "JUDGE_DEVICES '6,7' names 2 GPUs, JUDGE_TP x JUDGE_DP is 4",
        ),
    ],
)
def test_a_setting_that_is_none_stops_even_a_dry_run(machine, script, settings, line):
    done = machine.run(script, "--dry-run", **PLACES, **settings)
    assert done.returncode == 2 and done.stdout == ""
    assert f"{script.removesuffix('.sh')}: {line}" in said(done)


@pytest.mark.parametrize("script", ["run_calibrate.sh", "run_evaluate.sh", "run_judge_server.sh", "run_ablation.sh"])
def test_no_key_is_shown(machine, script):
    for arguments in (["--dry-run", "A"], ["A"]) if script == "run_ablation.sh" else (["--dry-run"], []):
        # An unknown judge and an unknown port stop what is not a dry run.
        odd = {} if "--dry-run" in arguments else {"JUDGE": "gpt", "JUDGE_PORT": "0"}
        done = machine.run(script, *arguments, **KEYS, **PLACES, **odd)
        assert done.returncode == (2 if odd else 0), done.stderr[-1000:]
        assert SECRET not in done.stdout + done.stderr


# ---- the judge's server ------------------------------------------------------------------------------------------

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *about):
        pass
flags = dict(zip(sys.argv, sys.argv[1:]))
with open(os.environ["CALLS"], "a") as calls:
    calls.write(" ".join(["vllm", *sys.argv[1:]]) + "\\n")
with open(os.environ["CALLS"] + ".server", "w") as about:
    about.write(f"{os.getpid()} {os.environ.get('VLLM_API_KEY')} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
if "fail" in sys.argv:
    sys.exit("no such model")
http.server.HTTPServer((flags["--host"], int(flags["--port"])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def judge(machine):
    machine.gpus()
    machine.tool("vllm", SERVER, f"#!{sys.executable}")
    machine.env |= {"JUDGE_MODEL_PATH": "some/open-judge", "JUDGE_PORT": str(free_port()), "JUDGE_READY_S": "60"}
    return machine


def test_a_judge_serves_until_it_is_ended_and_leaves_nothing(judge, tmp_path):
    command = ["bash", str(judge.examples / "run_judge_server.sh"), "--quantization", "fp8"]
    output = tmp_path / "output"
    with open(output, "w") as out:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=judge.env | KEYS | {"JUDGE_DEVICES": "7"}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        while "The judge is ready." not in output.read_text():
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()[-2000:]
            time.sleep(0.1)
        pid, key, devices = Path(f"{judge.env['CALLS']}.server").read_text().split()
        assert (key, devices) == (SECRET, "7")
        port = judge.env["JUDGE_PORT"]
        text = output.read_text()
        assert f"export JUDGE_BASE_URL=http://127.0.0.1:{port}/v1\nexport JUDGE_MODEL=open-judge\n" in text
        environment, served, checked = judge.calls()
        assert environment == "environment gpu"
        assert served.startswith(
            f"vllm serve some/open-judge --served-model-name open-judge --host 127.0.0.1 --port {port}"
        )
        assert served.endswith("--quantization fp8")
        assert "-m recipes.medgrpo judge_check " in checked and "--judge-ping" in checked
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=60)
    assert status == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert SECRET not in output.read_text() + "".join(judge.calls())


def test_a_server_that_cannot_start_is_said(judge):
    done = judge.run("run_judge_server.sh", "fail")
    assert done.returncode == 1
    assert said(done) == ["run_judge_server: the server ended before it was ready, its output is above"]
    assert "no such model" in done.stderr and "The judge is ready" not in done.stdout


def test_a_judge_that_cannot_judge_is_not_ready(judge):
    judge.tool("python", "exit 2")
    done = judge.run("run_judge_server.sh")
    assert done.returncode == 1 and "could not judge a pair" in done.stderr
    pid = int(Path(f"{judge.env['CALLS']}.server").read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_port_that_is_taken_is_refused(judge):
    with socket.create_server(("127.0.0.1", int(judge.env["JUDGE_PORT"]))):
        done = judge.run("run_judge_server.sh")
    assert done.returncode == 2 and "something answers there already" in said(done)[0]


def test_a_server_for_others_needs_a_key_that_is_one(judge):
    done = judge.run("run_judge_server.sh", JUDGE_HOST="0.0.0.0", MEDGRPO_JUDGE_API_KEY="")
    assert done.returncode == 2 and judge.calls() == []
    assert "which others can reach: set MEDGRPO_JUDGE_API_KEY" in said(done)[0]
    shown = judge.run("run_judge_server.sh", "--dry-run", JUDGE_HOST="0.0.0.0", MEDGRPO_JUDGE_API_KEY=SECRET)
    assert shown.returncode == 0 and SECRET not in shown.stdout + shown.stderr


# ---- the ablation ------------------------------------------------------------------------------------------------

PAPERS = "tal stg vs rc"


def settings_of(command: list[str]) -> dict[str, str]:
    """The variables before a command."""
    return dict(word.split("=", 1) for word in command[: command.index("bash")])


def test_rows_on_the_cpu_share_the_run_before_them(machine):
    first, *rows, table = machine.dry("run_ablation.sh", *"ABCDEF", "data.seed=3", OUTPUT_DIR="out", SEED="2")
    shared = {"OUTPUT_DIR": "out", "SEED": "2", "TASKS": "all", "NORMALIZER": "logistic", "ADVANTAGE": "grpo"}
    assert settings_of(first) == shared and first[-1] == "checkout/examples/run_medgrpo.sh"
    found = {}
    for name, command in zip("ABCDEF", rows, strict=True):
        settings = settings_of(command)
        assert (settings.pop("OUTPUT_DIR"), settings.pop("SEED")) == (f"out/rows/{name}", "2")
        assert command[-2:] == ["checkout/examples/run_medgrpo.sh", "data.seed=3"]
        found[name] = settings
    usual = {"TASKS": PAPERS, "NORMALIZER": "logistic", "ADVANTAGE": "grpo", "JUDGE": "offline"}
    assert found == {
        "A": usual,
        "B": usual | {"NORMALIZER": "none"},
        "C": usual | {"TASKS": "tal stg"},
        "D": usual | {"TASKS": "vs rc"},
        "E": usual | {"TASKS": "vs rc", "JUDGE": "none", "SCORING_JUDGE": "offline"},
        "F": usual | {"TASKS": "all"},
    }
    assert table[2:5] == ["-m", "recipes.medgrpo", "ablation"]
    assert (after(table, "--runs"), after(table, "--output")) == (["out"], ["out/rows"])
    assert after(table, "--judge") == ["offline"]


def test_the_table_alone_and_several_seeds(machine):
    (table,) = machine.dry("run_ablation.sh", "table", OUTPUT_DIR="out", SEEDS="0 1")
    assert (after(table, "--runs"), after(table, "--output")) == (["out/seed0", "out/seed1"], ["out"])
    commands = machine.dry("run_ablation.sh", "B", OUTPUT_DIR="out", SEEDS="0 1")
    folders = [settings_of(command)["OUTPUT_DIR"] for command in commands[:-1]]
    assert folders == ["out/seed0", "out/seed0/rows/B", "out/seed1", "out/seed1/rows/B"]


def test_a_row_on_the_cpu_starts_from_links_to_the_shared_stages(machine):
    """The run before it is pretended; F, which rewards what that run rewards, takes its training too."""
    parts = "synthetic data model sft eval/sft eval/medgrpo grpo attempts"
    machine.script(
        "run_medgrpo.sh",
        f'mkdir -p "$OUTPUT_DIR" && cd "$OUTPUT_DIR"\n[[ $OUTPUT_DIR != */rows/* ]] || exit 0\n'
        f"for part in {parts}; do mkdir -p $part; echo $part >$part/file; done\n"
        "echo statistics >statistics.json; echo raw >raw_signals.jsonl\n",
    )
    done = machine.run("run_ablation.sh", "B", "F", OUTPUT_DIR="out")
    assert done.returncode == 0, done.stderr[-2000:]
    run, rows = machine.folder / "out", machine.folder / "out/rows"
    for part in ("data/file", "sft/file", "eval/sft/file", "statistics.json", "raw_signals.jsonl"):
        assert (rows / "B" / part).samefile(run / part)
    # What made the data is not repeated: other paths in the rows would be other data.
    assert (rows / "B/shared").read_text() == f"{run}\n"
    assert not (rows / "B/grpo").exists() and not (rows / "B/eval/medgrpo").exists()
    assert (rows / "F/grpo/file").samefile(run / "grpo/file")
    assert machine.calls()[-1].startswith("python -m recipes.medgrpo ablation --runs ")


def test_a_row_may_have_settings_that_hydra_alone_knows(machine):
    """They stand before the user's own, which win. A signal more is measured by the row's own calibration."""
    machine.script(
        "run_medgrpo.sh",
        'echo "$OUTPUT_DIR: $*" >>said; mkdir -p "$OUTPUT_DIR" && cd "$OUTPUT_DIR"\n'
        "[[ $OUTPUT_DIR != */rows/* ]] || exit 0\n"
        "mkdir -p data model sft eval/sft; touch statistics.json raw_signals.jsonl\n",
    )
    done = machine.run("run_ablation.sh", "settled_by", "tal_wasserstein", "data.seed=3", OUTPUT_DIR="a R&D run")
    assert done.returncode == 0, done.stderr[-2000:]
    run = machine.folder / "a R&D run"
    added = {
        "settled_by": f"data.medgrpo.settled_by='{run}/raw_signals.jsonl'",
        "tal_wasserstein": "++reward.custom_reward_function.reward_kwargs.tal_wasserstein=true",
    }
    wanted = [f"{run}/rows/{name}: {more} data.seed=3" for name, more in added.items()]
    assert (machine.folder / "said").read_text().splitlines() == [f"{run}: ", *wanted]
    for part in ("statistics.json", "raw_signals.jsonl"):
        assert (run / "rows/settled_by" / part).samefile(run / part)
        assert not (run / "rows/tal_wasserstein" / part).exists()


def test_rows_on_gpus_are_the_recipe_and_its_evaluation(machine):
    machine.gpus()
    settings = {"MODEL": "qwen3_vl", "OUTPUT_DIR": "out", **PLACES, "STEPS": "50"}
    before, trained, plan, evaluated, table = machine.dry("run_ablation.sh", "E", "trainer.save_freq=10", **settings)
    truth = {"EVAL_DATA": "data/val.parquet", "GROUND_TRUTH": "data/val.parquet", "JUDGE": "openai"}
    assert settings_of(before) == {"OUTPUT_DIR": "out/eval/sft", "MODEL_PATH": "sft", **truth}
    assert settings_of(trained) == {
        **{"OUTPUT_DIR": "out/rows/E", "TASKS": "vs rc", "NORMALIZER": "logistic", "ADVANTAGE": "grpo"},
        **{"JUDGE": "none", "SCORING_JUDGE": "openai"},
    }
    assert trained[-2:] == ["checkout/examples/run_medgrpo_qwen3_vl_4b.sh", "trainer.save_freq=10"]
    recorded = dict(word.split("=", 1) for word in plan[-7:])
    expected = {"model": "qwen3_vl", "steps": "50", "tasks": "vs rc", "normalizer": "logistic", "advantage": "grpo"}
    assert recorded == expected | {"training_judge": "none", "overrides": ""}
    checkpoint = "out/rows/E/checkpoints/global_step_50/actor/huggingface"
    assert settings_of(evaluated) == {"OUTPUT_DIR": "out/rows/E/eval/medgrpo", "MODEL_PATH": checkpoint, **truth}
    assert (after(table, "--runs"), after(table, "--model-family")) == (["out"], ["qwen3_vl"])
    assert after(table, "--judge-store") == ["out/judge"] and after(table, "--judge") == ["openai"]

    # What the calibration wrote lies beside its statistics.
    _, otherwise, *_ = machine.dry("run_ablation.sh", "settled_by", **settings, STATISTICS="made/statistics.json")
    assert otherwise[-1] == "data.medgrpo.settled_by='made/raw_signals.jsonl'"

    # A row that is trained is only evaluated.
    (machine.folder / checkpoint).mkdir(parents=True)
    (machine.folder / checkpoint / "config.json").touch()
    # Killed before the weights were written.
    assert machine.dry("run_ablation.sh", "E", "trainer.save_freq=10", **settings)[1] == trained
    (machine.folder / checkpoint / "../../data.pt").touch()
    assert machine.dry("run_ablation.sh", "E", **settings) == [before, plan, evaluated, table]


def test_every_row_of_the_table_can_be_named(machine):
    from recipes.medgrpo.studies.ablation.variants import ROWS

    _, *rows, _ = machine.dry("run_ablation.sh", *ROWS, OUTPUT_DIR="out")
    assert [settings_of(command)["OUTPUT_DIR"] for command in rows] == [f"out/rows/{name}" for name in ROWS]
    said = machine.run("run_ablation.sh", "--dry-run", "G").stderr
    assert f"expected table or some of {' '.join(ROWS)}" in said


def test_what_a_row_s_own_settings_need_is_missed_before_the_first_training(machine):
    machine.gpus()
    (machine.folder / "made").mkdir()
    (machine.folder / "made/statistics.json").write_text('{"pairs": {"medvidbench/AVOS/tal": {"iou": {}}}}')
    settings = {"OUTPUT_DIR": "out", **PLACES, "STATISTICS": "made/statistics.json"}
    done = machine.run("run_ablation.sh", "A", "settled_by", "tal_wasserstein", **settings)
    assert done.returncode == 2 and "row settled_by: " in done.stderr and "row tal_wasserstein: " in done.stderr
    assert "made/raw_signals.jsonl is missing, expected what run_calibrate.sh wrote beside STATISTICS" in done.stderr
    assert "made/statistics.json does not have its signal, expected run_calibrate.sh --tal-wasserstein" in done.stderr
    assert "row A" not in done.stderr and not any("main_ppo" in call for call in machine.calls())


@pytest.mark.parametrize(
    "argument", ["--tal-wasserstein", "+reward.custom_reward_function.reward_kwargs.tal_wasserstein=true"]
)
def test_the_calibration_can_measure_the_signal_of_that_row(machine, argument):
    (command,) = machine.dry("run_calibrate.sh", argument, **PLACES, JUDGE="offline")
    assert "--tal-wasserstein" in command
    (command,) = machine.dry("run_calibrate.sh", **PLACES, JUDGE="offline")
    assert "--tal-wasserstein" not in command


@pytest.mark.parametrize("script", ["run_calibrate.sh", "run_intervene.sh"])
def test_an_option_that_nothing_reads_is_refused(machine, script):
    done = machine.run(script, "--dry-run", "--tal-waserstein", **PLACES, JUDGE="offline")
    assert done.returncode == 2 and "option '--tal-waserstein': expected " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "line"),
    [
        (["G"], {}, "row 'G': expected table or some of A B C D E F zscore"),
        ([], {}, "no row: expected table or some of A B C"),
        (["A"], {"SEEDS": "0 one"}, "SEEDS: 'one', expected whole numbers"),
        (["A", "--cpu"], {}, "option '--cpu': expected rows, key=value, --dry-run or --cfg job --resolve"),
        (["A"], {"MODEL": "qwen"}, "MODEL is 'qwen', expected qwen2_5_vl or qwen3_5 or qwen3_vl"),
        (["A"], {"JUDGE": "none"}, "JUDGE is 'none': row E is without a judge by itself"),
    ],
)
def test_bad_rows_and_settings_are_named(machine, arguments, settings, line):
    done = machine.run("run_ablation.sh", *arguments, **settings)
    assert done.returncode == 2
    assert any(one.startswith(f"run_ablation: {line}") for one in said(done))
    assert machine.calls() == []


def test_rows_on_gpus_name_everything_that_is_missing_before_the_first(machine):
    machine.gpus()
    done = machine.run("run_ablation.sh", "A", MODEL_PATH="nowhere", STEPS="50", N_GPUS="16")
    assert done.returncode == 2 and machine.calls() == []
    for name in (
        "MODEL_PATH",
        "STATISTICS",
        "DATA_DIR",
        "EVAL_DATA",
        "no key for the judge",
        "8 GPUs found, N_GPUS is 16",
    ):
        assert any(name in line for line in said(done)), name


# ---- the registered trainings of docs/collapse.md ------------------------------------------------------------------


def test_the_registered_trainings_in_their_order(machine):
    *commands, table = machine.dry("run_collapse.sh", OUTPUT_DIR="out")
    found = [settings_of(command) for command in commands]
    models, trained = ([one for one in found if ("ONLY_SFT" in one) is only] for only in (True, False))
    assert [one["OUTPUT_DIR"] for one in models] == [
        f"out/{world}_seed{seed}" for world in ("heterogeneous", "even") for seed in range(3)
    ]
    expected = [
        f"out/{world}_rate{rate}_seed{seed}/{name}"
        for world, rates in (("heterogeneous", ("0.3", "0.1", "control")), ("even", ("0.3", "0.1")))
        for rate in rates
        for seed in range(3)
        for name in ("A", "B", "B_dr_grpo", "adaptive")
        if rate != "control"
    ] + [f"out/heterogeneous_rate0.3_seed{seed}/B_all" for seed in range(3)]
    assert [one["OUTPUT_DIR"] for one in trained] == expected
    for one in trained:
        world, rate, seed = one["OUTPUT_DIR"].split("/")[1].split("_")
        assert (one["WORLD"], f"rate{one['LR']}", f"seed{one['SEED']}") == (world, rate, seed)
    assert after(table, "--runs")[:5] == [*expected[:4], "out/heterogeneous_rate0.3_seed0/B_all"]
    assert len(after(table, "--runs")) == 4 * 3 * 5


@pytest.mark.parametrize("name", ["A", "B", "B_dr_grpo", "adaptive", "B_all"])
def test_a_registered_training_is_the_one_that_the_table_takes_it_for(machine, tmp_path, name):
    """From the driver's variables through the plan that the run writes to the variant that the table reads."""
    from recipes.medgrpo.studies.collapse.hypotheses import Training

    commands = machine.dry("run_collapse.sh", OUTPUT_DIR="out", SEEDS="2", RATES="0.3", WORLDS="heterogeneous")
    (mine,) = [one for one in map(settings_of, commands[:-1]) if one["OUTPUT_DIR"].endswith(f"/{name}")]
    folder = tmp_path / mine.pop("OUTPUT_DIR")
    done = machine.run("run_medgrpo.sh", OUTPUT_DIR=str(folder), COMPLETE="1", **mine)
    assert done.returncode == 0, done.stderr[-2000:]
    found = Training(folder)
    assert (found.variant, found.setting, found.seed) == (name, ("heterogeneous", 0.3), 2)


@pytest.mark.parametrize("together", ["1", "3"])
def test_a_failed_training_ends_its_block_and_a_second_call_goes_on(machine, together):
    """`run_medgrpo.sh` is pretended: it fails for B the first time, and leaves what the real one would."""
    machine.script(
        "run_medgrpo.sh",
        'mkdir -p "$OUTPUT_DIR/eval/sft" && cd "$OUTPUT_DIR"\necho "$OUTPUT_DIR" >>"$HERE/order"\n'
        "if [[ -n ${ONLY_SFT:-} ]]; then mkdir data model sft; echo {} | tee eval/sft/scores.json >statistics.json\n"
        "touch raw_signals.jsonl; exit; fi\n"
        '[[ $OUTPUT_DIR != */B || -f $HERE/mended ]] || { echo "no luck"; exit 3; }\necho {} >plan.json',
    )
    settings = {"OUTPUT_DIR": "out", "SEEDS": "1", "RATES": "0.1", "WORLDS": "even", "HERE": str(machine.folder)}
    done = machine.run("run_collapse.sh", AT_ONCE=together, **settings)
    assert done.returncode == 1 and "run_collapse: a training failed, see above" in done.stderr
    assert "B: no luck" in done.stdout
    order = [Path(line).name for line in (machine.folder / "order").read_text().split()]
    assert order[0] == "even_seed1" and "B" in order
    # Alone, nothing is begun behind the failure.
    assert together != "1" or order == ["even_seed1", "A", "B"]
    (machine.folder / "mended").touch()
    done = machine.run("run_collapse.sh", AT_ONCE=together, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    order = [Path(line).name for line in (machine.folder / "order").read_text().split()]
    assert order.count("even_seed1") == 1 and {"B", "B_dr_grpo", "adaptive"} <= set(order)
    assert (machine.folder / "out/even_rate0.1_seed1/B/shared").read_text() == f"{machine.folder}/out/even_seed1\n"
    assert "--runs" in machine.calls()[-1] and "even_rate0.1_seed1/adaptive" in machine.calls()[-1]


def test_bad_settings_of_the_collapse_study_are_named(machine):
    wrong = {"WORLDS": "odd", "RATES": "x3", "SEEDS": "a", "VARIANTS": "A C", "AT_ONCE": "0"}
    done = machine.run("run_collapse.sh", "now", **wrong)
    assert done.returncode == 2
    assert said(done) == [
        "run_collapse: WORLDS: 'odd', expected heterogeneous or even",
        "run_collapse: RATES: 'x3', expected numbers",
        "run_collapse: SEEDS: 'a', expected whole numbers",
        "run_collapse: VARIANTS: 'C', expected some of A B B_dr_grpo adaptive",
        "run_collapse: AT_ONCE is '0', expected a whole number above 0",
        "run_collapse: argument 'now', expected table, key=value or --dry-run",
    ]
    assert machine.run("run_collapse.sh", "table", OUTPUT_DIR="empty").returncode == 2
