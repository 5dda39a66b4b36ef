# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The whole pipeline with verl's own vLLM rollout, as a real process: whole, interrupted, and taken up again."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_pipeline import NO_VLLM, ROOT, check_whole, finish, records_of, start, vllm_python

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.skipif(vllm_python() is None, reason=NO_VLLM)]

# Every Python runs this at its start: vLLM's worker then breaks while it loads the weights that come after step 2.
BREAKING = """
from recipes.medgrpo.rollout.after_import import after_import

def mend(module):
    extension = module.vLLMColocateWorkerExtension
    receive, load = extension.update_weights_from_ipc, extension._update_weights

    def update_weights_from_ipc(self, *args, **kwargs):
        self.transfers = getattr(self, "transfers", 0) + 1
        return receive(self, *args, **kwargs)

    def _update_weights(self, weights, **kwargs):
        if self.transfers == 3:
            raise ValueError("this worker breaks")
        return load(self, weights, **kwargs)

    extension.update_weights_from_ipc, extension._update_weights = update_weights_from_ipc, _update_weights

after_import("verl.workers.rollout.vllm_rollout.utils", mend)
"""
COMPARED = re.compile(r"weights: (\d+) tensors sent, (\d+) compared, all equal")


def wait_for(ready: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 1800
    while not ready():
        assert process.poll() is None and time.monotonic() < until, log.read_text()[-4000:]
        time.sleep(0.2)


def weights_of(run: Path) -> list[tuple[str, str]]:
    """Of every transfer, how many tensors were sent, and how many the server compared: all of those were equal."""
    return COMPARED.findall((run / "logs/grpo.log").read_text())


def check_weights(run: Path, transfers: int) -> None:
    """After every transfer a server held what the actor had sent, tensor by tensor."""
    counts = weights_of(run)
    assert len(counts) == transfers
    assert all(sent == compared and int(sent) > 40 for sent, compared in counts), counts


def engine_of(process) -> psutil.Process | None:
    """The process in which a run's vLLM schedules."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "EngineCore" in " ".join(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


def test_a_worker_that_breaks_ends_the_run_and_the_run_goes_on_later(tmp_path):
    run, log, settings = tmp_path / "run", tmp_path / "log", {"ROLLOUT": "vllm", "STEPS": "3"}
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/sitecustomize.py").write_text(BREAKING)
    process = start(run, log, **settings, PYTHONPATH=str(tmp_path / "broken"))
    assert process.wait(timeout=1200) != 0
    said = [line for line in log.read_text().splitlines() if "vLLM's worker failed while it loaded" in line]
    assert said and "this worker breaks" in said[-1], log.read_text()[-4000:]
    check_weights(run, 2)

    # The third step is what is asked for: that such a model is served outside of training, calibration has shown. One
    # transfer when the checkpoint was loaded, one after step 3.
    process, steps = start(run, log, **settings), run / "attempts/grpo_2.jsonl"
    wait_for(lambda: steps.exists() and steps.read_text().endswith("\n") and len(weights_of(run)) == 4, process, log)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=60)
    (record,) = records_of(steps)
    assert record["step"] == 3 and record["data"]["medgrpo/rollouts/failed"] == 0
    assert record["data"]["training/rollout_actor_probs_pearson_corr"] >= 0.999
    check_weights(run, 4)


def test_qwen3_vl_and_a_server_that_is_killed(tmp_path):
    run, log, settings = tmp_path / "run", tmp_path / "log", {"ROLLOUT": "vllm", "STEPS": "2", "MODEL": "qwen3_vl"}
    process = start(run, log, **settings)
    wait_for((run / "grpo/rollouts/step_000001.jsonl").exists, process, log)
    engine_of(process).kill()
    assert process.wait(timeout=600) != 0
    whole = log.read_text() + (run / "logs/grpo.log").read_text()
    # By what the step was at: answering, or sending the weights of the next one.
    endings = ("every rollout failed", "of the rollouts of the last", "EngineDeadError: ")
    assert any(ending in whole for ending in endings), log.read_text()[-4000:]

    finish(start(run, log, **settings), log)
    check_whole(run, 2)


def test_the_gpu_configuration_is_killed_goes_on_and_its_shards_are_merged(tmp_path):
    """Two FSDP2 processes and two vLLM servers in bfloat16, by the scripts of the GPU recipes."""
    run, log = tmp_path / "run", tmp_path / "log"
    settings = {"RECIPE": "gpu", "STEPS": "2", "TRAIN_BATCH_SIZE": "16"}
    process = start(run, log, **settings)
    wait_for((run / "grpo/latest_checkpointed_iteration.txt").exists, process, log)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    finish(start(run, log, **settings), log)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["failed_rollouts"]) == ("complete", 2, 0)
    assert summary["resumed_from"] == 1
    assert all(
        record["training/rollout_actor_probs_pearson_corr"] >= 0.9995
        for record in records_of(run / "metrics.jsonl")
        if record["attempt"] == 2
    )
    pairs = {record["data_source"] for file in (run / "grpo/rollouts").iterdir() for record in records_of(file)}
    assert {pair.rpartition("/")[2] for pair in pairs} == {"tal", "stg", "vs", "rc"}

    # What verl merges of the two processes' shards is what the run saved for others.
    actor = run / "grpo/global_step_2/actor"
    assert len(list(actor.glob("model_world_size_2_rank_*.pt"))) == 2
    merge = ["-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    merge += ["--local_dir", str(actor), "--target_dir", str(run / "merged")]
    env = os.environ | {"PYTHONPATH": str(ROOT), "VERL_PLATFORM": "cpu"}
    env["VERL_USE_EXTERNAL_MODULES"] = "recipes.medgrpo.plugin"
    subprocess.run([vllm_python(), *merge], env=env, check=True, timeout=600)
    from safetensors.torch import load_file

    merged, saved = (load_file(folder / "model.safetensors") for folder in (run / "merged", actor / "huggingface"))
    assert merged.keys() == saved.keys()
    # verl merges into bfloat16.
    assert all((saved[name].to(merged[name].dtype) == merged[name]).all() for name in saved)
