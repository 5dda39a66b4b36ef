# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A vLLM worker that cannot load a weight makes the trainer wait for ever. Exit status 1 if it does."""

import asyncio
import faulthandler
import sys
from types import SimpleNamespace

import torch
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer as transfer
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

HANDLE = "ipc:///tmp/reproduce-weight-update.sock"
LIMIT = 20

if not torch.cuda.is_available():  # verl's classes ask for an accelerator, and need none here
    cpu = SimpleNamespace(synchronize=lambda: None, empty_cache=lambda: None, ipc_collect=lambda: None)
    transfer.get_torch_device = lambda: cpu


def load_weights(weights, is_last):
    raise ValueError("Attempted to load weight (2,) into parameter (0)")


def receive():
    """What the worker does in update_weights_from_ipc."""
    try:
        transfer.BucketedWeightReceiver(HANDLE, torch.device("cpu"), use_shm=True).receive_weights(load_weights)
    except BaseException as error:
        print(f"the worker failed: {type(error).__name__}: {error}", flush=True)
        raise


def collective_rpc(*args, **kwargs):
    return asyncio.get_running_loop().run_in_executor(None, receive)


adapter = ServerAdapter.__new__(ServerAdapter)
adapter.config = SimpleNamespace(checkpoint_engine=SimpleNamespace(update_weights_bucket_megabytes=1))
adapter.zmq_handle, adapter.use_shm, adapter._has_server = HANDLE, True, True
adapter.server_handle = SimpleNamespace(collective_rpc=SimpleNamespace(remote=collective_rpc))
# Says where the trainer is after so many seconds, and ends this with exit status 1.
faulthandler.dump_traceback_later(LIMIT, exit=True)
try:
    asyncio.run(adapter.update_weights(iter([("w", torch.ones(2))])))
except ValueError as error:
    print(f"the trainer got the worker's error: {error}")
    sys.exit(0)
sys.exit("the update ended as if all was well")
