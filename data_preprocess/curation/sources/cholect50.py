# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CholecT50: `labels/VIDnn.json`, one list of 15-number vectors for each second of an operation.

A vector holds the ids of a triplet (0), an instrument (1), a verb (7), a target (8) and a phase (14), a score and a
box of the tool (2, 3 to 6) and of the target (9, 10 to 13); -1 is none. Boxes are left, top, width and height as
shares of the picture; in the public release all of them are -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter

from data_preprocess.curation.model import Boxed, Run, Video
from data_preprocess.curation.sources.cholec import CANVAS, PHASES, PROCEDURE
from data_preprocess.curation.sources.reading import Notes, SourceError, found, json_of, named
from data_preprocess.curation.sources.runs import runs_of
from data_preprocess.curation.sources.settings import ReadSettings

NAME = "CholecT50"
_VALIDATION = {8, 12, 29, 50, 78}
_TEST = {6, 10, 14, 32, 42, 51, 73, 74, 80, 111}
# Triplets from here on name an instrument that does nothing.
_FIRST_NULL = 94
_TRIPLET, _TOOL, _BOX, _PHASE = 0, 1, slice(3, 7), 14

_Vector = Annotated[list[FiniteFloat], Field(min_length=15, max_length=15)]


class _Labels(BaseModel):
    video: int
    fps: FiniteFloat = 1
    num_frames: int
    categories: dict[str, dict[str, str]]
    annotations: dict[str, list[_Vector]]


_SHAPE: TypeAdapter[Any] = TypeAdapter(_Labels)


def split_of(video: int) -> str:
    """The original split of a video."""
    return "val" if video in _VALIDATION else "test" if video in _TEST else "train"


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The videos of a copy of CholecT50; `root` is the folder with `labels`."""
    for file in found(root, "labels/VID*.json", "label files"):
        with notes.reading():
            notes.there["label files"] += 1
            yield _video(root, file, settings, notes)


def _video(root: Path, file: Path, settings: ReadSettings, notes: Notes) -> Video:
    labels: _Labels = json_of(file, _SHAPE)
    if labels.fps != 1:
        raise SourceError(file, "fps", "1 frame a second", labels.fps)
    name = f"VID{labels.video:02d}"
    if name != file.stem:
        raise SourceError(file, "video", f"the number in the file's name, {file.stem}", labels.video)
    ids = {kind: {int(key): value for key, value in entries.items()} for kind, entries in labels.categories.items()}
    for kind in ("phase", "instrument", "triplet"):
        if kind not in ids:
            raise SourceError(file, "categories", f"an entry {kind}", ", ".join(ids))
    try:
        frames = sorted((int(key), vectors) for key, vectors in labels.annotations.items())
    except ValueError:
        raise SourceError(file, "annotations", "frame numbers as keys", list(labels.annotations)[:3]) from None
    if len(frames) != labels.num_frames:
        notes.odd("num_frames is not the number of annotated frames", str(file))
    runs, boxes = _of_frames(file, frames, ids, settings, notes)
    return Video(
        source=NAME,
        video_id=name,
        rate=1.0,
        first=0,
        numbers=[number for number, _ in frames],
        path=f"CAMMA_data/CholecT50/videos/{name}/%06d.png",
        size=CANVAS,
        split=split_of(labels.video),
        procedure=PROCEDURE,
        runs=tuple(runs),
        boxes=tuple(boxes),
        labels={"phase": PHASES, "instrument": tuple(ids["instrument"].values())},
        media=f"videos/{name}",
    )


def _of_frames(
    file: Path,
    frames: list[tuple[int, list[list[float]]]],
    ids: Mapping[str, Mapping[int, str]],
    settings: ReadSettings,
    notes: Notes,
) -> tuple[list[Run], list[Boxed]]:
    phases: list[tuple[float, str]] = []
    tools: list[tuple[float, str]] = []
    triplets: list[tuple[float, str]] = []
    boxes: list[Boxed] = []
    for number, vectors in frames:
        where = f"annotations.{number}"
        if not vectors:
            raise SourceError(file, where, "at least one vector, of -1 where nothing is done", "none")
        said = {int(vector[_PHASE]) for vector in vectors}
        if len(said) > 1:
            raise SourceError(file, where, "one phase in all vectors of a frame", sorted(said))
        phases.append((number, named(file, where, said.pop(), ids["phase"])))
        tools.append((number, ""))
        triplets.append((number, ""))
        for vector in vectors:
            tool = int(vector[_TOOL])
            if tool < 0:
                continue
            label = named(file, where, tool, ids["instrument"])
            tools.append((number, label))
            if 0 <= vector[_TRIPLET] < _FIRST_NULL:
                triplets.append((number, named(file, where, int(vector[_TRIPLET]), ids["triplet"])))
            x, y, w, h = vector[_BOX]
            if min(x, y, w, h) >= 0 and w * h > 0:
                width, height = CANVAS
                corners = (x * width, y * height, (x + w) * width, (y + h) * height)
                boxes.append(Boxed(number, corners, label))
            else:
                notes.odd("instruments without a box (all are -1 in the public release)", f"{file}: {where}")
    runs = [
        *runs_of(phases, "phase", settings.hole),
        *runs_of(tools, "instrument", settings.hole),
        *runs_of(triplets, "triplet", settings.hole),
    ]
    return runs, boxes
