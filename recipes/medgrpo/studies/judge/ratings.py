# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Ratings, pairs and references, read and checked: an error names file, line and column."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_preprocess.wording import short
from recipes.medgrpo.answers.questions import InputError, is_parquet, read_parquet
from recipes.medgrpo.evaluation.verdicts import Asked
from reward_score.judge import DIMENSIONS

STILL = "image"
TASKS = ("vs", "rc", "dvc", "qa", STILL)
"""What texts can be: a video's summary, a region's or one event's caption, an answer, what a still image shows."""
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

    @property
    def asked(self) -> Asked:
        """What a judge is asked about it."""
        return Asked(self.prediction, self.reference, self.task, self.question)


@dataclass(frozen=True)
class Ratings:
    """Rated items.

    Attributes:
        items: in the order of their first lines.
        raters: their names, in order.
        human: (items, raters, 5) of 1 to 5, nan where there is no rating.
        judge: (items, 5), the judge's own scores; None where the files have none.
    """

    items: list[Item]
    raters: list[str]
    human: np.ndarray
    judge: np.ndarray | None

    @property
    def clusters(self) -> list[str]:
        return [item.cluster for item in self.items]

    def mean(self, without: int | None = None) -> np.ndarray:
        """(items, 5) means over the raters, `without` one of them; nan where nobody rated."""
        kept = self.human if without is None else np.delete(self.human, without, axis=1)
        with np.errstate(invalid="ignore"):
            return np.nansum(kept, axis=1) / (~np.isnan(kept)).sum(axis=1)


def wrong(path: Path, place: str, column: str, expected: str, found: Any) -> InputError:
    """The error of a cell; `place` is its line or row."""
    return InputError(f"{path}: {place}: {column}: expected {expected}, found {short(found)}")


def read_ratings(paths: Sequence[Path]) -> Ratings:
    """The rated items of some CSV files. A blank rating is no rating.

    Raises:
        InputError: a file that is no such CSV, a bad cell, an item rated twice by one rater, judge scores of an item
            that differ between its rows, or no rating at all.
    """
    given: dict[Item, dict[str, tuple[list[float | None], str]]] = {}
    judged: dict[Item, list[float | None]] = {}
    for path in map(Path, paths):
        for place, row in _csv_rows(path, (*TEXTS, *DIMENSIONS)):
            item, rater = _item(path, place, row), (row.get("rater") or "").strip()
            by_rater = given.setdefault(item, {})
            if rater in by_rater:
                others = f"each item once by each rater (the first time: {by_rater[rater][1]})"
                raise wrong(path, place, "rater", others, rater or "the same item again, without a rater")
            by_rater[rater] = _scores(path, place, row, DIMENSIONS), f"{path} {place}"
            if JUDGED[0] in row:
                scores = _scores(path, place, row, JUDGED)
                if judged.setdefault(item, scores) != scores:
                    raise wrong(path, place, JUDGED[0], "the same judge scores in all rows of an item", "others")
    files = ", ".join(map(str, paths))
    raters = sorted({rater for by_rater in given.values() for rater in by_rater})
    nothing = [None] * len(DIMENSIONS)
    human = [[by_rater.get(rater, (nothing,))[0] for rater in raters] for by_rater in given.values()]
    table = np.array(human, dtype=float)
    if np.isnan(table).all():
        raise InputError(f"{files}: expected ratings of 1 to 5, found none")
    if len(judged) not in (0, len(given)):
        raise InputError(f"{files}: expected {JUDGED[0]} in all files or in none")
    own = np.array([judged[item] for item in given], dtype=float) if judged else None
    return Ratings(list(given), raters, table, own)


def read_pairs(path: Path) -> list[Item]:
    """The distinct pairs of a CSV file (`.csv`, ratings need not be there) or of JSON lines, in file order."""
    rows = _csv_rows(path, TEXTS) if path.suffix.lower() == ".csv" else _json_rows(path, TEXTS)
    return _distinct(path, (_item(path, place, row) for place, row in rows))


def read_references(path: Path) -> list[Item]:
    """The distinct references of JSON lines or of the preprocessor's parquet: vs and rc texts, captions of dvc events,
    answers of qa with their questions.

    Each stands as its own prediction. A row of one frame is of a still image, as the reward asks about it.
    """
    rows = _parquet_rows(path) if is_parquet(path) else _json_rows(path, TEXTS[:-1])
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


def _scores(path: Path, place: str, row: Mapping[str, str], columns: Sequence[str]) -> list[float | None]:
    """The five scores of a line, None for a blank cell."""
    scores: list[float | None] = []
    for column in columns:
        cell = row[column].strip()
        try:
            value = float(cell or "nan")
        except ValueError:
            value = math.nan
        if cell and not 1 <= value <= 5:
            raise wrong(path, place, column, "a number of 1 to 5, or nothing", row[column])
        scores.append(value if cell else None)
    return scores


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: expected a readable file: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8: {error}") from None


def _csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(its first line, row) of a CSV file with at least the `needed` columns; lines count from 1."""
    csv.field_size_limit(MOST_CELL_CHARS)
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
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
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: expected CSV: {error}") from None


def _check_header(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in header]:
        raise wrong(path, "line 1", "header", f"a column {missing[0]}", ", ".join(header) or "nothing")
    if twice := [name for name in header if header.count(name) > 1]:
        raise wrong(path, "line 1", "header", "each column once", f"{twice[0]} twice")
    judged = [name for name in JUDGED if name in header]
    if judged and (missing := [name for name in JUDGED if name not in header]):
        expected = f"all of the judge's columns or none: a column {missing[0]}"
        raise wrong(path, "line 1", "header", expected, ", ".join(judged))


def _json_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
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


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for at, row in enumerate(read_parquet(path, ["reward_model", "extra_info"]).to_pylist()):
        try:
            extra = row["extra_info"]
            if (task := extra["task"]) not in TASKS:
                continue
            gold = json.loads(row["reward_model"]["ground_truth"])
            texts = [event["caption"] for event in gold["events"]] if task == "dvc" else [gold["text"]]
            kind = STILL if extra.get("frames") == 1 else task
            names = {"video": extra["video_id"], "source": extra["source"], "task": kind}
            if task == "qa":
                # An answer says nothing without it; the reward's judge is told it, too.
                names["question"] = extra["question"]
        except (KeyError, TypeError, ValueError):
            expected = "extra_info with task, source and video_id, and a ground truth of its task"
            raise InputError(f"{path}: row {at}: expected {expected}") from None
        yield from ((f"row {at}", {**names, "reference": text}) for text in texts)
