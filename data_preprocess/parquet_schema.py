# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The parquet columns, and rows as Arrow tables of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import pyarrow as pa

from data_preprocess.splits import group_of

HIDDEN = ("_group", "_key", "_answered")
"""Columns of a part that no parquet file gets."""


def schema(with_tokens: bool) -> pa.Schema:
    """The parquet columns, one Arrow type each for all tasks."""
    text, number, real = pa.string(), pa.int64(), pa.float64()
    extra = {
        "index": number,
        "file": text,
        "split": text,
        "row_id": text,
        "qa_type": text,
        "task": text,
        "source": text,
        "video_id": text,
        "question": text,
        "answer": text,
        "canvas": pa.list_(number),
        "processed_size": pa.list_(number),
        "model_family": text,
        "duration": real,
        "sample_interval": real,
        "fps": real,
        "frames": number,
        "clip_start": text,
        "clip_end": text,
        "time_rule": text,
        "flags": pa.list_(text),
        "other": text,
        "response_tokens": number,
        "vision_tokens": number,
    }
    if with_tokens:
        extra["prompt_tokens"] = number
    video = {
        "video": pa.list_(text),
        "sample_fps": real,
        "resized_height": number,
        "resized_width": number,
        "frame_seconds": pa.list_(real),
    }
    columns = {
        "data_source": text,
        "prompt": pa.list_(pa.struct({"role": text, "content": text})),
        "videos": pa.list_(pa.struct(video)),
        "ability": text,
        "reward_model": pa.struct({"style": text, "ground_truth": text}),
        "extra_info": pa.struct(extra),
    }
    return pa.schema(columns)


def to_table(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
    """Parquet rows as Arrow columns, `HIDDEN` ones added.

    Field by field: `pa.Table.from_pylist` on rows with lists of a hundred paths takes longer than all the rest.
    """
    extras = [row["extra_info"] for row in rows]
    videos = [row["videos"][0] for row in rows]
    lists = {
        "video": _lists([video["video"] for video in videos], pa.string()),
        "frame_seconds": _lists([video["frame_seconds"] for video in videos], pa.float64()),
    }
    turns = [turn for row in rows for turn in row["prompt"]]
    arrays = {
        "data_source": pa.array([row["data_source"] for row in rows], pa.string()),
        "prompt": pa.ListArray.from_arrays(
            _offsets([len(row["prompt"]) for row in rows]), _structs(turns, columns.field("prompt").type.value_type)
        ),
        "videos": pa.ListArray.from_arrays(
            _offsets([1] * len(rows)), _structs(videos, columns.field("videos").type.value_type, lists)
        ),
        "ability": pa.array([row["ability"] for row in rows], pa.string()),
        "reward_model": _structs([row["reward_model"] for row in rows], columns.field("reward_model").type),
        "extra_info": _structs(extras, columns.field("extra_info").type),
    }
    hidden = {
        "_group": pa.array(["/".join(group_of(e["source"], e["video_id"])) for e in extras], pa.string()),
        "_key": pa.array([row_key(e["file"], e["index"]) for e in extras], pa.uint64()),
        "_answered": pa.array([e["split"] != "test" for e in extras], pa.bool_()),
    }
    return pa.table({name: arrays[name] for name in columns.names} | hidden).cast(
        pa.schema([*columns, *(pa.field(name, hidden[name].type) for name in HIDDEN)])
    )


def row_key(file: str, index: int) -> int:
    """A number that names a row: 64 bits of a hash of its file and its place there."""
    return int.from_bytes(hashlib.blake2b(f"{file}\0{index}".encode(), digest_size=8).digest(), "big")


def _structs(
    values: Sequence[Mapping[str, Any]], kind: pa.StructType, made: Mapping[str, pa.Array] | None = None
) -> pa.StructArray:
    """Objects as one Arrow array of structs; the fields in `made` are taken from there."""
    made = made or {}
    fields = [made[f.name] if f.name in made else pa.array([v[f.name] for v in values], f.type) for f in kind]
    return pa.StructArray.from_arrays(fields, fields=list(kind))


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(accumulate(lengths, initial=0), pa.int32())


def _lists(values: Sequence[Sequence[Any] | None], kind: pa.DataType) -> pa.Array:
    flat = list(chain.from_iterable(value for value in values if value is not None))
    offsets = _offsets([len(value) if value is not None else 0 for value in values])
    mask = pa.array([value is None for value in values]) if None in values else None
    return pa.ListArray.from_arrays(offsets, pa.array(flat, kind), mask=mask)
