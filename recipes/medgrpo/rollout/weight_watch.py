# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A vLLM worker that fails while it loads weights ends the run; in verl 0.9.1 the trainer waits for ever.

`ServerAdapter.update_weights` awaits the sender (verl/workers/rollout/vllm_rollout/vllm_rollout.py:241) before it looks
at the worker's reply (:244). A worker that fails leaves without an acknowledgement, and the sender's `socket.recv()`
(bucketed_weight_transfer.py:136, 164, 197) has no time limit. Here the sender looks at the reply while it waits, and
raises the worker's error. A worker that neither answers nor ends is given up after `MEDGRPO_SYNC_TIMEOUT` seconds.

With shared memory, the receiver's own clean-up then fails in the worker (`BufferError: cannot close exported pointers
exist`, :340) and hides the cause. The worker raises the cause. `upstream/fixes/weight_update_without_end` is what verl
could take.
"""

from __future__ import annotations

import functools
import os
import time
from concurrent.futures import Future
from types import ModuleType
from typing import Any

from recipes.medgrpo.rollout.after_import import after_import

RECEIVE = "update_weights_from_ipc"
POLL_S = 1.0
_REPLIES: dict[str, Future | None] = {}
"""What the worker at the other end of a socket will have said, by the socket; None: another process is told."""


class WeightTransferError(RuntimeError):
    """The weights did not reach vLLM; one line that says why."""


def timeout_s() -> float:
    """Seconds that a worker may be silent."""
    return float(os.environ.get("MEDGRPO_SYNC_TIMEOUT", "600"))


class WatchedSocket:
    """The sender's socket, whose `recv` ends when the worker has failed.

    Args:
        socket: a zmq socket of type REQ.
        reply: the end of the worker's call, None where another process has it.
    """

    def __init__(self, socket: Any, reply: Future | None):
        self._socket, self._reply = socket, reply

    def recv(self) -> bytes:
        """Raises `WeightTransferError`."""
        until = time.monotonic() + timeout_s()
        while not self._socket.poll(POLL_S * 1000):
            if self._reply is not None and self._reply.done() and (error := self._reply.exception()):
                self._give_up(f"vLLM's worker failed while it loaded the actor's weights: {last_line(error)}", error)
            if time.monotonic() > until:
                self._give_up(f"vLLM's worker was silent for {timeout_s():.0f} s while the actor's weights were sent")
        return self._socket.recv()

    def _give_up(self, message: str, cause: BaseException | None = None) -> None:
        import zmq

        # What nobody will read must not keep the process alive.
        self._socket.setsockopt(zmq.LINGER, 0)
        raise WeightTransferError(message) from cause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def last_line(error: BaseException) -> str:
    """The last line of an error's text: where Ray or vLLM hand a traceback on, the error that it ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def mend_sender(module: ModuleType) -> None:
    execute, open_socket = module.ServerAdapter._execute_method, module.BucketedWeightSender._init_socket

    @functools.wraps(execute)
    async def _execute_method(self, method, *args, **kwargs):
        reply = await execute(self, method, *args, **kwargs)
        if method == RECEIVE:
            _REPLIES[self.zmq_handle] = None if reply is None else reply.future()
        return reply

    @functools.wraps(open_socket)
    def _init_socket(self):
        open_socket(self)
        self.socket = WatchedSocket(self.socket, _REPLIES.get(self.zmq_handle))

    module.ServerAdapter._execute_method = _execute_method
    module.BucketedWeightSender._init_socket = _init_socket


def mend_worker(module: ModuleType) -> None:
    receive = module.vLLMColocateWorkerExtension.update_weights_from_ipc

    @functools.wraps(receive)
    def update_weights_from_ipc(self, *args, **kwargs):
        try:
            return receive(self, *args, **kwargs)
        except BufferError as error:
            if error.__context__ is None:
                raise
            raise error.__context__ from None

    module.vLLMColocateWorkerExtension.update_weights_from_ipc = update_weights_from_ipc


def install() -> None:
    after_import("verl.workers.rollout.vllm_rollout.vllm_rollout", mend_sender)
    after_import("verl.workers.rollout.vllm_rollout.utils", mend_worker)
