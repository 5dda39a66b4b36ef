# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Answers to rows of the benchmark, from every file that may hold them, and which row each says that it answers."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_preprocess.json_stream import open_bytes
from data_preprocess.wording import short
from recipes.medgrpo.answers.questions import Frame, Row, clip_bound, folded_question, problem
from reward_score.boxes import to_canvas

SPACES = ("model", "canvas")
"""What boxes can be in: the model's own space, or pixels of the annotation canvas."""

CLAIMS = {"qa_type", "question", "metadata", "id", "data_source", "video"}
"""Keys by which a record says which row it answers."""

_MOST_DIGITS = 4000
"""Python refuses to read integers of more than 4,300 digits, and with them the file."""

ROW_NUMBER = re.compile("0|[1-9][0-9]{0,9}")
"""What a key of results by row looks like, whole."""


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


def decoded(path: Path) -> Any:
    """The JSON of a file, zipped or not; of JSON lines a list, without a last line that a kill cut short.

    A byte that is no UTF-8 becomes half a surrogate pair, so that it costs its record and not the file.

    Raises:
        InputError: the file is unreadable, or something else.
    """
    try:
        with open_bytes(path) as handle:
            text = handle.read().decode("utf-8-sig", "surrogateescape")
    except gzip.BadGzipFile as error:
        raise problem(path, None, "", "valid gzip", error) from None
    except OSError as error:
        raise problem(path, None, "", "a readable file", error.strerror or error) from None
    except (EOFError, zlib.error) as error:
        raise problem(path, None, "", "valid gzip", error) from None
    if not text.strip():
        raise problem(path, None, "", "JSON or JSON lines in UTF-8", "no data")
    try:
        try:
            content = _json(text)
        except json.JSONDecodeError:
            if not text.lstrip().startswith("{"):
                raise
            return _lines(text)
    except (ValueError, RecursionError) as error:
        raise problem(path, None, "", "JSON or JSON lines in UTF-8", str(error)) from None
    # A file of JSON lines with one line only reads as that record.
    return [content] if isinstance(content, dict) and {"header", "index"} & content.keys() else content


def _json(text: str) -> Any:
    """Decoded JSON; a whole number of more digits than Python turns into an integer becomes a float."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < _MOST_DIGITS else float(digits))


def _lines(text: str) -> list[Any]:
    lines = text.split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records += [_json(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"line {number} is not JSON: {error}") from None
    return records


def own_rollouts(content: Any) -> bool:
    """Whether a file's content is the JSON lines of this project's `generate`."""
    return isinstance(content, list) and any(
        isinstance(record, dict) and {"header", "sample"} & record.keys() for record in content
    )


def read_results(
    path: Path, rows: Sequence[Row], *, sample: int | None = None, merged_parts: int = 1, box_space: str | None = None
) -> list[Answer]:
    """One answer for each row, in the rows' order.

    Args:
        path: results in one of the forms that `recipes.medgrpo.submission` names.
        rows: what `read_test` returns.
        sample: which of several samples of a row; None is the one with the lowest number.
        merged_parts: released output: how many GPUs' parts it was merged from.
        box_space: one of `SPACES`, for records that do not say it; None is the default of the form.

    Raises:
        InputError: a row without an answer or with two, an answer without a row, or an answer to another row.
    """
    content = decoded(path)
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
        if odd := [key for key in content if not ROW_NUMBER.fullmatch(key)]:
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
        InputError: there are more or fewer records than rows.
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


def answer_key(record: dict) -> str | None:
    """Under which key a record has its answer, None where it has none."""
    return next((key for key in ("answer", "prediction") if key in record), None)


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
    if (key := answer_key(record)) is None:
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
