# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Estimate what a training stage needs of a machine: tokens, memory, time.

    python -m recipes.medgrpo plan --model Qwen2.5-VL-7B --gpus 8 --memory 80
    python -m recipes.medgrpo plan --model Qwen3-VL-4B --gpus 1 --card h200 --lora-rank 64 --offload
    python -m recipes.medgrpo plan --model DIR --stage sft --data DATA

Settings are those of recipes/medgrpo/config (medgrpo_gpu.yaml, sft_gpu.yaml) unless an option or --override says
otherwise. The formulas stand in recipes/medgrpo/planning: `arithmetic.py`, `memory.py`, `steptime.py`. What is assumed,
as the share of a card's peak that is reached, is an option or a named constant there. No figure has been measured on a
GPU. Exits with 1 when the plan does not fit, with 2 for a wrong input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data_preprocess.geometry import ASSUMED_SIZE
from recipes.medgrpo.files import write_json
from recipes.medgrpo.planning import memory, steptime
from recipes.medgrpo.planning.memory import GIB
from recipes.medgrpo.planning.recipe_settings import Settings, read_settings
from recipes.medgrpo.planning.shapes import PlanError, Shape, read_shape
from recipes.medgrpo.planning.steptime import CARDS, MBU, MFU, Speed
from recipes.medgrpo.planning.tokens import QUESTION_TOKENS, Clip, clip_of, mean_clip, stored_lengths
from recipes.medgrpo.terminal import real, whole


