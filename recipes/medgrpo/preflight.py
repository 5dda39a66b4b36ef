# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Everything that can be known to be wrong before Ray starts, in one list.

    python -m recipes.medgrpo.preflight --data DATA --statistics statistics.json --checkpoints CKPT [--tasks tal stg]
        [--normalizer logistic] [--rewarded-tasks tal stg vs rc] [--judge openai --judge-model NAME ... [--judge-ping]]

Also repairs a broken checkpoint tracker. Prints the step that training will resume from (0: from the start).
Exit status 2 when anything is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recipes.medgrpo.advantages import ADVANTAGES, make_advantage
from recipes.medgrpo.checkpoints import repair_tracker
from recipes.medgrpo.files import code_fingerprint
from recipes.medgrpo.judge_check import check_judge, ping
from recipes.medgrpo.scoring import (
    ENCODER,
    TRAINING_JUDGES,
    add_judge_arguments,
    label_of_args,
    signal_settings,
    signal_settings_of,
)
from reward_score.errors import RewardError
from reward_score.medgrpo import needed_signals
from reward_score.normalization import NORMALIZERS, Normalizer, Statistics, missing_pairs
from reward_score.settings import ADAPTIVE, answer_map
from reward_score.tasks import TASKS

VERL = "0.9.1"
GIB = 1 << 30


def check_data(folder: Path, tasks: list[str] | None, family: str | None) -> tuple[list[str], set[str]]:
    """(what is wrong, the pairs that will be trained on or validated)."""
    problems, sources = [], set()
    for split in ("train", "val"):
        file = folder / f"{split}.parquet"
        try:
            with pq.ParquetFile(file) as parquet:
                table = parquet.read(columns=["data_source", "ability", "extra_info.model_family"])
        except (OSError, pa.ArrowInvalid) as error:
            problems.append(f"{file}: cannot be read as parquet: {str(error).splitlines()[0]}")
            continue
        pairs = set(zip(table["data_source"].to_pylist(), table["ability"].to_pylist(), strict=True))
        sources |= {source for source, task in pairs if tasks is None or task in tasks}
        # Boxes are written in the model's own space: those of another family are wrong without an error.
        families = set(pc.struct_field(table["extra_info"], "model_family").unique().to_pylist())
        if family is not None and families != {family}:
            problems.append(
                f"{file}: made for {' and '.join(sorted(families))}, the model is {family}: preprocess again"
            )
    if not problems and not sources:
        problems.append(f"{folder}: no row of the tasks {' '.join(tasks or [])}")
    return problems, sources


def check_statistics(
    file: Path,
    sources: set[str],
    judge: str,
    normalizer: str = "logistic",
    rewarded: list[str] | None = None,
    encoder: str = ENCODER,
) -> tuple[list[str], list[str]]:
    """(what is wrong, what is odd). `rewarded` are the tasks that earn a reward, None for all."""
    try:
        statistics = Statistics.load(file)
    except (RewardError, OSError, ValueError) as error:
        return [str(error)], []
    # Which signals a task has does not depend on which judge gives them.
    needed = needed_signals(**signal_settings(), normalizer=normalizer, rewarded_tasks=rewarded)
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
        if origin.get(name) not in (None, mine):
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


def check_machine(checkpoints: Path, free_gib: float) -> list[str]:
    problems = []
    if version("verl") != VERL:
        problems.append(f"verl {version('verl')} is installed, this recipe needs {VERL}")
    place = checkpoints
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIB
    if free < free_gib:
        problems.append(f"{checkpoints}: {free:.1f} GiB free, {free_gib:.1f} GiB needed for checkpoints")
    return problems


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder with train.parquet and val.parquet")
    parser.add_argument("--statistics", required=True, type=Path)
    parser.add_argument("--checkpoints", required=True, type=Path)
    parser.add_argument("--tasks", nargs="+", help="tasks trained on; default all")
    parser.add_argument(
        "--normalizer", choices=(*NORMALIZERS, ADAPTIVE), default="logistic", help="as in the training's reward_kwargs"
    )
    parser.add_argument("--advantage", choices=ADVANTAGES, default="grpo", help="as in the sampler's settings")
    parser.add_argument("--rewarded-tasks", nargs="+", choices=tuple(TASKS), help="likewise; default all")
    parser.add_argument("--model-family", help="what the data must have been made for; default unchecked")
    add_judge_arguments(parser, TRAINING_JUDGES)
    parser.add_argument("--judge-ping", action="store_true", help="have one pair judged, and say how long it took")
    parser.add_argument("--free-gib", type=float, default=1.0, help="disk space that the checkpoints need")
    args = parser.parse_args(argv)
    problems, sources = check_data(args.data, args.tasks, args.model_family)
    odd: list[str] = []
    if not problems:
        judge = label_of_args(args)
        wrong, odd = check_statistics(
            args.statistics, sources, judge, args.normalizer, args.rewarded_tasks, args.encoder or ENCODER
        )
        problems += wrong
    judge_settings = signal_settings_of(args).get("judge_settings", {})
    wrong = check_judge(args.judge, judge_settings)
    if args.judge_ping and not wrong:
        wrong, said = ping(args.judge, judge_settings)
        odd += said
    problems += wrong
    problems += check_machine(args.checkpoints, args.free_gib)
    for problem in problems:
        print(f"preflight: {problem}", file=sys.stderr)
    if problems:
        return 2
    step, repair = repair_tracker(args.checkpoints)
    problems = check_state(args.checkpoints, step or 0, args.normalizer, args.advantage)
    for note in [*odd, *([repair] if repair else []), *problems]:
        print(f"preflight: {note}", file=sys.stderr)
    if problems:
        return 2
    print(step or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
