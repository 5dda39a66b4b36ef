# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""After every transfer, the weights that vLLM holds are compared with those that the actor sent.

Neither verl nor vLLM notices a tensor that was not sent, or that was loaded into the wrong place: rollouts would be
another model's. Here the actor sums up the bits of every tensor that it sends, and vLLM's worker does the same with
what it holds after loading. A difference ends the run with the tensors' names. `MEDGRPO_CHECK_WEIGHTS=1` switches this
on, 0 off; by default it is on where there is no GPU. It reads all weights once more on each side.

Adapters that are sent alone are not compared, nor parts of a matrix that vLLM spreads over several devices.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncIterator, Mapping
from types import ModuleType
from typing import Any

import torch

from recipes.medgrpo.rollout.after_import import after_import

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

Sent = dict[str, tuple[list[int], int]]
"""Shape and checksum of every tensor, by the actor's names."""

_CHUNK = 1 << 22
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class WeightError(RuntimeError):
    """vLLM does not hold what the actor sent; one line."""


def enabled() -> bool:
    on_cpu = os.environ.get("VERL_PLATFORM", "").lower() == "cpu"
    return os.environ.get("MEDGRPO_CHECK_WEIGHTS", "1" if on_cpu else "0") == "1"


@torch.no_grad()
def checksum(tensor: torch.Tensor) -> int:
    """A sum over all elements' bits, each weighted by its place, modulo 2^64: equal tensors have equal sums."""
    bits = tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()]).flatten()
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), _CHUNK):
        part = bits[start : start + _CHUNK].to(torch.int64)
        total += (part * (2 * torch.arange(start, start + len(part), device=bits.device) + 1)).sum()
    return int(total)


async def noted(weights: Any, dtype: torch.dtype, sent: Sent) -> AsyncIterator[tuple[str, torch.Tensor]]:
    """The same weights; `sent` gets shape and checksum of each, in vLLM's type."""
    from verl.workers.rollout.utils import ensure_async_iterator

    async for name, weight in ensure_async_iterator(weights):
        sent[name] = (list(weight.shape), checksum(weight.to(dtype) if weight.is_floating_point() else weight))
        yield name, weight


def compare(model: torch.nn.Module, sent: Mapping[str, tuple[list[int], int]], dtype: torch.dtype) -> int:
    """How many tensors of a vLLM model were compared with what was sent, all of them equal.

    vLLM keeps some tensors in float32 whatever its type: they are compared as rounded to `dtype`, as what was sent is.

    Raises:
        WeightError: some differ, or nothing was sent for them.
    """
    held = dict(model.named_parameters(remove_duplicate=False))
    mapper: Any = getattr(model, "hf_to_vllm_mapper", None)
    # vLLM keeps the rows of some layers one below the other: queries, keys and values, for one.
    packed = {
        part: (whole, place)
        for whole, parts in getattr(model, "packed_modules_mapping", {}).items()
        for place, part in enumerate(parts)
        if part != whole
    }
    pieces: dict[str, dict[int, str]] = {}
    for name in sent:
        for ours in mapper.apply_list([name]) if mapper else [name]:
            place = 0
            if ours not in held:
                words = ours.split(".")
                at = next((at for at, word in enumerate(words) if word in packed), None)
                if at is None:
                    continue
                words[at], place = packed[words[at]]
                ours = ".".join(words)
            # A vLLM that was told that no clips will come has no vision tower.
            if ours in held:
                pieces.setdefault(ours, {})[place] = name
    same = {id(held[name]) for name in pieces}
    unsent = [name for name, parameter in held.items() if id(parameter) not in same]
    differ, compared = [], 0
    for ours, parts in pieces.items():
        start = 0
        for _, name in sorted(parts.items()):
            shape, expected = sent[name]
            # The vocabulary is padded: rows of no token are vLLM's own.
            rows = held[ours][start : start + shape[0]] if shape else held[ours]
            start += shape[0] if shape else 0
            if rows.numel() != torch.Size(shape).numel():
                continue
            compared += 1
            if checksum(rows.to(dtype) if rows.is_floating_point() else rows) != expected:
                differ.append(name)
    if unsent or differ:
        found = [f"{len(differ)} of {compared} tensors differ: {', '.join(differ[:4])}"] if differ else []
        found += [f"{len(unsent)} of {len(held)} were not sent: {', '.join(unsent[:4])}"] if unsent else []
        raise WeightError(f"vLLM holds other weights than the actor: {'; '.join(found)}")
    return compared


def mend_sender(module: ModuleType) -> None:
    update = module.ServerAdapter.update_weights

    @functools.wraps(update)
    async def update_weights(self, weights, *args, **kwargs):
        if not enabled() or kwargs.get("peft_config") is not None or kwargs.get("wire_format") == "delta_flush":
            return await update(self, weights, *args, **kwargs)
        from verl.utils.torch_dtypes import PrecisionType

        sent: Sent = {}
        await update(self, noted(weights, PrecisionType.to_dtype(self.config.dtype), sent), *args, **kwargs)
        await self._execute_method("medgrpo_compare_weights", kwargs={"sent": sent})

    module.ServerAdapter.update_weights = update_weights


def mend_worker(module: ModuleType) -> None:
    def medgrpo_compare_weights(self, sent: Mapping[str, tuple[list[int], int]]) -> None:
        compared = compare(self.model_runner.model, sent, self.model_runner.model_config.dtype)
        logger.info("weights: %d tensors sent, %d compared, all equal", len(sent), compared)

    module.vLLMColocateWorkerExtension.medgrpo_compare_weights = medgrpo_compare_weights


def install() -> None:
    after_import("verl.workers.rollout.vllm_rollout.vllm_rollout", mend_sender)
    after_import("verl.workers.rollout.vllm_rollout.utils", mend_worker)
