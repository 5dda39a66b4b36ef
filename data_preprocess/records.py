# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One annotation row, checked: every known variant of the format becomes one `Sample`.

A row of any other shape is a `RecordError` that names file, row, key, what was expected and what was found. Nothing
is guessed: the source is read, never derived from a video id, and the row's number in its file is its only key.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import ijson
import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from reward_score.answers import ASPECTS, CVS_COMPONENTS, PARSERS, Event, render_cvs, render_dvc, render_sa, render_tal

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

# Answers round times and boxes to one or two decimals; anything beyond that is another answer.
_ROUNDING = 0.051


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


Box = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class _Turn(BaseModel):
    speaker: Literal["human", "gpt"] = Field(alias="from")
    value: str


class _Metadata(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)
    video_id: str = Field(min_length=1)
    fps: Annotated[FiniteFloat, Field(gt=0)]
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
    id: str | None = None
    qa_type: str
    data_source: str | None = None
    dataset_name: str | None = None
    conversations: Annotated[list[_Turn], Field(min_length=1, max_length=2)]
    video: Annotated[list[str], Field(min_length=1)]
    sampled_video_frames: list[int]
    metadata: _Metadata
    is_RC: bool | None = None
    RC_info: _Region | None = None
    struc_info: Any = None


class _Bounds(BaseModel):
    start: FiniteFloat
    end: FiniteFloat


class _Segment(_Bounds):
    caption: str = Field(min_length=1)


class _Grounding(BaseModel):
    spans: Annotated[list[_Bounds], Field(min_length=1)]


class _Boxes(_Bounds):
    stride: Annotated[FiniteFloat, Field(gt=0)]
    object: str
    bbox_dict: Annotated[dict[FiniteFloat, Box], Field(min_length=1)]


_ZeroToTwo = Annotated[int, Field(ge=0, le=2)]


class _CvsScores(BaseModel):
    two_structures: _ZeroToTwo
    cystic_plate: _ZeroToTwo
    hepatocystic_triangle: _ZeroToTwo


class _Cvs(BaseModel):
    cvs_scores: _CvsScores


class _Skill(BaseModel):
    skill_scores: dict[str, Annotated[int, Field(ge=1, le=5)]]


_GROUNDINGS = TypeAdapter(Annotated[list[_Grounding], Field(min_length=1)])
_SEGMENTS = TypeAdapter(Annotated[list[_Segment], Field(min_length=1)])


class _Shape(ValueError):
    """A shape problem below a row, before file and row are known."""

    def __init__(self, key: str, expected: str, found: Any):
        super().__init__(key, expected, found)
        self.key, self.expected, self.found = key, expected, _short(found)


