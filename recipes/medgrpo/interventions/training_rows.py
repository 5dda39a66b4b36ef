# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Kept corrections as a parquet file that the SFT dataset reads, with as many rows of every pair.

A row is the training row itself with two changes: the answer is the model's own up to its mistake, and the correction,
and `extra_info.answer_open` says that it goes on from there. The dataset then learns all of its tokens and no end.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recipes.medgrpo.data.rows import ANSWER_OPEN, Rows
from recipes.medgrpo.files import write_atomic
from recipes.medgrpo.interventions.attempts import Attempt

REPEATS = 4
"""How often the rows of a pair with few of them are there at most. Unpublished: as many as the published epochs."""


def balanced(pairs: Sequence[str], rows_per_pair: int | None = None, seed: int = 0) -> list[int]:
    """Places among `pairs`, in order, so that every pair is there equally often, as far as it goes.

    That is `rows_per_pair` times, or the median of the pairs' numbers. A larger pair is drawn from by `seed`. The rows
    of a smaller one come again in turn, each at most `REPEATS` times.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs):
        places[pair].append(place)
    if not places:
        return []
    wanted = rows_per_pair or median_low(len(mine) for mine in places.values())
    chosen: list[int] = []
    for number, (_, mine) in enumerate(sorted(places.items())):
        order = np.random.default_rng([seed, number]).permutation(mine).tolist()
        chosen += [order[at % len(order)] for at in range(min(wanted, REPEATS * len(order)))]
    return sorted(chosen)


def write_rows(output: Path, data: str, attempts: Sequence[Attempt], rows: Rows, *, gold: bool = False) -> None:
    """Write the attempts' rows, each with its guided answer; with `gold` the same rows with their own answers, whole.

    Frames stay where they are: the new file names them from its own folder.
    """
    schema = _schema(pq.read_schema(data))
    found = [_row(rows.row(attempt.place), output.parent, None if gold else attempt) for attempt in attempts]
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(found, schema), buffer)
    write_atomic(output, buffer.getvalue())


def _schema(schema: pa.Schema) -> pa.Schema:
    at = schema.get_field_index("extra_info")
    fields = [field for field in schema.field(at).type if field.name != ANSWER_OPEN]
    # What the file says of its making holds for the rows that it was made from.
    return schema.set(
        at, pa.field("extra_info", pa.struct([*fields, pa.field(ANSWER_OPEN, pa.bool_())]))
    ).remove_metadata()


def _row(row: dict, folder: Path, attempt: Attempt | None) -> dict[str, Any]:
    for video in row["videos"]:
        video["video"] = [os.path.relpath(path, folder.resolve()) for path in video["video"]]
    answer = row["extra_info"]["answer"] if attempt is None else attempt.mistake.guided
    return {**row, "extra_info": {**row["extra_info"], "answer": answer, ANSWER_OPEN: attempt is not None}}


def counts(attempts: Sequence[Attempt]) -> Mapping[str, int]:
    """Rows by pair."""
    return dict(sorted(Counter(attempt.data_source for attempt in attempts).items()))
