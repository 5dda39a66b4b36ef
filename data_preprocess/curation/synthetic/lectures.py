# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stand-ins for what is said in lectures: transcripts of the synthetic web videos, in sentences around their labels.

Nobody said them, and each file says so. They have what the real ones have: facts of four kinds, remarks that are none,
and pauses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_preprocess.atomic import written_whole
from data_preprocess.curation.model import Video
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.transcripts import Segment

SOURCES = ("AVOS", "NurViD")
"""The sources of web videos."""
NOTE = "NOTE synthetic: sentences around drawn labels, which nobody said; for tests and demonstrations alone"
_TOOLS = ("forceps", "scissors", "scalpel", "needle holder", "retractor", "suction cannula", "gauze", "syringe")
_PLACES = ("stomach", "spleen", "liver", "kidney", "uterus", "bowel", "omentum", "peritoneum", "gallbladder", "lung")
_STATES = ("bleeding", "torn", "swollen", "under tension", "dry", "hidden by fat", "cold", "inflamed")
_SEEN = (
    "Now the {tool} is held against the {place} for {label}.",
    "You see how the {place} is reached with the {tool} during {label}.",
    "With the {tool} the {place} is pushed aside, which belongs to {label}.",
)
_WHY = (
    "That is done because the {place} would otherwise be {state}.",
    "The {tool} is turned because the {place} is {state}.",
    "The assistant waits because the {place} became {state} a moment ago.",
)
_NEXT = (
    "Next the {place} will be covered with the {tool}.",
    "Next comes the {place}, which the {tool} has to hold.",
    "Next the {tool} will leave the {place} for good.",
)
_SO = (
    "So the {place} should be checked once more when it is {state}.",
    "So expect the {place} to be {state} tomorrow.",
    "So one should never pull the {place} while it is {state}.",
)
_BESIDE = ("Thank you for watching this far.", "The sound was better in the last recording.", "Let us take our time.")
_SENTENCE_S, _PAUSE_S = 5.0, 3.5


def speech(video: Video, scale: Scale) -> Iterator[Segment]:
    """What is said in a video: blocks of up to five sentences with pauses between them, from its second second on."""
    rng = random.Random(f"{scale.seed}/lecture/{video.source}/{video.video_id}")
    start = 2.0
    while start + 4 * _SENTENCE_S < video.duration:
        forms = [rng.choice(kind) for kind in (_SEEN, _WHY, _NEXT, _SO)]
        forms.insert(rng.randrange(5), rng.choice(_BESIDE))
        for form in forms:
            if start + _SENTENCE_S > video.duration:
                break
            going_on = [run.label for run in video.of_kind("action") if run.start <= start <= run.end]
            words = {"tool": rng.choice(_TOOLS), "place": rng.choice(_PLACES), "state": rng.choice(_STATES)}
            text = form.format(label=going_on[0].lower() if going_on else "the next step", **words)
            yield Segment(round(start, 1), round(start + _SENTENCE_S - 0.4, 1), text)
            start += _SENTENCE_S
        start += _PAUSE_S


def write_lectures(videos: Sequence[Video], folder: Path, scale: Scale) -> None:
    """A WebVTT file of each video, `folder/SOURCE/VIDEO.vtt`."""
    for video in videos:
        file = folder / video.source / f"{video.video_id}.vtt"
        file.parent.mkdir(parents=True, exist_ok=True)
        cues = [f"{_clock(one.start)} --> {_clock(one.end)}\n{one.text}\n" for one in speech(video, scale)]
        with written_whole(file, sync=False) as partial:
            partial.write_text("\n".join(["WEBVTT\n", f"{NOTE}\n", *cues]), encoding="utf-8")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
