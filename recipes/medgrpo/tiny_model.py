# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write a tiny random model of a real architecture; nothing is downloaded.

    python -m recipes.medgrpo tiny_model --family qwen2_5_vl --text DATA/train.parquet --output MODEL
    python -m recipes.medgrpo tiny_model --like Qwen3-VL-2B --text DATA/train.parquet --output MODEL   # its dimensions

The tokenizer is a byte-level BPE trained on the prompts and answers of the given parquet files, so that an answer
takes tens of tokens, not hundreds. Digits stay single tokens, as in Qwen's own tokenizer.
"""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.medgrpo.data.families import FAMILIES, family_of
from recipes.medgrpo.data.rows import read_columns
from recipes.medgrpo.terminal import Parser, command, whole

if TYPE_CHECKING:
    from transformers import Qwen2TokenizerFast

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# Of families that think: told not to, the thought is there and empty.
THOUGHT = """\
{%- if add_generation_prompt -%}
{%- if enable_thinking is false -%}{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- else -%}{{- '<think>\\n' -}}{%- endif -%}
{%- endif -%}
"""

# Two axes of each head's 16 rotary frequencies for space, one for time.
HEAD_DIM = 32


def corpus(files: Iterable[str]) -> Iterator[str]:
    """Prompts and reference answers of the preprocessor's parquet files. Raises InputError for another file."""
    for file in files:
        for row in read_columns(file, "prompt", "extra_info.answer").to_pylist():
            yield from (message["content"] for message in row["prompt"])
            yield row["answer"]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Qwen2TokenizerFast:
    """A byte-level BPE with the special tokens and the chat template of Qwen2.5-VL."""
    import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401  isort: skip
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=4096,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build(
    family: str,
    tokenizer: Qwen2TokenizerFast,
    *,
    hidden: int = 128,
    layers: int = 2,
    spread: float = 0.06,
    tied: bool = False,
):
    """A freshly drawn model and its processor.

    `spread` is the standard deviation of the initial weights. `tied`: the output layer is the embedding, as in
    published models of up to 4B.
    """
    import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401  isort: skip

    kind = family_of(family)
    ids = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // HEAD_DIM,
        "num_key_value_heads": hidden // HEAD_DIM,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "initializer_range": spread,
        "bos_token_id": None,
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|endoftext|>"),
        "tie_word_embeddings": tied,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "out_hidden_size": hidden,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "initializer_range": spread,
    }
    tokens = {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
        "initializer_range": spread,
        "tie_word_embeddings": tied,
    }
    # Copies: a configuration changes the dictionaries that it is made of.
    text, vision = copy.deepcopy({**text, **kind.tiny_text}), copy.deepcopy({**vision, **kind.tiny_vision})
    config = kind.from_transformers("config")(text_config=text, vision_config=vision, **tokens)
    return kind.from_transformers("model")(config), processor_of(family, tokenizer)


def build_like(name: str, tokenizer: Qwen2TokenizerFast):
    """A model with random weights, in bfloat16, of the dimensions that a published one has, and its processor.

    Its vocabulary is the tokenizer's.
    """
    import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401  isort: skip
    import torch

    from recipes.medgrpo.planning.shapes import builtin_config

    config, ids = builtin_config(name), tokenizer.convert_tokens_to_ids
    config.text_config.vocab_size = len(tokenizer)
    config.text_config.bos_token_id = None
    config.text_config.eos_token_id = ids("<|im_end|>")
    for part in ("image", "video"):
        setattr(config, f"{part}_token_id", ids(f"<|{part}_pad|>"))
    for end in ("start", "end"):
        setattr(config, f"vision_{end}_token_id", ids(f"<|vision_{end}|>"))
    standard = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = family_of(config).from_transformers("model")(config)
    finally:
        torch.set_default_dtype(standard)
    return model, processor_of(config.model_type, tokenizer)


def processor_of(family: str, tokenizer: Qwen2TokenizerFast):
    """A family's processor with this tokenizer, which shows clips of up to 4,096 cells a frame as they are."""
    from transformers import Qwen2VLImageProcessor

    kind = family_of(family)
    cell = kind.convention.cell**2
    shape = {"patch_size": kind.convention.patch_size, "temporal_patch_size": 2, "merge_size": 2}
    if kind.convention.thinks:
        tokenizer.chat_template = CHAT_TEMPLATE + THOUGHT
    return kind.from_transformers("processor")(
        image_processor=Qwen2VLImageProcessor(**shape, size={"shortest_edge": cell, "longest_edge": 64 * cell}),
        video_processor=kind.from_transformers("video_processor")(
            **shape, size={"shortest_edge": cell, "longest_edge": 4096 * cell}
        ),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def write(model, processor, tokenizer, output: Path) -> None:
    """The whole model in its folder, or none."""
    draft = output.with_name(output.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    for part in (model, processor, tokenizer):
        part.save_pretrained(draft)
    shutil.rmtree(output, ignore_errors=True)
    draft.rename(output)


@command("tiny_model")
def main(argv: list[str] | None = None) -> None:
    parser = Parser("tiny_model", __doc__)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--family", choices=tuple(FAMILIES), help="architecture of a tiny model")
    what.add_argument("--like", metavar="NAME", help="a model of `plan` whose dimensions it gets")
    add("--text", nargs="+", required=True, metavar="PARQUET", help="parquet files that the tokenizer is trained on")
    add("--output", required=True, type=Path, help="folder to write the model to")
    add("--vocab-size", type=whole(300), default=1024, help="number of tokens")
    add("--hidden", type=whole(32), default=128, help="hidden size, a multiple of 32")
    add("--layers", type=whole(1), default=2, help="number of text layers")
    add("--tie-embeddings", action="store_true", help="of --family: the output layer is the embedding")
    add("--seed", type=int, default=0, help="seed of the weights")
    args = parser.parse_args(argv)
    if (args.output / "config.json").exists():
        print(f"{args.output}: a model is already there")
        return
    from recipes.medgrpo.planning.shapes import MODELS

    if args.like and args.like not in MODELS:
        parser.error(f"--like {args.like}: expected one of {', '.join(MODELS)}")
    texts = list(corpus(args.text))
    import torch

    tokenizer = train_tokenizer(texts, args.vocab_size)
    torch.manual_seed(args.seed)
    if args.like:
        model, processor = build_like(args.like, tokenizer)
    else:
        sizes = {"hidden": args.hidden, "layers": args.layers}
        model, processor = build(args.family, tokenizer, **sizes, tied=args.tie_embeddings)
    write(model, processor, tokenizer, args.output)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{args.output}: {args.like or args.family}, {parameters / 1e6:.2f} M parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    sys.exit(main())
