# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rows that answers are held against: what the leaderboard's evaluator and the strict scorer take for right.

A row comes from an annotation file with answers (JSON list or lines, zipped or not), from a file of merged records, or
from the preprocessor's parquet. Of an annotation file the merged record is what the official merge makes of it. The
parquet holds what the reward needs, and the record is made from that again: times, boxes, scores and reference texts
are there as numbers and words, their spelling is not. So it is exact where `struc_info` is as the format says (numbers
as numbers, one list of events, names of scores as documented, boxes in the order of time, each source spelled one way),
and where it cannot be, `Truth.inexact` or `inexact_answer` says why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from data_preprocess.annotations import QA_TYPES, SOURCES, RecordError, decode_row, parse_record
from data_preprocess.ground_truth import GROUND, ShapeError
from data_preprocess.json_stream import read_rows
from data_preprocess.timeline import NATIVE_RATES
from data_preprocess.wording import short
from recipes.medgrpo.answers.questions import (
    TIMED_SOURCE,
    InputError,
    Row,
    described_row,
    is_parquet,
    parquet_row,
    problem,
    read_parquet,
    rows_read,
)
from reward_score.leaderboard import tubes

PARQUET_CAPTIONS = (
    "dense captioning's references come from a parquet, which has the captions of the answer text, not of struc_info"
)
"""Why the leaderboard's dvc_llm is not exact for rows of a parquet."""


_METADATA_BOUNDS = ("input_video_{}_time", "input_video_{}_frame", "{}_frame")
NO_ANSWER = "no reference answer in the ground truth"


@dataclass(frozen=True)
class Truth:
    """What is right for one row.

    `record` is the official merged record without its answer; `ground_truth` the strict scorer's JSON string, None
    where it cannot score the row, and `unscored` says why. `extra` is `compute_score`'s `extra_info`. `inexact` says
    why `record` is not what the official merge would make, None where it is.
    """

    row: Row
    record: dict[str, Any]
    ground_truth: str | None
    unscored: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    inexact: str | None = None

    @property
    def data_source(self) -> str:
        """The dataset-task pair as verl's `data_source`."""
        return f"medvidbench/{self._source}/{self.row.task}"

    @cached_property
    def ground(self) -> Mapping[str, Any]:
        """`ground_truth`, decoded. Times are clip seconds, boxes canvas pixels."""
        assert self.ground_truth is not None  # asked of rows that can be scored
        return json.loads(self.ground_truth)

    @cached_property
    def seconds(self) -> float | None:
        """The clip's length by its bounds, None where they do not say."""
        return clip_seconds(self.row.source, self.record.get("metadata"))

    @property
    def video(self) -> str:
        """The source video; rows about one are not independent of each other."""
        return f"{self._source}/{self.row.video_id}"

    @property
    def _source(self) -> str:
        return self.row.source.replace("/", "_") or "Unknown"


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
            first, last = finite_number(start), finite_number(end)
            return (last - first) / rate if rate and first is not None and last is not None and last > first else None
    return None


