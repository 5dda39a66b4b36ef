# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Estimate what a training stage needs of a machine: tokens, memory, time.

    python -m recipes.medgrpo plan --model Qwen2.5-VL-7B --gpus 8 --memory 80
    python -m recipes.medgrpo plan --model Qwen3-VL-4B --gpus 1 --card h200 --lora-rank 64 --offload
    python -m recipes.medgrpo plan --model DIR --stage sft --data DATA

The settings are those of recipes/medgrpo/config (medgrpo_gpu.yaml, sft_gpu.yaml), unless an option or --override
changes them. The formulas are in recipes/medgrpo/planning: `arithmetic.py`, `memory.py`, `steptime.py`. Every
assumption, such as the share of a card's peak speed, is an option or a named constant there. No figure has been
measured on a GPU. Exit status 1: the plan does not fit. 2: the input is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data_preprocess.geometry import ASSUMED_SIZE
from recipes.medgrpo.files import write_json
from recipes.medgrpo.planning import PlanError, memory, steady, steptime
from recipes.medgrpo.planning.memory import GIB
from recipes.medgrpo.planning.recipe_settings import Settings, read_settings
from recipes.medgrpo.planning.shapes import Shape, read_shape
from recipes.medgrpo.planning.steptime import CARDS, LOW_MFU, MBU, MFU, Speed
from recipes.medgrpo.planning.tokens import QUESTION_TOKENS, Clip, clip_of, mean_clip, stored_lengths
from recipes.medgrpo.terminal import Parser, command, real, table, whole


