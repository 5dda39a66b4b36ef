# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write and show the results of a run: metrics.jsonl and summary.json; pool several runs.

    python -m recipes.medgrpo summary --run outputs/NAME [--wall-s 512]        one run
    python -m recipes.medgrpo summary --show outputs/NAME                      its table again
    python -m recipes.medgrpo summary --pool outputs/A outputs/B outputs/C     several seeds together
    python -m recipes.medgrpo summary --pool A0 A1 --against B0 B1             two kinds of runs, seed by seed
    python -m recipes.medgrpo summary --redact outputs/NAME                    what may be pasted into an issue

A run that was interrupted has one metrics file per attempt, because verl's file logger starts a new file. This command
merges them. Where a resumed attempt trained a step again, its figures replace the earlier ones. Exit status 1: the run
is not complete.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.comparison import paired_difference
from recipes.medgrpo.files import InputError, read_json, read_json_lines, write_json, write_json_lines
from recipes.medgrpo.redaction import run_in_numbers
from recipes.medgrpo.reward_options import judge_label
from recipes.medgrpo.terminal import Parser, command, fields, real, table
from recipes.medgrpo.training.checkpoints import latest_complete
from recipes.medgrpo.training.logged_steps import REWARD, attempt_files, merge_attempts, with_lost_steps
from reward_score.judge import OfflineJudge
from reward_score.statistics import is_finite

CHECKPOINTS = "grpo"
PEARSON = "training/rollout_actor_probs_pearson_corr"
ENDS = 5
STEADINESS = {"entropy": "actor/entropy", "share of dead groups": "medgrpo/groups/dead_share"}
"""What a step's record says of its answers' variety, and under which key."""


def answers(folder: Path) -> list[dict]:
    """The scored answers of an evaluation's folder; raises InputError where there is none, or one lacks a field."""
    file = folder / "answers.jsonl"
    if not file.exists():
        raise InputError(f"{file}: no such file, expected the answers of an evaluation")
    records = [record for record in read_json_lines(file) if not (isinstance(record, dict) and "header" in record)]
    if not records:
        raise InputError(f"{file}: expected answers, found none")
    for record in records:
        _fields(record, ("data_source", "index", "sample", "video", "acc"), f"{file}: an answer")
        if not is_finite(record["acc"]):
            raise InputError(f"{file}: acc: expected a finite number, found {record['acc']!r}")
    return records


def _fields(value: Any, names: Sequence[str], place: str) -> Any:
    """The object itself; raises InputError where it is none, or lacks one of the fields."""
    if not isinstance(value, dict):
        raise InputError(f"{place}: expected an object, found {type(value).__name__}")
    if missing := [name for name in names if name not in value]:
        raise InputError(f"{place}: expected {', '.join(names)}, found no {', '.join(missing)}")
    return value


def _scores(file: Path) -> dict | None:
    """The means of an evaluation, None where it has not been made."""
    return _fields(read_json(file), ("overall", "pairs"), str(file)) if file.exists() else None


def summarise(run: Path, wall_s: float | None = None) -> dict:
    """The run's summary; `status` is "complete" only when the last step is there and both evaluations are."""
    planned = _fields(read_json(run / "plan.json"), ("steps", "model", "seed"), str(run / "plan.json"))
    logs = [(file, read_json_lines(file)) for file in attempt_files(run)]
    for file, records in logs:
        for record in records:
            _fields(_fields(record, ("step", "data"), f"{file}: a step")["data"], (), f"{file}: data")
    attempts = merge_attempts([records for _, records in logs])
    metrics = with_lost_steps(attempts, run / CHECKPOINTS / "sampler", latest_complete(run / CHECKPOINTS))
    write_json_lines(run / "metrics.jsonl", metrics)
    scores = {name: _scores(run / "eval" / name / "scores.json") for name in ("sft", "medgrpo")}
    rewards = [record[REWARD] for record in metrics]
    done = bool(metrics) and metrics[-1]["step"] == planned["steps"] and None not in scores.values()
    later = [record["step"] for record in metrics if record["attempt"] > 1]
    summary = {
        "status": "complete" if done else "incomplete",
        "wall_s": wall_s,
        "model": planned["model"],
        "seed": planned["seed"],
        "steps": metrics[-1]["step"] if metrics else 0,
        "pairs": len(scores["sft"]["pairs"]) if scores["sft"] else 0,
        "sft": scores["sft"] and scores["sft"]["overall"],
        "medgrpo": scores["medgrpo"] and scores["medgrpo"]["overall"],
        "reward_first5": float(np.mean(rewards[:ENDS])) if rewards else None,
        "reward_last5": float(np.mean(rewards[-ENDS:])) if rewards else None,
        "probs_pearson_min": min((record[PEARSON] for record in metrics if PEARSON in record), default=None),
        # An attempt that had no checkpoint to go on from started anew.
        "resumed_from": (min(later) - 1 or None) if later else None,
        "failed_rollouts": int(sum(record.get("medgrpo/rollouts/failed", 0) for record in metrics)),
        "judge": judge_line(planned),
    }
    sft, medgrpo = scores["sft"], scores["medgrpo"]
    if sft is not None and medgrpo is not None:
        if other := sft["pairs"].keys() ^ medgrpo["pairs"].keys():
            raise InputError(f"{run}/eval: sft and medgrpo have scores of other pairs: {', '.join(sorted(other))}")
        summary["acc_change"] = paired_difference([(answers(run / "eval/sft"), answers(run / "eval/medgrpo"))])
        summary["by_pair"] = {
            pair: {"sft": sft["pairs"][pair], "medgrpo": medgrpo["pairs"][pair]} for pair in sft["pairs"]
        }
    return summary


