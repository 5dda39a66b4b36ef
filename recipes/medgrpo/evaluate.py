# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Score answers by the strict metrics and by the leaderboard's, and compare models.

    python -m recipes.medgrpo evaluate sample --model CHECKPOINT --data val.parquet --output eval/sft
    python -m recipes.medgrpo evaluate score --results answers.jsonl --ground-truth test_with_answers.json \\
        --mode leaderboard --blind-baseline train.json --published --output eval/leaderboard
    python -m recipes.medgrpo evaluate compare A.jsonl B.jsonl --ground-truth val.parquet --output eval/a_or_b

`evaluate sample --help`, `evaluate score --help` and `evaluate compare --help` say what each of them does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.answers.formats import SPACES
from recipes.medgrpo.answers.questions import problem
from recipes.medgrpo.evaluation import blind
from recipes.medgrpo.evaluation import tables as report
from recipes.medgrpo.evaluation.comparison import ComparisonError, compare
from recipes.medgrpo.evaluation.inputs import Graded, Inputs, read_graded
from recipes.medgrpo.evaluation.intervals import Evaluation
from recipes.medgrpo.evaluation.leaderboard import JUDGED_TASKS, judged, score_leaderboard
from recipes.medgrpo.evaluation.published import published
from recipes.medgrpo.evaluation.strict import overall, pair_scores, score_strict
from recipes.medgrpo.files import code_fingerprint, write_json
from recipes.medgrpo.inference.engines import add_ordinal_argument
from recipes.medgrpo.inference.sampling_options import add_sampling_arguments, sampling_of
from recipes.medgrpo.judge_guard import check, count
from recipes.medgrpo.reward_options import LEADERBOARD_PROMPT, add_judge_arguments, label_of_args, signal_settings_of
from recipes.medgrpo.terminal import Parser, command, whole
from reward_score.bootstrap import RESAMPLES
from reward_score.judge import make_judge

MODES = ("strict", "leaderboard")

SAMPLE = """Sample a checkpoint on held-out rows and score the answers strictly.

Writes `answers.jsonl`, and `scores.json`: accuracy, format and number of answers per dataset-task pair, and their
plain means. A pair counts once, however many rows it has. Two checkpoints that are sampled with the same seed draw
the same random numbers, so that their answers can be compared one by one.
"""
SCORE = """Score a file of answers: our rollouts, the released inference output, a submission, or merged records.

Merged records hold their references; all others need --ground-truth. `--mode strict` gives the metrics of the reward,
`--mode leaderboard` the columns of the public leaderboard, its quirks included. Writes `report.json` and `report.md`:
every figure with a 95 % interval by bootstrap over videos, per pair, task and source, and which rows were left out
and why. --blind-baseline adds to each figure the score of the best constant answer, which is chosen on training rows
without their frames (`blind_baseline.json`). --per-record adds `records.jsonl`.

The leaderboard's three judged columns need --judge. They are computed as the leaderboard does, but by another judge,
and the report says so. In leaderboard mode the judge is asked how good a text is (`--judge-prompt rubric`). In strict
mode it is asked how close the text is to the reference, as in the reward.
"""
COMPARE = """Compare two files of answers row by row.

Writes `comparison.json` and `comparison.md`: paired differences with 95 % intervals by bootstrap over videos, a
permutation test over videos, and effect sizes. In leaderboard mode a row counts if both files answer it. In strict
mode, if only one file answers a row, the missing answer counts as wrong. Rows that neither file answers are left out.
"""


def sampled(args: argparse.Namespace) -> None:
    """Sample a checkpoint on held-out rows and score the answers strictly."""
    from recipes.medgrpo.inference.scored_samples import sample_and_score

    records = sample_and_score(args.data, args.output / "answers.jsonl", **sampling_of(args))
    notes = check(count(records))
    scores = pair_scores(records)
    means = overall(scores)
    content = {"overall": means, "pairs": scores, "judge": label_of_args(args)}
    write_json(args.output / "scores.json", content | ({"notes": notes} if notes else {}))
    line = f"{len(records)} answers, mean over pairs: acc {means['acc']:.3f}, format {means['format']:.3f}"
    print("; ".join([f"{args.output}: {line}", *notes]))


