# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One annotation row, checked: every known variant of the format becomes one `Sample`.

A row of any other shape is a `RecordError` that names file, row, key, what was expected and what was found. Nothing
is guessed: the source is read, never derived from a video id, and the row's number in its file is its only key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError

from data_preprocess.ground_truth import (
    GROUND,
    MAX_TEXT,
    TRUTHS,
    Bounds,
    Box,
    Number,
    ShapeError,
    check,
    shape_error,
)
from data_preprocess.wording import short

SOURCES = ("AVOS", "CholecT50", "CholecTrack20", "Cholec80_CVS", "CoPESD", "EgoSurgery", "JIGSAWS", "NurViD")
TASKS = ("tal", "stg", "dvc", "nap", "vs", "rc", "sa", "cvs")

QA_TYPES = {
    "tal": "tal",
    "stg": "stg",
    "next_action": "nap",
    "cvs_assessment": "cvs",
    "skill_assessment": "sa",
    "dense_captioning": "dvc",
    "dc": "dvc",
    "video_summary": "vs",
    "region_caption": "rc",
}
"""Task of each `qa_type`, its suffix `_gpt` or `_gemini` (which model wrote the captions) taken off."""

# Above this, a whole number is no longer exact as a float.
_MAX_NUMBER = 2**53
# What tokenizers of the Qwen family, or verl's prompts, read as more than text: turn ends, clip and picture marks.
_CONTROL = re.compile(r"<\|[a-z0-9_]{1,40}\|>|<image>|<audio>")


class RecordError(ValueError):
    """A row, or the file around it, is not of a known shape."""

    def __init__(self, file: str, row: int | None, key: str, expected: str, found: str):
        super().__init__(file, row, key, expected, found)
        self.file, self.row, self.key, self.expected, self.found = file, row, key, expected, found

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}: row {self.row}"
        where = f"{where}: {self.key}" if self.key else where
        return f"{where}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Sample:
    """One checked row. Times are clip seconds, boxes are annotation-canvas pixels.

    `ground` is the task's structured ground truth as it goes to the reward, None where the row has no answer.
    `declared` is the clip's length in seconds where the row states it in seconds, else None. `region` is the frame
    path and the box of a region caption. `flags` names what was odd but readable.
    """

    file: str
    index: int
    row_id: str
    qa_type: str
    task: str
    source: str
    video_id: str
    fps: float
    frames: tuple[str, ...]
    numbers: tuple[int, ...]
    clip_start: str
    clip_end: str
    declared: float | None
    question: str
    answer: str | None
    ground: dict[str, Any] | None
    region: tuple[str, tuple[float, float, float, float]] | None
    flags: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> str:
        """The dataset-task pair as verl's `data_source`."""
        return f"medvidbench/{self.source}/{self.task}"


_Name = Annotated[str, Field(min_length=1, max_length=4096)]


class _Turn(BaseModel):
    speaker: Literal["human", "gpt"] = Field(alias="from")
    value: Annotated[str, Field(max_length=MAX_TEXT)]


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)
    video_id: _Name
    fps: Annotated[Number, Field(ge=0.001, le=1000)]
    input_video_start_time: str | None = None
    input_video_end_time: str | None = None
    input_video_start_frame: str | None = None
    input_video_end_frame: str | None = None
    start_frame: str | None = None
    end_frame: str | None = None


class _Region(BaseModel):
    start_frame: str
    start_frame_bbox: Box


class _Row(BaseModel):
    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)
    id: Annotated[str, Field(max_length=4096)] | None = None
    qa_type: str
    data_source: str | None = None
    dataset_name: str | None = None
    conversations: Annotated[list[_Turn], Field(min_length=1, max_length=2)]
    video: Annotated[list[str], Field(min_length=1)]
    sampled_video_frames: list[StrictInt]
    metadata: _Metadata
    is_RC: bool | None = None
    RC_info: Annotated[_Region | None, BeforeValidator(lambda value: value or None)] = None
    struc_info: Any = None


