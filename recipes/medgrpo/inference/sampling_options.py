# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How `calibrate` and `evaluate sample` are told what to sample. Imports no model library."""

from __future__ import annotations

import argparse

from recipes.medgrpo.files import InputError
from recipes.medgrpo.reward_options import add_judge_arguments, signal_settings_of
from recipes.medgrpo.rollout.standalone import CONFIGS, RolloutServers
from recipes.medgrpo.terminal import real, whole
from recipes.medgrpo.training.judge_check import check_judge


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, sampling and judge."""
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="the checkpoint's folder, in Hugging Face format")
    add("--data", required=True, metavar="PARQUET", help="rows to answer, from the preprocessor")
    add("--samples", type=whole(1), default=4, help="answers per row")
    add("--rows-per-pair", type=whole(1), help="at most N rows of each dataset-task pair (default: all)")
    add("--tasks", nargs="+", metavar="TASK", help="only rows of these tasks (default: all)")
    add("--temperature", type=real(0), default=1.0, help="sampling temperature")
    add("--max-new-tokens", type=whole(1), default=96, help="tokens an answer may have")
    add("--batch-size", type=whole(1), default=192, help="answers at once")
    add("--seed", type=int, default=0, help="seed of the choice of rows and of sampling")
    add(
        "--engine",
        choices=("transformers", "rollout"),
        default="transformers",
        help="in this process, or training's servers",
    )
    add("--device", default="cpu", help="for --engine transformers: cpu (default) or cuda")
    add("--config", choices=CONFIGS, help="for --engine rollout: training configuration (default: this machine's)")
    add("--override", nargs="+", metavar="KEY=VALUE", help="for --engine rollout: hydra overrides of the configuration")
    add_judge_arguments(parser)


def sampling_of(args: argparse.Namespace) -> dict:
    """What `sample_and_score` takes of parsed arguments. InputError: arguments or a judge that cannot be used."""
    servers = None
    if args.engine == "rollout":
        servers = RolloutServers(args.model, args.config, args.override or ())
    elif args.config or args.override:
        raise InputError("--config, --override: expected together with --engine rollout")
    scoring = signal_settings_of(args)
    # Whatever is wrong with the judge comes out now, and not after the first answers are sampled.
    for problem in check_judge(args.judge, scoring.get("judge_settings", {})):
        raise InputError(problem)
    names = ("samples", "rows_per_pair", "temperature", "max_new_tokens", "batch_size", "tasks", "seed", "device")
    return {"scoring": scoring, "servers": servers, **{name: getattr(args, name) for name in names}}
