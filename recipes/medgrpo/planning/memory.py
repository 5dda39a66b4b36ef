# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What lies in a GPU's memory, part by part, in each phase of a step. Each phase is its bytes by part.

Stored, divided over the GPUs that FSDP2 spans (P parameters, T of them trained, m bytes of a stored weight):
    weights mP, gradients mT, Adam's two moments 2mT.
Gathered in bfloat16 while a layer works: it and the next one, and what is never given back during a pass (the tied
embedding, the mergers); in the backward pass the layer's gradient, in bfloat16 and in the type it is summed in.
Activations of a micro-batch of n tokens and p patches, in bfloat16, with gradient checkpointing: the input of every
layer, 2 x width; and of the one layer that is being run again all that its backward pass reads, see `layer_bytes`.
Logits: n x words in bfloat16, and as much again for their gradient.
vLLM: weights 2P, what its profile run takes, CUDA graphs; the rest of its share is for keys and values.

Not counted: fragmentation, NCCL's buffers, the copies that a weight transfer makes. `RESERVE` stands for them. The
counts of stored and kept bytes are compared with a real model on a CPU (tests/benchmarks/bench_plan.py); no figure here
has been measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from recipes.medgrpo.planning.arithmetic import CHUNK
from recipes.medgrpo.planning.recipe_settings import Settings
from recipes.medgrpo.planning.shapes import Shape
from recipes.medgrpo.planning.tokens import Clip

GIB = 1 << 30
HALF = 2
"""Bytes of a bfloat16."""
RESERVE = 0.06
"""Share of a card that is kept free for what is not counted. An assumption."""
CONTEXT = 1.0 * GIB
"""CUDA's context and its libraries, per process. An assumption."""
GRAPHS = 1.5 * GIB
"""vLLM's CUDA graphs and the context of its process. An assumption."""
ENTROPY_CHUNK = 2048
"""Tokens at a time of which verl makes the entropy, with `entropy_from_logits_with_chunking`: logits, their softmax and
the product of both in fp32."""


def layer_bytes(shape: Shape) -> float:
    """Bytes a token that an attending text layer's backward pass reads, in bfloat16, where no scores are kept.

    Of each of two norms its input in fp32 and in bfloat16, its output (8 x width) and its scale; of normalised heads
    the input in fp32 and in bfloat16, and the scale; rotated q and k, v, attention's output and its log-sums in fp32;
    of the MLP gate, activated gate, up and their product. Where heads are not normalised, the model makes cosines and
    sines anew for each layer. Norms that work in fp32 throughout keep their result in fp32 instead of the input in
    bfloat16; a gate over attention's output keeps itself and the product.
    """
    t = shape.text
    heads = 2 * HALF * shape.head_dim
    if shape.head_norm:
        heads = (8 if shape.fp32_norms else 6) * (shape.q + shape.kv)
        heads += 4 * (t.num_attention_heads + t.num_key_value_heads)
    attention = HALF * (2 * shape.q + 2 * shape.kv) + 4 * t.num_attention_heads
    if shape.gated_heads:
        attention += 2 * HALF * shape.q
    return _norms_and_mlp(shape) + heads + attention


def _norms_and_mlp(shape: Shape) -> float:
    """The part of `layer_bytes` that every text layer has."""
    t = shape.text
    return (20 if shape.fp32_norms else 16) * t.hidden_size + 8 + 4 * HALF * t.intermediate_size


def state_layer_bytes(shape: Shape) -> float:
    """Bytes a token that the backward pass of a text layer with a state reads; 0 where there is none.

    Of the convolution its input and its output; of flash-linear-attention 0.6's kernel normalised q and k with their
    scales, v, strengths, decays in fp32 (three times, with the softplus that makes them), and a matrix over each chunk;
    of the gated norm its input, its gate, its scale and its output. Read in that package's source, not measured.
    """
    s = shape.states
    if not s.number:
        return 0.0
    rule = s.heads * (HALF * (2 * s.key + s.value + CHUNK + 1) + 8 + 3 * 4)
    norm = s.heads * (3 * HALF * s.value + 4)
    return _norms_and_mlp(shape) + 2 * HALF * s.channels + rule + norm


def layers_bytes(shape: Shape) -> float:
    """Bytes a token that all text layers' backward passes read, without checkpointing."""
    return shape.attending * layer_bytes(shape) + shape.states.number * state_layer_bytes(shape)