def judge_line(planned: Mapping[str, Any]) -> str:
    """Who judged the captions of a run, from its plan."""
    if "judge" not in planned:
        return f"{OfflineJudge.name} (word overlap, not a language model)"
    return judge_label(
        planned["judge"], planned["judge_model"], planned.get("judge_prompt"), planned.get("judge_second_model")
    )


def verdict(change: dict) -> str:
    low, high = change["low"], change["high"]
    if low is None:
        return f"{change['acc_change']:+.3f}  no interval: a single video"
    judged = "above 0" if low > 0 else "below 0" if high < 0 else "touches 0: no change shown"
    return (
        f"{change['acc_change']:+.3f}  95 % interval {low:+.3f} to {high:+.3f} over {change['videos']} videos, {judged}"
    )


def text(summary: dict) -> str:
    """The summary for a terminal."""
    blocks = []
    if summary.get("by_pair"):
        rows = {pair.removeprefix("medvidbench/"): row for pair, row in summary["by_pair"].items()}
        rows["mean over pairs"] = {"sft": summary["sft"], "medgrpo": summary["medgrpo"]}
        header = ["held-out videos", "acc SFT", "acc MedGRPO", "format SFT", "format MedGRPO"]
        scores = [(model, figure) for figure in ("acc", "format") for model in ("sft", "medgrpo")]
        blocks.append(
            table(header, [[name, *(row[model][figure] for model, figure in scores)] for name, row in rows.items()])
        )
    lines = {"change in acc": verdict(summary["acc_change"])} if blocks else {}
    for name, label, form in (
        ("reward_first5", "reward, first 5 steps", ".4f"),
        ("reward_last5", "reward, last 5 steps", ".4f"),
        ("probs_pearson_min", "rollout/actor, least", ".4f"),
        ("steps", "steps", "d"),
        ("resumed_from", "resumed from step", "d"),
        ("wall_s", "seconds", ".0f"),
        ("judge", "caption judge", "s"),
    ):
        if summary[name] is not None:
            lines[label] = format(summary[name], form)
    return "\n\n".join([*blocks, fields(lines)])


def pool(runs: Sequence[Path]) -> dict:
    """Several seeds of one recipe together: each run's change, and their mean with its interval."""
    pairs = [(answers(run / "eval/sft"), answers(run / "eval/medgrpo")) for run in runs]
    return {
        "runs": {str(run): paired_difference([pair]) for run, pair in zip(runs, pairs, strict=True)},
        "mean": paired_difference(pairs),
    }


def pool_against(runs: Sequence[Path], others: Sequence[Path]) -> dict:
    """Trained models of one kind of run against those of another, on the same held-out videos of each seed.

    Returns:
        As `pool`, of the change from `others` to `runs`; and of each kind's steps, by `STEADINESS`, the mean.
    """
    pairs = [(answers(b / "eval/medgrpo"), answers(a / "eval/medgrpo")) for a, b in zip(runs, others, strict=True)]
    return {
        "runs": {str(run): paired_difference([pair]) for run, pair in zip(runs, pairs, strict=True)},
        "mean": paired_difference(pairs),
        "steps": [steadiness(runs), steadiness(others)],
    }


def steadiness(runs: Sequence[Path]) -> dict[str, float]:
    """Means over all steps of some runs: how varied the answers are, and how many groups teach nothing."""
    found: dict[str, list[float]] = {name: [] for name in STEADINESS}
    for run in runs:
        for record in read_json_lines(run / "metrics.jsonl"):
            for name, key in STEADINESS.items():
                if is_finite(record.get(key)):
                    found[name].append(record[key])
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("summary", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="write a run's metrics.jsonl and summary.json; show it")
    what.add_argument("--show", type=Path, help="show the summary that a complete run has")
    what.add_argument("--pool", type=Path, nargs="+", help="mean change over several runs")
    what.add_argument("--redact", type=Path, help="show versions, settings and figures without names, paths and texts")
    parser.add_argument("--against", type=Path, nargs="+", help="with --pool: as many runs, each of the same seed")
    parser.add_argument("--wall-s", type=real(0), metavar="SECONDS", help="with --run: how long the run has taken")
    args = parser.parse_args(argv)
    if args.against and len(args.against) != len(args.pool or ()):
        expected = len(args.pool or ())
        parser.error(f"--against: expected as many runs as --pool has, {expected}, found {len(args.against)}")
    return args


@command("summary")
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    for run in [*(args.pool or ()), *(args.against or ()), *filter(None, (args.run, args.show, args.redact))]:
        if not run.is_dir():
            raise InputError(f"{run}: no such folder, expected a run's")
    if args.pool:
        result = pool_against(args.pool, args.against) if args.against else pool(args.pool)
        print(fields({run: verdict(x) for run, x in [*result["runs"].items(), ("mean of the runs", result["mean"])]}))
        if args.against:
            mine, theirs = result["steps"]
            print(fields({name: f"{mine[name]:.3f} against {theirs[name]:.3f}" for name in mine if name in theirs}))
        return 0
    if args.redact:
        print(json.dumps(run_in_numbers(args.redact), indent=2))
        return 0
    if args.show:
        file = args.show / "summary.json"
        summary = _fields(read_json(file), (), str(file)) if file.exists() else {}
        if summary.get("status") != "complete":
            return 1
        print(text(summary))
        return 0
    summary = summarise(args.run, args.wall_s)
    write_json(args.run / "summary.json", summary)
    print(text(summary))
    print(f"written to {args.run / 'summary.json'}")
    return 0 if summary["status"] == "complete" else 1


if __name__ == "__main__":
    sys.exit(main())
