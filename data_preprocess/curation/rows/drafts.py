# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is asked of a clip, before it is put into words.

A `Draft` is small: choosing among millions of them costs little, and only those that are chosen become rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_preprocess.curation.model import Clip
from data_preprocess.curation.settings import open_choice


@dataclass(frozen=True)
class RowSettings:
    """How answers are made of annotations."""

    merge: float = open_choice(0.0, "seconds between two spans of one label up to which they are one: not published")
    event_shortest: float = open_choice(
        1.0, "seconds of the shortest span that is asked for: one of a single frame has no length, so nothing finds it"
    )
    spans_most: int = open_choice(
        20, "spans of a grounding answer, up to: published ones have 1.76 on average", least=1
    )
    whole_clip: str = open_choice(
        "leave_out", "questions whose answer is the whole clip: they ask nothing", ("leave_out", "keep")
    )
    boxes_least: int = open_choice(2, "boxes of a spatial answer, from", least=1)
    boxes_most: int = open_choice(10, "boxes of a spatial answer, up to: published ones have 5.3 on average", least=1)
    strides: str = open_choice("4,8", "seconds between the boxes that are asked for, as published")
    box_tolerance: float = open_choice(0.02, "seconds by which a box may stand off the time that is asked for")
    next_within: float = open_choice(
        5.0, "seconds between a clip's end and the start of the next action, up to: not published"
    )


@dataclass(frozen=True, slots=True)
class Draft:
    """A question about a clip and its truth: `target` is what is asked for, `truth` the task's own data."""

    task: str
    clip: Clip
    target: str
    truth: Any

    @property
    def pair(self) -> str:
        """`<source>/<task>`."""
        return f"{self.clip.video.source}/{self.task}"

    @property
    def key(self) -> int:
        """A number of 63 bits that names the draft: equal for equal questions about equal clips, in every run."""
        clip = self.clip
        bounds = (clip.numbers[0], clip.numbers[-1], len(clip.numbers), clip.fps)
        said = f"{clip.video.source}\0{clip.video.video_id}\0{bounds}\0{self.task}\0{self.target}"
        return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Content:
    """What a task adds to a row: the fields of its question, the answer, and `struc_info`."""

    fields: Mapping[str, object]
    answer: str
    structure: list[Any]
