# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A part: what one block of rows became, as an Arrow file with the block's audit, whole or not there."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from data_preprocess.atomic import written_whole
from data_preprocess.audit import Audit
from data_preprocess.convert import Converter, Settings, convert_block
from data_preprocess.json_stream import Block
from data_preprocess.parquet_schema import HIDDEN, schema

_AUDIT = b"audit"


class PipelineError(RuntimeError):
    """The conversion cannot go on; the message is one line for the user."""


@dataclass(frozen=True)
class Part:
    """A finished block."""

    path: Path
    audit: Audit

    @classmethod
    def made(cls, path: Path) -> Part:
        """The part that was just written to a file. Raises PipelineError where it is not there."""
        if part := cls.read(path):
            return part
        raise PipelineError(f"{path}: not there after it was written (do all workers share this folder?); run again")

    @classmethod
    def read(cls, path: Path) -> Part | None:
        """The part in a file; None where there is no whole one."""
        try:
            with pa.memory_map(str(path)) as source:
                return cls(path, Audit.from_json(pa.ipc.open_file(source).schema.metadata[_AUDIT]))
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None


def part_path(folder: Path, number: int) -> Path:
    """Where the part of a block lies."""
    return folder / f"part-{number:07}.arrow"


_converter = lru_cache(maxsize=1)(Converter)
"""One a process: it holds what was learned about folders, sizes and text lengths."""

forget = _converter.cache_clear
"""Drops what this process knows of folders and frames: by the next run they may be others."""


def make_part(block: Block, settings: Settings, folder: Path, threads: int = 1) -> Path:
    """Converts a block and writes its part; where it lies.

    A worker that is killed while it sends leaves half a message when the message is long, and the pool waits for the
    other half for ever; a path goes through a pipe in one piece. The audit stands in the part.
    """
    # A block has no reference cycles, and the collector's search for them took a tenth of the time.
    gc.disable()
    try:
        table, audit = convert_block(block, _converter(settings, threads))
    finally:
        gc.enable()
    table = table.replace_schema_metadata({_AUDIT: audit.to_json()})
    path = part_path(folder, block.number)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        written_whole(path, sync=False) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    return path


def existing_part(block: Block, folder: Path) -> Part | None:
    """The part of a block that an earlier attempt made; one that lacks rows for their frames is made anew."""
    part = Part.read(part_path(folder, block.number))
    return part if part is not None and not part.audit.frame_rejects else None


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a part; `columns` names those that are read, and None is all of them."""
    names = (*schema(False).names, *HIDDEN)
    options = pa.ipc.IpcReadOptions(included_fields=[names.index(name) for name in columns or names])
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source, options=options).read_all().replace_schema_metadata(None)
