# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""List everything that can be known to be wrong before Ray starts.

    python -m recipes.medgrpo preflight --data DATA --statistics statistics.json --checkpoints CKPT [--tasks tal stg]
        [--normalizer logistic] [--tal-wasserstein] [--rewarded-tasks tal stg vs rc]
        [--judge openai --judge-model NAME ... [--judge-ping]]
    python -m recipes.medgrpo preflight --stage sft --data DATA --checkpoints CKPT [--tasks tal stg]
    ... --machine gpu [--model DIR] [--gpus 8] [--gpu-gib 79] [--host-gib 176] [--shm-gib 16]
        [--attention sdpa]                                      # on a machine with GPUs, both stages

It also repairs a broken checkpoint tracker, and prints the step from which training will resume (0: from the start).
Exit status 2: there are problems.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_preprocess.chat import STILL
from recipes.medgrpo.data.families import FAMILIES
from recipes.medgrpo.data.rows import DataError, read_columns
from recipes.medgrpo.files import code_fingerprint
from recipes.medgrpo.planning import host
from recipes.medgrpo.planning.machine import (
    GPU_PACKAGES,
    check_disk,
    check_gpus,
    check_model,
    check_packages,
    check_verl,
)
from recipes.medgrpo.reward_options import ENCODER, label_of_args, signal_settings
from recipes.medgrpo.terminal import Parser, command, real, whole
from recipes.medgrpo.training.advantages import ADVANTAGES, make_advantage
from recipes.medgrpo.training.checkpoints import TRACKER, repair_tracker
from recipes.medgrpo.training.judge_check import add_check_arguments, check_arguments
from reward_score.errors import RewardError
from reward_score.medgrpo import needed_signals
from reward_score.normalization import NORMALIZERS, Normalizer
from reward_score.settings import ADAPTIVE, answer_map
from reward_score.statistics import Statistics, missing_pairs
from reward_score.tasks import TASKS

ATTENTION = ("flash_attention_2", "sdpa")


def check_data(folder: Path, tasks: list[str] | None, family: str | None) -> tuple[list[str], set[str]]:
    """(what is wrong, the pairs that will be trained on or validated)."""
    problems, sources = [], set()
    if unknown := [task for task in tasks or [] if task not in TASKS]:
        problems.append(f"--tasks: {' '.join(unknown)}: expected some of {' '.join(TASKS)}")
    for split in ("train", "val"):
        file = folder / f"{split}.parquet"
        try:
            table = read_columns(file, "data_source", "ability", "extra_info.model_family")
        except DataError as error:
            problems.append(str(error))
            continue
        pairs = set(zip(table["data_source"].to_pylist(), table["ability"].to_pylist(), strict=True))
        sources |= {source for source, task in pairs if tasks is None or task in tasks}
        # Boxes are written in the model's own space: those of another family are wrong without an error.
        families = set(table["model_family"].unique().to_pylist())
        if family is not None and families != {family}:
            problems.append(
                f"{file}: made for {' and '.join(sorted(map(str, families)))}, the model is {family}: preprocess again"
            )
    if not problems and not sources:
        problems.append(f"{folder}: no row of the tasks {' '.join(tasks or [])}")
    return problems, sources


def check_stills(folder: Path, tasks: list[str] | None) -> list[str]:
    """Rows that show an image, where they cannot be trained on.

    The rollouts of servers that take no image fail. Several processes with sharded weights call the vision tower once
    for images and once for clips: one that has both in a micro-batch waits for another that has not.
    """
    file = folder / "train.parquet"
    try:
        # Most data have no row of one frame, and prompts are long.
        if 1 not in read_columns(file, "extra_info.frames")["frames"].to_pylist():
            return []
        table = read_columns(file, "ability", "prompt")
    except DataError:
        return []  # check_data says so
    rows = sum(
        any(STILL in turn["content"] for turn in prompt)
        for task, prompt in zip(table["ability"].to_pylist(), table["prompt"].to_pylist(), strict=True)
        if tasks is None or task in tasks
    )
    key = "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image"
    wanted = f"N_GPUS=1 and, for MedGRPO, {key}=1"
    return [f"{file}: {rows} rows show an image: expected rows of clips, or {wanted}"] if rows else []