def _short(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _shape(error: ValidationError, prefix: str = "") -> _Shape:
    """The first of pydantic's complaints as a `_Shape`."""
    first = error.errors(include_url=False)[0]
    key = ".".join([prefix] * bool(prefix) + [str(part) for part in first["loc"]])
    if first["type"] == "missing":
        return _Shape(key, "this key", "nothing")
    expected = first["msg"].removeprefix("Input should be ").replace(f" or instance of {error.title}", "")
    return _Shape(key, expected[0].lower() + expected[1:], repr(first["input"]))


def _check(adapter: Any, value: Any, prefix: str) -> Any:
    try:
        return adapter.validate_python(value) if isinstance(adapter, TypeAdapter) else adapter.model_validate(value)
    except ValidationError as error:
        raise _shape(error, prefix) from None


def open_bytes(path: str | Path) -> BinaryIO:
    """The bytes of a file, unzipped where its first bytes say gzip."""
    handle = open(path, "rb")
    if handle.peek(2)[:2] == b"\x1f\x8b":
        return gzip.open(handle)  # type: ignore[return-value]
    return handle


def read_rows(path: str | Path) -> Iterator[tuple[int, Any]]:
    """(row number, row) of a JSON list or of JSON lines, read as a stream.

    Raises:
        RecordError: the file is unreadable, is no JSON, or ends too early; the row named is the one that failed.
    """
    index = 0
    try:
        with open_bytes(path) as handle:
            head = handle.read(1)
            while head.isspace():
                head = handle.read(1)
            handle.seek(0)
            if head == b"[":
                for row in ijson.items(handle, "item", use_float=True):
                    yield index, row
                    index += 1
            elif head == b"{":
                for line in handle:
                    if not line.isspace():
                        yield index, orjson.loads(line)
                        index += 1
            else:
                raise RecordError(str(path), None, "", "a JSON list or JSON lines", repr(head) if head else "no data")
    except (ijson.JSONError, orjson.JSONDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise RecordError(str(path), index, "", "valid JSON", _short(str(error) or "an early end")) from error
    except OSError as error:
        raise RecordError(str(path), None, "", "a readable file", error.strerror or _short(str(error))) from error


def parse_record(row: Any, file: str, index: int) -> Sample:
    """A decoded JSON row as a `Sample`.

    Raises:
        RecordError: the row is of no known shape.
    """
    try:
        try:
            checked = _Row.model_validate(row)
        except ValidationError as error:
            raise _shape(error) from None
        return _sample(checked, file, index)
    except _Shape as shape:
        raise RecordError(file, index, shape.key, shape.expected, shape.found) from None


def _sample(row: _Row, file: str, index: int) -> Sample:
    name = row.qa_type.removesuffix("_gpt").removesuffix("_gemini")
    task = QA_TYPES.get(name)
    if task is None:
        raise _Shape("qa_type", f"one of {', '.join(QA_TYPES)} (with _gpt or _gemini)", row.qa_type)
    source = _source(row)
    if len(row.sampled_video_frames) != len(row.video):
        found = f"{len(row.sampled_video_frames)} numbers for {len(row.video)} frames"
        raise _Shape("sampled_video_frames", "one number for each entry of video", found)
    if any(b < a for a, b in zip(row.sampled_video_frames, row.sampled_video_frames[1:], strict=False)):
        raise _Shape("sampled_video_frames", "numbers that never decrease", row.sampled_video_frames)
    clip_start, clip_end, declared = _clip(row.metadata)
    speakers = [turn.speaker for turn in row.conversations]
    if speakers not in (["human"], ["human", "gpt"]):
        raise _Shape("conversations", "a human turn, then at most one gpt turn", speakers)
    question = row.conversations[0].value.replace("<video>", "").strip()
    if not question:
        raise _Shape("conversations.0.value", "a question", "no text beside <video>")
    answer, ground, flags = None, None, ()
    if len(row.conversations) == 2:
        answer = row.conversations[1].value
        answer, ground, flags = GROUND[task](answer, row.struc_info)
    region = None
    if task == "rc":
        if row.RC_info is None:
            raise _Shape("RC_info", "start_frame and start_frame_bbox of the region", row.RC_info)
        if row.RC_info.start_frame not in row.video:
            raise _Shape("RC_info.start_frame", "an element of video", row.RC_info.start_frame)
        region = (row.RC_info.start_frame, tuple(row.RC_info.start_frame_bbox))
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
        numbers=tuple(row.sampled_video_frames),
        clip_start=clip_start,
        clip_end=clip_end,
        declared=declared,
        question=question,
        answer=answer,
        ground=ground,
        region=region,
        flags=flags,
        extra=row.model_extra or {},
    )


def _source(row: _Row) -> str:
    names = {key: name.replace("-", "_") for key in ("data_source", "dataset_name") if (name := getattr(row, key))}
    if not names:
        raise _Shape("data_source", "a source here or in dataset_name", "neither")
    for key, name in names.items():
        if name not in SOURCES:
            raise _Shape(key, f"one of {', '.join(SOURCES)}", name)
    if len(set(names.values())) > 1:
        raise _Shape("dataset_name", f"the same source as data_source, {names['data_source']}", names["dataset_name"])
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
        raise _Shape("metadata", f"exactly one pair of bounds of {', '.join(pairs)}", list(given) or "none")
    ((key, (start, end)),) = given.items()
    if key != "input_video_start_time":
        return start, end, None
    bounds = _check(_Bounds, {"start": start, "end": end}, "metadata")
    return start, end, bounds.end - bounds.start


def _items(structure: Any) -> Any:
    """`struc_info` as a list; a lone dict counts as a list of one."""
    return [structure] if isinstance(structure, dict) else structure


def _first(structure: Any) -> Any:
    items = _items(structure)
    if not isinstance(items, list) or not items:
        raise _Shape("struc_info", "a list with an object", structure)
    return items[0]


def _from_text(task: str, answer: str) -> Any:
    parsed = PARSERS[task](answer)
    if parsed.format == 0:
        raise _Shape("conversations.1.value", f"an answer of the {task} grammar, or struc_info", answer)
    return parsed.value


def _near(left: Any, right: Any) -> bool:
    return len(left) == len(right) and all(abs(a - b) <= _ROUNDING for a, b in zip(left, right, strict=True))


_Ground = tuple[str, dict[str, Any], tuple[str, ...]]


def _tal(answer: str, structure: Any) -> _Ground:
    if structure is None:
        return answer, {"text": answer, "spans": [list(span) for span in _from_text("tal", answer)]}, ("from_text",)
    groups = _check(_GROUNDINGS, _items(structure), "struc_info")
    spans = [(span.start, span.end) for group in groups for span in group.spans]
    said = PARSERS["tal"](answer).value
    agree = len(said) == len(spans) and all(_near(a, b) for a, b in zip(sorted(said), sorted(spans), strict=True))
    ground = {"text": answer, "spans": [list(span) for span in spans]}
    return (answer, ground, ()) if agree else (render_tal(spans), ground, ("text_disagrees",))


def _stg(answer: str, structure: Any) -> _Ground:
    said = PARSERS["stg"](answer).value
    if structure is None:
        # Without the structure, the stride of the asked grid is what the answer's own times show.
        boxes = _from_text("stg", answer)
        times = sorted(boxes)
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        start, end, stride, thing, flags = times[0], times[-1], min(gaps, default=1.0), "", ["from_text"]
    else:
        items = _items(structure)
        shape = _check(_Boxes, _first(structure), "struc_info.0")
        boxes = {float(time): tuple(box) for time, box in shape.bbox_dict.items()}
        start, end, stride, thing = shape.start, shape.end, shape.stride, shape.object
        agree = _near(sorted(said), sorted(boxes)) and all(
            _near(said[a], boxes[b]) for a, b in zip(sorted(said), sorted(boxes), strict=True)
        )
        flags = [] if agree else ["text_disagrees"]
        if len(items) > 1:
            flags.append("more_than_one_object")
    if any(box[2] <= box[0] or box[3] <= box[1] for box in boxes.values()):
        flags.append("box_without_area")
    ground = {
        "text": answer,
        "boxes": {str(time): list(boxes[time]) for time in sorted(boxes)},
        "start": start,
        "end": end,
        "stride": stride,
        "object": thing,
    }
    return answer, ground, tuple(flags)


def _dvc(answer: str, structure: Any) -> _Ground:
    said: list[Event] = PARSERS["dvc"](answer).value
    if structure is None:
        events, flags = _from_text("dvc", answer), ("from_text",)
    else:
        segments = _items(structure)
        if isinstance(segments, list) and segments:
            if isinstance(segments[0], list):
                segments = segments[0]
            elif isinstance(segments[0], dict) and "dc_segments" in segments[0]:
                segments = segments[0]["dc_segments"]
        checked = _check(_SEGMENTS, segments, "struc_info")
        events = [Event(item.start, item.end, item.caption.strip()) for item in checked]
        agree = len(said) == len(events) and all(
            _near((a.start, a.end), (b.start, b.end)) for a, b in zip(said, events, strict=True)
        )
        flags = () if agree else ("text_disagrees",)
        if agree:
            # The text's captions are the ones to learn (NurViD's carry the action in front); its times are rounded.
            events = [Event(b.start, b.end, a.caption) for a, b in zip(said, events, strict=True)]
    ground = {"text": answer, "events": [{"start": e.start, "end": e.end, "caption": e.caption} for e in events]}
    return (render_dvc(events) if flags == ("text_disagrees",) else answer), ground, flags


def _cvs(answer: str, structure: Any) -> _Ground:
    if structure is None:
        scores, flags = _from_text("cvs", answer), ("from_text",)
    else:
        scores = _check(_Cvs, _first(structure), "struc_info.0").cvs_scores.model_dump()
        flags = () if PARSERS["cvs"](answer).value == scores else ("text_disagrees",)
    _all_named(scores, CVS_COMPONENTS)
    ground = {"text": answer, "scores": {key: scores[key] for key in CVS_COMPONENTS}}
    return (render_cvs(scores) if flags == ("text_disagrees",) else answer), ground, flags


def _sa(answer: str, structure: Any) -> _Ground:
    if structure is None:
        scores, flags = _from_text("sa", answer), ("from_text",)
    else:
        named = _check(_Skill, _first(structure), "struc_info.0").skill_scores
        names = {aspect.lower(): aspect for aspect in ASPECTS}
        scores = {names.get(key.replace("_", " ").strip().lower(), key): score for key, score in named.items()}
        flags = () if PARSERS["sa"](answer).value == {k: scores.get(k) for k in ASPECTS} else ("text_disagrees",)
    _all_named(scores, ASPECTS)
    ground = {"text": answer, "scores": {aspect: scores[aspect] for aspect in ASPECTS}}
    return (render_sa(scores) if flags == ("text_disagrees",) else answer), ground, flags


def _all_named(scores: dict[str, int], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in scores]
    if missing:
        raise _Shape("struc_info", f"scores for {', '.join(names)}", f"none for {', '.join(missing)}")


def _nap(answer: str, structure: Any) -> _Ground:
    return answer, {"text": answer, "label": _words(answer)}, ()


def _caption(answer: str, structure: Any) -> _Ground:
    _words(answer)
    return answer, {"text": answer}, ()


def _words(answer: str) -> str:
    words = " ".join(answer.split())
    if not words:
        raise _Shape("conversations.1.value", "an answer", "a blank")
    return words


GROUND: dict[str, Callable[[str, Any], _Ground]] = {
    "tal": _tal,
    "stg": _stg,
    "dvc": _dvc,
    "nap": _nap,
    "vs": _caption,
    "rc": _caption,
    "sa": _sa,
    "cvs": _cvs,
}
"""By task: (answer text, struc_info) to (answer to learn, ground truth, flags).

The structure decides over times, boxes and scores, the text over captions and the next action; where times or scores
disagree beyond rounding, the flag `text_disagrees` is set and the answer to learn is written anew from the structure.
"""
