# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How long a step takes by the stated formulas. Seconds.

Whatever is arithmetic takes operations / (peak x `mfu`); decoding reads the weights and every sequence's keys and
values for each token: bytes / (bandwidth x `mbu`), or its arithmetic where that takes longer. All answers have the
stated length, so the last token is not awaited longer than the mean one.

A prompt is prefilled once on each replica that answers it: on one of them with the recipes' router
(`rollout/router.py`). verl's own sends each rollout to the replica with the fewest requests, so that n rollouts are
spread over min(n, replicas).

Not included: reward and judge, decoding frames, transfers between the GPUs (they overlap with the layers), the transfer
of weights to vLLM, the optimizer's own step, waiting for the slowest GPU or the longest answer.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from recipes.medgrpo.planning.arithmetic import text_cost, training_cost, vision_cost
from recipes.medgrpo.planning.memory import HALF
from recipes.medgrpo.planning.recipe_settings import STANDARD_ROWS, Settings
from recipes.medgrpo.planning.shapes import Shape
from recipes.medgrpo.planning.tokens import Clip

CARDS: dict[str, dict] = json.loads((Path(__file__).parent / "cards.json").read_text(encoding="utf-8"))
MFU, LOW_MFU, MBU = 0.35, 0.15, 0.6
"""Shares of a card's peak that are reached: of its arithmetic at best and at worst, of its bandwidth. Assumptions.

What others reported of a GRPO step on eight cards is lower yet, with micro-batches of a few thousand tokens: 2.3 to
2.7 % (verl issue 7203: 8 H800, 9B, 290 s a step) and 10 % (Relax issue 117: 8 H200, Qwen3-VL-4B, 117 s).
"""


@dataclass(frozen=True)
class Speed:
    """Operations and bytes a second that a card really does."""

    flops: float
    bytes: float

    @classmethod
    def of(cls, card: str, mfu: float = MFU, mbu: float = MBU) -> Speed:
        known = CARDS[card]
        return cls(known["tflops"] * 1e12 * mfu, known["tbps"] * 1e12 * mbu)


def decode_step(shape: Shape, sequences: float, context: float, tensor_parallel: int, speed: Speed) -> float:
    """Seconds of one token for each of `sequences` sequences with `context` tokens behind them."""
    weights = shape.parts["layers"] + shape.parts["embedding"]
    # A state is read and written anew for each token, however long the context.
    read = HALF * weights + sequences * (context * shape.kv_bytes + 2 * shape.states.bytes)
    done = text_cost(shape, [1]).forward * sequences + 4 * shape.q * shape.attending * sequences * context
    return max(read / speed.bytes, done / speed.flops) / tensor_parallel


def rl_step(
    shape: Shape, settings: Settings, clip: Clip, answer: int, gpus: int, fit: int, speed: Speed
) -> dict[str, float]:
    """Seconds of a MedGRPO step by part, all prompts with this clip.

    Args:
        clip: of every prompt.
        answer: tokens of every answer.
        gpus: all of them.
        fit: sequences that a replica's cache holds at once, at least 1.
        speed: of a card.
    """
    replicas = gpus // settings.tensor_parallel
    answers = settings.prompts * settings.rollouts
    prefill = text_cost(shape, [clip.prompt_tokens], logits=1).forward + vision_cost(shape, clip).forward
    spread = 1 if settings.one_replica else min(settings.rollouts, replicas)
    prefills = settings.prompts * spread / replicas
    mine = answers / replicas
    at_once = max(1.0, min(mine, settings.max_num_seqs, fit))
    waves = math.ceil(mine / at_once)
    context = clip.prompt_tokens + answer / 2
    step = decode_step(shape, mine / waves, context, settings.tensor_parallel, speed)
    whole = clip.prompt_tokens + answer
    again = text_cost(shape, [whole]).forward + vision_cost(shape, clip).forward
    return {
        "prefill": prefills * prefill / settings.tensor_parallel / speed.flops,
        "decode": waves * answer * step,
        "old log-probabilities": answers * again / gpus / speed.flops,
        "actor update": answers * _update(shape, settings, clip, answer) / gpus / speed.flops,
    }


def sft_step(shape: Shape, settings: Settings, clip: Clip, answer: int, gpus: int, speed: Speed) -> dict[str, float]:
    """Seconds of an SFT step, every row with this clip and an answer of so many tokens."""
    return {"update": settings.prompts * _update(shape, settings, clip, answer) / gpus / speed.flops}


def _update(shape: Shape, settings: Settings, clip: Clip, answer: int) -> float:
    return training_cost(
        shape,
        clip,
        answer,
        checkpointing=settings.checkpointing,
        lora_rank=settings.lora_rank,
        tower=settings.tower(shape.family),
    )


def updates(settings: Settings, rows: int | None) -> int:
    """Updates of the whole stage: the stated steps, or epochs over `rows` (default: the Standard set's)."""
    if settings.steps is not None:
        return settings.steps
    return settings.epochs * ((STANDARD_ROWS if rows is None else rows) // settings.prompts)
