# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One run of the video processor per prompt, not three per rollout.

verl 0.9.1 hands the same clip to the processor for the prompt's ids, for the reward's inputs and for the actor's
(`verl/experimental/agent_loop/agent_loop.py`: `ct_build_initial_tokens`, twice `_compute_multi_modal_inputs`), and does
so for every rollout. The part that depends on the clip alone is the same each time. `install` makes the video
processors of all model families remember the results of calls with one clip, for as long as the clip's frames live:
`recipes.medgrpo.data.video` gives all rollouts of a prompt the same tensor. Texts are tokenised each time, as answers
differ.

`data.medgrpo.pixels: bfloat16` halves what a rollout's pixels take on their way to the actor. Nothing is lost where the
actor works in bfloat16: its first matrix casts them to that type anyway, as vLLM does in its own processor.

A rollout server with a process of its own (vLLM) has its own processor, which this does not reach.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from recipes.medgrpo.data.families import FAMILIES
from recipes.medgrpo.data.rows import DataError

PIXELS = "pixel_values_videos"
PIXEL_TYPES = {None: None, "bfloat16": torch.bfloat16}
"""Values of `data.medgrpo.pixels`; null: as the processor makes them, fp32."""

_LIMIT = int(float(os.environ.get("MEDGRPO_PROCESSOR_CACHE_GIB", "4")) * (1 << 30))


class _Slot:
    """One result, made by the first who asks for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.result: Any = None
        self.bytes = 0


class VisionCache:
    """Results of a video processor for a clip, kept while its frames live, at most `limit` bytes of those used last."""

    def __init__(self, limit: int = _LIMIT):
        self.limit = limit
        self.runs = 0
        self._lock = threading.Lock()
        # By the frames themselves, not by what is in them; the frames used last are the last.
        self._slots = WeakTensorKeyDictionary()
        self._types = WeakTensorKeyDictionary()

    def cast(self, frames: torch.Tensor, dtype: torch.dtype | None) -> None:
        """Have the pixels that these frames become in this type, or as the processor makes them."""
        with self._lock:
            self._types[frames] = dtype

    def get(self, process: Callable[[], Any], processor: Any, frames: torch.Tensor, settings: dict) -> Any:
        """`process()`, or an earlier result of it for the same processor, frames and settings.

        Everything in a result is the caller's own but the pixels, which all callers share and nobody writes to.
        """
        with self._lock:
            self._slots[frames] = slots = self._slots.pop(frames, {})
            dtype = self._types.get(frames)
            slot = slots.setdefault((processor, repr(sorted(settings.items())), dtype), _Slot())
        with slot.lock:
            if slot.result is None:
                # Whoever asks next may want gradients: inference mode would leave tensors that allow none.
                with torch.inference_mode(False):
                    slot.result = in_type(process(), dtype)
                slot.bytes = sum(value.nbytes for value in slot.result.values() if isinstance(value, torch.Tensor))
                with self._lock:
                    self.runs += 1
                    self._shrink(frames)
            return _own(slot.result)

    def _shrink(self, kept: torch.Tensor) -> None:
        sizes = [(frames, sum(slot.bytes for slot in slots.values())) for frames, slots in self._slots.items()]
        total = sum(size for _, size in sizes)
        for frames, size in sizes:
            if total > self.limit and size and frames is not kept:
                del self._slots[frames]
                total -= size


def pixel_type(options: Mapping[str, Any]) -> torch.dtype | None:
    """The type that the settings `data.medgrpo` ask for. Raises DataError."""
    name = options.get("pixels")
    if name not in PIXEL_TYPES:
        raise DataError(f"data.medgrpo.pixels is {name!r}, expected bfloat16 or null")
    return PIXEL_TYPES[name]


def in_type(inputs: Any, dtype: torch.dtype | None) -> Any:
    """A processor's result with its pixels in a type; None leaves them as they are."""
    if dtype is not None and PIXELS in inputs:
        inputs[PIXELS] = inputs[PIXELS].to(dtype)
    return inputs


def _own(result: Any) -> Any:
    """A copy of a processor's result that shares the pixels."""
    memo = {id(value): value for name, value in result.items() if name == PIXELS}
    return copy.deepcopy(result, memo)


CACHE = VisionCache()


def remembering(call: Callable, cache: VisionCache) -> Callable:
    """A video processor's `__call__` that asks `cache` first, where it is called with one clip, a tensor."""

    def remembered(self, videos=None, **kwargs):
        if not isinstance(videos, list | tuple) or len(videos) != 1 or not isinstance(videos[0], torch.Tensor):
            return call(self, videos, **kwargs)
        return cache.get(lambda: call(self, videos, **kwargs), self, videos[0], kwargs)

    vars(remembered)["original"] = call
    return remembered


def install(cache: VisionCache = CACHE) -> None:
    """Make the families' video processors in this process remember; twice does no more than once."""
    for family in FAMILIES.values():
        kind = family.from_transformers("video_processor")
        call = getattr(kind.__call__, "original", kind.__call__)
        kind.__call__ = remembering(call, cache)  # type: ignore[method-assign]  # transformers has no hook for it
