# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The SLURM example with pretended `srun`, `scontrol` and `ray`, which write down how they are called."""

import subprocess
from pathlib import Path

import pytest
from recipe_shell import pretended_machine, program

RL, SFT = "examples/run_medgrpo_qwen2_5_vl_7b.sh", "examples/run_sft_qwen2_5_vl_7b.sh"


@pytest.fixture
def job(tmp_path) -> dict[str, str]:
    """The environment of a job on two nodes, whose recipes only say what they were told."""
    env = pretended_machine(tmp_path)
    tools = tmp_path / "tools"
    program(tools, "scontrol", 'echo "scontrol $*" >>"$CALLS"; printf "%s\\n" node-a node-b')
    # Runs what it is given, here: once for a node, twice for both.
    program(
        tools,
        "srun",
        """echo "srun $*" >>"$CALLS"
tasks=1
while [[ $1 == --* ]]; do
  case $1 in --nodes=*) tasks=${1#*=} ;; esac
  shift
done
((tasks > 1)) || exec "$@"           # as a signal reaches the tasks of srun
for ((task = 0; task < tasks; task++)); do SLURM_NODEID=$task "$@" || exit; done""",
    )
    program(tools, "hostname", "echo 10.0.0.1 fe80::1")
    said = "cpus=${SRUN_CPUS_PER_TASK-} VERL_PLATFORM=${VERL_PLATFORM-none} RAY_ADDRESS=${RAY_ADDRESS-none}"
    program(tools, "ray", f'echo "ray $* {said}" >>"$CALLS"\nexec sleep 60')
    # As many nodes as `ray start` was called; the seconds of a wait are not waited.
    program(tools, "python", 'grep -c "^ray start" "$CALLS"')
    program(tools, "sleep", "case $1 in 60) exec /bin/sleep 60 ;; *) /bin/sleep 0.1 ;; esac")
    for recipe in (RL, SFT):
        told = '"recipe ${0##*/} $* NNODES=$NNODES N_GPUS=$N_GPUS rank=${NODE_RANK-} ${MASTER_ADDR-}${RAY_ADDRESS-}"'
        (tmp_path / "checkout" / recipe).write_text(f'echo {told} >>"$CALLS"; exit ${{STATUS:-0}}\n')
    return env | {
        "SLURM_SUBMIT_DIR": str(tmp_path / "checkout"),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "64",
        "VERL_PLATFORM": "cpu",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "NODES_UP_TRIES": "30",
    }


def submit(job: dict[str, str], tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    command = ["bash", str(tmp_path / "checkout/examples/slurm/medgrpo.sbatch"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=job, capture_output=True, text=True, timeout=60, check=False)
    calls = tmp_path / "calls"
    return done, calls.read_text().splitlines() if calls.exists() else []


def test_ray_is_up_on_all_nodes_before_the_recipe_and_ends_after_it(job, tmp_path):
    done, calls = submit(job, tmp_path, RL, "data.seed=5")
    assert done.returncode == 0, done.stderr[-2000:]
    assert calls[:2] == ["environment gpu", "scontrol show hostnames node-[a-b]"]
    head, worker = [call for call in calls if call.startswith("ray ")]
    assert head.startswith("ray start --block --num-gpus=4 --head --node-ip-address=10.0.0.1 --port=6379 ")
    assert head.endswith(" cpus=64 VERL_PLATFORM=none RAY_ADDRESS=none")
    assert worker.startswith("ray start --block --num-gpus=4 --address=10.0.0.1:6379 ")
    assert any(call.startswith("srun ") and "--nodelist=node-b ray start" in call for call in calls)
    told = f"recipe {Path(RL).name} data.seed=5 NNODES=2 N_GPUS=4 rank= 10.0.0.1:6379"
    assert calls[-1] == told
    # The sleeping servers were ended: nothing of them is left to wait for.
    assert "Ray is up on 2 nodes" in done.stdout


def test_ray_has_all_gpus_of_a_node_also_where_training_has_fewer(job, tmp_path):
    done, calls = submit(job | {"N_GPUS": "3"}, tmp_path, RL)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(" --num-gpus=4 " in call for call in calls if call.startswith("ray "))
    assert " N_GPUS=3 " in calls[-1]


def test_sft_runs_once_on_every_node_without_ray(job, tmp_path):
    done, calls = submit(job, tmp_path, SFT, "data.num_workers=1")
    assert done.returncode == 0, done.stderr[-2000:]
    told = f"recipe {Path(SFT).name} data.num_workers=1 NNODES=2 N_GPUS=4"
    assert calls[-2:] == [f"{told} rank=0 10.0.0.1", f"{told} rank=1 10.0.0.1"]
    assert not any(call.startswith("ray ") for call in calls)


def test_one_node_needs_neither(job, tmp_path):
    done, calls = submit(job | {"SLURM_JOB_NUM_NODES": "1"}, tmp_path, RL)
    assert done.returncode == 0, done.stderr[-2000:]
    assert calls == ["environment gpu", f"recipe {Path(RL).name}  NNODES=1 N_GPUS=4 rank= "]


def test_a_recipe_that_fails_is_a_job_that_fails(job, tmp_path):
    done, _ = submit(job | {"STATUS": "3"}, tmp_path, RL)
    assert done.returncode == 3


def test_nodes_that_do_not_join_are_told_in_time(job, tmp_path):
    program(tmp_path / "tools", "python", "echo 1")
    done, calls = submit(job | {"NODES_UP_TRIES": "3"}, tmp_path, RL)
    assert done.returncode == 2 and "1 of 2 nodes joined Ray" in done.stderr
    assert not any(call.startswith("recipe") for call in calls)


@pytest.mark.parametrize("arguments", [(), ("examples/run_nothing.sh",)])
def test_a_recipe_that_is_none_is_named(job, tmp_path, arguments):
    done, _ = submit(job, tmp_path, *arguments)
    assert done.returncode == 2 and "no such recipe below" in done.stderr
