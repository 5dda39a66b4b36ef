# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where the rows of an annotation file begin and end, found without parsing them.

A file is a JSON list of objects or JSON lines; gzip or not. It is read as a stream, a
chunk at a time, and what a chunk leaves unfinished (a string, a row, a run of backslashes) is remembered as numbers,
so that memory does not grow with the file. Rows are given out as the bytes that stand there; whether such a row is
valid JSON is for `annotations.parse_record` to say, and only damage that hides where rows begin stops a file.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from data_preprocess.annotations import RecordError

CHUNK = 1 << 19
"""Bytes scanned at once: few enough that the scan's arrays stay in the processor's cache."""
MAX_ROW = 64 << 20
"""A longer row is no row: a string without an end, or an object that holds all rows."""

_SPACE = b" \t\r\n"
_QUOTE, _BACKSLASH, _NEWLINE, _OPEN, _CLOSE = b'"\\\n{}'
# The first key of an object holds a list of objects that is none of a row.
_LIST_OF_ROWS = re.compile(rb'\s*\{\s*"((?!conversations|struc_info)[^"\\]{1,60})"\s*:\s*\[\s*\{')
_Bounds = tuple[int, int]


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
    number = 0
    for file in map(str, files):
        first, starts, ends = 0, [], []
        kept: _Kept | None = None
        try:
            with open_bytes(file) as handle:
                if isinstance(handle, gzip.GzipFile):
                    kept = _Kept(handle)
                for start, end in _bounds(kept or handle, file, chunk):
                    starts.append(start)
                    ends.append(end)
                    if len(starts) == rows_per_block:
                        yield _block(number, file, first, starts, ends, kept)
                        number, first, starts, ends = number + 1, first + rows_per_block, [], []
        except OSError as error:
            _unreadable(file, error)
        except (EOFError, zlib.error) as error:
            raise RecordError(file, first + len(starts), "", "valid JSON", f"damaged gzip: {error}") from error
        if starts:
            yield _block(number, file, first, starts, ends, kept)
            number += 1


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
    for block in iter_blocks([path], 500):
        yield from block_rows(block)


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