def check_lengths(folder: Path) -> list[str]:
    """Rows without a stored prompt length cannot be left out where they are too long: training would stop at them."""
    problems = []
    for split in ("train", "val"):
        file = folder / f"{split}.parquet"
        try:
            rows = read_columns(file, "extra_info.prompt_tokens")["prompt_tokens"].null_count
        except DataError:
            continue  # check_data says so
        if rows:
            problems.append(f"{file}: {rows} rows without extra_info.prompt_tokens: preprocess with --tokenizer")
    return problems


def check_statistics(
    file: Path,
    sources: set[str],
    judge: str | None,
    normalizer: str = "logistic",
    rewarded: list[str] | None = None,
    encoder: str = ENCODER,
    tal_wasserstein: bool = False,
) -> tuple[list[str], list[str]]:
    """(what is wrong, what is odd). `rewarded` are the tasks that earn a reward, None for all; `judge` is None where
    captions are rewarded for their similarity alone; `tal_wasserstein` is the reward's setting of that name."""
    try:
        statistics = Statistics.load(file)
    except (RewardError, OSError, ValueError) as error:
        return [str(error)], []
    # Which signals a task has does not depend on which judge gives them, only on whether there is one.
    settings = signal_settings(tal_wasserstein=tal_wasserstein) | ({} if judge is not None else {"judge": None})
    needed = needed_signals(**settings, normalizer=normalizer, rewarded_tasks=rewarded)
    name = answer_map(normalizer)
    problems = [
        f"{file}: no statistics for {missing}: calibrate on data that has this pair"
        for missing in missing_pairs(statistics, sorted(sources), needed)
    ]
    if not problems:
        absent = missing_pairs(statistics, sorted(sources), needed, NORMALIZERS[name].needs)
        problems = [f"{file}: {field}: the normalizer {normalizer} needs it: calibrate again" for field in absent]
    if not problems:
        # The reward reads the whole file, rows of other pairs included.
        try:
            Normalizer(statistics, name)
        except RewardError as error:
            problems.append(str(error))
    origin = statistics.meta
    for name, what, mine in (("judge", "judge", judge), ("similarity", "encoder", encoder)):
        if mine is not None and origin.get(name) not in (None, mine):
            problems.append(
                f"{file}: calibrated with the {what} {origin[name]!r}, training uses {mine!r}: calibrate again"
            )
    notes = []
    if origin.get("code", {}).get("sha256") not in (None, code_fingerprint()):
        notes.append(f"{file}: the reward's code has changed since this calibration")
    return problems, notes


def check_state(checkpoints: Path, step: int, normalizer: str, advantage: str) -> list[str]:
    """What a run that resumes after `step` lacks of what its normaliser or advantage had learnt."""
    learns = [f"the normalizer {normalizer}"] if normalizer == ADAPTIVE else []
    learns += [f"the advantage {advantage}"] if make_advantage(advantage).state_dict() else []
    # As `sampler` writes it; it drops the state only where the checkpoint is gone.
    state = checkpoints / "sampler" / f"step_{step}.json"
    if not step or not learns or state.is_file():
        return []
    return [f"{state}: missing, and {' and '.join(learns)} cannot go on without: resume from another checkpoint"]