def decode_row(raw: bytes, file: str, index: int) -> Any:
    """A row's JSON value; a `RecordError` where it is none."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RecordError(file, index, "", "valid JSON", short(str(error))) from None


def parse_record(row: bytes | dict[str, Any], file: str, index: int, truth: str = "structure") -> Sample:
    """A row, as raw JSON or decoded, as a `Sample`.

    Args:
        row: the row.
        file: the file's name, for the sample and for errors.
        index: the row's number in its file.
        truth: which of `struc_info` and answer text decides where both are there, one of `TRUTHS`.

    Raises:
        RecordError: the row is no valid JSON, or of no known shape.
    """
    if truth not in TRUTHS:
        raise ValueError(f"truth {truth!r}: expected one of {', '.join(TRUTHS)}")
    if isinstance(row, bytes):
        row = decode_row(row, file, index)
    try:
        try:
            checked = _Row.model_validate(row)
        except ValidationError as error:
            raise shape_error(error) from None
        return _sample(checked, file, index, truth)
    except ShapeError as shape:
        raise RecordError(file, index, shape.key, shape.expected, shape.found) from None


def _sample(row: _Row, file: str, index: int, truth: str) -> Sample:
    name = row.qa_type.removesuffix("_gpt").removesuffix("_gemini")
    task = QA_TYPES.get(name)
    if task is None:
        raise ShapeError("qa_type", f"one of {', '.join(QA_TYPES)} (with _gpt or _gemini)", row.qa_type)
    source = _source(row)
    if not all(row.video):
        raise ShapeError("video", "a path in each entry", "an empty one")
    if len(row.sampled_video_frames) != len(row.video):
        found = f"{len(row.sampled_video_frames)} numbers for {len(row.video)} frames"
        raise ShapeError("sampled_video_frames", "one number for each entry of video", found)
    numbers = row.sampled_video_frames
    if numbers != sorted(numbers):
        raise ShapeError("sampled_video_frames", "numbers that never decrease", _decrease(numbers))
    if numbers[0] < 0 or numbers[-1] > _MAX_NUMBER:
        raise ShapeError("sampled_video_frames", f"numbers from 0 to {_MAX_NUMBER}", [numbers[0], numbers[-1]])
    clip_start, clip_end, declared = _clip(row.metadata)
    speakers = [turn.speaker for turn in row.conversations]
    if speakers not in (["human"], ["human", "gpt"]):
        raise ShapeError("conversations", "a human turn, then at most one gpt turn", speakers)
    question = row.conversations[0].value.replace("<video>", "").strip()
    if not question:
        raise ShapeError("conversations.0.value", "a question", "no text beside <video>")
    for at, turn in enumerate(row.conversations):
        said = question if at == 0 else turn.value
        if "<" in said and (control := _CONTROL.search(said)):
            raise ShapeError(f"conversations.{at}.value", "text without control tokens", control[0])
    answer: str | None = None
    ground: dict[str, Any] | None = None
    flags: tuple[str, ...] = ()
    if len(row.conversations) == 2:
        answer = row.conversations[1].value
        answer, ground, flags = GROUND[task](answer, row.struc_info, truth)
        # Written anew from the structure, it may hold what the text did not.
        if "<" in answer and (control := _CONTROL.search(answer)):
            raise ShapeError("struc_info", "captions without control tokens", control[0])
    elif row.struc_info:
        flags = ("structure_without_answer",)
    region: tuple[str, tuple[float, float, float, float]] | None = None
    if task == "rc":
        if row.RC_info is None:
            raise ShapeError("RC_info", "start_frame and start_frame_bbox of the region", row.RC_info)
        if row.RC_info.start_frame not in row.video:
            raise ShapeError("RC_info.start_frame", "an element of video", row.RC_info.start_frame)
        x1, y1, x2, y2 = row.RC_info.start_frame_bbox
        region = (row.RC_info.start_frame, (x1, y1, x2, y2))
        if _other_box(row.struc_info, region[1]):
            flags = (*flags, "region_disagrees")
    return Sample(
        file=file,
        index=index,
        row_id=row.id or "",
        qa_type=row.qa_type,
        task=task,
        source=source,
        video_id=row.metadata.video_id,
        fps=row.metadata.fps,
        frames=tuple(row.video),
        numbers=tuple(numbers),
        clip_start=clip_start,
        clip_end=clip_end,
        declared=declared,
        question=question,
        answer=answer,
        ground=ground,
        region=region,
        flags=flags,
        extra=_unknown(row),
    )


def _other_box(structure: Any, box: tuple[float, ...]) -> bool:
    """Whether a region caption's `struc_info` names another box than `RC_info`, which is the one that is drawn."""
    entry = structure[0] if isinstance(structure, list) and structure else structure
    inner = entry.get("struc_info") if isinstance(entry, dict) else None
    named = inner.get("start_frame_bbox") if isinstance(inner, dict) else None
    return isinstance(named, list) and named != list(box)


def _unknown(row: _Row) -> dict[str, Any]:
    """Keys that the format does not have; those of `metadata` under a key of that name."""
    extra = row.model_extra or {}
    return {**extra, "metadata": row.metadata.model_extra} if row.metadata.model_extra else extra


def _decrease(numbers: list[int]) -> str:
    at = next(at for at, (a, b) in enumerate(zip(numbers, numbers[1:], strict=False)) if b < a)
    return f"{numbers[at + 1]} after {numbers[at]}, at entry {at + 1}"


def _source(row: _Row) -> str:
    names = {key: name.replace("-", "_") for key in ("data_source", "dataset_name") if (name := getattr(row, key))}
    if not names:
        raise ShapeError("data_source", "a source here or in dataset_name", "neither")
    for key, name in names.items():
        if name not in SOURCES:
            raise ShapeError(key, f"one of {', '.join(SOURCES)}", name)
    if len(set(names.values())) > 1:
        raise ShapeError(
            "dataset_name", f"the same source as data_source, {names['data_source']}", names["dataset_name"]
        )
    return next(iter(names.values()))


def _clip(metadata: _Metadata) -> tuple[str, str, float | None]:
    """The clip's bounds as written, and its declared length where they are seconds."""
    pairs = {
        "input_video_start_time": (metadata.input_video_start_time, metadata.input_video_end_time),
        "input_video_start_frame": (metadata.input_video_start_frame, metadata.input_video_end_frame),
        "start_frame": (metadata.start_frame, metadata.end_frame),
    }
    given = {key: (start, end) for key, (start, end) in pairs.items() if start is not None and end is not None}
    if len(given) != 1:
        raise ShapeError("metadata", f"exactly one pair of bounds of {', '.join(pairs)}", list(given) or "none")
    ((key, (start, end)),) = given.items()
    if key != "input_video_start_time":
        return start, end, None
    bounds = check(Bounds, {"start": start, "end": end}, "metadata")
    if bounds.start > bounds.end:
        raise ShapeError("metadata", "a clip that ends after its start", f"{start} to {end}")
    return start, end, bounds.end - bounds.start
