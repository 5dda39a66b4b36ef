# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Correct the first mistake of recorded answers, and keep for SFT what makes the rest better.

    python -m recipes.medgrpo intervene --model SFT --recorded raw_signals.jsonl --data train.parquet --output int/

RECORDED is what `calibrate` wrote of this model on these rows. The folder gets `interventions.parquet` (for SFT: the
model's own answer up to its first mistake, and the correction), `gold.parquet` (the same rows with their reference
answers, the arm to compare with), `interventions.jsonl` (every attempt, its correction, and what the rest earned with
and without it), `continuations.jsonl` (what the model said after either) and `summary.json`. An interrupted run goes
on where it was. docs/interventions.md has the method and its settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import InputError, write_json, write_json_lines
from recipes.medgrpo.inference import engines
from recipes.medgrpo.inference.sampling_options import engine_of, scoring_of
from recipes.medgrpo.reward_options import add_judge_arguments, label_of
from recipes.medgrpo.terminal import Parser, command, real, whole
from reward_score.tasks import TASKS


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("intervene", __doc__)
    add = parser.add_argument
    add("--recorded", required=True, type=Path, metavar="JSONL", help="raw_signals.jsonl of this model's calibration")
    add("--data", required=True, metavar="PARQUET", help="training rows, from the preprocessor")
    add("--output", required=True, type=Path, metavar="DIR", help="folder to write")
    add("--per-prompt", type=whole(1), default=2, help="most attempts of a prompt")
    add("--per-pair", type=whole(1), help="most attempts of a dataset-task pair (default: all)")
    add("--continuations", type=whole(1), default=8, help="answers that go on, in each arm")
    add("--margin", type=real(0), default=0.0, help="what the rest has to earn more with the correction")
    add("--rows-per-pair", type=whole(1), help="rows of each pair that are written (default: their median)")
    add(
        "--captions",
        choices=("words", "judge"),
        default="words",
        help="how a caption's first wrong sentence is found: by its words, or by the judge's model",
    )
    add("--tasks", nargs="+", metavar="TASK", help="only answers to these tasks (default: all)")
    add("--max-new-tokens", type=whole(1), default=96, help="tokens that a continuation may have")
    add("--batch-size", type=whole(1), default=192, help="continuations at once")
    add("--seed", type=int, default=0, help="seed of the continuations and of every choice")
    engines.add_local_arguments(parser, engine="transformers", device="cpu", temperature=1.0)
    add_judge_arguments(parser)
    args = parser.parse_args(argv)
    if args.captions == "judge" and args.judge != "openai":
        parser.error("--captions judge: expected --judge openai beside it")
    return args


def run(args: argparse.Namespace) -> None:
    """Find attempts, let both arms go on, and write what is kept.

    Raises:
        InputError: a file that cannot be used, or nothing is kept.
    """
    from recipes.medgrpo.data.rows import Rows
    from recipes.medgrpo.interventions import account
    from recipes.medgrpo.interventions.attempts import check_training_rows, find_attempts, recorded_answers
    from recipes.medgrpo.interventions.control import judged_higher, outcomes
    from recipes.medgrpo.interventions.training_rows import balanced, counts, write_rows

    engine, scoring = engine_of(args), scoring_of(args)
    rows = Rows.open([args.data])
    check_training_rows(args.data, rows)
    records = recorded_answers(args.recorded, args.data, engine.identity)
    limits = {"per_prompt": args.per_prompt, "per_pair": args.per_pair, "tasks": args.tasks, "seed": args.seed}
    found = find_attempts(records, rows, **limits, locate=locating(args, records, rows, scoring))
    found.leave_out(judged_higher(found.attempts, rows, scoring), account.NOT_HIGHER)
    sampling = {name: getattr(args, name) for name in ("continuations", "max_new_tokens", "batch_size", "seed")}
    output = args.output / "continuations.jsonl"
    results = outcomes(found, rows, args.data, output, engine=engine, scoring=scoring, **sampling)
    ends = account.ends_of(results, args.margin)
    lines = account.tried_lines(found.attempts, results, ends)
    kept = [attempt for attempt, end in zip(found.attempts, ends, strict=True) if end == account.KEPT]
    chosen = [kept[at] for at in balanced([one.data_source for one in kept], args.rows_per_pair, args.seed)]
    pairs = account.by_pair(found, lines, counts(chosen))

    write_json_lines(args.output / "interventions.jsonl", lines)
    print(account.pairs_table(pairs), account.reasons_table(pairs), sep="\n\n")
    if chosen:
        write_rows(args.output / "interventions.parquet", args.data, chosen, rows)
        write_rows(args.output / "gold.parquet", args.data, chosen, rows, gold=True)
    summary = {
        "settings": {
            **limits,
            **sampling,
            "margin": args.margin,
            "captions": args.captions,
            "judge": label_of(scoring),
        },
        **account.tried_of(lines),
        "kept": len(kept),
        "rows": len(chosen),
        "prompts": len({attempt.place for attempt in chosen}),
        "pairs": pairs,
    }
    write_json(args.output / "summary.json", summary)
    print(f"{args.output}: {len(chosen)} rows of {len(kept)} corrections that help, {len(lines)} tried")
    if not chosen:
        raise InputError(f"{args.output}: no correction helps, so there is nothing to train on")


def locating(args: argparse.Namespace, records: Sequence, rows: Any, scoring: Mapping[str, Any]) -> Callable:
    """What finds the first wrong element: of captions with `--captions judge` the judge's endpoint, else code."""
    from recipes.medgrpo.interventions.attempts import find_attempts
    from recipes.medgrpo.interventions.location import LeftOut, locate

    if args.captions == "words":
        return locate
    from recipes.medgrpo.interventions.reviser import Reviser, revise_all

    captions = []

    def collect(asked: Any) -> LeftOut:
        captions.append(asked)
        return LeftOut.NO_ERROR

    find_attempts(records, rows, tasks=args.tasks, locate=collect)
    captions = [one for one in captions if TASKS[one.task].text_alone]
    replies = revise_all(Reviser(**scoring["judge_settings"]), captions)
    return lambda asked: replies.get((asked.answer, asked.target)) or locate(asked)


@command("intervene")
def main(argv: list[str]) -> None:
    run(parse(argv))


if __name__ == "__main__":
    sys.exit(main())
