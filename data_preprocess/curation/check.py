# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a copy of a source holds: what is there, what is missing, what is odd, and what is wrong. Writes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data_preprocess.curation.media import as_it_is
from data_preprocess.curation.model import Video
from data_preprocess.curation.sources import read
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.sources.settings import ReadSettings

# Missing files and errors are named up to this many; the rest is counted.
_NAMED = 10


def check(source: str, root: Path, settings: ReadSettings, frames: bool = False) -> tuple[Notes, Counter[str]]:
    """Reads everything; a wrong file is noted, and the others are still read.

    Args:
        source, root: what is read.
        settings: what the source leaves open.
        frames: whether its videos and folders of frames are looked at, too. No video is decoded.

    Returns:
        The notes, and counts of what the videos hold.
    """
    notes = Notes(keep_going=True)
    counts: Counter[str] = Counter()
    try:
        for video in read(source, root, settings, notes):
            counts.update(_counts(video))
            if frames and (seen := _seen(video, root, notes)) is not None:
                counts.update({"videos with pictures": 1, "frames in pictures": len(seen.numbers)})
    except SourceError as error:
        notes.errors.append(error)
    return notes, counts


def _seen(video: Video, root: Path, notes: Notes) -> Video | None:
    try:
        return as_it_is(video, root, notes)
    except SourceError as error:
        notes.errors.append(error)
        return None


def _counts(video: Video) -> Counter[str]:
    counts = Counter({"videos": 1, f"videos of split {video.split or '(none)'}": 1})
    counts["frames"] = len(video.numbers)
    counts["seconds"] = round(video.duration)
    counts.update(f"{run.kind} runs" for run in video.runs)
    counts["boxes"] = len(video.boxes)
    counts["scored stretches"] = len(video.scores)
    return counts


def report(source: str, root: Path, notes: Notes, counts: Counter[str]) -> str:
    """The findings as text: a heading for each of there, missing, odd and wrong, and a line for each finding."""
    read_from = [f"{what}: {count:,}" for what, count in sorted(notes.there.items())]
    held = [f"{what}: {count:,}" for what, count in counts.items() if count]
    odd = [f"{what}: {count:,} (such as {notes.examples[what]})" for what, count in notes.oddities.most_common()]
    parts = {
        "there": read_from + held,
        "missing": _few(notes.missing),
        "odd": odd,
        "wrong": _few([str(error) for error in notes.errors]),
    }
    lines = [f"{source} in {root}"]
    for heading, found in parts.items():
        lines += [f"{heading}:", *(f"  {line}" for line in found or ["nothing"])]
    return "\n".join(lines)


def _few(lines: list[str]) -> list[str]:
    return lines[:_NAMED] + ([f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else [])
