# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write a model's answers to the rows of a parquet file, in the format of the released inference code.

    python -m recipes.medgrpo generate --model CHECKPOINT --data DATA/test.parquet --output answers.json
    python -m recipes.medgrpo generate --model CHECKPOINT --data DATA/test.parquet --output answers.json \\
        --data-parallel 8 --max-new-tokens stg=512 --one-shot DATA/train.parquet
    python -m recipes.medgrpo generate --engine endpoint --base-url URL --endpoint-model NAME \\
        --data DATA/test.parquet --output answers.json

`answers.json` is a dict by row number, as the paper's `vllm_infer.py` writes it, with boxes in pixels of the
annotation canvas. `evaluate`, `submission` and the official tools read it. `answers.jsonl` beside it has one line per
answer, as the model wrote it. A restarted run reads this file and asks only for the rows that have no
answer. A killed run loses only the batch that it was working on. Answers of another model, of other data or of other
settings are renamed and kept. With an output that ends in `.jsonl`, only that file is written.

Sampling is greedy unless --temperature says otherwise. Engines: `vllm` (batches on GPUs), `transformers` (one device,
CPU too), `rollout` (the servers that training samples with), `endpoint` (any OpenAI-compatible address, frames as
images). Exit status 1: some rows have no answer; start the same command again to ask for them. 2: nothing was done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from recipes.medgrpo.inference import engines
from recipes.medgrpo.inference.budgets import budgets
from recipes.medgrpo.terminal import Parser, command, whole


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, under the released names too."""
    parser = Parser("generate", __doc__)
    add = parser.add_argument
    add("--data", "--data_path", required=True, metavar="PARQUET", help="rows to answer, from the preprocessor")
    add("--output", "--output_path", required=True, type=Path, help="answers.json or answers.jsonl")
    add("--tasks", nargs="+", metavar="TASK", help="only rows of these tasks (default: all)")
    add("--limit", "--limit_data", type=whole(1), help="only the first N rows")
    add("--samples", type=whole(1), default=1, help="answers per row (several need a .jsonl output)")
    add("--seed", type=int, default=0, help="seed of sampling and of the examples")
    add("--batch-size", "--batch_size", type=whole(1), help="answers at once (default: the engine's)")
    add(
        "--max-new-tokens",
        "--max_new_tokens",
        nargs="+",
        metavar="[TASK=]N",
        help="token budget of an answer (default: the row's response_tokens)",
    )
    add("--one-shot", metavar="PARQUET", help="show one solved training row of this file before each question")
    for bound in ("max", "min"):
        add(f"--{bound}_pixels_per_frame", f"--{bound}-pixels-per-frame", help=argparse.SUPPRESS)
    add("--worker", help=argparse.SUPPRESS)
    engines.add_engine_arguments(parser)
    args = parser.parse_args(argv)
    for bound in ("max", "min"):
        if getattr(args, f"{bound}_pixels_per_frame") is not None:
            parser.error(f"--{bound}_pixels_per_frame: expected where frames are made: medvidbench.py --{bound}-pixels")
    if args.data.endswith((".json", ".jsonl")):
        parser.error(f"--data {args.data}: expected a parquet file: make it with data_preprocess/medvidbench.py")
    if args.output.suffix not in (".json", ".jsonl"):
        parser.error(f"--output {args.output}: expected a name that ends in .json or .jsonl")
    if args.samples > 1 and args.output.suffix == ".json":
        parser.error(f"--samples {args.samples}: expected 1 with a .json output, whose format has one answer a row")
    try:
        args.budgets = budgets(args.max_new_tokens)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return args


@command("generate")
def main(argv: list[str]) -> int:
    args = parse(argv)
    from recipes.medgrpo.inference.generation import generate

    return generate(args, argv)


if __name__ == "__main__":
    sys.exit(main())
