# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""DVC_F1 and the caption pairs of DVC_llm: events with times and captions.

Surprises: a record without a readable event (or without a reference) leaves F1's mean but keeps its weight in the
pooling of datasets; one event may cover many and the reverse; overlapping answers are cut into pieces at every end
point, overlapping references are not; times are multiplied by the frame rate and truncated to whole numbers; a list
with bullets or numbers is read as one event whose caption swallows the rest; in the pairs for the judge several events
may share a reference, and an event without a partner costs nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any

from .records import NUMBER, START, Record, dataset, frame_rate

THRESHOLDS = (0.3, 0.5, 0.7)
Event = dict[str, Any]

_TIMES = rf"({NUMBER})-({NUMBER})\s++seconds?+:"
_HEAD = re.compile(rf"{START}{_TIMES}\s++")
_NEXT = re.compile(rf"\n(?={_TIMES})")
_LOOSE = r"\d++\.?+\d*+"
_LINE_HEAD = re.compile(
    r"(?:^|\*\*Start Time:\*\*|Start\s*+\(?+Time\)?+|Time\s*+Range:|Time\s*+Interval:)"
    rf"\s*+({_LOOSE})\s*+[-–]\s*+({_LOOSE})\s*+seconds?+"
)
_LINE_CAPTION = re.compile(r"-|\*\*Description:\*\*")


def parse(answer: str) -> list[Event]:
    """The events of an answer: dicts of ``start``, ``end`` (seconds) and ``caption``, in the order of the text."""
    ends = [match.start() for match in _NEXT.finditer(answer)]
    events: dict[tuple[float, float], Event] = {}
    found = False
    position = 0
    while head := _HEAD.search(answer, position):
        found = True
        after = bisect_left(ends, head.end())
        position = ends[after] if after < len(ends) else len(answer)
        start, end = float(head[1]), float(head[2])
        caption = answer[head.end() : position].strip().replace("\n", " ")
        events.setdefault((start, end), {"start": start, "end": end, "caption": caption})
    return list(events.values()) if found else _parse_lines(answer)


def _parse_lines(answer: str) -> list[Event]:
    events = []
    for line in answer.split("\n"):
        if head := _LINE_HEAD.search(line):
            if mark := _LINE_CAPTION.search(line, head.end()):
                caption = line[mark.end() :].strip().rstrip(".")
                events.append({"start": float(head[1]), "end": float(head[2]), "caption": caption})
    return events


def _gold(record: Record) -> list[Event]:
    items = record.get("struc_info")
    if not isinstance(items, list) or not items:
        return []
    if isinstance(items[0], list):
        items = items[0]
    elif isinstance(items[0], dict) and "dc_segments" in items[0]:
        items = items[0]["dc_segments"]
    return [item for item in items if isinstance(item, dict) and {"start", "end", "caption"} <= item.keys()]


def overlapping(spans: list[tuple[float, float]]) -> bool:
    """Whether, in order of time, some span starts before the one right before it ends."""
    ordered = sorted(spans)
    return any(after[0] < before[1] for before, after in zip(ordered, ordered[1:], strict=False))


def flatten(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans cut at every end point: the pieces of the time line that some span covers, in order of time."""
    points = sorted({point for span in spans for point in span})
    index = {point: number for number, point in enumerate(points)}
    change = [0] * (len(points) + 1)
    for start, end in spans:
        if start < end:
            change[index[start]] += 1
            change[index[end]] -= 1
    pieces, depth = [], 0
    for number in range(len(points) - 1):
        depth += change[number]
        if depth > 0:
            pieces.append((points[number], points[number + 1]))
    return pieces


def _frames(spans: list[tuple[float, float]], fps: Any) -> list[tuple[int, int]]:
    return [(int(start * fps), int(end * fps)) for start, end in spans]


def _frame_iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    """IoU in whole frames; ``a`` and ``b`` in order of time inside. Equal spans stay a little under 1."""
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return shared / (min(hull, a[1] - a[0] + b[1] - b[0]) + 1e-8)


def _best(spans: list[tuple[int, int]], others: list[tuple[int, int]]) -> list[float]:
    ordered = [(min(other), max(other)) for other in others]
    return [max((_frame_iou((min(s), max(s)), other) for other in ordered), default=0.0) for s in spans]


def score_times(record: Record) -> dict[str, Any]:
    """Parsed events and F1 of one record; F1, precision and recall null where the evaluator leaves the record out."""
    fps, _ = frame_rate(record)
    hash(dataset("dvc", record))
    segments = parse(record["answer"])
    gold = _gold(record)
    spans = [(event["start"], event["end"]) for event in segments]
    result: dict[str, Any] = {"pred_segments": segments, "overlaps": overlapping(spans)}
    result |= dict.fromkeys(("pred_frames", "gt_frames", "Precision_Mean", "Recall_Mean", "F1_Score"))
    if not segments or not gold:
        return result
    predicted = _frames(flatten(spans) if result["overlaps"] else spans, fps)
    reference = _frames([(float(event["start"]), float(event["end"])) for event in gold], fps)
    covering, covered = _best(predicted, reference), _best(reference, predicted)
    precision = sum(sum(iou > t for iou in covering) / max(len(covering), 1) for t in THRESHOLDS) / len(THRESHOLDS)
    recall = sum(sum(iou > t for iou in covered) / len(covered) for t in THRESHOLDS) / len(THRESHOLDS)
    result |= {
        "pred_frames": [list(span) for span in predicted],
        "gt_frames": [list(span) for span in reference],
        "Precision_Mean": precision,
        "Recall_Mean": recall,
        "F1_Score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }
    return result


def _second_iou(a: Event, b: Event) -> float:
    shared = max(0, min(a["end"], b["end"]) - max(a["start"], b["start"]))
    union = (a["end"] - a["start"]) + (b["end"] - b["start"]) - shared
    return shared / union if union > 0 else 0.0


def caption_pairs(record: Record, segments: list[Event]) -> dict[str, list[list[Any]]] | None:
    """By threshold the (predicted, reference) captions that the judge compares; null without events or reference.

    Raises:
        TypeError: reference times that are text, which F1 accepts.
    """
    gold = _gold(record)
    if not segments or not gold:
        return None
    pairs: dict[str, list[list[Any]]] = {str(threshold): [] for threshold in THRESHOLDS}
    for segment in segments:
        overlaps = [_second_iou(segment, event) for event in gold]
        best = max(overlaps)
        for threshold in THRESHOLDS:
            if best >= threshold:
                pairs[str(threshold)].append([segment["caption"], gold[overlaps.index(best)]["caption"]])
    return pairs
