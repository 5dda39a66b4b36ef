# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two runs on one machine, each with its own Ray: run A's worker gets run B's weights. Exit status 1 if it does."""

import asyncio
import multiprocessing
import os
import sys
import threading
import time
from types import SimpleNamespace

LAYOUT = dict(tensor_model_parallel_size=1, data_parallel_size=1, pipeline_model_parallel_size=1, layered_summon=False)


def transfer():
    import torch
    from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer

    if not torch.cuda.is_available():  # verl's classes ask for an accelerator, and need none here
        cpu = SimpleNamespace(synchronize=lambda: None, empty_cache=lambda: None, ipc_collect=lambda: None)
        bucketed_weight_transfer.get_torch_device = lambda: cpu
    return bucketed_weight_transfer


def trainer(weight, handles, done):
    import ray
    import torch
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    os.environ.update(RANK="0", RAY_LOCAL_WORLD_SIZE="1")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    handle = ServerAdapter(SimpleNamespace(**LAYOUT), None, None).zmq_handle
    sender = transfer().BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True)
    send = sender.async_send_weights(iter([("w", torch.full((2,), weight))]))
    threading.Thread(target=asyncio.run, args=(send,), daemon=True).start()
    time.sleep(2)  # the socket is bound
    handles.put(handle)
    done.wait()
    os._exit(ray.shutdown() or 0)


if __name__ == "__main__":
    import torch

    spawn = multiprocessing.get_context("spawn")
    handles, done, received, sockets = spawn.Queue(), spawn.Event(), [], []
    for weight in (1.0, 2.0):
        spawn.Process(target=trainer, args=(weight, handles, done)).start()
        sockets.append(handles.get(timeout=900))
        print(f"the run with weights {weight} sends through {sockets[-1]}", flush=True)
    worker = transfer().BucketedWeightReceiver(sockets[0], torch.device("cpu"), use_shm=True)
    worker.receive_weights(lambda weights, last: received.extend(weights[0][1].tolist()))
    done.set()
    print(f"the vLLM worker of the run with weights 1.0 received {received}")
    sys.exit(received != [1.0, 1.0])
