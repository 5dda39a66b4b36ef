# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Rows of the benchmark: which question stands where in a test file, or in the parquet made from it.

`stray` and `same_id` hold against a row what a record of answers says of the row that it answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_preprocess.annotations import QA_TYPES, RecordError, task_of
from data_preprocess.json_stream import read_rows
from data_preprocess.wording import short
from recipes.medgrpo.files import InputError
from reward_score.boxes import to_model

Frame = tuple[Sequence[int], Sequence[int], str]
"""(canvas, processed size, model family) of boxes in a model's own space; sizes are (width, height)."""

TIMED_SOURCE = "NurViD"
"""The one source that states its clips in seconds; the parquet keeps one pair of bounds for all sources."""

CLAIMS = {"qa_type", "question", "metadata", "id", "data_source", "video"}
"""Keys by which a record says which row it answers."""

_EXTRA = (
    *("index", "file", "row_id", "qa_type", "task", "source", "video_id", "question", "fps", "clip_start", "clip_end"),
    *("canvas", "processed_size", "model_family"),
)


def problem(file: Any, row: int | None, key: str, expected: str, found: Any, more: int = 0) -> InputError:
    """An error that names file, row and field, and what was expected there."""
    where = ": ".join([str(file), *([] if row is None else [f"row {row}"]), *([key] if key else [])])
    others = f" (and {more} more rows)" if more > 0 else ""
    return InputError(f"{where}: expected {short(expected, 160)}, found {short(found, 160)}{others}")


@dataclass(frozen=True)
class Row:
    """One row of the test file.

    `start`, `end` and `fps` are as written in the file's metadata; `name` is the row's own id, which is not the
    submission's. `space` is (canvas, processed size, model family), sizes (width, height); None without a parquet.
    """

    index: int
    file: str
    name: str
    qa_type: str
    source: str
    video_id: str
    start: str
    end: str
    fps: str
    question: str
    space: Frame | None = None

    @property
    def task(self) -> str:
        """The task's name, as in `data_source`."""
        if (task := task_of(self.qa_type)) is None:
            raise KeyError(self.qa_type)
        return task

    @property
    def id(self) -> str:
        """The submission's id, as the released converter writes it."""
        return f"{self.video_id}&&{self.start}&&{self.end}&&{self.fps}"


def is_parquet(path: Path) -> bool:
    """Whether a file begins as a parquet does. Raises `InputError` where it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read(4) == b"PAR1"
    except OSError as error:
        raise problem(path, None, "", "a readable file", error.strerror or error) from None


def read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of the preprocessor's parquet. Raises `InputError` where it is none."""
    try:
        schema = pq.read_schema(path)
        for name in columns:
            if name not in schema.names:
                raise problem(path, None, "", f"the preprocessor's parquet with a column {name}", schema.names)
            if name in ("reward_model", "extra_info") and not pa.types.is_struct(schema.field(name).type):
                raise problem(path, None, name, "fields by name, as in the preprocessor's parquet", schema.field(name))
        return pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise problem(path, None, "", "the preprocessor's parquet", str(error)) from None


def read_test(path: Path) -> list[Row]:
    """All rows of a test file (JSON list or lines, zipped or not), or of the parquet made from it, in file order.

    Raises:
        InputError: the file is not readable or of no known shape, or the parquet lacks rows of its test file.
    """
    parquet = is_parquet(path)
    rows = list(_parquet_rows(path) if parquet else _annotation_rows(path))
    if not rows:
        raise problem(path, None, "", "test rows", "none")
    rows.sort(key=lambda row: row.index)
    for row in rows:
        if task_of(row.qa_type) is None:
            raise problem(path, row.index, "qa_type", f"one of {', '.join(QA_TYPES)}", row.qa_type)
    if parquet:
        _check_whole(path, rows)
    return rows


def _annotation_rows(path: Path) -> Iterator[Row]:
    try:
        for index, raw in read_rows(path):
            try:
                row = orjson.loads(raw)
                yield described_row(row, row["conversations"][0]["value"], path.name, index)
            except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                found = f"{type(error).__name__}: {error}"
                raise problem(
                    path, index, "", "a row with qa_type, metadata (video_id, fps) and a question", found
                ) from None
    except RecordError as error:
        raise InputError(str(error)) from None


def described_row(row: dict, question: str, file: str, index: int) -> Row:
    """A row of an annotation file, or a record of released output, as a `Row`.

    Raises:
        KeyError, TypeError, AttributeError: without a kind of question, a video or its frame rate.
    """
    metadata = row["metadata"]
    source = row.get("data_source") or row.get("dataset_name") or ""
    return Row(
        index=index,
        file=file,
        name=str(row.get("id") or ""),
        qa_type=str(row["qa_type"]),
        source=str(source).replace("-", "_"),
        video_id=str(metadata["video_id"]),
        start=clip_bound(metadata, "start"),
        end=clip_bound(metadata, "end"),
        fps=str(metadata["fps"]),
        question=folded_question(question),
    )


