# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Write a model's answers to the rows of a parquet file, in the format of the released inference code.

    python -m recipes.medgrpo generate --model CHECKPOINT --data DATA/test.parquet --output answers.json
    python -m recipes.medgrpo generate --model CHECKPOINT --data DATA/test.parquet --output answers.json \
        --data-parallel 8 --max-new-tokens stg=512 --one-shot DATA/train.parquet
    python -m recipes.medgrpo generate --engine endpoint --base-url URL --endpoint-model NAME \
        --data DATA/test.parquet --output answers.json

`answers.json` is a dict by row number, as the paper's `vllm_infer.py` writes it, boxes in pixels of the annotation
canvas; `evaluate`, `submission` and the official tools read it. `answers.jsonl` beside it has the answers as the model
said them, one line each, and is what a run that is started again takes its answers from: a row that is answered is not
asked again, a kill costs the batch that was under way. Answers of another model, of other data or settings are set
aside. With an output that ends in `.jsonl`, that is all that is written.

Greedy by default. Engines: `vllm` (batches on GPUs), `transformers` (one device, CPU too), `rollout` (the training's
own servers), `endpoint` (any OpenAI-compatible address, frames as images). Exit status 1: some rows have no answer,
and a run that is started again asks for them; 2: nothing could be done.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if shutil.which("nvidia-smi") is None:
    # As the scripts say it: without a GPU, torchvision may only be importable through the CPU platform.
    os.environ.setdefault("VERL_PLATFORM", "cpu")

import recipes.medgrpo.plugin  # noqa: F401  isort: skip

from recipes.medgrpo.data.positions import enabled
from recipes.medgrpo.data.rows import DataError, Rows
from recipes.medgrpo.files import data_fingerprint, write_json
from recipes.medgrpo.inference import engines, shards
from recipes.medgrpo.inference.answer_log import Key, Records
from recipes.medgrpo.inference.budgets import budgets
from recipes.medgrpo.inference.jobs import InferenceError
from recipes.medgrpo.inference.one_shot import Examples
from recipes.medgrpo.inference.released import check_one_file, released_record
from recipes.medgrpo.inference.run import Work, answer
from recipes.medgrpo.rollout.standalone import RolloutError
from recipes.medgrpo.terminal import whole


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, under the released names too."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", "--model_path", help="checkpoint folder in HF format")
    parser.add_argument("--data", "--data_path", required=True, help="parquet file of the preprocessor, any split")
    parser.add_argument("--output", "--output_path", required=True, type=Path, help="answers.json or answers.jsonl")
    parser.add_argument("--tasks", nargs="+", help="only rows of these tasks")
    parser.add_argument("--limit", "--limit_data", type=whole(1), help="only the first rows")
    parser.add_argument("--samples", type=whole(1), default=1, help="answers per row; several need a .jsonl")
    parser.add_argument("--seed", type=int, default=0, help="of draws, and of the examples")
    parser.add_argument("--batch-size", "--batch_size", type=whole(1), help="answers at once; default the engine's")
    parser.add_argument(
        "--max-new-tokens", "--max_new_tokens", nargs="+", metavar="[TASK=]N", help="default: the budget of each row"
    )
    parser.add_argument("--one-shot", metavar="PARQUET", help="training rows, one of which is shown solved")
    for bound in ("max", "min"):
        parser.add_argument(f"--{bound}_pixels_per_frame", f"--{bound}-pixels-per-frame", help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=shards.worker_of, help=argparse.SUPPRESS)
    engines.add_engine_arguments(parser)
    args = parser.parse_args(argv)
    for bound in ("max", "min"):
        if getattr(args, f"{bound}_pixels_per_frame") is not None:
            parser.error(f"--{bound}_pixels_per_frame: expected where frames are made: medvidbench.py --{bound}-pixels")
    if args.output.suffix not in (".json", ".jsonl"):
        parser.error(f"--output {args.output}: expected a name that ends in .json or .jsonl")
    if args.samples > 1 and args.output.suffix == ".json":
        parser.error(f"--samples {args.samples}: expected 1 with a .json output, whose format has one answer a row")
    try:
        args.budgets = budgets(args.max_new_tokens)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    return args


def wanted(args: argparse.Namespace, rows: Rows) -> list[Key]:
    """The answers that are asked for, in the rows' order.

    Raises:
        DataError: no row of a task.
    """
    tasks = rows.column("ability")
    if odd := sorted(set(args.tasks or ()) - set(tasks)):
        raise DataError(f"{args.data}: no row of the task {', '.join(odd)}")
    places = [place for place, task in enumerate(tasks) if not args.tasks or task in args.tasks]
    return [(place, sample) for place in places[: args.limit] for sample in range(args.samples)]


