# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""AVOS: tables of actions and boxes in web videos of open surgery.

The table of actions gives seconds and frame numbers. Seconds are used, since the frames' rate is not published. The
table of boxes names pictures `<id>-<frame>.jpg`, where an id may hold `-`; their rate is what the video's rows say.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from data_preprocess.curation.model import Boxed, Run, Video
from data_preprocess.curation.sources.reading import Notes, SourceError, found, number, table, text
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.geometry import assumed_size
from reward_score.vocabularies import label_lists

NAME = "AVOS"
PROCEDURE = "open surgery"
_ACTIONS = tuple(label_lists()[NAME])
_NO_ACTION = ("background", "none", "abstain")
_CLASSES = ("hand", "bovie", "needledriver", "forceps")


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The videos of a copy of AVOS's tables; `root` is their folder."""
    runs: dict[str, list[Run]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    ends: dict[str, float] = defaultdict(float)
    for file in found(root, "*temporal_annotations*.csv", "the table of actions"):
        with notes.reading():
            _actions(file, runs, rates, ends, notes)
    boxes: dict[str, list[Boxed]] = defaultdict(list)
    for file in sorted(root.glob("*bboxes*.csv")):
        with notes.reading():
            _boxes(file, boxes, {video: statistics.median(found) for video, found in rates.items()}, notes)
    if not any(root.glob("*bboxes*.csv")):
        notes.lacks(str(root / "*bboxes*.csv"))
    splits = _splits(root, notes)
    for video in sorted(ends):
        seen = sorted(runs[video], key=lambda run: (run.start, run.end))
        overlaps = sum(later.start < earlier.end for earlier, later in zip(seen, seen[1:], strict=False))
        notes.odd("rows of actions that overlap the row before", video, overlaps)
        yield Video(
            source=NAME,
            video_id=video,
            rate=settings.avos_rate,
            first=0,
            numbers=range(int(ends[video] * settings.avos_rate) + 1),
            path=f"AVOS/frames_{settings.avos_rate:g}fps/{video.replace('%', '%%')}/%d.jpg",
            size=assumed_size(NAME),
            split=splits.get(video, ""),
            procedure=PROCEDURE,
            runs=tuple(seen),
            boxes=tuple(boxes.get(video, ())),
            labels={"action": _ACTIONS, "instrument": _CLASSES},
            media=f"videos/{video}.mp4",
        )


def _actions(
    file: Path,
    runs: dict[str, list[Run]],
    rates: dict[str, list[float]],
    ends: dict[str, float],
    notes: Notes,
) -> None:
    columns = ("video_id", "start_seconds", "end_seconds", "start_frame", "end_frame", "label")
    for line, row in table(file, columns):
        where = f"line {line}"
        start, end, _, last = (number(file, f"{where}, {name}", row[name]) for name in columns[1:5])
        label = row["label"].lower()
        if not 0 <= start <= end:
            raise SourceError(file, f"{where}, end_seconds", "an end at or after its start", f"{start} to {end}")
        if label not in (*_ACTIONS, *_NO_ACTION):
            raise SourceError(file, f"{where}, label", f"one of {', '.join((*_ACTIONS, *_NO_ACTION))}", row["label"])
        notes.there["rows of actions"] += 1
        video = row["video_id"]
        ends[video] = max(ends[video], end)
        if end > 0:
            rates[video].append(last / end)
        if label in _NO_ACTION:
            continue
        if start == end:
            notes.odd("actions without length are left out", f"{file}: {where}")
            continue
        runs[video].append(Run(start, end, label, "action"))


def _boxes(file: Path, boxes: dict[str, list[Boxed]], rates: dict[str, float], notes: Notes) -> None:
    for line, row in table(file, ("image_name", "x1", "y1", "x2", "y2", "class")):
        where = f"line {line}"
        # An id may hold hyphens: the frame stands behind the last one.
        video, hyphen, frame = row["image_name"].rsplit(".", 1)[0].rpartition("-")
        if not hyphen or not frame.isdigit():
            raise SourceError(file, f"{where}, image_name", "<id>-<frame>.jpg", row["image_name"])
        x1, y1, x2, y2 = (number(file, f"{where}, {name}", row[name]) for name in ("x1", "y1", "x2", "y2"))
        if x2 <= x1 or y2 <= y1:
            raise SourceError(file, where, "corners of a box, left before right, top before bottom", [x1, y1, x2, y2])
        if row["class"].lower() not in _CLASSES:
            raise SourceError(file, f"{where}, class", f"one of {', '.join(_CLASSES)}", row["class"])
        notes.there["boxes"] += 1
        if not rates.get(video):
            notes.odd("boxes of videos without actions are left out: their time is not known", f"{file}: {where}")
            continue
        boxes[video].append(Boxed(int(frame) / rates[video], (x1, y1, x2, y2), row["class"].lower()))


def _splits(root: Path, notes: Notes) -> dict[str, str]:
    found_in: dict[str, str] = {}
    for split in ("train", "test"):
        file = root / f"{split}.csv"
        if not file.is_file():
            notes.lacks(str(file))
            continue
        for line in text(file).splitlines()[1:]:
            if line.strip():
                found_in[line.split(",")[0].strip()] = split
    return found_in
