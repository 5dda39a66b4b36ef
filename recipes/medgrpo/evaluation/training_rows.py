# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Training rows as a blind baseline needs them: the answer, and what is known of a clip before a frame is seen.

Known beforehand are the source, the question and the length of the clip, whose bounds stand in the metadata.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.timeline import NATIVE_RATES
from recipes.medgrpo.answers.questions import problem
from recipes.medgrpo.evaluation.truths import Truth, each_truth
from reward_score.answers import MAX_ITEMS
from reward_score.errors import RewardError
from reward_score.tasks import find_task, read_gold

_METADATA_BOUNDS = ("input_video_{}_time", "input_video_{}_frame", "{}_frame")

_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,4})?)"
_UNIT = r"\s{0,2}(?:seconds?|secs?|s)?"
_STRIDE = re.compile(rf"every\s{{1,3}}{_NUMBER}\s{{0,2}}-?(?:seconds?|secs?|s)(?!\w)", re.IGNORECASE)
_INTERVAL = re.compile(
    rf"(?<![\w.]){_NUMBER}{_UNIT}\s{{0,3}}(?:-|–|—|to|and|until)\s{{0,3}}{_NUMBER}(?![0-9])", re.IGNORECASE
)


@dataclass(frozen=True)
class TrainingRow:
    """One row with its answer. Times are clip seconds, boxes canvas pixels.

    `seconds` is the clip's length by its bounds, None where they do not say. `ground_truth` is the reward's JSON
    string, `ground` the same decoded, `extra` the reward's `extra_info`, `record` the leaderboard's record without an
    answer, and `video` is "<source>/<video_id>".
    """

    file: str
    index: int
    data_source: str
    video: str
    seconds: float | None
    ground: Mapping[str, Any]
    extra: Mapping[str, Any]
    ground_truth: str = field(compare=False)
    record: Mapping[str, Any] = field(compare=False, repr=False)

    @property
    def source(self) -> str:
        return self.data_source.split("/")[1]

    @property
    def task(self) -> str:
        return self.data_source.split("/")[2]


def read_training_rows(path: Path) -> tuple[list[TrainingRow], Counter[str]]:
    """The rows of a file that have a readable answer, and how many have none, by reason.

    Args:
        path: annotation JSON (list or lines, zipped or not), or the preprocessor's parquet.

    Raises:
        InputError: the file is unreadable, or no row of it has an answer.
    """
    skipped: Counter[str] = Counter()
    rows = []
    for _, truth in each_truth(Path(path)):
        reason = truth if isinstance(truth, str) else _unreadable(truth)
        if reason:
            skipped[reason[:120]] += 1
            continue
        rows.append(
            TrainingRow(
                truth.row.file,
                truth.row.index,
                truth.data_source,
                truth.video,
                clip_seconds(truth.row.source, truth.record.get("metadata")),
                json.loads(truth.ground_truth),
                truth.extra,
                truth.ground_truth,
                truth.record,
            )
        )
    if not rows:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in skipped.most_common(3)) or "no row"
        raise problem(path, None, "", "training rows with answers", reasons)
    return rows, skipped


def _unreadable(truth: Truth) -> str | None:
    if truth.ground_truth is None:
        return truth.unscored
    try:
        read_gold(find_task(truth.data_source)[0].name, truth.ground_truth)
    except RewardError as error:
        return f"{type(error).__name__}: {error}"
    return None


def clip_seconds(source: str, metadata: Any) -> float | None:
    """A clip's length by the bounds in its row's `metadata`, in seconds; None where they do not say.

    Bounds in frames are native frame numbers and need the source's native rate.
    """
    if not isinstance(metadata, Mapping):
        return None
    for pattern in _METADATA_BOUNDS:
        start, end = (metadata.get(pattern.format(side)) for side in ("start", "end"))
        if start is not None and end is not None:
            rate = 1.0 if pattern.endswith("time") else NATIVE_RATES.get(source)
            try:
                length = float(end) - float(start)
            except (TypeError, ValueError):
                return None
            return length / rate if rate and math.isfinite(length) and length > 0 else None
    return None


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
