# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Compare what normalisers do to rewards, advantages and gradient shares of recorded answers.

    python -m recipes.medgrpo normalizers --recorded raw_signals.jsonl --statistics statistics.json \\
        --output outputs/normalizers [--model SFT --data train.parquet]

The command combines every per-answer normaliser, and `affine` (the logistic's tangent, as a reference), with every
advantage: `grpo` divides by the std of a group, `dr_grpo` does not, and `per_task` and `drpo` are alternatives. It
writes `comparison.json` with all figures and `comparison.md` with the tables. The formulas are in `effects`,
`training.advantages` and `reward_score.normalization`.

A whole run (5,000 steps of 256 answers, `--resamples 200`) took about 6 minutes on one core and 0.8 GB. `drpo`, which
clusters every step again, would add more than an hour: choose with `--advantages`.

With a checkpoint and its data the true norm of each pair's policy gradient is measured too (`gradients`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recipes.medgrpo.answers.recorded import Recorded, read_recorded
from recipes.medgrpo.evaluation.tables import publish
from recipes.medgrpo.files import InputError
from recipes.medgrpo.studies.normalizers import effects as study
from recipes.medgrpo.studies.normalizers.text import markdown
from recipes.medgrpo.terminal import Parser, command, real, whole
from recipes.medgrpo.training.advantages import ADVANTAGES, make_advantage
from recipes.medgrpo.training.groups import TIE
from reward_score.bootstrap import finite
from reward_score.normalization import DEFAULT_K, NORMALIZERS, Normalizer, saturated
from reward_score.reward import Scorer, get_scorer
from reward_score.statistics import FORMAT, Statistics, summarize

if TYPE_CHECKING:
    from recipes.medgrpo.studies.normalizers.gradients import Products

AFFINE = "affine"
CHOICES = (*NORMALIZERS, AFFINE)


def own_statistics(recorded: Recorded) -> Statistics:
    """Statistics of the recorded answers themselves, as calibration would make them."""
    pairs = {
        pair: {name: summarize(column) for name, column in signals.items()}
        for pair, (_, signals) in recorded.by_pair().items()
    }
    return Statistics.from_dict({"format": FORMAT, "pairs": pairs}, "the recorded answers' own statistics")


def normalizers_of(
    names: Sequence[str], statistics: Statistics, k: float, min_iqr: float | None
) -> dict[str, study.Normalized]:
    """The named normalisers, `none`, `logistic` and its tangent always among them: others are measured by these."""
    names = list(dict.fromkeys(["none", "logistic", *names, AFFINE]))
    made = {name: Normalizer(statistics, name, k, min_iqr) for name in names if name != AFFINE}
    return {**made, AFFINE: study.Tangent(made["logistic"])}


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
        recorded: as `effects.usable` leaves it.
        scorer: whose formula makes a reward of normalised signals; its own normaliser is not used.
        normalizers: by name, `none`, `logistic` and `affine` among them, see `normalizers_of`.
        advantages: names of `advantages.ADVANTAGES`.
        equal_pairs, resamples, seed: see `effects.weights_of` and `pull_summary`.
    """
    layout = study.Layout(recorded)
    weights = study.weights_of(recorded, equal_pairs)
    tasks = {"all": np.ones(len(recorded), dtype=bool)}
    tasks |= {task: recorded.tasks == task for task in sorted(set(recorded.tasks))}
    single = np.array([len(scorer.signals[task]) == 1 for task in recorded.tasks])
    # By whether formats count: as recorded, and all of them 1.
    forms = {"left_of_none": recorded.format, "left_of_none_formats_1": np.ones(len(recorded))}
    rewards = {
        key: {name: study.rewards_of(recorded, scorer, made, form) for name, made in normalizers.items()}
        for key, form in forms.items()
    }
    parts: dict[str, dict] = {key: {} for key in forms}
    if any(make_advantage(advantage).needs_parts for advantage in advantages):
        parts = {
            key: {name: study.parts_of(recorded, scorer, made, form) for name, made in normalizers.items()}
            for key, form in forms.items()
        }
    formed, unformed = rewards.values()
    easy = layout.pair_mean(formed["none"])
    result: dict = {
        "pairs": _pair_rows(recorded, layout, formed["none"]),
        "rewards": {name: _reward_rows(recorded, layout, formed[name], unformed[name]) for name in normalizers},
        "cells": {},
        "parts": {},
    }
    vectors: dict[tuple[str, str], np.ndarray] = {}
    for advantage in advantages:
        made = {
            key: {
                name: study.advantages_of(advantage, column, recorded, parts[key].get(name))
                for name, column in columns.items()
            }
            for key, columns in rewards.items()
        }
        cells = {}
        for name, vector in made["left_of_none"].items():
            vectors[advantage, name] = vector
            cells[name] = _cell(vector, layout, weights, easy, resamples, seed)
            for key, found in made.items():
                pairs = {task: study.left(found[name], found["none"], layout, rows) for task, rows in tasks.items()}
                cells[name][key] = pairs
        result["cells"][advantage] = cells
        result["parts"][advantage] = study.decompose(
            made["left_of_none"], made["left_of_none_formats_1"], layout, single
        )
    return result, vectors


def _pair_rows(recorded: Recorded, layout: study.Layout, raw: np.ndarray) -> dict[str, dict]:
    pairs = pd.DataFrame({"format": recorded.format, "raw": raw}).groupby(recorded.data_source)
    spread = pd.Series(layout.group_std(raw)).groupby(layout.group_pair)
    rows = {
        "answers": pairs.size(),
        "groups": spread.size().to_numpy(),
        "format": pairs["format"].mean(),
        "raw_mean": pairs["raw"].mean(),
        "raw_std": pairs["raw"].std(ddof=0),
        "raw_group_std": spread.mean().to_numpy(),
    }
    return pd.DataFrame(rows).to_dict("index")


def _reward_rows(recorded: Recorded, layout: study.Layout, rewards: np.ndarray, unformed: np.ndarray) -> dict:
    """Per pair mean and std, the saturated share and that of groups without spread; of all answers the two shares."""
    beyond = pd.Series(np.where(recorded.format > 0, saturated(unformed), np.nan))  # of the answers that parse
    dead = pd.Series(layout.spread(rewards) < TIE)
    pairs = pd.Series(rewards).groupby(recorded.data_source)
    rows = {
        "mean": pairs.mean(),
        "std": pairs.std(ddof=0),
        "saturated": beyond.groupby(recorded.data_source).mean(),
        "dead_groups": dead.groupby(layout.group_pair).mean().to_numpy(),
    }
    found = pd.DataFrame(rows).to_dict("index")
    return {
        "pairs": {pair: {name: finite(value) for name, value in row.items()} for pair, row in found.items()},
        "saturated": finite(beyond.mean()),
        "dead_groups": float(dead.mean()),
    }


def _cell(advantages, layout, weights, easy, resamples, seed) -> dict:
    shares, summary = study.pull_summary(weights * np.abs(advantages), layout, easy, resamples=resamples, seed=seed)
    size = layout.pair_mean(np.abs(advantages))
    return {
        "pairs": {
            pair: {"mean_abs_advantage": float(size[at]), "gradient_share": float(shares[at])}
            for at, pair in enumerate(layout.pairs)
        },
        "largest_pair": layout.pairs[np.argmax(shares)],
        "smallest_pair": layout.pairs[np.argmin(shares)],
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
        shares, summary = study.summarized(norms, drawn, easy)
        result["cells"][advantage][name]["true_gradient"] = {
            "pairs": {
                pair: {"norm": float(norms[at]), "share": float(shares[at]), "answers": len(products[pair].places)}
                for at, pair in enumerate(pairs)
            },
            "summary": summary,
        }


@command("normalizers")
def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    if (args.model is None) != (args.data is None):
        raise InputError("--model and --data: expected both or neither")
    scorer = get_scorer(
        rewarded_tasks=args.rewarded_tasks,
        dvc_captions=args.dvc_captions,
        judge=None if args.without_judge else "offline",
    )
    recorded, notes = study.usable(read_recorded(args.recorded), scorer)
    if args.statistics is None:
        statistics = own_statistics(recorded)
        notes.append("statistics of the recorded answers themselves: no --statistics given")
    else:
        statistics = Statistics.load(args.statistics)
    normalizers = normalizers_of(args.normalizers, statistics, args.k, args.min_iqr)
    drawn = {"resamples": args.resamples, "seed": args.seed}
    result, vectors = compare(recorded, scorer, normalizers, args.advantages, equal_pairs=args.equal_pairs, **drawn)
    if args.model is not None:
        from recipes.medgrpo.studies.normalizers.gradients import gradient_products

        products = gradient_products(recorded, args.model, args.data, most=args.gradient_answers, device=args.device)
        add_true_gradients(result, vectors, products, **drawn)
    result = _header(args, recorded, notes) | result
    publish(args.output, "comparison", result, markdown(result))
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


def _arguments() -> Parser:
    parser = Parser("normalizers", __doc__)
    parser.add_argument(
        "--recorded", required=True, nargs="+", type=Path, help="raw_signals.jsonl, a run's folder, or step files"
    )
    parser.add_argument("--statistics", type=Path, help="statistics.json (default: statistics of the recorded answers)")
    parser.add_argument("--output", required=True, type=Path, help="folder to write to")
    parser.add_argument("--normalizers", nargs="+", choices=CHOICES, default=list(CHOICES), metavar="NAME")
    parser.add_argument("--advantages", nargs="+", choices=ADVANTAGES, default=list(ADVANTAGES), metavar="NAME")
    parser.add_argument("--k", type=real(0, above=True), default=DEFAULT_K, help="steepness of the logistic")
    parser.add_argument("--min-iqr", type=real(0), help="smallest IQR of the logistic (default: the statistics file's)")
    parser.add_argument("--rewarded-tasks", nargs="+", metavar="TASK", help="tasks that earn a reward (default: all)")
    parser.add_argument("--dvc-captions", action="store_true", help="dense captioning is rewarded for its captions too")
    parser.add_argument("--without-judge", action="store_true", help="captions are rewarded for similarity alone")
    parser.add_argument("--equal-pairs", action="store_true", help="every pair counts the same, however many answers")
    parser.add_argument("--resamples", type=whole(1), default=1000, help="bootstrap resamples over groups")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--model", help="the checkpoint that wrote the answers: measures true gradients")
    parser.add_argument("--data", help="the parquet file with the rows of the answers")
    parser.add_argument(
        "--gradient-answers", type=whole(1), default=32, help="answers of each pair that are differentiated"
    )
    parser.add_argument("--device", default="cpu", help="of the true gradients: cpu or cuda")
    return parser


if __name__ == "__main__":
    sys.exit(main())
