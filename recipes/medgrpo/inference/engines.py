# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which engine a command line asks for.

`vllm` where vLLM can be imported and a GPU is there, else `transformers`; `rollout` and `endpoint` are asked for.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recipes.medgrpo.files import InputError
from recipes.medgrpo.rollout.standalone import CONFIGS, RolloutServers
from recipes.medgrpo.terminal import real, whole

if TYPE_CHECKING:
    from recipes.medgrpo.inference.jobs import Engine

LOCAL = ("vllm", "transformers", "rollout")
"""The engines that run a checkpoint on this machine."""
ORDINAL = ("sampled", "expectation")
"""What stands where an answer has a mark."""
ENGINES = (*LOCAL, "endpoint")


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def choose(asked: str | None) -> tuple[str, str]:
    """(engine, why it is this one)."""
    if asked:
        return asked, "as asked"
    if importlib.util.find_spec("vllm") is None:
        return "transformers", "vLLM is not installed"
    return ("vllm", "vLLM and a GPU are there") if gpus() else ("transformers", "no GPU is there")


def add_local_arguments(
    parser: argparse.ArgumentParser,
    *,
    engines: Sequence[str] = LOCAL,
    engine: str | None = None,
    device: str | None = None,
    temperature: float = 0.0,
) -> None:
    """The checkpoint, `--engine` and what an engine that runs it needs to know.

    Args:
        engines: those to choose from. engine, device: the defaults; None chooses by this machine.
        temperature: the default.
    """
    add = parser.add_argument
    add("--model", "--model_path", metavar="DIR", help="the checkpoint's folder, in Hugging Face format")
    usual = engine or "vllm with a GPU, else transformers"
    add("--engine", choices=engines, default=engine, help=f"what runs the model (default: {usual})")
    add("--temperature", type=real(0), default=temperature, help="sampling temperature; 0: the likeliest token")
    add = parser.add_argument_group("with --engine vllm or transformers").add_argument
    add("--dtype", help="for vllm: type of the weights (default: bfloat16 on GPUs, else float32)")
    usual = device or "cuda with a GPU"
    add("--device", default=device, help=f"for transformers: cpu or cuda (default: {usual})")
    add("--tensor-parallel-size", "--tensor_parallel_size", type=whole(1), default=1, help="for vllm: GPUs per model")
    add(
        "--gpu-memory-utilization",
        "--gpu_memory_utilization",
        type=real(0, above=True),
        default=0.8,
        help="for vllm: share of a GPU's memory",
    )
    add("--max-model-len", type=whole(1), help="for vllm: most tokens of prompt and answer (default: 32768)")
    add = parser.add_argument_group("with --engine rollout").add_argument
    add("--config", choices=CONFIGS, help="training configuration (default: this machine's)")
    add("--override", nargs="+", metavar="KEY=VALUE", help="hydra overrides of the configuration")


def add_ordinal_argument(parser: argparse.ArgumentParser) -> None:
    """`--ordinal`, of the commands whose answers may have other marks than the model wrote."""
    parser.add_argument(
        "--ordinal",
        choices=ORDINAL,
        default=ORDINAL[0],
        help="marks of sa and cvs: as the model writes them, or the rounded expectation over the marks' probabilities",
    )


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of all engines, an endpoint and several processes included."""
    add_local_arguments(parser, engines=ENGINES)
    add_ordinal_argument(parser)
    parser.add_argument("--data-parallel", type=whole(1), default=1, help="processes, each with GPUs of its own")
    add = parser.add_argument_group(
        "with --engine endpoint", "The key comes from the environment: MEDGRPO_ENDPOINT_API_KEY or OPENAI_API_KEY."
    ).add_argument
    add("--base-url", metavar="URL", help="its address, for example http://127.0.0.1:8000/v1")
    add("--endpoint-model", metavar="NAME", help="the model's name there")
    add("--concurrency", type=whole(1), default=8, help="requests at once")
    add("--max-images", type=whole(1), help="most frames of a clip to send (default, and rc: all)")
    add("--jpeg-quality", type=whole(1), default=90, help="JPEG quality of the frames")
    add("--retries", type=whole(0), default=6, help="how often a failed request is repeated")
    add("--timeout", type=real(0, above=True), default=300.0, metavar="SECONDS", help="wait for a reply")
    add(
        "--tokens-field",
        choices=("max_tokens", "max_completion_tokens"),
        default="max_tokens",
        help="name of the token limit",
    )


def check(args: argparse.Namespace, engine: str) -> None:
    """Raises `InputError` for arguments that do not go with the engine, one line."""
    if engine == "endpoint":
        missing = [name for name in ("base_url", "endpoint_model") if getattr(args, name) is None]
        if missing:
            names = ", ".join("--" + name.replace("_", "-") for name in missing)
            raise InputError(f"{names}: expected with --engine endpoint")
    elif args.model is None:
        raise InputError(f"--model: expected a checkpoint folder with --engine {engine}")
    elif getattr(args, "base_url", None) or getattr(args, "endpoint_model", None):
        raise InputError("--base-url, --endpoint-model: expected together with --engine endpoint")
    if engine != "rollout" and (args.config or args.override):
        raise InputError("--config, --override: expected together with --engine rollout")
    if engine not in ("vllm", "transformers") and getattr(args, "ordinal", ORDINAL[0]) != ORDINAL[0]:
        raise InputError(f"--ordinal {args.ordinal}: expected with --engine vllm or transformers")
    if engine not in ("vllm", "transformers") and getattr(args, "data_parallel", 1) > 1:
        raise InputError(f"--data-parallel {args.data_parallel}: expected with --engine vllm or transformers")


def make(args: argparse.Namespace, engine: str) -> Engine:
    """The engine, not yet started. Raises InputError or RolloutError where it cannot be made."""
    if engine == "endpoint":
        from recipes.medgrpo.inference.endpoint_engine import Endpoint

        return Endpoint(
            args.base_url,
            args.endpoint_model,
            temperature=args.temperature,
            concurrency=args.concurrency,
            retries=args.retries,
            timeout=args.timeout,
            max_images=args.max_images,
            quality=args.jpeg_quality,
            tokens_field=args.tokens_field,
        )
    from recipes.medgrpo.inference.ordinal import Marks

    marks = Marks() if getattr(args, "ordinal", ORDINAL[0]) == "expectation" else None
    if engine == "vllm":
        if importlib.util.find_spec("vllm") is None:
            raise InputError("--engine vllm: expected vLLM to be installed (pip install vllm==0.24.0), found none")
        from recipes.medgrpo.data.rows import read_columns
        from recipes.medgrpo.inference.vllm_engine import Offline

        clips = 2 if getattr(args, "one_shot", None) else 1
        return Offline(
            args.model,
            temperature=args.temperature,
            dtype=args.dtype or ("bfloat16" if gpus() else "float32"),
            clips=clips,
            # vLLM keeps memory for what it may be shown.
            stills=clips if 1 in read_columns(args.data, "extra_info.frames")["frames"].to_pylist() else 0,
            tensor_parallel_size=args.tensor_parallel_size,
            gpu_memory_utilization=args.gpu_memory_utilization,
            max_model_len=args.max_model_len,
            marks=marks,
        )
    from recipes.medgrpo.inference.local_engines import InProcess, Rollout

    if engine == "rollout":
        return Rollout(RolloutServers(args.model, args.config, args.override or ()), args.temperature)
    return InProcess(args.model, args.device or ("cuda" if gpus() else "cpu"), args.temperature, marks)
