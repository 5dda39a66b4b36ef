# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a file of answers holds, whichever form it has: its JSON, a record's answer, and the space of its boxes."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from data_preprocess.json_stream import open_bytes
from data_preprocess.wording import short
from recipes.medgrpo.answers.questions import Frame, problem
from reward_score.boxes import to_canvas

SPACES = ("model", "canvas")
"""What boxes can be in: the model's own space, or pixels of the annotation canvas."""

_MOST_DIGITS = 4000
"""Python refuses to read integers of more than 4,300 digits, and with them the file."""


def decoded(path: Path) -> Any:
    """The JSON of a file, zipped or not; of JSON lines a list, without a last line that a kill cut short.

    A byte that is no UTF-8 becomes half a surrogate pair, so that it costs its record and not the file.

    Raises:
        InputError: the file is unreadable, or something else.
    """
    try:
        with open_bytes(path) as handle:
            text = handle.read().decode("utf-8-sig", "surrogateescape")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise problem(path, None, "", "valid gzip", error) from None
    except OSError as error:
        raise problem(path, None, "", "a readable file", error.strerror or error) from None
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
