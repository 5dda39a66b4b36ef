# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The parquet columns, and rows as Arrow tables of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
        "region": pa.struct({"box": pa.list_(real), "seconds": pa.list_(real)}),
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
    """Parquet rows as Arrow columns, `HIDDEN` ones added."""
    extras = [row["extra_info"] for row in rows]
    # Column by column: `pa.Table.from_pylist` takes three times as long.
    shown = {column.name: pa.array([row[column.name] for row in rows], column.type) for column in columns}
    hidden = (
        pa.array(["/".join(group_of(e["source"], e["video_id"])) for e in extras], pa.string()),
        pa.array([row_key(e["file"], e["index"]) for e in extras], pa.uint64()),
        pa.array([e["split"] != "test" for e in extras], pa.bool_()),
    )
    return pa.table({**shown, **dict(zip(HIDDEN, hidden, strict=True))})


def row_key(file: str, index: int) -> int:
    """A number that names a row: 64 bits of a hash of its file and its place there."""
    return int.from_bytes(hashlib.blake2b(f"{file}\0{index}".encode(), digest_size=8).digest(), "big")
