# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a source says of a video, whatever its files look like.

Two clocks and no third one: times of a `Video` are *video seconds*, 0 where the video begins; times of a `Clip` are
*clip seconds*, 0 at its first listed frame. Frame numbers are *native*: those that MedVidBench's file names carry.
Boxes are (left, top, right, bottom) in pixels of the video's annotation canvas, `Video.size`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from data_preprocess.geometry import Size
from reward_score.boxes import Box

KINDS = ("phase", "action", "gesture", "triplet", "instrument")
"""What the label of a run may be: a phase of the operation, an action, a gesture, `instrument,verb,target`, or the
name of an instrument that is seen."""

SPLITS = ("train", "val", "test", "")
"""A source's own splits; the empty name where it has none or does not place the video."""


@dataclass(frozen=True, slots=True)
class Run:
    """One label over a stretch of time, both its ends included: the seconds of its first and its last frame."""

    start: float
    end: float
    label: str
    kind: str

    def between(self, start: float, end: float) -> Run:
        """The same label over another stretch."""
        return Run(start, end, self.label, self.kind)


@dataclass(frozen=True, slots=True)
class Event:
    """A described stretch of time: an annotator's own words, and the label behind them if there is one."""

    start: float
    end: float
    text: str
    label: str = ""

    def between(self, start: float, end: float) -> Event:
        """The same text over another stretch."""
        return Event(start, end, self.text, self.label)


Timed = TypeVar("Timed", Run, Event)


@dataclass(frozen=True, slots=True)
class Boxed:
    """A thing in one frame.

    `track` tells it from other things of the same label through the video; it is empty where the source has no tracks,
    and then the label is all there is. `details` are further labels of the box: `operator`, `verb`, `target`, `phase`.
    """

    time: float
    box: Box
    label: str
    track: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a stretch of time: the critical view's components 0 to 2, or the skill aspects 1 to 5.

    Names are those of `reward_score.answers` (`CVS_COMPONENTS`, `ASPECTS`). `level` is the surgeon's: N, I or E.
    """

    start: float
    end: float
    values: Mapping[str, int]
    level: str = ""


@dataclass(frozen=True)
class Video:
    """One video of a source with everything its annotators say of it.

    Args:
        source: one of `geometry.SOURCES`.
        video_id: as MedVidBench writes it.
        rate: native frames a second.
        first: the native number of the frame at 0 seconds.
        numbers: native numbers of the frames there are, rising; they may have holes.
        path: the frames' names as MedVidBench lists them, with one `%d` or its like for the number.
        size: (width, height) of the annotation canvas.
        split: one of `SPLITS`.
        procedure: the kind of operation in words, for questions and captioners.
        labels: all labels that the annotators chose from, by kind; in their order.
        media: the video file or frame folder below the source's root; empty where the source names none.
    """

    source: str
    video_id: str
    rate: float
    first: int
    numbers: Sequence[int]
    path: str
    size: Size
    split: str = ""
    procedure: str = ""
    runs: tuple[Run, ...] = ()
    events: tuple[Event, ...] = ()
    boxes: tuple[Boxed, ...] = ()
    scores: tuple[Scores, ...] = ()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    media: str = ""

    def seconds(self, number: int) -> float:
        """Video seconds of a native frame."""
        return (number - self.first) / self.rate

    @cached_property
    def duration(self) -> float:
        """Video seconds of the last frame there is; 0 without frames."""
        return self.seconds(self.numbers[-1]) if self.numbers else 0.0

    def of_kind(self, kind: str) -> tuple[Run, ...]:
        """The runs of one of `KINDS`, in order of time."""
        return self._by_kind.get(kind, ())

    @cached_property
    def _by_kind(self) -> dict[str, tuple[Run, ...]]:
        found: dict[str, list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: (run.start, run.end)):
            found.setdefault(run.kind, []).append(run)
        return {kind: tuple(runs) for kind, runs in found.items()}

    @cached_property
    def _box_times(self) -> list[float]:
        return [boxed.time for boxed in self._boxes]

    @cached_property
    def _boxes(self) -> tuple[Boxed, ...]:
        return tuple(sorted(self.boxes, key=lambda boxed: boxed.time))

    def boxes_between(self, start: float, end: float) -> tuple[Boxed, ...]:
        """The boxes from `start` to `end` video seconds, both included, in order of time."""
        return self._boxes[bisect_left(self._box_times, start) : bisect_right(self._box_times, end)]


@dataclass(frozen=True)
class Clip:
    """A part of a video: the frames that a row lists.

    Args:
        video: what it is cut from.
        fps: the sampling rate, frames a second, as the row's `metadata` states it.
        numbers: native numbers of the listed frames, rising.
    """

    video: Video
    fps: float
    numbers: tuple[int, ...]

    @cached_property
    def start(self) -> float:
        """Video seconds of the first listed frame."""
        return self.video.seconds(self.numbers[0])

    @cached_property
    def end(self) -> float:
        """Video seconds of the last listed frame."""
        return self.video.seconds(self.numbers[-1])

    @property
    def duration(self) -> float:
        """Seconds from the first to the last listed frame."""
        return self.end - self.start

    @cached_property
    def paths(self) -> list[str]:
        """The listed files, below a frames root."""
        # One formatting for the whole list: most of the time of a large set goes into these names.
        return ("\n".join([self.video.path] * len(self.numbers)) % self.numbers).split("\n")

    @cached_property
    def times(self) -> list[float]:
        """Clip seconds of the listed frames."""
        first, rate = self.numbers[0], self.video.rate
        return [(number - first) / rate for number in self.numbers]

    def runs(self, kind: str) -> tuple[Run, ...]:
        """The video's runs of a kind that reach into the clip, cut to it, in clip seconds."""
        return tuple(self._inside(self.video.of_kind(kind)))

    def events(self) -> tuple[Event, ...]:
        """The video's events that reach into the clip, cut to it, in clip seconds and order of time."""
        return tuple(self._inside(sorted(self.video.events, key=lambda event: (event.start, event.end))))

    def boxes(self) -> tuple[Boxed, ...]:
        """The video's boxes in the clip, in clip seconds."""
        begin = self.start
        return tuple(
            [
                Boxed(one.time - begin, one.box, one.label, one.track, one.details)
                for one in self.video.boxes_between(begin, self.end)
            ]
        )

    def _inside(self, items: Sequence[Timed]) -> Iterator[Timed]:
        for item in items:
            if item.start <= self.end and item.end >= self.start:
                start, end = max(item.start, self.start) - self.start, min(item.end, self.end) - self.start
                yield item.between(round(start, 6), round(end, 6))
