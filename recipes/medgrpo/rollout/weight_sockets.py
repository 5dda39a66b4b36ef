# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Two runs on one machine keep their weights to themselves, with and without GPUs.

verl 0.9.1 sends weights to vLLM through `/tmp/rl-colocate-zmq-<Ray job>-replica-<n>-rank-<n>.sock`
(verl/workers/rollout/vllm_rollout/vllm_rollout.py:141 and utils.py, `_get_zmq_handle`). A job's number counts within
its Ray cluster, and every run that starts a Ray of its own is job 01000000 there. A second run on the machine takes
the first one's socket away: both wait for ever, or a server gets the other run's weights. The cluster's address is
added to the number. `upstream/fixes/weights_of_another_run` is what verl could take.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType

from recipes.medgrpo.rollout.after_import import after_import


def run_id() -> str:
    """The job of this process's Ray and the address of its cluster: no other run of the machine has both."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_job_id()}-{context.gcs_address.replace(':', '-')}"


def mend_sender(module: ModuleType) -> None:
    init = module.ServerAdapter.__init__

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        import ray

        job = ray.get_runtime_context().get_job_id()
        self.zmq_handle = self.zmq_handle.replace(f"-zmq-{job}-", f"-zmq-{run_id()}-")

    module.ServerAdapter.__init__ = __init__


def mend_server(module: ModuleType) -> None:
    init = module.vLLMHttpServer.__init__

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        # vLLM's workers are started later and read it as the job's number.
        os.environ["VERL_RAY_JOB_ID"] = run_id()

    module.vLLMHttpServer.__init__ = __init__


def install() -> None:
    after_import("verl.workers.rollout.vllm_rollout.vllm_rollout", mend_sender)
    after_import("verl.workers.rollout.vllm_rollout.vllm_async_server", mend_server)
