# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The planner's formulas against a real model of each architecture, on a CPU.

    python tests/benchmarks/bench_plan.py [--hidden 256] [--layers 4] [--frames 24]

For each family, with random weights: operations of a forward pass and of a training step as torch counts them;
bytes that a layer and a vision block keep for the backward pass; bytes stored by one step of AdamW; and the peak of a
step with gradient checkpointing as torch's memory tracker sees it. Prints measured, formula, and their ratio.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import torch

if torch.version.cuda is None:
    # A CPU build beside PyPI's torchvision; imports verl, which a machine with a GPU need not have for this.
    os.environ.setdefault("VERL_PLATFORM", "cpu")
    import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401

import transformers as tf

from data_preprocess.geometry import ASSUMED_SIZE
from recipes.medgrpo.data.families import family_of
from recipes.medgrpo.planning.arithmetic import CHUNK, text_cost, vision_cost
from recipes.medgrpo.planning.memory import block_bytes, layer_bytes, stored, training
from recipes.medgrpo.planning.recipe_settings import read_settings
from recipes.medgrpo.planning.shapes import Shape, shape_of
from recipes.medgrpo.planning.tokens import Clip, clip_of

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5")
HEAD = 32
PAD, START, END, WORD = 991, 992, 993, 5


@dataclass(frozen=True)
class Case:
    """A random model, its shape, and one prompt for it."""

    model: Any
    shape: Shape
    clip: Clip
    inputs: dict[str, torch.Tensor]

    @property
    def tokens(self) -> int:
        return self.inputs["input_ids"].shape[1]


def small_config(family: str, hidden: int = 256, layers: int = 3, depth: int = 3, words: int = 1000) -> Any:
    """The architecture of a family with these dimensions."""
    text = {
        "hidden_size": hidden,
        "intermediate_size": 5 * hidden // 2,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // HEAD,
        "num_key_value_heads": hidden // HEAD // 4,
        "vocab_size": words,
        "max_position_embeddings": 32768,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision = {
        "depth": depth,
        "hidden_size": hidden // 2,
        "num_heads": hidden // 2 // HEAD,
        "intermediate_size": 5 * hidden // 4,
        "out_hidden_size": hidden,
    }
    ids = {"image_token_id": 990, "video_token_id": PAD, "vision_start_token_id": START, "vision_end_token_id": END}
    ids |= {"tie_word_embeddings": False}
    if family == "qwen2_5_vl":
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
        return tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"fullatt_block_indexes": [1]}, **ids)
    text |= {"head_dim": HEAD}
    if family == "qwen3_5":
        # The first layer keeps a state, all others attend, so that one layer more is one of these.
        text["layer_types"] = ["linear_attention", *["full_attention"] * (layers - 1)]
        text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        text |= {"linear_key_head_dim": HEAD, "linear_value_head_dim": HEAD}
        text["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 1e7,
            "partial_rotary_factor": 0.5,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        }
        return tf.Qwen3_5Config(text_config=text, vision_config=vision | {"num_position_embeddings": 64}, **ids)
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    }
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    return tf.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)


