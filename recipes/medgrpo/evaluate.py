# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Score answers by the strict metrics and by the leaderboard's, and compare models.

    python -m recipes.medgrpo evaluate --model CHECKPOINT --data val.parquet --output eval/sft
    python -m recipes.medgrpo evaluate --results answers.jsonl --ground-truth test_with_answers.json \
        --mode leaderboard --blind-baseline train.json --published --output eval/leaderboard
    python -m recipes.medgrpo evaluate --compare A.jsonl B.jsonl --ground-truth val.parquet --output eval/a_or_b

The first samples held-out rows and scores them strictly: `answers.jsonl`, and `scores.json` (accuracy, format and
count per dataset-task pair, and their plain means: a pair counts once, however many rows it has). Two checkpoints
sampled with the same seed drew the same random numbers, so their answers can be compared one by one.

The second scores answers that are there: our rollouts, the released inference output, a submission, or merged records,
which need no `--ground-truth`. `--mode leaderboard` gives the columns of the public leaderboard, surprises included,
`--mode strict` the metrics of the reward. It writes `report.json` and `report.md`: every figure with a 95 % interval
by bootstrap over videos, per pair, task and source; beside it, with `--blind-baseline`, what the best answer without a
look at a frame scores, learnt on training rows (`blind_baseline.json`); and which rows were left out, and why.
`--per-record` adds `records.jsonl`.

The third compares two such files row by row: paired differences with intervals, a permutation test over videos,
effect sizes (`comparison.json`, `comparison.md`). Of the leaderboard's columns a row counts that both answer; strictly
an answer that one of the two lacks is a wrong one, and rows that neither answers are left out.

The leaderboard's three judged columns are left out unless `--judge` names a judge. By ours they are computed as there,
and marked as not the leaderboard's. A model is then asked how good a text is, as the leaderboard asks
(`--judge-prompt rubric`), in words of ours; strictly, how close it is to the reference, as the reward asks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.answers.formats import SPACES
from recipes.medgrpo.answers.questions import InputError, problem
from recipes.medgrpo.data.rows import DataError
from recipes.medgrpo.evaluation import blind
from recipes.medgrpo.evaluation import tables as report
from recipes.medgrpo.evaluation.columns import score_leaderboard
from recipes.medgrpo.evaluation.comparison import compare
from recipes.medgrpo.evaluation.inputs import Graded, Inputs, read_graded
from recipes.medgrpo.evaluation.intervals import Evaluation
from recipes.medgrpo.evaluation.judged_columns import JUDGED_TASKS, Judged, pairs_of
from recipes.medgrpo.evaluation.pair_means import ComparisonError, overall, pair_scores
from recipes.medgrpo.evaluation.published import UnknownModel, published
from recipes.medgrpo.evaluation.strict import score_strict
from recipes.medgrpo.files import code_fingerprint, write_json
from recipes.medgrpo.reward_options import add_judge_arguments, label_of_args, signal_settings_of
from recipes.medgrpo.terminal import whole
from reward_score.bootstrap import RESAMPLES
from reward_score.errors import RewardError
from reward_score.judge import make_judge

MODES = ("strict", "leaderboard")
LEADERBOARD_PROMPT = "rubric"
"""What a model is asked for the leaderboard's columns."""


def sampled(args: argparse.Namespace) -> None:
    """Sample a checkpoint on held-out rows and score the answers strictly."""
    from recipes.medgrpo.inference.scored_samples import options, sample_and_score

    records = sample_and_score(args.model, args.data, args.output / "answers.jsonl", **options(args))
    scores = pair_scores(records)
    judge = label_of_args(args)
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


def score(args: argparse.Namespace, rows: Sequence[Graded], notes: list[str]) -> Evaluation:
    """The rows' figures in the mode that was asked for; what the judge has to say joins the notes."""
    drawn = {"resamples": args.resamples, "seed": args.seed}
    if args.mode == "strict":
        return score_strict(rows, scoring=signal_settings_of(args), **drawn)
    if args.judge is None:
        return score_leaderboard(rows, **drawn)
    judge = make_judge(args.judge, signal_settings_of(args).get("judge_settings", {}))
    judged = Judged(judge, pairs_of(rows))
    notes += judged.notes()
    return score_leaderboard(rows, judge=judged, **drawn)


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
    about = {"results": ", ".join(map(str, args.compare or [args.results])), "code": code_fingerprint()}
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
        published=models,
        inexact=inputs.inexact,
        about=about,
    )
    report.write(args.output, content, evaluation if args.per_record else None)
    print(report.printable(report.markdown(content)))


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
    print(report.printable(report.comparison_markdown(result)))
    for file, one in zip(args.compare, inputs, strict=True):
        for note in [*one.notes, *([f"{len(one.dropped)} rows left out"] if one.dropped else [])]:
            print(report.printable(f"{file}: {note}"))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments of one of the three uses."""
    uses = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = uses.add_mutually_exclusive_group()
    group.add_argument("--model", help="checkpoint folder in HF format, to be sampled on --data")
    group.add_argument("--results", type=Path, help="answers that are there")
    group.add_argument("--compare", type=Path, nargs=2, metavar="FILE", help="two files of answers")
    wanted, _ = uses.parse_known_args(argv)
    group.required = True
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, parents=[uses]
    )
    parser.add_argument("--output", required=True, type=Path, help="folder")
    if wanted.model:
        from recipes.medgrpo.inference.scored_samples import add_sampling_arguments

        add_sampling_arguments(parser, samples=4)
    else:
        parser.add_argument("--ground-truth", type=Path, help="annotations with answers, or the preprocessor's parquet")
        parser.add_argument("--mode", choices=MODES, default="strict")
        parser.add_argument("--tasks", nargs="+", help="only these tasks")
        parser.add_argument(
            "--sample", type=whole(0), help="which of several samples of a row; default the lowest number"
        )
        parser.add_argument("--merged-parts", type=whole(1), default=1, help="of released output: how many GPUs' parts")
        parser.add_argument("--box-space", choices=SPACES, help="of stg boxes, where the records do not say it")
        parser.add_argument("--resamples", type=whole(1), default=RESAMPLES, help="of the bootstrap")
        parser.add_argument("--seed", type=whole(0), default=0, help="of the bootstrap")
    if not wanted.model and not wanted.compare:
        parser.add_argument("--per-record", action="store_true", help="write every row's numbers")
        parser.add_argument("--blind-baseline", type=Path, metavar="TRAIN", help="training rows, JSON or parquet")
        parser.add_argument(
            "--published", nargs="*", metavar="MODEL", help="published rows beside ours; none named: all"
        )
    add_judge_arguments(parser)
    if not wanted.model:
        parser.set_defaults(judge=None)
    args = parser.parse_args(argv)
    if args.model:
        return args
    if getattr(args, "published", None) is not None and args.mode == "strict":
        parser.error("--published: the published numbers are the leaderboard's (--mode leaderboard)")
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


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        make_folder(args.output)
        (sampled if args.model else compared if args.compare else scored)(args)
    except (InputError, ComparisonError, DataError, UnknownModel, RewardError) as error:
        print(f"evaluate: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # Our own errors of this kind have no number, and say themselves what they are about.
        said = f"{error.filename or args.output}: {error.strerror}" if error.errno else error
        print(f"evaluate: error: {said}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
