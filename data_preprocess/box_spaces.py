# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a source's boxes are what they have to be: (x1, y1, x2, y2) in pixels of its annotation canvas.

Numbers alone do not say what they count. A box of 0 to 1 is a tenth of a pixel on a canvas, and a box as x, y, width
and height often has an area as corners too. So each row's boxes are held against the canvas, and then all boxes of a
source. Boxes of another space are converted where the user names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_preprocess.geometry import CANVASES, NATIVE_SIZES, Size, rescale
from reward_score.boxes import Box

CANVAS = "canvas"
_SPACE = re.compile(r"(?:(xywh)-?)?(canvas|0-1|0-1000|([1-9][0-9]{0,4})x([1-9][0-9]{0,4}))?")
# Known boxes overrun their canvas by 3 pixels.
_OVERRUN, _OVERRUN_SHARE = 8.0, 0.02
# Above this share of a source's rows, odd boxes are no accident; below that many rows they may be.
_ODD_SHARE, _ODD_ROWS = 0.05, 3
# So many rows whose boxes all keep to a part of the canvas tell that they count something smaller.
_KEEPING_ROWS = 20
_KEEPING_SHARE = 0.6


def is_space(text: str) -> bool:
    """Whether a text names a space: `canvas`, `0-1`, `0-1000`, `WIDTHxHEIGHT`, `xywh`, or `xywh-` before another."""
    return bool(text) and _SPACE.fullmatch(text) is not None


def to_pixels(box: Sequence[float], space: str, canvas: Size) -> Box:
    """A box of a named space as corners in pixels of the canvas."""
    match = _SPACE.fullmatch(space)
    if match is None:
        raise ValueError(f"space {space!r}: expected canvas, 0-1, 0-1000, WIDTHxHEIGHT, xywh or xywh-SPACE")
    layout, unit, width, height = match.groups()
    x1, y1, x2, y2 = box
    if layout:
        x2, y2 = x1 + x2, y1 + y2
    sizes: dict[str | None, Size] = {None: canvas, CANVAS: canvas, "0-1": (1, 1), "0-1000": (1000, 1000)}
    size = (int(width), int(height)) if width else sizes[unit]
    return (x1, y1, x2, y2) if size == canvas else rescale((x1, y1, x2, y2), size, canvas)


def oddity(boxes: Iterable[Sequence[float]], canvas: Size) -> str:
    """What shows that a row's boxes are no corners in pixels of the canvas, in words; empty where nothing does."""
    boxes = list(boxes)
    if max(max(map(abs, box)) for box in boxes) <= 2:
        return f"{list(boxes[0])}, which looks like 0 to 1"
    for box in boxes:
        x1, y1, x2, y2 = box
        if not (x1 < x2 and y1 < y2):
            kind = "x, y, width and height, or corners that are exchanged" if x2 > 0 and y2 > 0 else "no corners"
            return f"{list(box)}, which has no area: it looks like {kind}"
        if not _within(canvas, x2, y2) or min(x1, y1) < -_slack(max(canvas)):
            larger = next((name for name, size in _known(canvas) if _within(size, x2, y2)), "")
            return f"{list(box)}, which is beyond it{f': it looks like pixels of {larger}' if larger else ''}"
    return ""


@dataclass
class BoxCounts:
    """Of one source: rows with boxes, rows whose boxes are odd, the first of these in words, and the largest corner."""

    rows: int = 0
    odd: int = 0
    first: str = ""
    canvas: list[int] = field(default_factory=list)
    corner: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, boxes: Iterable[Sequence[float]], canvas: Size, odd: str) -> None:
        """Counts a row; `odd` is what `oddity` says of it."""
        corners = [box[2:] for box in boxes]
        row = {"rows": 1, "odd": bool(odd), "first": odd, "canvas": canvas, "corner": map(max, *corners, (0, 0))}
        self.update(row)

    def update(self, other: Mapping[str, Any] | BoxCounts) -> None:
        """Adds the counts of a later block."""
        other = vars(other) if isinstance(other, BoxCounts) else other
        self.rows += other["rows"]
        self.odd += other["odd"]
        self.first = self.first or other["first"]
        self.canvas = list(other["canvas"])
        self.corner = [max(pair) for pair in zip(self.corner, other["corner"], strict=True)]

    def finding(self) -> tuple[str, bool]:
        """What the source's boxes tell of their space, empty for nothing, and whether nobody should train on them."""
        width, height = self.canvas
        if self.odd:
            certain = self.odd >= _ODD_ROWS and self.odd > _ODD_SHARE * self.rows
            where = f"the {width}x{height} canvas"
            return f"{self.odd} of {self.rows} rows have boxes that are not on {where}: {self.first}", certain
        share = min(self.corner[0] / width, self.corner[1] / height)
        smaller = ((name, size) for name, size in _known((width, height)) if size[0] <= width and size[1] <= height)
        inside = next((name for name, size in smaller if _within(size, *self.corner)), "")
        keeping = share <= _KEEPING_SHARE
        if inside and self.rows >= (_ODD_ROWS if keeping else _KEEPING_ROWS):
            certain = keeping and self.rows >= _KEEPING_ROWS
            return f"all boxes of {self.rows} rows on the {width}x{height} canvas lie within {inside}", certain
        return "", False


def _slack(side: float) -> float:
    return max(_OVERRUN, _OVERRUN_SHARE * side)


def _within(size: Size, x: float, y: float) -> bool:
    return x <= size[0] + _slack(size[0]) and y <= size[1] + _slack(size[1])


def _known(canvas: Size) -> list[tuple[str, Size]]:
    """Other spaces than the canvas that boxes come in, the smallest first."""
    sizes = {*CANVASES.values(), *NATIVE_SIZES.values()} - {tuple(canvas)}
    named = [("0 to 1000", (1000, 1000)), *((f"a {width}x{height} frame", (width, height)) for width, height in sizes)]
    # A space that is hardly smaller than the canvas tells nothing.
    other = [(name, size) for name, size in named if not 1 <= canvas[0] / size[0] * canvas[1] / size[1] <= 1.25]
    return sorted(other, key=lambda each: each[1][0] * each[1][1])
