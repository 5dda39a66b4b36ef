# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Box arithmetic, and the one place where a box changes its coordinate system.

Boxes are ``(x1, y1, x2, y2)``. Sizes are ``(width, height)``. Inside the project a box is in pixels of the
*annotation canvas*; what a model reads and writes is in its family's space, see `conventions.Convention.box_side`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from .conventions import convention_of

Box = tuple[float, float, float, float]


def _scale(canvas: Sequence[float], processed_size: Sequence[float], family: str) -> tuple[float, float, float, float]:
    """The canvas's and the model space's extents ``(canvas w, canvas h, model w, model h)``."""
    width, height = float(canvas[0]), float(canvas[1])
    side = convention_of(family).box_side
    model_width, model_height = (float(processed_size[0]), float(processed_size[1])) if side is None else (side, side)
    if not (width > 0 and height > 0 and model_width > 0 and model_height > 0):
        raise ValueError(f"canvas {tuple(canvas)}, processed size {tuple(processed_size)}: expected positive sizes")
    return width, height, model_width, model_height


def to_model(box: Sequence[float], canvas: Sequence[float], processed_size: Sequence[float], family: str) -> Box:
    """A canvas box in the model's own space, unrounded.

    Args:
        box: ``(x1, y1, x2, y2)`` in canvas pixels; may overrun the canvas, and then overruns the model's space.
        canvas: ``(width, height)`` of the annotation canvas.
        processed_size: ``(width, height)`` of the frame after the processor's resize; not used for all families.
        family: a key of `conventions.CONVENTIONS`.

    Raises:
        ValueError: an unknown family, or a size that is not positive.
    """
    width, height, model_width, model_height = _scale(canvas, processed_size, family)
    x1, y1, x2, y2 = box
    return (
        x1 * model_width / width,
        y1 * model_height / height,
        x2 * model_width / width,
        y2 * model_height / height,
    )


def to_canvas(box: Sequence[float], canvas: Sequence[float], processed_size: Sequence[float], family: str) -> Box:
    """A box of the model's space in canvas pixels: the inverse of `to_model`, unrounded and not clipped."""
    width, height, model_width, model_height = _scale(canvas, processed_size, family)
    x1, y1, x2, y2 = box
    return (
        x1 * width / model_width,
        y1 * height / model_height,
        x2 * width / model_width,
        y2 * height / model_height,
    )


def clip_to_canvas(box: Sequence[float], canvas: Sequence[float]) -> Box:
    """The part of ``box`` on the canvas. A box wholly outside becomes degenerate, at the nearest edge."""
    width, height = float(canvas[0]), float(canvas[1])
    x1, y1, x2, y2 = box
    return (
        min(max(x1, 0.0), width),
        min(max(y1, 0.0), height),
        min(max(x2, 0.0), width),
        min(max(y2, 0.0), height),
    )


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes, 0 to 1.

    A box without area, an inverted box and a box with a coordinate that is not finite overlap nothing: 0.
    """
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    if ax2 <= ax1 or ay2 <= ay1 or bx2 <= bx1 or by2 <= by1:
        return 0.0
    width = min(ax2, bx2) - max(ax1, bx1)
    height = min(ay2, by2) - max(ay1, by1)
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    if union <= 0:
        return 0.0
    value = intersection / union
    return min(value, 1.0) if isfinite(value) else 0.0
