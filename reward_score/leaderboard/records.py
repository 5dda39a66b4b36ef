# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the evaluator reads in a record before it looks at the answer: its tasks, its frame rate, its dataset.

A record is in the merged format: ``metadata`` (``video_id``, ``fps``), ``qa_type``, ``struc_info``, ``question``,
``gnd``, ``answer``, ``data_source``. Functions here and in the neighbouring modules raise what Python raises for a
record that they cannot read (``TypeError``, ``KeyError``, ...), at the places where the evaluator does; ``scoring``
turns that into the package's error.

Surprises: a task is recognised by a part of ``qa_type``; a missing dataset is guessed from the video's id and the
question, with other rules for each task; an empty ``data_source`` is a dataset of its own for events only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

VOCABULARY: dict[str, Any] = json.loads(Path(__file__).with_name("vocabulary.json").read_text(encoding="utf-8"))

# In place of a possessive group, `(...)?+`, which Python before 3.11.5 reads wrongly (gh-106052).
NUMBER = r"\d++(?:\.\d++|(?!\.\d))"
"""Digits of any script, a dot only with digits on both sides. Possessive: nothing that may follow begins with one."""
START = r"(?<!\d)"
"""Before NUMBER: no second try from the middle of a run of digits, which would fail again, in quadratic time."""


def is_task(task: str, qa_type: str) -> bool:
    """Whether the evaluator counts a record of this ``qa_type`` to a task."""
    if task in ("cvs_assessment", "skill_assessment"):
        return qa_type == task
    if task == "dvc":
        return "dc" in qa_type or "dense_captioning" in qa_type
    return task in qa_type


def starts_task(task: str, qa_type: str) -> bool:
    """Whether a record of this ``qa_type`` makes the evaluator run the task at all, over all its records."""
    if task in ("tal", "stg", "next_action"):
        return qa_type == task
    return is_task(task, qa_type)


def frame_rate(record: Record) -> tuple[Any, str]:
    """The factor on all times, and the name of the record's group.

    A missing rate is 1, text is read as a number, null stays null: it is an error only where something is multiplied.
    """
    fps = record.get("fps", record.get("metadata", {}).get("fps", 1.0))
    fps = float(fps) if isinstance(fps, str) else fps
    return fps, f"fps_{fps}"


Test = Callable[[str, str], bool]
"""Whether a video's id and a question, both in lower case, tell a dataset."""


def _asked(*words: str) -> Test:
    return lambda video, question: any(word in question for word in words)


def _filmed(*words: str) -> Test:
    return lambda video, question: any(word in video for word in words)


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


_AVOS = ("AVOS", lambda video, question: len(video) == 11 and any(map(str.isalpha, video)))
_COPESD = ("CoPESD", lambda video, question: "_part" in video and video.replace("_part", "").split("_")[0].isdigit())
_NURVID = ("NurViD", _filmed("nur", "nursing", "medical"))
_TRIALS = ("knot_tying", "needle_passing", "suturing")
_CUTS = ("cutting", "tying", "suturing")
_KNIFE = ("CoPESD", lambda video, question: "forceps" in question and "knife" in question)
_BY_VIDEO = (_AVOS, _COPESD, ("CholecT50", lambda video, question: "video" in video and _has_digit(video)), _NURVID)
_BY_QUESTION = (
    *(("AVOS", _asked("avos")), ("CoPESD", _asked("copesd")), ("CholecT50", _asked("cholec"))),
    *(("NurViD", _asked("nurvid", "nursing")), ("AVOS", _asked(*_CUTS)), _KNIFE),
)
_GUESSES: dict[str, tuple[tuple[str, Test], ...]] = {
    "dvc": (_AVOS, ("CoPESD", _filmed("_part")), ("CholecT50", _filmed("video"))),
    "cvs_assessment": (
        ("Cholec80_CVS", lambda video, question: re.fullmatch(r"video\d+", video) is not None),
        *_BY_VIDEO,
        (
            "Cholec80_CVS",
            _asked("cholec80-cvs", "strasberg", "critical view", "cvs", "cystic plate", "hepatocystic triangle"),
        ),
        *_BY_QUESTION,
    ),
    "skill_assessment": (
        ("jigsaws", lambda video, question: "_b" in video and any(trial in video for trial in _TRIALS)),
        *_BY_VIDEO,
        (
            "jigsaws",
            _asked("robotic bench-top", "knot-tying", "needle-passing", "suturing", "surgical technique"),
        ),
        *_BY_QUESTION,
    ),
    "next_action": (
        ("AVOS", _asked("avos")),
        ("CoPESD", _asked("copesd")),
        ("CholecT50", _asked("cholect50", "cholec-t50")),
        ("CholecTrack20", _asked("cholectrack20", "cholec-track20")),
        ("Cholec80-CVS", _asked("cholec80-cvs", "critical view of safety")),
        ("JIGSAWS", _asked("jigsaws", "robotic bench-top")),
        ("NurViD", _asked("nurvid", "nursing")),
        ("CholecTrack20", _asked("laparoscopic cholecystectomy")),
        ("AVOS", lambda video, question: "open surgery" in question and any(cut in question for cut in _CUTS)),
        *(_KNIFE, _AVOS, _COPESD),
        ("CholecTrack20", lambda video, question: video.startswith("vid") and _has_digit(video)),
        ("JIGSAWS", _filmed(*_TRIALS)),
        _NURVID,
    ),
}
"""By task the datasets that a record is guessed to be of, with the test of each; the first that holds counts."""


def _guess(task: str, video: str, question: str = "") -> str:
    return next((name for name, holds in _GUESSES[task] if holds(video.lower(), question.lower())), "Unknown")


def dataset(task: str, record: Record) -> Any:
    """The dataset that a record is filed under, for a task whose column depends on it.

    Raises:
        Exception: no ``metadata.video_id`` where the task asks for one, or no text where text is searched.
    """
    source = record.get("data_source")
    if task == "dvc":
        if "data_source" not in record:
            source = record.get("dataset", record.get("dataset_name", record.get("metadata", {}).get("dataset")))
            source = "Unknown" if source is None else source
        if source != "Unknown":
            return source
        return _guess(task, record.get("video_id") or record.get("metadata", {}).get("video_id", ""))
    named = source and source != "Unknown"
    if named and task == "next_action":
        return source
    video = record["metadata"]["video_id"]  # an assessment without one is lost, whatever its source
    return source if named else _guess(task, video, record.get("question", ""))
