# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Measure what the SFT model's answers earn per dataset, task and signal: the normalisation's input.

    python -m recipes.medgrpo calibrate --model SFT --data train.parquet --output statistics.json
    python -m recipes.medgrpo calibrate --merge RAW_SIGNALS [RAW_SIGNALS ...] --output statistics.json
    python -m recipes.medgrpo calibrate --diff STATISTICS STATISTICS [--output changes.json]

The first form samples the model and scores its answers. An interrupted run goes on where it was. It writes the raw
signals of every answer (`raw_signals.jsonl` beside the output) and `statistics.json`: percentiles with 95 % intervals
by bootstrap over videos, what the normalisation uses where they are degenerate, the share of saturated values, and the
fingerprints of the model, the data and the reward's code. --merge makes the statistics from the raw signals of one or
several such runs, without sampling again. --diff compares two statistics files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.evaluation import percentiles as calibration
from recipes.medgrpo.files import write_json
from recipes.medgrpo.inference.sampling_options import add_sampling_arguments, sampling_of
from recipes.medgrpo.judge_guard import check, count
from recipes.medgrpo.reward_options import ENCODER, label_of
from recipes.medgrpo.terminal import Parser, command, table
from reward_score.statistics import DEFAULT_MIN_IQR, DEFAULT_MIN_SAMPLES, FORMAT, check_degenerate


def sampled(args: argparse.Namespace) -> tuple[Sequence[Mapping[str, Any]], dict[str, Any]]:
    """(answers, where they come from) of a model on the rows of a parquet file."""
    from recipes.medgrpo.inference.scored_samples import sample_and_score

    raw = args.output.with_name("raw_signals.jsonl")
    sample_and_score(args.data, raw, **sampling_of(args))
    records, about = merged([raw])
    names = ("samples", "rows_per_pair", "temperature", "max_new_tokens", "seed", "engine")
    return records, about | {
        "data": {"file": Path(args.data).name, "sha256": about["data"]["sha256"][0]},
        "sampling": {name: getattr(args, name) for name in names},
    }


def merged(files: Sequence[Path]) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """(answers, where they come from) of several runs; InputError where they do not go together."""
    runs = [calibration.read_run(file) for file in files]
    records = calibration.merge(runs)
    header = runs[0].header
    return records, {
        "judge": label_of(header["scoring"]),
        "similarity": header["scoring"].get("encoder", ENCODER),
        "model": {"sha256": header["model"]},
        "data": {"sha256": sorted({run.header["data"] for run in runs})},
        "code": {"sha256": header["code"]},
        "sampling": {"runs": [{"file": run.file.name, **run.header["settings"]} for run in runs]},
    }


def write(args: argparse.Namespace, records: Sequence[Mapping[str, Any]], origin: Mapping[str, Any]) -> None:
    """Make the statistics, write and print them."""
    notes = check(count(records))
    degenerate = {"min_iqr": args.min_iqr, "min_samples": args.min_samples}
    pairs = calibration.pair_statistics(records, **degenerate)
    content = {
        "format": FORMAT,
        **origin,
        **({"notes": notes} if notes else {}),
        "degenerate": degenerate,
        "pairs": pairs,
    }
    calibration.write_statistics(args.output, content)
    print(statistics_table(pairs))
    parsed = sum(record["format"] > 0 for record in records) / max(1, len(records))
    print("; ".join([f"{args.output}: {len(records)} answers, {parsed:.0%} parse", *notes]))


def statistics_table(pairs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """One row per pair and signal: what was measured, what is used, the saturated share, why it is degenerate."""
    rows = []
    for pair, signals in pairs.items():
        for signal, row in signals.items():
            used, saturated = row["used"], row["saturated"]
            share = "none parse" if saturated is None else f"{saturated:.0%}"
            measured = [row["n"], row["p50"], row["iqr"], used["p50"], used["iqr"]]
            rows.append([pair, signal, *measured, share, " ".join(used["why"])])
    return table(["pair", "signal", "n", "p50", "iqr", "used p50", "used iqr", "saturated", "degenerate"], rows)


def difference_table(found: Mapping[str, Any]) -> list[str]:
    """The result of `calibration.difference` as lines of text, greatest change of the reward first."""
    lines = [f"not the same in both: {', '.join(found['origin'])}"] if found["origin"] else []
    lines += [f"only in {found[name]}: {row}" for name in ("a", "b") for row in found[f"only_{name}"]]

    def moved(change: Mapping[str, Any], key: str) -> str:
        sides = []
        for value, interval in zip(change[key], change[f"{key}_ci"], strict=True):
            bounds = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
            sides.append(f"{value:.3f}{bounds}")
        return f"{key} {sides[0]} -> {sides[1]}"

    for change in found["changes"]:
        reward = change["reward"]
        lines.append(
            f"{change['pair']} {change['signal']}: {moved(change, 'p50')}, {moved(change, 'iqr')}, "
            f"reward {reward['change']:+.3f} at {reward['at']:.3f}"
        )
    return lines


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one of the three uses; which one, `merge` and `diff` say."""
    uses = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = uses.add_mutually_exclusive_group()
    group.add_argument("--merge", nargs="+", type=Path, help="make statistics of these runs' raw_signals.jsonl")
    group.add_argument("--diff", nargs=2, type=Path, help="compare two statistics files")
    chosen, _ = uses.parse_known_args(argv)
    parser = Parser("calibrate", __doc__, parents=[uses])
    if chosen.merge is None and chosen.diff is None:
        add_sampling_arguments(parser)
        parser.add_argument(
            "--tal-wasserstein", action="store_true", help="also measure the signal of the setting tal_wasserstein"
        )
    parser.add_argument("--output", required=chosen.diff is None, type=Path, help="statistics.json, the file to write")
    if chosen.diff is None:
        parser.add_argument("--min-iqr", type=float, default=DEFAULT_MIN_IQR, help="least spread to divide by")
        parser.add_argument(
            "--min-samples",
            type=int,
            default=DEFAULT_MIN_SAMPLES,
            help="with fewer answers, values shrink toward the task's",
        )
    args = parser.parse_args(argv)
    if chosen.diff is None:
        try:
            check_degenerate(args.min_iqr, args.min_samples)
        except ValueError as error:
            parser.error(str(error))
    return args


@command("calibrate")
def main(argv: list[str]) -> None:
    args = parse(argv)
    if not args.diff:
        write(args, *(merged(args.merge) if args.merge else sampled(args)))
        return
    found = calibration.difference(*args.diff)
    if args.output:
        write_json(args.output, found)
    print("\n".join(difference_table(found)))


if __name__ == "__main__":
    sys.exit(main())
