# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a captioner is told of a clip: frames with what is drawn on them, the procedure, labels with times, speech.

Times are clip seconds. A context is data alone: no picture is opened to make one, and its key is that of its content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from data_preprocess.curation.captions import overlay
from data_preprocess.curation.captions.overlay import Mark
from data_preprocess.curation.model import Boxed, Clip
from data_preprocess.curation.settings import open_choice
from data_preprocess.curation.transcripts import Segment
from reward_score.boxes import Box

PAIRS = {
    "dvc": ("AVOS", "CholecT50", "CoPESD", "EgoSurgery", "NurViD"),
    "vs": ("CholecT50", "CoPESD"),
    "rc": ("CholecTrack20", "EgoSurgery"),
}
"""The sources of each task that needs captioners, as published."""
EVENT_KINDS = ("phase", "action", "gesture")
"""Labels that make events; the first kind that a clip has."""


@dataclass(frozen=True)
class ShowSettings:
    """How a clip is shown to captioners; none of it is published."""

    frames: int = open_choice(16, "frames of a clip that a captioner sees, up to: more cost more", least=1)
    longest_side: int = open_choice(768, "pixels of a frame's longer side, up to: what most models look at", least=32)
    regions: int = open_choice(1, "regions described in a clip, those that are seen longest")
    region_shortest: float = open_choice(4.0, "seconds for which a region has to be seen")
    described_shortest: float = open_choice(1.0, "seconds of the shortest event that is described; the rest are labels")


@dataclass(frozen=True)
class Labelled:
    """A label of the annotators over a stretch of time; `event`: it is one of those that a caption is wanted for."""

    start: float
    end: float
    kind: str
    text: str
    event: bool = False


