# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signals in time: spans against spans, events against events. Times are clip seconds.

A span whose end lies before its start was predicted and counts, but overlaps nothing. A span of zero length stands
for one sampled frame and is widened to one sampling interval around it, in predictions and in golds alike: without
that, a right answer to a zero-length gold would score 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from .answers import Event, Span
from .errors import BadGroundTruth

DEFAULT_INTERVAL = 1.0
"""Seconds between sampled frames where a sample does not say."""
F1_THRESHOLDS = (0.3, 0.5, 0.7)
"""IoU thresholds over which the temporal F1 is averaged, as on the leaderboard."""
PAIR_THRESHOLD = 0.3
"""Least IoU at which two events are the same event and their captions are compared."""


def span_iou(a: Span, b: Span) -> float:
    """Intersection over union of two spans, 0 to 1; 0 where either is inverted or empty."""
    start_a, end_a = a
    start_b, end_b = b
    if end_a <= start_a or end_b <= start_b:
        return 0.0
    intersection = (end_a if end_a < end_b else end_b) - (start_a if start_a > start_b else start_b)
    if intersection <= 0:
        return 0.0
    return min(intersection / (end_a - start_a + end_b - start_b - intersection), 1.0)


def widen(span: Span, interval: float) -> Span:
    """A zero-length span as one sampling interval around its time; any other span as it is."""
    start, end = span
    return (start - interval / 2, end + interval / 2) if start == end else span


def assign(matrix: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """The one-to-one assignment of rows to columns with the greatest sum, as (row, column) pairs of positive value."""
    if not matrix or not matrix[0]:
        return []
    rows, columns = len(matrix), len(matrix[0])
    if rows == 1:
        row = matrix[0]
        pairs = [(0, max(range(columns), key=row.__getitem__))]
    elif columns == 1:
        pairs = [(max(range(rows), key=lambda i: matrix[i][0]), 0)]
    elif rows == 2 and columns == 2:
        straight = matrix[0][0] + matrix[1][1] >= matrix[0][1] + matrix[1][0]
        pairs = [(0, 0), (1, 1)] if straight else [(0, 1), (1, 0)]
    else:
        pairs = _assign_large(matrix)
    return [(i, j) for i, j in pairs if matrix[i][j] > 0]


def _assign_large(matrix: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    # Imported here: scipy.optimize takes longer to import than most samples need it for.
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(matrix, dtype=np.float64), maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _ious(predicted: Sequence[Span], gold: Sequence[Span], interval: float) -> list[list[float]]:
    if not gold:
        raise BadGroundTruth("the reference has no span: expected at least one")
    gold = [widen(span, interval) for span in gold]
    return [[span_iou(widen(span, interval), other) for other in gold] for span in predicted]


def tal_iou(predicted: Sequence[Span], gold: Sequence[Span], interval: float = DEFAULT_INTERVAL) -> float:
    """Sum of IoU over the best one-to-one matching, divided by the larger number of spans. 0 to 1.

    Raises:
        BadGroundTruth: no gold span.
    """
    ious = _ious(predicted, gold, interval)
    total = sum(ious[i][j] for i, j in assign(ious))
    return min(total / max(len(predicted), len(gold)), 1.0)


def _spans(events: Sequence[Event]) -> list[Span]:
    return [(event.start, event.end) for event in events]


def temporal_f1(
    predicted: Sequence[Event],
    gold: Sequence[Event],
    interval: float = DEFAULT_INTERVAL,
    thresholds: Sequence[float] = F1_THRESHOLDS,
) -> float:
    """F1 of events found, averaged over IoU thresholds; an event counts once, in the largest one-to-one matching.

    Raises:
        BadGroundTruth: no gold event.
    """
    ious = _ious(_spans(predicted), _spans(gold), interval)
    total = sum(_matched(ious, threshold) for threshold in thresholds)
    return 2 * total / (len(predicted) + len(gold)) / len(thresholds)


def _matched(ious: Sequence[Sequence[float]], threshold: float) -> int:
    """Size of the largest one-to-one matching among pairs at or above the threshold."""
    hits = [[j for j, value in enumerate(row) if value >= threshold] for row in ious]
    hits = [row for row in hits if row]
    if all(len(row) == 1 for row in hits):
        return len({row[0] for row in hits})
    columns = sorted({j for row in hits for j in row})
    return len(assign([[1.0 if j in row else 0.0 for j in columns] for row in hits]))


def matched_events(
    predicted: Sequence[Event], gold: Sequence[Event], interval: float = DEFAULT_INTERVAL
) -> list[tuple[Event, Event]]:
    """Pairs (predicted, gold) of the best one-to-one matching with an IoU of at least `PAIR_THRESHOLD`.

    The order in which events come does not matter, ties included.
    """
    predicted = sorted(predicted, key=_event_key)
    gold = sorted(gold, key=_event_key)
    ious = _ious(_spans(predicted), _spans(gold), interval)
    ious = [[value if value >= PAIR_THRESHOLD else 0.0 for value in row] for row in ious]
    return [(predicted[i], gold[j]) for i, j in assign(ious)]


def _event_key(event: Event) -> tuple[float, float, str]:
    return event.start, event.end, event.caption
