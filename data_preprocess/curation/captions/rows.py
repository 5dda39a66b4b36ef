# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From a context and a description of it to a row of the official format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from data_preprocess.curation.captions.context import Context
from data_preprocess.curation.official import official_row
from data_preprocess.curation.rows.wordings import Wordings
from reward_score.answers import Event, render_dvc

QA_TYPES = {"dvc": "dense_captioning", "vs": "video_summary", "rc": "region_caption"}


def caption_row(context: Context, description: Mapping[str, Any], side: str, words: Wordings) -> dict[str, Any]:
    """The row of one of the two descriptions; both of a context ask the same question."""
    video, region = context.clip.video, context.region
    drawn = int.from_bytes(hashlib.sha256(context.key.encode()).digest()[:8], "big")
    fields: dict[str, object] = {"procedure": video.procedure}
    if region is not None:
        fields |= {"time": f"{context.clip.times[region.index]:.1f}", "end": f"{region.end:.1f}"}
    question = words.ask(context.task, video.source, drawn, **fields)
    if context.task == "dvc":
        answer, structure = _events(context, description)
    elif region is None:
        answer, structure = description["caption"], [{"summary": description["caption"], "procedure": video.procedure}]
    else:
        answer, structure = description["caption"], [{"question": question, "struc_info": _region(context)}]
    place = None if region is None else (region.index, region.box)
    return official_row(context.clip, f"{QA_TYPES[context.task]}_{side}", question, answer, structure, place)


def _events(context: Context, description: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The answer and `struc_info` of dense captions, in the shape that the source's published rows have.

    The times are the labels', which the description's have to be but for rounding. NurViD's text carries the action.
    """
    source = context.clip.video.source
    said = sorted(description["events"], key=lambda event: (event["start"], event["end"]))
    labels = sorted(context.events, key=lambda label: (label.start, label.end))
    timed = [(round(w.start, 1), round(w.end, 1), w.text, e["caption"]) for e, w in zip(said, labels, strict=True)]
    segments = [{"start": start, "end": end, "caption": caption} for start, end, _, caption in timed]
    named = source == "NurViD"
    events = [Event(start, end, f"{text}: {caption}" if named else caption) for start, end, text, caption in timed]
    structure: list[Any] = segments
    if source == "CholecT50":
        structure = [segments]
    elif named:
        structure = [{"dc_segments": segments}]
    return render_dvc(events), structure


def _region(context: Context) -> dict[str, Any]:
    region = context.region
    assert region is not None
    return {
        "start": region.start,
        "end": region.end,
        "object": region.label,
        "start_frame": context.clip.numbers[region.index],
        "start_frame_bbox": list(region.box),
        "phase_info": dict(region.details),
    }
