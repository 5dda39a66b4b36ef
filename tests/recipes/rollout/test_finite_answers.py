# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""An answer with a log-probability that is not finite is not scored and does not reach the trainer's queue."""

import asyncio
import math

import pytest
from omegaconf import OmegaConf


class Queue(Exception):
    """The answer has got through to where it is scored."""


@pytest.fixture(params=["verl's", "the CPU run's"])
def worker(request, plugged, monkeypatch):
    """A worker that has not been started by ray."""
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

    from recipes.medgrpo.rollout import agent_loops

    def scored(*args):
        """The first that either does of scoring."""
        raise Queue

    verls = AgentLoopWorkerTQ.__ray_metadata__.modified_class
    worker = object.__new__(verls if request.param == "verl's" else agent_loops.Worker)
    worker._compute_multi_modal_inputs = scored
    monkeypatch.setattr(agent_loops, "load_reward_manager", scored)
    worker.reward_loop_worker_handles, worker.distillation_enabled, worker._rewards = [None], False, None
    worker.config = OmegaConf.create({"reward": {"reward_model": {"enable": False}}})
    worker.tokenizer = None
    return worker


def answered(worker, log_probs):
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    ids = [5] * len(log_probs or [0.0])
    output = AgentLoopOutput(
        prompt_ids=[1, 2],
        response_ids=ids,
        response_mask=[1] * len(ids),
        response_logprobs=log_probs,
        metrics=AgentLoopMetrics(),
    )
    asyncio.run(worker._agent_loop_postprocess(output, False, uid="a", session_id=0, raw_prompt=[]))


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_it_is_a_failed_rollout(worker, value):
    from recipes.medgrpo.rollout.finite_answers import NotFiniteError

    with pytest.raises(NotFiniteError, match="2 of 3 tokens of an answer have a log-probability that is not finite"):
        answered(worker, [-0.5, value, value])


@pytest.mark.parametrize("log_probs", [[-0.5, 0.0, -1e4], None])
def test_others_are_scored(worker, log_probs):
    with pytest.raises(Queue):
        answered(worker, log_probs)
