# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Training rows as a blind baseline needs them: the answer, and what is known of a clip before a frame is seen.

Known beforehand are the source, the question, the length of the clip (its bounds stand in the metadata) and the rate
of sampling. Rows come from annotation JSON (list or lines, zipped or not) or from the preprocessor's parquet.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_preprocess.annotations import RecordError, parse_record
from data_preprocess.json_stream import read_rows
from data_preprocess.timeline import NATIVE_RATES
from recipes.medgrpo.answers.questions import TIMED_SOURCE, InputError, is_parquet, problem, read_parquet
from recipes.medgrpo.evaluation.truths import official_structure
from reward_score.answers import MAX_ITEMS
from reward_score.errors import RewardError
from reward_score.tasks import find_task, read_gold

_METADATA_BOUNDS = ("input_video_{}_time", "input_video_{}_frame", "{}_frame")
_PARQUET_EXTRA = (
    *("index", "file", "qa_type", "source", "video_id", "question", "fps", "clip_start", "clip_end", "sample_interval"),
)

_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,4})?)"
_UNIT = r"\s{0,2}(?:seconds?|secs?|s)?"
_STRIDE = re.compile(rf"every\s{{1,3}}{_NUMBER}\s{{0,2}}-?(?:seconds?|secs?|s)(?!\w)", re.IGNORECASE)
_INTERVAL = re.compile(
    rf"(?<![\w.]){_NUMBER}{_UNIT}\s{{0,3}}(?:-|–|—|to|and|until)\s{{0,3}}{_NUMBER}(?![0-9])", re.IGNORECASE
)


@dataclass(frozen=True)
class TrainingRow:
    """One row with its answer. Times are clip seconds, boxes canvas pixels.

    `seconds` is the clip's length by its bounds, None where they do not say; `ground` is the ground truth of the
    reward, decoded, and `video` is "<source>/<video_id>".
    """

    file: str
    index: int
    data_source: str
    qa_type: str
    video: str
    question: str
    seconds: float | None
    fps: float
    interval: float
    ground: Mapping[str, Any]

    @property
    def source(self) -> str:
        return self.data_source.split("/")[1]

    @property
    def task(self) -> str:
        return self.data_source.split("/")[2]

    @property
    def ground_truth(self) -> str:
        """The strict scorer's JSON string."""
        return json.dumps(self.ground)

    def record(self, answer: str) -> dict[str, Any]:
        """The record that the leaderboard's evaluator would get for an answer: its structure from the ground truth."""
        return {
            "metadata": {"video_id": self.video.split("/", 1)[1], "fps": self.fps},
            "qa_type": self.qa_type,
            "data_source": self.source,
            "question": self.question,
            "struc_info": official_structure(self.task, self.ground),
            "gnd": self.ground["text"],
            "answer": answer,
        }


def read_training_rows(path: Path) -> tuple[list[TrainingRow], Counter[str]]:
    """The rows of a file that have a readable answer, and how many have none, by reason.

    Raises:
        InputError: the file is unreadable, or no row of it has an answer.
    """
    path = Path(path)
    skipped: Counter[str] = Counter()
    rows = []
    for row in _parquet_rows(path, skipped) if is_parquet(path) else _annotation_rows(path, skipped):
        try:
            find_task(row.data_source)
            read_gold(row.task, row.ground_truth)
        except RewardError as error:
            skipped[f"{type(error).__name__}: {error}"[:120]] += 1
        else:
            rows.append(row)
    if not rows:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in skipped.most_common(3)) or "no row"
        raise problem(path, None, "", "training rows with answers", reasons)
    return rows, skipped


def _annotation_rows(path: Path, skipped: Counter[str]) -> Iterator[TrainingRow]:
    try:
        for index, raw in read_rows(path):
            try:
                sample = parse_record(raw, path.name, index)
            except RecordError as error:
                skipped[f"{error.key}: expected {error.expected}"[:120]] += 1
                continue
            if sample.ground is None:
                skipped["no answer"] += 1
                continue
            seconds = sample.declared
            if seconds is None:
                seconds = _length(sample.source, sample.clip_start, sample.clip_end, in_seconds=False)
            yield TrainingRow(
                file=sample.file,
                index=sample.index,
                data_source=sample.pair,
                qa_type=sample.qa_type,
                video=f"{sample.source}/{sample.video_id}",
                question=sample.question,
                seconds=seconds or None,
                fps=sample.fps,
                interval=1 / sample.fps,
                ground=sample.ground,
            )
    except RecordError as error:
        raise InputError(str(error)) from None


def _parquet_rows(path: Path, skipped: Counter[str]) -> Iterator[TrainingRow]:
    for row in read_parquet(path, ["data_source", "reward_model", "extra_info"]).to_pylist():
        extra, truth = row["extra_info"] or {}, (row["reward_model"] or {}).get("ground_truth")
        if missing := [key for key in _PARQUET_EXTRA if extra.get(key) is None]:
            skipped[f"no extra_info.{missing[0]}"] += 1
            continue
        try:
            ground = json.loads(truth) if truth else {}
            found = _parquet_row(row["data_source"], extra, ground) if ground else None
        except (TypeError, ValueError) as error:
            skipped[f"{type(error).__name__}: {error}"[:120]] += 1
            continue
        if found is None:
            skipped["no answer"] += 1
        else:
            yield found


def _parquet_row(data_source: str, extra: Mapping[str, Any], ground: Mapping[str, Any]) -> TrainingRow:
    source = extra["source"]
    return TrainingRow(
        file=extra["file"],
        index=extra["index"],
        data_source=data_source,
        qa_type=extra["qa_type"],
        video=f"{source}/{extra['video_id']}",
        question=extra["question"],
        seconds=_length(source, extra["clip_start"], extra["clip_end"], source == TIMED_SOURCE),
        fps=float(extra["fps"]),
        interval=float(extra["sample_interval"]),
        ground=ground,
    )


def clip_seconds(source: str, metadata: Any) -> float | None:
    """A clip's length by the bounds in its row's `metadata`, in seconds; None where they do not say.

    Bounds in frames are native frame numbers and need the source's native rate.
    """
    if not isinstance(metadata, Mapping):
        return None
    for pattern in _METADATA_BOUNDS:
        start, end = (metadata.get(pattern.format(side)) for side in ("start", "end"))
        if start is not None and end is not None:
            return _length(source, start, end, in_seconds=pattern.endswith("time"))
    return None


def _length(source: str, start: Any, end: Any, in_seconds: bool) -> float | None:
    rate = 1.0 if in_seconds else NATIVE_RATES.get(source)
    try:
        length = float(end) - float(start)
    except (TypeError, ValueError):
        return None
    return length / rate if rate and math.isfinite(length) and length > 0 else None


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
