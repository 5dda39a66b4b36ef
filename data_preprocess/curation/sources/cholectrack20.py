# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CholecTrack20: `{Training,Validation,Testing}/VIDnn/vidNN.json`, boxes and tracks of instruments at 1 frame a second.

Frame numbers count 25 a second: 1, 26, 51 and so on, with holes. A box is left, top, width and height as shares of the
picture; a file that holds pixels instead is told by values above 1 and read as pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter

from data_preprocess.curation.model import Boxed, Run, Video
from data_preprocess.curation.sources.cholec import CANVAS, PHASES, PROCEDURE, TARGETS, VERBS
from data_preprocess.curation.sources.reading import Notes, SourceError, found, json_of, named
from data_preprocess.curation.sources.runs import runs_of
from data_preprocess.curation.sources.settings import ReadSettings
from reward_score.boxes import Box

NAME = "CholecTrack20"
RATE = 25
FOLDERS = {"Training": "train", "Validation": "val", "Testing": "test"}
# Shares of the picture overrun it by less than this; pixels are far above.
_LARGEST_SHARE = 1.5
# One carries the frame numbers of the other in the public release.
_CONFUSED = ("VID30", "VID31")


class _Instance(BaseModel):
    tool_bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    instrument: int
    operator: int = 0
    phase: int = -1
    verb: int = -1
    target: int = -1
    intraoperative_track: int = -1
    intracorporeal_track: int = -1
    visibility_track: int = -1


class _Category(BaseModel):
    id: int
    name: str


class _Categories(BaseModel):
    tools: list[_Category]
    operators: list[_Category] = []


class _Name(BaseModel):
    name: str


class _Labels(BaseModel):
    video: _Name
    categories: _Categories
    annotations: dict[str, list[_Instance]]


_SHAPE: TypeAdapter[Any] = TypeAdapter(_Labels)


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The videos of a copy of CholecTrack20; `root` is the folder with Training, Validation and Testing."""
    skipped = {name.strip() for name in settings.cholectrack20_skip.split(",")}
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            notes.lacks(str(root / folder))
    confused: dict[str, list[int]] = {}
    for file in found(root, "*/VID*/vid*.json", "label files"):
        name = file.parent.name
        if file.parents[1].name not in FOLDERS:
            notes.odd("label files in other folders than Training, Validation and Testing are left out", str(file))
            continue
        if name in skipped:
            notes.odd(f"{name} is left out, as cholectrack20_skip says", str(file))
            continue
        with notes.reading():
            notes.there["label files"] += 1
            video = _video(file, name, file.parents[1].name, settings, notes)
            if name in _CONFUSED:
                confused[name] = list(video.numbers)
                if len(confused) == len(_CONFUSED) and confused["VID30"] == confused["VID31"]:
                    raise SourceError(file, "annotations", "frame numbers of its own in VID31", "those of VID30")
            yield video


def _video(file: Path, name: str, folder: str, settings: ReadSettings, notes: Notes) -> Video:
    labels: _Labels = json_of(file, _SHAPE)
    if labels.video.name.upper() != name.upper():
        raise SourceError(file, "video.name", f"the folder's name, {name}", labels.video.name)
    tools = {tool.id: tool.name for tool in labels.categories.tools}
    operators = {operator.id: operator.name for operator in labels.categories.operators}
    frames = sorted((_frame(file, key), instances) for key, instances in labels.annotations.items())
    most = max((abs(value) for _, seen in frames for one in seen for value in one.tool_bbox), default=0.0)
    pixels = most > _LARGEST_SHARE
    if pixels:
        notes.odd("boxes in pixels instead of shares of the picture", str(file))
    phases: list[tuple[float, str]] = []
    seen_tools: list[tuple[float, str]] = []
    boxes: list[Boxed] = []
    for number, instances in frames:
        time, where = (number - 1) / RATE, f"annotations.{number}"
        said = {one.phase for one in instances if one.phase >= 0}
        if len(said) > 1:
            raise SourceError(file, where, "one phase in all instances of a frame", sorted(said))
        phase = named(file, where, said.pop(), dict(enumerate(PHASES))) if said else ""
        phases.append((time, phase))
        seen_tools.append((time, ""))
        for one in instances:
            label = named(file, f"{where}.instrument", one.instrument, tools)
            seen_tools.append((time, label))
            details = {
                "operator": operators.get(one.operator, ""),
                "phase": phase,
                "verb": VERBS[one.verb] if 0 <= one.verb < len(VERBS) else "",
                "target": TARGETS[one.target] if 0 <= one.target < len(TARGETS) else "",
            }
            track = getattr(one, f"{settings.cholectrack20_track}_track")
            said_of_it = {key: value for key, value in details.items() if value}
            box = _corners(file, f"{where}.tool_bbox", one.tool_bbox, pixels)
            boxes.append(Boxed(time, box, label, str(track) if track >= 0 else "", said_of_it))
    runs: list[Run] = [
        *runs_of(phases, "phase", settings.hole),
        *runs_of(seen_tools, "instrument", settings.hole),
    ]
    return Video(
        source=NAME,
        video_id=name,
        rate=float(RATE),
        first=1,
        numbers=[number for number, _ in frames],
        path=f"CAMMA_data/CholecTrack20/{folder}/{name}/Frames/%06d.png",
        size=CANVAS,
        split=FOLDERS[folder],
        procedure=PROCEDURE,
        runs=tuple(runs),
        boxes=tuple(boxes),
        labels={"phase": PHASES, "instrument": tuple(tools.values())},
        media=f"{folder}/{name}",
    )


def _frame(file: Path, key: str) -> int:
    if not key.isascii() or not key.isdigit() or int(key) % RATE != 1:
        raise SourceError(file, f"annotations.{key}", f"a frame number {RATE}k + 1", key)
    return int(key)


def _corners(file: Path, where: str, box: list[float], pixels: bool) -> Box:
    width, height = (1, 1) if pixels else CANVAS
    x, y, w, h = box
    if w <= 0 or h <= 0:
        raise SourceError(file, where, "a box with a width and a height", box)
    # The benchmark's boxes of this source are whole pixels.
    return round(x * width), round(y * height), round((x + w) * width), round((y + h) * height)
