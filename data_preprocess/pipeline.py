# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From annotation files to parquet files: blocks of rows to parts, parts to splits.

Every block becomes one *part*, an Arrow file with the block's rows and its audit, written whole or not at all. An
interrupted run goes on from the parts that are there. Which row belongs to which split is known only when all rows
are: then the parts are read in order and written as `train.parquet`, `val.parquet` and `test.parquet`. So the output
does not depend on the number of workers, on the engine, or on interruptions.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_preprocess.convert import Settings
from data_preprocess.json_stream import Block, iter_blocks
from data_preprocess.parquet_schema import HIDDEN, schema
from data_preprocess.parts import Part, PipelineError, existing_part, forget, make_part, read_part
from data_preprocess.splits import choose_subset, choose_validation

SPLITS = ("train", "val", "test")
BLOCK_ROWS = 500
"""Rows of a part: small enough that an interruption costs seconds, large enough that a file for each is cheap."""
ROW_GROUP = 500
"""Rows of a parquet row group: training fetches single rows, and reads one group for each."""


@dataclass(frozen=True)
class Splitting:
    """How rows are shared out: `val_fraction` by source video; `subset` training rows, task-balanced, 0 for all."""

    val_fraction: float = 0.15
    subset: int = 0
    seed: int = 0


# -- blocks to parts ---------------------------------------------------------------------------------------------


def _leave_with_parent() -> None:
    """Ends this worker when the command dies, so that a killed run leaves no process behind."""
    # One thread a worker: there are as many workers as there are cores.
    pa.set_cpu_count(1)
    parent = parent_process()
    if parent is not None:
        watch = threading.Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True)
        watch.start()


def make_parts(
    files: Sequence[str], settings: Settings, folder: Path, workers: int, engine: str = "local"
) -> Iterator[Part]:
    """The parts of all files, in order; those that lie in the folder already are taken as they are.

    Raises:
        RecordError: a file that cannot be read to its end.
        PipelineError: a worker died.
        OSError: the disk.
    """
    forget()
    blocks = iter_blocks(files, BLOCK_ROWS)
    if engine == "ray":
        from data_preprocess.ray_engine import make_parts_on_ray

        yield from make_parts_on_ray(blocks, settings, folder, workers)
        return
    # Starting processes for a single block would take longer than the block.
    first = list(islice(blocks, 2))
    blocks = chain(first, blocks)
    if workers <= 1 or len(first) < 2:
        for block in blocks:
            yield existing_part(block, folder) or Part.made(make_part(block, settings, folder, threads=max(workers, 1)))
    else:
        yield from _in_processes(blocks, settings, folder, workers)


def _done(item: Part | Future[Path]) -> Part:
    return item if isinstance(item, Part) else Part.made(item.result())


def _in_processes(blocks: Iterable[Block], settings: Settings, folder: Path, workers: int) -> Iterator[Part]:
    # Spawned, not forked: Arrow's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_leave_with_parent)
    waiting: deque[Part | Future[Path]] = deque()
    try:
        for block in blocks:
            waiting.append(existing_part(block, folder) or pool.submit(make_part, block, settings, folder))
            # Enough to keep every worker busy, not so many that a file in memory (gzip) piles up.
            while len(waiting) > 3 * workers:
                yield _done(waiting.popleft())
        while waiting:
            yield _done(waiting.popleft())
    except BrokenProcessPool:
        raise PipelineError("a worker process died (killed, or out of memory); run again to go on") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# -- parts to splits ---------------------------------------------------------------------------------------------


