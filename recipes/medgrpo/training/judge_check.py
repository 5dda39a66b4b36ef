# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Check a judge's settings and store, and with --judge-ping its answer.

    python -m recipes.medgrpo judge_check --judge openai --judge-base-url URL --judge-model NAME [--judge-ping]

Prints one line per problem. Exit status 2: there are problems.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.medgrpo.reward_options import add_judge_arguments, signal_settings_of
from recipes.medgrpo.terminal import Parser, command
from reward_score.judge import JudgeError, make_judge
from reward_score.judge.errors import judges_failures
from reward_score.judge.make import members_of
from reward_score.paid_call.store import folder_of
from reward_score.paid_call.store.database import FILE_NAME
from reward_score.paid_call.store.maintenance import statistics
from reward_score.settings import JUDGES

NOWHERE = "127.0.0.1:9"
"""Stands for the address of verl's router, which is not known before it runs."""
PAIR = (
    "The grasper retracts the gallbladder while the hook dissects the cystic duct.",
    "The hook dissects the cystic duct; the grasper retracts the gallbladder.",
)
"""What a ping has judged: candidate and reference."""


def _writable(folder: Path) -> bool:
    """Whether a folder, or the one that it would be made in, can be written to."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _made(judge: str, settings: Mapping[str, Any], **changes: Any) -> Any:
    # Without the store: a run may have it open.
    known = {name: value for name, value in {**settings, **changes}.items() if value is not None and name != "store"}
    return make_judge(judge, known, NOWHERE)


def spent_usd(folder: Path) -> float:
    """Dollars that the budget of a folder's store counts. Raises JudgeError for a store that is none."""
    if not (folder / FILE_NAME).exists():
        return 0.0
    with judges_failures():
        lanes = statistics(folder)["lanes"].values()
    return sum(counts.get("cost_usd", 0.0) + counts.get("unconfirmed_usd", 0.0) for counts in lanes)


def shown_key(settings: Mapping[str, Any]) -> list[str]:
    """A problem if the settings hold a key: verl prints and logs them."""
    if any("api_key" in one for one in (settings, settings.get("second") or {})):
        return ["judge_settings hold an api_key, and are logged: set MEDGRPO_JUDGE_API_KEY or name a key_variable"]
    return []


def check_judge(judge: str, settings: Mapping[str, Any]) -> list[str]:
    """Problems of a judge's settings: key, address, model, limits, price, store, budget. Asks no endpoint.

    Args:
        judge: one of `JUDGES`. settings: as in ``judge_settings``.
    """
    if judge == "offline":
        return []
    if problems := shown_key(settings):
        return problems
    try:
        with judges_failures():
            stores = [(folder_of(given["store"]), given) for given in members_of(judge, settings)]
        if locked := [folder for folder, _ in stores if not _writable(folder)]:
            return [f"{locked[0]}: the judge's store cannot be written there"]
        _made(judge, settings)
        for folder, given in stores:
            spent, budget = spent_usd(folder), given.get("budget_usd")
            if budget is not None and spent >= budget:
                return [f"{given['store']}: ${spent:.4f} of the judge's budget of ${budget:.4f} are spent: raise it"]
    except JudgeError as error:
        return [str(error)]
    return []


def ping(judge: str, settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Have a fixed pair judged, without the cache: (problems, remarks)."""
    if judge != "openai":
        return [], [f"--judge-ping: {judge}: there is no endpoint before the run"]

    try:
        started = time.perf_counter()
        judgement = asyncio.run(_made(judge, settings, cache=False).score(*PAIR, task="vs"))
    except JudgeError as error:
        return [f"--judge-ping: {type(error).__name__}: {error}"], []
    tokens = judgement.usage
    return [], [
        f"{judgement.judge} answered in {time.perf_counter() - started:.2f} s, mean score {judgement.mean:.1f}, "
        f"{tokens.prompt_tokens} prompt and {tokens.completion_tokens} completion tokens"
    ]


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that name the judge of a training, and `--judge-ping`; `check_arguments` reads them."""
    add_judge_arguments(parser, JUDGES)
    parser.add_argument("--judge-ping", action="store_true", help="have one pair of texts judged; say how long it took")


def check_arguments(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """`check_judge`, and where it was asked for and nothing is wrong, `ping`: (what is wrong, what is to be said)."""
    settings = signal_settings_of(args).get("judge_settings", {})
    problems = check_judge(args.judge, settings)
    return ping(args.judge, settings) if args.judge_ping and not problems else (problems, [])


@command("judge_check")
def main(argv: list[str] | None = None) -> int:
    parser = Parser("judge_check", __doc__)
    add_check_arguments(parser)
    problems, said = check_arguments(parser.parse_args(argv))
    for line in [*problems, *said]:
        print(f"judge_check: {line}", file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
