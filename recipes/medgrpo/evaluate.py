# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Evaluation: what answers are worth, by the strict metrics and by the leaderboard's.

    python -m recipes.medgrpo.evaluate --model CHECKPOINT --data val.parquet --output eval/sft
    python -m recipes.medgrpo.evaluate --results answers.jsonl --ground-truth test_with_answers.json \
        --mode leaderboard --blind-baseline train.json --published --output eval/leaderboard
    python -m recipes.medgrpo.evaluate --compare A.jsonl B.jsonl --ground-truth val.parquet --output eval/a_or_b

The first samples held-out rows and scores them strictly: `answers.jsonl`, and `scores.json` (accuracy, format and
count per dataset-task pair, and their plain means: a pair counts once, however many rows it has). Two checkpoints
sampled with the same seed drew the same random numbers, so their answers can be compared one by one.

The second scores answers that are there: our rollouts, the released inference output, a submission, or merged records,
which need no `--ground-truth`. `--mode leaderboard` gives the columns of the public leaderboard, surprises included,
`--mode strict` the metrics of the reward. It writes `report.json` and `report.md`: every figure with a 95 % interval
by bootstrap over videos, per pair, task and source; beside it, with `--blind-baseline`, what the best answer without a
look at a frame scores, learnt on training rows (`blind_baseline.json`); and which rows were left out, and why.
`--per-record` adds `records.jsonl`.

The third compares two such files on the rows that both answer: paired differences with intervals, a permutation test
over videos, effect sizes (`comparison.json`, `comparison.md`).

The leaderboard's three judged columns need its own judge and are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from recipes.medgrpo.answer_files import SPACES, SubmissionError
from recipes.medgrpo.comparison import ComparisonError, overall, pair_scores
from recipes.medgrpo.evaluation import blind, report
from recipes.medgrpo.evaluation.columns import score_leaderboard
from recipes.medgrpo.evaluation.compare import compare
from recipes.medgrpo.evaluation.inputs import Graded, Inputs, read_graded
from recipes.medgrpo.evaluation.intervals import RESAMPLES, Evaluation
from recipes.medgrpo.evaluation.published import UnknownModel, published
from recipes.medgrpo.evaluation.strict import score_strict
from recipes.medgrpo.evaluation.training_rows import TrainingRowsError
from recipes.medgrpo.files import code_fingerprint, write_json
from recipes.medgrpo.scoring import add_judge_arguments, judge_label, signal_settings_of
from reward_score.errors import RewardError

MODES = ("strict", "leaderboard")


def sampled(args: argparse.Namespace) -> None:
    """Sample a checkpoint on held-out rows and score the answers strictly."""
    from recipes.medgrpo.generate import options, sample_and_score

    records = sample_and_score(args.model, args.data, args.output / "answers.jsonl", **options(args))
    scores = pair_scores(records)
    judge = judge_label(args.judge, args.judge_model)
    means = overall(scores)
    write_json(args.output / "scores.json", {"overall": means, "pairs": scores, "judge": judge})
    print(
        f"{args.output}: {len(records)} answers, mean over pairs: acc {means['acc']:.3f}, format {means['format']:.3f}"
    )


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


def score(args: argparse.Namespace, rows: list[Graded]) -> Evaluation:
    """The rows' figures in the mode that was asked for."""
    if args.mode == "leaderboard":
        return score_leaderboard(rows, resamples=args.resamples, seed=args.seed)
    return score_strict(rows, scoring=signal_settings_of(args), resamples=args.resamples, seed=args.seed)


def origin(args: argparse.Namespace) -> dict[str, Any]:
    """Where a report's figures come from."""
    about = {"results": ", ".join(map(str, args.compare or [args.results])), "code": code_fingerprint()}
    if args.ground_truth:
        about["ground_truth"] = str(args.ground_truth)
    if args.mode == "strict":
        about["judge"] = judge_label(args.judge, args.judge_model)
    return about


def scored(args: argparse.Namespace) -> None:
    """Score a file of answers."""
    inputs = read(args, args.results)
    evaluation = score(args, inputs.graded)
    about, notes, baseline = origin(args), list(inputs.notes), None
    if args.blind_baseline:
        learnt = blind.learn(args.blind_baseline, args.mode, captions=args.mode == "strict")
        baseline = score(args, learnt.answered(inputs.graded))
        shared = blind.overlap(learnt.rows, inputs.graded)
        if shared["of_videos"]:
            notes.append(
                f"the blind baseline learnt on {shared['rows']} of the {shared['evaluated']} evaluated rows and on "
                f"{shared['videos']} of their videos: it is too good there"
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
        published=None if args.published is None else published(args.published or None),
        inexact=inputs.inexact,
        about=about,
    )
    report.write(args.output, content, evaluation if args.per_record else None)
    print(report.markdown(content))


def compared(args: argparse.Namespace) -> None:
    """Compare two files of answers."""
    inputs = [read(args, file) for file in args.compare]
    result = compare(*(score(args, one.graded) for one in inputs), resamples=args.resamples, seed=args.seed)
    about = origin(args) | {
        str(file): {"notes": one.notes, "dropped": len(one.dropped)}
        for file, one in zip(args.compare, inputs, strict=True)
    }
    report.write_comparison(args.output, result, about)
    print(report.comparison_markdown(result))
    for file, one in zip(args.compare, inputs, strict=True):
        for note in [*one.notes, *([f"{len(one.dropped)} rows left out"] if one.dropped else [])]:
            print(f"{file}: {note}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of one of the three uses."""
    uses = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = uses.add_mutually_exclusive_group(required=True)
    group.add_argument("--model", help="checkpoint folder in HF format, to be sampled on --data")
    group.add_argument("--results", type=Path, help="answers that are there")
    group.add_argument("--compare", type=Path, nargs=2, metavar="FILE", help="two files of answers")
    wanted = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, parents=[uses]
    )
    parser.add_argument("--output", required=True, type=Path, help="folder")
    if "--model" in wanted:
        from recipes.medgrpo.generate import add_sampling_arguments

        add_sampling_arguments(parser, samples=4)
    else:
        parser.add_argument("--ground-truth", type=Path, help="annotations with answers, or the preprocessor's parquet")
        parser.add_argument("--mode", choices=MODES, default="strict")
        parser.add_argument("--tasks", nargs="+", help="only these tasks")
        parser.add_argument("--sample", type=int, help="which of several samples of a row; default the lowest number")
        parser.add_argument("--merged-parts", type=int, default=1, help="of released output: how many GPUs' parts")
        parser.add_argument("--box-space", choices=SPACES, help="of stg boxes, where the records do not say it")
        parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of the bootstrap")
        parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    if "--results" in wanted:
        parser.add_argument("--per-record", action="store_true", help="write every row's numbers")
        parser.add_argument("--blind-baseline", type=Path, metavar="TRAIN", help="training rows, JSON or parquet")
        parser.add_argument(
            "--published", nargs="*", metavar="MODEL", help="published rows beside ours; none named: all"
        )
    add_judge_arguments(parser)
    args = parser.parse_args(argv)
    if getattr(args, "published", None) is not None and args.mode == "strict":
        parser.error("--published: the published numbers are the leaderboard's (--mode leaderboard)")
    if getattr(args, "resamples", 1) < 1:
        parser.error("--resamples: expected a positive number")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        (sampled if args.model else compared if args.compare else scored)(args)
    except (SubmissionError, ComparisonError, TrainingRowsError, UnknownModel, RewardError) as error:
        print(f"evaluate: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"evaluate: error: {error.filename or args.output}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
