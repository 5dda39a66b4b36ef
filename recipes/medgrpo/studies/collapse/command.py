# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Scan an exact small policy for the settings under which training collapses; or test real trainings.

    python -m recipes.medgrpo collapse --output outputs/collapse
    python -m recipes.medgrpo collapse --output outputs/collapse --variants none:grpo paper:grpo --rates 3 \\
        --groups 4 8 exact --coupling 0.5 1
    python -m recipes.medgrpo collapse --output outputs/collapse --runs outputs/collapse/*_rate*_seed*/*/

A softmax policy chooses among 24 written answers to one question of each of ten dataset-task pairs. Rewards,
normalisers and advantages are those of the trainings, and the update is verl's clipped one. Every combination of the
settings is trained with every seed. The command writes `collapse.json` with every training and `collapse.md` with the
tables. What the model is and what it leaves out: docs/collapse.md.

With `--runs` it reads the trainings that `examples/run_collapse.sh` made instead, and writes `trainings.json` and
`trainings.md`: the hypotheses that docs/collapse.md registers, their differences, intervals and p-values, and which
training collapsed when. `--earlier` takes such files for whole blocks whose folders are elsewhere, or gone.

A training of 300 steps takes about 0.06 s on one core, with the normaliser `adaptive` ten times as long. Loading the
sentence encoder takes seconds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipes.medgrpo.evaluation.tables import publish
from recipes.medgrpo.files import InputError
from recipes.medgrpo.studies.collapse.hypotheses import registered
from recipes.medgrpo.studies.collapse.policy import OPTIMIZERS
from recipes.medgrpo.studies.collapse.run import CHOICES, EXACT, Setting, as_json, style_advantages, train
from recipes.medgrpo.studies.collapse.text import markdown, trainings_markdown
from recipes.medgrpo.studies.collapse.world import make_world
from recipes.medgrpo.terminal import Parser, command, progress, real, whole
from recipes.medgrpo.training.advantages import ADVANTAGES
from reward_score.settings import ADAPTIVE
from reward_score.tasks import TASKS

VARIANTS = (
    *("paper:grpo", "logistic:grpo", "none:grpo", "paper:dr_grpo", "none:dr_grpo"),
    *("none:gdpo", "none:ema_grpo", "none:mt_grpo", "none:g2rpo"),
)
WORLDS = ("agreeing", "conflict")


def variant(text: str) -> tuple[str, str]:
    """NORMALIZER:ADVANTAGE, for argparse."""
    normalizer, _, advantage = text.partition(":")
    if normalizer not in CHOICES or advantage not in ADVANTAGES:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NORMALIZER:ADVANTAGE of {', '.join(CHOICES)} and {', '.join(ADVANTAGES)}"
        )
    return normalizer, advantage


def group(text: str) -> int | None:
    """Answers in a group, or `exact`, for argparse."""
    return None if text == "exact" else whole(2)(text)


def settings_of(args: argparse.Namespace) -> Iterator[Setting]:
    """Every combination that the arguments name."""
    rewarded = None if args.tasks == ["all"] else tuple(args.tasks)
    rows = itertools.product(args.coupling, args.optimizers, args.rates, args.groups, args.updates)
    for coupling, optimizer, rate, size, updates in rows:
        for (normalizer, advantage), seed in itertools.product(args.variants, args.seeds):
            try:
                yield Setting(
                    normalizer,
                    advantage,
                    rate=rate,
                    coupling=coupling,
                    optimizer=optimizer,
                    group=size,
                    updates=updates,
                    steps=args.steps,
                    seed=seed,
                    rewarded=rewarded,
                )
            except ValueError as error:
                raise InputError(f"--variants {normalizer}:{advantage}: {error}") from None


@command("collapse")
def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    if args.runs or args.earlier:
        found = registered(args.runs or (), args.earlier or ())
        publish(args.output, "trainings", found, trainings_markdown(found))
        return 0
    if args.tasks != ["all"] and (unknown := set(args.tasks) - set(TASKS)):
        raise InputError(f"--tasks {', '.join(sorted(unknown))}: expected all, or some of {', '.join(TASKS)}")
    settings = list(settings_of(args))
    runs, pulls = [], []
    with progress(len(settings) * len(args.worlds), "training", "collapse") as bar:
        for name in args.worlds:
            conflict = name == "conflict"
            world = make_world(conflict)
            statistics = world.statistics()
            for normalizer, advantage in args.variants:
                if advantage in EXACT and normalizer != ADAPTIVE:
                    pull = style_advantages(world, statistics, replace(settings[0], **_named(normalizer, advantage)))
                    pulls.append({"conflict": conflict, **_named(normalizer, advantage), "styles": pull})
            for setting in settings:
                runs.append({"conflict": conflict} | as_json(setting, train(world, statistics, setting)))
                bar.update()
    said = {key: value for key, value in vars(args).items() if key not in ("output", "runs", "earlier")}
    said["variants"] = [":".join(pair) for pair in args.variants]
    result = {"format": 1, "settings": said, "pulls": pulls, "runs": runs}
    publish(args.output, "collapse", result, markdown(result))
    return 0


def _named(normalizer: str, advantage: str) -> dict[str, Any]:
    return {"normalizer": normalizer, "advantage": advantage}


def _arguments() -> Parser:
    parser = Parser("collapse", __doc__)
    add = parser.add_argument
    add("--output", required=True, type=Path, help="folder to write to")
    add("--runs", nargs="+", type=Path, metavar="DIR", help="trainings to test; nothing is scanned then")
    add("--earlier", nargs="+", type=Path, metavar="FILE", help="trainings.json of more of them, without their folders")
    add(
        "--variants",
        nargs="+",
        type=variant,
        default=[variant(text) for text in VARIANTS],
        metavar="NORMALIZER:ADVANTAGE",
        help=f"what is compared; paper is the logistic alone (default: {' '.join(VARIANTS)})",
    )
    add("--worlds", nargs="+", choices=WORLDS, default=["conflict"], help="what captions want (default: conflict)")
    add(
        "--coupling",
        nargs="+",
        type=real(0, 1),
        default=[0.5, 0.9, 1.0],
        help="how much of what is learnt all pairs share (default: 0.5 0.9 1)",
    )
    add("--rates", nargs="+", type=real(0, above=True), default=[1.0, 3.0, 9.0], help="learning rates (default: 1 3 9)")
    add("--optimizers", nargs="+", choices=OPTIMIZERS, default=["sgd"], help="(default: sgd)")
    add("--groups", nargs="+", type=group, default=[8], metavar="N", help="answers a prompt, or exact (default: 8)")
    add("--updates", nargs="+", type=whole(1), default=[1], help="gradient steps on a batch (default: 1)")
    add("--steps", type=whole(1), default=300, help="of a training")
    add("--seeds", nargs="+", type=whole(0), default=[0, 1, 2], help="(default: 0 1 2)")
    add(
        "--tasks",
        nargs="+",
        default=["tal", "stg", "vs", "rc"],
        metavar="TASK",
        help="tasks that are trained on, or all (default: tal stg vs rc, the paper's)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
