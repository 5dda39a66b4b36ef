# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The dimensions of a Qwen vision-language model, and how many parameters follow from them.

`models.json` has the dimensions of the models that can be named without their files, from config.json of
huggingface.co/Qwen/NAME-Instruct, and their number of parameters as given there; the tests compare both with
transformers' own classes. Any other model is a folder with a config.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import InputError

MODELS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "models.json").read_text(encoding="utf-8"))

Linear = tuple[int, int]
"""Inputs and outputs of a matrix."""


class PlanError(InputError):
    """A model, a setting or data that no plan can be made of; the message is one line."""


def weights(linears: tuple[Linear, ...]) -> int:
    return sum(inputs * outputs for inputs, outputs in linears)


@dataclass(frozen=True)
class Text:
    """The language model. `bias`: q, k and v have one; `head_norm`: q and k are normalised head by head."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    bias: bool
    head_norm: bool

    @property
    def q(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[Linear, ...]:
        """A layer's matrices: q, k, v, o, gate, up, down."""
        h, i = self.hidden, self.intermediate
        return (h, self.q), (h, self.kv), (h, self.kv), (self.q, h), (h, i), (h, i), (i, h)

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        extra = (self.q + 2 * self.kv if self.bias else 0) + (2 * self.head_dim if self.head_norm else 0)
        return weights(self.linears) + 2 * self.hidden + extra

    @property
    def embedding(self) -> int:
        """Parameters of the token embedding, and of the output head where it is not the same matrix."""
        return self.vocab * self.hidden


@dataclass(frozen=True)
class Vision:
    """The vision tower. A block works on patches, a merger on `merge` x `merge` of them.

    `window`: side of an attention window in merged patches, 0 for none; `full_blocks`: how many blocks attend to a
    whole frame pair; `deepstack`: mergers in mid-tower; `positions`: learnt ones; `gated`: gated MLP, RMS norms.
    """

    hidden: int
    depth: int
    heads: int
    intermediate: int
    out: int
    patch: int
    temporal: int
    merge: int
    channels: int
    window: int
    full_blocks: int
    deepstack: int
    positions: int
    gated: bool

    @property
    def linears(self) -> tuple[Linear, ...]:
        """A block's matrices: q, k and v in one, output, MLP; the last one leads back to `hidden`."""
        h, i = self.hidden, self.intermediate
        return ((h, 3 * h), (h, h), *((h, i),) * (2 if self.gated else 1), (i, h))

    @property
    def block(self) -> int:
        """Parameters of a block."""
        biases = sum(outputs for _, outputs in self.linears)
        return weights(self.linears) + biases + (2 if self.gated else 4) * self.hidden

    @property
    def merged(self) -> int:
        """Width of a merger's input."""
        return self.hidden * self.merge**2

    @property
    def merger_linears(self) -> tuple[Linear, ...]:
        return (self.merged, self.merged), (self.merged, self.out)

    @property
    def mergers(self) -> int:
        """Parameters of all mergers."""
        matrices = weights(self.merger_linears) + self.merged + self.out
        norm = self.hidden if self.gated else 2 * self.hidden
        return matrices + norm + self.deepstack * (matrices + 2 * self.merged)

    @property
    def patch_linear(self) -> Linear:
        return self.channels * self.temporal * self.patch**2, self.hidden

    @property
    def stem(self) -> int:
        """Parameters of the patch embedding and of the positions."""
        return weights((self.patch_linear,)) + (0 if self.gated else self.hidden) + self.positions * self.hidden


@dataclass(frozen=True)
class Shape:
    """A model: its name, its family (`qwen2_5_vl`, `qwen3_vl`) and its two parts."""

    name: str
    family: str
    text: Text
    vision: Vision

    @property
    def parts(self) -> dict[str, int]:
        """Parameters by part."""
        t, v = self.text, self.vision
        return {
            "embedding": t.embedding,
            "layers": t.layers * t.layer + t.hidden,
            "head": 0 if t.tied else t.embedding,
            "vision": v.depth * v.block + v.stem + v.mergers,
        }

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def kv_bytes(self) -> int:
        """Bytes of a token's keys and values in bfloat16."""
        return 2 * 2 * self.text.kv * self.text.layers

    def lora(self, rank: int) -> int:
        """Parameters of adapters of this rank on every matrix of the text layers, where the recipes put them."""
        return rank * self.text.layers * sum(inputs + outputs for inputs, outputs in self.text.linears)


def builtin_config(name: str) -> Any:
    """transformers' configuration of a model in `MODELS`."""
    from transformers import AutoConfig

    known = MODELS[name]
    third = known["model_type"] == "qwen3_vl"
    rope = {"rope_type": "default", "rope_theta": 5e6 if third else 1e6, "mrope_section": [24, 20, 20]}
    if not third:
        rope["mrope_section"] = [16, 24, 24]
    return AutoConfig.for_model(
        known["model_type"],
        text_config=known["text"] | {"rope_parameters": rope, "tie_word_embeddings": known["tied"]},
        vision_config=known["vision"],
        tie_word_embeddings=known["tied"],
    )


def shape_of(config: Any, name: str) -> Shape:
    """The shape behind a transformers configuration. Raises PlanError for another architecture."""
    family = getattr(config, "model_type", None)
    if family not in ("qwen2_5_vl", "qwen3_vl"):
        raise PlanError(f"--model {name}: model_type {family!r}, expected qwen2_5_vl or qwen3_vl")
    third, t, v = family == "qwen3_vl", config.text_config, config.vision_config
    text = Text(
        hidden=t.hidden_size,
        layers=t.num_hidden_layers,
        heads=t.num_attention_heads,
        kv_heads=t.num_key_value_heads,
        head_dim=getattr(t, "head_dim", None) or t.hidden_size // t.num_attention_heads,
        intermediate=t.intermediate_size,
        vocab=t.vocab_size,
        tied=bool(config.tie_word_embeddings),
        bias=t.attention_bias if third else True,
        head_norm=third,
    )
    vision = Vision(
        hidden=v.hidden_size,
        depth=v.depth,
        heads=v.num_heads,
        intermediate=v.intermediate_size,
        out=v.out_hidden_size,
        patch=v.patch_size,
        temporal=v.temporal_patch_size,
        merge=v.spatial_merge_size,
        channels=v.in_channels,
        window=0 if third else v.window_size // v.patch_size // v.spatial_merge_size,
        full_blocks=v.depth if third else len(v.fullatt_block_indexes),
        deepstack=len(v.deepstack_visual_indexes) if third else 0,
        positions=v.num_position_embeddings if third else 0,
        gated=not third,
    )
    return Shape(name, family, text, vision)


def read_shape(model: str) -> Shape:
    """The shape of a built-in model (case is free, `-Instruct` may follow) or of a folder with a config.json.

    Raises:
        PlanError: neither, or another architecture.
    """
    folder = Path(model)
    if (folder / "config.json").is_file():
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        # Broken files raise whatever the libraries that read them raise.
        except Exception as error:
            raise PlanError(f"--model {model}: config.json cannot be read: {str(error).splitlines()[0]}") from error
        return shape_of(config, model)
    wanted = folder.name.lower().removesuffix("-instruct")
    for name in MODELS:
        if name.lower() == wanted:
            return shape_of(builtin_config(name), name)
    raise PlanError(f"--model {model}: expected a folder with config.json or one of {', '.join(MODELS)}")
