# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A part: what one block of rows became, as an Arrow file with the block's audit, whole or not there."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

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


def part_path(folder: Path, number: int) -> Path:
    """Where the part of a block lies."""
    return folder / f"part-{number:07}.arrow"


def write_part(path: Path, table: pa.Table, audit: Audit) -> None:
    """Writes a part under its name when it is complete."""
    columns = table.schema.with_metadata({_AUDIT: audit.to_json()})
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    try:
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, columns, options=options) as writer:
            writer.write_table(table.replace_schema_metadata(columns.metadata))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_audit(path: Path) -> Audit | None:
    """The audit of a part; None where there is no whole part."""
    try:
        with pa.memory_map(str(path)) as source:
            return Audit.from_json(pa.ipc.open_file(source).schema.metadata[_AUDIT])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


_converters: dict[Settings, Converter] = {}


def make_part(block: Block, settings: Settings, folder: Path, threads: int = 1) -> Part:
    """Converts a block and writes its part."""
    converter = _converters.get(settings)
    if converter is None:
        # One a process: it holds what was learned about folders, sizes and text lengths.
        _converters.clear()
        converter = _converters[settings] = Converter(settings, threads)
    # Nothing in a block refers in circles: looking for such garbage among a million strings took a tenth of the time.
    gc.disable()
    try:
        table, audit = convert_block(block, converter)
    finally:
        gc.enable()
    path = part_path(folder, block.number)
    write_part(path, table, audit)
    return Part(path, audit)


def existing_part(block: Block, folder: Path) -> Part | None:
    """The part of a block that an earlier attempt made; one that lacks rows for their frames is made anew."""
    path = part_path(folder, block.number)
    audit = read_audit(path)
    return Part(path, audit) if audit is not None and not audit.frame_rejects else None


def read_light(path: Path) -> pa.Table:
    """Pair, group and key of a part's rows, without their texts."""
    names = (*schema(False).names, *HIDDEN)
    wanted = [names.index(name) for name in ("data_source", *HIDDEN)]
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted)).read_all()


def read_part(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all().replace_schema_metadata(None)


def forget() -> None:
    """Drops what this process knows of folders and frames: by the next run they may be others."""
    _converters.clear()
