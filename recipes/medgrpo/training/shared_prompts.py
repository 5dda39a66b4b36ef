# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The actor's pass over a batch of rollouts with every prompt in it once, and no padding.

verl 0.9.1 gives each of a prompt's `n` rollouts a row of its own: clip and prompt go through the model `n` times, all
rows are padded to the longest, and logits are made of prompts, where no loss is. Here the tokens of a micro-batch stand
in one row: first each prompt, then each answer. An answer's tokens attend to its prompt and to those before them in the
answer, which is all that they see in rows of their own; so log-probabilities, entropies and gradients are the same but
for rounding (`tests/recipes/training/test_shared_prompts.py`).

Text layers get that attention by transformers' `AttentionInterface`, under the name `ATTENTION`. A layer with a state
goes through tokens in order and cannot be told where they belong: `can_share` says which models have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from verl.utils import tensordict_utils
from verl.utils.model import extract_multi_modal_inputs
from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits

ATTENTION = "medgrpo_shared_prompts"
ANSWERS_AT_ONCE = 32
"""Answers that one call of the attention kernel serves: of similar length, as they are padded to the longest."""
SEEN = ("pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw")
"""What a model takes of `multi_modal_inputs`; the rest has gone into the positions."""


@dataclass(frozen=True)
class Piece:
    """Sequences of one call of the attention kernel, as places in the row of all tokens; padding is place 0.

    Attributes:
        queries: (b, q) places.
        keys: (b, k) places.
        mask: (b, 1, q, k), what each query may attend to; None: the keys up to its own.
        flat: (tokens,) which of the b * q queries are tokens.
        places: (tokens,) the places of those.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor | None
    flat: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch of rollouts stand in one row.

    Attributes:
        owner: (rollouts,) the number of each rollout's prompt.
        first: (prompts,) a rollout with each prompt.
        tokens: (n,) places of the row's tokens in the rollouts' joined tokens.
        before: (answer tokens,) the place in the row of what stands before each token of each answer.
        pieces: the calls of the attention kernel; each token is a query of one of them.
    """

    owner: torch.Tensor
    first: list[int]
    tokens: torch.Tensor
    before: torch.Tensor
    pieces: list[Piece]


def same_prompts(prompts: Sequence[torch.Tensor], inputs: Sequence[Mapping[str, Any]]) -> list[int]:
    """The number of each rollout's prompt, counted from 0 as they come: alike are those with the same ids and clips."""
    numbers: list[int] = []
    alike: dict[tuple[int, ...], list[int]] = {}
    count = 0
    for row, (ids, seen) in enumerate(zip(prompts, inputs, strict=True)):
        candidates = alike.setdefault(tuple(ids.tolist()), [])
        found = next((other for other in candidates if _same(inputs[other], seen)), None)
        if found is None:
            candidates.append(row)
            numbers.append(count)
            count += 1
        else:
            numbers.append(numbers[found])
    return numbers


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    parts = [(one.get(name), other.get(name)) for name in SEEN]
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in parts)


def layout_of(prompts: Sequence[int], answers: Sequence[int], owner: Sequence[int]) -> Layout:
    """The layout of rollouts of these lengths (in tokens) whose prompts have these numbers."""
    number = torch.tensor(owner)
    first = [owner.index(prompt) for prompt in range(max(owner) + 1)]
    asked, said = torch.tensor([prompts[row] for row in first]), torch.tensor(answers)
    prompt_start = asked.cumsum(0) - asked
    answer_start = int(asked.sum()) + said.cumsum(0) - said
    # In the rollouts' joined tokens, where each has a prompt of its own.
    end = (torch.tensor(prompts) + said).cumsum(0)
    start = end - said - torch.tensor(prompts)
    tokens = torch.cat([_runs(start[first], asked), _runs(end - said, said)])
    before = _runs(answer_start, said) - 1
    before[said.cumsum(0) - said] = (prompt_start + asked - 1)[number]
    pieces = [_piece(_padded(prompt_start, asked), asked)]
    for rows in said.argsort().split(ANSWERS_AT_ONCE):
        own = _padded(answer_start[rows], said[rows])
        shown = _padded(prompt_start[number[rows]], asked[number[rows]])
        pieces.append(_piece(own, said[rows], shown, asked[number[rows]]))
    return Layout(number, first, tokens, before, pieces)