def read(args: argparse.Namespace, file: Path) -> Inputs:
    """The answers of a file beside their ground truth."""
    return read_graded(
        file,
        args.ground_truth,
        sample=args.sample,
        merged_parts=args.merged_parts,
        box_space=args.box_space,
        tasks=args.tasks,
        strict=args.mode == "strict",
    )


def score(args: argparse.Namespace, rows: Sequence[Graded], notes: list[str]) -> Evaluation:
    """The rows' figures in the mode that was asked for; what the judge has to say joins the notes."""
    drawn = {"resamples": args.resamples, "seed": args.seed}
    if args.mode == "strict":
        return score_strict(rows, scoring=signal_settings_of(args), notes=notes, **drawn)
    if args.judge is None:
        return score_leaderboard(rows, **drawn)
    judge = make_judge(args.judge, signal_settings_of(args).get("judge_settings", {}))
    look_up, more = judged(judge, rows)
    notes += more
    return score_leaderboard(rows, judge=look_up, **drawn)


def note_judged_columns(args: argparse.Namespace, inputs: Inputs) -> None:
    """Say of the leaderboard's judged columns of these rows that they are left out, or whose judgement they are."""
    tasks = {row.data_source.rpartition("/")[2] for row in inputs.graded}
    asked = [f"{task}_llm" for task in JUDGED_TASKS if task in tasks]
    if args.mode == "strict" or not asked:
        return
    if args.judge is None:
        inputs.notes.append(f"{', '.join(asked)}: judged columns, left out without --judge")
        return
    reason = f"judged by {label_of_args(args)}, which is not the leaderboard's judge"
    inputs.inexact |= {name: "; ".join([reason, *filter(None, [inputs.inexact.get(name)])]) for name in asked}


def origin(args: argparse.Namespace) -> dict[str, Any]:
    """Where a report's figures come from."""
    about = {
        "results": ", ".join(map(str, args.compare if args.use == "compare" else [args.results])),
        "code": code_fingerprint(),
    }
    if args.ground_truth:
        about["ground_truth"] = str(args.ground_truth)
    if args.judge is not None:
        about["judge"] = label_of_args(args)
    return about


def scored(args: argparse.Namespace) -> None:
    """Score a file of answers."""
    models = None if args.published is None else published(args.published or None)
    inputs = read(args, args.results)
    note_judged_columns(args, inputs)
    # Before anything is scored: a judge may cost money, and the file of training rows may be none.
    learnt = args.blind_baseline and blind.learn(args.blind_baseline, args.mode, captions=args.judge is not None)
    about, notes, baseline = origin(args), list(inputs.notes), None
    if args.mode == "leaderboard" and inputs.dropped:
        notes.append("what the leaderboard shows is said of a file that holds the rows evaluated here and no others")
    evaluation = score(args, inputs.graded, notes)
    if learnt:
        baseline = score(args, learnt.answered(inputs.graded), [])
        if shared := blind.overlap(learnt.rows, inputs.graded):
            notes.append(
                f"the blind baseline learnt on the videos of {shared} of the {len(inputs.graded)} evaluated rows: it "
                "is too good there"
            )
        described = learnt.describe()
        about["blind_baseline"] = f"learnt on {args.blind_baseline}, see blind_baseline.json"
        notes += described.pop("notes")
        write_json(args.output / "blind_baseline.json", described)
    content = report.build(
        evaluation,
        dropped=inputs.dropped,
        notes=notes,
        blind=baseline,
        published=models,
        inexact=inputs.inexact,
        about=about,
    )
    report.write(args.output, content, evaluation if args.per_record else None)


