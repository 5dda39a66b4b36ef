# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Study a judge of captions: agreement with people, repeatability, answers to edited texts.

    python -m recipes.medgrpo judge_study agreement --ratings ratings.csv [MORE.csv ...] --output DIR
    python -m recipes.medgrpo judge_study repeat --pairs pairs.csv --times 5 --output DIR
    python -m recipes.medgrpo judge_study probes --references val.parquet --output DIR

`agreement` reads ratings of people (columns `video, source, task, reference, prediction`, the five dimensions, and
perhaps `rater`, `question`, or the judge's own scores as `judge_<dimension>`), `repeat` pairs (the same columns without
ratings, or JSON lines) and `probes` references (the preprocessor's parquet, or JSON lines without a prediction). Each
writes `<study>.json` and `<study>.md`. Verdicts are kept in DIR/judged.jsonl: started again, no pair is judged twice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.evaluation.tables import printable
from recipes.medgrpo.files import write_atomic, write_json
from recipes.medgrpo.reward_options import add_judge_arguments, label_of_args, signal_settings_of
from recipes.medgrpo.studies.judge.asking import AT_ONCE, Verdicts, ask
from recipes.medgrpo.studies.judge.expectations import measured
from recipes.medgrpo.studies.judge.probes import ORDERINGS, PAGE_SPECIFIC, PAGE_VAGUE, PROBES, built
from recipes.medgrpo.studies.judge.raters import MEAN, humans_against_humans, judge_against_humans
from recipes.medgrpo.studies.judge.ratings import Item, read_pairs, read_ratings, read_references
from recipes.medgrpo.studies.judge.repeatability import repeatability
from recipes.medgrpo.studies.judge.text import markdown
from recipes.medgrpo.terminal import whole
from reward_score.bootstrap import RESAMPLES, Bootstrap
from reward_score.errors import EmbeddingUnavailable, RewardError
from reward_score.judge import DIMENSIONS, make_judge


def judged(args: argparse.Namespace, items: Sequence[Item], turns: int = 1, **changes: Any) -> tuple[str, Verdicts]:
    """The judge's name and its verdicts on all items; `changes` are settings for an endpoint's judge."""
    settings = signal_settings_of(args)

    async def run() -> tuple[str, Verdicts]:
        offline = settings["judge"] == "offline"
        judge = make_judge(settings["judge"], {} if offline else {**settings["judge_settings"], **changes})
        try:
            return judge.name, await ask(
                judge, items, args.output / "judged.jsonl", turns=turns, about=label_of_args(args), at_once=args.at_once
            )
        finally:
            await judge.aclose()
            if not offline:
                spent, price = judge.usage, f", ${judge.cost_usd:.4f}" if judge.price_known else ""
                tokens = f"{spent.prompt_tokens} prompt and {spent.completion_tokens} completion tokens"
                print(f"judge_study: this run: {spent.requests} requests, {tokens}{price}", file=sys.stderr)

    return asyncio.run(run())


def header(study: str, judge: str, items: Sequence[Item], verdicts: Verdicts) -> dict[str, Any]:
    """What every report begins with."""
    return {
        "format": 1,
        "study": study,
        "judge": judge,
        "items": len(items),
        "videos": len({item.cluster for item in items}),
        **verdicts.report(),
        "incomplete": verdicts.incomplete,
    }


def agreement(args: argparse.Namespace) -> dict[str, Any]:
    """The judge beside human ratings."""
    rated = read_ratings(args.ratings)
    items = [one.item for one in rated]
    if rated[0].judged is None:
        name, verdicts = judged(args, items)
    else:
        name = "the files' own columns"
        verdicts = Verdicts({(one.item, 0): one.judged for one in rated if one.judged})
    scores = {item: found for item in items if (found := verdicts.of(item)) is not None}
    bootstrap = Bootstrap([item.cluster for item in items], args.resamples, args.seed)
    return {
        **header("agreement", name, items, verdicts),
        "ratings": [str(path) for path in args.ratings],
        "raters": sorted({rater for one in rated for rater in one.ratings}),
        "judge_against_humans": judge_against_humans(bootstrap, rated, scores),
        "humans_against_humans": humans_against_humans(bootstrap, rated),
    }


def repeat(args: argparse.Namespace) -> dict[str, Any]:
    """The judge beside itself, asked several times without its cache."""
    items = read_pairs(args.pairs)
    name, verdicts = judged(args, items, args.times, cache=False)
    turns = {item: [verdicts.of(item, turn) for turn in range(args.times)] for item in items}
    whole = {item: scores for item, scores in turns.items() if None not in scores}
    clusters = [item.cluster for item in whole]
    bootstrap = Bootstrap(clusters, args.resamples, args.seed)

    def row(names: Sequence[str]) -> dict:
        table = [[sum(one[name] for name in names) / len(names) for one in scores] for scores in whole.values()]
        return repeatability(bootstrap, table, clusters)

    return {
        **header("repeat", name, items, verdicts),
        "times": args.times,
        "rows": {**{name: row([name]) for name in DIMENSIONS}, MEAN: row(DIMENSIONS)},
    }


def probes(args: argparse.Namespace) -> dict[str, Any]:
    """The judge beside what must be true of edited references."""
    references = read_references(args.references)
    if args.limit is not None and args.limit < len(references):
        references = random.Random(args.seed).sample(references, args.limit)
    texts = built(references, args.seed)
    page = [
        Item("page", "page", "rc", reference, prediction)
        for prediction, reference in (
            (PAGE_VAGUE, PAGE_SPECIFIC),
            (PAGE_SPECIFIC, PAGE_VAGUE),
            (PAGE_SPECIFIC, PAGE_SPECIFIC),
            (PAGE_VAGUE, PAGE_VAGUE),
        )
    ]
    wanted = [item for made in texts.values() for item in made.values() if item is not None]
    name, verdicts = judged(args, list(dict.fromkeys([*wanted, *page])))
    bootstrap = Bootstrap([item.cluster for item in references], args.resamples, args.seed)
    return {
        **header("probes", name, references, verdicts),
        **measured(bootstrap, PROBES, ORDERINGS, texts, verdicts.of),
        "page_pair": {
            "judged": [
                {"candidate": item.prediction, "reference": item.reference, "scores": verdicts.of(item)}
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


def _arguments() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--output", required=True, type=Path, help="folder")
    add_judge_arguments(common)
    common.add_argument("--at-once", type=whole(1), default=AT_ONCE, help="judgements under way at once")
    common.add_argument("--resamples", type=whole(1), default=RESAMPLES, help="of the bootstrap over videos")
    common.add_argument("--seed", type=whole(0), default=0, help="of the bootstrap, and of what probes draw")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = parser.add_subparsers(dest="study", required=True)
    one = studies.add_parser("agreement", parents=[common], help="with human ratings")
    one.add_argument("--ratings", required=True, nargs="+", type=Path, help="CSV files")
    one = studies.add_parser("repeat", parents=[common], help="with itself")
    one.add_argument("--pairs", required=True, type=Path, help="CSV or JSON lines")
    one.add_argument("--times", type=whole(2), default=5, help="how often each pair is judged")
    one = studies.add_parser("probes", parents=[common], help="with what must be true of edited references")
    one.add_argument("--references", required=True, type=Path, help="the preprocessor's parquet, or JSON lines")
    one.add_argument("--limit", type=whole(1), help="so many references, drawn at random; default: all")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = _arguments().parse_args(argv)
    try:
        report = {"agreement": agreement, "repeat": repeat, "probes": probes}[args.study](args)
        text = printable(markdown(report))
        write_json(args.output / f"{args.study}.json", report)
        write_atomic(args.output / f"{args.study}.md", text)
    except (RewardError, OSError, ValueError) as error:
        print(f"judge_study: error: {error}", file=sys.stderr)
        return 2
    print(text)
    if report["incomplete"]:
        print(f"judge_study: {report['incomplete']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
