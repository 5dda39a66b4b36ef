# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A source's native files: how they are opened, what is an error in them, and what is noted as odd.

What no reader can make sense of is a `SourceError`: file, line or entry, field, what was expected and what was found.
What is known to occur and has one reading is read, and a `Notes` counts it under a name.
"""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import orjson
from pydantic import TypeAdapter, ValidationError

from data_preprocess.ground_truth import shape_error
from data_preprocess.wording import short


class SourceError(ValueError):
    """A source's file is not there, or says what no reader can make sense of; the message is one line."""

    def __init__(self, file: str | Path, where: str, expected: str, found: Any):
        super().__init__(str(file), where, expected, found)
        self.file, self.where, self.expected, self.found = str(file), where, expected, short(found)

    def __str__(self) -> str:
        where = f"{self.file}: {self.where}" if self.where else self.file
        return f"{where}: expected {self.expected}, found {self.found}"


class Notes:
    """What is there, missing or odd in a source's files.

    Args:
        keep_going: `reading` remembers a `SourceError` and goes on with the next file, as a check wants it.
    """

    def __init__(self, keep_going: bool = False):
        self.keep_going = keep_going
        self.there: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.missing: list[str] = []
        self.errors: list[SourceError] = []
        self.rejected: dict[str, str] = {}

    def odd(self, what: str, where: str, count: int = 1) -> None:
        """Counts something that is known to occur; the first place is kept as an example."""
        if count:
            self.oddities[what] += count
            self.examples.setdefault(what, where)

    def lacks(self, what: str) -> None:
        """Remembers a file or folder that the source has and this copy has not."""
        if what not in self.missing:
            self.missing.append(what)

    def rejects(self, video_id: str, error: SourceError, root: Path) -> None:
        """Remembers why a video is left out: its pictures cannot be used. Paths are told as below the root."""
        file = Path(error.file)
        file = file.relative_to(root) if file.is_relative_to(root) else file
        self.rejected[video_id] = str(SourceError(file, error.where, error.expected, error.found))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The work on one file."""
        try:
            yield
        except SourceError as error:
            if not self.keep_going:
                raise
            self.errors.append(error)


def found(root: Path, pattern: str, what: str) -> list[Path]:
    """The files below `root` that fit a pattern, sorted.

    Raises:
        SourceError: there is none.
    """
    files = sorted(path for path in root.glob(pattern) if not path.name.startswith("."))
    if not files:
        raise SourceError(root, "", f"{what} ({pattern})", "no such file")
    return files


def text(path: Path) -> str:
    """A text file; a byte order mark at its beginning is left out.

    Raises:
        SourceError: it cannot be opened, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(path, f"byte {error.start}", "UTF-8 text", "another encoding") from None
    except OSError as error:
        raise SourceError(path, "", "a readable file", error.strerror or str(error)) from None


def json_of(path: Path, shape: TypeAdapter[Any] | None = None) -> Any:
    """A JSON file's content, checked against a pydantic type if one is given.

    Raises:
        SourceError: no JSON, or a value of another shape; the error names its key.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(path, "", "a readable file", error.strerror or str(error)) from None
    except orjson.JSONDecodeError as error:
        raise SourceError(path, f"line {error.lineno}", "valid JSON", error.msg) from None
    return content if shape is None else checked(path, "", content, shape)


def checked(path: Path, where: str, value: Any, shape: TypeAdapter[Any]) -> Any:
    """A value of a file, checked against a pydantic type.

    Raises:
        SourceError: another shape.
    """
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        said = shape_error(error, where)
        raise SourceError(path, said.key, said.expected, said.found) from None


def table(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with a header, each with its line number; blank lines are left out.

    Names of columns are compared without case and surrounding blanks; further columns are ignored.

    Raises:
        SourceError: a column is missing, or a row has too few fields.
    """
    lines = csv.reader(text(path).splitlines(), delimiter=delimiter)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        if lacking := [name for name in columns if name.lower() not in header]:
            raise SourceError(path, "line 1", f"a column {lacking[0]}", ", ".join(header) or "an empty file")
        places = {name: header.index(name.lower()) for name in columns}
        for values in lines:
            if not any(value.strip() for value in values):
                continue
            if len(values) <= max(places.values()):
                raise SourceError(path, f"line {lines.line_num}", f"{len(header)} fields", f"{len(values)}")
            yield lines.line_num, {name: values[place].strip() for name, place in places.items()}
    except csv.Error as error:
        raise SourceError(path, f"line {lines.line_num}", "a table", str(error)) from None


def sheet(path: Path, header_rows: int = 1) -> Iterator[tuple[int, list[Any]]]:
    """The rows of a workbook's first sheet, each with its number; the last header row comes first.

    Raises:
        SourceError: no workbook, or the library that reads it is not installed.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise SourceError(path, "", "openpyxl, to read it (pip install openpyxl)", "no such module") from None
    # A download that broke off may fail in the archive, in what is packed in it, or in the XML.
    broken = (OSError, InvalidFileException, KeyError, ValueError, BadZipFile, zlib.error, EOFError, SyntaxError)
    try:
        with closing(load_workbook(path, read_only=True, data_only=True)) as book:
            for number, values in enumerate(book.worksheets[0].iter_rows(values_only=True), 1):
                if number >= header_rows:
                    yield number, list(values)
    except broken as error:
        raise SourceError(path, "", "an Excel workbook", str(error)) from None


def integer(path: Path, where: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number of a file, `low` to `high`; 3.0 is one, as spreadsheets write them.

    Raises:
        SourceError: it is none.
    """
    exact = number(path, where, value)
    if exact != int(exact) or (low is not None and exact < low) or (high is not None and exact > high):
        bounds = "" if low is None else f" from {low}" + ("" if high is None else f" to {high}")
        raise SourceError(path, where, f"a whole number{bounds}", value)
    return int(exact)


def number(path: Path, where: str, value: Any) -> float:
    """A finite number of a file.

    Raises:
        SourceError: it is none.
    """
    try:
        exact = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        exact = float("nan")
    if not abs(exact) < float("inf"):
        raise SourceError(path, where, "a number", "nothing" if value in (None, "") else value)
    return exact


def named(path: Path, where: str, key: Any, names: Mapping[Any, str]) -> str:
    """The name that a file's id stands for.

    Raises:
        SourceError: an unknown id.
    """
    if key not in names:
        raise SourceError(path, where, f"one of {', '.join(map(str, list(names)[:20]))}", key)
    return names[key]
