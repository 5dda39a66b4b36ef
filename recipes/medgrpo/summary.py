# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write and show what a run came to: metrics.jsonl and summary.json; pool several runs.

    python -m recipes.medgrpo summary --run outputs/NAME [--wall-s 512]        one run
    python -m recipes.medgrpo summary --show outputs/NAME                      its table again
    python -m recipes.medgrpo summary --pool outputs/A outputs/B outputs/C     several seeds together

A run that was interrupted has one metrics file per attempt (verl's file logger starts its file anew); the attempts
are merged here, the later attempt's figures winning where a step was trained again after a resume.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.pair_means import paired_difference
from recipes.medgrpo.files import read_json_lines, write_json, write_json_lines
from recipes.medgrpo.reward_options import judge_label
from recipes.medgrpo.training.checkpoints import latest_complete
from reward_score.judge import OfflineJudge

ATTEMPTS = "attempts/grpo_*.jsonl"
CHECKPOINTS = "grpo"
REWARD = "medgrpo/pairs_mean/reward"
PEARSON = "training/rollout_actor_probs_pearson_corr"
ENDS = 5


def attempt_files(run: Path) -> list[Path]:
    """The attempts' metrics files in the order of the attempts."""
    return sorted(run.glob(ATTEMPTS), key=lambda file: int(file.stem.rsplit("_", 1)[1]))


def merge_attempts(attempts: Sequence[Sequence[dict]]) -> list[dict]:
    """One record `{"step", "attempt", ...metrics}` per training step, in step order.

    When an attempt resumes at step s, what its predecessors logged from s on was trained again and is dropped.
    """
    steps: dict[int, dict] = {}
    for number, records in enumerate(attempts, 1):
        mine = [record for record in records if REWARD in record["data"]]
        if not mine:
            continue
        first = min(record["step"] for record in mine)
        steps = {step: record for step, record in steps.items() if step < first}
        for record in mine:
            finite = {name: value for name, value in record["data"].items() if _is_number(value)}
            steps[record["step"]] = {"step": record["step"], "attempt": number, **finite}
    return [steps[step] for step in sorted(steps)]


def with_lost_steps(records: Sequence[dict], states: Path, trained: int | None) -> list[dict]:
    """The records with those that a kill took, in step order; `trained` is a step whose checkpoint is whole.

    verl logs a step after its checkpoint. A run that was killed between the two goes on behind a step that no attempt
    logged; its metrics as far as the sampler knew them are in the state that the run went on from
    (`states/step_N.json`). The timings and the actor's metrics of that step are lost.
    """
    known = {record["step"]: record for record in records}
    for step in range(1, max([*known, trained or 0]) + 1):
        file = states / f"step_{step}.json"
        if step not in known and file.exists():
            metrics = json.loads(file.read_text(encoding="utf-8")).get("metrics", {})
            attempt = max((record["attempt"] for record in records if record["step"] < step), default=1)
            if REWARD in metrics:
                known[step] = {"step": step, "attempt": attempt, **metrics}
    return [known[step] for step in sorted(known)]


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def answers(folder: Path) -> list[dict]:
    return [record for record in read_json_lines(folder / "answers.jsonl") if "header" not in record]


def summarise(run: Path, wall_s: float | None = None) -> dict:
    """The run's summary; `status` is "complete" only when the last step is there and both evaluations are."""
    attempts = merge_attempts([read_json_lines(file) for file in attempt_files(run)])
    metrics = with_lost_steps(attempts, run / CHECKPOINTS / "sampler", latest_complete(run / CHECKPOINTS))
    write_json_lines(run / "metrics.jsonl", metrics)
    scores = {}
    for name in ("sft", "medgrpo"):
        file = run / "eval" / name / "scores.json"
        scores[name] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    planned = json.loads((run / "plan.json").read_text(encoding="utf-8"))
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
    if None not in scores.values():
        summary["acc_change"] = paired_difference([(answers(run / "eval/sft"), answers(run / "eval/medgrpo"))])
        summary["by_pair"] = {
            pair: {"sft": scores["sft"]["pairs"][pair], "medgrpo": scores["medgrpo"]["pairs"][pair]}
            for pair in scores["sft"]["pairs"]
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


def table(summary: dict) -> str:
    """The summary for a terminal."""
    lines = []
    if summary.get("by_pair"):
        lines.append(f"{'held-out videos':<28}{'acc SFT':>9}{'MedGRPO':>9}   {'format SFT':>10}{'MedGRPO':>9}")
        rows = {pair.removeprefix("medvidbench/"): row for pair, row in summary["by_pair"].items()}
        rows["mean over pairs"] = {"sft": summary["sft"], "medgrpo": summary["medgrpo"]}
        for name, row in rows.items():
            lines.append(
                f"{name:<28}{row['sft']['acc']:>9.3f}{row['medgrpo']['acc']:>9.3f}   "
                f"{row['sft']['format']:>10.3f}{row['medgrpo']['format']:>9.3f}"
            )
        lines.append(f"change in acc               {verdict(summary['acc_change'])}")
    for name, label in (
        ("reward_first5", "reward, first 5 steps"),
        ("reward_last5", "reward, last 5 steps"),
        ("probs_pearson_min", "rollout/actor, least"),
    ):
        if summary[name] is not None:
            lines.append(f"{label:<28}{summary[name]:.4f}")
    lines.append(f"{'steps':<28}{summary['steps']}")
    if summary["resumed_from"] is not None:
        lines.append(f"{'resumed from step':<28}{summary['resumed_from']}")
    if summary["wall_s"] is not None:
        lines.append(f"{'seconds':<28}{summary['wall_s']:.0f}")
    lines.append(f"{'caption judge':<28}{summary['judge']}")
    return "\n".join(lines)


def pool(runs: Sequence[Path]) -> dict:
    """Several seeds of one recipe together: each run's change, and their mean with its interval."""
    pairs = [(answers(run / "eval/sft"), answers(run / "eval/medgrpo")) for run in runs]
    return {
        "runs": {str(run): paired_difference([pair]) for run, pair in zip(runs, pairs, strict=True)},
        "mean": paired_difference(pairs),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path)
    what.add_argument("--show", type=Path, help="fails when the run is not complete")
    what.add_argument("--pool", type=Path, nargs="+")
    parser.add_argument("--wall-s", type=float, help="seconds that the run took so far")
    args = parser.parse_args(argv)
    if args.pool:
        result = pool(args.pool)
        for run, change in [*result["runs"].items(), ("mean of the runs", result["mean"])]:
            print(f"{run:<28}{verdict(change)}")
        return 0
    if args.show:
        file = args.show / "summary.json"
        summary = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if summary.get("status") != "complete":
            return 1
        print(table(summary))
        return 0
    summary = summarise(args.run, args.wall_s)
    write_json(args.run / "summary.json", summary)
    print(table(summary))
    print(f"{'summary':<28}{args.run / 'summary.json'}")
    return 0 if summary["status"] == "complete" else 1


if __name__ == "__main__":
    sys.exit(main())
