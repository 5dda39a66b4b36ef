# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One annotation row, checked: every known variant of the format becomes one `Sample`.

A row of any other shape is a `RecordError` that names file, row, key, what was expected and what was found. Nothing
is guessed: the source is read, never derived from a video id, and the row's number in its file is its only key.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, ValidationError

from data_preprocess.geometry import SOURCES
from data_preprocess.ground_truth import (
    GROUND,
    MAX_TEXT,
    TRUTHS,
    Bounds,
    Box,
    Number,
    ShapeError,
    check,
    from_the_start,
    seen,
    shape_error,
)
from data_preprocess.wording import short
from reward_score.errors import BadGroundTruth
from reward_score.tasks import check_target
from reward_score.vocabularies import same_label

TASKS = ("tal", "stg", "dvc", "nap", "vs", "rc", "sa", "cvs", "qa")
"""The published eight, and `qa`, whose rows `curation` makes."""

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
    "question_answering": "qa",
}
"""Task of each `qa_type`, without the suffix that says which model wrote the captions."""
_WRITER = re.compile(r"_(?:gpt|gemini|a|b)\Z")
"""`_gpt` and `_gemini` in the published rows; `_a` and `_b` in those that `curation` makes with any two captioners."""


def task_of(qa_type: str) -> str | None:
    """The task of a `qa_type`, whoever wrote the answer; None for an unknown one."""
    return QA_TYPES.get(_WRITER.sub("", qa_type))


# Above this, a whole number is no longer exact as a float.
_MAX_NUMBER = 2**53
# What tokenizers of the Qwen family, or verl's prompts, read as more than text: turn ends, clip and picture marks.
_CONTROL = re.compile(r"<\|[a-z0-9_]{1,40}\|>|<image>|<audio>|<video>")
_CLIP = "<video>"
_AROUND = re.compile(r"\A(?:\s|<video>)+|(?:\s|<video>)+\Z")
# The options of a next action, as a Python list in the question.
_OPTIONS = re.compile(r"\[[^\[\]]{2,20000}\]")
# Under these keys `struc_info` may name the next action.
_NEXT = ("next_action", "label", "answer")
# The number of a frame: a file's name, or what follows the last `_` of it.
_MOST_DIGITS = 18
_FILE_NUMBER = re.compile(rf"(?:\A|[/_])([0-9]{{1,{_MOST_DIGITS}}})\.[^./_]*\Z")
# Deeper values are no part of any known row, and no library writes them.
_MAX_DEPTH = 64
_NESTED = frozenset((dict, list))
# Every key of an object, and whatever a text holds that looks like one.
_KEYS = re.compile(rb'"\s*:')
_NOT_JSON = re.compile(rb"\b(?:NaN|Infinity)\b")


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
    """A row's JSON value.

    `NaN` and `Infinity`, which Python writes and JSON does not have, are read as numbers.

    Raises:
        RecordError: no JSON, one key twice in an object, or values in values without end.
    """
    try:
        try:
            row = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            if not _NOT_JSON.search(raw):
                raise RecordError(file, index, "", "valid JSON", short(str(error))) from None
            row = _slowly(raw)
        # Libraries keep the last of two equal keys. Those that were kept are fewer than those that were written.
        if _count_keys(row) != len(_KEYS.findall(raw)):
            _slowly(raw)
        return row
    except ShapeError as error:
        raise RecordError(file, index, error.key, error.expected, error.found) from None
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(file, index, "", "valid JSON", short(str(error))) from None


