# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NurViD: `annotations/NurViD_annotations.json`, timed actions of nursing procedures in web videos.

Ids of the JSON count from 1. Their English names stand in a workbook whose ids count from 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat, StringConstraints, TypeAdapter

from data_preprocess.curation.model import Run, Video
from data_preprocess.curation.sources.reading import Notes, SourceError, found, integer, json_of, named, sheet, table
from data_preprocess.curation.sources.settings import ReadSettings
from reward_score.vocabularies import label_lists

NAME = "NurViD"
# Columns of the workbook, from 0: procedure id and name, action id and name.
_PROCEDURE, _ACTION = (0, 2), (6, 8)
_SPLITS = ("train", "val", "test")


class _Segment(BaseModel):
    actionID: int
    segment: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]


class _Entry(BaseModel):
    operationID: int
    annotations: list[_Segment]
    duration: Annotated[FiniteFloat, Field(gt=0)]
    resolution: Annotated[str, StringConstraints(pattern=r"^[0-9]+[xX][0-9]+$")]


_SHAPE: TypeAdapter[Any] = TypeAdapter(dict[str, _Entry])


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The videos of a copy of NurViD's annotations; `root` is the folder that holds `annotations`."""
    (file, *_) = found(root, "**/NurViD_annotations.json", "the annotations")
    (book, *_) = found(root, "**/*Action_ID.xlsx", "the workbook of names, Procedure&Action_ID.xlsx")
    procedures, actions = _names(book)
    entries: dict[str, _Entry] = json_of(file, _SHAPE)
    notes.there["videos"] += len(entries)
    splits = _splits(root, entries, notes)
    done: dict[int, dict[str, None]] = defaultdict(dict)
    for entry in entries.values():
        for segment in entry.annotations:
            if segment.actionID in actions:
                done[entry.operationID].setdefault(actions[segment.actionID])
    for video, entry in entries.items():
        with notes.reading():
            procedure = named(file, f"{video}.operationID", entry.operationID, procedures)
            # The benchmark's own list where it has one: rare actions are not in it.
            known = label_lists().get(f"{NAME}: {procedure}", tuple(done[entry.operationID]))
            runs = _runs(file, video, entry, actions, notes)
            width, height = (int(side) for side in entry.resolution.lower().split("x"))
            if not width * height:
                raise SourceError(file, f"{video}.resolution", "a width and a height", entry.resolution)
            yield Video(
                source=NAME,
                video_id=video,
                rate=settings.nurvid_rate,
                first=0,
                numbers=range(int(entry.duration * settings.nurvid_rate) + 1),
                path=f"NurViD/frames_{settings.nurvid_rate:g}fps/{video.replace('%', '%%')}/%06d.jpg",
                size=(width, height),
                split=splits.get(video, ""),
                procedure=procedure,
                runs=tuple(runs),
                labels={"action": tuple(known)},
                media=f"videos/{video}.mp4",
            )


def _names(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Procedures and actions by the ids of the JSON."""
    procedures: dict[int, str] = {}
    actions: dict[int, str] = {}
    lines = sheet(file, header_rows=2)
    next(lines, None)
    for number, cells in lines:
        cells += [None] * (_ACTION[1] + 1 - len(cells))
        for names, (at, name) in ((procedures, _PROCEDURE), (actions, _ACTION)):
            if cells[at] is None:
                continue
            if not isinstance(cells[name], str) or not cells[name].strip():
                raise SourceError(file, f"row {number}, column {name + 1}", "an English name", cells[name])
            # The workbook counts from 0, the JSON from 1.
            names[integer(file, f"row {number}, column {at + 1}", cells[at], 0) + 1] = " ".join(cells[name].split())
    return procedures, actions


def _runs(file: Path, video: str, entry: _Entry, actions: Mapping[int, str], notes: Notes) -> list[Run]:
    runs = []
    starts = [segment.segment[0] for segment in entry.annotations]
    if starts != sorted(starts):
        notes.odd("lists of segments that are not in order of time", f"{file}: {video}")
    for at, segment in enumerate(entry.annotations):
        where = f"{video}.annotations.{at}"
        label = named(file, f"{where}.actionID", segment.actionID, actions)
        start, end = segment.segment
        if start < 0 or end < start:
            raise SourceError(file, f"{where}.segment", "an end at or after the start, from 0", segment.segment)
        if start >= entry.duration:
            notes.odd("segments after the video's end are left out", f"{file}: {where}")
            continue
        if end > entry.duration:
            notes.odd("segments that pass the video's end are cut there", f"{file}: {where}")
            end = entry.duration
        if start == end:
            notes.odd("segments without length are left out", f"{file}: {where}")
            continue
        runs.append(Run(start, end, label, "action"))
    runs.sort(key=lambda run: (run.start, run.end, run.label))
    overlaps = sum(later.start < earlier.end for earlier, later in zip(runs, runs[1:], strict=False))
    notes.odd("segments that overlap the one before", f"{file}: {video}", overlaps)
    return runs


def _splits(root: Path, entries: Mapping[str, _Entry], notes: Notes) -> dict[str, str]:
    """Each video's split by the lists of whole videos; lists of segments (task 2) share videos across splits."""
    splits: dict[str, str] = {}
    for file in sorted(root.rglob("*.csv")):
        split = next((name for name in _SPLITS if name in file.stem.lower()), "")
        if not split:
            continue
        for line, row in table(file, ("path-label",)):
            # `/video_path/<id>.mp4 n`; an id may hold underscores, and so may the name of a segment.
            video = row["path-label"].split()[0].rsplit("/", 1)[-1].rsplit(".", 1)[0]
            if video in entries:
                if splits.setdefault(video, split) != split:
                    raise SourceError(file, f"line {line}", f"{video} in one split", f"it in {splits[video]} as well")
            elif video.rpartition("_")[0] in entries:
                notes.odd("lists of segments are left out: they share videos across splits", str(file))
                break
            else:
                notes.odd("split lists name videos without annotations", f"{file}: line {line}")
    if not splits:
        notes.lacks(str(root / "*train*.csv"))
    return splits
