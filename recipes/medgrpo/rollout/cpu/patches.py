# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The in-process patches for which verl 0.9.1 has no hook, each with the line that it answers."""

import os
from types import ModuleType

import torch.distributed

from recipes.medgrpo.rollout.after_import import after_import

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


def mend_log_probabilities(module: ModuleType) -> None:
    """verl/utils/torch_functional.py:197 calls logsumexp once for each element of the first dimension, to save memory.

    Its engines hand it (tokens, words): a call for each token, and as many steps backwards, take a quarter of an
    update's time on a CPU. As one row of tokens they take one call of the same formula.
    """
    by_rows = module.logprobs_from_logits_v2

    def logprobs_from_logits_v2(logits, labels):
        if logits.dim() != 2:
            return by_rows(logits, labels)
        return by_rows(logits[None], labels[None])[0]

    vars(module)["logprobs_from_logits_v2"] = logprobs_from_logits_v2


after_import("verl.utils.torch_functional", mend_log_probabilities)
