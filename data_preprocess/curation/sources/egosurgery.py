# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""EgoSurgery: phases (`annotations/phase/NN_k.csv`) and boxes (COCO files) of open surgery, from the surgeon's head.

Pictures are `NN_k_nnnn.jpg`: operation, recording, number from 1 at half a frame a second. Numbers are missing here and
there. Ids differ from box file to box file, so pictures are joined by their base names and classes by their names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter

from data_preprocess.curation.model import Boxed, Video
from data_preprocess.curation.sources.reading import Notes, SourceError, found, json_of, table
from data_preprocess.curation.sources.runs import runs_of
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.geometry import CANVASES

NAME = "EgoSurgery"
PROCEDURE = "open surgery seen from the surgeon's head"
PHASES = (
    "disinfection",
    "design",
    "anesthesia",
    "incision",
    "dissection",
    "hemostasis",
    "irrigation",
    "closure",
    "dressing",
)
_PHASE_SPLITS = {"train": (1, 2, 3, 4, 8, 9, 11, 13, 14, 15, 17, 20, 21), "val": (5, 19), "test": (6, 7, 10, 12, 18)}
_TOOL_SPLITS = {"train": (1, 2, 3, 6, 8, 11, 12, 13, 14, 15), "val": (9, 10), "test": (4, 5, 7)}
_STEM = re.compile(r"([0-9]{2}_[0-9]+)_([0-9]{4})")
# Numbers of classes: 15 tools, 4 hands, 38 of everything.
_HANDS, _TOOLS = 4, 15


class _Image(BaseModel):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]


class _Category(BaseModel):
    id: int
    name: str


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: Annotated[list[_Category], Field(min_length=1)]


_SHAPE: TypeAdapter[Any] = TypeAdapter(_Coco)
_Boxes = dict[str, dict[int, dict[Any, Boxed]]]


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The recordings of a copy of EgoSurgery; `root` is the folder that holds `annotations`."""
    phases: dict[str, list[tuple[int, str]]] = {}
    for file in found(root, "annotations/phase/*_*.csv", "phase files"):
        with notes.reading():
            notes.there["phase files"] += 1
            phases[file.stem] = _phases(file, notes)
    boxes: _Boxes = defaultdict(lambda: defaultdict(dict))
    classes = _all_boxes(root, boxes, settings, notes)
    for recording in sorted(set(phases) | set(boxes)):
        numbers = sorted({number for number, _ in phases.get(recording, ())} | set(boxes[recording]))
        labels = dict(phases.get(recording, ()))
        rate = settings.egosurgery_rate
        labelled = [((number - 1) / rate, labels.get(number, "")) for number in numbers]
        if len(numbers) <= numbers[-1] - numbers[0]:
            notes.odd("recordings with missing numbers", recording)
        if numbers[0] > 1:
            notes.odd("recordings that begin after number 1", recording)
        surgery = int(recording.split("_")[0])
        splits = {
            name: next((split for split, videos in table.items() if surgery in videos), "")
            for name, table in (("phase", _PHASE_SPLITS), ("tool", _TOOL_SPLITS))
        }
        if splits["phase"] and splits["tool"] and splits["phase"] != splits["tool"]:
            notes.odd("recordings that the phase split and the box split place differently", recording)
        yield Video(
            source=NAME,
            video_id=recording,
            rate=rate,
            first=1,
            numbers=numbers,
            path=f"EgoSurgery/images/{recording.split('_')[0]}/{recording}_%04d.jpg",
            size=CANVASES[NAME],
            split=splits[settings.egosurgery_split],
            procedure=PROCEDURE,
            runs=tuple(runs_of(labelled, "phase", settings.hole)),
            boxes=tuple(box for number in numbers for box in boxes[recording].get(number, {}).values()),
            labels={"phase": PHASES, "instrument": tuple(classes)},
            media=f"images/{recording.split('_')[0]}",
        )


def _number_of(file: Path, where: str, name: str) -> tuple[str, int]:
    """Recording and number of a picture's base name."""
    match = _STEM.fullmatch(name)
    if match is None or int(match[2]) < 1:
        raise SourceError(file, where, "a picture NN_k_nnnn, numbered from 1", name)
    return match[1], int(match[2])


