# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the rows of an annotation file begin and end, found without parsing them.

A file is a JSON list of objects or JSON lines; gzip or not. It is read as a stream: lines one by one, a list a chunk
at a time. A row that a chunk leaves unfinished is kept and scanned again with the next one, so that memory does not
grow with the file. Rows are given out as the bytes that stand there; whether such a row is valid JSON is for
`annotations.parse_record` to say, and only damage that hides where rows begin stops a file.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from data_preprocess.annotations import RecordError

CHUNK = 1 << 19
"""Bytes scanned at once: few enough that the scan's arrays stay in the processor's cache."""
MAX_ROW = 64 << 20
"""A longer row is no row: a string without an end, or an object that holds all rows."""

_SPACE, _MARK = b" \t\r\n", b"\xef\xbb\xbf"
_QUOTE, _OPEN, _CLOSE = b'"{}'
# The first key of an object holds a list of objects that is none of a row.
_LIST_OF_ROWS = re.compile(rb'\s*\{\s*"((?!conversations|struc_info)[^"\\]{1,60})"\s*:\s*\[\s*\{')
_Row = tuple[int, bytes]
"""A row's first byte in its file, and its raw JSON."""


@dataclass(frozen=True)
class Block:
    """A run of consecutive rows of one file.

    `number` counts blocks over all files; `first_row` is the first row's number in its file. Row i of the block is
    bytes `starts[i]` to `ends[i]` of the file, or of `data` where the file is zipped.
    """

    number: int
    file: str
    first_row: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    data: bytes | None = None


def iter_blocks(files: Sequence[str | Path], rows_per_block: int, chunk: int = CHUNK) -> Iterator[Block]:
    """The rows of all files in blocks of at most `rows_per_block`; a block never runs over two files.

    Raises:
        RecordError: a file is unreadable, is neither a list of objects nor objects, or ends too early.
    """
    numbers = count()
    for file in map(str, files):
        first, rows = 0, _rows(file, chunk)
        while found := list(islice(rows, rows_per_block)):
            raws = [raw for _, raw, _ in found]
            starts, data = tuple(start for start, _, _ in found), None
            if found[0][2]:
                # Zipped files cannot be read again from the middle.
                starts, data = tuple(accumulate(map(len, raws[:-1]), initial=0)), b"".join(raws)
            ends = tuple(start + len(raw) for start, raw in zip(starts, raws, strict=True))
            yield Block(next(numbers), file, first, starts, ends, data)
            first += len(found)


def block_rows(block: Block) -> Iterator[tuple[int, bytes]]:
    """(row number in its file, raw JSON) of each row of a block.

    Raises:
        RecordError: the file is unreadable, or shorter than when its rows were found.
    """
    data, base = block.data, 0
    if data is None:
        base = block.starts[0]
        length = block.ends[-1] - base
        try:
            with open(block.file, "rb") as handle:
                handle.seek(base)
                data = handle.read(length)
        except OSError as error:
            _unreadable(block.file, error)
        if len(data) < length:
            raise RecordError(block.file, block.first_row, "", "the file as it was when its rows were found", "less")
    for index, (start, end) in enumerate(zip(block.starts, block.ends, strict=True), block.first_row):
        yield index, data[start - base : end - base]


