# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How `calibrate`, `evaluate sample` and `intervene` are told what to sample. Imports no model library."""

from __future__ import annotations

import argparse
from typing import Any

from recipes.medgrpo.files import InputError
from recipes.medgrpo.inference import engines
from recipes.medgrpo.reward_options import add_judge_arguments, signal_settings_of
from recipes.medgrpo.terminal import whole
from recipes.medgrpo.training.judge_check import check_judge


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Rows, model, engine and judge."""
    add = parser.add_argument
    add("--data", required=True, metavar="PARQUET", help="rows to answer, from the preprocessor")
    add("--samples", type=whole(1), default=4, help="answers per row")
    add("--rows-per-pair", type=whole(1), help="at most N rows of each dataset-task pair (default: all)")
    add("--tasks", nargs="+", metavar="TASK", help="only rows of these tasks (default: all)")
    add("--max-new-tokens", type=whole(1), default=96, help="tokens an answer may have")
    add("--batch-size", type=whole(1), default=192, help="answers at once")
    add("--seed", type=int, default=0, help="seed of the choice of rows and of sampling")
    engines.add_local_arguments(parser, engine="transformers", device="cpu", temperature=1.0)
    add_judge_arguments(parser)


def engine_of(args: argparse.Namespace) -> Any:
    """The engine of parsed arguments, not yet started. InputError: arguments that do not go with it."""
    engines.check(args, args.engine)
    engine: Any = engines.make(args, args.engine)
    if args.engine == "rollout":
        for line in engine.servers.differences(args.temperature, args.max_new_tokens):
            print(f"--engine rollout: {line}")
    return engine


def scoring_of(args: argparse.Namespace) -> dict:
    """The reward settings of parsed arguments. InputError: a judge that cannot be used, before anything is sampled."""
    scoring = signal_settings_of(args)
    for problem in check_judge(args.judge, scoring.get("judge_settings", {})):
        raise InputError(problem)
    return scoring


def sampling_of(args: argparse.Namespace) -> dict:
    """What `sample_and_score` takes of parsed arguments. InputError: arguments or a judge that cannot be used."""
    names = ("samples", "rows_per_pair", "max_new_tokens", "batch_size", "tasks", "seed")
    given = {name: getattr(args, name) for name in names}
    return {"engine": engine_of(args), "scoring": scoring_of(args), **given}
