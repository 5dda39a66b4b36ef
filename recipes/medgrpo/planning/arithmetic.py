# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Floating-point operations of a forward pass and of a training step: matrices and attention, nothing else.

A matrix of a x b costs 2ab operations a token. Attention of a layer costs 4 x width for each pair of a query and a key
(scores, then values): n^2 pairs of n tokens that see each other, n(n+1)/2 where each sees what came before. The
backward pass costs twice the forward pass: once for the gradient of the input, once for that of the weights, which a
frozen matrix saves. Gradient checkpointing runs the layers once more, up to the input of their last matrix, since
torch stops where nothing is left to keep (`torch.utils.checkpoint`, early stop).

Left out: norms, rotations, softmax, activations, the optimizer. `torch.utils.flop_counter` leaves them out too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recipes.medgrpo.planning.shapes import Shape, weights
from recipes.medgrpo.planning.tokens import Clip


@dataclass(frozen=True)
class Cost:
    """Operations of one pass forward over one part.

    `matrices` of layers that are run again when checkpointed, without `last`, their last matrix; `attention`;
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


def text_cost(shape: Shape, lengths: Sequence[int], causal: bool = True, logits: int | None = None) -> Cost:
    """Sequences of `lengths` tokens through the language model; logits of all tokens, or of `logits`."""
    t, tokens = shape.text, sum(lengths)
    pairs = sum(n * (n + 1) / 2 if causal else n * n for n in lengths)
    *first, last = t.linears
    return Cost(
        matrices=2 * weights(tuple(first)) * t.layers * tokens,
        last=2 * weights((last,)) * t.layers * tokens,
        attention=4 * t.q * t.layers * pairs,
        outside=2 * t.embedding * (tokens if logits is None else logits),
    )


def _pieces(side: int, window: int) -> int:
    """Sum of the squares of a side's pieces, when it is cut into windows."""
    return (side // window) * window**2 + (side % window) ** 2


def vision_cost(shape: Shape, clip: Clip) -> Cost:
    """A clip through the vision tower, whose attention never leaves a pair of frames."""
    v, cells = shape.vision, cells_of(clip)
    whole = clip.pairs * cells**2 * v.merge**4
    windows = whole
    if v.window:
        rows, columns = clip.grid
        windows = clip.pairs * _pieces(rows, v.window) * _pieces(columns, v.window) * v.merge**4
    *first, last = v.linears
    mergers = weights(v.merger_linears) * (1 + v.deepstack)
    return Cost(
        matrices=2 * weights(tuple(first)) * v.depth * clip.patches,
        last=2 * weights((last,)) * v.depth * clip.patches,
        attention=4 * v.hidden * (v.full_blocks * whole + (v.depth - v.full_blocks) * windows),
        outside=2 * mergers * clip.patches / v.merge**2,
        stem=2 * weights((v.patch_linear,)) * clip.patches,
    )


def cells_of(clip: Clip) -> int:
    """Merged patches of a pair of frames."""
    return clip.grid[0] * clip.grid[1]


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