def _state_work(shape: Shape) -> float:
    """Bytes a token that the backward pass of a layer with a state makes anew: each chunk's state, and its gradient."""
    return 2 * HALF * shape.states.heads * shape.states.key * shape.states.value / CHUNK


def block_bytes(shape: Shape) -> float:
    """Bytes a patch that a vision block's backward pass reads, as `layer_bytes`.

    q, k and v stay whole, as v is a view of them, beside q and k rotated; cosines and sines in fp32. Plain blocks have
    layer norms, which keep input and output alone, and an MLP without a gate.
    """
    v = shape.vision
    width, inner = v.hidden_size, v.intermediate_size
    norms, mlp = (16 * width, 4 * HALF * inner) if shape.gated else (8 * width, 2 * HALF * inner)
    attention = HALF * (3 + 2 + 1) * width + 2 * 4 * (width // v.num_heads) + 4 * v.num_heads
    return norms + 8 + attention + mlp


def pixel_bytes(shape: Shape) -> int:
    """Bytes of a patch's pixels, in bfloat16."""
    return HALF * shape.patch // shape.vision.hidden_size


def trained(shape: Shape, settings: Settings) -> int:
    """Parameters with a gradient."""
    if settings.lora_rank:
        return shape.lora(settings.lora_rank)
    return shape.parameters - (shape.parts["vision"] if settings.freeze_vision else 0)


def stored(shape: Shape, settings: Settings, gpus: int) -> dict[str, float]:
    """Weights, gradients and Adam's moments of each of `gpus` GPUs, wherever they lie."""
    m, new = settings.master_bytes, trained(shape, settings)
    total = shape.parameters + (new if settings.lora_rank else 0)
    return {"weights": m * total / gpus, "gradients": m * new / gpus, "Adam": 2 * m * new / gpus}


def resident(shape: Shape, settings: Settings, gpus: int) -> dict[str, float]:
    """What of `stored` a GPU holds while its actor works: nothing of it under FSDP2's offload policy."""
    return {part: 0.0 if settings.host_weights else size for part, size in stored(shape, settings, gpus).items()}


def _root(shape: Shape) -> int:
    """Parameters outside FSDP's layers, which stay gathered from the forward pass on."""
    return (shape.parts["embedding"] if shape.tied else 0) + shape.text.hidden_size + shape.outside


def gathered(shape: Shape, settings: Settings, backward: bool) -> float:
    """The layer at work and the next one in bfloat16, the root, and in the backward pass the layer's gradient."""
    layer = shape.layers.largest
    widest = max(layer, shape.parts["head"])
    total = HALF * (_root(shape) + widest + layer)
    if backward:
        largest = 0 if settings.lora_rank else max(widest, _root(shape))
        total += (HALF + settings.reduce_bytes) * largest
    return total


def micro_patches(clip: Clip, tokens: int) -> float:
    """Most patches among `tokens` packed tokens: prompts with this clip, and answers of no length."""
    return tokens * clip.patches / clip.prompt_tokens


def training(shape: Shape, settings: Settings, clip: Clip, gpus: int) -> dict[str, float]:
    """The backward pass of a micro-batch at its peak."""
    t, v, n = shape.text, shape.vision, settings.micro_tokens
    patches = micro_patches(clip, n)
    patch_bytes = pixel_bytes(shape)
    layer = n * max(
        layer_bytes(shape) + 6 * t.intermediate_size,
        state_layer_bytes(shape) + max(6 * t.intermediate_size, _state_work(shape)),
    )
    back = settings.tower(shape.family) != "forward"
    block = patches * (block_bytes(shape) + 6 * v.intermediate_size) if back else 0.0
    logits = 2 * HALF * t.vocab_size * n
    kept_tower = patches * HALF * v.hidden_size * v.depth if back else 0.0
    inputs = n * HALF * t.hidden_size * shape.layers.number
    working = max(layer, block)
    if not settings.checkpointing:
        inputs, kept_tower = n * layers_bytes(shape), v.depth * patches * block_bytes(shape) * back
        working = 6 * max(n * t.intermediate_size, patches * v.intermediate_size)
    return {
        **resident(shape, settings, gpus),
        "gathered layers": gathered(shape, settings, backward=True),
        "pixels": patches * patch_bytes,
        "inputs of layers" if settings.checkpointing else "activations of layers": inputs,
        "inputs of vision blocks" if settings.checkpointing else "activations of vision blocks": kept_tower,
        "logits, or the layer at work": max(logits, working),
        "CUDA": CONTEXT + (GRAPHS if settings.stage == "rl" else 0),
    }


def log_probs(shape: Shape, settings: Settings, clip: Clip, gpus: int) -> dict[str, float]:
    """Old log-probabilities: forward only, in larger micro-batches."""
    t, v, n = shape.text, shape.vision, settings.log_prob_tokens
    patches = micro_patches(clip, n)
    working = max(
        n * (4 * t.hidden_size + 6 * t.intermediate_size),
        patches * (8 * v.hidden_size + 6 * v.intermediate_size),
    )
    logits = n * HALF * t.vocab_size + 3 * 4 * ENTROPY_CHUNK * t.vocab_size
    held = resident(shape, settings, gpus)
    return {
        "weights": held["weights"],
        "Adam": 0.0 if settings.offload else held["Adam"],
        "gathered layers": gathered(shape, settings, backward=False),
        "pixels": patches * pixel_bytes(shape),
        "logits, or the layer at work": max(logits, working),
        "CUDA": CONTEXT + GRAPHS,
    }


@dataclass(frozen=True)
class Rollout:
    """vLLM's share of a GPU: bytes by part, those left for keys and values, and sequences that these hold at once."""

    parts: dict[str, float]
    cache: float
    sequences: int


def rollout(shape: Shape, settings: Settings, clip: Clip, gpus: int, memory: float) -> Rollout:
    """vLLM beside the sleeping actor, whose share stays unless it is offloaded.

    Args:
        clip: the longest; every sequence is taken to be it and a whole answer.
        memory: bytes of a card.
    """
    t, v, tp = shape.text, shape.vision, settings.tensor_parallel
    # Its profile run: one batch of tokens, the longest clip encoded, logits of every sequence in fp32, twice.
    text = settings.batched_tokens * (4 * t.hidden_size + 6 * t.intermediate_size / tp)
    tower = clip.patches * (pixel_bytes(shape) + 8 * v.hidden_size + 6 * v.intermediate_size)
    profile = max(text, tower) + 2 * 4 * settings.max_num_seqs * t.vocab_size
    share = settings.utilization * memory
    weights = HALF * shape.parameters / tp
    cache = share - weights - profile - GRAPHS
    held = resident(shape, settings, gpus)
    each = (clip.prompt_tokens + settings.response_tokens) * shape.kv_bytes / min(tp, t.num_key_value_heads)
    # vLLM 0.24 keeps two states of a sequence where prefixes are cached: its own, and that of its last whole block.
    each += 2 * shape.states.bytes / tp
    parts = {
        "actor's weights": 0.0 if settings.offload else held["weights"],
        "actor's Adam": 0.0 if settings.offload else held["Adam"],
        "vLLM weights": weights,
        "vLLM profile run": profile,
        "vLLM keys and values": max(cache, 0.0),
        "CUDA": CONTEXT + GRAPHS,
    }
    return Rollout(parts, cache, max(0, int(cache // each)))


def host(shape: Shape, settings: Settings, gpus: int) -> dict[str, float]:
    """Host memory of a node by part: what is offloaded, and what vLLM's sleep keeps there.

    verl 0.9.1 puts vLLM to sleep at level 2, which drops its weights, and at level 1, which keeps them in host memory,
    where it has adapters of its own (`vllm_async_server.py`, `_resolve_sleep_level`). One process loads the model for
    all, or every process does, where input and output words share their weights (`utils/fsdp_utils.py`,
    `get_init_weight_context_manager`).
    """
    held, here = stored(shape, settings, gpus), gpus / settings.nodes
    away = 0.0
    if settings.host_weights:
        away = sum(held.values())
    elif settings.offload:
        away = held["weights"] + held["Adam"]
    parts = {"offloaded weights and Adam": away * here}
    if settings.stage == "rl" and settings.lora_rank and not settings.lora_merged:
        parts["vLLM's sleeping weights"] = HALF * shape.parameters / settings.tensor_parallel * here
    copies = here if shape.tied else 1
    parts["copies of the weights while loading"] = float(settings.master_bytes * shape.parameters * copies)
    return parts
