# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Training rows as a blind baseline needs them, and the times that a question asks for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.medgrpo.answers.questions import problem
from recipes.medgrpo.evaluation.strict import unscorable
from recipes.medgrpo.evaluation.truths import Truth, each_truth
from reward_score.answers import MAX_ITEMS

_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,4})?)"
_UNIT = r"\s{0,2}(?:seconds?|secs?|s)?"
_STRIDE = re.compile(rf"every\s{{1,3}}{_NUMBER}\s{{0,2}}-?(?:seconds?|secs?|s)(?!\w)", re.IGNORECASE)
_INTERVAL = re.compile(
    rf"(?<![\w.]){_NUMBER}{_UNIT}\s{{0,3}}(?:-|–|—|to|and|until)\s{{0,3}}{_NUMBER}(?![0-9])", re.IGNORECASE
)


def read_training_rows(path: Path) -> tuple[list[Truth], Counter[str]]:
    """The rows of a file that have a readable answer, and how many have none, by reason.

    Args:
        path: annotation JSON (list or lines, zipped or not), or the preprocessor's parquet.

    Raises:
        InputError: the file is unreadable, or no row of it has an answer.
    """
    skipped: Counter[str] = Counter()
    rows: list[Truth] = []
    for _, truth in each_truth(Path(path)):
        reason = truth if isinstance(truth, str) else truth.unscored or unscorable(truth)
        if isinstance(truth, Truth) and not reason:
            rows.append(truth)
        else:
            skipped[str(reason)[:120]] += 1
    if not rows:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in skipped.most_common(3)) or "no row"
        raise problem(path, None, "", "training rows with answers", reasons)
    return rows, skipped


def asked_times(question: Any, stated: Any = None) -> list[float]:
    """The times, clip seconds, at which an stg question asks for boxes: start, start + stride, ... up to the end.

    They are read from the question's own words ("from 12.0 to 28.0 seconds, every 4 seconds"). Where these do not say,
    from `start`, `end` and `stride` of `stated`, the annotation's description of the question. The times that have a
    reference box are never looked at: those would tell when the object is visible. Empty where neither says.
    """
    if isinstance(question, str):
        stride, interval = _STRIDE.search(question), _INTERVAL.search(question)
        if stride and interval and (times := _grid(interval[1], interval[2], stride[1])):
            return times
    if isinstance(stated, Mapping):
        return _grid(stated.get("start"), stated.get("end"), stated.get("stride"))
    return []


def _grid(start: Any, end: Any, stride: Any) -> list[float]:
    try:
        start, end, stride = float(start), float(end), float(stride)
    except (TypeError, ValueError):
        return []
    if not (math.isfinite(start) and math.isfinite(end) and stride > 0):
        return []
    count = min(math.floor((end - start) / stride + 1e-6) + 1, MAX_ITEMS)
    return [round(start + step * stride, 6) for step in range(count)]
