# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How many parameters and matrices a vision-language model has, counted in transformers' own class.

The class is made on torch's meta device: its modules are there, its weights take no memory.
`models.json` has the configuration of the models that can be named without their files, as in config.json of
huggingface.co/Qwen/NAME-Instruct, and their number of parameters as given there. For Qwen3.5-4B the number is the one
that follows from its configuration, without the layer for multi-token prediction, which transformers does not make. Any
other model is a folder with a config.json.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.medgrpo.data.families import FAMILIES, family_of
from recipes.medgrpo.planning import PlanError

MODELS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "models.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Layers:
    """The layers of the language model, or the blocks of the vision tower.

    Attributes:
        number: how many.
        largest: parameters of the largest one.
        matrices: weights of all their matrices without the last one of each.
        last: weights of these last ones; their outputs are a layer's output.
        sides: inputs and outputs of all matrices, summed.
    """

    number: int
    largest: int
    matrices: int
    last: int
    sides: int

    @classmethod
    def of(cls, layers: Iterable[Any]) -> Layers:
        """Counts in modules of torch."""
        layers = list(layers)
        linears = [_linears(layer) for layer in layers]
        last = sum(found[-1].weight.numel() for found in linears)
        every = [linear for found in linears for linear in found]
        weights = sum(linear.weight.numel() for linear in every)
        sides = sum(linear.in_features + linear.out_features for linear in every)
        return cls(len(layers), max(map(_parameters, layers)), weights - last, last, sides)


def _linears(module: Any) -> list[Any]:
    from torch import nn

    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def _gated(layer: Any) -> bool:
    """Whether a layer makes a gate beside its queries, in the same matrix."""
    return hasattr(layer, "self_attn") and layer.self_attn.q_proj.out_features > layer.self_attn.o_proj.in_features


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True)
class States:
    """The layers of the language model that keep a state of fixed size instead of keys and values (Gated DeltaNet).

    Attributes:
        number: how many; 0, and so is the rest, where every layer attends.
        heads: of values; queries and keys are repeated to as many.
        key, value: width of a head; its state is a matrix of key x value numbers.
        channels, kernel: of the short convolution over queries, keys and values.
    """

    number: int = 0
    heads: int = 0
    key: int = 0
    value: int = 0
    channels: int = 0
    kernel: int = 0

    @classmethod
    def of(cls, layers: Iterable[Any]) -> States:
        """What modules of torch say."""
        found = [layer.linear_attn for layer in layers if hasattr(layer, "linear_attn")]
        if not found:
            return cls()
        one = found[0]
        return cls(len(found), one.num_v_heads, one.head_k_dim, one.head_v_dim, one.conv_dim, one.conv_kernel_size)

    @property
    def bytes(self) -> int:
        """Of a sequence: each layer's state in fp32, and in bfloat16 what its convolution looks back at."""
        return self.number * (4 * self.heads * self.key * self.value + 2 * self.channels * (self.kernel - 1))


@dataclass(frozen=True)
class Shape:
    """A model.

    Attributes:
        name, family: its own name and its family's.
        text, vision: transformers' configurations of its two parts.
        parts: parameters by part: embedding, layers (with the last norm), head (0 where it is the embedding), vision.
        layers, blocks: of the language model and of the vision tower.
        states: what some of the layers keep instead of keys and values.
        patch: weights of the patch embedding.
        mergers: weights of the matrices that turn patches into vision tokens.
        outside: parameters of the vision tower outside its blocks.
        head_norm: whether queries and keys are normalised head by head.
        fp32_norms: whether norms of the text layers multiply in fp32; their weights are then distances from 1.
        gated_heads: whether a gate, made beside the queries, multiplies attention's output.
        gated: whether the MLP of a vision block has a gate, and RMS norms before it.
    """

    name: str
    family: str
    text: Any
    vision: Any
    parts: dict[str, int]
    layers: Layers
    blocks: Layers
    states: States
    patch: int
    mergers: int
    outside: int
    head_norm: bool
    fp32_norms: bool
    gated_heads: bool
    gated: bool

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return not self.parts["head"]

    @property
    def head_dim(self) -> int:
        return getattr(self.text, "head_dim", None) or self.text.hidden_size // self.text.num_attention_heads

    @property
    def q(self) -> int:
        """Width of all query heads."""
        return self.text.num_attention_heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.text.num_key_value_heads * self.head_dim

    @property
    def attending(self) -> int:
        """Layers whose tokens attend to all tokens before them."""
        return self.layers.number - self.states.number

    @property
    def kv_bytes(self) -> int:
        """Bytes of a token's keys and values in bfloat16."""
        return 2 * 2 * self.kv * self.attending

    def lora(self, rank: int) -> int:
        """Parameters of adapters of this rank on every matrix of the text layers, where the recipes put them."""
        return rank * self.layers.sides


def builtin_config(name: str) -> Any:
    """transformers' configuration of a model in `MODELS`."""
    from transformers import AutoConfig

    # A copy: a configuration changes the dictionaries that it is made of.
    return AutoConfig.for_model(**copy.deepcopy(MODELS[name]["config"]))


def shape_of(config: Any, name: str) -> Shape:
    """The shape behind a transformers configuration. Raises PlanError for another architecture."""
    import torch

    kind = getattr(config, "model_type", None)
    if kind not in FAMILIES:
        raise PlanError(f"--model {name}: model_type {kind!r}, expected {' or '.join(FAMILIES)}")
    if torch.version.cuda is None:
        # Before transformers' classes import torchvision beside a CPU build of torch.
        import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401
    family = family_of(config)
    with torch.device("meta"):
        model = family.from_transformers("model")(config)
    language, tower = model.model.language_model, model.model.visual
    embedding, vision = _parameters(language.embed_tokens), _parameters(tower)
    matrices = sum(linear.weight.numel() for linear in _linears(tower))
    blocks = Layers.of(tower.blocks)
    return Shape(
        name=name,
        family=kind,
        text=config.text_config,
        vision=config.vision_config,
        parts={
            "embedding": embedding,
            "layers": _parameters(language) - embedding,
            "head": _parameters(model) - _parameters(language) - vision,
            "vision": vision,
        },
        layers=Layers.of(language.layers),
        blocks=blocks,
        states=States.of(language.layers),
        patch=tower.patch_embed.proj.weight.numel(),
        mergers=matrices - blocks.matrices - blocks.last,
        outside=vision - sum(map(_parameters, tower.blocks)),
        head_norm=any(hasattr(part, "q_norm") for part in language.modules()),
        fp32_norms=family.fp32_norms,
        gated_heads=any(_gated(layer) for layer in language.layers),
        gated=len(_linears(tower.blocks[0].mlp)) == 3,
    )


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
