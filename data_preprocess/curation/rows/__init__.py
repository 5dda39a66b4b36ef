# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows that annotations alone decide: temporal grounding, spatial grounding, next action, critical view, skill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from data_preprocess.annotations import QA_TYPES
from data_preprocess.curation.clips import ClipSettings, Cutter
from data_preprocess.curation.model import Video
from data_preprocess.curation.official import official_row
from data_preprocess.curation.rows.boxes import tracks, tube
from data_preprocess.curation.rows.drafts import Content, Draft, RowSettings
from data_preprocess.curation.rows.scores import critical_view, scored, skill
from data_preprocess.curation.rows.spans import grounding, groundings, next_action, next_actions
from data_preprocess.curation.rows.wordings import Wordings

TASKS_OF: Mapping[str, tuple[str, ...]] = {
    "AVOS": ("tal", "nap"),
    "CholecT50": ("tal", "nap"),
    "CholecTrack20": ("stg",),
    "Cholec80_CVS": ("cvs",),
    "CoPESD": ("tal", "nap", "stg"),
    "EgoSurgery": ("tal", "nap", "stg"),
    "JIGSAWS": ("sa",),
    "NurViD": ("tal",),
}
"""The published pairs whose answers annotations decide."""

ANSWERS: Mapping[str, Callable[[Draft], Content]] = {
    "tal": grounding,
    "stg": tube,
    "nap": next_action,
    "cvs": critical_view,
    "sa": skill,
}
_QA_TYPES = {task: name for name, task in QA_TYPES.items() if name != "dc"}


def drafts(video: Video, clips: ClipSettings, settings: RowSettings, seed: int) -> Iterator[Draft]:
    """Everything that can be asked of a video, each question once, in an order that does not depend on the run."""
    if not video.numbers:
        return
    cutter = Cutter(video, clips, seed)
    tasks = TASKS_OF[video.source]
    done: set[int] = set()
    for draft in _all(cutter, tasks, settings):
        if (key := draft.key) not in done:
            done.add(key)
            yield draft


def _all(cutter: Cutter, tasks: tuple[str, ...], settings: RowSettings) -> Iterator[Draft]:
    if {"tal", "stg"} & set(tasks):
        for clip in cutter.all():
            if "tal" in tasks:
                yield from groundings(clip, settings)
            if "stg" in tasks:
                yield from tracks(clip, settings, cutter.seed)
    if "nap" in tasks:
        yield from next_actions(cutter, settings)
    for task in ("cvs", "sa"):
        if task in tasks:
            yield from scored(cutter, task)


def row_of(draft: Draft, words: Wordings) -> dict[str, Any]:
    """A draft as a row of the official format."""
    content = ANSWERS[draft.task](draft)
    video = draft.clip.video
    question = words.ask(draft.task, video.source, draft.key, procedure=video.procedure, **content.fields)
    return official_row(draft.clip, _QA_TYPES[draft.task], question, content.answer, content.structure)
