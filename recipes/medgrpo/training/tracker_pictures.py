# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A picture of one rollout for the trackers that take pictures: frames with the reference's box and the answer's.

The step's best answer with boxes is drawn: the reference in amber, the answer in blue with a broken line, which are
told apart without seeing colours. wandb and tensorboard get it; verl's own loggers take numbers only. A tracker that
fails costs the picture and never the training.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_preprocess.frames import UNREADABLE, open_picture, rgb
from reward_score.boxes import Box
from reward_score.tasks import Context, find_task, read_gold

GOLD, ANSWER = (255, 176, 0), (74, 163, 255)
FRAMES, WIDTH, DASH = 4, 320, 10
"""Most frames of a picture; pixels of a frame's width and of a dash."""
TAG = "rollouts/boxes"
logger = logging.getLogger(__name__)


def boxes_shown(
    prompt: Sequence[Mapping[str, Any]], data_source: str, text: str, ground_truth: str, extra: Mapping[str, Any]
) -> Image.Image:
    """The picture of an answer.

    Args:
        prompt: the chat whose content has been split into parts, with the clip among them.
        data_source: ``medvidbench/<source>/stg``. text: the answer.
        ground_truth, extra: of the row, as the reward takes them.
    """
    task, source = find_task(data_source)
    (clip,) = (part for message in prompt for part in message["content"] if part["type"] == "video")
    times = clip.get("frame_seconds") or [at / clip["sample_fps"] for at in range(len(clip["video"]))]
    said = Context(source, extra).to_canvas(task.parse(text).value)
    return picture(clip["video"], times, read_gold(task.name, ground_truth)[0], said, extra["canvas"])


def picture(
    frames: Sequence[str],
    times: Sequence[float],
    gold: Mapping[float, Box],
    said: Mapping[float, Box],
    canvas: Sequence[float],
) -> Image.Image:
    """Frames beside each other with the boxes of their times.

    Args:
        frames: files of the clip's frames. times: of the frames, clip seconds.
        gold, said: boxes by clip seconds, in pixels of the canvas; each is drawn on the frame nearest to its time.
        canvas: (width, height).

    Raises:
        OSError, ValueError: a frame that is no picture.
    """
    nearest = {time: min(range(len(times)), key=lambda at: abs(times[at] - time)) for time in (*gold, *said)}
    shown = sorted(dict.fromkeys(nearest[time] for time in (*gold, *said)))[:FRAMES]
    panels = []
    for at in shown:
        with open_picture(frames[at]) as opened:
            frame = rgb(opened)
            frame = frame.resize((WIDTH, max(1, round(frame.height * WIDTH / frame.width))))
        draw = ImageDraw.Draw(frame)
        scale = frame.width / canvas[0], frame.height / canvas[1]
        for boxes, colour, dash in ((gold, GOLD, None), (said, ANSWER, DASH)):
            for time, box in boxes.items():
                if nearest[time] == at:
                    _outline(draw, [side * scale[place % 2] for place, side in enumerate(box)], colour, dash)
        panels.append(frame)
    strip = Image.new("RGB", (WIDTH * len(panels), max(panel.height for panel in panels)))
    for place, panel in enumerate(panels):
        strip.paste(panel, (place * WIDTH, 0))
    return strip


def _outline(draw: ImageDraw.ImageDraw, box: Sequence[float], colour: tuple[int, int, int], dash: int | None) -> None:
    x1, y1, x2, y2 = (min(max(side, -1.0), 1e4) for side in box)
    for (ax, ay), (bx, by) in pairwise([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]):
        pieces = 1 if dash is None else max(1, round(max(abs(bx - ax), abs(by - ay)) / dash)) | 1
        for piece in range(0, pieces, 2):
            ends = [(a + (b - a) * part / pieces) for part in (piece, piece + 1) for a, b in ((ax, bx), (ay, by))]
            draw.line(ends, fill=colour, width=2)


def _to_wandb(tag: str, image: Image.Image, caption: str, step: int) -> None:
    # The trainer has begun the run in this process, or there is none.
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        # The step's numbers come later and close the step.
        wandb.log({tag: wandb.Image(image, caption=caption)}, step=step, commit=False)


@cache
def _writer(folder: str) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, filename_suffix=".pictures")


def _to_tensorboard(tag: str, image: Image.Image, caption: str, step: int) -> None:
    # verl's writer is its own; a folder may have several. Without a folder, verl's is named by project and experiment.
    if folder := os.environ.get("TENSORBOARD_DIR"):
        writer = _writer(folder)
        writer.add_image(tag, np.asarray(image), step, dataformats="HWC")
        writer.flush()


TAKERS: dict[str, Callable[[str, Image.Image, str, int], None]] = {
    "wandb": _to_wandb,
    "tensorboard": _to_tensorboard,
}
"""Trackers that take pictures, and how they are given one."""


def send(loggers: Sequence[str], make: Callable[[], tuple[Image.Image, str]], step: int) -> None:
    """Give a picture and its caption to those of some trackers that take one; `make` is asked where there is one."""
    takers = [TAKERS[name] for name in loggers if name in TAKERS]
    try:
        image, caption = make() if takers else (None, "")
        for take in takers:
            assert image is not None
            take(TAG, image, caption, step)
    except (*UNREADABLE, RuntimeError, KeyError, TypeError) as error:
        logger.warning("step %d: no picture of a rollout: %s", step, error)
