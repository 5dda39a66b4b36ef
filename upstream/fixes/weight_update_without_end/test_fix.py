# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A trainer that sends weights ends with the error of a worker that fails."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
import zmq
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer as transfer
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

# A megabyte each: every one fills a bucket.
WEIGHTS = {f"layers.{number}": torch.full((1 << 18,), float(number)) for number in range(3)}

# A context waits for its sockets when it is deleted, and verl leaves one open where it fails.
CONTEXTS = []


class CannotLoad(Exception):
    pass


def remote(function):
    return SimpleNamespace(remote=function)


@pytest.fixture
def update(monkeypatch, tmp_path):
    """Send the weights to a worker in a thread, which does what it is given."""
    if not torch.cuda.is_available():
        cpu = SimpleNamespace(synchronize=lambda: None, empty_cache=lambda: None, ipc_collect=lambda: None)
        monkeypatch.setattr(transfer, "get_torch_device", lambda: cpu)
    # A wait without an end ends here.
    context = zmq.Context()
    context.setsockopt(zmq.RCVTIMEO, 5000)
    context.setsockopt(zmq.SNDTIMEO, 5000)
    CONTEXTS.append(context)
    monkeypatch.setattr(zmq.Context, "instance", lambda: context)
    handle = f"ipc://{tmp_path}/s"

    def _update(work):
        async def done():
            pass

        receiver = transfer.BucketedWeightReceiver(handle, torch.device("cpu"), use_shm=True)
        adapter = ServerAdapter.__new__(ServerAdapter)
        adapter.config = SimpleNamespace(checkpoint_engine=SimpleNamespace(update_weights_bucket_megabytes=1))
        adapter.zmq_handle, adapter.use_shm, adapter._has_server = handle, True, True
        adapter.replica_rank = adapter.rollout_rank = 0
        adapter.server_handle = SimpleNamespace(
            collective_rpc=remote(
                lambda *args, **kwargs: asyncio.get_running_loop().run_in_executor(None, work, receiver)
            ),
            clear_kv_cache=remote(done),
        )
        asyncio.run(adapter.update_weights(iter(WEIGHTS.items())))

    return _update


def test_a_worker_that_cannot_load_ends_the_update(update):
    def load(weights, is_last):
        raise CannotLoad(weights[0][0])

    with pytest.raises(CannotLoad, match="layers.0"):
        update(lambda receiver: receiver.receive_weights(load))


def test_a_worker_that_cannot_load_a_later_bucket_ends_the_update(update):
    def load(weights, is_last):
        if is_last:
            raise CannotLoad(weights[0][0])

    with pytest.raises(CannotLoad, match="layers.2"):
        update(lambda receiver: receiver.receive_weights(load))


def test_a_worker_that_never_connects_ends_the_update(update):
    def work(receiver):
        raise CannotLoad("no device")

    with pytest.raises(CannotLoad, match="no device"):
        update(work)


def test_a_worker_that_loads_has_all_weights(update):
    loaded = {}

    def load(weights, is_last):
        loaded.update((name, weight.clone()) for name, weight in weights)

    update(lambda receiver: receiver.receive_weights(load))
    assert loaded.keys() == WEIGHTS.keys()
    assert all(torch.equal(loaded[name], weight) for name, weight in WEIGHTS.items())
