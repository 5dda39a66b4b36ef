# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Rows of the benchmark, and answers to them, from every file that may hold either."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_preprocess.reading import read_rows
from data_preprocess.records import QA_TYPES, RecordError
from data_preprocess.wording import short
from reward_score.boxes import to_canvas

SPACES = ("model", "canvas")
"""What boxes can be in: the model's own space, or pixels of the annotation canvas."""

CLAIMS = {"qa_type", "question", "metadata", "id", "data_source", "video"}
"""Keys by which a record says which row it answers."""

Frame = tuple[Sequence[int], Sequence[int], str]
"""(canvas, processed size, model family) of boxes in a model's own space; sizes are (width, height)."""

_EXTRA = (
    *("index", "file", "row_id", "qa_type", "task", "source", "video_id", "question", "fps", "clip_start", "clip_end"),
    *("canvas", "processed_size", "model_family"),
)


class SubmissionError(ValueError):
    """Answers, or the rows that they answer, that cannot be used; one line."""


def problem(file: Any, row: int | None, key: str, expected: str, found: Any, more: int = 0) -> SubmissionError:
    """An error that names file, row and field, and what was expected there."""
    where = ": ".join([str(file), *([] if row is None else [f"row {row}"]), *([key] if key else [])])
    others = f" (and {more} more rows)" if more else ""
    return SubmissionError(f"{where}: expected {short(expected, 160)}, found {short(found, 160)}{others}")


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
        return QA_TYPES[_plain(self.qa_type)]

    @property
    def id(self) -> str:
        """The submission's id, as the released converter writes it."""
        return f"{self.video_id}&&{self.start}&&{self.end}&&{self.fps}"


@dataclass(frozen=True)
class Answer:
    """What a model said to a row.

    `truncated` tells whether the token budget cut the text off (None: not known), `space` what its boxes are in, one of
    `SPACES`, `placed` that nothing but the answer's place in its file ties it to the row, and `frame` the sizes and
    family that bring boxes of the model's space back, where the record has them.
    """

    text: str
    truncated: bool | None
    space: str
    placed: bool
    frame: Frame | None = None


def _plain(qa_type: str) -> str:
    return qa_type.removesuffix("_gpt").removesuffix("_gemini")


def read_test(path: Path) -> list[Row]:
    """All rows of a test file (JSON list or lines, zipped or not), or of the parquet made from it, in file order.

    Raises:
        SubmissionError: the file is not readable or of no known shape, or the parquet lacks rows of its test file.
    """
    try:
        with open(path, "rb") as handle:
            parquet = handle.read(4) == b"PAR1"
    except OSError as error:
        raise problem(path, None, "", "a readable file", error.strerror or error) from None
    rows = list(_parquet_rows(path) if parquet else _annotation_rows(path))
    if not rows:
        raise problem(path, None, "", "test rows", "none")
    rows.sort(key=lambda row: row.index)
    for row in rows:
        if _plain(row.qa_type) not in QA_TYPES:
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
        raise SubmissionError(str(error)) from None


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
        start=_bound(metadata, "start"),
        end=_bound(metadata, "end"),
        fps=str(metadata["fps"]),
        question=folded_question(question),
    )


def _bound(metadata: dict, side: str) -> str:
    """The clip's first or last frame; blank where the metadata has times instead, as in the released converter."""
    value = metadata.get(f"input_video_{side}_frame") or metadata.get(f"{side}_frame")
    return "" if value is None else str(value)


def folded_question(text: str) -> str:
    """A question without the video's place, each run of white space one blank."""
    return " ".join(text.replace("<video>", " ").split())


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        table = pq.read_table(path, columns=["extra_info"])
    except (OSError, pa.ArrowInvalid) as error:
        raise problem(path, None, "", "the preprocessor's parquet", str(error)) from None
    for at, extra in enumerate(table["extra_info"].to_pylist() if "extra_info" in table.column_names else []):
        if missing := [key for key in _EXTRA if extra is None or extra.get(key) is None]:
            raise problem(path, at, f"extra_info.{missing[0]}", "a value", "none")
        yield parquet_row(extra)


