# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a part of the page looks like: its pixels, and where those of a box's colour are."""

from __future__ import annotations

import io

from PIL import Image

GOLD, ANSWER, ASKED = (255, 176, 0), (74, 163, 255), (245, 143, 208)
"""Colours of boxes on a frame: of the gold answer, of the model's, and of the region that is asked about."""
Colour = tuple[int, int, int]


def pixels(view, selector: str) -> Image.Image:
    """The first element that a selector finds."""
    return Image.open(io.BytesIO(view.page.locator(selector).first.screenshot())).convert("RGB")


def near(pixel: Colour, colour: Colour, within: int = 24) -> bool:
    """Whether a pixel is of about a colour."""
    return all(abs(one - other) <= within for one, other in zip(pixel, colour, strict=True))


def edges(picture: Image.Image, colour: Colour, within: int = 24) -> tuple[int, int, int, int]:
    """Leftmost, topmost, rightmost, bottommost pixel of about a colour."""
    wide, high = picture.size
    seen = picture.load()
    places = [(x, y) for x in range(wide) for y in range(high) if near(seen[x, y], colour, within)]
    columns, rows = zip(*places, strict=True)
    return min(columns), min(rows), max(columns), max(rows)
