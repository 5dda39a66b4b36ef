# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""TAG_mIoU: the time spans of one answer against those of the reference.

Surprises: only matched reference spans enter the mean, so one right span of ten scores 1 and a higher threshold can
score higher; spans too many cost nothing; if a single hyphenated pair is found, nothing else in the answer is read; a
reversed span never matches; times are multiplied by the frame rate first, whose float noise decides on a threshold's
very edge.
"""

from __future__ import annotations

import re
from typing import Any

from .records import NUMBER, START, Record, frame_rate

THRESHOLDS = (0.3, 0.5)

_HYPHEN = re.compile(rf"{START}({NUMBER})\s*+-\s*+({NUMBER})")
_UNIT = r"(?:s| seconds?+|(?!s| second))"
_TO = re.compile(rf"{START}({NUMBER}){_UNIT}\s*+to\s*+({NUMBER}){_UNIT}", re.IGNORECASE)
_CLOCK = re.compile(rf"{START}(\d++):(\d++):(\d++)\s++to\s++(\d++):(\d++):(\d++)")


def parse(answer: str) -> list[tuple[float, float]]:
    """The spans that an answer names, as (start, end) in seconds, in the order in which they are read."""
    if pairs := _HYPHEN.findall(answer):
        return [(float(start), float(end)) for start, end in pairs]
    spans = [(round(float(start), 2), round(float(end), 2)) for start, end in _TO.findall(answer)]
    for h1, m1, s1, h2, m2, s2 in _CLOCK.findall(answer):
        spans.append((_clock(h1, m1, s1), _clock(h2, m2, s2)))
    return spans


def _clock(hours: str, minutes: str, seconds: str) -> float:
    return float(int(hours) * 3600 + int(minutes) * 60 + int(seconds))


def _gold(record: Record) -> list[tuple[Any, Any]]:
    items = record.get("struc_info")
    if not isinstance(items, list):
        return []
    return [(span["start"], span["end"]) for item in items if "spans" in item for span in item["spans"]]


def _iou(a: tuple[Any, Any], b: tuple[Any, Any]) -> float:
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return shared / hull if hull > 0 else 0.0


def _matched(gold: list[tuple[Any, Any]], predicted: list[tuple[Any, Any]], threshold: float) -> list[float]:
    """The IoU of each reference span that found a partner: greedy, in the reference's order."""
    free = list(range(len(predicted)))
    found = []
    for span in gold:
        best, chosen = 0.0, None
        for index in free:
            iou = _iou(span, predicted[index])
            if iou > best:
                best, chosen = iou, index
        if chosen is not None and best >= threshold:
            free.remove(chosen)
            found.append(best)
    return found


def score(record: Record) -> dict[str, Any]:
    """``recall@t`` and ``meanIoU@t`` of one record for t of THRESHOLDS, and what was parsed; an unread answer is 0."""
    hash(record.get("data_source"))  # records are filed under it
    fps, group = frame_rate(record)
    spans = parse(record["answer"])
    gold = [(start * fps, end * fps) for start, end in _gold(record)]
    scaled = [(start * fps, end * fps) for start, end in spans]
    result: dict[str, Any] = {"pred_spans": [list(span) for span in spans], "fps_key": group}
    for threshold in THRESHOLDS:
        found = _matched(gold, scaled, threshold)
        result[f"recall@{threshold}"] = len(found) / len(gold) if gold else 0.0
        result[f"meanIoU@{threshold}"] = sum(found) / len(found) if found else 0.0
    return result
