# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run of `generate`: finds which answers are missing, gets them in one or several processes, writes the files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from recipes.medgrpo.data.positions import enabled
from recipes.medgrpo.data.rows import DataError, Rows
from recipes.medgrpo.files import data_fingerprint, write_json
from recipes.medgrpo.inference import engines, shards
from recipes.medgrpo.inference.answer_log import Key, Records
from recipes.medgrpo.inference.jobs import Engine, InferenceError
from recipes.medgrpo.inference.one_shot import Examples
from recipes.medgrpo.inference.released import check_one_file, released_record
from recipes.medgrpo.inference.run import Work, answer


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


def header_of(args: argparse.Namespace, engine: Engine) -> dict:
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


def work_share(args: argparse.Namespace, rows: Rows, engine: Engine) -> int:
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


def generate(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Gets the answers that are missing and writes the files.

    Args:
        args: the command's arguments (`recipes.medgrpo.generate.parse`).
        argv: the same as text. With --data-parallel every worker process gets them.

    Returns:
        The exit status: 0, 1 when some rows have no answer, 2 when none has one.

    Raises:
        RecipeError, OSError: arguments, data or a model that cannot be used.
    """
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