def choose_rows(parts: Sequence[Path], splitting: Splitting) -> tuple[set[str], set[int] | None, list[str]]:
    """Which groups of videos are for validation, which rows (`_key`) make up the training subset, None for all, and
    which groups have rows both with and without answers.
    """
    counts: Counter[tuple[str, str]] = Counter()
    keys: dict[str, list[int]] = {}
    rows, unanswered = [], set()
    for path in parts:
        table = read_part(path, ("data_source", *HIDDEN))
        without = table.filter(pc.invert(table["_answered"]))
        unanswered.update(without["_group"].unique().to_pylist())
        table = table.filter(table["_answered"])
        rows.append([table[name].to_pylist() for name in ("_group", "data_source", "_key")])
    for groups, pairs, _ in rows:
        counts.update(zip(groups, pairs, strict=True))
    shared = sorted(unanswered & {group for group, _ in counts})
    validation = choose_validation(counts, splitting.val_fraction, splitting.seed)
    if not splitting.subset:
        return validation, None, shared
    for groups, pairs, names in rows:
        for group, pair, key in zip(groups, pairs, names, strict=True):
            if group not in validation:
                keys.setdefault(pair, []).append(key)
    chosen = choose_subset(keys, splitting.subset, splitting.seed)
    return validation, {key for names in chosen.values() for key in names}, shared


class _RowGroups:
    """A parquet file written in row groups of one size, whatever the size of the pieces that come in."""

    def __init__(self, path: Path, columns: pa.Schema):
        # Paths and texts rarely repeat within a group: a dictionary of them costs time and space, and nobody asks for
        # their least and greatest.
        few = ["data_source", "ability"]
        self._writer = pq.ParquetWriter(path, columns, compression="zstd", use_dictionary=few, write_statistics=few)
        self._pieces: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        self._pieces.append(table)
        self._rows += table.num_rows
        while self._rows >= ROW_GROUP:
            whole = pa.concat_tables(self._pieces)
            self._writer.write_table(whole.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
            self._pieces = [whole.slice(ROW_GROUP)]
            self._rows -= ROW_GROUP

    def close(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._pieces), row_group_size=ROW_GROUP)
        self._writer.close()


def write_splits(
    parts: Sequence[Path],
    scratch: Path,
    with_tokens: bool,
    validation: set[str],
    subset: set[int] | None,
    metadata: dict[str, str],
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[str, Counter[str]]:
    """Writes one parquet per split that has rows into `scratch`; the rows of each split and pair."""
    columns = schema(with_tokens).with_metadata(metadata)
    per_split: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    sides = pa.array(sorted(validation), pa.string())
    chosen = None if subset is None else pa.array(sorted(subset), pa.uint64())
    with ExitStack() as stack:
        writers: dict[str, _RowGroups] = {}
        for path in parts:
            table = read_part(path)
            for split, part in _by_split(table, sides, chosen).items():
                if split not in writers:
                    writers[split] = _RowGroups(scratch / f"{split}.parquet", columns)
                    stack.callback(writers[split].close)
                writers[split].write(part.cast(columns))
                for entry in part["data_source"].value_counts().to_pylist():
                    per_split[split][entry["values"]] += entry["counts"]
            progress(table.num_rows)
    return per_split


def _by_split(table: pa.Table, validation: pa.Array, subset: pa.Array | None) -> dict[str, pa.Table]:
    """The rows of each split that has any, with the split entered in `extra_info`."""
    if not table.num_rows:
        return {}
    table = table.combine_chunks()
    group, key, answered = (table[name].chunk(0) for name in HIDDEN)
    splits = pc.if_else(answered, pc.if_else(pc.is_in(group, value_set=validation), "val", "train"), "test")
    extra = table["extra_info"].chunk(0)
    fields = extra.flatten()
    fields[extra.type.get_field_index("split")] = splits
    extra = pa.StructArray.from_arrays(fields, fields=list(extra.type))
    table = table.set_column(table.schema.get_field_index("extra_info"), table.field("extra_info"), extra)
    table = table.drop_columns(list(HIDDEN))
    found = {}
    for split in SPLITS:
        mask = pc.equal(splits, split)
        if split == "train" and subset is not None:
            mask = pc.and_(mask, pc.is_in(key, value_set=subset))
        rows = table.filter(mask)
        if rows.num_rows:
            found[split] = rows
    return found
