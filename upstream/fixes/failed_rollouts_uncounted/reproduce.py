# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Three of four rollouts fail, and no figure of the step says so. Exit status 1 if none does."""

import asyncio
import sys
from collections import defaultdict
from types import SimpleNamespace

from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer

tags = defaultdict(dict)


async def put(key, partition_id, tag):
    tags[partition_id].setdefault(key, {}).update(tag)


# TransferQueue's tags, in this process: no Ray is needed to see what becomes of a failed rollout.
queue = SimpleNamespace(async_kv_put=put, kv_list=lambda: tags, kv_clear=lambda partition_id, keys: None)
agent_loop_tq.tq = replay_buffer.tq = queue


async def run_agent_loop(sampling_params, session_id, uid, **kwargs):
    if session_id > 0:
        raise OSError("a frame cannot be read")
    await put(f"{uid}_{session_id}_0", "train", {"status": "success"})


rollout = SimpleNamespace(n=4)
worker = SimpleNamespace(
    config=SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout)), _run_agent_loop=run_agent_loop
)
tags["train"]["prompt"] = {"is_prompt": True, "status": "pending", "global_steps": 1}
run_prompt = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class._run_prompt
asyncio.run(run_prompt(worker, {"uid": "prompt"}, {}, {"validate": False}))
batch, metrics = replay_buffer.ReplayBuffer("sync", {}, None, "drop", {}).sample(1, "train", 1)
print(f"trained on: {batch.keys}; the sampler's metrics: {metrics}")
sys.exit(3 not in metrics.values())
