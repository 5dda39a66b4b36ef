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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

VOCABULARY: dict[str, Any] = json.loads(Path(__file__).with_name("vocabulary.json").read_text(encoding="utf-8"))

NUMBER = r"\d++(?:\.\d++)?+"
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


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _any_of(text: str, *words: str) -> bool:
    return any(word in text for word in words)


def _is_avos(video: str) -> bool:
    return len(video) == 11 and any(character.isalpha() for character in video)


def _is_copesd(video: str) -> bool:
    return "_part" in video and video.replace("_part", "").split("_")[0].isdigit()


def _is_nurvid(video: str) -> bool:
    return _any_of(video, "nur", "nursing", "medical")


def _guess_events(video: str) -> str:
    if _is_avos(video):
        return "AVOS"
    if "_part" in video:
        return "CoPESD"
    return "CholecT50" if "video" in video else "Unknown"


_CVS_WORDS = ("cholec80-cvs", "strasberg", "critical view", "cvs", "cystic plate", "hepatocystic triangle")
_SKILL_WORDS = ("robotic bench-top", "knot-tying", "needle-passing", "suturing", "surgical technique")


def _guess_assessment(task: str, video: str, question: str) -> str:
    if task == "cvs_assessment" and re.fullmatch(r"video\d+", video):
        return "Cholec80_CVS"
    if task == "skill_assessment" and _any_of(video, "knot_tying", "suturing", "needle_passing") and "_b" in video:
        return "jigsaws"
    if _is_avos(video):
        return "AVOS"
    if _is_copesd(video):
        return "CoPESD"
    if "video" in video and _has_digit(video):
        return "CholecT50"
    if _is_nurvid(video):
        return "NurViD"
    if task == "cvs_assessment":
        if _any_of(question, *_CVS_WORDS):
            return "Cholec80_CVS"
    elif _any_of(question, *_SKILL_WORDS):
        return "jigsaws"
    for word, name in (("avos", "AVOS"), ("copesd", "CoPESD"), ("cholec", "CholecT50")):
        if word in question:
            return name
    if _any_of(question, "nurvid", "nursing"):
        return "NurViD"
    if _any_of(question, "cutting", "tying", "suturing"):
        return "AVOS"
    return "CoPESD" if "forceps" in question and "knife" in question else "Unknown"


_ACTION_WORDS = (
    (("avos",), "AVOS"),
    (("copesd",), "CoPESD"),
    (("cholect50", "cholec-t50"), "CholecT50"),
    (("cholectrack20", "cholec-track20"), "CholecTrack20"),
    (("cholec80-cvs", "critical view of safety"), "Cholec80-CVS"),
    (("jigsaws", "robotic bench-top"), "JIGSAWS"),
    (("nurvid", "nursing"), "NurViD"),
    (("laparoscopic cholecystectomy",), "CholecTrack20"),
)


def _guess_action(video: str, question: str) -> str:
    for words, name in _ACTION_WORDS:
        if _any_of(question, *words):
            return name
    if _any_of(question, "cutting", "tying", "suturing") and "open surgery" in question:
        return "AVOS"
    if "forceps" in question and "knife" in question:
        return "CoPESD"
    if _is_avos(video):
        return "AVOS"
    if _is_copesd(video):
        return "CoPESD"
    if video.startswith("vid") and _has_digit(video):
        return "CholecTrack20"
    if _any_of(video, "knot_tying", "needle_passing", "suturing"):
        return "JIGSAWS"
    return "NurViD" if _is_nurvid(video) else "Unknown"


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
        video = record.get("video_id") or record.get("metadata", {}).get("video_id", "")
        return _guess_events(video.lower())
    if task in ("cvs_assessment", "skill_assessment"):
        video = record["metadata"]["video_id"]
        if source and source != "Unknown":
            return source
        return _guess_assessment(task, video.lower(), record.get("question", "").lower())
    if source and source != "Unknown":
        return source
    return _guess_action(record["metadata"]["video_id"].lower(), record.get("question", "").lower())