def sft_step(checkpoints: Path) -> tuple[int, list[str]]:
    """(the step that verl's SFT trainer resumes from, what is wrong with it); its tracker is written last, at once."""
    tracker = checkpoints / TRACKER
    if not tracker.exists():
        return 0, []
    text = tracker.read_text(encoding="utf-8", errors="replace").strip()
    folder = checkpoints / f"global_step_{text}"
    if not text.isdigit() or not list(folder.glob("model_world_size_*_rank_*.pt")):
        return 0, [f"{tracker}: says {text!r}, and there is no such checkpoint: name another one, or remove the file"]
    return int(text), []


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("preflight", __doc__)
    add = parser.add_argument
    add("--stage", choices=("sft", "rl"), default="rl", help="which training; sft needs no statistics and no judge")
    add("--data", type=Path, help="folder with train.parquet and val.parquet")
    add("--statistics", type=Path, help="statistics.json of the calibration")
    add("--checkpoints", required=True, type=Path, help="folder that training writes checkpoints to")
    add("--tasks", nargs="+", metavar="TASK", help="tasks that are trained on (default: all)")
    add("--normalizer", choices=(*NORMALIZERS, ADAPTIVE), default="logistic", help="the training's normaliser")
    add("--tal-wasserstein", action="store_true", help="the training's reward has the setting tal_wasserstein")
    add("--no-stills", action="store_true", help="the training takes clips and no image")
    add("--advantage", choices=ADVANTAGES, default="grpo", help="the training's advantage")
    add("--rewarded-tasks", nargs="+", choices=tuple(TASKS), help="tasks that earn a reward (default: all)")
    add("--model-family", metavar="NAME", help="model family that the data must be made for (default: not checked)")
    add_check_arguments(parser)
    add("--no-judge", action="store_true", help="captions are rewarded for their similarity alone")
    add("--free-gib", type=real(0), default=1.0, metavar="GIB", help="free disk space in GiB that checkpoints need")
    add("--machine", choices=("any", "gpu"), default="any", help="gpu: also packages, prompt lengths, GPUs, the host")
    add("--model", type=Path, help="the model that training starts from, in Hugging Face format")
    add("--gpus", type=whole(0), help="GPUs that this machine must have (default: not checked)")
    add("--gpu-gib", type=real(0), default=79.0, metavar="GIB", help="memory in GiB that each GPU must have")
    add("--host-gib", type=real(0), default=0.0, metavar="GIB", help="memory in GiB that the machine must have")
    add("--shm-gib", type=real(0), default=0.0, metavar="GIB", help="shared memory in GiB that must be free")
    add("--attention", choices=ATTENTION, default=ATTENTION[0], help="the actor's; sdpa needs no flash-attn")
    add("--partial", action="store_true", help="check only what is given, and exit with 2: other input is missing")
    args = parser.parse_args(argv)
    args.judge_ping = args.judge_ping and not args.partial
    needed = ("data",) if args.stage == "sft" else ("data", "statistics")
    if missing := [f"--{name}" for name in needed if getattr(args, name) is None and not args.partial]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return args


def check_run(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """(what is wrong, what is to be said) of data, statistics and judge."""
    problems: list[str] = []
    sources: set[str] = set()
    odd: list[str] = []
    if args.data is not None:
        problems, sources = check_data(args.data, args.tasks, args.model_family)
        if args.machine == "gpu":
            problems += check_lengths(args.data)
        if args.no_stills:
            problems += check_stills(args.data, args.tasks)
    if args.stage == "sft":
        return problems, odd
    if not problems and args.statistics is not None:
        wrong, odd = check_statistics(
            args.statistics,
            sources,
            None if args.no_judge else label_of_args(args),
            args.normalizer,
            args.rewarded_tasks,
            args.encoder or ENCODER,
            args.tal_wasserstein,
        )
        problems += wrong
    if not args.no_judge:
        wrong, said = check_arguments(args)
        problems += wrong
        odd += said
    return problems, odd


def check_machine(args: argparse.Namespace) -> list[str]:
    """What is wrong with packages, GPUs, the host around them, disk and the model."""
    if args.machine == "any":
        return check_verl() + check_disk(args.checkpoints, args.free_gib)
    from recipes.medgrpo.rollout import vllm_times

    family = FAMILIES.get(args.model_family)
    names = [name for name in GPU_PACKAGES if name != "flash-attn" or args.attention != "sdpa"]
    problems = check_packages(names=[*names, *(family.gpu_packages if family else ())]) or check_verl()
    # With other versions of these packages a clip's times were not shown to reach the model as they are.
    problems += vllm_times.problems()
    if args.gpus is not None:
        problems += check_gpus(args.gpus, args.gpu_gib) + host.check_driver()
    problems += host.check_shm(args.shm_gib) + host.check_compiler() + host.check_glibc()
    problems += host.check_host(args.host_gib) + check_disk(args.checkpoints, args.free_gib)
    if args.model is not None:
        problems += check_model(args.model, args.model_family)
    return problems


@command("preflight")
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    problems, odd = check_run(args)
    problems += check_machine(args)
    if args.machine == "gpu":
        odd += host.notes_on_ray()
    for problem in problems:
        print(f"preflight: {problem}", file=sys.stderr)
    if problems or args.partial:
        return 2
    if args.stage == "sft":
        step, problems = sft_step(args.checkpoints)
    else:
        latest, repair = repair_tracker(args.checkpoints)
        step = latest or 0
        odd += [repair] if repair else []
        problems = check_state(args.checkpoints, step, args.normalizer, args.advantage)
    for note in [*odd, *problems]:
        print(f"preflight: {note}", file=sys.stderr)
    if problems:
        return 2
    print(step)
    return 0


if __name__ == "__main__":
    sys.exit(main())
