# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""From a row's `videos` entry to the pair (frames, metadata) that verl and the processors expect.

The preprocessor has resized the frame files, so that reading a clip only means decoding it. The n rollouts of a prompt
ask for the same clip at the same moment: one of them decodes it, the others wait and share the result.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
import torch
from PIL import Image

from data_preprocess.frames import UNREADABLE, open_picture, resized, rgb
from data_preprocess.geometry import FRAMES_PER_TOKEN
from recipes.medgrpo.files import InputError

# Frame numbers a second, where every frame has its own time.
TICKS = 1e6

# Clips that a process keeps.
CLIPS = 8

# Frames of a clip decoded at a time.
_THREADS = min(4, os.cpu_count() or 1)
_PPM = re.compile(rb"P6\n(\d+) (\d+)\n255\n")


class FrameReadError(InputError):
    """A frame file is missing, broken or of another size than its clip."""


def _read_ppm(path: str) -> np.ndarray | None:
    """Pixels of a `.ppm` file as the frame store writes them, ten times as fast as PIL; None for another header."""
    with open(path, "rb") as handle:
        content = handle.read()
    header = _PPM.match(content)
    if header is None:
        return None
    width, height = int(header[1]), int(header[2])
    pixels = len(content) - header.end()
    if pixels != 3 * width * height:
        raise ValueError(f"{pixels} bytes of pixels, expected {width} x {height} x 3")
    return np.frombuffer(content, np.uint8, offset=header.end()).reshape(height, width, 3)


def _read_frame(path: str, size: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
    """A frame's pixels at `size`, and the size of its file, read by the rules that the frame store has."""
    try:
        frame = _read_ppm(path) if path.endswith(".ppm") else None
        if frame is not None and (size is None or frame.shape[1::-1] == size):
            return frame, (frame.shape[1], frame.shape[0])
        with open_picture(path) as image:
            return np.asarray(resized(rgb(image), size or image.size)), image.size
    except UNREADABLE as error:
        raise FrameReadError(f"{path}: cannot read this frame: {error}") from error


def _read_frames(paths: Sequence[str], size: tuple[int, int] | None) -> list[tuple[np.ndarray, tuple[int, int]]]:
    if all(path.endswith(".ppm") for path in paths):
        return [_read_frame(path, size) for path in paths]
    # Threads of its own: a pool that is kept would hang in a data loader's forked process.
    with ThreadPoolExecutor(min(_THREADS, len(paths))) as pool:
        return list(pool.map(_read_frame, paths, repeat(size)))


def decode_clip(video: dict) -> tuple[torch.Tensor, dict]:
    """Frames (T, 3, H, W) uint8 and their metadata, T even (the last frame is repeated when it is not).

    `video` is the row's dict: `video` (frame files in order), `sample_fps` (frames a second), and
    `resized_width`, `resized_height` (the size that the model sees, in pixels), and `frame_seconds` where every
    frame has a time of its own (seconds, one per file; Qwen3-VL only): the metadata then say those times, and not
    multiples of an interval. `listed_in`, where it is there, says in errors which row of which file lists the clip.

    Raises:
        FrameReadError: a frame that cannot be read, or a clip whose frames, rate or times do not fit together.
    """
    try:
        return _decode(video)
    except FrameReadError as error:
        if listed_in := video.get("listed_in"):
            raise FrameReadError(f"{error} (listed in {listed_in})") from error
        raise


def _decode(video: dict) -> tuple[torch.Tensor, dict]:
    paths: Sequence[str] = [str(path) for path in video["video"]]
    if not paths:
        raise FrameReadError("a clip without frames")
    if not video.get("sample_fps") or float(video["sample_fps"]) <= 0:
        raise FrameReadError(
            f"{paths[0]}: sample_fps of this clip is {video.get('sample_fps')!r}, expected frames a second"
        )
    size = None
    if video.get("resized_width") and video.get("resized_height"):
        size = (int(video["resized_width"]), int(video["resized_height"]))
    read = _read_frames(paths, size)
    frames = [frame for frame, _ in read]
    # Files of two sizes in one clip would be stretched to one.
    if len(sizes := sorted({found for _, found in read})) > 1:
        raise FrameReadError(f"{paths[0]}: the frames of this clip differ in size: {sizes}")
    # A copy of the last frame has the last frame's time.
    picks = list(range(len(frames))) + [len(frames) - 1] * (-len(frames) % FRAMES_PER_TOKEN)
    frames = [frames[at] for at in picks]
    fps, times = float(video["sample_fps"]), picks
    if seconds := video.get("frame_seconds"):
        if len(seconds) != len(paths):
            raise FrameReadError(
                f"{paths[0]}: frame_seconds has {len(seconds)} times, expected {len(paths)}, one a frame"
            )
        # The processor writes index / fps: microseconds are whole numbers, and exact to any time that it prints.
        fps, times = TICKS, [round(float(seconds[at]) * TICKS) for at in picks]
    metadata = {"fps": fps, "frames_indices": times, "total_num_frames": len(frames)}
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous(), metadata


class ClipCache:
    """The most recently used clips, decoded once however many threads ask for them at the same time.

    A prompt's rollouts ask one after another, so a few clips are enough; a long one takes 20 MB.
    """

    def __init__(self, capacity: int = CLIPS):
        self.capacity = capacity
        self.decodes = 0
        self._lock = threading.Lock()
        self._clips: OrderedDict[tuple, _Slot] = OrderedDict()

    def get(self, video: dict) -> tuple[torch.Tensor, dict]:
        key = (
            tuple(video["video"]),
            tuple(video.get("frame_seconds") or ()),
            *(video.get(name) for name in ("sample_fps", "resized_width", "resized_height")),
        )
        with self._lock:
            slot = self._clips.get(key)
            if slot is None:
                slot = self._clips[key] = _Slot()
            self._clips.move_to_end(key)
            while len(self._clips) > self.capacity:
                self._clips.popitem(last=False)
        with slot.lock:
            if slot.clip is None:
                slot.clip = decode_clip(video)
                with self._lock:
                    self.decodes += 1
        frames, metadata = slot.clip
        return frames, dict(metadata)


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clip: tuple[torch.Tensor, dict] | None = None


_CACHE = ClipCache()


Shown = tuple[Any, dict | None]
"""A clip as (frames, metadata), or a still image as (`PIL.Image.Image`, None)."""


def clips_of(messages: list[dict], cache: ClipCache | None = None) -> list[Shown]:
    """What a chat shows whose content has been split into parts (`{"type": "video", "video": [...], ...}`), in order.

    A part of type `image` has the same fields, and one frame in `video`.
    """
    cache = _CACHE if cache is None else cache
    parts = (part for message in messages if isinstance(message["content"], list) for part in message["content"])
    return [_shown(part, cache) for part in parts if part.get("type") in ("video", "image")]


def _shown(part: dict, cache: ClipCache) -> Shown:
    frames, metadata = cache.get(part)
    if part["type"] == "video":
        return frames, metadata
    # The second frame is the copy that makes a clip of it.
    return Image.fromarray(frames[0].permute(1, 2, 0).numpy()), None


def parted(shown: Sequence[Shown]) -> tuple[list[Image.Image] | None, list[tuple[torch.Tensor, dict]] | None]:
    """(images, clips) of what a chat shows, each in order, None where there is none, as processors take them."""
    images = [picture for picture, metadata in shown if metadata is None]
    clips = [(frames, metadata) for frames, metadata in shown if metadata is not None]
    return images or None, clips or None
