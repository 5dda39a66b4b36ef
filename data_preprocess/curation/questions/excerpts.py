# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Excerpts of lectures: clips of 15 to 30 seconds of videos whose words are known, and what is said in each."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_preprocess.curation.clips import ClipSettings, Cutter
from data_preprocess.curation.model import Clip, Video
from data_preprocess.curation.settings import open_choice
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.transcripts import Segment, cut_lecture, read_transcript, transcript_of

# A recogniser's times are no more exact than this.
_SLACK_S = 0.5


@dataclass(frozen=True)
class ExcerptSettings:
    """How lectures are cut; LLaVA-Surg is recalled to have clips of 15 to 30 s, the rest is not published."""

    excerpt_rate: float = open_choice(
        1.0, "frames a second of an excerpt, or the video's own if it has fewer", least=0.1
    )
    excerpt_shortest: float = open_choice(15.0, "seconds of an excerpt, from", least=1)
    excerpt_longest: float = open_choice(30.0, "seconds of an excerpt, up to", least=1)
    pause: float = open_choice(2.0, "seconds of silence that no excerpt goes over")


@dataclass(frozen=True)
class Excerpt:
    """A clip and what is said in it, in clip seconds."""

    clip: Clip
    said: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """What is said, a segment a line."""
        return "\n".join(segment.text for segment in self.said)

    def seconds(self, start: int, end: int) -> tuple[float, float]:
        """Clip seconds from the first to the last segment that characters `start` to `end` of `text` lie in."""
        times, at = [], 0
        for segment in self.said:
            if at < end and at + len(segment.text) > start:
                times += [segment.start, segment.end]
            at += len(segment.text) + 1
        return round(max(0.0, min(times)), 1), round(min(self.clip.duration, max(times)), 1)

    def as_dict(self) -> dict[str, Any]:
        """The excerpt as JSON values, as its table keeps it."""
        video = self.clip.video
        return {
            "source": video.source,
            "video_id": video.video_id,
            "fps": self.clip.fps,
            "numbers": list(self.clip.numbers),
            "procedure": video.procedure,
            "said": [{"start": one.start, "end": one.end, "text": one.text} for one in self.said],
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def excerpts(video: Video, folder: Path, settings: ExcerptSettings) -> Iterator[Excerpt]:
    """The excerpts of a video; none where it has no transcript or no frames.

    Args:
        video: of any source.
        folder: has `SOURCE/VIDEO.json`, `.srt` or `.vtt`. `SOURCE/VIDEO.clips.csv`, which `curate.py transcribe`
            writes, says where it is cut; without it, it is cut at pauses.
        settings: of the cuts.

    Raises:
        TranscriptError, SourceError: a file of another form.
    """
    file = transcript_of(folder / video.source, video.video_id)
    if file is None or not video.numbers:
        return
    speech = read_transcript(file)
    cuts = folder / video.source / f"{video.video_id}.clips.csv"
    cutter = Cutter(video, ClipSettings(), 0)
    for start, end in _cuts(cuts) if cuts.is_file() else _at_pauses(speech, settings):
        clip = cutter.cut(start, end, min(settings.excerpt_rate, cutter.own_rate))
        if clip is not None and (said := _said(speech, start, end)):
            yield Excerpt(clip, tuple(one.moved(-clip.start) for one in said))


def _at_pauses(speech: Sequence[Segment], settings: ExcerptSettings) -> list[tuple[float, float]]:
    shortest, longest = settings.excerpt_shortest, settings.excerpt_longest
    return cut_lecture(speech, shortest_s=shortest, longest_s=longest, pause_s=settings.pause)


def _cuts(file: Path) -> list[tuple[float, float]]:
    with open(file, newline="", encoding="utf-8") as handle:
        rows = csv.DictReader(handle)
        found = []
        for row in rows:
            try:
                start, end = float(row["start"]), float(row["end"])
            except (KeyError, TypeError, ValueError):
                start, end = 0.0, -1.0
            if not 0 <= start < end < float("inf"):
                raise SourceError(file, f"line {rows.line_num}", "start and end in seconds, start < end", dict(row))
            found.append((start, end))
    return found


def _said(speech: Sequence[Segment], start: float, end: float) -> list[Segment]:
    """What is said between two times. Of a segment that passes them the words that do not, if words have times."""
    found = []
    for segment in speech:
        if segment.start >= start - _SLACK_S and segment.end <= end + _SLACK_S:
            found.append(segment)
        elif words := [word for word in segment.words if word.start >= start and word.end <= end]:
            text = " ".join(word.text for word in words)
            found.append(Segment(words[0].start, words[-1].end, text, tuple(words)))
    return found