@dataclass(frozen=True)
class Region:
    """A box to describe: the listed frame it is drawn on, its place, its label, and how long it is seen."""

    index: int
    box: Box
    label: str
    start: float
    end: float
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Shown:
    """A listed frame that is sent: its place in the list, its time, and what is drawn on it."""

    index: int
    time: float
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Context:
    """Everything that is shown and told about a clip for one task."""

    task: str
    clip: Clip
    shown: tuple[Shown, ...]
    labels: tuple[Labelled, ...] = ()
    region: Region | None = None
    speech: tuple[Segment, ...] = ()
    longest: int = 768
    known: tuple[str, ...] = field(default=(), repr=False)
    """All labels that the source and this video have."""

    @property
    def events(self) -> tuple[Labelled, ...]:
        """The labels that a caption is wanted for."""
        return tuple(label for label in self.labels if label.event)

    def as_dict(self) -> dict[str, Any]:
        """The context as JSON values, as its table keeps it."""
        video = self.clip.video
        return {
            "task": self.task,
            "source": video.source,
            "video_id": video.video_id,
            "fps": self.clip.fps,
            "numbers": list(self.clip.numbers),
            "procedure": video.procedure,
            "overlay": [overlay.VERSION, self.longest, list(video.size)],
            "shown": [asdict(frame) for frame in self.shown],
            "labels": [asdict(label) for label in self.labels],
            "region": self.region and asdict(self.region),
            "speech": [segment.as_dict() for segment in self.speech],
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def contexts(
    clip: Clip, settings: ShowSettings, speech: Sequence[Segment] = (), expert: bool = True
) -> Iterator[Context]:
    """The contexts of all tasks that this clip's source has captions for.

    Args:
        clip: what is described.
        settings: how it is shown.
        speech: what is said in the video, if it is a web video; video seconds.
        expert: False shows bare frames and tells nothing: the other arm of the human study.
    """
    source = clip.video.source
    listed = [label for labels in clip.video.labels.values() for label in labels]
    known = tuple(dict.fromkeys(text.replace(",", " ") for text in [*listed, *(run.label for run in clip.video.runs)]))
    heard = tuple(_heard(clip, speech)) if expert else ()
    labels = _labels(clip, settings)
    shared = {"speech": heard, "longest": settings.longest_side, "known": known}
    frames = _spread(range(len(clip.numbers)), settings.frames)
    if source in PAIRS["dvc"] and any(label.event for label in labels):
        yield Context("dvc", clip, _shown(clip, frames, expert), labels, **shared)  # type: ignore[arg-type]
    if source in PAIRS["vs"] and labels:
        plain = tuple(Labelled(one.start, one.end, one.kind, one.text) for one in labels)
        yield Context("vs", clip, _shown(clip, frames, expert), plain, **shared)  # type: ignore[arg-type]
    if source in PAIRS["rc"]:
        for region in _regions(clip, settings):
            seen = [at for at, time in enumerate(clip.times) if region.start <= time <= region.end]
            chosen = sorted({region.index, *_spread(seen, settings.frames)})
            near = tuple(one for one in labels if one.start <= region.end and one.end >= region.start)
            told = tuple(Labelled(one.start, one.end, one.kind, one.text) for one in near)
            yield Context("rc", clip, _shown(clip, chosen, expert, region), told, region, **shared)  # type: ignore[arg-type]


def _labels(clip: Clip, settings: ShowSettings) -> tuple[Labelled, ...]:
    """The clip's labels by time; described events count as labels, and those of the first kind there is are events."""
    least = settings.described_shortest
    found = [
        Labelled(one.start, one.end, "event", one.label or one.text, one.end - one.start >= least)
        for one in clip.events()
    ]
    for kind in (*EVENT_KINDS, "triplet", "instrument"):
        event = kind in EVENT_KINDS and not any(label.event for label in found)
        for run in clip.runs(kind):
            long = run.end - run.start >= least
            found.append(Labelled(run.start, run.end, kind, run.label.replace(",", " "), event and long))
    return tuple(sorted(found, key=lambda label: (label.start, label.end, label.kind, label.text)))


def _spread(items: Sequence[int], most: int) -> list[int]:
    """At most so many of some items, the first and the last among them, evenly apart."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[round(at * (len(items) - 1) / (most - 1))] for at in range(most)]


def _shown(clip: Clip, frames: Sequence[int], expert: bool, region: Region | None = None) -> tuple[Shown, ...]:
    boxes = clip.boxes() if expert else ()
    near = 0.25 / clip.video.rate
    found = []
    for at in frames:
        time = clip.times[at]
        marks = [Mark(one.box, one.label) for one in boxes if abs(one.time - time) <= near]
        if region is not None and at == region.index:
            marks = [mark for mark in marks if mark.box != region.box]
            marks.append(Mark(region.box, region.label if expert else "", region=True))
        found.append(Shown(at, round(time, 3), tuple(marks)))
    return tuple(found)


def _regions(clip: Clip, settings: ShowSettings) -> list[Region]:
    """The things that are seen longest without a break, with the first listed frame that shows them."""

    def thing(boxed: Boxed) -> tuple[str, str]:
        return boxed.label, boxed.track

    found = []
    for (label, _), group in groupby(sorted(clip.boxes(), key=lambda one: (*thing(one), one.time)), key=thing):
        found += [region for run in _unbroken(list(group), clip) if (region := _region(clip, label, run, settings))]
    found.sort(key=lambda region: (region.start - region.end, region.start, region.label))
    return sorted(found[: settings.regions], key=lambda region: region.start)


def _unbroken(boxes: list[Boxed], clip: Clip) -> Iterator[list[Boxed]]:
    """Cuts the boxes of a thing where it is not seen for more than two steps of the listed frames."""
    run: list[Boxed] = []
    for boxed in boxes:
        if run and boxed.time - run[-1].time > 2 / clip.fps + 1e-6:
            yield run
            run = []
        run.append(boxed)
    if run:
        yield run


def _region(clip: Clip, label: str, boxes: list[Boxed], settings: ShowSettings) -> Region | None:
    near = 0.25 / clip.video.rate
    by_time = {round(boxed.time, 3): boxed for boxed in boxes}
    for at, time in enumerate(clip.times):
        boxed = next((one for when, one in by_time.items() if abs(when - time) <= near), None)
        if boxed is not None:
            if boxes[-1].time - time < settings.region_shortest:
                return None
            details = tuple(sorted((name, text) for name, text in boxed.details.items() if text))
            return Region(at, boxed.box, label, round(time, 3), round(boxes[-1].time, 3), details)
    return None


def _heard(clip: Clip, speech: Sequence[Segment]) -> Iterator[Segment]:
    """What is said in the clip, in clip seconds."""
    for segment in speech:
        if segment.start < clip.end and segment.end > clip.start:
            yield segment.moved(-clip.start)
