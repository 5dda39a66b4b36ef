# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Measure what the SFT model's answers earn, per dataset, task and signal: the input of the normalisation.

    python -m recipes.medgrpo.calibrate --model SFT --data train.parquet --output statistics.json

Writes the raw signals of every sampled answer (`raw_signals.jsonl` beside the output) and `statistics.json`:
n, p25, p50, p75 and IQR of each signal, with the fingerprints of the model, the data and the reward's code.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from recipes.medgrpo.files import code_fingerprint, data_fingerprint, model_fingerprint, write_json
from recipes.medgrpo.generate import add_arguments, judge_label, options, sample_and_score
from reward_score.normalization import summarize


def pair_statistics(records: Iterable[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Per pair and signal: n, p25, p50, p75 and IQR of the raw values (an answer that does not parse counts)."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for name, value in record.items():
            if name.startswith("raw_"):
                values[record["data_source"]][name.removeprefix("raw_")].append(value)
    return {
        pair: {signal: summarize(series) for signal, series in sorted(signals.items())}
        for pair, signals in sorted(values.items())
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, samples=4)
    parser.add_argument("--output", required=True, type=Path, help="statistics.json")
    args = parser.parse_args(argv)
    raw = args.output.with_name("raw_signals.jsonl")
    records = sample_and_score(args.model, args.data, raw, **options(args))
    write_json(
        args.output,
        {
            "format": 1,
            "judge": judge_label(args.judge, args.judge_model),
            "similarity": "all-MiniLM-L6-v2",
            "model": {"sha256": model_fingerprint(Path(args.model))},
            "data": {"file": Path(args.data).name, "sha256": data_fingerprint(Path(args.data))},
            "code": {"sha256": code_fingerprint()},
            "sampling": {"samples": args.samples, "temperature": args.temperature, "seed": args.seed},
            "pairs": pair_statistics(records),
        },
    )
    parsed = sum(record["format"] > 0 for record in records) / max(1, len(records))
    print(f"{args.output}: {len(records)} answers, {parsed:.0%} parse")
    return 0


if __name__ == "__main__":
    sys.exit(main())