def memory_plan(shape: Shape, settings: Settings, clip: Clip, gpus: int, card: float) -> dict[str, Any]:
    """The phases' parts in GiB for the longest clip, what vLLM's cache holds, and `problems`: what does not fit.

    Args:
        clip: the longest.
        gpus: all of them.
        card: memory of one, in GiB.
    """
    usable, problems = card * (1 - memory.RESERVE), []
    phases = [memory.training(shape, settings, clip, gpus)]
    cache = None
    if settings.stage == "rl":
        vllm = memory.rollout(shape, settings, clip, gpus, card * GIB)
        phases = [vllm.phase, memory.log_probs(shape, settings, clip, gpus), *phases]
        cache = {"gib": vllm.cache / GIB, "tokens": int(max(0, vllm.cache) // shape.kv_bytes)}
        cache |= {"sequences": min(vllm.sequences, settings.max_num_seqs)}
        if vllm.sequences < 1:
            problems.append(
                f"rollout: {settings.utilization:g} of the card leaves {vllm.cache / GIB:.1f} GiB for keys and values"
            )
        if settings.batched_tokens < clip.vision_tokens:
            problems.append(f"rollout: max_num_batched_tokens is below the clip's {clip.vision_tokens} vision tokens")
    for phase in phases:
        if phase.total > usable * GIB:
            problems.append(f"{phase.name}: {phase.total / GIB:.1f} GiB, {usable:.1f} GiB can be used")
    longest = clip.prompt_tokens + settings.response_tokens
    if settings.stage == "rl" and clip.prompt_tokens > settings.prompt_limit:
        problems.append(
            f"prompt: {clip.prompt_tokens} tokens, the limit is {settings.prompt_limit}: the row is left out"
        )
    if longest > settings.micro_tokens:
        problems.append(f"micro-batch: {settings.micro_tokens} tokens, the longest sample has {longest}")
    return {
        "usable_gib": usable,
        "phases": {p.name: {part: size / GIB for part, size in p.parts.items()} for p in phases},
        "cache": cache,
        "host_gib": {part: size / GIB for part, size in memory.host(shape, settings, gpus).items()},
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
    clips: list[Clip],
    gpus: int,
    cache: Mapping[str, Any] | None,
    args: Any,
    rows: int | None,
) -> dict[str, Any]:
    """Seconds of a step by part for each clip, all prompts having this one, and hours of the whole stage."""
    speed = Speed.of(args.card, args.mfu, args.mbu)
    steps = steptime.updates(settings, rows)
    lengths = {}
    for name, clip in clips.items():
        if settings.stage == "rl":
            fit = cache["sequences"] if cache else 1
            parts = steptime.rl_step(shape, settings, clip, settings.response_tokens, gpus, fit, speed)
        else:
            parts = steptime.sft_step(shape, settings, clip, settings.response_tokens, gpus, speed)
        total = sum(parts.values())
        lengths[name] = {"seconds": parts, "step": total, "hours": total * steps / 3600}
    return {"steps": steps, "card": CARDS[args.card]["name"], "mfu": args.mfu, "mbu": args.mbu, "frames": lengths}


def make(args: argparse.Namespace) -> dict[str, Any]:
    """The whole plan. Raises PlanError."""
    shape = read_shape(args.model)
    settings = read_settings(args.stage, args.override)
    given = {
        "prompts": args.prompts,
        "rollouts": args.rollouts if args.stage == "rl" else None,
        "response_tokens": args.response_tokens,
        "micro_tokens": args.micro_tokens,
        "utilization": args.utilization,
        "lora_rank": args.lora_rank,
        "steps": args.steps,
        "freeze_vision": args.freeze_vision or None,
        "offload": args.offload or None,
    }
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if args.gpus % (settings.tensor_parallel * settings.nodes):
        raise PlanError(f"--gpus {args.gpus}: expected a multiple of nodes times tensor_model_parallel_size")
    stored = stored_lengths(args.data, shape.family) if args.data else None
    size = tuple(args.frame_size)
    clips = [clip_of(n, size, shape.family, args.question_tokens) for n in sorted(set(args.frames))]
    longest = max(clips, key=lambda clip: clip.prompt_tokens)
    named = {str(clip.frames): clip for clip in clips}
    if stored:
        named["data"] = mean_clip(stored, size, shape.family)
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
        "time": time_plan(shape, settings, named, args.gpus, room["cache"], args, stored and stored.rows),
    }


def text(plan: Mapping[str, Any]) -> str:
    """The plan for a terminal."""
    numbers, room, spent, settings = plan["parameters"], plan["memory"], plan["time"], plan["settings"]
    lines = [
        f"{plan['model']}, {settings['stage']}, {plan['gpus']} x {plan['memory_gib']:g} GiB; from formulas, not "
        "measured on a GPU",
        f"parameters   {numbers['all']:,} (vision {numbers['vision']:,}), trained {numbers['trained']:,}",
        "",
        f"tokens       {'frames':>8}{'pixels':>11}{'patches':>9}{'vision':>8}{'marks':>7}{'prompt':>8}",
    ]
    for clip in plan["clips"]:
        size = "x".join(map(str, clip["size"]))
        lines.append(
            f"{'':13}{clip['frames']:>8}{size:>11}{clip['patches']:>9,}{clip['vision_tokens']:>8,}"
            f"{clip['mark_tokens']:>7,}{clip['prompt_tokens']:>8,}"
        )
    if stored := plan["stored"]:
        shares = ", ".join(f"{share}: {value:,}" for share, value in stored["quantiles"].items())
        lines.append(f"{'':13}stored prompts of {stored['rows']:,} rows: mean {stored['prompt_tokens']:,.0f}; {shares}")
    for name, parts in room["phases"].items():
        lines += ["", f"GiB per GPU, {name} ({room['usable_gib']:.1f} usable), {plan['clips'][-1]['frames']} frames"]
        lines += [f"  {part:36}{size:>8.2f}" for part, size in parts.items()]
        lines.append(f"  {'all':36}{sum(parts.values()):>8.2f}")
    if cache := room["cache"]:
        lines.append(f"  keys and values: {cache['tokens']:,} tokens, {cache['sequences']} whole sequences at once")
    lines.append(f"host GiB per node: {', '.join(f'{part} {size:.1f}' for part, size in room['host_gib'].items())}")
    lines += [
        "",
        f"seconds of a step, {spent['card']}, mfu {spent['mfu']:g}, mbu {spent['mbu']:g}; no reward, no judge",
    ]
    names = list(next(iter(spent["frames"].values()))["seconds"])
    lines.append(
        f"  {'frames':>6}" + "".join(f"{name:>23}" for name in names) + f"{'step':>10}{'hours of all steps':>20}"
    )
    for frames, row in spent["frames"].items():
        parts = "".join(f"{row['seconds'][name]:>23.1f}" for name in names)
        lines.append(f"  {frames:>6}{parts}{row['step']:>10.1f}{row['hours']:>20.1f}")
    per = f"{settings['prompts']} prompts x {settings['rollouts']} answers of {settings['response_tokens']} tokens"
    lines.append(f"  {spent['steps']:,} steps of {per}")
    if settings["host_weights"]:
        lines.append("  weights and Adam come from host memory: their transfers are not in these times")
    if not room["problems"]:
        lines += ["", "fits"]
    else:
        lines += ["", *(f"does not fit: {problem}" for problem in room["problems"])]
        found = plan["suggestions"]
        lines.append("try: " + " ".join(found) if found else "none of the known changes makes it fit: more GPUs")
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with config.json, or a built-in name: Qwen2.5-VL-7B")
    parser.add_argument("--gpus", type=whole(1), default=8, help="all of them, over all nodes")
    parser.add_argument("--memory", type=real(0, above=True), metavar="GIB", help="of a card; default: the card's")
    parser.add_argument("--card", choices=tuple(CARDS), default="h100", help="for its speed")
    parser.add_argument("--stage", choices=("rl", "sft"), default="rl")
    parser.add_argument("--frames", type=whole(1), nargs="+", default=[60, 120, 180])
    parser.add_argument(
        "--frame-size", type=whole(1), nargs=2, default=ASSUMED_SIZE, metavar=("W", "H"), help="on disk"
    )
    parser.add_argument("--question-tokens", type=whole(0), default=QUESTION_TOKENS, help="of a prompt, without clip")
    parser.add_argument("--data", type=Path, help="the preprocessor's folder: its stored lengths, its number of rows")
    parser.add_argument("--prompts", type=whole(1), help="a step")
    parser.add_argument("--rollouts", type=whole(1), help="answers to a prompt")
    parser.add_argument(
        "--response-tokens", type=whole(1), help="of every answer; default: the budget, the slowest case"
    )
    parser.add_argument("--steps", type=whole(1))
    parser.add_argument("--micro-tokens", type=whole(1), help="a GPU's micro-batch in training")
    parser.add_argument("--utilization", type=real(0, 1, above=True), help="vLLM's share of a card")
    parser.add_argument("--lora-rank", type=whole(0), help="0: all weights")
    parser.add_argument("--freeze-vision", action="store_true")
    parser.add_argument("--offload", action="store_true", help="weights and Adam in host memory while vLLM works")
    parser.add_argument(
        "--mfu", type=real(0, 1, above=True), default=MFU, help="share of the peak arithmetic; an assumption"
    )
    parser.add_argument(
        "--mbu", type=real(0, 1, above=True), default=MBU, help="share of the peak bandwidth; an assumption"
    )
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="as the recipes take them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan there as well")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        plan = make(args)
    except (PlanError, ValueError) as error:
        print(f"plan: error: {error}", file=sys.stderr)
        return 2
    print(text(plan))
    if args.json:
        write_json(args.json, plan)
    return 1 if plan["memory"]["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
