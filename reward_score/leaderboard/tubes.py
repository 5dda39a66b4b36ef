# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""STG_mIoU: one box a moment, in the pixels of the annotation.

Surprises: a moment without an answered box takes the box of the moment before it, the first moment excepted; a box
that cannot be read repeats the last one read; reference times are looked up rounded to one decimal, so an answer
that repeats 1.25 is not found; a record whose reference has no readable box leaves the mean; one ``nan`` makes the
whole column not a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .records import NUMBER, START, Record, frame_rate

_HEAD = re.compile(rf"{START}({NUMBER})\s++seconds:\s*+\[")
_BARE = re.compile(r"\[\[([\d\s,]++)\]\]")
NO_BOX = [0.0, 0.0, 0.0, 0.0]


def _box(text: str, read: Callable[[str], float]) -> list[float] | None:
    try:
        box = [read(part) for part in text.split(",")]
    except ValueError:
        return None
    return box if len(box) == 4 else None


def _coordinate(text: str) -> float:
    return float(text.strip().lstrip("[").rstrip("]"))


def parse(answer: str) -> dict[str, list[float]] | list[list[float]]:
    """The boxes of an answer by time, spelt as ``str(float(...))``.

    If no time has a box, a list of the boxes without times instead (``[[x1, y1, x2, y2]]``, integers only).
    """
    boxes: dict[str, list[float]] = {}
    last, found = None, False
    position = 0
    while head := _HEAD.search(answer, position):
        position = answer.find("]", head.end())
        if position < 0:
            break
        if position == head.end():
            continue
        found = True
        box = _box(answer[head.end() : position], _coordinate)
        last = box if box is not None else last
        if last is not None:
            boxes[str(float(head[1]))] = last
    if found:
        return boxes
    return [box for match in _BARE.finditer(answer) if (box := _box(match[1], int)) is not None]


def _gold(record: Record) -> dict[str, Any]:
    item: Any = record.get("struc_info")
    if isinstance(item, list) and item:
        item = item[0]
    elif not isinstance(item, dict):
        return {}
    boxes = item.get("bbox_dict", item)
    return dict(boxes.items())


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(value, (int, float)) for value in box)


def ious(predicted: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """IoU of n pairs of boxes, arrays (n, 4) of x1, y1, x2, y2. An empty or inverted box gives 0, nan stays nan."""
    with np.errstate(all="ignore"):
        size_a = (predicted[:, 2] - predicted[:, 0]) * (predicted[:, 3] - predicted[:, 1])
        size_b = (gold[:, 2] - gold[:, 0]) * (gold[:, 3] - gold[:, 1])
        sides = np.minimum(predicted[:, 2:], gold[:, 2:]) - np.maximum(predicted[:, :2], gold[:, :2])
        shared = np.maximum(sides, 0.0).prod(axis=1)
        return shared / np.maximum(size_a + size_b - shared, 1e-6)


def score(record: Record) -> dict[str, Any]:
    """``mean_iou`` of one record over the reference's moments, null where the evaluator drops the record."""
    # Both only name the group that the record is filed under, but must be readable all the same.
    hash(record.get("data_source"))
    frame_rate(record)
    gold = _gold(record)
    answered = parse(record["answer"])
    # Boxes without times go to the reference's own spelling of its times, which the look-up below then rounds away.
    by_time = dict(zip(map(str, gold), answered, strict=False)) if isinstance(answered, list) else answered
    predicted, reference = [], []
    previous = NO_BOX
    for key, box in gold.items():
        current = by_time.get(f"{float(key):.1f}", NO_BOX)
        previous = previous if current == NO_BOX else current
        if _is_box(box):
            if all(isinstance(value, bool) for value in box):
                raise TypeError("a box of booleans cannot be subtracted")
            predicted.append(previous)
            reference.append(box)
    values = ious(np.array(predicted, dtype=float), np.array(reference, dtype=float)) if reference else None
    return {"pred_boxes": answered, "mean_iou": None if values is None else float(values.mean())}
