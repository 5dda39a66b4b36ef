# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A frame as a captioner sees it: small, with boxes and their labels drawn on it. A pure function of its arguments."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from data_preprocess.frames import UNREADABLE, FrameError, open_picture, rgb, why_unreadable
from data_preprocess.geometry import Size, rescale
from reward_score.boxes import Box

VERSION = "overlay-v1"
"""Part of every key: another way of drawing is another question."""
REGION, THING = (0, 255, 0), (255, 230, 0)
"""The described region is green, other things are yellow."""
QUALITY = 85


@dataclass(frozen=True)
class Mark:
    """A box to draw, in pixels of the canvas, with its label. `region`: it is the one that the question is about."""

    box: Box
    label: str
    region: bool = False


def draw(path: str, marks: Sequence[Mark], canvas: Size, longest: int) -> bytes:
    """A frame file as JPEG, its longer side at most ``longest`` pixels, with its marks.

    Raises:
        FrameError: the file is no readable picture.
    """
    try:
        with open_picture(path) as image:
            frame = rgb(image).copy()
    except UNREADABLE as error:
        raise FrameError(path, why_unreadable(error)) from None
    frame.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(frame)
    line = max(2, max(frame.size) // 200)
    font = ImageFont.load_default(max(10, max(frame.size) // 40))
    for mark in sorted(marks, key=lambda mark: mark.region):
        _draw_mark(pen, mark, canvas, frame.size, line, font)
    packed = io.BytesIO()
    frame.save(packed, "JPEG", quality=QUALITY)
    return packed.getvalue()


def _draw_mark(pen: ImageDraw.ImageDraw, mark: Mark, canvas: Size, size: Size, line: int, font: object) -> None:
    x1, y1, x2, y2 = (round(value) for value in rescale(mark.box, canvas, size))
    x1, x2 = (min(max(x, 0), size[0] - 1) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), size[1] - 1) for y in (y1, y2))
    if x2 <= x1 or y2 <= y1:
        return  # an annotated box may lie outside of the picture by a pixel or two
    colour = REGION if mark.region else THING
    pen.rectangle((x1, y1, x2, y2), outline=colour, width=line)
    left, top, right, bottom = pen.textbbox((x1, y1), mark.label, font=font)  # type: ignore[arg-type]
    up = min(bottom - y1 + line, y1)  # above the box where there is room
    pen.rectangle((left, top - up, right, bottom - up), fill=(0, 0, 0))
    pen.text((x1, y1 - up), mark.label, fill=colour, font=font)  # type: ignore[arg-type]


def digest(pictures: Sequence[bytes]) -> str:
    """SHA-256 over pictures, in hex."""
    found = hashlib.sha256()
    for picture in pictures:
        found.update(hashlib.sha256(picture).digest())
    return found.hexdigest()
