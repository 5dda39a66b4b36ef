# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Cholec80-CVS: `cholec80-CVS.xlsx`, scores of the critical view of safety for stretches of 80 operations.

A row has the video, its first and last minute and second, and three scores of 0 to 2. Seconds of the sheet are seconds
of the video. `phase_annotations/videoNN-phase.txt` (Cholec80's own, 25 frames a second) says where clipping and cutting
begins, which is where scoring ends, and how long the video is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_preprocess.curation.model import Run, Scores, Video
from data_preprocess.curation.sources.cholec import CANVAS, PHASES, PROCEDURE
from data_preprocess.curation.sources.reading import Notes, SourceError, integer, named, sheet, table
from data_preprocess.curation.sources.runs import runs_of
from data_preprocess.curation.sources.settings import ReadSettings
from reward_score.answers import CVS_COMPONENTS, CVS_RANGE

NAME = "Cholec80_CVS"
RATE = 25
WORKBOOK = "cholec80-CVS.xlsx"
_TEST = {5, 6, 7, 9, 14, 22, 24, 26, 29, 33, 35, 39, 53, 55, 61}
_VALIDATION = {1, 2, 10, 16, 17, 28, 32, 46, 47, 57, 59, 63, 65, 67, 70}
_PHASE_NAMES = dict(
    zip(
        (
            "Preparation",
            "CalotTriangleDissection",
            "ClippingCutting",
            "GallbladderDissection",
            "GallbladderPackaging",
            "CleaningCoagulation",
            "GallbladderRetraction",
        ),
        PHASES,
        strict=True,
    )
)
_CLIPPING = "clipping-and-cutting"


def split_of(video: int) -> str:
    """The official split of a video."""
    return "test" if video in _TEST else "val" if video in _VALIDATION else "train"


def read(root: Path, settings: ReadSettings, notes: Notes) -> Iterator[Video]:
    """The videos of a copy of Cholec80-CVS; `root` is the folder with the workbook."""
    scored = _rows(root / WORKBOOK, notes)
    for video in sorted(scored):
        with notes.reading():
            yield _video(root, video, scored[video], settings, notes)


def _rows(file: Path, notes: Notes) -> dict[int, list[tuple[int, Scores]]]:
    """By video, the sheet's rows: (row of the sheet, scores)."""
    if not file.is_file():
        raise SourceError(file, "", "the workbook of the scores", "no such file")
    lines = sheet(file)
    _, names = next(lines, (1, []))
    header = ["_".join(str(name or "").lower().split()) for name in names]
    wanted = ["video", "initial_minute", "initial_second", "final_minute", "final_second", *CVS_COMPONENTS]
    if lacking := [name for name in wanted if name not in header]:
        raise SourceError(file, "row 1", f"a column {lacking[0]}", ", ".join(header) or "an empty sheet")
    scored: dict[int, list[tuple[int, Scores]]] = {}
    for number, cells in lines:
        if all(cell is None for cell in cells):
            continue
        values: dict[str, Any] = dict(zip(header, cells, strict=False))

        def whole(name: str, low: int, high: int | None = None, *, at: int = number, of: Any = values) -> int:
            return integer(file, f"row {at}, {name}", of.get(name), low, high)

        with notes.reading():
            video = whole("video", 1, 80)
            start = whole("initial_minute", 0) * 60 + whole("initial_second", 0)
            end = whole("final_minute", 0) * 60 + whole("final_second", 0)
            points = {name: whole(name, *CVS_RANGE) for name in CVS_COMPONENTS}
            notes.there["rows of the sheet"] += 1
            if end < start:
                notes.odd("rows that end before they start are left out", f"{file}: row {number}")
                scored.setdefault(video, [])
                continue
            scored.setdefault(video, []).append((number, Scores(start, end, points)))
    return scored


def _video(root: Path, video: int, rows: list[tuple[int, Scores]], settings: ReadSettings, notes: Notes) -> Video:
    file = root / WORKBOOK
    phase_file = root / "phase_annotations" / f"video{video:02d}-phase.txt"
    runs: list[Run] = []
    frames = int(max((scores.end for _, scores in rows), default=0)) * RATE + 1
    if phase_file.is_file():
        notes.there["phase files"] += 1
        runs, frames = _phases(phase_file, settings)
    else:
        notes.lacks(str(phase_file))
    last = (frames - 1) / RATE
    clipping = min((run.start for run in runs if run.label == _CLIPPING), default=last)
    limit = clipping if settings.cvs_until_clipping == "yes" else last
    scored = []
    for number, scores in sorted(rows, key=lambda row: row[1].start):
        if scores.start >= limit:
            notes.odd("rows after clipping and cutting began are left out", f"{file}: row {number}")
            continue
        if scores.end > limit:
            notes.odd("rows that pass the first frame of clipping and cutting end there", f"{file}: row {number}")
        scored.append(Scores(scores.start, min(scores.end, limit), scores.values))
    if settings.cvs_unscored == "zero":
        scored += _unscored(scored, limit)
    return Video(
        source=NAME,
        video_id=f"video{video:02d}",
        rate=float(RATE),
        first=0,
        numbers=range(frames),
        path=f"Cholec80_CVS/frames/video{video:02d}/%06d.jpg",
        size=CANVAS,
        split=split_of(video),
        procedure=PROCEDURE,
        runs=tuple(runs),
        scores=tuple(sorted(scored, key=lambda scores: (scores.start, scores.end))),
        labels={"phase": PHASES},
        media=f"videos/video{video:02d}.mp4",
    )


def _phases(file: Path, settings: ReadSettings) -> tuple[list[Run], int]:
    """The phases of a video, and its number of frames."""
    labelled: list[tuple[float, str]] = []
    said, phase = "", ""
    for line, row in table(file, ("Frame", "Phase"), "\t"):
        # Every frame of hours of video has a line: only what changes is looked at closely.
        if row["Frame"] != str(len(labelled)):
            frame = integer(file, f"line {line}, Frame", row["Frame"], 0)
            if frame != len(labelled):
                raise SourceError(file, f"line {line}, Frame", f"every frame from 0, here {len(labelled)}", frame)
        if row["Phase"] != said:
            said, phase = row["Phase"], named(file, f"line {line}, Phase", row["Phase"], _PHASE_NAMES)
        labelled.append((len(labelled) / RATE, phase))
    if not labelled:
        raise SourceError(file, "", "a phase for every frame", "no frame")
    return runs_of(labelled, "phase", settings.hole), len(labelled)


def _unscored(scored: list[Scores], limit: float) -> list[Scores]:
    """Zeros for the time to `limit` that no row covers."""
    zeros = dict.fromkeys(CVS_COMPONENTS, 0)
    gaps, reached = [], 0.0
    for scores in sorted(scored, key=lambda scores: scores.start):
        # A sheet's next row begins in the second after the last one's.
        if scores.start - reached > 1:
            gaps.append(Scores(reached, scores.start, zeros))
        reached = max(reached, scores.end)
    return [*gaps, Scores(reached, limit, zeros)] if limit - reached > 1 else gaps
