# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Study a judge of captions: agreement with people, repeatability, answers to edited texts.

    python -m recipes.medgrpo judge_study agreement --ratings ratings.csv [MORE.csv ...] --output DIR
    python -m recipes.medgrpo judge_study repeat --pairs pairs.csv --times 5 --output DIR
    python -m recipes.medgrpo judge_study probes --references val.parquet --output DIR
    python -m recipes.medgrpo judge_study probes --references val.parquet --kind image --output DIR

`agreement` reads ratings of people (columns `video, source, task, reference, prediction`, the five dimensions, and
perhaps `rater`, `question`, or the judge's own scores as `judge_<dimension>`), `repeat` pairs (the same columns without
ratings, or JSON lines) and `probes` references (the preprocessor's parquet, or JSON lines without a prediction). Each
writes `<study>.json` and `<study>.md`. An endpoint's verdicts are kept in --judge-store (default: DIR/judge): started
again, no pair is judged twice.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.tables import publish
from recipes.medgrpo.evaluation.verdicts import Verdicts, ask
from recipes.medgrpo.files import InputError
from recipes.medgrpo.reward_options import add_judge_arguments, signal_settings_of
from recipes.medgrpo.studies.judge.agreement import (
    MEAN,
    estimate,
    humans_against_humans,
    judge_against_humans,
    repeatability,
)
from recipes.medgrpo.studies.judge.expectations import measured
from recipes.medgrpo.studies.judge.probes import PAGE_SPECIFIC, PAGE_VAGUE, built
from recipes.medgrpo.studies.judge.ratings import STILL, TASKS, Item, read_pairs, read_ratings, read_references
from recipes.medgrpo.studies.judge.text import markdown
from recipes.medgrpo.terminal import Parser, command, whole
from reward_score.bootstrap import RESAMPLES, Bootstrap
from reward_score.errors import EmbeddingUnavailable
from reward_score.judge import DIMENSIONS, Judge, make_judge


def judged(args: argparse.Namespace, items: Sequence[Item], turns: int = 1) -> tuple[str, list[Verdicts]]:
    """The judge's name, and its verdicts on all items, once for each turn."""
    settings, found = signal_settings_of(args), []
    if settings["judge"] != "offline":
        settings["judge_settings"].setdefault("store", str(args.output / "judge"))
    for turn in range(turns):
        judge = make_judge(settings["judge"], settings.get("judge_settings", {}))
        for member in getattr(judge, "judges", [judge]):
            if turn and isinstance(member, Judge):
                # The store then takes it for another question, and asks.
                member.asks = [*member.asks, f"turn {turn}"]
        found.append(ask(judge, (item.asked for item in items), patient=True, at_once=args.at_once))
        if usage := getattr(judge, "usage", None):
            price = f", ${judge.cost_usd:.4f}" if judge.price_known else ""
            tokens = f"{usage.prompt_tokens} prompt and {usage.completion_tokens} completion tokens"
            print(f"judge_study: this run: {usage.requests} requests, {tokens}{price}", file=sys.stderr)
    return judge.name, found


def header(study: str, judge: str, items: Sequence[Item], verdicts: Sequence[Verdicts] = ()) -> dict[str, Any]:
    """What every report begins with; without verdicts nothing was asked."""
    failures = sum((one.failures for one in verdicts), Counter())
    broken = sorted({kind for one in verdicts for kind in one.broken})
    told = f"pairs without a verdict: {', '.join(f'{kind} {failures[kind]}' for kind in broken)}"
    return {
        "format": 1,
        "study": study,
        "judge": judge,
        "items": len(items),
        "videos": len({item.cluster for item in items}),
        "judged": sum(item.asked in one.scores for one in verdicts for item in items) if verdicts else len(items),
        "failures": dict(sorted(failures.items())),
        "incomplete": f"{told}; what was judged is kept: run again" if broken else None,
    }


def table_of(verdicts: Verdicts, items: Sequence[Item]) -> np.ndarray:
    """(items, 5) scores, nan where there is no verdict."""
    nothing = dict.fromkeys(DIMENSIONS, np.nan)
    found = [verdicts.scores.get(item.asked, nothing) for item in items]
    return np.array([[scores[name] for name in DIMENSIONS] for scores in found], dtype=float)


def agreement(args: argparse.Namespace) -> dict[str, Any]:
    """The judge beside human ratings."""
    ratings = read_ratings(args.ratings)
    name, scores = "the files' own columns", ratings.judge
    verdicts: list[Verdicts] = []
    if scores is None:
        name, verdicts = judged(args, ratings.items)
        scores = table_of(verdicts[0], ratings.items)
    bootstrap = Bootstrap(ratings.clusters, args.resamples, args.seed)
    return {
        **header("agreement", name, ratings.items, verdicts),
        "ratings": [str(path) for path in args.ratings],
        "raters": ratings.raters,
        "judge_against_humans": judge_against_humans(bootstrap, ratings, scores),
        "humans_against_humans": humans_against_humans(bootstrap, ratings),
    }


def repeat(args: argparse.Namespace) -> dict[str, Any]:
    """The judge beside itself, asked several times."""
    items = read_pairs(args.pairs)
    name, verdicts = judged(args, items, args.times)
    # (items, 5 and their mean, turns) of the items that have all their verdicts.
    scores = np.stack([table_of(one, items) for one in verdicts], axis=-1)
    complete = ~np.isnan(scores).any(axis=(1, 2))
    scores = np.concatenate([scores, scores.mean(axis=1, keepdims=True)], axis=1)[complete]
    clusters = [item.cluster for item, kept in zip(items, complete, strict=True) if kept]
    bootstrap = Bootstrap(clusters, args.resamples, args.seed)
    few = {0: "no items", 1: "a single item"}.get(len(clusters), "all scores are the same")
    why = dict.fromkeys(("identical", "within_sd", "icc"), few)
    return {
        **header("repeat", name, items, verdicts),
        "times": args.times,
        "rows": {
            row: estimate(bootstrap, repeatability, scores[:, at], clusters, why)
            for at, row in enumerate((*DIMENSIONS, MEAN))
        },
    }


def probes(args: argparse.Namespace) -> dict[str, Any]:
    """The judge beside what must be true of edited references."""
    references = [
        item
        for item in read_references(args.references)
        if args.kind in (None, "image" if item.task == STILL else "video")
    ]
    if not references:
        raise InputError(f"{args.references}: expected references of kind {args.kind}, found none")
    if args.limit is not None and args.limit < len(references):
        references = random.Random(args.seed).sample(references, args.limit)
    if args.ask_as:
        references = [replace(item, task=args.ask_as) for item in references]
    texts = built(references, args.seed)
    page = [Item("page", "page", "rc", *pair) for pair in product((PAGE_SPECIFIC, PAGE_VAGUE), repeat=2)]
    wanted = [item for made in texts.values() for item in made.values() if item is not None]
    name, verdicts = judged(args, [*wanted, *page])
    scores = verdicts[0].scores
    bootstrap = Bootstrap([item.cluster for item in references], args.resamples, args.seed)
    return {
        **header("probes", name, references, verdicts),
        "kind": args.kind or "all",
        "asked_as": args.ask_as or "what they are",
        **measured(bootstrap, texts, lambda item: scores.get(item.asked)),
        "page_pair": {
            "judged": [
                {"candidate": item.prediction, "reference": item.reference, "scores": scores.get(item.asked)}
                for item in page
            ],
            "cosine": cosine(PAGE_VAGUE, PAGE_SPECIFIC),
        },
    }


def cosine(first: str, second: str) -> dict[str, Any]:
    """Our encoder's cosine of two texts; no value and the reason, where it cannot be loaded."""
    from reward_score.similarity import load_similarity

    try:
        return {"value": load_similarity(None).cosine_pairs([(first, second)])[0], "why": None}
    except EmbeddingUnavailable as error:
        return {"value": None, "why": str(error)}


def _arguments() -> Parser:
    common = Parser(add_help=False)
    common.add_argument("--output", required=True, type=Path, help="folder to write to")
    add_judge_arguments(common)
    common.add_argument("--at-once", type=whole(1), default=32, help="judgements under way at once")
    common.add_argument("--resamples", type=whole(1), default=RESAMPLES, help="of the bootstrap over videos")
    common.add_argument("--seed", type=whole(0), default=0, help="of the bootstrap, and of what probes draw")
    parser = Parser("judge_study", __doc__)
    studies = parser.add_subparsers(dest="study", required=True)
    one = studies.add_parser("agreement", parents=[common], help="compare the judge with human ratings")
    one.add_argument("--ratings", required=True, nargs="+", type=Path, help="CSV files of ratings")
    one = studies.add_parser("repeat", parents=[common], help="compare the judge with itself")
    one.add_argument("--pairs", required=True, type=Path, help="pairs as CSV or JSON lines")
    one.add_argument("--times", type=whole(2), default=5, help="how often each pair is judged")
    one = studies.add_parser("probes", parents=[common], help="check the judge's scores of edited references")
    one.add_argument("--references", required=True, type=Path, help="the preprocessor's parquet, or JSON lines")
    one.add_argument("--kind", choices=("video", "image"), help="only references of clips, or of still images")
    one.add_argument("--ask-as", choices=TASKS, help="what the judge is told that texts describe (default: their own)")
    one.add_argument("--limit", type=whole(1), help="only N references, drawn at random (default: all)")
    return parser


@command("judge_study")
def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    report = {"agreement": agreement, "repeat": repeat, "probes": probes}[args.study](args)
    publish(args.output, args.study, report, markdown(report))
    if report["incomplete"]:
        print(f"judge_study: {report['incomplete']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
