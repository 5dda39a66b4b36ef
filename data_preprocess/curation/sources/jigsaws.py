# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""JIGSAWS: trials of three exercises on a robot, each with gestures and six scores of skill.

`meta_file_<Task>.txt` has no header, tabs with empty columns, and a blank last line: its fields are what stands between
white space. `transcriptions/<Trial>.txt` has first and last frame (from 1, 30 a second, both included) and a gesture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_preprocess.curation.model import Run, Scores, Video
from data_preprocess.curation.sources.reading import Notes, SourceError, found, integer, named, text
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.geometry import NATIVE_SIZES
from reward_score.answers import ASPECTS, SA_RANGE

NAME = "JIGSAWS"
RATE = 30
TASKS = ("Suturing", "Needle_Passing", "Knot_Tying")
LEVELS = ("N", "I", "E")
GESTURES = {
    "G1": "reach for the needle with the right hand",
    "G2": "position the needle",
    "G3": "push the needle through the tissue",
    "G4": "hand the needle over from left to right",
    "G5": "move to the centre with the needle",
    "G6": "pull the suture with the left hand",
    "G7": "pull the suture with the right hand",
    "G8": "orient the needle",
    "G9": "tighten the suture with the right hand",
    "G10": "loosen more suture",
    "G11": "drop the suture and move to the end",
    "G12": "reach for the needle with the left hand",
    "G13": "make a loop around the right hand",
    "G14": "reach for the suture with the right hand",
    "G15": "pull the suture with both hands",
}


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The trials of a copy of JIGSAWS, a video for each camera; `root` holds the folders of the three exercises."""
    cameras = [camera.strip() for camera in settings.jigsaws_cameras.split(",")]
    for task in TASKS:
        if not (root / task).is_dir():
            notes.lacks(str(root / task))
    for file in found(root, "*/meta_file_*.txt", "meta files"):
        notes.there["meta files"] += 1
        for at, line in enumerate(text(file).splitlines(), 1):
            if line.strip():
                with notes.reading():
                    yield from _trial(file, at, line.split(), cameras, notes)


def _trial(file: Path, at: int, fields: list[str], cameras: list[str], notes: Notes) -> Iterator[Video]:
    where = f"line {at}"
    if len(fields) != 3 + len(ASPECTS):
        raise SourceError(file, where, f"trial, level, total and {len(ASPECTS)} scores", f"{len(fields)} fields")
    trial, level, total, *points = fields
    task = trial.rpartition("_")[0]
    if task not in TASKS or task != file.parent.name:
        raise SourceError(file, where, f"a trial of {file.parent.name}", trial)
    if level not in LEVELS:
        raise SourceError(file, where, f"one of {', '.join(LEVELS)}", level)
    scores = {
        aspect: integer(file, f"{where}, {aspect}", value, *SA_RANGE)
        for aspect, value in zip(ASPECTS, points, strict=True)
    }
    if integer(file, f"{where}, total", total) != sum(scores.values()):
        raise SourceError(file, f"{where}, total", f"the sum of the scores, {sum(scores.values())}", total)
    notes.there["trials"] += 1
    runs = _gestures(file.parent / "transcriptions" / f"{trial}.txt", notes)
    frames = _frames(file.parent / "kinematics" / "AllGestures" / f"{trial}.txt", notes)
    frames = max([frames, *(round(run.end * RATE) + 1 for run in runs)])
    if not frames:
        notes.odd("trials of unknown length are left out: neither kinematics nor gestures", f"{file}: {where}")
        return
    for camera in cameras:
        name = f"{trial}_capture{camera}"
        yield Video(
            source=NAME,
            video_id=name,
            rate=float(RATE),
            first=1,
            numbers=range(1, frames + 1),
            path=f"JIGSAWS_frames/{name}/%06d.jpg",
            size=NATIVE_SIZES[NAME],
            procedure=f"{task.replace('_', ' ').lower()} on a bench-top model with a surgical robot",
            runs=tuple(runs),
            scores=(Scores(0.0, (frames - 1) / RATE, scores, level),),
            labels={"gesture": tuple(GESTURES.values())},
            media=f"{task}/video/{name}.avi",
        )


def _gestures(file: Path, notes: Notes) -> list[Run]:
    if not file.is_file():
        notes.lacks(str(file))
        return []
    runs = []
    for at, line in enumerate(text(file).splitlines(), 1):
        if not line.strip():
            continue
        where = f"line {at}"
        fields = line.split()
        if len(fields) != 3:
            raise SourceError(file, where, "first frame, last frame, gesture", line)
        first = integer(file, where, fields[0], 1)
        last = integer(file, where, fields[1], first)
        runs.append(Run((first - 1) / RATE, (last - 1) / RATE, named(file, where, fields[2], GESTURES), "gesture"))
    return runs


def _frames(file: Path, notes: Notes) -> int:
    """Frames of a trial: lines of its kinematics; 0 where the file is missing or, as one of the release, empty."""
    if not file.is_file():
        notes.lacks(str(file))
        return 0
    count = sum(1 for line in text(file).splitlines() if line.strip())
    if not count:
        notes.odd("empty kinematics; the trial ends with its last gesture", str(file))
    return count
