# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Boxes in the text of an stg answer, found and rewritten without mending what else the text says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isnan

from recipes.medgrpo.answers.questions import Frame
from reward_score.boxes import to_canvas

# It has no area and overlaps nothing. A box of zeros would be worth more: the server repeats the one before it.
_NO_BOX = "[1.0, 1.0, 1.0, 1.0]"
_BOX = re.compile(r"(\[\s*)?\[([^\[\]]*)\]")


def _coordinates(text: str) -> list[float] | None:
    """The four numbers between two brackets as the server reads them; None for anything else."""
    try:
        values = [float(piece) for piece in text.split(",")]
    except ValueError:
        return None
    return values if len(values) == 4 else None


def boxes_in(text: str) -> Iterator[list[float]]:
    """The boxes of an answer, four numbers each, wherever they stand."""
    found = (_coordinates(match[2]) for match in _BOX.finditer(text))
    return (box for box in found if box is not None)


def boxes_on_canvas(text: str, space: Frame | None) -> tuple[str, int]:
    """An stg answer with its boxes in canvas pixels, and how many of them held a NaN.

    Only numbers between brackets change, whatever else the answer says: a deviation from the grammar stays one. A
    box with a NaN, of which the server makes the whole column NaN, becomes one without area, which scores 0.

    Args:
        text: the answer.
        space: (canvas, processed size, model family) of boxes in the model's own space; None: they are in pixels of
            the canvas, and only those with a NaN change.
    """
    broken = 0

    def rewrite(match: re.Match) -> str:
        nonlocal broken
        values, opening = _coordinates(match[2]), match[1] or ""
        if values is None:
            return match[0]
        if any(map(isnan, values)):
            broken += 1
            return opening + _NO_BOX
        if space is None:
            return match[0]
        box = to_canvas(values, *space)
        # Where a box stands without a time, the server reads nothing but whole numbers, in double brackets.
        whole = bool(opening) and not re.search(r"[^\d\s,]", match[2])
        return f"{opening}[{', '.join(_written(edge, 0 if whole else 2) for edge in box)}]"

    return _BOX.sub(rewrite, text), broken


def _written(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if abs(value) < 1e9 else repr(value)