def memory_plan(shape: Shape, settings: Settings, clip: Clip, gpus: int, card: float) -> dict[str, Any]:
    """The phases' parts in GiB for the longest clip, what vLLM's cache holds, and `problems`: what does not fit.

    Args:
        clip: the longest.
        gpus: all of them.
        card: memory of one, in GiB.
    """
    usable, problems = card * (1 - memory.RESERVE), []
    update = memory.training(shape, settings, clip, gpus)
    phases = {"SFT step": update}
    cache = None
    if settings.stage == "rl":
        vllm = memory.rollout(shape, settings, clip, gpus, card * GIB)
        old = memory.log_probs(shape, settings, clip, gpus)
        phases = {"rollout": vllm.parts, "old log-probabilities": old, "actor update": update}
        cache = {"gib": vllm.cache / GIB, "tokens": int(max(0, vllm.cache) // shape.kv_bytes)}
        cache |= {"sequences": min(vllm.sequences, settings.max_num_seqs)}
        if vllm.sequences < 1:
            problems.append(
                f"rollout: {settings.utilization:g} of the card leaves {vllm.cache / GIB:.1f} GiB for keys and values"
            )
        if settings.batched_tokens < clip.vision_tokens:
            problems.append(f"rollout: max_num_batched_tokens is below the clip's {clip.vision_tokens} vision tokens")
    for name, parts in phases.items():
        if (total := sum(parts.values()) / GIB) > usable:
            problems.append(f"{name}: {total:.1f} GiB, {usable:.1f} GiB can be used")
    longest = clip.prompt_tokens + settings.response_tokens
    if settings.stage == "rl" and clip.prompt_tokens > settings.prompt_limit:
        problems.append(
            f"prompt: {clip.prompt_tokens} tokens, the limit is {settings.prompt_limit}: the row is left out"
        )
    if longest > settings.micro_tokens:
        problems.append(f"micro-batch: {settings.micro_tokens} tokens, the longest sample has {longest}")
    return {
        "usable_gib": usable,
        "phases": {name: {part: size / GIB for part, size in parts.items()} for name, parts in phases.items()},
        "cache": cache,
        "host_gib": {
            phase: {part: size / GIB for part, size in parts.items()}
            for phase, parts in steady.host(shape, settings, clip, gpus).items()
        },
        "problems": problems,
    }


def suggestions(shape: Shape, settings: Settings, clip: Clip, gpus: int, card: float) -> list[str]:
    """Options that make the plan fit: the first single change that does, else the first few together; [] if none do."""
    longest = clip.prompt_tokens + settings.response_tokens
    prefix = "engine" if settings.stage == "sft" else "actor_rollout_ref.actor.fsdp_config"
    changes: list[tuple[list[str], dict[str, Any]]] = []
    if settings.stage == "rl":
        changes.append((["--offload"], {"offload": True}))
    if longest < settings.micro_tokens:
        changes.append((["--micro-tokens", str(longest)], {"micro_tokens": longest}))
    if longest < settings.log_prob_tokens:
        key = "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu"
        changes.append((["--override", f"{key}={longest}"], {"log_prob_tokens": longest}))
    if settings.stage == "rl":
        changes += [(["--utilization", str(share)], {"utilization": share}) for share in (0.5, 0.4, 0.7)]
    changes.append((["--freeze-vision"], {"freeze_vision": True}))
    if not settings.lora_rank:
        changes.append((["--lora-rank", "64"], {"lora_rank": 64}))
    changes.append((["--override", f"{prefix}.offload_policy=true"], {"host_weights": True}))

    def fits(**change: Any) -> bool:
        return not memory_plan(shape, replace(settings, **change), clip, gpus, card)["problems"]

    for options, change in changes:
        if fits(**change):
            return options
    taken: list[str] = []
    together: dict[str, Any] = {}
    for options, change in changes:
        if change.keys() <= together.keys():
            continue
        taken += options
        together |= change
        if fits(**together):
            return taken
    return []


def time_plan(
    shape: Shape,
    settings: Settings,
    clips: Mapping[str, Clip],
    gpus: int,
    cache: Mapping[str, Any] | None,
    args: Any,
    rows: int | None,
) -> dict[str, Any]:
    """Seconds of a step by part for each clip, all prompts having this one, and hours of the whole stage.

    Each is a list with a figure for each of `args.mfu`.
    """
    speeds = [Speed.of(args.card, mfu, args.mbu) for mfu in args.mfu]
    steps = steptime.updates(settings, rows)
    lengths = {}
    for name, clip in clips.items():
        if settings.stage == "rl":
            fit = cache["sequences"] if cache else 1
            each = [steptime.rl_step(shape, settings, clip, settings.response_tokens, gpus, fit, s) for s in speeds]
        else:
            each = [steptime.sft_step(shape, settings, clip, settings.response_tokens, gpus, s) for s in speeds]
        totals = [sum(parts.values()) for parts in each]
        lengths[name] = {
            "seconds": {part: [parts[part] for parts in each] for part in each[0]},
            "step": totals,
            "hours": [total * steps / 3600 for total in totals],
        }
    return {"steps": steps, "card": CARDS[args.card]["name"], "mfu": args.mfu, "mbu": args.mbu, "frames": lengths}


def make(args: argparse.Namespace) -> dict[str, Any]:
    """The whole plan. Raises PlanError."""
    shape = read_shape(args.model)
    settings = read_settings(args.stage, args.override)
    named = vars(args).keys() & vars(settings).keys() - ({"rollouts"} if args.stage == "sft" else set())
    settings = replace(settings, **{name: vars(args)[name] for name in named if vars(args)[name] is not None})
    if args.gpus % (settings.tensor_parallel * settings.nodes):
        raise PlanError(f"--gpus {args.gpus}: expected a multiple of nodes times tensor_model_parallel_size")
    stored = stored_lengths(args.data, shape.family) if args.data else None
    size = tuple(args.frame_size)
    clips = [clip_of(n, size, shape.family, args.question_tokens) for n in sorted(set(args.frames))]
    longest = max(clips, key=lambda clip: clip.prompt_tokens)
    by_name = {str(clip.frames): clip for clip in clips}
    if stored:
        by_name["data"] = mean_clip(stored, size, shape.family)
    card = CARDS[args.card]["memory_gib"] if args.memory is None else args.memory
    room = memory_plan(shape, settings, longest, args.gpus, card)
    return {
        "model": shape.name,
        "family": shape.family,
        "parameters": shape.parts | {"all": shape.parameters, "trained": memory.trained(shape, settings)},
        "gpus": args.gpus,
        "memory_gib": card,
        "settings": asdict(settings),
        "clips": [asdict(clip) for clip in clips],
        "stored": stored and asdict(stored),
        "memory": room,
        "suggestions": suggestions(shape, settings, longest, args.gpus, card) if room["problems"] else [],
        "time": time_plan(shape, settings, by_name, args.gpus, room["cache"], args, stored.rows if stored else None),
    }


def between(figures: Sequence[float], decimals: int = 1) -> str:
    """`31.9 to 70.2`, and one number where all are the same."""
    return " to ".join(dict.fromkeys(f"{figure:.{decimals}f}" for figure in figures))


def text(plan: Mapping[str, Any]) -> str:
    """The plan for a terminal."""
    numbers, room, spent, settings = plan["parameters"], plan["memory"], plan["time"], plan["settings"]
    counts = ("patches", "vision_tokens", "mark_tokens", "prompt_tokens")
    blocks = [
        f"{plan['model']}, {settings['stage']}, {plan['gpus']} x {plan['memory_gib']:g} GiB; from formulas, not "
        f"measured on a GPU\nparameters: {numbers['all']:,} (vision {numbers['vision']:,}), trained "
        f"{numbers['trained']:,}",
        "Tokens of a prompt\n\n"
        + table(
            ["frames", "pixels", "patches", "vision tokens", "frame-time tokens", "prompt tokens"],
            [
                [clip["frames"], "x".join(map(str, clip["size"])), *(clip[name] for name in counts)]
                for clip in plan["clips"]
            ],
        ),
    ]
    if stored := plan["stored"]:
        shares = ", ".join(f"{share}: {value:,}" for share, value in stored["quantiles"].items())
        blocks.append(f"stored prompts of {stored['rows']:,} rows: mean {stored['prompt_tokens']:,.0f}; {shares}")
    for name, parts in room["phases"].items():
        title = f"GiB per GPU, {name} ({room['usable_gib']:.1f} usable), {plan['clips'][-1]['frames']} frames"
        sizes = {**parts, "all": sum(parts.values())}
        blocks.append(f"{title}\n\n" + table(["part", "GiB"], [list(line) for line in sizes.items()], decimals=2))
    if cache := room["cache"]:
        blocks.append(f"keys and values: {cache['tokens']:,} tokens, {cache['sequences']} whole sequences at once")
    for phase, parts in room["host_gib"].items():
        listed = ", ".join(f"{part} {size:.1f}" for part, size in parts.items())
        blocks.append(f"host GiB per node while {phase}: {sum(parts.values()):.0f} ({listed})")
    names = list(next(iter(spent["frames"].values()))["seconds"])
    per = f"{settings['prompts']} prompts x {settings['rollouts']} answers of {settings['response_tokens']} tokens"
    blocks += [
        f"Seconds of a step, {spent['card']}, mfu {between(spent['mfu'], 2)}, mbu {spent['mbu']:g}, without reward and "
        f"judge; {spent['steps']:,} steps of {per}",
        table(
            ["frames", *names, "step", "hours of all steps"],
            [
                [frames, *map(between, (*row["seconds"].values(), row["step"], row["hours"]))]
                for frames, row in spent["frames"].items()
            ],
        ),
    ]
    if settings["host_weights"]:
        blocks.append("Weights and Adam come from host memory: their transfers are not in these times")
    if not room["problems"]:
        return "\n\n".join([*blocks, "fits"])
    found = " ".join(plan["suggestions"])
    advice = f"try: {found}" if found else "none of the known changes makes it fit: more GPUs"
    return "\n\n".join([*blocks, "\n".join([*(f"does not fit: {one}" for one in room["problems"]), advice])])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("plan", __doc__)
    add, share = parser.add_argument, real(0, 1, above=True)
    add("--model", required=True, help="a folder with config.json, or a built-in name, for example Qwen2.5-VL-7B")
    add("--gpus", type=whole(1), default=8, help="number of GPUs, over all nodes")
    add("--card", choices=tuple(CARDS), default="h100", help="kind of GPU: gives its speed and memory")
    add("--memory", type=real(0, above=True), metavar="GIB", help="memory of one GPU in GiB (default: the card's)")
    add("--stage", choices=("rl", "sft"), default="rl", help="which training")
    add("--frames", type=whole(1), nargs="+", default=[60, 120, 180], help="frames of a clip (default: 60 120 180)")
    add(
        "--frame-size",
        type=whole(1),
        nargs=2,
        default=ASSUMED_SIZE,
        metavar=("W", "H"),
        help=f"frames' width and height on disk in pixels (default: {' '.join(map(str, ASSUMED_SIZE))})",
    )
    add("--question-tokens", type=whole(0), default=QUESTION_TOKENS, help="tokens of a prompt's text")
    add("--data", type=Path, help="the preprocessor's folder: plan with its prompt lengths and rows")
    add("--prompts", type=whole(1), help="prompts per training step (default: recipe's)")
    add("--rollouts", type=whole(1), help="answers per prompt (default: recipe's)")
    add("--response-tokens", type=whole(1), help="tokens of every answer (default: recipe's limit, the slowest case)")
    add("--steps", type=whole(1), help="training steps (default: recipe's)")
    add("--micro-tokens", type=whole(1), help="tokens of a GPU's micro-batch (default: recipe's)")
    add("--utilization", type=share, help="share of a GPU's memory for vLLM (default: recipe's)")
    add("--lora-rank", type=whole(0), help="rank of LoRA adapters, 0 for none (default: recipe's)")
    add("--freeze-vision", action="store_true", default=None, help="do not train the vision tower")
    add(
        "--offload",
        action="store_true",
        default=None,
        help="keep weights and Adam's state in host memory while vLLM works",
    )
    add("--mfu", type=share, nargs="+", default=[MFU, LOW_MFU], help="assumed shares of the card's peak arithmetic")
    add("--mbu", type=share, default=MBU, help="assumed share of the card's peak memory bandwidth")
    add("--override", action="append", default=[], metavar="KEY=VALUE", help="a setting of the recipe; may be repeated")
    add("--json", type=Path, help="write the plan to this file too")
    return parser.parse_args(argv)


@command("plan")
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    plan = make(args)
    print(text(plan))
    if args.json:
        write_json(args.json, plan)
    return 1 if plan["memory"]["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
