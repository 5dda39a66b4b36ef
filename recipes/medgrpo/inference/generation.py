# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run of `generate`: finds which answers are missing, gets them in one or several processes, writes the files."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.files import data_fingerprint, write_json
from recipes.medgrpo.inference import engines, shards
from recipes.medgrpo.inference.answer_log import AnswerLog, Key, header_of
from recipes.medgrpo.inference.jobs import Engine, InferenceError
from recipes.medgrpo.inference.one_shot import Examples
from recipes.medgrpo.inference.released import check_one_file, released_record
from recipes.medgrpo.inference.run import Work, answer


def truncation(keys: Sequence[Key], log: AnswerLog, tasks: Sequence[str]) -> list[str]:
    """A line for each task with answers that the token budget cut off; one where there is none."""
    there = [key for key in keys if key in log.known]
    total = Counter(tasks[place] for place, _ in there)
    cut = Counter(tasks[key[0]] for key in there if log.known[key]["truncated"])
    lines = [f"{task}: {n} of {total[task]} answers cut off by the token budget" for task, n in sorted(cut.items())]
    return lines or ["no answer cut off by the token budget"]


def write_released(output: Path, rows: Rows, keys: Sequence[Key], log: AnswerLog) -> None:
    """The answers that are there, in the released format."""
    found = {}
    for key in keys:
        if key in log.known:
            row = rows.row(key[0])
            found[str(row["extra_info"]["index"])] = released_record(row, log.known[key])
    write_json(output, found)


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
    places = rows.within(args.tasks, None).numbers[: args.limit]
    keys = [(place, sample) for place in places for sample in range(args.samples)]
    work = Work(rows, args.budgets, args.seed, Examples(args.one_shot, args.seed) if args.one_shot else None)
    if args.worker:
        return work_share(args, engine, work, keys)
    print(f"engine {name}: {reason}")
    if args.output.suffix == ".json":
        check_one_file(args.data)
    one_shot = data_fingerprint(Path(args.one_shot)) if args.one_shot else None
    budgets = {"default": "response_tokens", **args.budgets}
    settings = {"seed": args.seed, "max_new_tokens": budgets, "one_shot": one_shot}
    log = AnswerLog(args.output, header_of(engine, args.data, settings))
    stopped = None
    with log.locked():
        missing = log.missing(keys)
        if len(missing) < len(keys):
            print(f"{log.file}: {len(keys) - len(missing)} of {len(keys)} answers are there")
        if work.examples is not None:
            for place, _ in missing:
                # A row without an example is found now, and not after hours.
                work.examples.draw(rows.row(place))
        log.begin()
        try:
            if missing and args.data_parallel > 1:
                statuses = shards.run_workers(argv, args.data_parallel, args.tensor_parallel_size, engines.gpus())
                log.read_partial()
                if any(statuses):
                    stopped = f"workers ended with {', '.join(map(str, statuses))}"
            else:
                failed = answer(engine, work, missing, log, batch=args.batch_size, label=args.output.name)
                report_failures(args, rows, failed)
        except InferenceError as error:
            stopped = str(error)
        log.finish()
    lacking = len(log.missing(keys))
    if log.known and args.output.suffix == ".json":
        write_released(args.output, rows, keys, log)
    for line in truncation(keys, log, rows.column("ability")):
        print(f"{args.output}: {line}")
    print(f"{args.output}: {len(keys) - lacking} answers" + (f", {lacking} missing" if lacking else ""))
    if stopped:
        print(f"generate: error: {stopped}", file=sys.stderr)
    return (2 if stopped and not log.known else 1) if lacking else 0


def work_share(args: argparse.Namespace, engine: Engine, work: Work, keys: Sequence[Key]) -> int:
    """A worker's share of the answers: of all that are asked for every n-th, without those that are there."""
    number, processes, parent = map(int, args.worker.split("/"))
    log = AnswerLog(args.output, {})
    log.read_partial()
    failed = answer(
        engine,
        work,
        keys[number::processes],
        log,
        batch=args.batch_size,
        label=f"{args.output.name} {number + 1}/{processes}",
        go_on=lambda: os.getppid() == parent,
    )
    report_failures(args, work.rows, failed)
    return 0
