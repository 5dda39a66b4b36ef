# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Floating-point operations of a forward pass and of a training step: matrices and attention, nothing else.

A matrix of a x b costs 2ab operations a token. Attention of a layer costs 4 x width for each pair of a query and a key
(scores, then values): n^2 pairs of n tokens that see each other, n(n+1)/2 where each sees what came before. A layer
with a state works through chunks of c tokens: 2c^2(3k + 2v) + 6ckv operations a chunk and head for heads of k x v. The
backward pass costs twice the forward pass: once for the gradient of the input, once for that of the weights, which a
frozen matrix saves. Gradient checkpointing runs the layers once more, up to the input of their last matrix, since
torch stops where nothing is left to keep (`torch.utils.checkpoint`, early stop).

Left out: norms, rotations, softmax, activations, short convolutions, the optimizer. `torch.utils.flop_counter` leaves
most of them out too, and the tests compare with it. verl's `flops_counter` is not used: it takes heads of hidden /
heads and not of `head_dim`, counts the embedding as a matrix, a merger once a patch, no windows and no gate in the
vision tower, and knows neither checkpointing nor adapters. For the models of `models.json` that attend in all layers it
is 3 % below to 16 % above the count here for language models, and 23 to 26 % above it for the vision towers that have
neither windows nor gates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recipes.medgrpo.planning.shapes import Shape, States
from recipes.medgrpo.planning.tokens import Clip

CHUNK = 64
"""Tokens that a layer with a state takes at once, in flash-linear-attention's kernel and in transformers' own rule."""


@dataclass(frozen=True)
class Cost:
    """Operations of one pass forward over one part.

    `matrices` of layers that are run again when checkpointed, without `last`, their last matrix; `attention`, or what
    stands in its place;
    `outside`: matrices beside the layers; `stem`: matrices whose input needs no gradient.
    """

    matrices: float = 0.0
    last: float = 0.0
    attention: float = 0.0
    outside: float = 0.0
    stem: float = 0.0

    @property
    def forward(self) -> float:
        return self.matrices + self.last + self.attention + self.outside + self.stem

    def training(self, checkpointing: bool, frozen: bool = False) -> float:
        """Forward and backward, the layers once more with checkpointing; `frozen`: no gradient of weights."""
        through = self.matrices + self.last + self.outside
        backward = (1 if frozen else 2) * through + 2 * self.attention + (0 if frozen else 1) * self.stem
        again = self.matrices + self.attention if checkpointing else 0.0
        return self.forward + backward + again


def _state_cost(states: States, lengths: Sequence[int]) -> float:
    """Sequences of `lengths` tokens through the layers that keep a state, their matrices apart; whole chunks count."""
    k, v = states.key, states.value
    total = 0.0
    for n in lengths:
        c = min(CHUNK, n)
        total += math.ceil(n / c) * (2 * c * c * (3 * k + 2 * v) + 6 * c * k * v)
    return states.number * states.heads * total


def text_cost(shape: Shape, lengths: Sequence[int], causal: bool = True, logits: int | None = None) -> Cost:
    """Sequences of `lengths` tokens through the language model; logits of all tokens, or of `logits`."""
    tokens = sum(lengths)
    pairs = sum(n * (n + 1) / 2 if causal else n * n for n in lengths)
    return Cost(
        matrices=2 * shape.layers.matrices * tokens,
        last=2 * shape.layers.last * tokens,
        attention=4 * shape.q * shape.attending * pairs + _state_cost(shape.states, lengths),
        outside=2 * shape.parts["embedding"] * (tokens if logits is None else logits),
    )


def _pieces(side: int, window: int) -> int:
    """Sum of the squares of a side's pieces, when it is cut into windows."""
    return (side // window) * window**2 + (side % window) ** 2


def vision_cost(shape: Shape, clip: Clip) -> Cost:
    """A clip through the vision tower, whose attention never leaves a pair of frames."""
    v, blocks = shape.vision, shape.blocks
    rows, columns = clip.grid
    merged = v.spatial_merge_size**2
    whole = blocks.number * (rows * columns) ** 2
    if side := getattr(v, "window_size", 0):
        # In merged patches. All blocks but some attend within windows.
        side = side // v.patch_size // v.spatial_merge_size
        full = len(v.fullatt_block_indexes)
        windows = _pieces(rows, side) * _pieces(columns, side)
        whole = full * (rows * columns) ** 2 + (blocks.number - full) * windows
    return Cost(
        matrices=2 * blocks.matrices * clip.patches,
        last=2 * blocks.last * clip.patches,
        attention=4 * v.hidden_size * clip.pairs * merged**2 * whole,
        outside=2 * shape.mergers * clip.patches / merged,
        stem=2 * shape.patch * clip.patches,
    )


def training_cost(
    shape: Shape, clip: Clip, answer: int, *, checkpointing: bool, lora_rank: int = 0, tower: str = "trained"
) -> float:
    """Operations of one sample in a training step, forward and backward.

    Args:
        clip: the prompt's.
        answer: tokens that follow it.
        lora_rank: 0 trains all text weights; otherwise adapters of this rank alone.
        tower: `trained`, `through` (gradients pass, no weight has one) or `forward`, see `Settings.tower`.
    """
    tokens = clip.prompt_tokens + answer
    text = text_cost(shape, [tokens]).training(checkpointing, frozen=lora_rank > 0)
    cost = vision_cost(shape, clip)
    vision = cost.forward if tower == "forward" else cost.training(checkpointing, frozen=tower == "through")
    return text + vision + 2 * (4 if checkpointing else 3) * shape.lora(lora_rank) * tokens
