# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""True frame times in Qwen2.5-VL's rotary positions, for the actor, the rollout and SFT alike.

Qwen2.5-VL tells the model *when* a frame was taken only through the temporal axis of its M-RoPE positions:
the k-th temporal patch of a clip stands at `floor(k * seconds_per_grid * tokens_per_second)`, with
`seconds_per_grid = temporal_patch_size / fps` (https://arxiv.org/abs/2502.13923, section 2.1.2).
Three things lose it on the way to a verl actor and its rollout:

* verl 0.9.1 computes positions without `second_per_grid_ts` (`verl/experimental/agent_loop/agent_loop.py`,
  `_compute_position_ids`), so every clip looks as if sampled at 2 fps. The hook it offers for this,
  `processor.get_rope_index_kwargs`, is what `install` sets.
* transformers 5.9 and 5.10 truncate the interval to whole seconds before they multiply, so 0.75 fps is off and
  everything above 2 fps stands at one instant. They also let the text after a clip go on from the clip's spatial
  extent, while generation goes on from its largest position: with true times the two differ, and a sampled answer
  stands elsewhere than the same answer in training. As released (and in vLLM), text goes on after the largest
  position. `install` therefore replaces `Qwen2_5_VLModel.get_rope_index`, which verl binds to the processor, by
  `rope_index`.
* vLLM 0.24 drops the clip's rate before it computes positions: `recipes.medgrpo.rollout.vllm_times`.

The interval reaches the actor in single and the rollout in double precision. So that both floor the same number,
`temporal_positions` takes it in single precision whoever calls, and forgives what that loses: at 0.3 fps the third
patch is at 40 and not at 39.9999990.

Qwen3-VL writes the time of every temporal patch into the prompt as text and needs neither.

What verl and transformers could take is in `upstream/fixes/qwen2_5_vl_times_actor` and
`upstream/fixes/qwen2_5_vl_times_transformers`. Where both have it, this module remains for vLLM only.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


def enabled() -> bool:
    """Whether times are put right at all. `MEDGRPO_TIME_FIX=0` exists to measure what that is worth."""
    return os.environ.get("MEDGRPO_TIME_FIX", "1") != "0"


def temporal_positions(count: int, seconds_per_grid: float, tokens_per_second: float) -> torch.Tensor:
    """Temporal M-RoPE positions of `count` consecutive temporal patches, (count,) int64, starting at 0.

    The floor of the exact product for every interval 2 / fps whose fps is a fraction with a numerator of at most 1,500
    (every rate of two decimals up to 15), in clips of up to half an hour.
    """
    interval = float(torch.tensor(seconds_per_grid, dtype=torch.float32))
    exact = torch.arange(count, dtype=torch.float64) * interval * float(tokens_per_second)
    # Single precision is off by at most 2**-24 of a value. 1e-6 is for products of the interval alone, near 0.
    return torch.floor(exact * (1 + 2**-23) + 1e-6).long()


def _grid_positions(grid: Sequence[int], merge: int, temporal: torch.Tensor, start: int) -> torch.Tensor:
    """Positions (3, t*h*w) of one image or video whose first patch stands at `start`."""
    t, h, w = int(grid[0]), int(grid[1]) // merge, int(grid[2]) // merge
    rows, columns = torch.arange(h), torch.arange(w)
    return start + torch.stack(
        [
            temporal.repeat_interleave(h * w),
            rows.repeat_interleave(w).repeat(t),
            columns.repeat(h * t),
        ]
    )


@dataclass(frozen=True)
class Span:
    """One image or clip in a prompt: the place of its first token, its grid (t, h, w) in patches, and, for a clip, the
    seconds that a temporal patch spans."""

    offset: int
    grid: tuple[int, ...]
    seconds: float | None = None


def span_positions(length: int, spans: Sequence[Span], *, merge: int, tokens_per_second: float) -> torch.Tensor:
    """Positions (3, length) of an unpadded prompt with `spans` in it, in order; text stands between them."""
    parts, token, at = [], 0, 0

    def text(until: int) -> None:
        nonlocal token, at
        parts.append((torch.arange(until - token) + at).expand(3, -1))
        at += until - token
        token = until

    for span in spans:
        text(span.offset)
        frames = int(span.grid[0])
        if span.seconds is None:
            temporal = torch.zeros(frames).long()
        else:
            temporal = temporal_positions(frames, span.seconds, tokens_per_second)
        parts.append(_grid_positions(span.grid, merge, temporal, at))
        at = int(parts[-1].max()) + 1
        token += parts[-1].shape[1]
    text(length)
    return torch.cat(parts, dim=1)


def sequence_positions(
    token_types: Sequence[int],
    image_grids: Iterable[Sequence[int]],
    video_grids: Iterable[Sequence[int]],
    seconds_per_grid: Iterable[float],
    *,
    merge: int,
    tokens_per_second: float,
) -> torch.Tensor:
    """Positions (3, n) of one unpadded sequence; `token_types` holds 0 for text, 1 for image, 2 for video tokens."""
    images, videos, seconds = iter(image_grids), iter(video_grids), iter(seconds_per_grid)
    spans, at = [], 0
    for kind, run in itertools.groupby(token_types):
        if kind == 1:
            spans.append(Span(at, tuple(next(images))))
        elif kind == 2:
            spans.append(Span(at, tuple(next(videos)), float(next(seconds))))
        at += len(list(run))
    return span_positions(at, spans, merge=merge, tokens_per_second=tokens_per_second)


def rope_index(
    self,
    input_ids: torch.Tensor,
    mm_token_type_ids: torch.Tensor,
    image_grid_thw: torch.Tensor | None = None,
    video_grid_thw: torch.Tensor | None = None,
    second_per_grid_ts: Sequence[float] | torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    **_,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Drop-in for `Qwen2_5_VLModel.get_rope_index`: positions (3, batch, n) and deltas (batch, 1).

    `self` is a model or, in verl, a processor that carries the model's config.
    """
    merge = self.config.vision_config.spatial_merge_size
    tokens_per_second = self.config.vision_config.tokens_per_second
    images = iter(image_grid_thw if image_grid_thw is not None else [])
    videos = iter(video_grid_thw if video_grid_thw is not None else [])
    seconds = itertools.repeat(1.0) if second_per_grid_ts is None else iter(second_per_grid_ts)
    positions = torch.zeros((3, *input_ids.shape), dtype=torch.long)
    deltas = []
    for row in range(input_ids.shape[0]):
        keep = torch.ones_like(input_ids[row], dtype=torch.bool)
        if attention_mask is not None:
            keep = attention_mask[row].bool()
        placed = sequence_positions(
            mm_token_type_ids[row][keep].tolist(),
            images,
            videos,
            seconds,
            merge=merge,
            tokens_per_second=tokens_per_second,
        )
        positions[:, row, keep.cpu()] = placed
        deltas.append(int(placed.max()) + 1 - int(keep.sum()))
    return positions.to(input_ids.device), torch.tensor(deltas, device=input_ids.device).unsqueeze(1)


def _rope_index_kwargs(self, multi_modal_inputs: dict) -> dict:
    """verl's processor hook: hand the clip's seconds per temporal patch on to `get_rope_index`."""
    seconds = multi_modal_inputs.get("second_per_grid_ts")
    return {} if seconds is None else {"second_per_grid_ts": seconds}


def install() -> None:
    """Make every Qwen2.5-VL processor and model of this process place frames at their true times."""
    from transformers import Qwen2_5_VLProcessor
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    Qwen2_5_VLProcessor.get_rope_index_kwargs = _rope_index_kwargs
    Qwen2_5_VLModel.get_rope_index = rope_index
