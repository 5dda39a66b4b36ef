# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A step says how many of its rollouts failed: what is missing in its groups is otherwise seen by nobody."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace

import pytest
from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer
from verl.trainer.ppo.v1.utils import MetricsAggregator

PREFIX = "training/rollout_failure"


class Queue:
    """TransferQueue's tags, in this process."""

    def __init__(self):
        self.tags = defaultdict(dict)

    async def async_kv_put(self, key, partition_id, tag):
        self.tags[partition_id].setdefault(key, {}).update(tag)

    def kv_list(self):
        return {partition: dict(tags) for partition, tags in self.tags.items()}

    def kv_clear(self, partition_id, keys):
        for key in keys:
            self.tags[partition_id].pop(key)


@pytest.fixture
def step(monkeypatch):
    """Roll out prompts, of which some sessions fail, and sample them; returns (keys, metrics)."""

    def _step(failing: dict[str, set[int]], n: int = 4):
        queue = Queue()
        monkeypatch.setattr(agent_loop_tq, "tq", queue)
        monkeypatch.setattr(replay_buffer, "tq", queue)

        async def run_agent_loop(sampling_params, session_id, uid, **kwargs):
            if session_id in failing[uid]:
                raise OSError("a frame cannot be read")
            await queue.async_kv_put(f"{uid}_{session_id}_0", "train", {"status": "success"})

        rollout = SimpleNamespace(n=n)
        worker = SimpleNamespace(
            config=SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout)), _run_agent_loop=run_agent_loop
        )
        run_prompt = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class._run_prompt
        for uid in failing:
            queue.tags["train"][uid] = {"is_prompt": True, "status": "pending", "global_steps": 1}
            asyncio.run(run_prompt(worker, {"uid": uid}, {}, {"validate": False}))
        buffer = replay_buffer.ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.01)
        batch, metrics = buffer.sample(1, "train", len(failing))
        return batch.keys, metrics

    return _step


def test_failed_sessions_are_counted(step):
    keys, metrics = step({"a": {1, 2}, "b": set(), "c": {0}})
    assert len(keys) == 9
    assert metrics.get(f"{PREFIX}/failed_sessions") == 3
    assert metrics.get(f"{PREFIX}/incomplete_groups") == 2


def test_a_step_without_failures_says_so(step):
    _, metrics = step({"a": set(), "b": set()})
    assert metrics.get(f"{PREFIX}/failed_sessions") == metrics.get(f"{PREFIX}/incomplete_groups") == 0


def test_counts_of_mini_batches_are_added():
    aggregator = MetricsAggregator()
    for failed in (3, 1):
        aggregator.add_step_metrics({f"{PREFIX}/failed_sessions": failed}, sample_count=8)
    assert aggregator.get_aggregated_metrics()[f"{PREFIX}/failed_sessions"] == 4
