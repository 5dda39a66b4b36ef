# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Ratings, pairs and references, read and checked: what is wrong is told with file, line and column."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.wording import short
from recipes.medgrpo.answers.questions import InputError, is_parquet, read_parquet
from reward_score.judge import DIMENSIONS

TASKS = ("vs", "rc", "dvc", "image")
"""What texts can describe: a video's summary, a region, one event, a still image."""
TEXTS = ("video", "source", "task", "reference", "prediction")
JUDGED = tuple(f"judge_{name}" for name in DIMENSIONS)
MOST_CELL_CHARS = 1 << 20


@dataclass(frozen=True)
class Item:
    """A prediction beside its reference; `video` and `source` say whose, `question` what both answer."""

    video: str
    source: str
    task: str
    reference: str
    prediction: str
    question: str | None = None

    @property
    def cluster(self) -> str:
        """The video, which a bootstrap draws whole: two sources may name theirs alike."""
        return f"{self.source}/{self.video}"


@dataclass
class Rated:
    """An item with its human ratings by rater and dimension (1 to 5), and the judge's scores, where the file has them.

    `lines` names by rater the file and line of each rating.
    """

    item: Item
    ratings: dict[str, dict[str, float]] = field(default_factory=dict)
    judged: dict[str, float] | None = None
    lines: dict[str, str] = field(default_factory=dict)

    def mean(self, dimension: str, without: str | None = None) -> float | None:
        """Mean of the raters of a dimension, `without` one of them; None where nobody rated it."""
        given = [
            scores[dimension] for rater, scores in self.ratings.items() if dimension in scores and rater != without
        ]
        return sum(given) / len(given) if given else None


def wrong(path: Path, place: str, column: str, expected: str, found: Any) -> InputError:
    """The error of a cell; `place` is its line or row."""
    return InputError(f"{path}: {place}: {column}: expected {expected}, found {short(found)}")


def read_ratings(paths: Sequence[Path]) -> list[Rated]:
    """The rated items of some CSV files, in the order of their first lines.

    Rows of one item by several raters (column `rater`) become one `Rated`. A blank rating is no rating.

    Raises:
        InputError: a file that is no such CSV, a bad cell, an item rated twice by one rater, judge scores of an item
            that differ between its rows, or no rating at all.
    """
    found: dict[Item, Rated] = {}
    for path in map(Path, paths):
        for place, row in _csv_rows(path, (*TEXTS, *DIMENSIONS)):
            item = _item(path, place, row)
            rated = found.setdefault(item, Rated(item))
            rater = (row.get("rater") or "").strip()
            if rater in rated.ratings:
                others = f"each item once by each rater (the first time: {rated.lines[rater]})"
                raise wrong(path, place, "rater", others, rater or "the same item again, without a rater")
            rated.lines[rater] = f"{path} {place}"
            rated.ratings[rater] = _scores(path, place, row, DIMENSIONS)
            if JUDGED[0] in row:
                judged = _scores(path, place, row, JUDGED)
                if rated.judged not in (None, judged):
                    raise wrong(path, place, JUDGED[0], "the same judge scores in all rows of an item", "others")
                rated.judged = judged
    if not any(scores for rated in found.values() for scores in rated.ratings.values()):
        raise InputError(f"{', '.join(map(str, paths))}: expected ratings of 1 to 5, found none")
    own = sum(rated.judged is not None for rated in found.values())
    if own not in (0, len(found)):
        raise InputError(f"{', '.join(map(str, paths))}: expected {JUDGED[0]} in all files or in none")
    return list(found.values())


def read_pairs(path: Path) -> list[Item]:
    """The distinct pairs of a CSV file (`.csv`, ratings need not be there) or of JSON lines, in file order."""
    if path.suffix.lower() == ".csv":
        rows: Iterator[tuple[str, Mapping[str, Any]]] = _csv_rows(path, TEXTS)
    else:
        rows = _json_rows(path, TEXTS)
    return _distinct(path, (_item(path, place, row) for place, row in rows))


