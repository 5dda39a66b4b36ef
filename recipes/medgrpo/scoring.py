# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which settings of the reward define a raw signal, and how commands are told them. Imports no model library."""

from __future__ import annotations

import argparse

JUDGES = ("offline", "openai")
"""Whose opinion of a caption a file of scores or statistics holds: an answer is judged by one of these."""


def signal_settings(judge: str = "offline", base_url: str | None = None, model: str | None = None) -> dict:
    """The reward settings that define a raw signal; calibration, evaluation and training must agree in them."""
    settings: dict = {"judge": judge, "dvc_captions": True}
    if judge == "openai":
        settings["judge_settings"] = {"base_url": base_url, "model": model}
    return settings


def judge_label(judge: str, model: str | None = None) -> str:
    """The judge's name in files: the lexical one says that it is no language model."""
    return "offline-lexical" if judge == "offline" else f"openai:{model}"


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """`--judge` and what its endpoint needs; `signal_settings_of` reads them."""
    parser.add_argument("--judge", choices=JUDGES, default="offline", help="of captions; the training's judge")
    parser.add_argument(
        "--judge-base-url", help="of the OpenAI-compatible endpoint; its key comes from the environment"
    )
    parser.add_argument("--judge-model", help="model name at that endpoint")


def signal_settings_of(args: argparse.Namespace) -> dict:
    """`signal_settings` of parsed arguments."""
    return signal_settings(args.judge, args.judge_base_url, args.judge_model)
