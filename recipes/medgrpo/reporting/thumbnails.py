# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Frames of rows at the size of a thumbnail, made when they are needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from data_preprocess.frames import UNREADABLE, open_picture, rgb

WIDTH = 160
"""Pixels, at most."""
FOLDER = "thumbs"
QUALITY = 72


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a frame's thumbnail: the frame's own where that is small enough."""
    scale = min(1.0, WIDTH / size[0])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def chosen_frames(times: Sequence[float], marked: Sequence[float], most: int) -> list[int]:
    """Places of at most `most` frames of a clip, in order: those nearest to marked times first, then evenly spread.

    Args:
        times: of the frames, clip seconds. marked: times at which something is drawn.
    """
    if len(times) <= most:
        return list(range(len(times)))
    nearest = {min(range(len(times)), key=lambda at: abs(times[at] - time)) for time in marked}
    chosen = _evenly(sorted(nearest), max(1, most // 2))
    others = [at for at in range(len(times)) if at not in chosen]
    return sorted(chosen + _evenly(others, most - len(chosen)))


def _evenly(places: Sequence[int], most: int) -> list[int]:
    """At most `most` of some places, over their whole range."""
    if len(places) > most:
        places = [places[round(at * (len(places) - 1) / max(1, most - 1))] for at in range(most)]
    return list(places)


class Thumbnails:
    """Names for the thumbnails of frame files; their pictures on demand."""

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}

    def name(self, frame: str) -> str | None:
        """The thumbnail's name below the report's folder; None without a file there."""
        path = Path(frame)
        if not path.is_file():
            return None
        name = f"{FOLDER}/{blake2b(frame.encode(), digest_size=10).hexdigest()}.jpg"
        self.paths[name] = path
        return name

    def picture(self, name: str) -> bytes | None:
        """The JPEG of a name that was given out; None for another name, or a frame that cannot be read."""
        path = self.paths.get(name)
        if path is None:
            return None
        try:
            with open_picture(str(path)) as image:
                frame = rgb(image)
                frame = frame.resize(thumbnail_size(frame.size), Image.Resampling.BOX)
        except UNREADABLE:
            return None
        content = io.BytesIO()
        frame.save(content, "JPEG", quality=QUALITY)
        return content.getvalue()
