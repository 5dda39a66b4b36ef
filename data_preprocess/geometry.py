# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which canvas a source's boxes are drawn on, and which size a frame has on disk and when the model sees it.

Sizes are (width, height) in pixels. Boxes go to a model's space and back in `reward_score.boxes`, nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from reward_score.boxes import Box, iou
from reward_score.conventions import convention_of

Size = tuple[int, int]

CANVASES: dict[str, Size] = {"CholecTrack20": (854, 480), "CoPESD": (1306, 1009), "EgoSurgery": (1920, 1080)}
"""Annotation canvas of the sources with boxes, whatever the size of their frame files."""

NATIVE_SIZES: dict[str, Size] = {
    "CholecT50": (854, 480),
    "CholecTrack20": (854, 480),
    "Cholec80_CVS": (854, 480),
    "CoPESD": (1306, 1009),
    "EgoSurgery": (1920, 1080),
    "JIGSAWS": (640, 480),
}
"""Usual size on disk of a source's frames, for a conversion that opens none of them.

CholecTrack20 also comes in 1920x1080. AVOS and NurViD are web videos of many sizes, mostly 16:9: they have no entry,
and `ASSUMED_SIZE` stands for them. At the usual pixel bounds every 16:9 size is processed to the same size, so that the
guess errs for the others alone.
"""

ASSUMED_SIZE: Size = (854, 480)
"""Size on disk of a frame that nothing is known of."""

SOURCES = ("AVOS", "CholecT50", "CholecTrack20", "Cholec80_CVS", "CoPESD", "EgoSurgery", "JIGSAWS", "NurViD")
"""All sources."""

FRAMES_PER_TOKEN = 2
"""The temporal patch of all families spans two frames."""

MIN_PIXELS, MAX_PIXELS = 6_272, 37_632
"""Pixels of a processed frame in the released inference settings."""

# Qwen's own preprocessing refuses frames more elongated than this.
_MAX_RATIO = 200


def canvas_of(source: str, frame_size: Size) -> Size:
    """The annotation canvas of a source; without an entry of its own, the frame's size on disk."""
    return CANVASES.get(source, frame_size)


def assumed_size(source: str) -> Size:
    """The size on disk to reckon with when no frame of `source` may be opened."""
    return NATIVE_SIZES.get(source, ASSUMED_SIZE)


def rescale(box: Sequence[float], from_size: Size, to_size: Size) -> Box:
    """A box on a picture of `from_size` on the same picture at `to_size`, unrounded: canvas to disk, and back."""
    (from_width, from_height), (width, height) = from_size, to_size
    x1, y1, x2, y2 = box
    return x1 * width / from_width, y1 * height / from_height, x2 * width / from_width, y2 * height / from_height


def rounding_ious(boxes: Iterable[Box], decimals: int) -> list[float]:
    """What writing boxes with `decimals` costs: IoU of each box and what its written form says.

    Overlap does not change when both axes are stretched, so boxes in a model's space tell it for the canvas as well. A
    box without area counts 0.
    """
    return [iou(box, [round(value, decimals) for value in box]) for box in boxes]


def processed_size(frame_size: Size, family: str, min_pixels: int = MIN_PIXELS, max_pixels: int = MAX_PIXELS) -> Size:
    """The size that a frame is resized to: the "smart resize" rule of the Qwen-VL preprocessing.

    Each side is rounded to a multiple of the family's cell; when the area then lies outside
    [min_pixels, max_pixels], both sides are scaled alike by the root of the area's ratio and rounded inwards.

    Args:
        frame_size: (width, height) on disk.
        family: a key of `reward_score.conventions.CONVENTIONS`.
        min_pixels: lower bound of width x height.
        max_pixels: upper bound of width x height; at least one cell.

    Raises:
        ValueError: an unknown family, bounds that no size satisfies, or a frame more than 200 times as long as it is
            wide.
    """
    factor = convention_of(family).cell
    width, height = frame_size
    if not 0 < min_pixels <= max_pixels or max_pixels < factor * factor:
        raise ValueError(
            f"min_pixels {min_pixels}, max_pixels {max_pixels}: expected 0 < min <= max and max >= {factor * factor}"
        )
    if min(width, height) < 1 or max(width, height) > _MAX_RATIO * min(width, height):
        raise ValueError(f"frame of {width}x{height}: expected sides at most {_MAX_RATIO}:1")
    sides = [max(factor, round(side / factor) * factor) for side in (width, height)]
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height)]
    elif sides[0] * sides[1] < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        sides = [math.ceil(side * grow / factor) * factor for side in (width, height)]
    return sides[0], sides[1]


def vision_tokens(frames: int, size: Size, family: str) -> int:
    """Vision tokens of a clip of `frames` frames processed to `size`."""
    factor = convention_of(family).cell
    return math.ceil(frames / FRAMES_PER_TOKEN) * (size[0] // factor) * (size[1] // factor)
