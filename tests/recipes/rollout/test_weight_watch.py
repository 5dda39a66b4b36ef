# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The sender of weights does not wait for a worker that has failed; on real sockets, the worker's end in a thread."""

import threading
from concurrent.futures import Future

import pytest
import zmq

from recipes.medgrpo.rollout import weight_watch
from recipes.medgrpo.rollout.weight_watch import WatchedSocket, WeightTransferError


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """(the sender's socket, the worker's socket), connected."""
    monkeypatch.setattr(weight_watch, "POLL_S", 0.05)
    address = f"ipc://{tmp_path}/socket"
    context = zmq.Context()
    sender, worker = context.socket(zmq.REQ), context.socket(zmq.REP)
    sender.bind(address)
    worker.connect(address)
    yield sender, worker
    context.destroy(linger=0)


def test_an_answer_is_passed_on_however_the_call_ends(ends):
    sender, worker = ends
    reply = Future()
    watched = WatchedSocket(sender, reply)
    watched.send(b"bucket")

    def answer():
        assert worker.recv() == b"bucket"
        reply.set_result(None)
        worker.send(b"taken")

    thread = threading.Thread(target=answer)
    thread.start()
    assert watched.recv() == b"taken"
    thread.join()


def test_a_worker_that_failed_ends_the_wait_with_its_last_line(ends):
    sender, worker = ends
    reply = Future()
    watched = WatchedSocket(sender, reply)
    watched.send(b"bucket")
    cause = RuntimeError("ray::server\n  File ...\nValueError: no such parameter\n")

    def fail():
        worker.recv()
        reply.set_exception(cause)

    thread = threading.Thread(target=fail)
    thread.start()
    with pytest.raises(WeightTransferError) as caught:
        watched.recv()
    thread.join()
    message = "vLLM's worker failed while it loaded the actor's weights: ValueError: no such parameter"
    assert str(caught.value) == message and caught.value.__cause__ is cause


@pytest.mark.parametrize("reply", [Future(), None], ids=["a call under way", "another process is told"])
def test_a_worker_that_is_silent_is_given_up(ends, monkeypatch, reply):
    monkeypatch.setenv("MEDGRPO_SYNC_TIMEOUT", "0.2")
    watched = WatchedSocket(ends[0], reply)
    watched.send(b"bucket")
    with pytest.raises(WeightTransferError, match="silent for 0 s"):
        watched.recv()