def model_of(config: Any, attention: str = "sdpa", dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model of random weights, in training mode."""
    config._attn_implementation = attention
    return family_of(config).from_transformers("model")(config).to(dtype).train()


def prompt_of(model: Any, clip: Clip, question: int) -> dict[str, torch.Tensor]:
    """Model inputs of a prompt with random pixels, laid out as the family's processor does."""
    device, family = next(model.parameters()).device, model.config.model_type
    ids, cell = model.config, clip.vision_tokens // clip.pairs
    pads, start, end = [ids.video_token_id] * cell, ids.vision_start_token_id, ids.vision_end_token_id
    if family == "qwen2_5_vl":
        shown = [start, *pads * clip.pairs, end]
    else:
        stamp = [WORD] * ((clip.mark_tokens - 2 * clip.pairs) // clip.pairs)
        shown = [token for _ in range(clip.pairs) for token in [*stamp, start, *pads, end]]
    row = torch.tensor([[WORD] * (question // 2) + shown + [WORD] * (question - question // 2)], device=device)
    width = model.config.vision_config
    pixels = width.in_channels * width.temporal_patch_size * width.patch_size**2
    return {
        "input_ids": row,
        "pixel_values_videos": torch.randn(clip.patches, pixels, device=device, dtype=next(model.parameters()).dtype),
        "video_grid_thw": torch.tensor([[clip.pairs, 2 * clip.grid[0], 2 * clip.grid[1]]], device=device),
        "mm_token_type_ids": (row == ids.video_token_id).long() * 2,
    }


def case(config: Any, frames: int, question: int = 100, **settings: Any) -> Case:
    model = model_of(config, **settings)
    clip = clip_of(frames, ASSUMED_SIZE, config.model_type, question)
    return Case(model, shape_of(config, "small"), clip, prompt_of(model, clip, question))


def checkpointed(model: Any) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _without_short(count: Any) -> Any:
    """torch's count of a convolution, 0 for one along a line: the formulas leave the short ones of text layers out."""

    def counted(first: torch.Tensor, *rest: Any, **named: Any) -> int:
        return 0 if first.dim() == 3 else count(first, *rest, **named)

    vars(counted)["_get_raw"] = True
    return counted


def flops(found: Case, mode: str) -> tuple[int, float]:
    """Operations as (torch counts, the formulas say); `mode`: forward, training, checkpointed.

    The model needs eager attention, whose matrix products torch counts whole, masked or not.
    """
    from torch.utils.flop_counter import FlopCounterMode, flop_registry

    convolutions = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
    mapping = {operator: _without_short(flop_registry[operator]) for operator in convolutions}
    if mode == "checkpointed":
        checkpointed(found.model)
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        logits = found.model(**found.inputs, use_cache=False).logits
        if mode != "forward":
            logits.float().mean().backward()
    costs = text_cost(found.shape, [found.tokens], causal=False), vision_cost(found.shape, found.clip)
    said = sum(c.forward if mode == "forward" else c.training(mode == "checkpointed") for c in costs)
    return counter.get_total_flops() + _no_state(found.shape, mode), said


def _no_state(shape: Shape, mode: str) -> int:
    """Operations of a backward pass that the ends of a sequence save: the first chunk's state is none, and the last
    state is for nobody. Two products with the one lack one half of their backward pass, that for the other all of it.
    """
    states = shape.states
    once = 2 * CHUNK * states.key * states.value * states.heads * states.number
    return 0 if mode == "forward" else 4 * once


def kept_bytes(found: Case) -> int:
    """Bytes that a forward pass keeps for the backward pass, the parameters apart; each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in found.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found.model(**found.inputs, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


def kept_by_one(family: str, part: str, checkpointing: bool, hidden: int = 256, frames: int = 8) -> tuple[float, float]:
    """Bytes a token (a patch) that one text layer (vision block) more keeps, as (measured, formula).

    Every vision block attends to whole frame pairs here. torch's own attention computes these one by one and copies
    them together, which a kernel for packed sequences does not: 2 bytes a number more, in the formula's figure too.
    So it is with heads that are rotated in part and put together again: torch's attention answers head by head.
    """
    sums = []
    for more in (0, 1):
        layers, depth = (2 + more, 2) if part == "layer" else (2, 2 + more)
        config = small_config(family, hidden, layers, depth)
        if family == "qwen2_5_vl":
            config.vision_config.fullatt_block_indexes = list(range(depth))
        found = case(config, frames)
        if checkpointing:
            checkpointed(found.model)
        sums.append(kept_bytes(found) - _weights_plus_one(found, checkpointing))
    measured = (sums[1] - sums[0]) / (found.tokens if part == "layer" else found.clip.patches)
    width = found.shape.text.hidden_size if part == "layer" else found.shape.vision.hidden_size
    if checkpointing:
        return measured, 2 * width
    if part == "block":
        return measured, block_bytes(found.shape) + 2 * width
    in_part = found.shape.text.rope_parameters.get("partial_rotary_factor", 1.0) < 1
    return measured, layer_bytes(found.shape) + (2 * found.shape.q if in_part else 0)


def _weights_plus_one(found: Case, checkpointing: bool) -> int:
    """Bytes of the weights that norms in fp32 keep, 1 added, whatever the number of tokens."""
    layers = [] if checkpointing or not found.shape.fp32_norms else found.model.model.language_model.layers
    names = ("input_layernorm", "post_attention_layernorm", "q_norm", "k_norm")
    return sum(4 * w.numel() for name, w in layers.named_parameters() if name.split(".")[-2] in names) if layers else 0


def stored_bytes(found: Case) -> tuple[dict[str, int], dict[str, float]]:
    """Bytes of weights, gradients and Adam's moments after one step, as (measured, formula)."""
    optimizer = torch.optim.AdamW(found.model.parameters(), lr=1e-4)
    found.model(**found.inputs, use_cache=False).logits.float().mean().backward()
    optimizer.step()
    parameters = list(found.model.parameters())
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    measured = {
        "weights": sum(p.nbytes for p in parameters),
        "gradients": sum(p.grad.nbytes for p in parameters if p.grad is not None),
        "Adam": sum(value.nbytes for value in moments),
    }
    settings = replace(read_settings("sft"), master_bytes=parameters[0].element_size())
    return measured, stored(found.shape, settings, 1)


def peak_bytes(found: Case) -> tuple[float, float]:
    """Most bytes alive in a step with gradient checkpointing, as (torch's tracker, formula without CUDA's part).

    torch's cross-entropy keeps the log-probabilities of all words beside the logits and their gradient; the kernel
    that verl uses does not. The formula's figure has them here.
    """
    from torch.distributed._tools.mem_tracker import MemTracker

    checkpointed(found.model)
    optimizer = torch.optim.AdamW(found.model.parameters(), lr=1e-4)

    def step() -> None:
        logits = found.model(**found.inputs, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[0], found.inputs["input_ids"][0]).backward()
        del logits
        optimizer.step()
        optimizer.zero_grad()

    # Adam makes its moments in the first step; the second one is like all that follow.
    step()
    tracker = MemTracker()
    tracker.track_external(found.model, optimizer, *found.inputs.values())
    with tracker:
        step()
    snapshot = tracker.get_tracker_snapshot("peak")
    measured = max(sizes["Total"] for sizes in snapshot.values())
    settings = replace(read_settings("sft"), master_bytes=2, micro_tokens=found.tokens)
    parts = training(found.shape, settings, replace(found.clip, prompt_tokens=found.tokens), 1)
    said = sum(size for part, size in parts.items() if part not in ("gathered layers", "CUDA"))
    return measured, said + 2 * found.tokens * found.shape.text.vocab_size


def line(name: str, measured: float, said: float) -> str:
    return f"  {name:44}{measured:>18,.0f}{said:>18,.0f}{measured / said:>10.5f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256, help="a multiple of 128")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--words", type=int, default=16_000)
    parser.add_argument("--frames", type=int, default=24)
    args = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, transformers {tf.__version__}, CPU")
    for family in FAMILIES:
        config = small_config(family, args.hidden, args.layers, args.layers, args.words)
        found = case(config, args.frames)
        print(f"\n{family}: {found.shape.parameters / 1e6:.1f} M parameters, {found.tokens} tokens")
        print(f"  {'':44}{'measured':>18}{'formula':>18}{'ratio':>10}")
        print(line("parameters", sum(p.numel() for p in found.model.parameters()), found.shape.parameters))
        for mode in ("forward", "training", "checkpointed"):
            print(line(f"operations, {mode}", *flops(case(config, args.frames, attention="eager"), mode)))
        for part, unit in (("layer", "token"), ("block", "patch")):
            print(line(f"bytes a {unit} kept by a {part}", *kept_by_one(family, part, False)))
            print(line("... with checkpointing", *kept_by_one(family, part, True)))
        measured, said = stored_bytes(case(config, 2, dtype=torch.float32))
        for part, size in measured.items():
            print(line(f"bytes of {part} in fp32", size, said[part]))
        print(line("peak bytes of a checkpointed step, bf16", *peak_bytes(case(config, args.frames))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
