# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A question about a clip and its answer as a row of MedVidBench's format, the one that `annotations.py` reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_preprocess.curation.model import Clip
from reward_score.boxes import Box


def official_row(
    clip: Clip,
    qa_type: str,
    question: str,
    answer: str,
    structure: Sequence[Any],
    region: tuple[int, Box] | None = None,
) -> dict[str, Any]:
    """A row with an answer.

    Args:
        clip: what is shown.
        qa_type: the task as the format names it, such as `tal` or `region_caption_gpt`.
        question: the text without `<video>`.
        answer: in the task's grammar; times are clip seconds, boxes are pixels of the canvas.
        structure: `struc_info`, the same truth as data.
        region: of a region caption, the place of its frame among the listed ones, and the box.
    """
    boxed = None
    if region is not None:
        boxed = {"start_frame": clip.paths[region[0]], "start_frame_bbox": list(region[1])}
    return {
        "id": row_id(clip),
        "qa_type": qa_type,
        "data_source": clip.video.source,
        "dataset_name": clip.video.source,
        "conversations": [{"from": "human", "value": f"<video>\n{question}"}, {"from": "gpt", "value": answer}],
        "video": clip.paths,
        "sampled_video_frames": clip.numbers,
        "metadata": metadata(clip),
        "is_RC": boxed is not None,
        "RC_info": boxed,
        "struc_info": structure,
        # As in all official rows with answers. Which rows train is for the preprocessor to draw, by operation.
        "train": True,
    }


def metadata(clip: Clip) -> dict[str, str]:
    """What the format says of a clip: strings, and the pair of bounds that its source has."""
    shared = {"video_id": clip.video.video_id, "fps": str(clip.fps)}
    if clip.video.source == "NurViD":
        return shared | {
            "input_video_start_time": f"{clip.start:.2f}",
            "input_video_end_time": f"{clip.end:.2f}",
        }
    stem = "" if clip.video.source == "Cholec80_CVS" else "input_video_"
    return shared | {f"{stem}start_frame": str(clip.numbers[0]), f"{stem}end_frame": str(clip.numbers[-1])}


def row_id(clip: Clip) -> str:
    """A row's id as official rows spell it: it names the clip, and rows of one clip share it."""
    if clip.video.source == "NurViD":
        return f"{clip.video.video_id}&&{clip.start:.2f}&&{clip.end:.2f}&&{clip.fps}"
    return f"{clip.fps}${clip.video.video_id}${clip.numbers[0]}${clip.numbers[-1]}"
