# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One run of the video processor per prompt, not three per rollout.

verl 0.9.1 hands the same clip to the processor for the prompt's ids, for the reward's inputs and for the actor's
(`verl/experimental/agent_loop/agent_loop.py`: `ct_build_initial_tokens`, twice `_compute_multi_modal_inputs`), and all
of this for every rollout. What depends on the clip alone is the same each time. `install` makes the video processors
of all model families remember their results for as long as a clip's frames live: `recipes.medgrpo.data.video` gives all
rollouts of a prompt the same tensor. Texts are tokenised each time, as an answer's text differs from the prompt's.

A rollout server with a process of its own (vLLM) has its own processor, which this does not reach.
"""

from __future__ import annotations

import copy
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from recipes.medgrpo.data.families import FAMILIES

_LIMIT = int(float(os.environ.get("MEDGRPO_PROCESSOR_CACHE_GIB", "4")) * (1 << 30))


class _Slot:
    """One result, made by the first who asks for it; `clips` are weak references to the frames that it is of."""

    def __init__(self, clips: list[weakref.ref]):
        self.lock = threading.Lock()
        self.clips = clips
        self.result: Any = None
        self.bytes = 0


class VisionCache:
    """Results of a video processor by the identity of the frames, at most `limit` bytes of them, latest used kept."""

    def __init__(self, limit: int = _LIMIT):
        self.limit = limit
        self.runs = 0
        # Re-entrant: a clip may be collected, and its result dropped, while this thread holds the lock.
        self._lock = threading.RLock()
        self._slots: OrderedDict[tuple, _Slot] = OrderedDict()

    def get(self, process: Callable[[], Any], processor: Any, videos: list[torch.Tensor], settings: dict) -> Any:
        """`process()`, or an earlier result of it for the same processor, frames and settings.

        Everything in a result is the caller's own but the pixels, which all callers share and nobody writes to.
        """
        key = (id(processor), *(id(video) for video in videos), repr(sorted(settings.items())))
        with self._lock:
            slot = self._slots.get(key)
            # An id is used again when its object is gone: only the very same frames count.
            if slot is None or any(ref() is not video for ref, video in zip(slot.clips[1:], videos, strict=True)):
                drop = weakref.WeakMethod(self._drop)
                gone = lambda _: (method := drop()) and method(key)  # noqa: E731
                slot = self._slots[key] = _Slot([weakref.ref(item, gone) for item in (processor, *videos)])
            self._slots.move_to_end(key)
        with slot.lock:
            if slot.result is None:
                # Whoever asks next may want gradients: inference mode would leave tensors that allow none.
                with torch.inference_mode(False):
                    result = process()
                with self._lock:
                    self.runs += 1
                    slot.result = result
                    slot.bytes = sum(value.nbytes for value in result.values() if isinstance(value, torch.Tensor))
                    self._shrink(key)
            return _own(slot.result)

    def _drop(self, key: tuple) -> None:
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None and any(ref() is None for ref in slot.clips):
                del self._slots[key]

    def _shrink(self, kept: tuple) -> None:
        total = sum(slot.bytes for slot in self._slots.values())
        for key in list(self._slots):
            if total <= self.limit:
                break
            if key != kept and self._slots[key].result is not None:
                total -= self._slots.pop(key).bytes


def _own(result: Any) -> Any:
    """A copy of a processor's result that shares the pixels."""
    memo = {id(value): value for name, value in result.items() if name == "pixel_values_videos"}
    return copy.deepcopy(result, memo)


CACHE = VisionCache()


def remembering(call: Callable, cache: VisionCache) -> Callable:
    """A video processor's `__call__` that asks `cache` first, where the clips are tensors."""

    def remembered(self, videos=None, **kwargs):
        if not isinstance(videos, list | tuple) or not all(isinstance(video, torch.Tensor) for video in videos):
            return call(self, videos, **kwargs)
        return cache.get(lambda: call(self, videos, **kwargs), self, list(videos), kwargs)

    remembered.original = call
    return remembered


def install(cache: VisionCache = CACHE) -> None:
    """Make the families' video processors in this process remember; twice does no more than once."""
    for family in FAMILIES.values():
        kind = family.from_transformers("video_processor")
        call = getattr(kind.__call__, "original", kind.__call__)
        kind.__call__ = remembering(call, cache)
