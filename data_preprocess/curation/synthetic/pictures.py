# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Frames and videos of the synthetic sources, in which the truth can be seen.

The ground has the colour of the label that goes on, boxes are filled with the colour of their thing, and scored videos
show a cell for each score, the brighter the higher.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data_preprocess.atomic import written_whole
from data_preprocess.curation.model import Boxed, Video
from data_preprocess.geometry import Size
from data_preprocess.synthetic_video import PALETTE, TOOL_COLOURS, paint

LONG_SIDE = 112
"""Pixels of a picture's longer side."""
VIDEO_RATE = 5
"""Frames a second of the videos. Real ones have more; frames are found by their time, not by their number."""
NO_LABEL = (64, 64, 64)
_KINDS = ("phase", "action", "gesture")


def picture_size(canvas: Size) -> Size:
    """The size of a picture, even on both sides as encoders want it."""
    scale = LONG_SIDE / max(canvas)
    width, height = (max(2, round(side * scale / 2) * 2) for side in canvas)
    return width, height


class Painter:
    """What a video looks like at any time."""

    def __init__(self, video: Video):
        self.video = video
        self.size = picture_size(video.size)
        self.kind = next((kind for kind in _KINDS if video.of_kind(kind)), "")
        self.runs = video.of_kind(self.kind)
        self.starts = [run.start for run in self.runs]
        self.boxes: dict[float, list[Boxed]] = defaultdict(list)
        for boxed in video.boxes:
            self.boxes[boxed.time].append(boxed)
        self.box_times = sorted(self.boxes)

    def at(self, time: float) -> bytes:
        """The bare pixels at a time of the video."""
        for scores in self.video.scores:
            if scores.start <= time <= scores.end:
                return _cells(tuple(scores.values.values()), self.size)
        return _scene(self.ground(time), self._things(time), self.video.size, self.size)

    def ground(self, time: float) -> tuple[int, int, int]:
        """The colour of the label that goes on; grey where none does."""
        place = bisect_right(self.starts, time + 1e-6) - 1
        while place >= 0:
            run = self.runs[place]
            if time <= run.end + 1e-6:
                return PALETTE[self.video.labels[self.kind].index(run.label) % len(PALETTE)]
            place -= 1
        return NO_LABEL

    def _things(self, time: float) -> tuple[tuple[tuple[int, int, int], tuple[float, ...]], ...]:
        place = bisect_right(self.box_times, time + 1e-6) - 1
        if place < 0 or time - self.box_times[place] > 2:
            return ()
        names = list(self.video.labels.get("instrument", ()))
        found = self.boxes[self.box_times[place]]
        return tuple((TOOL_COLOURS[names.index(one.label) % len(TOOL_COLOURS)], one.box) for one in found)


@lru_cache(maxsize=512)
def _cells(values: tuple[int, ...], size: Size) -> bytes:
    return Image.open(io.BytesIO(paint(("scores", values), size, size, "png"))).convert("RGB").tobytes()


@lru_cache(maxsize=512)
def _scene(
    ground: tuple[int, int, int],
    things: tuple[tuple[tuple[int, int, int], tuple[float, ...]], ...],
    canvas: Size,
    size: Size,
) -> bytes:
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    sx, sy = size[0] / canvas[0], size[1] / canvas[1]
    for colour, (x1, y1, x2, y2) in things:
        draw.rectangle((round(x1 * sx), round(y1 * sy), round(x2 * sx) - 1, round(y2 * sy) - 1), fill=colour)
    return image.tobytes()


def write_media(videos: Sequence[Video], root: Path) -> None:
    """Writes the frames or the video of each video where its annotators' files say they are, below `root`."""
    for video in videos:
        target = root / video.media
        if target.suffix:
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target, sync=False) as partial:
                _write_video(video, partial, "avi" if target.suffix == ".avi" else "mp4")
        else:
            # CholecTrack20 has its frames in a folder of their own beside the labels.
            folder = target / "Frames" if video.source == "CholecTrack20" else target
            folder.mkdir(parents=True, exist_ok=True)
            painter = Painter(video)
            name = video.path.rpartition("/")[2]
            for number in video.numbers:
                image = Image.frombytes("RGB", painter.size, painter.at(video.seconds(number)))
                image.save(folder / (name % number), **_how(name))


def _how(name: str) -> dict[str, Any]:
    return {"compress_level": 1} if name.endswith(".png") else {"quality": 92, "subsampling": 0}


def _write_video(video: Video, target: Path, container: str) -> None:
    import av

    painter = Painter(video)
    with av.open(str(target), "w", format=container) as file:
        stream = file.add_stream("mpeg4", rate=VIDEO_RATE, options={"qscale": "2"})
        stream.width, stream.height = painter.size
        stream.pix_fmt = "yuv420p"
        for pixels in _ticks(painter, int(video.duration * VIDEO_RATE) + 1):
            frame = av.VideoFrame.from_image(Image.frombytes("RGB", painter.size, pixels))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _ticks(painter: Painter, count: int) -> Iterator[bytes]:
    for tick in range(count):
        yield painter.at(tick / VIDEO_RATE)