def finite_number(value: Any) -> float | None:
    """A number, as one or as text; None for anything else, and for what is not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@dataclass
class Truths:
    """All rows of a file, in file order, and (row number, reason) of those that cannot be used at all.

    `total` is how many rows the annotation file has, as far as it is known from a parquet.
    """

    rows: list[Truth]
    unusable: list[tuple[int, str]] = field(default_factory=list)
    parquet: bool = False
    total: int = 0


def read_truths(path: Path) -> Truths:
    """The rows of an annotation file, of a file of merged records, or of a parquet, with their reference answers.

    A row that cannot be read costs itself.

    Raises:
        InputError: the file is unreadable, or no row of it can be used.
    """
    truths = Truths([], parquet=is_parquet(path))
    for index, found in each_truth(path):
        if isinstance(found, Truth):
            truths.rows.append(found)
        else:
            truths.unusable.append((index, found))
    if not truths.rows:
        first, reason = truths.unusable[0] if truths.unusable else (None, "no rows")
        raise problem(path, first, "", "a row with its reference answer", reason, len(truths.unusable) - 1)
    truths.total = len(truths.rows) + len(truths.unusable)
    if truths.parquet:
        truths.rows.sort(key=lambda truth: (truth.row.file, truth.row.index))
        truths.total = rows_read(path) or max(truths.total, truths.rows[-1].row.index + 1)
    return truths


def each_truth(path: Path) -> Iterator[tuple[int, Truth | str]]:
    """The number of each row of such a file, and what is right for it or why it cannot be used.

    Raises:
        InputError: the file is unreadable.
    """
    try:
        yield from _parquet_truths(path) if is_parquet(path) else _json_truths(path)
    except RecordError as error:
        raise InputError(str(error)) from None


def _json_truths(path: Path) -> Iterator[tuple[int, Truth | str]]:
    for index, raw in read_rows(path):
        try:
            row = decode_row(raw, path.name, index)
            merged = not isinstance(row, dict) or "gnd" in row
            yield index, merged_truth(row, path.name, index) if merged else _annotated(row, path.name, index)
        except RecordError as error:
            yield index, f"expected {error.expected}, found {error.found}"


def _annotated(row: dict[str, Any], file: str, index: int) -> Truth | str:
    try:
        turns = row["conversations"]
        described = described_row(row, turns[0]["value"], file, index)
        gold = next((turn["value"] for turn in turns if turn.get("from") == "gpt"), None)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return f"not an annotation row: {type(error).__name__}: {short(str(error))}"
    if gold is None:
        return NO_ANSWER
    if reason := _no_task(described):
        return reason
    record = {
        "metadata": row["metadata"],
        "qa_type": row["qa_type"],
        "struc_info": row.get("struc_info"),
        "question": turns[0]["value"].replace("<video>", "").strip(),
        "gnd": gold,
        "data_source": row.get("data_source") or row.get("dataset_name") or "Unknown",
    }
    extra = {"question": record["question"]}
    try:
        sample = parse_record(row, file, index)
    except RecordError as error:
        reason = f"ground truth: {error.key}: expected {error.expected}, found {error.found}"
        return Truth(described, record, None, reason, extra)
    extra |= {"question": sample.question, "sample_interval": 1 / sample.fps}
    return Truth(described, record, orjson.dumps(sample.ground).decode(), None, extra)


def _no_task(row: Row) -> str | None:
    try:
        return None if row.task else "no task"
    except KeyError:
        return f"qa_type: expected one of {', '.join(QA_TYPES)}, found {short(row.qa_type)}"


def merged_truth(record: Any, file: str, index: int) -> Truth | str:
    """What is right for a merged record, which carries its reference under `gnd` and `struc_info`; or why not.

    The record is kept as it is, apart from its answer: where the official evaluator guesses, it shall go on guessing.
    """
    if not isinstance(record, dict):
        return f"expected a record, found {short(record)}"
    if "gnd" not in record:
        return NO_ANSWER
    metadata = record.get("metadata")
    # A record without a name for its video is a video of its own.
    known = {"video_id": f"row {index}", "fps": "", **(metadata if isinstance(metadata, dict) else {})}
    source = record.get("data_source") or record.get("dataset_name") or "Unknown"
    qa_type, question = record.get("qa_type"), record.get("question")
    question = question if isinstance(question, str) else ""
    described = described_row({"metadata": known, "qa_type": qa_type, "data_source": source}, question, file, index)
    if reason := _no_task(described):
        return reason
    official = {key: value for key, value in record.items() if key not in ("answer", "prediction")}
    rate = finite_number(known["fps"]) or 0.0
    extra = {"question": question} | ({"sample_interval": 1 / rate} if rate > 0 else {})
    try:
        if described.source not in SOURCES:
            raise ShapeError("data_source", f"one of {', '.join(SOURCES)}", source)
        if not isinstance(record["gnd"], str):
            raise ShapeError("gnd", "text", record["gnd"])
        _, ground, _ = GROUND[described.task](record["gnd"], record.get("struc_info"), "structure")
    except ShapeError as error:
        key = "gnd" if error.key == "conversations.1.value" else error.key
        reason = f"ground truth: {key}: expected {error.expected}, found {error.found}"
        return Truth(described, official, None, reason, extra)
    return Truth(described, official, json.dumps(ground), None, extra)


def _parquet_truths(path: Path) -> Iterator[tuple[int, Truth | str]]:
    table = read_parquet(path, ["reward_model", "extra_info"])
    try:
        settings = json.loads((table.schema.metadata or {}).get(b"medgrpo.settings", b"{}"))
        by_text = settings.get("truth") == "text"
    except (AttributeError, ValueError) as error:
        raise problem(path, None, "medgrpo.settings", "the settings of the preprocessor", str(error)) from None
    columns = (table["reward_model"].to_pylist(), table["extra_info"].to_pylist())
    for at, (model, extra) in enumerate(zip(*columns, strict=True)):
        try:
            row = parquet_row(extra)
            ground = json.loads(model["ground_truth"])
            found = _from_parquet(row, ground, model["ground_truth"], extra, by_text) if ground else NO_ANSWER
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            yield at, f"not a row of the preprocessor's parquet: {type(error).__name__}: {short(str(error))}"
        else:
            yield row.index, found


def _from_parquet(row: Row, ground: dict, written: str, extra: dict, by_text: bool) -> Truth:
    flags = set(extra.get("flags") or ())
    record = {
        "metadata": {"video_id": row.video_id, "fps": row.fps, **_bounds(row.source, extra)},
        "qa_type": row.qa_type,
        "struc_info": _STRUCTURES[row.task](ground) if row.task in _STRUCTURES and "from_text" not in flags else None,
        "question": extra["question"],
        "gnd": ground["text"],
        "data_source": row.source,
    }
    inexact = None
    if by_text and "text_disagrees" in flags:
        inexact = "the parquet has the answer text's ground truth, the leaderboard that of struc_info"
    elif row.task == "sa" and not re.search(r"\d/5", ground["text"]):
        inexact = "the parquet has no skill level, without which the leaderboard skips a reference text like this one"
    asked = {"question": extra["question"], "sample_interval": extra.get("sample_interval")}
    return Truth(row, record, written, None, asked, inexact)


def _bounds(source: str, extra: dict) -> dict[str, str]:
    """The clip's bounds under a key that annotations have; the parquet keeps one pair for all of them."""
    unit = "time" if source == TIMED_SOURCE else "frame"
    return {
        f"input_video_{side}_{unit}": extra[f"clip_{side}"] for side in ("start", "end") if extra.get(f"clip_{side}")
    }


_STRUCTURES: dict[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = {
    "tal": lambda ground: [{"spans": [{"start": start, "end": end} for start, end in ground["spans"]]}],
    "stg": lambda ground: [{"bbox_dict": ground["boxes"]}],
    "dvc": lambda ground: ground["events"],
    "cvs": lambda ground: [{"cvs_scores": ground["scores"]}],
    "sa": lambda ground: [{"skill_scores": ground["scores"]}],
}
"""By task `struc_info` as the leaderboard's evaluator reads it, from the ground truth of the reward."""


def inexact_answer(truth: Truth, answer: Any) -> str | None:
    """Why the leaderboard's number of an answer to a row of a parquet would not be exact, None where it is."""
    if truth.inexact is None and truth.row.task == "stg" and isinstance(answer, str):
        found = tubes.parse(answer)
        if isinstance(found, list) and found:
            # The evaluator gives them to the reference's times as these are spelled in the annotations.
            return "boxes without times, whose score hangs on how the annotations spell theirs, which no parquet says"
    return truth.inexact
