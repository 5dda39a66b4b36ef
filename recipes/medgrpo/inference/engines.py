# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which engine a command line asks for.

`vllm` where vLLM can be imported and a GPU is there, else `transformers`; `rollout` and `endpoint` are asked for.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from typing import TYPE_CHECKING

from recipes.medgrpo.files import InputError
from recipes.medgrpo.rollout.standalone import CONFIGS
from recipes.medgrpo.terminal import real, whole

if TYPE_CHECKING:
    from recipes.medgrpo.inference.jobs import Engine

ENGINES = ("vllm", "transformers", "rollout", "endpoint")


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


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """`--engine`, and what each engine needs to know."""
    add, positive = parser.add_argument, real(0, above=True)
    add("--engine", choices=ENGINES, help="what runs the model (default: vllm with a GPU, else transformers)")
    add("--temperature", type=real(0), default=0.0, help="sampling temperature; 0 (default): the likeliest token")
    local = parser.add_argument_group("with --engine vllm or transformers")
    add_local = local.add_argument
    add_local("--dtype", help="for vllm: type of the weights (default: bfloat16 on GPUs, else float32)")
    add_local("--device", help="for transformers: cpu or cuda (default: cuda with a GPU)")
    add_local(
        "--tensor-parallel-size", "--tensor_parallel_size", type=whole(1), default=1, help="for vllm: GPUs per model"
    )
    add_local(
        "--gpu-memory-utilization",
        "--gpu_memory_utilization",
        type=positive,
        default=0.8,
        help="for vllm: share of a GPU's memory",
    )
    add_local("--max-model-len", type=whole(1), help="for vllm: most tokens of prompt and answer (default: 32768)")
    add_local("--data-parallel", type=whole(1), default=1, help="processes, each with GPUs of its own")
    rollout = parser.add_argument_group("with --engine rollout")
    rollout.add_argument("--config", choices=CONFIGS, help="training configuration (default: this machine's)")
    rollout.add_argument("--override", nargs="+", metavar="KEY=VALUE", help="hydra overrides of the configuration")
    endpoint = parser.add_argument_group(
        "with --engine endpoint", "The key comes from the environment: MEDGRPO_ENDPOINT_API_KEY or OPENAI_API_KEY."
    )
    add_remote = endpoint.add_argument
    add_remote("--base-url", metavar="URL", help="its address, for example http://127.0.0.1:8000/v1")
    add_remote("--endpoint-model", metavar="NAME", help="the model's name there")
    add_remote("--concurrency", type=whole(1), default=8, help="requests at once")
    add_remote("--max-images", type=whole(1), help="most frames of a clip to send (default, and rc: all)")
    add_remote("--jpeg-quality", type=whole(1), default=90, help="JPEG quality of the frames")
    add_remote("--retries", type=whole(0), default=6, help="how often a failed request is repeated")
    add_remote("--timeout", type=real(0, above=True), default=300.0, metavar="SECONDS", help="wait for a reply")
    add_remote(
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
    elif args.base_url or args.endpoint_model:
        raise InputError("--base-url, --endpoint-model: expected together with --engine endpoint")
    if engine != "rollout" and (args.config or args.override):
        raise InputError("--config, --override: expected together with --engine rollout")
    if args.data_parallel > 1 and engine not in ("vllm", "transformers"):
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
    if engine == "vllm":
        if importlib.util.find_spec("vllm") is None:
            raise InputError("--engine vllm: expected vLLM to be installed (pip install vllm==0.24.0), found none")
        from recipes.medgrpo.inference.vllm_engine import Offline

        return Offline(
            args.model,
            temperature=args.temperature,
            dtype=args.dtype or ("bfloat16" if gpus() else "float32"),
            clips=2 if args.one_shot else 1,
            tensor_parallel_size=args.tensor_parallel_size,
            gpu_memory_utilization=args.gpu_memory_utilization,
            max_model_len=args.max_model_len,
        )
    from recipes.medgrpo.inference.local_engines import InProcess, Rollout

    if engine == "rollout":
        return Rollout(args.model, args.config, args.override or (), args.temperature)
    return InProcess(args.model, args.device or ("cuda" if gpus() else "cpu"), args.temperature)
