# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Show what an annotation file holds: keys, types, rows and an example per dataset-task pair. Writes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
from tqdm import tqdm

from data_preprocess.annotations import RecordError, Sample, decode_row, parse_record
from data_preprocess.audit import Audit
from data_preprocess.json_stream import read_rows
from data_preprocess.wording import Parser, short, status_of

_WIDTH = 100


def type_name(value: Any) -> str:
    """A JSON value's type in words; of a list, that of its first element too."""
    if isinstance(value, list):
        return f"list of {type_name(value[0])}" if value else "empty list"
    return {dict: "object", str: "text", bool: "boolean", int: "integer", float: "number"}.get(type(value), "null")


def look(files: Sequence[str]) -> tuple[dict[str, Counter[str]], dict[str, Sample], Audit]:
    """Types of every key, per pair its number of rows and first sample, and the rejects of some files.

    Returns:
        key -> type -> rows; pair -> its first sample; an audit with the counts of rows, pairs, duplicates and rejects.

    Raises:
        RecordError: a file that cannot be read to its end.
    """
    keys: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, Sample] = {}
    audit = Audit()
    bar = tqdm(unit=" rows", desc="rows", disable=None, mininterval=1.0)
    for file in files:
        for index, raw in read_rows(file):
            bar.update()
            audit.rows["read"] += 1
            try:
                row = decode_row(raw, file, index)
                sample = parse_record(row, file, index)
            except RecordError as error:
                audit.reject(error)
                continue
            for key, value in row.items():
                keys[key][type_name(value)] += 1
                if key == "metadata":
                    for name, entry in value.items():
                        keys[f"metadata.{name}"][type_name(entry)] += 1
            audit.identity(sample)
            first.setdefault(sample.pair, sample)
            words = len(sample.answer.split()) if sample.answer is not None else None
            audit.written(
                sample.pair,
                sample.video_id,
                sample.flags,
                (len(sample.frames), None, sample.fps, words, None, None, None),
            )
    bar.close()
    return keys, first, audit


def print_overview(keys: dict[str, Counter[str]], first: dict[str, Sample], audit: Audit) -> None:
    """`look`'s findings, readable."""
    rows = audit.rows
    print(f"{rows['read']} rows, {rows['written']} readable, {rows['rejected']} not")
    print("\nkeys")
    for key in sorted(keys):
        kinds = ", ".join(f"{kind} {count}" for kind, count in keys[key].most_common())
        print(f"  {key:<36} {kinds}")
    print(f"\n{'pair':<38} {'rows':>8} {'videos':>7} {'answers':>8} {'frames':>7}")
    report = audit.report({})
    for pair, entry in report["pairs"].items():
        values = audit.values[pair]
        answers, frames = len(values["answer_words"]), entry["frames"]["mean"]
        print(f"{pair:<38} {len(values['frames']):>8} {entry['videos']:>7} {answers:>8} {frames:>7.1f}")
    for name, count in report["duplicates"].items():
        print(f"rows that repeat an earlier {name.replace('_', ', ', 1)}: {count}")
    for reason in audit.reasons():
        print(f"\n{reason['rows']} rows rejected: {reason['reason']}")
        for example in reason["examples"]:
            print(f"  {example}")
    for pair in sorted(first):
        sample = first[pair]
        print(
            f"\n{pair}: row {sample.index}, video {sample.video_id}, {len(sample.frames)} frames at {sample.fps:g} fps"
        )
        print(f"  frames    {sample.frames[0]} ... {sample.frames[-1]}")
        print(f"  question  {short(sample.question, _WIDTH)}")
        print(f"  answer    {short(sample.answer, _WIDTH) if sample.answer is not None else '(none)'}")
        if sample.ground is not None:
            truth = orjson.dumps({key: value for key, value in sample.ground.items() if key != "text"}).decode()
            print(f"  truth     {short(truth, _WIDTH)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """`medvidbench.py inspect FILE [FILE ...]`; the exit status."""
    parser = Parser("medvidbench inspect", __doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="annotation files")
    options = parser.parse_args(arguments)

    def show() -> int:
        print_overview(*look(options.files))
        return 0

    return status_of("medvidbench inspect", show, (RecordError,))
