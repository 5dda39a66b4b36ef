# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The check of one card: what it runs, what it prints, and what it says where there is no card."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_shell import ROOT, program, run

sys.path.insert(0, str(ROOT / "tests/benchmarks"))

SMI = """case $* in
  -L) echo 'GPU 0: NVIDIA H100 80GB HBM3' ;;
  *memory.total,driver*) printf 'name, memory.total [MiB], driver_version\\nH100, 81559 MiB, 580.95.05\\n' ;;
  *) echo "${MIB:-81559}" ;;
esac"""


def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    done = run("run_gpu_check.sh", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    (line,) = done.stderr.splitlines()
    assert line.startswith("run_gpu_check: no GPU found (nvidia-smi -L lists none), nothing was run")


@pytest.fixture
def check(tmp_path):
    """Run it on a pretended machine whose `python` writes two steps' figures, or fails where a call has FAILS in it."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    shutil.copytree(ROOT / "examples", checkout / "examples")
    (checkout / "examples/lib/environment.sh").write_text("ensure_environment() { :; }\n")
    (checkout / "examples/run_medgrpo_qwen3_vl_4b.sh").write_text(
        'echo "recipe $STEPS $N_GPUS $JUDGE $ATTENTION $GPU_GIB | $*" >>"$CALLS"; echo "step 2 done"\n'
    )
    program(tools, "nvidia-smi", SMI)
    body = 'echo "$*" >>"$CALLS"\n[[ -z ${FAILS:-} || $* != *$FAILS* ]] || { echo it broke >&2; exit 3; }\necho said'
    program(tools, "python", body)

    def start(*arguments: str, **settings: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        env = {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls")} | settings
        command = ["bash", str(checkout / "examples/run_gpu_check.sh"), *arguments]
        env |= {"OUTPUT_DIR": str(tmp_path / "out")}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        calls = tmp_path / "calls"
        return done, calls.read_text().splitlines() if calls.exists() else []

    return start


def test_a_dry_run_prints_the_commands_and_starts_none(check, tmp_path):
    done, calls = check("--dry-run")
    assert done.returncode == 0 and calls == [] and not (tmp_path / "out").exists()
    lines = done.stdout.splitlines()
    assert lines[0].startswith("nvidia-smi --query-gpu=name")
    assert any("bench_gpu.py --model Qwen3-VL-2B" in line for line in lines)
    assert any("STEPS=2" in line and "run_medgrpo_qwen3_vl_4b.sh" in line for line in lines)


def test_a_card_is_measured_and_trains_two_steps_by_the_recipe(check):
    done, calls = check("data.seed=7", ATTENTION="sdpa")
    assert done.returncode == 0, done.stderr
    assert [Path(call.split()[0]).name for call in calls[:3]] == ["gpu_steps.py", "synthetic.py", "medvidbench.py"]
    assert any("tiny_model --like Qwen3-VL-2B" in call for call in calls)
    (recipe,) = (call for call in calls if call.startswith("recipe"))
    assert recipe.startswith("recipe 2 1 offline sdpa 78 | ") and recipe.endswith(" data.seed=7")
    report = done.stdout.split("== Paste this into an issue")[1]
    for words in (
        "model: 2b, attention: sdpa",
        "580.95.05",
        "## single passes",
        "step 2 done",
        "## figures of the steps",
    ):
        assert words in report
    # Again, from the start.
    assert check(ATTENTION="sdpa")[0].returncode == 0


def test_a_small_card_gets_the_tiny_model(check):
    _, calls = check(MIB="24564")
    assert any("tiny_model --family qwen3_vl" in call for call in calls)


def test_a_part_that_fails_is_told_and_the_others_go_on(check):
    done, calls = check(FAILS="bench_gpu.py")
    assert done.returncode == 1 and any(call.startswith("recipe") for call in calls)
    assert "it broke\nfailed with status 3" in done.stdout.split("== Paste this")[1]
    done, calls = check(FAILS="calibrate")
    assert done.returncode == 1 and "run_gpu_check: failed: python -m recipes.medgrpo calibrate" in done.stderr


def test_a_folder_that_is_not_its_own_is_left_alone(check, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kept").touch()
    done, calls = check()
    assert done.returncode == 2 and "set OUTPUT_DIR to another folder" in done.stderr
    assert calls == [] and (tmp_path / "out/kept").exists()


def test_figures_of_steps_are_those_that_the_trainer_logged(tmp_path, capsys):
    import gpu_steps

    (tmp_path / "attempts").mkdir()
    lines = [
        json.dumps({"step": step, "data": {"timing_s/step": 10.5 * step, "medgrpo/rollouts/failed": 0, "other": 1}})
        for step in (1, 2)
    ]
    log = tmp_path / "attempts/grpo_1.jsonl"
    log.write_text("\n".join(lines) + "\n")
    assert gpu_steps.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"step {n}; timing_s/step {10.5 * n:g}; medgrpo/rollouts/failed 0" for n in (1, 2)]
    log.write_text(lines[0] + "\n")
    assert gpu_steps.main([str(tmp_path)]) == 1
    log.unlink()
    assert gpu_steps.main([str(tmp_path)]) == 1
    assert "no step was finished" in capsys.readouterr().out
    assert gpu_steps.main([]) == 0
    assert "verl: 0.9.1" in capsys.readouterr().out