def _slowly(raw: bytes) -> Any:
    """A JSON value by Python's own reader, which takes `NaN` and sees every key."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ShapeError(short(twice, 40), "each key once", "it twice in one object")
        return found

    row = json.loads(raw, object_pairs_hook=unique)
    orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS)  # half of a surrogate pair is no text
    return row


def _count_keys(value: Any, depth: int = 0) -> int:
    """Keys of all objects in a JSON value."""
    if depth > _MAX_DEPTH:
        raise ShapeError("", f"values nested at most {_MAX_DEPTH} deep", "deeper ones")
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    count = len(value) if isinstance(value, dict) else 0
    if _NESTED.isdisjoint(map(type, items)):
        return count
    return count + sum([_count_keys(item, depth + 1) for item in items if type(item) in _NESTED])


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
    task = task_of(row.qa_type)
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
    frames = tuple(row.video)
    flags = _odd_list(frames, tuple(numbers))
    speakers = [turn.speaker for turn in row.conversations]
    if speakers not in (["human"], ["human", "gpt"]):
        raise ShapeError("conversations", "a human turn, then at most one gpt turn", speakers)
    question = _AROUND.sub("", row.conversations[0].value)
    if not question:
        raise ShapeError("conversations.0.value", "a question", f"no text beside {_CLIP}")
    for at, turn in enumerate(row.conversations):
        said = question if at == 0 else turn.value
        if "<" in said and (control := _CONTROL.search(seen(said))):
            where = f", and {_CLIP} before or behind the question" if control[0] == _CLIP else ""
            raise ShapeError(f"conversations.{at}.value", f"text without control tokens{where}", control[0])
    answer: str | None = None
    ground: dict[str, Any] | None = None
    if len(row.conversations) == 2:
        given = row.conversations[1].value
        answer, ground, odd = GROUND[task](seen(given), row.struc_info, truth)
        flags += odd
        if seen(given) != given:
            flags += ("unseen_characters",)
        answer, clipped = from_the_start(task, answer, ground, max(1.0, 1 / row.metadata.fps))
        if clipped:
            flags += ("time_clipped",)
        if task == "nap":
            flags += _odd_label(ground["label"], question, row.struc_info, source)
        from_text = row.struc_info is None or task in ("nap", "vs", "rc", "qa")
        # The answer of stg is written, and checked, once the size of the frames is known.
        if task != "stg":
            _check_answer(task, source, answer, ground, "conversations.1.value" if from_text else "struc_info")
        # Written anew from the structure, it may hold what the text did not.
        if "<" in answer and (control := _CONTROL.search(answer)):
            raise ShapeError("struc_info", "captions without control tokens", control[0])
    elif row.struc_info:
        flags += ("structure_without_answer",)
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
        frames=frames,
        numbers=tuple(numbers),
        clip_start=clip_start,
        clip_end=clip_end,
        declared=declared,
        question=question,
        answer=answer,
        ground=ground,
        region=region,
        flags=tuple(dict.fromkeys(flags)),
        extra=_unknown(row),
    )


def _check_answer(task: str, source: str, answer: str, ground: dict[str, Any], key: str) -> None:
    """Refuses a ground truth that no answer can give, and an answer to learn that is not read back as it."""
    try:
        check_target(f"medvidbench/{source}/{task}", answer, ground)
    except BadGroundTruth as error:
        raise unsayable(error, key) from None


def unsayable(error: BadGroundTruth, key: str) -> ShapeError:
    """What is wrong with a reference or with the answer to learn, under the key of the row that it comes from."""
    field, _, rest = str(error).removeprefix("ground_truth: ").partition("expected ")
    expected, _, found = rest.partition(", got ")
    if not rest:
        return ShapeError(key, "an answer that can be given", field)
    return ShapeError(key, f"{field}{expected}", found)


@lru_cache(maxsize=1024)  # several rows ask about one clip
def _odd_list(paths: tuple[str, ...], numbers: tuple[int, ...]) -> tuple[str, ...]:
    """The flag of a list whose files are numbered otherwise than its frames.

    File numbers may count from elsewhere and in other steps. Where they only ever fall, the clip would be shown
    backwards.
    """
    files = _file_numbers(paths)
    if files is None or files == list(numbers):
        return ()
    falls = [b < a for a, b in zip(files, files[1:], strict=False) if b != a]
    if falls and all(falls) and numbers[-1] > numbers[0]:
        raise ShapeError("video", "files in the order of sampled_video_frames", f"{files[0]} down to {files[-1]}")
    step = (files[-1] - files[0]) / max(1, numbers[-1] - numbers[0])
    off = max(abs(file - files[0] - step * (number - numbers[0])) for file, number in zip(files, numbers, strict=True))
    return ("files_out_of_order",) if any(falls) or off > max(1.0, step) else ()


def file_number(path: str) -> int | None:
    """The number of a frame in its file's name: what follows the last `_`, or the whole name."""
    found = _FILE_NUMBER.search(path)
    return int(found[1]) if found else None


def _file_numbers(paths: Sequence[str]) -> list[int] | None:
    """The numbers of all frames in their files' names; None where one has none."""
    first = paths[0]
    start, end = max(first.rfind("/"), first.rfind("_")) + 1, first.rfind(".") - len(first)
    # Nearly always all names have the same beginning and ending: that takes a tenth of the time.
    digits = [path[start:end] for path in paths]
    if "".join(digits).isdecimal() and all(digits) and max(map(len, digits)) <= _MOST_DIGITS:
        return list(map(int, digits))
    found = [file_number(path) for path in paths]
    return None if None in found else [number for number in found if number is not None]


def _odd_label(label: str, question: str, structure: Any, source: str) -> tuple[str, ...]:
    """The flags of a next action that its question does not offer, or that is not the one that `struc_info` names."""
    flags = []
    options = _listed(question)
    if options and not any(same_label(label, option, source) for option in options):
        flags.append("answer_not_an_option")
    entries = structure if isinstance(structure, list) else [structure]
    named = [entry[key] for entry in entries if isinstance(entry, dict) for key in _NEXT if key in entry]
    labels = [name for name in named if isinstance(name, str)]
    if labels and not any(same_label(label, name, source) for name in labels):
        flags.append("structure_disagrees")
    return tuple(flags)


def _listed(question: str) -> list[str]:
    """The texts of all Python lists in a question."""
    options: list[str] = []
    for found in _OPTIONS.findall(question):
        try:
            values = ast.literal_eval(found)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        options += [value for value in values if isinstance(value, str)]
    return options


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