def read_rows(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(row number, raw JSON) of each row of one file, as a stream.

    Raises:
        RecordError: as `iter_blocks`.
    """
    for index, (_, raw, _) in enumerate(_rows(str(path), CHUNK)):
        yield index, raw


def open_bytes(path: str | Path) -> BinaryIO:
    """The bytes of a file, unzipped where its first bytes say gzip."""
    if (kind := not_regular(path)) is not None:
        raise RecordError(str(path), None, "", "a file that can be read twice", kind)
    handle = open(path, "rb")
    try:
        if handle.peek(2)[:2] == b"\x1f\x8b":
            return gzip.open(handle)  # type: ignore[return-value]
        return handle
    except OSError:
        handle.close()
        raise


def not_regular(path: str | Path) -> str | None:
    """What a path is, in words, where it can be read only once, or without end; else None."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe or a device"


def _unreadable(file: str, error: OSError) -> NoReturn:
    if isinstance(error, gzip.BadGzipFile):
        raise RecordError(file, None, "", "valid gzip", str(error)) from error
    raise RecordError(file, None, "", "a readable file", error.strerror or str(error)) from error


def _shown(text: bytes) -> str:
    return repr(text[:40].decode(errors="backslashreplace"))


def _rows(file: str, chunk: int) -> Iterator[tuple[int, bytes, bool]]:
    """First byte and raw JSON of each row, and whether the file is zipped."""
    row = 0
    try:
        with open_bytes(file) as handle:
            zipped = isinstance(handle, gzip.GzipFile)
            for row, (start, raw) in enumerate(_rows_of(handle, file, chunk), 1):
                yield start, raw, zipped
    except OSError as error:
        _unreadable(file, error)
    except (EOFError, zlib.error) as error:
        raise RecordError(file, row, "", "valid JSON", f"damaged gzip: {error}") from error


def _rows_of(handle: BinaryIO, file: str, chunk: int) -> Iterator[_Row]:
    """The rows of an open file: those of its list, or its lines."""
    position = len(_MARK) if handle.read(len(_MARK)) == _MARK else 0
    handle.seek(position)
    while (head := handle.read(CHUNK)) and not head.strip(_SPACE):
        position += len(head)
    body = head.lstrip(_SPACE)
    position += len(head) - len(body)
    if body.startswith(b"["):
        handle.seek(position + 1)
        return _objects(handle, position + 1, file, chunk)
    if body.startswith(b"{"):
        _refuse_one_object(body, file)
        handle.seek(position)
        return _lines(handle, position, file)
    raise RecordError(file, None, "", "a JSON list or JSON lines", _shown(body) if body else "no data")


def _refuse_one_object(body: bytes, file: str) -> None:
    """Refuses a file that is one object with the rows somewhere in it, where its beginning shows it.

    JSON lines have a whole object on each line; an object that goes on behind its first line is no row.
    """
    line, end, _ = body.partition(b"\n")
    *_, depth, quoted = _outermost(line)
    lists = _LIST_OF_ROWS.match(body)
    if lists or (end and depth and not quoted):
        name = f" under {_shown(lists[1])}" if lists else ""
        found = f"one object over the whole file; its rows may be in a list{name}, which has to be the file"
        raise RecordError(file, None, "", "a JSON list or JSON lines", found)


def _too_long(file: str, row: int) -> RecordError:
    found = "a longer one (a string without an end, or one object that holds all rows?)"
    return RecordError(file, row, "", f"a row of at most {MAX_ROW >> 20} MiB", found)


def _lines(handle: BinaryIO, position: int, file: str) -> Iterator[_Row]:
    """The lines that are not blank; the last one must not be cut short."""
    row = 0
    while line := handle.readline(MAX_ROW + 1):
        if len(line) > MAX_ROW:
            raise _too_long(file, row)
        if line.strip():
            if not line.endswith(b"\n") and any(_outermost(line)[2:]):
                raise RecordError(file, row, "", "valid JSON", "an early end")
            yield position, line.removesuffix(b"\n")
            row += 1
        position += len(line)


def _outermost(text: bytes) -> tuple[list[int], list[int], int, int]:
    """The outermost objects of a text that begins outside of any string.

    Returns:
        Where they open; right behind their ends; how many braces are open at the text's end; 1 if a string is, else 0.
    """
    if b"\\" in text:
        # Pairs of backslashes from the left, then quotes behind the one that an odd run leaves.
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    codes = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(codes == _QUOTE)
    # One comparison finds both braces, with `|`, `~` and whatever is not ASCII.
    braces = np.flatnonzero(codes >= _OPEN)
    kinds = codes[braces]
    real = (kinds == _OPEN) | (kinds == _CLOSE)
    real &= (np.searchsorted(quotes, braces) & 1) == 0
    braces = braces[real]
    opening = kinds[real] == _OPEN
    depths = np.cumsum(np.where(opening, 1, -1))
    opens = braces[opening & (depths == 1)]
    closes = braces[~opening & (depths == 0)] + 1
    return opens.tolist(), closes.tolist(), int(depths[-1]) if len(depths) else 0, len(quotes) & 1


def _objects(handle: BinaryIO, position: int, file: str, chunk: int) -> Iterator[_Row]:
    """The objects of a list whose bracket has been read; between them only white space and one comma may stand."""
    row, data = 0, b""
    # What is left of a long row is scanned again with as much behind it: all in all, twice.
    while more := handle.read(max(chunk, len(data))):
        data += more
        opens, closes, _, _ = _outermost(data)
        behind = 0
        for begin, end in zip(opens, closes, strict=False):
            _check_gap(data[behind:begin], row, file, True)
            yield position + begin, data[begin:end]
            row, behind = row + 1, end
        unfinished = len(opens) > len(closes)
        _check_gap(data[behind : opens[-1] if unfinished else None], row, file, unfinished)
        data = data[behind:]
        position += behind
        if len(data) > MAX_ROW:
            raise _too_long(file, row)
    if data.strip(_SPACE) != b"]":
        raise RecordError(file, row, "", "valid JSON", "an early end")


def _check_gap(text: bytes, row: int, file: str, ended: bool) -> None:
    """Refuses what can be no gap in a list of objects.

    Args:
        text: what stands before row `row`, or the beginning of it.
        ended: whether an object follows.
    """
    marks = text.translate(None, _SPACE)
    if marks.startswith(b"]"):
        if ended or marks != b"]":
            found = _shown(marks[1:]) if marks != b"]" else "an object"
            raise RecordError(file, None, "", "nothing behind the list", found)
    elif marks not in ((b"", b",") if row else (b"",)):
        raise RecordError(file, row, "", "a JSON object", _shown(marks.removeprefix(b",") if row else marks))
    elif ended and row and not marks:
        raise RecordError(file, row, "", "a comma between two objects", "none")