def compared(args: argparse.Namespace) -> None:
    """Compare two files of answers."""
    inputs = [read(args, file) for file in args.compare]
    silent = [one.unanswered for one in inputs]
    neither = silent[0] & silent[1]
    pairs = [[row for row in one.graded if (row.file, row.index) not in neither] for one in inputs]
    if all((row.file, row.index) in silent[0] | silent[1] for row in pairs[0]):
        raise ComparisonError(f"{args.compare[0]} and {args.compare[1]}: no row that both answer")
    for one in inputs:
        note_judged_columns(args, one)
        if neither:
            one.notes.append(f"rows that neither file answers: {len(neither)}, left out")
    scores = [score(args, rows, one.notes) for rows, one in zip(pairs, inputs, strict=True)]
    result = compare(*scores, resamples=args.resamples, seed=args.seed)
    about = origin(args) | {
        str(file): {"notes": one.notes, "dropped": len(one.dropped)}
        for file, one in zip(args.compare, inputs, strict=True)
    }
    report.write_comparison(args.output, result, about)
    for file, one in zip(args.compare, inputs, strict=True):
        for note in [*one.notes, *([f"{len(one.dropped)} rows left out"] if one.dropped else [])]:
            print(f"{file}: {note}")


FORMER = {"--model": "sample --model ...", "--results": "score --results ...", "--compare": "compare A B ..."}
"""The option by which version 0.1 told what to do, and how that is written now."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a subcommand; `use` is its name."""
    parser = Parser("evaluate", __doc__)
    uses = parser.add_subparsers(dest="use", required=True, title="subcommands", metavar="sample|score|compare")
    sample, score, compare = (
        uses.add_parser(name, help=text.partition("\n")[0].rstrip(".:"), description=text)
        for name, text in (("sample", SAMPLE), ("score", SCORE), ("compare", COMPARE))
    )
    add_sampling_arguments(sample)
    add_ordinal_argument(sample)
    score.add_argument("--results", required=True, type=Path, help="the answers to score")
    compare.add_argument("compare", nargs=2, type=Path, help="the two files of answers to compare")
    for one in (score, compare):
        add = one.add_argument
        add("--ground-truth", type=Path, help="annotations with answers, or the preprocessor's parquet")
        add("--mode", choices=MODES, default="strict", help="which metrics")
        add("--tasks", nargs="+", metavar="TASK", help="only rows of these tasks (default: all)")
        add("--sample", type=whole(0), help="which sample of a row counts (default: the one with the lowest number)")
        add("--merged-parts", type=whole(1), default=1, help="for released output: how many GPUs' parts it holds")
        add("--box-space", choices=SPACES, help="coordinates of stg boxes (default: what the file says)")
        add("--resamples", type=whole(1), default=RESAMPLES, help="bootstrap resamples")
        add("--seed", type=whole(0), default=0, help="seed of the bootstrap")
        add_judge_arguments(one)
        one.set_defaults(judge=None)
    score.add_argument("--per-record", action="store_true", help="write every row's figures to records.jsonl")
    score.add_argument("--blind-baseline", type=Path, metavar="TRAIN", help="training rows for the blind baseline")
    score.add_argument("--published", nargs="*", metavar="MODEL", help="show published figures (default: all models)")
    for one in (sample, score, compare):
        one.add_argument("--output", required=True, type=Path, help="folder to write to")
    former = [FORMER[word] for word in (given.partition("=")[0] for given in argv) if word in FORMER]
    if former and argv[0] not in uses.choices:
        parser.error(f"expected a subcommand: evaluate {former[0]}")
    args = parser.parse_args(argv)
    if args.use == "sample":
        return args
    if args.use == "score" and args.published is not None and args.mode == "strict":
        score.error("--published: the published numbers are the leaderboard's (--mode leaderboard)")
    if args.mode == "strict" and args.judge is None:
        args.judge = "offline"
    if args.mode == "leaderboard" and args.judge_prompt is None:
        args.judge_prompt = LEADERBOARD_PROMPT
    return args


def make_folder(folder: Path) -> None:
    """Make the output's folder, or fail before anything is computed. Raises `InputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise problem(folder, None, "", "a folder to write to", error.strerror) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise problem(folder, None, "", "a folder to write to", "one that is read-only")


@command("evaluate")
def main(argv: list[str]) -> None:
    args = parse(argv)
    make_folder(args.output)
    {"sample": sampled, "score": scored, "compare": compared}[args.use](args)


if __name__ == "__main__":
    sys.exit(main())
