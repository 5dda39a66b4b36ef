# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CoPESD: conversations about single pictures of an endoscopic dissection; boxes stand in the answers' text.

`Forceps[0.10, 0.20, 0.35, 0.60] lift, Knife[...] hold.` has boxes as shares of the picture's *long side*, 1306 pixels,
on both axes. Some folders hold left, top, right and bottom, another one left, top, width and height: the boxes of a
folder tell which.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter

from data_preprocess.curation.model import Boxed, Video
from data_preprocess.curation.sources.reading import Notes, SourceError, json_of
from data_preprocess.curation.sources.runs import runs_of
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.geometry import CANVASES
from reward_score.boxes import Box
from reward_score.vocabularies import label_lists, same_label

NAME = "CoPESD"
LONG_SIDE = 1306
PROCEDURE = "endoscopic submucosal dissection"
_PICTURE = re.compile(r"(?:.*/)?([0-9]{6})/([0-9]{4})\.jpg\Z")
_BOX = re.compile(r"\b(Forceps|Knife)\s?\[([^\[\]]*)\]\s{0,3}([A-Za-z]*)")
_SPLITS = {"train": "train", "val": "val", "test": "test"}
# What rounding to two decimals may carry a corner beyond the picture.
_ROUNDING = 0.011
# The picture's lower edge in shares of the long side.
_LOWEST = CANVASES[NAME][1] / LONG_SIDE

# The built-in rules: words of the instruction, and which instruments have a box, say the action. First match wins.
_RULES: tuple[tuple[str, str, str], ...] = (
    (r"camera|field of view|endoscope", "", "adjust camera"),
    (r"\b(?:dissect|cut|incis)", "", "dissect flap tissue with knife"),
    (r"\b(?:lift|rais)", "", "lift flap with forceps"),
    (r"\b(?:retract|pull)", "Knife", "retract flap edge with forceps and knife"),
    (r"\b(?:retract|pull)", "", "retract flap edge with forceps only"),
    (r"\b(?:hold|stabili[sz]e|steady)", "", "stabilize flap with forceps"),
    (r"\b(?:position|manipulat|plac|grasp)", "Knife", "position flap with forceps and knife"),
    (r"\b(?:position|manipulat|plac|grasp)", "", "position flap with forceps only"),
)


class _Turn(BaseModel):
    speaker: Literal["human", "gpt"] = Field(alias="from")
    value: str


class _Row(BaseModel):
    conversations: Annotated[list[_Turn], Field(min_length=2, max_length=2)]
    image: str


_SHAPE: TypeAdapter[Any] = TypeAdapter(list[_Row])


class _Picture(NamedTuple):
    """One row: where it stands, the instruction, and (instrument, four numbers) of each box."""

    file: Path
    where: str
    instruction: str
    boxes: list[tuple[str, list[float]]]


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The folders of pictures as videos; `root` holds the JSON files, in it or below it."""
    actions = _mapping(settings.copesd_actions)
    files = sorted(path for path in root.rglob("*.json") if not path.name.startswith("."))
    if not files:
        raise SourceError(root, "", "JSON files of conversations (smllm_*.json)", "no such file")
    folders: dict[str, dict[int, _Picture]] = defaultdict(dict)
    splits: dict[str, str] = {}
    for file in files:
        with notes.reading():
            notes.there["conversation files"] += 1
            for folder, number, picture in _pictures(file):
                if number in folders[folder]:
                    raise SourceError(file, picture.where, "each picture once", f"{folder}/{number:04d}.jpg again")
                folders[folder][number] = picture
                splits[folder] = next((name for word, name in _SPLITS.items() if word in file.stem), "")
    for folder in sorted(folders):
        with notes.reading():
            yield _video(folder, folders[folder], splits[folder], actions, settings, notes)


def _mapping(path: str) -> Mapping[str, str] | None:
    """Instruction to action from a user's file; None for the built-in rules."""
    if not path:
        return None
    file = Path(path)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("actions")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceError(file, "", "a TOML file with a table [actions]", str(error)) from None
    known = label_lists()[NAME]
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise SourceError(file, "actions", "a table of texts, instruction = action", table)
    for instruction, action in table.items():
        if action not in known:
            raise SourceError(file, f"actions.{instruction}", f"one of {', '.join(known)}", action)
    return table


