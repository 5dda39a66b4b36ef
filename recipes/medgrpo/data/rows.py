# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Rows of large parquet files, read when they are asked for.

At start only what choosing rows takes is read (pair, task, split, prompt length); a row comes from its row group,
of which the most recently used ones are kept. The files are neither copied nor converted.

The preprocessor names frames relative to the folder of their parquet file, so that the folder can be moved. This module
is the one place that turns such a name into the path of a file: rows that it gives out have absolute paths.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recipes.medgrpo.files import InputError

LIGHT = ("data_source", "ability", "extra_info.split", "extra_info.prompt_tokens")
"""The columns that are read at start."""

ANSWER_OPEN = "answer_open"
"""Of `extra_info`: the answer goes on from there, so that no end of it is learnt (interventions)."""

_GROUPS_KEPT = 8


class DataError(InputError):
    """A parquet file or one of its rows is not what the preprocessor writes."""


def read_columns(file: str | os.PathLike, *names: str) -> pa.Table:
    """Columns of the preprocessor's parquet side by side, under their last names: `extra_info.file` as `file`.

    A field that the file's rows do not have is all null.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    try:
        with pq.ParquetFile(file) as opened:
            table, rows, there = opened.read(columns=list(names)), opened.metadata.num_rows, opened.schema_arrow.names
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read as parquet: {str(error).splitlines()[0]}") from error
    found = {}
    for name in names:
        column, _, field = name.partition(".")
        if column not in there:
            raise DataError(f"{file}: no column {column}; expected the preprocessor's parquet")
        if not field:
            found[column] = table[column]
        elif column in table.column_names and table[column].type.get_field_index(field) >= 0:
            found[field] = pc.struct_field(table[column], field)
        else:
            found[field] = pa.nulls(rows)
    return pa.table(found)


class _Groups:
    """Row groups of some files, opened anew in every process: a file handle is neither pickled nor shared."""

    def __init__(self, files: Sequence[str], starts: np.ndarray, places: Sequence[tuple[int, int]]):
        self.files = tuple(files)
        self.starts = starts
        self.places = tuple(places)
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: dict[int, pq.ParquetFile] = {}
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()
        # The number of each file's first row, counted over all files.
        self._firsts = {
            file: int(start) for (file, inner), start in zip(self.places, self.starts, strict=True) if not inner
        }

    def __getstate__(self) -> dict:
        return {"files": self.files, "starts": self.starts, "places": self.places}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._reset()

    def row(self, number: int) -> dict:
        """The row `number`, counted over all files, its frames' paths absolute.

        Raises:
            DataError: the file cannot be read, or the row names a frame without a path.
        """
        if self._process != os.getpid():
            self._reset()
        group = int(np.searchsorted(self.starts, number, side="right")) - 1
        with self._lock:
            table = self._tables.get(group)
            if table is None:
                table = self._tables[group] = self._read(group)
            self._tables.move_to_end(group)
            while len(self._tables) > _GROUPS_KEPT:
                self._tables.popitem(last=False)
        row = table.slice(number - int(self.starts[group]), 1).to_pylist()[0]
        file = self.places[group][0]
        _place_frames(row, self.files[file], number - self._firsts[file])
        return row

    def _read(self, group: int) -> pa.Table:
        file, inner = self.places[group]
        try:
            if file not in self._open:
                self._open[file] = pq.ParquetFile(self.files[file])
            # One thread: arrow's pool does not survive a data loader's fork.
            return self._open[file].read_row_group(inner, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.files[file]}: cannot read row group {inner}: {error}") from error


def _place_frames(row: dict, file: str, number: int) -> None:
    """Makes the frame paths of a row absolute, in place, and notes in each clip which row lists it (`listed_in`).

    A relative path counts from the folder of the row's parquet `file`; `number` is the row's place in that file.
    """
    folder, listed_in = os.path.dirname(os.path.abspath(file)), f"{file}: row {number}"
    for video in row.get("videos") or ():
        if not all(video["video"]):
            raise DataError(f"{listed_in}: videos.video: expected the path of each frame, found an empty one")
        video["video"] = [os.path.join(folder, path) for path in video["video"]]
        video["listed_in"] = listed_in


class Rows:
    """Some rows of some parquet files, in an order; a choice of rows (`take`, `slice`) copies no row."""

    def __init__(self, groups: _Groups, light: pa.Table, numbers: np.ndarray):
        self._groups, self._light, self._numbers = groups, light, numbers

    @classmethod
    def open(cls, files: Sequence[str]) -> Rows:
        """All rows of `files`, one file after the other. Raises `DataError` for a file that is no parquet of ours."""
        sizes, places, parts = [], [], []
        for at, name in enumerate(files):
            table, metadata = read_columns(name, *LIGHT), pq.read_metadata(name)
            sizes += [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            places += [(at, group) for group in range(metadata.num_row_groups)]
            try:
                parts.append(_flat(table))
            except pa.ArrowException as error:
                raise DataError(f"{name}: expected the columns of the preprocessor's parquet: {error}") from error
        light = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)[:-1]]) if sizes else np.zeros(0, np.int64)
        return cls(_Groups(files, starts.astype(np.int64), places), light, np.arange(light.num_rows))

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def num_rows(self) -> int:
        return len(self._numbers)

    @property
    def numbers(self) -> list[int]:
        """The rows' places, counted over all files."""
        return self._numbers.tolist()

    def column(self, name: str) -> list[Any]:
        """The values of `data_source`, `ability`, `split` or `prompt_tokens` (None where a file has none)."""
        column = self._light[name]
        if pa.types.is_dictionary(column.type):
            # Equal texts are one object: half a million pair names would take as much memory as the pairs' rows.
            blocks = [np.array([*c.dictionary.to_pylist(), None], object)[_indices(c)] for c in column.chunks]
            return np.concatenate(blocks).tolist() if blocks else []
        return column.to_pylist()

    def annotations(self) -> list[tuple[str | None, int]]:
        """(file, number in it) of the annotation that each row was made from, read from the files."""
        names = ("extra_info.file", "extra_info.index")
        found = [read_columns(file, *names).to_pydict() for file in self._groups.files]
        keys = [
            (name or None, index) for part in found for name, index in zip(part["file"], part["index"], strict=True)
        ]
        return [keys[number] for number in self._numbers]

    def take(self, places: Sequence[int] | np.ndarray) -> Rows:
        """The rows at `places`, in that order."""
        places = np.asarray(places, dtype=np.int64)
        return Rows(self._groups, self._light.take(pa.array(places)), self._numbers[places])

    def select(self, places: Iterable[int]) -> Rows:
        """`take` under the name that verl's own code uses."""
        return self.take(np.fromiter(places, dtype=np.int64))

    def slice(self, start: int, length: int | None = None) -> Rows:
        """`length` rows from `start` on."""
        stop = len(self) if length is None else min(len(self), start + length)
        return self.take(np.arange(start, stop))

    def where(self, mask: pa.Array | pa.ChunkedArray) -> Rows:
        """The rows for which `mask` is true."""
        return self.take(np.flatnonzero(np.asarray(mask)))

    def within(self, tasks: Iterable[str] | None, max_tokens: int | None) -> Rows:
        """The rows of the named tasks whose prompt is known to have at most `max_tokens` tokens, or not known.

        Raises:
            DataError: a task without a row.
        """
        rows = self
        if tasks is not None:
            tasks = [str(task) for task in tasks]
            if unknown := sorted(set(tasks) - set(self.column("ability"))):
                raise DataError(f"{', '.join(self._groups.files)}: no row of the task {', '.join(unknown)}")
            rows = rows.where(pc.is_in(rows._light["ability"].cast(pa.string()), value_set=pa.array(tasks)))
        if max_tokens is not None:
            rows = rows.where(pc.less_equal(pc.fill_null(rows._light["prompt_tokens"], 0), max_tokens))
        return rows

    def row(self, place: int) -> dict:
        """All of one row, read from its file."""
        return self._groups.row(int(self._numbers[place]))

    def to_pylist(self) -> list[dict]:
        """All rows in full: for a handful."""
        return [self.row(place) for place in range(len(self))]


def _indices(block: pa.DictionaryArray) -> np.ndarray:
    return pc.fill_null(block.indices, -1).to_numpy()


def _flat(table: pa.Table) -> pa.Table:
    """The light columns, texts as places in a dictionary."""
    texts = {name: table[name].cast(pa.string()).dictionary_encode() for name in ("data_source", "ability", "split")}
    return pa.table({**texts, "prompt_tokens": table["prompt_tokens"].cast(pa.int64())})
