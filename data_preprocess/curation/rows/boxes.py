# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows about a thing in time and space: its box every few seconds (stg)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from data_preprocess.curation.clips import dice
from data_preprocess.curation.model import Boxed, Clip
from data_preprocess.curation.rows.drafts import Content, Draft, RowSettings
from reward_score.answers import render_stg


def tracks(clip: Clip, settings: RowSettings, seed: int) -> Iterator[Draft]:
    """A question for each thing of the clip that has a box at every time of a grid, and no double.

    A thing is a track, or a label where the source has no tracks. The question names the label, so that two things of
    one label in a frame leave that frame out.
    """
    seen: dict[str, dict[int, list[Boxed]]] = defaultdict(lambda: defaultdict(list))
    shown = frozenset(round(time) for time in clip.times)
    for boxed in clip.boxes():
        second = round(boxed.time)
        # A box that no listed frame shows could only be guessed.
        if second in shown and abs(boxed.time - second) <= settings.box_tolerance:
            seen[boxed.label][second].append(boxed)
    strides = [int(stride) for stride in settings.strides.split(",")]
    for label, by_second in seen.items():
        alone = {second: found[0] for second, found in by_second.items() if len(found) == 1}
        rng = dice(seed, clip.video.source, clip.video.video_id, clip.numbers[0], clip.numbers[-1], clip.fps, label)
        wanted = rng.randint(settings.boxes_least, settings.boxes_most)
        for stride in rng.sample(strides, len(strides)):
            grid = _grid(alone, stride, wanted, rng.random())
            if len(grid) >= settings.boxes_least:
                # An end off the grid adds no box.
                end = min(grid[-1] + rng.randrange(stride), int(clip.duration))
                boxes = {second: alone[second].box for second in grid}
                yield Draft("stg", clip, label, (grid[0], end, stride, boxes))
                break


def _grid(alone: dict[int, Boxed], stride: int, wanted: int, drawn: float) -> list[int]:
    """The times of up to `wanted` boxes of one thing, `stride` seconds apart; one of the longest such rows."""
    rows: list[list[int]] = []
    placed: dict[int, list[int]] = {}
    for second in sorted(alone):
        row = placed.get(second - stride)
        if row is None or len(row) >= wanted or alone[row[-1]].track != alone[second].track:
            row = []
            rows.append(row)
        row.append(second)
        placed[second] = row
    most = max(map(len, rows), default=0)
    longest = [row for row in rows if len(row) == most]
    return longest[int(drawn * len(longest))] if longest else []


def tube(draft: Draft) -> Content:
    """The answer to a spatio-temporal grounding."""
    start, end, stride, boxes = draft.truth
    entry = {
        "start": float(start),
        "end": float(end),
        "stride": stride,
        "object": draft.target,
        "bbox_dict": {f"{second:.1f}": list(box) for second, box in boxes.items()},
    }
    asked = {"target": draft.target, "start": f"{start:.1f}", "end": f"{end:.1f}", "stride": stride}
    return Content(asked, render_stg(boxes), [entry])
