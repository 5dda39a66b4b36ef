# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is said in a video: a schema that SRT, VTT and WhisperX's JSON are read into, and where a lecture is cut.

Times are video seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError

from data_preprocess.wording import short

TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_ARROW = re.compile(rf"\s*{TIME}\s+-->\s+{TIME}(?:\s.*)?")
_TAG = re.compile(r"<[^<>\n]*>|\{\\[^{}\n]*\}")


class TranscriptError(ValueError):
    """A transcript that cannot be read. The message names file, place and what was expected."""

    def __init__(self, path: Path, place: str, expected: str, found: Any) -> None:
        super().__init__(f"{path}: {place}: expected {expected}, found {short(found)}")


@dataclass(frozen=True)
class Word:
    """A word with its time, where the recogniser gave one."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Segment:
    """Something said without a break."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def moved(self, seconds: float) -> Segment:
        """The same, so many seconds later."""
        words = (replace(word, start=_tidy(word.start + seconds), end=_tidy(word.end + seconds)) for word in self.words)
        return Segment(_tidy(self.start + seconds), _tidy(self.end + seconds), self.text, tuple(words))


def _tidy(seconds: float) -> float:
    return round(seconds, 3)


class _Word(BaseModel):
    word: str
    start: FiniteFloat | None = None
    end: FiniteFloat | None = None


class _Segment(BaseModel):
    start: FiniteFloat
    end: FiniteFloat
    text: str
    words: list[_Word] = []


class _Transcript(BaseModel):
    segments: list[_Segment]


def read_transcript(path: Path) -> list[Segment]:
    """The segments of a file: ``.srt``, ``.vtt``, or ``.json`` as WhisperX and `transcribe` write it.

    Raises:
        TranscriptError: another ending, or what is in it is not of the form. OSError: it cannot be read.
    """
    path = Path(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise TranscriptError(path, "name", f"one that ends in {', '.join(READERS)}", path.name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TranscriptError(path, f"byte {error.start}", "UTF-8", "other bytes") from None
    segments = read(path, text.replace("\r\n", "\n").replace("\r", "\n"))
    for number, segment in enumerate(segments, 1):
        if not 0 <= segment.start <= segment.end:
            raise TranscriptError(path, f"segment {number}", "0 <= start <= end", f"{segment.start} to {segment.end}")
    return sorted((one for one in segments if one.text), key=lambda one: (one.start, one.end))


def _cues(path: Path, text: str) -> list[Segment]:
    """Blocks of lines, each with one line of times: SRT and VTT."""
    found = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        match = _ARROW.fullmatch(lines[at])
        at += 1
        if match is None:
            if "-->" in lines[at - 1]:
                raise TranscriptError(path, f"line {at}", "00:00:00.000 --> 00:00:00.000", lines[at - 1])
            continue
        said = []
        while at < len(lines) and lines[at].strip():
            said.append(_TAG.sub("", lines[at]))
            at += 1
        start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
        found.append(Segment(start, end, " ".join(" ".join(said).split())))
    if not found and text.strip().removeprefix("WEBVTT").strip():
        raise TranscriptError(path, "the file", "lines such as 00:00:01.000 --> 00:00:02.500", text.strip())
    return found


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _whisperx(path: Path, text: str) -> list[Segment]:
    try:
        found = _Transcript.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise TranscriptError(path, place, first["msg"].lower(), first["input"]) from None
    except (ValueError, RecursionError) as error:
        raise TranscriptError(path, "the file", "JSON", str(error)) from None
    return [
        Segment(
            one.start,
            one.end,
            " ".join(one.text.split()),
            # Words of digits alone have no time in WhisperX.
            tuple(Word(w.start, w.end, w.word.strip()) for w in one.words if w.start is not None and w.end is not None),
        )
        for one in found.segments
    ]


READERS: dict[str, Callable[[Path, str], list[Segment]]] = {".srt": _cues, ".vtt": _cues, ".json": _whisperx}


def transcript_of(folder: Path, name: str) -> Path | None:
    """The transcript of a video in a folder, whatever its form; None where there is none."""
    files = (folder / f"{name}{ending}" for ending in READERS)
    return next((file for file in files if file.is_file()), None)


def to_json(segments: Iterable[Segment]) -> str:
    """A transcript as `read_transcript` reads it."""
    listed = [
        {**one.as_dict(), "words": [{"word": w.text, "start": w.start, "end": w.end} for w in one.words]}
        for one in segments
    ]
    return json.dumps({"segments": listed}, ensure_ascii=False, indent=1) + "\n"


def cut_lecture(
    segments: Sequence[Segment],
    shots: Sequence[float] = (),
    *,
    shortest_s: float = 15.0,
    longest_s: float = 30.0,
    pause_s: float = 2.0,
) -> list[tuple[float, float]]:
    """(start, end) of clips of a lecture: neighbouring segments together, up to ``longest_s``.

    No clip goes over a pause of more than ``pause_s`` or over a shot's beginning. What stays shorter than
    ``shortest_s`` is left out: there is too little said or shown in it. A segment longer than ``longest_s`` is cut
    between its words, or else evenly.

    Args:
        segments: in order of time.
        shots: when new shots begin, in order.
    """
    clips: list[tuple[float, float]] = []
    spoken = [part for segment in segments for part in _between_pauses(segment, pause_s)]
    for start, end in _pieces(spoken, shots, longest_s):
        if clips:
            first, last = clips[-1]
            if start - last <= pause_s and end - first <= longest_s and not any(first < shot < end for shot in shots):
                clips[-1] = (first, max(last, end))
                continue
        clips.append((start, end))
    return [(start, end) for start, end in clips if end - start >= shortest_s]


def _between_pauses(segment: Segment, pause_s: float) -> Iterable[Segment]:
    """A segment in parts: a recogniser's segment may go on over a pause, which its words then tell."""
    begins = [0] if segment.words else []
    begins += [at for at, (last, next_) in enumerate(pairwise(segment.words), 1) if next_.start - last.end > pause_s]
    if len(begins) < 2:
        yield segment
        return
    for begin, end in zip(begins, [*begins[1:], len(segment.words)], strict=True):
        words = segment.words[begin:end]
        start = words[0].start if begin else segment.start
        stop = words[-1].end if end < len(segment.words) else segment.end
        yield replace(segment, start=start, end=stop, words=words)


def _pieces(segments: Sequence[Segment], shots: Sequence[float], longest_s: float) -> Iterable[tuple[float, float]]:
    """Segments as stretches of at most ``longest_s`` with no shot's beginning inside."""
    for segment in segments:
        start = segment.start
        for stop in [*(shot for shot in shots if segment.start < shot < segment.end), segment.end]:
            while stop - start > longest_s:
                words = [word.end for word in segment.words if start < word.end <= start + longest_s]
                end = max(words, default=start + longest_s)
                yield start, end
                start = end
            yield start, stop
            start = stop
