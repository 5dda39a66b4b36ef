# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""After every transfer, the weights that vLLM holds are compared with those that the actor sent.

Neither verl nor vLLM notices a tensor that was not sent, or that was loaded into the wrong place: rollouts would be
another model's. Here the actor sums up the bits of every tensor that it sends, and vLLM's worker does the same with
what it holds after loading. A difference ends the run with the tensors' names. `MEDGRPO_CHECK_WEIGHTS=1` switches this
on, 0 off; by default it is on where there is no GPU. It reads all weights once more on each side.

Where a server spreads its model over several devices, each compares its own share. Not compared are adapters that are
sent alone, and with several devices the embedding and what the actor has in one matrix and vLLM in several parts.
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

Sums = tuple[int, list[int], list[int]]
"""Checksums of a tensor: of all of it, and of each device's share where its rows or its columns are spread."""
Sent = dict[str, tuple[list[int], Sums]]
"""Shape and checksums of every tensor, by the actor's names."""

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


def sums(tensor: torch.Tensor, devices: int) -> Sums:
    """A tensor's checksums; no shares of one device, nor of what cannot be divided."""
    shares: list[list[int]] = [[], []]
    for along in range(min(2, tensor.dim()) if devices > 1 else 0):
        if tensor.shape[along] % devices == 0:
            shares[along] = [checksum(share) for share in tensor.chunk(devices, along)]
    return checksum(tensor), shares[0], shares[1]


async def noted(
    weights: Any, dtype: torch.dtype, sent: Sent, devices: int = 1
) -> AsyncIterator[tuple[str, torch.Tensor]]:
    """The same weights; `sent` gets shape and checksums of each, in vLLM's type."""
    from verl.workers.rollout.utils import ensure_async_iterator

    async for name, weight in ensure_async_iterator(weights):
        sent[name] = (list(weight.shape), sums(weight.to(dtype) if weight.is_floating_point() else weight, devices))
        yield name, weight


def compare(
    model: torch.nn.Module,
    sent: Mapping[str, tuple[list[int], Sums]],
    dtype: torch.dtype,
    device: int = 0,
    devices: int = 1,
) -> int:
    """How many tensors of a vLLM model were compared with what was sent, all of them equal.

    vLLM keeps some tensors in float32 whatever its type: they are compared as rounded to `dtype`, as what was sent is.

    Args:
        device: which of the server's `devices` holds this part of the model.

    Raises:
        WeightError: some differ, or nothing was sent for them.
    """
    held = dict(model.named_parameters(remove_duplicate=False))
    mapper: Any = getattr(model, "hf_to_vllm_mapper", None)
    # vLLM keeps the rows of some layers one below the other: queries, keys and values, for one.
    mapping: Mapping[str, list[str]] = getattr(model, "packed_modules_mapping", {})
    packed = {
        part: (whole, place) for whole, parts in mapping.items() for place, part in enumerate(parts) if part != whole
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
        names, tensor, start = [name for _, name in sorted(parts.items())], held[ours], 0
        along = spread([sent[name][0] for name in names], list(tensor.shape), devices)
        # A matrix that vLLM has in parts and the actor has whole is divided part by part.
        whole = any(word in mapping and len(names) != len(set(mapping[word]) - {word}) for word in ours.split("."))
        if along is None or (along >= 0 and whole):
            continue
        for name in names:
            shape, (all_of_it, *shares) = sent[name]
            count = shape[0] // (devices if along == 0 else 1) if shape else 0
            # The vocabulary is padded: rows of no token are vLLM's own.
            rows = tensor[start : start + count] if shape else tensor
            start += count
            compared += 1
            expected = all_of_it if along < 0 else shares[along][device]
            if checksum(rows.to(dtype) if rows.is_floating_point() else rows) != expected:
                differ.append(name)
    if unsent or differ:
        found = [f"{len(differ)} of {compared} tensors differ: {', '.join(differ[:4])}"] if differ else []
        found += [f"{len(unsent)} of {len(held)} were not sent: {', '.join(unsent[:4])}"] if unsent else []
        raise WeightError(f"vLLM holds other weights than the actor: {'; '.join(found)}")
    return compared


def spread(shapes: list[list[int]], held: list[int], devices: int) -> int | None:
    """How a tensor holds what was sent, one below the other: -1 all of it, 0 a share of each one's rows, 1 of columns.

    None: in another way, which nothing is known of.
    """
    if not held or [] in shapes:
        return -1 if all(size == 1 for size in held) else None
    rows, rest = sum(shape[0] for shape in shapes), shapes[0][1:]
    if rest == held[1:] and (rows == held[0] or (rows < held[0] and devices == 1)):
        return -1
    if rest == held[1:] and rows == held[0] * devices and all(shape[0] % devices == 0 for shape in shapes):
        return 0
    if len(held) > 1 and rows == held[0] and rest == [held[1] * devices, *held[2:]]:
        return 1
    return None


def mend_sender(module: ModuleType) -> None:
    update = module.ServerAdapter.update_weights

    @functools.wraps(update)
    async def update_weights(self, weights, *args, **kwargs):
        if not enabled() or kwargs.get("peft_config") is not None or kwargs.get("wire_format") == "delta_flush":
            return await update(self, weights, *args, **kwargs)
        from verl.utils.torch_dtypes import PrecisionType

        sent: Sent = {}
        dtype, devices = PrecisionType.to_dtype(self.config.dtype), self.config.tensor_model_parallel_size
        await update(self, noted(weights, dtype, sent, devices), *args, **kwargs)
        await self._execute_method("medgrpo_compare_weights", kwargs={"sent": sent})

    module.ServerAdapter.update_weights = update_weights


def mend_worker(module: ModuleType) -> None:
    def medgrpo_compare_weights(self, sent: Mapping[str, tuple[list[int], Sums]]) -> None:
        from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size

        part = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
        compared = compare(self.model_runner.model, sent, self.model_runner.model_config.dtype, *part)
        logger.info("weights: %d tensors sent, %d compared, all equal", len(sent), compared)

    module.vLLMColocateWorkerExtension.medgrpo_compare_weights = medgrpo_compare_weights


def install() -> None:
    after_import("verl.workers.rollout.vllm_rollout.vllm_rollout", mend_sender)
    after_import("verl.workers.rollout.vllm_rollout.utils", mend_worker)