class _Kept:
    """A stream that keeps what was read since the last block: zipped files cannot be read again from the middle."""

    def __init__(self, handle: BinaryIO):
        self._handle, self._base = handle, 0
        self._chunks: list[bytes] = []

    def read(self, size: int) -> bytes:
        chunk = self._handle.read(size)
        self._chunks.append(chunk)
        return chunk

    def take(self, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of the stream; what lies before `end` is forgotten."""
        whole = b"".join(self._chunks)
        self._chunks, taken = [whole[end - self._base :]], whole[start - self._base : end - self._base]
        self._base = end
        return taken


def _block(number: int, file: str, first: int, starts: list[int], ends: list[int], kept: _Kept | None) -> Block:
    if kept is None:
        return Block(number, file, first, tuple(starts), tuple(ends))
    base = starts[0]
    data = kept.take(base, ends[-1])
    return Block(number, file, first, tuple(s - base for s in starts), tuple(e - base for e in ends), data)


def _unreadable(file: str, error: OSError) -> NoReturn:
    if isinstance(error, gzip.BadGzipFile):
        raise RecordError(file, None, "", "valid gzip", str(error)) from error
    raise RecordError(file, None, "", "a readable file", error.strerror or str(error)) from error


def _shown(text: bytes) -> str:
    return repr(text[:40].decode(errors="backslashreplace"))


def _bounds(handle: BinaryIO | _Kept, file: str, chunk: int) -> Iterator[_Bounds]:
    """First and last byte (exclusive) of each row."""
    position, data = 0, handle.read(chunk)
    while 0 < len(data) < 3 and (more := handle.read(chunk)):
        data += more
    if data.startswith(b"\xef\xbb\xbf"):
        position, data = 3, data[3:]
    while True:
        body = data.lstrip(_SPACE)
        position += len(data) - len(body)
        if body:
            break
        data = handle.read(chunk)
        if not data:
            raise RecordError(file, None, "", "a JSON list or JSON lines", "no data")
    if body.startswith(b"["):
        yield from _objects(_chunks(body[1:], handle, chunk), position + 1, file)
    elif body.startswith(b"{"):
        _refuse_one_object(body, file)
        yield from _lines(_chunks(body, handle, chunk), position, file)
    else:
        raise RecordError(file, None, "", "a JSON list or JSON lines", _shown(body))


def _refuse_one_object(body: bytes, file: str) -> None:
    """Refuses a file that is one object with the rows somewhere in it, where its beginning shows it.

    JSON lines have a whole object on each line; an object that goes on behind its first line is no row.
    """
    line, end, _ = body.partition(b"\n")
    scan = _Scan()
    scan.feed(line)
    lists = _LIST_OF_ROWS.match(body)
    if lists or (end and scan.depth and not scan.quoted):
        name = f" under {_shown(lists[1])}" if lists else ""
        found = f"one object over the whole file; its rows may be in a list{name}, which has to be the file"
        raise RecordError(file, None, "", "a JSON list or JSON lines", found)


def _chunks(head: bytes, handle: BinaryIO | _Kept, chunk: int) -> Iterator[bytes]:
    if head:
        yield head
    while data := handle.read(chunk):
        yield data


def _too_long(file: str, row: int) -> RecordError:
    found = "a longer one (a string without an end, or one object that holds all rows?)"
    return RecordError(file, row, "", f"a row of at most {MAX_ROW >> 20} MiB", found)


def _lines(chunks: Iterator[bytes], position: int, file: str) -> Iterator[_Bounds]:
    """The lines that are not blank; the last one must not be cut short."""
    row, start = 0, position
    line: list[bytes] = []
    for data in chunks:
        begin = 0
        while (end := data.find(b"\n", begin)) >= 0:
            if any(map(bytes.strip, line)) or data[begin:end].strip():
                yield start, position + end
                row += 1
            begin, start = end + 1, position + end + 1
            line.clear()
        line.append(data[begin:])
        position += len(data)
        if position - start > MAX_ROW:
            raise _too_long(file, row)
    rest = b"".join(line)
    if rest.strip():
        scan = _Scan()
        scan.feed(rest)
        if scan.depth or scan.quoted:
            raise RecordError(file, row, "", "valid JSON", "an early end")
        yield start, position


class _Scan:
    """Where objects begin and end in a text that comes in pieces.

    `depth` counts open braces; `quoted` is 1 inside a string; `slashes` counts backslashes at the end of the text.
    """

    def __init__(self) -> None:
        self.depth = self.quoted = self.slashes = 0

    def feed(self, data: bytes) -> tuple[list[int], list[int]]:
        """Positions in `data` of the outermost opening braces, and those just behind the outermost closing ones."""
        text = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(text == _QUOTE)
        if self.slashes or b"\\" in data:
            behind = self._behind_odd_runs(text)
            escaped = behind[text[behind] == _QUOTE]
            if len(escaped):
                quotes = np.delete(quotes, np.searchsorted(quotes, escaped))
        # One comparison finds both braces, with `|`, `~` and whatever is not ASCII.
        braces = np.flatnonzero(text >= _OPEN)
        kinds = text[braces]
        real = (kinds == _OPEN) | (kinds == _CLOSE)
        real &= ((np.searchsorted(quotes, braces) + self.quoted) & 1) == 0
        braces = braces[real]
        opening = kinds[real] == _OPEN
        depths = np.cumsum(np.where(opening, 1, -1)) + self.depth
        self.quoted = (self.quoted + len(quotes)) & 1
        if len(depths):
            self.depth = int(depths[-1])
        opens = braces[opening & (depths == 1)]
        closes = braces[~opening & (depths == 0)] + 1
        return opens.tolist(), closes.tolist()

    def _behind_odd_runs(self, text: np.ndarray) -> np.ndarray:
        """Places in `text` right behind an odd run of backslashes; `slashes` moves on to the end of `text`."""
        places = np.flatnonzero(text == _BACKSLASH)
        if not len(places):
            escaped = [0] if self.slashes % 2 else []
            self.slashes = 0
            return np.asarray(escaped, dtype=np.int64)
        breaks = np.flatnonzero(np.diff(places) > 1)
        firsts = places[np.concatenate(([0], breaks + 1))]
        lasts = places[np.concatenate((breaks, [len(places) - 1]))]
        runs = lasts - firsts + 1
        behind = lasts + 1
        if firsts[0] == 0:
            runs[0] += self.slashes
        elif self.slashes % 2:
            runs, behind = np.concatenate(([1], runs)), np.concatenate(([0], behind))
        self.slashes = int(runs[-1]) if lasts[-1] == len(text) - 1 else 0
        return behind[(runs % 2 == 1) & (behind < len(text))]


def _objects(chunks: Iterator[bytes], position: int, file: str) -> Iterator[_Bounds]:
    """The objects of a list; between them only white space and one comma may stand."""
    scan, gap = _Scan(), _Gap(file)
    start: int | None = None
    for data in chunks:
        if not data:
            continue
        opens, closes = scan.feed(data)
        behind = 0
        if start is not None and closes:
            yield start, position + closes[0]
            start, behind = None, closes.pop(0)
            gap.row += 1
        if start is None:
            for begin, end in zip(opens, closes, strict=False):
                gap.close(data[behind:begin])
                yield position + begin, position + end
                gap.row += 1
                behind = end
            if len(opens) > len(closes):
                gap.close(data[behind : opens[-1]])
                start = position + opens[-1]
            else:
                gap.add(data[behind:])
        position += len(data)
        if start is not None and position - start > MAX_ROW:
            raise _too_long(file, gap.row)
    if start is not None:
        raise RecordError(file, gap.row, "", "valid JSON", "an early end")
    gap.end()


class _Gap:
    """What stands between the objects of a list, in pieces; `row` is the number of the row that comes next."""

    def __init__(self, file: str):
        self.file, self.row = file, 0
        self._marks = b""

    def add(self, text: bytes) -> None:
        """A piece of the gap.

        Raises:
            RecordError: it can be no part of a list of objects.
        """
        self._marks += text.translate(None, _SPACE)
        if self._marks.startswith(b"]"):
            if behind := self._marks[1:]:
                raise RecordError(self.file, None, "", "nothing behind the list", _shown(behind))
        elif self._marks not in ((b"", b",") if self.row else (b"",)):
            found = self._marks.removeprefix(b",") if self.row else self._marks
            raise RecordError(self.file, self.row, "", "a JSON object", _shown(found))

    def close(self, text: bytes) -> None:
        """The gap's last piece: an object follows."""
        self.add(text)
        if self._marks == b"]":
            raise RecordError(self.file, None, "", "nothing behind the list", "an object")
        if self.row and not self._marks:
            raise RecordError(self.file, self.row, "", "a comma between two objects", "none")
        self._marks = b""

    def end(self) -> None:
        """The file's end."""
        if self._marks != b"]":
            raise RecordError(self.file, self.row, "", "valid JSON", "an early end")