def parquet_row(extra: dict) -> Row:
    """The `Row` of a parquet row's `extra_info`; a `KeyError` where that lacks a field."""
    # Only this source states its clips in seconds, and the parquet keeps one pair of bounds for all.
    timed = extra["source"] == "NurViD"
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
        space=(extra["canvas"], extra["processed_size"], extra["model_family"]),
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
    try:
        audit = json.loads((parquet.parent / "audit.json").read_text(encoding="utf-8"))
        return audit["rows"]["read"] if len(audit["inputs"]) == 1 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def decoded(path: Path) -> Any:
    """The JSON of a file; of JSON lines a list, without a last line that a kill cut short.

    A byte that is no UTF-8 becomes half a surrogate pair, so that it costs its record and not the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            if not text.lstrip().startswith("{"):
                raise
        return _lines(text)
    except OSError as error:
        raise problem(path, None, "", "a readable file", error.strerror or error) from None
    except (ValueError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise problem(path, None, "", "JSON or JSON lines in UTF-8", reason) from None


def _lines(text: str) -> list[Any]:
    lines = text.split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"line {number} is not JSON: {error}") from None
    return records


def own_rollouts(content: Any) -> bool:
    """Whether a file's content is the JSON lines of this project's `generate`."""
    return isinstance(content, list) and any(
        isinstance(record, dict) and {"header", "sample"} & record.keys() for record in content
    )


def lone_record(content: Any) -> bool:
    """Whether a file of JSON lines had one line only, and so reads as that record."""
    return isinstance(content, dict) and bool({"header", "index"} & content.keys())


def read_results(
    path: Path, rows: Sequence[Row], *, sample: int | None = None, merged_parts: int = 1, box_space: str | None = None
) -> list[Answer]:
    """One answer for each row, in the rows' order.

    Args:
        path: results in one of the forms that the module names.
        rows: what `read_test` returns.
        sample: which of several samples of a row; None is the one with the lowest number.
        merged_parts: released output: how many GPUs' parts it was merged from.
        box_space: one of `SPACES`, for records that do not say it; None is the default of the form.

    Raises:
        SubmissionError: a row without an answer or with two, an answer without a row, or an answer to another row.
    """
    content = decoded(path)
    if lone_record(content):
        content = [content]
    ours = own_rollouts(content)
    records = _rollouts(path, content, len(rows), sample) if ours else _by_row(path, content, len(rows))
    if merged_parts > 1 and ours:
        raise problem(
            path, None, "", "released output, for parts that were merged", "our rollouts, which know their rows"
        )
    if merged_parts > 1:
        records = unmerged(path, records, rows, merged_parts)
    if missing := [row.index for row in rows if row.index not in records]:
        raise problem(path, missing[0], "answer", f"one for each of {len(rows)} rows", "none", len(missing) - 1)
    strays = [(row, *odd) for row in rows if (odd := stray(records[row.index], row))]
    if strays:
        row, key, expected, found = strays[0]
        hint = ""
        if not ours and merged_parts == 1:
            hint = "; output merged from several GPUs' parts is in another order: --merged-parts N"
        raise problem(path, row.index, key, expected, f"{short(found)}{hint}", len(strays) - 1)
    usual = box_space or ("model" if ours else "canvas")
    return [_answer(path, row, records[row.index], usual, box_space) for row in rows]


def _by_row(path: Path, content: Any, rows: int) -> dict[int, dict]:
    if isinstance(content, list):
        numbered = dict(enumerate(content))
    elif isinstance(content, dict):
        if odd := [key for key in content if not re.fullmatch("0|[1-9][0-9]{0,9}", key)]:
            raise problem(path, None, "", "row numbers as keys", odd[0])
        numbered = {int(key): record for key, record in content.items()}
    else:
        raise problem(path, None, "", "a dict by row number, a list, or JSON lines", content)
    if extra := next((index for index in numbered if index >= rows), None):
        raise problem(path, extra, "", f"no more than the {rows} rows of the test file", f"{len(numbered)} records")
    if odd := [index for index, record in numbered.items() if not isinstance(record, dict)]:
        raise problem(path, odd[0], "", "a record", numbered[odd[0]])
    return numbered


def _rollouts(path: Path, content: list, rows: int, sample: int | None) -> dict[int, dict]:
    by_row: dict[int, dict[int, dict]] = defaultdict(dict)
    for number, record in enumerate(content):
        if isinstance(record, dict) and "header" in record:
            continue
        keys = [record.get(key) for key in ("index", "sample")] if isinstance(record, dict) else [None]
        if any(type(key) is not int for key in keys):
            raise problem(path, None, f"record {number}", "a whole number as index and as sample", record)
        index, draw = keys
        if not 0 <= index < rows:
            raise problem(path, index, "index", f"one of the {rows} rows of the test file", index)
        if draw in by_row[index]:
            raise problem(path, index, "sample", "each sample once", f"number {draw} twice")
        by_row[index][draw] = record
    chosen = {}
    for index, draws in by_row.items():
        if sample is not None and sample not in draws:
            raise problem(path, index, "sample", f"number {sample}", f"only {', '.join(map(str, sorted(draws)))}")
        chosen[index] = draws[min(draws) if sample is None else sample]
    return chosen


def unmerged(path: Path, records: dict[int, Any], rows: Sequence[Row], parts: int) -> dict[int, Any]:
    """Records of merged parts by the row that each answers.

    The released code deals the rows of each qa_type to its GPUs in turn and numbers the parts' answers on end.

    Raises:
        SubmissionError: there are more or fewer records than rows.
    """
    if records.keys() != set(range(len(rows))):
        found = f"{len(records)}: without all parts their order is lost"
        raise problem(path, None, "", f"{len(rows)} answers", found)
    kinds: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        kinds[row.qa_type].append(row.index)
    order = [index for part in range(parts) for members in kinds.values() for index in members[part::parts]]
    return {index: records[number] for number, index in enumerate(order)}


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
        found = [metadata.get("video_id", ""), _bound(metadata, "start"), _bound(metadata, "end"), metadata.get("fps")]
        if not same_id("&&".join(map(str, found)), row):
            return "metadata", row.id, "&&".join(map(str, found))
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


def space_of(record: dict, usual: str) -> tuple[str, Frame | None]:
    """What a record says its boxes are in, else `usual`; of the model's space the sizes, where it says them.

    Raises:
        ValueError: it says something else than a space.
    """
    said = record.get("box_space", usual)
    if isinstance(said, str) and said in SPACES:
        return said, None
    try:
        canvas, size, family = said["canvas"], said["processed_size"], said["model_family"]
        frame = (tuple(canvas), tuple(size), family)
        to_canvas((0, 0, 0, 0), *frame)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        expected = f"{' or '.join(SPACES)}, or canvas, processed_size and model_family"
        raise ValueError(f"box_space: expected {expected}, found {short(said)}") from error
    return "model", frame


def _answer(path: Path, row: Row, record: dict, usual: str, stated: str | None) -> Answer:
    key = next((key for key in ("answer", "prediction") if key in record), None)
    if key is None:
        raise problem(path, row.index, "answer", "an answer", f"only {', '.join(map(str, record))}")
    try:
        space, frame = space_of(record, usual)
    except ValueError:
        space, frame = "", None
    if not space or (stated and space != stated):
        raise problem(path, row.index, "box_space", stated or " or ".join(SPACES), record["box_space"])
    if frame and row.space and frame != (*map(tuple, row.space[:2]), row.space[2]):
        raise problem(path, row.index, "box_space", f"what the test file says, {row.space}", frame)
    if not isinstance(record[key], str):
        raise problem(path, row.index, key, "text (the server would lose the whole task)", record[key])
    truncated = record.get("truncated")
    placed = not CLAIMS & record.keys()
    return Answer(record[key], truncated if isinstance(truncated, bool) else None, space, placed, frame)