def header_of(args: argparse.Namespace, engine: engines.Engine) -> dict:
    """What the answers depend on."""
    return {
        "model": engine.identity,
        "data": data_fingerprint(Path(args.data)),
        "settings": {
            "engine": engine.described,
            "temperature": args.temperature,
            "seed": args.seed,
            "max_new_tokens": {"default": "response_tokens", **args.budgets},
            "one_shot": data_fingerprint(Path(args.one_shot)) if args.one_shot else None,
            **({} if enabled() else {"time_fix": False}),
        },
    }


def truncation(keys: Sequence[Key], records: Records, tasks: Sequence[str]) -> list[str]:
    """A line for each task with answers that the token budget cut off; one where there is none."""
    there = [key for key in keys if key in records.known]
    total = Counter(tasks[place] for place, _ in there)
    cut = Counter(tasks[key[0]] for key in there if records.known[key]["truncated"])
    lines = [f"{task}: {n} of {total[task]} answers cut off by the token budget" for task, n in sorted(cut.items())]
    return lines or ["no answer cut off by the token budget"]


def write_released(output: Path, rows: Rows, keys: Sequence[Key], records: Records) -> None:
    """The answers that are there, in the released format."""
    found = {}
    for key in keys:
        if key in records.known:
            row = rows.row(key[0])
            found[str(row["extra_info"]["index"])] = released_record(row, records.known[key])
    write_json(output, found)


def work_of(args: argparse.Namespace, rows: Rows) -> Work:
    """What makes the prompts."""
    return Work(rows, args.budgets, args.seed, Examples(args.one_shot, args.seed) if args.one_shot else None)


def work_share(args: argparse.Namespace, rows: Rows, engine: engines.Engine) -> int:
    """A worker's share of the answers that the main process found missing."""
    number, processes, parent = args.worker
    parts = Records(args.output, {}).parts
    plan = json.loads((parts / "plan.json").read_text())
    keys = [tuple(key) for key in plan["open"]][number::processes]
    part = parts / f"worker{number}.part"
    failed = answer(
        engine,
        work_of(args, rows),
        keys,
        part,
        plan["header"],
        batch=args.batch_size,
        label=f"{args.output.name} {number + 1}/{processes}",
        go_on=lambda: os.getppid() == parent,
    )
    report_failures(args, rows, failed)
    return 0


def report_failures(args: argparse.Namespace, rows: Rows, failed: Sequence[tuple[Key, str]]) -> None:
    """One line for each of the first rows that got no answer."""
    for (place, _), reason in failed[:10]:
        print(f"generate: {args.data}: row {rows.row(place)['extra_info']['index']}: {reason}", file=sys.stderr)


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Gets what is missing and writes the files; the exit status."""
    name, reason = engines.choose(args.engine)
    engines.check(args, name)
    rows = Rows.open([args.data])
    engine = engines.make(args, name)
    if args.worker:
        return work_share(args, rows, engine)
    print(f"engine {name}: {reason}")
    keys = wanted(args, rows)
    if args.output.suffix == ".json":
        check_one_file(args.data)
    work = work_of(args, rows)
    records = Records(args.output, header_of(args, engine))
    stopped = None
    with records.locked():
        records.collect()
        missing = records.open_keys(keys)
        if len(missing) < len(keys):
            print(f"{records.file}: {len(keys) - len(missing)} of {len(keys)} answers are there")
        for place, _ in missing if work.examples else ():
            # A row without an example is found now, and not after hours.
            work.examples.draw(rows.row(place))
        try:
            if missing and args.data_parallel > 1:
                write_json(records.parts / "plan.json", {"header": records.header, "open": missing})
                gpus = engines.gpus()
                statuses = shards.run_workers(argv, args.data_parallel, args.tensor_parallel_size, gpus)
                if any(statuses):
                    stopped = f"workers ended with {', '.join(map(str, statuses))}"
            elif missing:
                part = records.part(0)
                failed = answer(
                    engine, work, missing, part, records.header, batch=args.batch_size, label=args.output.name
                )
                report_failures(args, rows, failed)
        except InferenceError as error:
            stopped = str(error)
        records.finish()
    lacking = len(records.open_keys(keys))
    if records.known and args.output.suffix == ".json":
        write_released(args.output, rows, keys, records)
    for line in truncation(keys, records, rows.column("ability")):
        print(f"{args.output}: {line}")
    print(f"{args.output}: {len(keys) - lacking} answers" + (f", {lacking} missing" if lacking else ""))
    if stopped:
        print(f"generate: error: {stopped}", file=sys.stderr)
    return (2 if stopped and not records.known else 1) if lacking else 0


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        return run(args, sys.argv[1:] if argv is None else argv)
    except DataError as error:
        hint = "; make it with data_preprocess/medvidbench.py" if args.data.endswith((".json", ".jsonl")) else ""
        print(f"generate: error: {error}{hint}", file=sys.stderr)
    except (InferenceError, RolloutError, OSError, ValueError) as error:
        print(f"generate: error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