def _phases(file: Path, notes: Notes) -> list[tuple[int, str]]:
    rows: dict[int, str] = {}
    for line, row in table(file, ("Frame", "Phase")):
        recording, number = _number_of(file, f"line {line}, Frame", row["Frame"].removesuffix(".jpg"))
        if recording != file.stem:
            raise SourceError(file, f"line {line}, Frame", f"a picture of {file.stem}", row["Frame"])
        phase = row["Phase"].lower()
        if phase not in PHASES:
            raise SourceError(file, f"line {line}, Phase", f"one of {', '.join(PHASES)}", row["Phase"])
        if rows.setdefault(number, phase) != phase:
            raise SourceError(file, f"line {line}, Phase", f"one phase for {row['Frame']}, {rows[number]}", phase)
    if not rows:
        raise SourceError(file, "", "rows of Frame and Phase", "none")
    return sorted(rows.items())


def _all_boxes(root: Path, boxes: _Boxes, settings: ReadSettings, notes: Notes) -> dict[str, None]:
    """Fills in the boxes of the wanted files; returns the names of their classes in order."""
    files: dict[str, list[tuple[Path, _Coco]]] = defaultdict(list)
    for file in sorted((root / "annotations").rglob("*.json")):
        with notes.reading():
            coco: _Coco = json_of(file, _SHAPE)
            count = len(coco.categories)
            files["hand" if count <= _HANDS else "tool" if count <= _TOOLS else "all"].append((file, coco))
            notes.there["box files"] += 1
    wanted: tuple[str, ...] = (settings.egosurgery_boxes,)
    if settings.egosurgery_boxes == "auto":
        wanted = ("all",) if files["all"] else ("tool", "hand")
    classes: dict[str, None] = {}
    for kind in wanted:
        if not files[kind]:
            notes.lacks(f"{root / 'annotations'}: a box file of kind {kind}")
        for file, coco in files[kind]:
            with notes.reading():
                classes |= dict.fromkeys(category.name for category in coco.categories)
                _boxes_of(file, coco, boxes, settings, notes)
    return classes


def _boxes_of(file: Path, coco: _Coco, boxes: _Boxes, settings: ReadSettings, notes: Notes) -> None:
    names = {category.id: category.name for category in coco.categories}
    places: dict[int, tuple[str, int]] = {}
    for at, image in enumerate(coco.images):
        where = f"images.{at}"
        places[image.id] = _number_of(file, where, image.file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0])
        if (image.width, image.height) != CANVASES[NAME]:
            raise SourceError(file, where, "a picture of {}x{}".format(*CANVASES[NAME]), [image.width, image.height])
    for at, annotation in enumerate(coco.annotations):
        where = f"annotations.{at}"
        if annotation.image_id not in places:
            raise SourceError(file, f"{where}.image_id", "an id of images", annotation.image_id)
        if annotation.category_id not in names:
            raise SourceError(file, f"{where}.category_id", "an id of categories", annotation.category_id)
        x, y, w, h = annotation.bbox
        if w <= 0 or h <= 0:
            raise SourceError(file, f"{where}.bbox", "a box with a width and a height", annotation.bbox)
        recording, number = places[annotation.image_id]
        name, corners = names[annotation.category_id], (round(x), round(y), round(x + w), round(y + h))
        there = boxes[recording][number]
        if (name, corners) in there:
            notes.odd("boxes that two files or two rows name are read once", f"{file}: {where}")
        there[name, corners] = Boxed((number - 1) / settings.egosurgery_rate, corners, name)