def clip_bound(metadata: dict, side: str) -> str:
    """The clip's first or last frame; blank where the metadata has times instead, as in the released converter."""
    values = (metadata.get(key) for key in (f"input_video_{side}_frame", f"{side}_frame"))
    return next((str(value) for value in values if value not in (None, "")), "")


def folded_question(text: str) -> str:
    """A question without the video's place, each run of white space one blank."""
    return " ".join(text.replace("<video>", " ").split())


def stray(record: dict, row: Row) -> tuple[str, Any, Any] | None:
    """(field, expected, found) where a record says that it answers another row; what it does not say is not held."""
    claims = {
        "file": row.file,
        "qa_type": row.qa_type,
        "video": f"{row.source}/{row.video_id}",
        "question": row.question,
    }
    for key, expected in claims.items():
        found = record.get(key)
        if isinstance(found, str) and (folded_question(found) if key == "question" else found) != expected:
            return key, expected, found
    source = record.get("data_source")
    pair = f"medvidbench/{row.source}/{row.task}"
    if source and str(source).replace("-", "_") not in (row.source, pair):
        return "data_source", pair if "/" in str(source) else row.source, source
    metadata = record.get("metadata")
    if isinstance(metadata, dict):
        bounds = clip_bound(metadata, "start"), clip_bound(metadata, "end")
        found = "&&".join(map(str, (metadata.get("video_id", ""), *bounds, metadata.get("fps"))))
        if not same_id(found, row):
            return "metadata", row.id, found
    if "id" in record and "prediction" in record and not same_id(record["id"], row):
        return "id", row.id, record["id"]
    return None


def same_id(found: Any, row: Row) -> bool:
    """Whether an id names the row's clip: in the submission's form, a blank bound naming any, or as the row's own."""
    if not isinstance(found, str) or not found:
        return False
    if found in (row.id, row.name):
        return True
    pieces = found.rsplit("&&", 3)
    if len(pieces) != 4 or pieces[0] != row.video_id:
        return False
    bounds = all(
        said in ("", known) or known == "" for said, known in zip(pieces[1:3], (row.start, row.end), strict=True)
    )
    try:
        return bounds and float(pieces[3]) == float(row.fps)
    except ValueError:
        return False


def _parquet_rows(path: Path) -> Iterator[Row]:
    for at, extra in enumerate(read_parquet(path, ["extra_info"])["extra_info"].to_pylist()):
        if missing := [key for key in _EXTRA if extra is None or extra.get(key) is None]:
            raise problem(path, at, f"extra_info.{missing[0]}", "a value", "none")
        try:
            yield parquet_row(extra)
        except ValueError as error:
            raise problem(path, at, "extra_info", "sizes and a family to convert boxes with", error) from None


def parquet_row(extra: dict) -> Row:
    """The `Row` of a parquet row's `extra_info`.

    Raises:
        KeyError: it lacks a field.
        ValueError: boxes cannot be converted with its sizes and family.
    """
    timed = extra["source"] == TIMED_SOURCE
    space = (extra["canvas"], extra["processed_size"], extra["model_family"])
    to_model((0, 0, 0, 0), *space)
    return Row(
        index=extra["index"],
        file=extra["file"],
        name=extra["row_id"],
        qa_type=extra["qa_type"],
        source=extra["source"],
        video_id=extra["video_id"],
        start="" if timed else extra["clip_start"],
        end="" if timed else extra["clip_end"],
        fps=str(extra["fps"]),
        question=folded_question(extra["question"]),
        space=space,
    )


def _check_whole(path: Path, rows: Sequence[Row]) -> None:
    """Refuses a parquet that lacks rows of its test file: every answer behind the first one would be misplaced."""
    if len(names := sorted({row.file for row in rows})) > 1:
        raise problem(path, None, "extra_info.file", "rows of one test file", ", ".join(names))
    for at, row in enumerate(rows):
        if row.index != at:
            found = f"row {row.index} of {row.file} in its place; give the annotation file, or preprocess all its rows"
            raise problem(path, at, "extra_info.index", "every row of the test file once", found)
    read = rows_read(path)
    if read is not None and read != len(rows):
        raise problem(path, None, "", f"all {read} rows of {rows[0].file}", f"{len(rows)} (audit.json says why)")


def rows_read(parquet: Path) -> int | None:
    """How many rows the one annotation file has that a parquet was made from; None where the audit does not tell."""
    for path in sorted(parquet.parent.glob("audit*.json")):
        try:
            audit = json.loads(path.read_text(encoding="utf-8"))
            # A folder with training and test rows has an audit of each.
            if parquet.name in audit.get("outputs", (parquet.name,)):
                return audit["rows"]["read"] if len(audit["inputs"]) == 1 else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None