def _pictures(file: Path) -> Iterator[tuple[str, int, _Picture]]:
    row: _Row
    for at, row in enumerate(json_of(file, _SHAPE)):
        match = _PICTURE.fullmatch(row.image.replace("\\", "/"))
        if match is None:
            raise SourceError(file, f"{at}.image", "a path that ends with 6 digits/4 digits.jpg", row.image)
        boxes = []
        for instrument, numbers, _ in _BOX.findall(row.conversations[1].value):
            try:
                values = [float(value) for value in numbers.split(",")]
            except ValueError:
                values = []
            if len(values) != 4:
                raise SourceError(file, f"{at}.conversations.1.value", "four numbers in a box", f"[{numbers}]")
            boxes.append((instrument, values))
        yield match[1], int(match[2]), _Picture(file, str(at), row.conversations[0].value.strip(), boxes)


def _video(
    folder: str,
    pictures: Mapping[int, _Picture],
    split: str,
    actions: Mapping[str, str] | None,
    settings: ReadSettings,
    notes: Notes,
) -> Video:
    corners = _holds_corners(folder, pictures, notes)
    rate = settings.copesd_rate
    labelled: list[tuple[float, str]] = []
    boxes: list[Boxed] = []
    for number in sorted(pictures):
        picture = pictures[number]
        time = (number - 1) / rate
        action = action_of(picture.instruction, [name for name, _ in picture.boxes], actions)
        if not picture.boxes:
            notes.odd("pictures without a box", f"{picture.file}: {picture.where}")
        elif not action:
            notes.odd("instructions that no rule maps to an action", f"{picture.file}: {picture.instruction[:60]}")
        labelled.append((time, action))
        boxes += [Boxed(time, _pixels(values, corners), name.lower()) for name, values in picture.boxes]
    return Video(
        source=NAME,
        video_id=folder,
        rate=rate,
        first=1,
        numbers=sorted(pictures),
        path=f"CoPESD/high_light_images/{folder}/%04d.jpg",
        size=CANVASES[NAME],
        split=split,
        procedure=PROCEDURE,
        runs=tuple(runs_of(labelled, "action", settings.hole)),
        boxes=tuple(boxes),
        labels={"action": tuple(label_lists()[NAME]), "instrument": ("forceps", "knife")},
        media=f"high_light_images/{folder}",
    )


def action_of(instruction: str, instruments: Sequence[str], actions: Mapping[str, str] | None = None) -> str:
    """The benchmark's action for an instruction; empty where none is known.

    Args:
        instruction: the human turn.
        instruments: those that have a box in the picture.
        actions: a user's own mapping, which then is all that counts.
    """
    if actions is not None:
        return actions.get(instruction, "")
    if not instruments:
        return ""
    plain = instruction.rstrip(".").lower()
    for label in label_lists()[NAME]:
        if same_label(plain, label, NAME):
            return label
    for words, needed, label in _RULES:
        if re.search(words, plain) and (not needed or needed in instruments):
            return label
    return ""


def _holds_corners(folder: str, pictures: Mapping[int, _Picture], notes: Notes) -> bool:
    """Whether a folder's boxes are corners; else they are left, top, width and height.

    Raises:
        SourceError: they are neither.
    """
    fits_corners = fits_sides = True
    last: _Picture | None = None
    for picture in pictures.values():
        for _, (a, b, c, d) in picture.boxes:
            fits_corners &= c > a and d > b
            fits_sides &= a + c <= 1 + _ROUNDING and b + d <= _LOWEST + _ROUNDING and c > 0 and d > 0
            if not fits_corners and not fits_sides:
                raise SourceError(
                    picture.file,
                    picture.where,
                    f"boxes of folder {folder} in one form, all corners or all sides",
                    [a, b, c, d],
                )
            last = picture
    if last is not None and fits_corners and fits_sides:
        notes.odd("folders whose boxes may be corners or sides; read as corners", f"{last.file}: {folder}")
    elif last is not None and fits_sides:
        notes.odd("folders with boxes as left, top, width, height", f"{last.file}: {folder}")
    return fits_corners


def _pixels(values: list[float], corners: bool) -> Box:
    a, b, c, d = values
    box = (a, b, c, d) if corners else (a, b, a + c, b + d)
    x1, y1, x2, y2 = (round(value * LONG_SIDE, 2) for value in box)
    return x1, y1, x2, y2
