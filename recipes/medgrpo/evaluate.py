# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Strict evaluation on held-out videos, and the paired comparison of two checkpoints.

    python -m recipes.medgrpo.evaluate --model CHECKPOINT --data val.parquet --output eval/sft

Writes `answers.jsonl` and `scores.json` (accuracy, format and count per dataset-task pair, and their plain means:
a pair counts once, however many rows it has). Two checkpoints evaluated with the same seed drew the same random
numbers, so `comparison.paired_difference` compares them answer by answer, with an interval by bootstrap over videos.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recipes.medgrpo.comparison import overall, pair_scores
from recipes.medgrpo.files import write_json
from recipes.medgrpo.generate import add_arguments, judge_label, options, sample_and_score


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, samples=4)
    parser.add_argument("--output", required=True, type=Path, help="folder")
    args = parser.parse_args(argv)
    records = sample_and_score(args.model, args.data, args.output / "answers.jsonl", **options(args))
    scores = pair_scores(records)
    judge = judge_label(args.judge, args.judge_model)
    write_json(args.output / "scores.json", {"overall": overall(scores), "pairs": scores, "judge": judge})
    means = overall(scores)
    print(
        f"{args.output}: {len(records)} answers, mean over pairs: acc {means['acc']:.3f}, format {means['format']:.3f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