def _runs(starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(sum of lengths,) the whole numbers of each run, one run after the other."""
    skipped = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + skipped.repeat_interleave(lengths)


def _padded(starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(b, longest) the whole numbers of each run, 0 behind its end."""
    steps = torch.arange(int(lengths.max()))
    return torch.where(steps < lengths[:, None], starts[:, None] + steps, 0)


def _piece(
    own: torch.Tensor, lengths: torch.Tensor, shown: torch.Tensor | None = None, seen: torch.Tensor | None = None
) -> Piece:
    """Sequences that attend to themselves up to each token, and to all of what they are shown."""
    steps = torch.arange(own.shape[1])
    real = steps < lengths[:, None]
    flat = real.flatten().nonzero()[:, 0]
    keys, mask = own, None
    if shown is not None and seen is not None:
        keys = torch.cat([shown, own], dim=1)
        causal = (steps[None, :] <= steps[:, None]).expand(len(own), -1, -1)
        visible = (torch.arange(shown.shape[1]) < seen[:, None])[:, None].expand(-1, own.shape[1], -1)
        mask = torch.cat([visible, causal], dim=2)[:, None]
    return Piece(own, keys, mask, flat, own.flatten()[flat])


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' hook: queries (1, heads, n, d), keys, values (1, key heads, n, d) to outputs (1, n, heads, d)."""
    if layout is None:
        raise RuntimeError(f"{ATTENTION}: a batch without its layout, where each token's sequence would be unknown")
    rows = [states[0].transpose(0, 1).flatten(1) for states in (query, key, value)]
    width = query.shape[-1]

    def gathered(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        picked = states.index_select(0, places.flatten())
        return picked.view(*places.shape, -1, width).transpose(1, 2)

    parts = []
    for piece in layout.pieces:
        out = scaled_dot_product_attention(
            gathered(rows[0], piece.queries),
            gathered(rows[1], piece.keys),
            gathered(rows[2], piece.keys),
            attn_mask=piece.mask,
            is_causal=piece.mask is None,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(out.transpose(1, 2).flatten(0, 1).flatten(1).index_select(0, piece.flat))
    order = torch.cat([piece.places for piece in layout.pieces]).argsort()
    out = torch.cat(parts).index_select(0, order)
    return out.view(1, len(order), -1, width), None


AttentionInterface.register(ATTENTION, attend)


def can_share(config: Any) -> bool:
    """Whether all text layers of a model of this configuration attend: none keeps a state."""
    return "linear_attention" not in (getattr(config.get_text_config(), "layer_types", None) or ())


def shared_inputs(batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the model takes of a micro-batch of rollouts, and what `shared_outputs` needs of it.

    `batch` holds, as verl's engines get it, `prompts`, `responses`, `input_ids` and `position_ids` (nested over
    rollouts), `multi_modal_inputs` (one of a rollout) and `temperature` (one, or one of a rollout).
    """
    prompts, answers = batch["prompts"], batch["responses"]
    seen = [getattr(inputs, "data", inputs) or {} for inputs in batch.get("multi_modal_inputs", [None] * len(batch))]
    owner = same_prompts(prompts.unbind(), seen)
    layout = layout_of(prompts.offsets().diff().tolist(), answers.offsets().diff().tolist(), owner)
    vision = extract_multi_modal_inputs([{name: seen[row].get(name) for name in SEEN} for row in layout.first])
    inputs = {
        "input_ids": batch["input_ids"].values()[None, layout.tokens],
        "attention_mask": None,
        "position_ids": batch["position_ids"].values()[:, None, layout.tokens],
        "layout": layout,
        **vision,
    }
    return inputs, {"layout": layout}


def shared_outputs(logits: torch.Tensor, made: dict[str, Any], batch: TensorDict) -> dict[str, torch.Tensor]:
    """Log-probabilities, and entropies if asked for, as verl's engines give them: nested over rollouts, of each token's
    next. Of prompts, which no loss reads, they are 0.

    `logits` (n, words) of the row's tokens; `made` as `shared_inputs` gave it.
    """
    if tensordict_utils.get_non_tensor_data(batch, key="calculate_sum_pi_squared", default=False):
        raise NotImplementedError("share_prompts: sums of squared probabilities are not made")
    said, layout = batch["responses"], made["layout"]
    lengths = said.offsets().diff()
    logits = logits.index_select(0, layout.before)
    temperature = batch["temperature"]
    if isinstance(temperature, torch.Tensor):
        temperature = temperature.to(logits).repeat_interleave(lengths)[:, None]
    if isinstance(temperature, torch.Tensor) or temperature != 1:
        logits = logits / temperature
    offsets = batch["input_ids"].offsets()
    places = _runs(offsets[1:] - lengths - 1, lengths)

    def nested(values: torch.Tensor) -> torch.Tensor:
        whole = values.new_zeros(int(offsets[-1])).scatter(0, places, values)
        return torch.nested.nested_tensor_from_jagged(whole, offsets)

    outputs = {"log_probs": nested(logprobs_from_logits(logits, said.values()))}
    if tensordict_utils.get_non_tensor_data(batch, key="calculate_entropy", default=False):
        outputs["entropy"] = nested(entropy_from_logits(logits))
    return outputs
