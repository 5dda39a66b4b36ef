# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Compare what normalisers do to rewards, advantages and gradient shares of recorded answers.

    python -m recipes.medgrpo normalizers --recorded raw_signals.jsonl --statistics statistics.json \\
        --output outputs/normalizers [--model SFT --data train.parquet]

Every per-answer normaliser, and `affine` (the logistic's tangent, a probe), under every advantage: `grpo` divides by
the std of a group, `dr_grpo` does not, `per_task` and `drpo` are the rivals. Writes `comparison.json` with everything
and `comparison.md`, the tables. Formulas: `normalizer_study`, `advantages` and `reward_score.normalization`.

A whole run (5,000 steps of 256 answers, `--resamples 200`) took some 6 minutes on one core and 0.8 GB; `drpo`, which
clusters every step anew, would take an hour and more on top: choose with `--advantages`.

With a checkpoint and its data the true norm of each pair's policy gradient is measured too (`gradients`); with
`--runs` the finished runs of several settings stand side by side.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recipes.medgrpo.files import write_atomic, write_json
from recipes.medgrpo.studies.normalizers import effects as study
from recipes.medgrpo.studies.normalizers.finished_runs import run_rows
from recipes.medgrpo.studies.normalizers.text import markdown
from recipes.medgrpo.studies.recorded import Recorded, read_recorded
from recipes.medgrpo.training.advantages import ADVANTAGES, TIE
from reward_score.bootstrap import finite
from reward_score.errors import RewardError
from reward_score.normalization import DEFAULT_K, NORMALIZERS, Normalizer, saturated
from reward_score.reward import Scorer, get_scorer
from reward_score.statistics import FORMAT, Statistics, summarize

if TYPE_CHECKING:
    from recipes.medgrpo.studies.normalizers.gradients import Products

AFFINE = "affine"
CHOICES = (*NORMALIZERS, AFFINE)


def own_statistics(recorded: Recorded) -> Statistics:
    """Statistics of the recorded answers themselves, as calibration would make them."""
    pairs: dict[str, dict] = {}
    for source in sorted(set(recorded.data_source)):
        rows = recorded.data_source == source
        columns = {signal: column[rows] for signal, column in recorded.raw.items()}
        pairs[source] = {name: summarize(column) for name, column in columns.items() if not np.isnan(column).any()}
    return Statistics.from_dict({"format": FORMAT, "pairs": pairs}, "the recorded answers' own statistics")


def normalizers_of(
    names: Sequence[str], statistics: Statistics, k: float, min_iqr: float | None
) -> dict[str, study.Normalized]:
    """The named normalisers, `none`, `logistic` and its tangent always among them: others are measured by these."""
    names = list(dict.fromkeys(["none", "logistic", *names, AFFINE]))
    made: dict[str, study.Normalized] = {
        name: Normalizer(statistics, name, k, min_iqr) for name in names if name != AFFINE
    }
    return made | {AFFINE: study.Tangent(made["logistic"])}


def compare(
    recorded: Recorded,
    scorer: Scorer,
    normalizers: Mapping[str, study.Normalized],
    advantages: Sequence[str],
    *,
    equal_pairs: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[dict, dict[tuple[str, str], np.ndarray]]:
    """Everything that needs no model, as JSON; and the advantages (N,) by (advantage, normaliser).

    Args:
        recorded: as `normalizer_study.usable` leaves it.
        scorer: whose formula makes a reward of normalised signals; its own normaliser is not used.
        normalizers: by name, `none`, `logistic` and `affine` among them, see `normalizers_of`.
        advantages: names of `advantages.ADVANTAGES`.
        equal_pairs, resamples, seed: see `normalizer_study.weights_of` and `pull_summary`.
    """
    layout = study.Layout(recorded)
    weights = study.weights_of(recorded, equal_pairs)
    ones = np.ones(len(recorded))
    rewards = {name: study.rewards_of(recorded, scorer, made) for name, made in normalizers.items()}
    unformed = {name: study.rewards_of(recorded, scorer, made, ones) for name, made in normalizers.items()}
    easy = layout.pair_mean(rewards["none"])
    single = np.array([len(scorer.signals[task]) == 1 for task in recorded.tasks])
    tasks = study.task_rows(recorded)
    result: dict = {
        "pairs": _pair_rows(recorded, layout, rewards["none"]),
        "rewards": {
            name: _reward_rows(recorded, layout, rewards[name], unformed[name], tasks, rewards["none"])
            for name in normalizers
        },
        "cells": {},
        "parts": {},
    }
    vectors: dict[tuple[str, str], np.ndarray] = {}
    for advantage in advantages:
        formed = {name: study.advantages_of(advantage, rewards[name], recorded) for name in normalizers}
        plain = {name: study.advantages_of(advantage, unformed[name], recorded) for name in normalizers}
        vectors |= {(advantage, name): vector for name, vector in formed.items()}
        cells = {name: _cell(vector, layout, weights, easy, resamples, seed) for name, vector in formed.items()}
        for name, cell in cells.items():
            for key, made in (("left_of_none", formed), ("left_of_none_formats_1", plain)):
                cell[key] = {task: study.left(made[name], made["none"], layout, rows) for task, rows in tasks.items()}
        result["cells"][advantage] = cells
        result["parts"][advantage] = study.decompose(formed, plain, layout, single)
    return result, vectors


def _pair_rows(recorded: Recorded, layout: study.Layout, raw: np.ndarray) -> dict[str, dict]:
    spread = layout.group_std(raw)
    rows = {}
    for number, pair in enumerate(layout.pairs):
        mine = layout.pair == number
        rows[str(pair)] = {
            "answers": int(mine.sum()),
            "groups": int((layout.group_pair == number).sum()),
            "format": float(recorded.format[mine].mean()),
            "raw_mean": float(raw[mine].mean()),
            "raw_std": float(raw[mine].std()),
            "raw_group_std": float(spread[layout.group_pair == number].mean()),
        }
    return rows


def _reward_rows(recorded, layout, rewards, unformed, tasks, raw) -> dict:
    """Per pair mean, std, saturated and dead share; per task how the order of a group's answers changes."""
    beyond = saturated(unformed)
    parsed = recorded.format > 0
    dead, faint = layout.spread(rewards) < TIE, layout.group_std(rewards) < study.FAINT
    changes = study.rank_changes(rewards, raw, layout)
    pairs = {}
    for number, pair in enumerate(layout.pairs):
        mine, groups = layout.pair == number, layout.group_pair == number
        pairs[str(pair)] = {
            "mean": float(rewards[mine].mean()),
            "std": float(rewards[mine].std()),
            "saturated": finite(beyond[mine & parsed].mean()) if (mine & parsed).any() else None,
            "dead_groups": float(dead[groups].mean()),
            "faint_groups": float((faint & ~dead)[groups].mean()),
        }
    order = {}
    for task, rows in tasks.items():
        groups = np.unique(layout.group[rows])
        order[task] = {name: float(changed[groups].mean()) for name, changed in changes.items()}
    return {
        "pairs": pairs,
        "saturated": finite(beyond[parsed].mean()) if parsed.any() else None,
        "dead_groups": float(dead.mean()),
        "faint_groups": float((faint & ~dead).mean()),
        "groups_against_none": order,
    }


def _cell(advantages, layout, weights, easy, resamples, seed) -> dict:
    shares, summary = study.pull_summary(weights * np.abs(advantages), layout, easy, resamples=resamples, seed=seed)
    size = layout.pair_mean(np.abs(advantages))
    return {
        "pairs": {
            str(pair): {"mean_abs_advantage": float(size[at]), "gradient_share": float(shares[at])}
            for at, pair in enumerate(layout.pairs)
        },
        "largest_pair": str(layout.pairs[np.argmax(shares)]),
        "smallest_pair": str(layout.pairs[np.argmin(shares)]),
        "summary": summary,
    }


def add_true_gradients(
    result: dict,
    vectors: Mapping[tuple[str, str], np.ndarray],
    products: Mapping[str, Products],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> None:
    """Put `true_gradient` into every cell: the norm of each pair's policy gradient with the same advantages."""
    pairs = list(products)
    easy = np.array([result["pairs"][pair]["raw_mean"] for pair in pairs])
    for (advantage, name), vector in vectors.items():
        rng = np.random.default_rng(seed)
        norms = np.array([products[pair].norm(vector) for pair in pairs])
        drawn = np.stack([products[pair].resampled(vector, resamples, rng) for pair in pairs], axis=-1)
        shares = study.normal(norms)
        points, draws = study.share_summary(shares, easy), study.share_summary(study.normal(drawn), easy)
        result["cells"][advantage][name]["true_gradient"] = {
            "pairs": {
                pair: {"norm": float(norms[at]), "share": float(shares[at]), "answers": len(products[pair].places)}
                for at, pair in enumerate(pairs)
            },
            "summary": {key: study.with_interval(points[key], draws[key]) for key in points},
        }


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    if (args.model is None) != (args.data is None):
        print("compare_normalizers: error: --model and --data: expected both or neither", file=sys.stderr)
        return 2
    try:
        scorer = get_scorer(
            rewarded_tasks=args.rewarded_tasks,
            dvc_captions=args.dvc_captions,
            judge=None if args.without_judge else "offline",
        )
        recorded, notes = study.usable(read_recorded(args.recorded), scorer)
        statistics = own_statistics(recorded) if args.statistics is None else Statistics.load(args.statistics)
        if args.statistics is None:
            notes.append("statistics of the recorded answers themselves: no --statistics given")
        normalizers = normalizers_of(args.normalizers, statistics, args.k, args.min_iqr)
        result, vectors = compare(
            recorded,
            scorer,
            normalizers,
            args.advantages,
            equal_pairs=args.equal_pairs,
            resamples=args.resamples,
            seed=args.seed,
        )
        if args.model is not None:
            from recipes.medgrpo.studies.normalizers.gradients import gradient_products

            products = gradient_products(
                recorded, args.model, args.data, most=args.gradient_answers, device=args.device
            )
            add_true_gradients(result, vectors, products, resamples=args.resamples, seed=args.seed)
        runs = run_rows(args.runs)
        result = _header(args, recorded, notes) | result | ({"runs": runs} if runs else {})
        table = markdown(result)
        write_json(args.output / "comparison.json", result)
        write_atomic(args.output / "comparison.md", table)
    except (RewardError, OSError, ValueError) as error:
        print(f"compare_normalizers: error: {error}", file=sys.stderr)
        return 2
    print(table)
    return 0


def _header(args: argparse.Namespace, recorded: Recorded, notes: list[str]) -> dict:
    """What was compared, and how."""
    return {
        "format": 1,
        "recorded": [str(path) for path in args.recorded],
        "statistics": args.statistics and str(args.statistics),
        "answers": len(recorded),
        "groups": len(set(recorded.group)),
        "weights": "tokens" if recorded.tokens is not None else "answers",
        "equal_pairs": args.equal_pairs,
        "settings": {
            name: getattr(args, name)
            for name in ("k", "min_iqr", "rewarded_tasks", "dvc_captions", "without_judge", "resamples", "seed")
        },
        "notes": notes,
    }


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recorded", required=True, nargs="+", type=Path, help="raw_signals.jsonl, a run's folder, or step files"
    )
    parser.add_argument("--statistics", type=Path, help="statistics.json; default: of the recorded answers themselves")
    parser.add_argument("--output", required=True, type=Path, help="folder")
    parser.add_argument("--normalizers", nargs="+", choices=CHOICES, default=list(CHOICES), metavar="NAME")
    parser.add_argument("--advantages", nargs="+", choices=ADVANTAGES, default=list(ADVANTAGES), metavar="NAME")
    parser.add_argument("--k", type=float, default=DEFAULT_K, help="steepness of the logistic")
    parser.add_argument("--min-iqr", type=float, help="its least spread; default: what the statistics file says")
    parser.add_argument("--rewarded-tasks", nargs="+", metavar="TASK", help="default: all that are recorded")
    parser.add_argument("--dvc-captions", action="store_true", help="dense captioning is rewarded for its captions too")
    parser.add_argument("--without-judge", action="store_true", help="captions are rewarded for similarity alone")
    parser.add_argument("--equal-pairs", action="store_true", help="every pair counts the same, however many answers")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over groups")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="the checkpoint that said the answers: measure true gradients")
    parser.add_argument("--data", help="the parquet file that it was asked from")
    parser.add_argument("--gradient-answers", type=int, default=32, help="answers of each pair that are differentiated")
    parser.add_argument("--device", default="cpu", help="of the true gradients: cpu or cuda")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="finished runs to put side by side")
    return parser


if __name__ == "__main__":
    sys.exit(main())
