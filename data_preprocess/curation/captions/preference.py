# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Count a finished human study: how often the captioner that knew what experts know was rated higher.

    python data_preprocess/curate.py preference --study STUDY --ratings STUDY/rater_1.csv STUDY/rater_2.csv

STUDY is what `curate.py study` wrote, its files filled in. Of each clip and rater, the mean scores of the two texts are
compared; ties count for neither. The sign test says how likely so many are if raters could not tell the texts apart.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from scipy.stats import binomtest

from data_preprocess.curation.captions.study import ARMS, DIMENSIONS, KEY_COLUMNS, KEY_FILE
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.wording import Parser, status_of


def preferences(study: Path, ratings: Sequence[Path]) -> tuple[int, int, int]:
    """(expert preferred, plain preferred, ties) over clips and raters; texts without a rating are left out.

    Raises:
        SourceError: a file of another form, or a score that is none; file, line and column are named.
    """
    key = {row["item"]: row for _, row in _rows(study / KEY_FILE, KEY_COLUMNS)}
    means: dict[tuple[str, str], dict[str, float]] = {}
    for path in ratings:
        for place, row in _rows(path, ("item", "rater", *DIMENSIONS)):
            if row["item"] not in key:
                raise SourceError(path, f"{place}.item", f"an item of {study / KEY_FILE}", row["item"])
            scores = [_score(path, place, name, row[name]) for name in DIMENSIONS if row[name].strip()]
            if scores:
                known = key[row["item"]]
                means.setdefault((known["context"], row["rater"]), {})[known["arm"]] = sum(scores) / len(scores)
    gaps = [found[ARMS[0]] - found[ARMS[1]] for found in means.values() if len(found) == len(ARMS)]
    return sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps), sum(gap == 0 for gap in gaps)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise SourceError(path, "line 1", f"a column {lacking[0]}", ", ".join(reader.fieldnames or ()) or "nothing")
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(path, f"line {reader.line_num}", "as many cells as the header has", "another number")
            yield f"line {reader.line_num}", row


def _score(path: Path, place: str, name: str, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = 0.0
    if not 1 <= score <= 5:
        raise SourceError(path, f"{place}.{name}", "a number of 1 to 5, or nothing", text)
    return score


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = Parser("curate preference", __doc__)
    parser.add_argument("--study", type=Path, required=True, metavar="DIR", help="what `curate.py study` wrote")
    parser.add_argument("--ratings", type=Path, nargs="+", required=True, metavar="CSV", help="the filled-in files")
    options = parser.parse_args(arguments)
    return status_of("curate", lambda: _run(options.study, options.ratings), (SourceError,))


def _run(study: Path, ratings: Sequence[Path]) -> int:
    expert, plain, ties = preferences(study, ratings)
    print(f"with expert prompting {expert}, without {plain}, ties {ties}")
    if expert + plain:
        print(f"sign test: p = {binomtest(expert, expert + plain).pvalue:.4f}")
    return 0
