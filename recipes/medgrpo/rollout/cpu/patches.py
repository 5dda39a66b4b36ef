# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The in-process patches for which verl 0.9.1 has no hook, each with the line that it answers."""

import os

import torch.distributed

# verl/workers/engine/fsdp/transformer_impl.py registers its FSDP engine for cuda and npu;
# EngineRegistry.get_engine_cls honours this override.
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")

_init_process_group = torch.distributed.init_process_group


def init_process_group(backend=None, *args, **kwargs):
    """verl/utils/distributed.py asks for "cpu:gloo,<device>:<backend>"; torch refuses the device named twice."""
    if backend == "cpu:gloo,cpu:gloo":
        backend = "cpu:gloo"
    return _init_process_group(backend, *args, **kwargs)


torch.distributed.init_process_group = init_process_group