def read_references(path: Path) -> list[Item]:
    """The distinct references of JSON lines or of the preprocessor's parquet (vs and rc texts, captions of dvc events).

    Each stands as its own prediction.
    """
    if is_parquet(path):
        return _distinct(path, _parquet_references(path))
    rows = _json_rows(path, TEXTS[:-1])
    return _distinct(path, (_item(path, place, {**row, "prediction": row["reference"]}) for place, row in rows))


def _distinct(path: Path, items: Iterator[Item]) -> list[Item]:
    found = list(dict.fromkeys(items))
    if not found:
        raise InputError(f"{path}: expected at least one text to judge, found none")
    return found


def _item(path: Path, place: str, row: Mapping[str, Any]) -> Item:
    for column in TEXTS:
        if not isinstance(row[column], str):
            raise wrong(path, place, column, "text", row[column])
        if column != "prediction" and not row[column].strip():
            raise wrong(path, place, column, "text, not blank", row[column])
    if (task := row["task"].strip()) not in TASKS:
        raise wrong(path, place, "task", f"one of {', '.join(TASKS)}", row["task"])
    question = row.get("question") or None
    if question is not None and not isinstance(question, str):
        raise wrong(path, place, "question", "text", question)
    return Item(row["video"].strip(), row["source"].strip(), task, row["reference"], row["prediction"], question)


def _scores(path: Path, place: str, row: Mapping[str, str], columns: Sequence[str]) -> dict[str, float]:
    scores = {}
    for column, dimension in zip(columns, DIMENSIONS, strict=True):
        if not (cell := row[column].strip()):
            continue
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not 1 <= value <= 5:
            raise wrong(path, place, column, "a number of 1 to 5, or nothing", row[column])
        scores[dimension] = value
    return scores


def _csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(its first line, row) of a CSV file with at least the `needed` columns; lines count from 1."""
    csv.field_size_limit(MOST_CELL_CHARS)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, needed)
            end = reader.line_num
            for cells in reader:
                place, end = f"line {end + 1}", reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise wrong(path, place, "columns", f"{len(header)} as in the header", len(cells))
                yield place, dict(zip(header, cells, strict=True))
    except OSError as error:
        raise InputError(f"{path}: expected a readable file: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8: {error}") from None
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: expected CSV: {error}") from None


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in header]:
        raise wrong(path, "line 1", "header", f"a column {missing[0]}", ", ".join(header) or "nothing")
    if twice := [name for name in header if header.count(name) > 1]:
        raise wrong(path, "line 1", "header", "each column once", f"{twice[0]} twice")
    judged = [name for name in JUDGED if name in header]
    if judged and len(judged) < len(JUDGED):
        missing = next(name for name in JUDGED if name not in header)
        raise wrong(
            path, "line 1", "header", f"all of the judge's columns or none: a column {missing}", ", ".join(judged)
        )


def _json_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path}: expected a readable file: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise wrong(path, place, "line", "a JSON object", line)
        if missing := [name for name in needed if name not in row]:
            raise wrong(path, place, missing[0], "text", "nothing")
        yield place, row


def _parquet_references(path: Path) -> Iterator[Item]:
    table = read_parquet(path, ["reward_model", "extra_info"])
    for at, row in enumerate(table.to_pylist()):
        try:
            extra = row["extra_info"]
            if (task := extra["task"]) not in ("vs", "rc", "dvc"):
                continue
            gold = json.loads(row["reward_model"]["ground_truth"])
            texts = [event["caption"] for event in gold["events"]] if task == "dvc" else [gold["text"]]
            names = {"video": extra["video_id"], "source": extra["source"], "task": task}
        except (KeyError, TypeError, ValueError):
            expected = "extra_info with task, source and video_id, and a ground truth of its task"
            raise InputError(f"{path}: row {at}: expected {expected}") from None
        for text in texts:
            yield _item(path, f"row {at}", {**names, "reference": text, "prediction": text})
