# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The socket of a weight transfer is one per run, also for runs with a Ray cluster of their own."""

from types import SimpleNamespace

import pytest
import ray
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

LAYOUT = dict(tensor_model_parallel_size=1, data_parallel_size=1, pipeline_model_parallel_size=1, layered_summon=False)
# Every cluster counts its jobs from 1.
CLUSTERS = ("10.0.0.1:42001", "10.0.0.1:42002", "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:42001")


class Configured(Exception):
    """The server has set its environment and asks for its configuration."""


@pytest.fixture
def run(monkeypatch):
    """The socket of a run in a cluster, as its trainer and as its vLLM worker name it."""

    def _run(gcs_address):
        def stop(*args):
            raise Configured

        context = SimpleNamespace(get_job_id=lambda: "01000000", gcs_address=gcs_address)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(vLLMHttpServer, "_init_config", stop)
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("RAY_LOCAL_WORLD_SIZE", "1")
        trainer = ServerAdapter(SimpleNamespace(**LAYOUT), None, None).zmq_handle
        with pytest.raises(Configured):
            vLLMHttpServer(None, None, None, [], 0, 0, 1, 1, cuda_visible_devices="0")
        worker = SimpleNamespace(local_rank=0, model_runner=SimpleNamespace())
        return trainer, vLLMColocateWorkerExtension._get_zmq_handle(worker)

    return _run


def test_runs_of_different_clusters_have_different_sockets(run):
    assert len({trainer for trainer, _ in map(run, CLUSTERS)}) == len(CLUSTERS)
    assert len({worker for _, worker in map(run, CLUSTERS)}) == len(CLUSTERS)


@pytest.mark.parametrize("gcs_address", CLUSTERS)
def test_trainer_and_worker_of_a_run_meet(run, gcs_address):
    trainer, worker = run(gcs_address)
    assert trainer == worker
    # The path of a socket holds at most 107 bytes; both ranks may have three digits.
    assert len(trainer.removeprefix("ipc://")) + 4 <= 107
