# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One run of the video processor per prompt, not three per rollout.

verl 0.9.1 hands the same clip to the processor for the prompt's ids, for the reward's inputs and for the actor's
(`verl/experimental/agent_loop/agent_loop.py`: `ct_build_initial_tokens`, twice `_compute_multi_modal_inputs`), and does
so for every rollout. The part that depends on the clip alone is the same each time. `install` makes the video
processors of all model families remember the results of calls with one clip, for as long as the clip's frames live:
`recipes.medgrpo.data.video` gives all rollouts of a prompt the same tensor. Texts are tokenised each time, as answers
differ.

A rollout server with a process of its own (vLLM) has its own processor, which this does not reach.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from recipes.medgrpo.data.families import FAMILIES

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

    def get(self, process: Callable[[], Any], processor: Any, frames: torch.Tensor, settings: dict) -> Any:
        """`process()`, or an earlier result of it for the same processor, frames and settings.

        Everything in a result is the caller's own but the pixels, which all callers share and nobody writes to.
        """
        with self._lock:
            self._slots[frames] = slots = self._slots.pop(frames, {})
            slot = slots.setdefault((processor, repr(sorted(settings.items()))), _Slot())
        with slot.lock:
            if slot.result is None:
                # Whoever asks next may want gradients: inference mode would leave tensors that allow none.
                with torch.inference_mode(False):
                    slot.result = process()
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


def _own(result: Any) -> Any:
    """A copy of a processor's result that shares the pixels."""
    memo = {id(value): value for name, value in result.items() if name == "pixel_values_videos"}
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
