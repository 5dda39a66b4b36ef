# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One run of two on a machine: a Ray of its own, verl's sender and its receiver, and weights that are all one number.

    python two_runs.py MODEL NUMBER MEETING

The runs meet in the folder MEETING before each transfer, so that all sockets are bound at the same time. Prints what
was received, of every transfer.
"""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

TRANSFERS = 3


def meet(folder: Path, what: str, number: str) -> None:
    (folder / f"{what}_{number}").touch()
    until = time.monotonic() + 300
    while len(list(folder.glob(f"{what}_*"))) < 2:
        assert time.monotonic() < until, f"no other run came to {what}"
        time.sleep(0.02)


def main(model: str, number: str, meeting: str) -> None:
    os.environ |= {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin"}
    os.environ |= {"RANK": "0", "RAY_LOCAL_WORLD_SIZE": "1", "MEDGRPO_SYNC_TIMEOUT": "30"}
    import ray
    import torch
    import verl  # noqa: F401  loads the plugin
    from verl.workers.config import HFModelConfig, RolloutConfig
    from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer, vllm_async_server, vllm_rollout
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    config, checkpoint = RolloutConfig(name="vllm", max_model_len=608), HFModelConfig(path=model)
    adapter = vllm_rollout.ServerAdapter(config, checkpoint, device_mesh=None)
    # The server tells its workers, which are processes of its own, by the environment.
    vllm_async_server.vLLMHttpServer(
        config,
        checkpoint,
        "hybrid",
        [],
        replica_rank=0,
        node_rank=0,
        gpus_per_node=1,
        nnodes=1,
        cuda_visible_devices="0",
    )
    worker = SimpleNamespace(local_rank=0, model_runner=SimpleNamespace())
    handle = vLLMColocateWorkerExtension._get_zmq_handle(worker)
    assert handle == adapter.zmq_handle, (handle, adapter.zmq_handle)

    for transfer in range(TRANSFERS):
        received: list[float] = []
        receiver = bucketed_weight_transfer.BucketedWeightReceiver(handle, torch.device("cpu"), use_shm=True)

        def take(weights, is_last, received=received):
            received.extend(float(tensor.mean()) for _, tensor in weights)

        thread = threading.Thread(target=receiver.receive_weights, args=(take,), daemon=True)
        sender = vllm_rollout.BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True)
        meet(Path(meeting), f"transfer{transfer}", number)
        thread.start()
        weights = ((f"layer{at}", torch.full((1 << 17,), float(number))) for at in range(8))
        asyncio.run(sender.async_send_weights(weights))
        thread.join(timeout=30)
        print(f"RECEIVED {len(received)} {min(received)} {max(received)}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
