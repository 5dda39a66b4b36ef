# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which settings of the reward define a raw signal, and how commands are told them. Imports no model library."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from recipes.medgrpo.terminal import real, whole
from reward_score.settings import SCORING_JUDGES

ENCODER = "all-MiniLM-L6-v2"
"""The packaged sentence encoder, as files name it."""
PROMPT = "comparative"
"""The judge's prompt where none is named; it goes unsaid in labels and headers."""
LEADERBOARD_PROMPT = "rubric"
"""The judge's prompt for the leaderboard's columns."""
RUNNING = (
    *("store", "budget_usd", "requests_per_min", "tokens_per_min", "max_in_flight"),
    *("prompt_price", "completion_price", "key_variable", "filter_codes"),
)
"""Settings of a judge that say how it is asked: a verdict is the same whatever they are."""


def signal_settings(
    judge: str = "offline", encoder: str | None = None, *, tal_wasserstein: bool = False, **judge_settings: Any
) -> dict:
    """The reward settings that define a raw signal; calibration, evaluation and training must agree in them.

    Args:
        judge: one of `reward_score.settings.JUDGES`. **judge_settings: of it, see `reward_score.judge.make_judge`.
        encoder: of sentence similarity; None: the packaged one.
        tal_wasserstein: the setting of that name, which adds a signal.
    """
    settings: dict = {"judge": judge, "dvc_captions": True}
    if tal_wasserstein:
        settings["tal_wasserstein"] = True
    if encoder is not None:
        settings["encoder"] = encoder
    return settings if judge == "offline" else settings | {"judge_settings": judge_settings}


def defining(settings: Mapping[str, Any]) -> dict:
    """`signal_settings` for the head of a file of answers: what changes no verdict is left out, the prompt is named."""
    found = dict(settings)
    if "judge_settings" in found:
        from reward_score.judge.prompting import load_prompt

        judge = _without(found["judge_settings"], RUNNING)
        if "second" in judge:
            judge["second"] = _without(judge["second"], RUNNING)
        found["judge_settings"] = judge | {"prompt_sha256": load_prompt(judge.get("prompt", PROMPT)).digest}
    return found


def _without(settings: Mapping[str, Any], names: Sequence[str]) -> dict:
    return {name: value for name, value in settings.items() if name not in names}


def judge_label(
    judge: str, model: str | None = None, prompt: str | None = None, second_model: str | None = None
) -> str:
    """The judge's name in files: the lexical one says that it is no language model.

    Whether an endpoint or verl's servers run a model says nothing of its verdicts, so both have one name. A prompt
    other than the default is named by its version; one of the user's own by its content too. Two judges that are
    averaged are named both.

    Raises:
        ValueError: no such prompt.
    """
    if second_model is not None:
        return f"mean({judge_label(judge, model, prompt)}, {judge_label(judge, second_model, prompt)})"
    if judge == "offline":
        return "offline-lexical"
    if prompt in (None, PROMPT):
        return f"openai:{model}"
    from reward_score.judge.prompting import load_prompt

    found = load_prompt(prompt)
    return f"openai:{model}/{found.version}" + (
        "" if prompt.replace("-", "_").isidentifier() else f"+{found.digest[:12]}"
    )


def label_of(settings: Mapping[str, Any]) -> str:
    """`judge_label` of settings that `signal_settings` made, or that a file's head holds."""
    judge = settings.get("judge_settings") or {}
    second = (judge.get("second") or {}).get("model")
    return judge_label(settings.get("judge", "offline"), judge.get("model"), judge.get("prompt"), second)


def _prompt(text: str) -> str:
    """The name or file of a prompt that can be read, for argparse."""
    from reward_score.judge.prompting import load_prompt

    try:
        load_prompt(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_judge_arguments(parser: argparse.ArgumentParser, judges: Sequence[str] = SCORING_JUDGES) -> None:
    """`--judge` and what its endpoint needs; `signal_settings_of` reads them."""
    group = parser.add_argument_group(
        "judge of captions", "The key of an endpoint comes from the environment: MEDGRPO_JUDGE_API_KEY."
    )
    add, positive = group.add_argument, real(0, above=True)
    add("--judge", choices=judges, default="offline", help="offline: word overlap, no model; openai: an endpoint")
    add("--judge-base-url", metavar="URL", help="address of an OpenAI-compatible endpoint")
    add("--judge-model", metavar="NAME", help="the model's name there")
    add("--judge-prompt", type=_prompt, metavar="NAME", help=f"prompt, by name or file (default: {PROMPT})")
    add("--judge-store", metavar="DIR", help="folder that keeps verdicts and costs; one command at a time")
    add(
        "--judge-budget-usd",
        "--budget-usd",
        type=positive,
        metavar="USD",
        help="limit of the cost in dollars, over the life of the store",
    )
    add("--judge-requests-per-min", type=positive, help="most requests a minute, over all users of the store")
    add("--judge-tokens-per-min", type=positive, help="most tokens a minute, likewise")
    add("--judge-in-flight", type=whole(1), dest="judge_max_in_flight", help="most requests at once, likewise")
    add("--judge-filter-codes", nargs="+", metavar="CODE", help="more codes of its content filter")
    for tokens in ("prompt", "completion"):
        add(
            f"--judge-{tokens}-price",
            type=real(0),
            metavar="USD",
            help=f"dollars per million {tokens} tokens (default: list price)",
        )
    add("--judge-second-model", metavar="NAME", help="a second model, whose scores are averaged with the first one's")
    add("--judge-second-base-url", metavar="URL", help="address of the second model (default: the first one's)")
    add("--judge-second-key-variable", metavar="NAME", help="variable with its key (default: the first one's)")
    for tokens in ("prompt", "completion"):
        add(f"--judge-second-{tokens}-price", type=real(0), metavar="USD", help="the same for the second model")
    add("--encoder", metavar="NAME", help=f"sentence encoder: folder, hub name or server address (default: {ENCODER})")


_FIRST = (
    *("prompt", "store", "budget_usd", "requests_per_min", "tokens_per_min", "max_in_flight"),
    *("prompt_price", "completion_price", "filter_codes"),
)
_SECOND = ("model", "base_url", "key_variable", "prompt_price", "completion_price")


def signal_settings_of(args: argparse.Namespace) -> dict:
    """`signal_settings` of parsed arguments; what is not given is left to the judge."""

    def given(prefix: str, names: Sequence[str]) -> dict:
        return {name: value for name in names if (value := getattr(args, f"{prefix}_{name}")) is not None}

    judge = {"base_url": args.judge_base_url, "model": args.judge_model, **given("judge", _FIRST)}
    if args.judge == "router":
        del judge["base_url"]
    if judge.get("prompt") == PROMPT:
        del judge["prompt"]
    if args.judge_second_model is not None:
        judge["second"] = given("judge_second", _SECOND)
    optional = bool(getattr(args, "tal_wasserstein", False))
    return signal_settings(args.judge, args.encoder, tal_wasserstein=optional, **judge)


def label_of_args(args: argparse.Namespace) -> str:
    """`judge_label` of parsed arguments."""
    return label_of(signal_settings_of(args))
