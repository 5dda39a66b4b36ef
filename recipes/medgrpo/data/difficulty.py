# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which rows the SFT model had settled before RL: all of its calibration answers succeed, or all fail.

Their groups tend to be without spread, which teaches nothing. Settings under `data.medgrpo`:

    settled_by      raw_signals.jsonl of the calibration; null (default): every row is drawn alike
    settled_share   how often a settled row is drawn, as a share of the others' (default 0.25)
    settled_bounds  [low, high]: a row is settled if no answer's `acc` is above low, or none below high
                    (default [0.05, 0.95])

Rows that the calibration did not ask about are not settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.data.rows import DataError, Rows
from recipes.medgrpo.files import InputError, read_json_lines

SHARE, BOUNDS = 0.25, (0.05, 0.95)

Key = tuple[str | None, int]
"""An annotation: its file and its number there."""


def extremes(file: Path) -> dict[Key, tuple[float, float]]:
    """The least and the greatest `acc` of each row's answers in a ``raw_signals.jsonl``.

    Raises:
        InputError: the file is missing or holds no scored answers; names the line and the field.
    """
    if not Path(file).is_file():
        raise InputError(f"data.medgrpo.settled_by: {file}: expected the raw_signals.jsonl of a calibration")
    found: dict[Key, tuple[float, float]] = {}
    for number, record in enumerate(read_json_lines(file), 1):
        if number == 1 and isinstance(record, dict) and "header" in record:
            continue
        acc = record.get("acc") if isinstance(record, dict) else None
        index = record.get("index") if isinstance(record, dict) else None
        if isinstance(acc, bool) or not isinstance(acc, int | float) or not 0 <= acc <= 1 or not isinstance(index, int):
            raise InputError(f"{file}: line {number}: index and acc: expected a scored answer, acc from 0 to 1")
        key = (record.get("file") or None, index)
        low, high = found.get(key, (1.0, 0.0))
        found[key] = min(low, float(acc)), max(high, float(acc))
    if not found:
        raise InputError(f"{file}: expected scored answers, found none")
    return found


def draw_rates(rows: Rows, options: Mapping[str, Any]) -> np.ndarray | None:
    """(N,) how often each row is drawn, 1 or `settled_share`; None where the settings name no calibration.

    Raises:
        InputError: a bad setting or file. DataError: the calibration knows none of the rows.
    """
    if options.get("settled_by") is None:
        return None
    share, bounds = _share(options.get("settled_share")), _bounds(options.get("settled_bounds"))
    file = Path(options["settled_by"])
    found, keys = extremes(file), rows.annotations()
    if not any(key in found for key in keys):
        raise DataError(f"{file}: none of the training rows is in it, expected the calibration of this data")
    known = [found.get(key, (0.0, 1.0)) for key in keys]
    return np.array([share if high <= bounds[0] or low >= bounds[1] else 1.0 for low, high in known])


def _share(value: Any) -> float:
    share = SHARE if value is None else value
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(f"data.medgrpo.settled_share is {share!r}, expected a number above 0, at most 1")
    return float(share)


def _bounds(value: Any) -> Sequence[float]:
    bounds = BOUNDS if value is None else tuple(value)
    if len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds) or not bounds[0] < bounds[1]:
        raise InputError(f"data.medgrpo.settled_bounds is {list(bounds)}, expected [low, high] with low below high")
    return bounds
