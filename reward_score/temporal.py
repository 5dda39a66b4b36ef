# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signals in time: spans against spans, events against events. Times are clip seconds.

A span whose end lies before its start was predicted and counts, but overlaps nothing. Nor does a predicted span of zero
length overlap a reference that has a length: the shorter a prediction inside a reference, the less it earns, down to 0.

A *reference* of zero length stands for one sampled frame, and is widened to one sampling interval around it. A
prediction shorter than that interval shows the same frame as the interval around its own middle, and is compared as
such, with this reference only. So the right answer to it scores 1, and no answer can ask for a tolerance that its
reference does not need.

A span said again counts as predicted and matches nothing: otherwise one span, repeated, could match two golds that
overlap it. Spans whose starts and whose ends lie less than half a sampling interval apart show the same frames, and
are copies of each other. The one that overlaps a gold most stays. A prediction that is exactly a gold span is no copy,
as often as the gold itself holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .answers import Event, Span
from .errors import BadGroundTruth
from .references import TIME_ROUNDING

DEFAULT_INTERVAL = 1.0
"""Seconds between sampled frames where a sample does not say."""
F1_THRESHOLDS = (0.3, 0.5, 0.7)
"""IoU thresholds over which the temporal F1 is averaged, as on the leaderboard."""
REACH = 2.0
"""Lengths of the reference at which a span is no longer near: with 2, one that overlaps nothing earns half at most."""
PAIR_THRESHOLD = 0.3
"""Least IoU at which two events are the same event and their captions are compared."""
_TIE = 1e-9


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


def gold_iou(predicted: Span, gold: Span, interval: float) -> float:
    """IoU of a prediction with a gold span, 0 to 1; with a gold span of zero length, both are at least one interval."""
    return span_iou(*_as_frames(predicted, gold, interval)) if gold[0] == gold[1] else span_iou(predicted, gold)


def _as_frames(predicted: Span, gold: Span, interval: float) -> tuple[Span, Span]:
    """A prediction and a gold span of zero length, as the frames that they show: both at least one interval long."""
    start, end = predicted
    if start <= end < start + interval:
        middle = (start + end) / 2
        predicted = (middle, middle)
    return widen(predicted, interval), widen(gold, interval)


def span_distance(a: Span, b: Span) -> float:
    """Wasserstein-1 distance in seconds between masses spread evenly over two spans.

    That is the mean distance of points that lie at the same share of either: it runs linearly from the distance of the
    starts to that of the ends.
    """
    start, end = a[0] - b[0], a[1] - b[1]
    if start * end >= 0:
        return abs(start + end) / 2
    return (start * start + end * end) / (2 * (abs(start) + abs(end)))


def gold_nearness(predicted: Span, gold: Span, interval: float) -> float:
    """How near a prediction is to a gold span, 0 to 1, where they need not overlap: shorter / longer x (1 - d / (2 L)).

    d is `span_distance`, L the gold's length; 0 from d = 2 L on. 1 means the gold span itself. Without the ratio of
    the lengths a span over the whole clip would be near to everything. An inverted or empty prediction is near to
    nothing; a gold span of zero length is compared as in `gold_iou`.
    """
    if gold[0] == gold[1]:
        predicted, gold = _as_frames(predicted, gold, interval)
    said, length = predicted[1] - predicted[0], gold[1] - gold[0]
    if said <= 0:
        return 0.0
    near = 1 - span_distance(predicted, gold) / (REACH * length)
    return max(near, 0.0) * (said / length if said < length else length / said)


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


def _rows(
    predicted: Sequence[Span],
    gold: Sequence[Span],
    interval: float,
    measure: Callable[[Span, Span, float], float] = gold_iou,
) -> list[tuple[int, list[float]]]:
    """For every prediction that is no copy: its number, and its IoU, or other measure, with every gold span."""
    if not gold:
        raise BadGroundTruth("the reference has no span: expected at least one")
    rows = [[measure(span, other, interval) for other in gold] for span in predicted]
    return [(number, rows[number]) for number in _originals(predicted, gold, interval, rows)]


def _originals(
    predicted: Sequence[Span], gold: Sequence[Span], interval: float, rows: Sequence[Sequence[float]]
) -> list[int]:
    """Numbers of the predicted spans that are no copies, ascending; which copy stays does not depend on the order.

    `rows` holds the IoU of every prediction with every gold span. See the module's text for what a copy is.
    """
    if len(predicted) < 2:
        return list(range(len(predicted)))
    left = list(gold)
    kept: list[int] = []
    others = sorted(range(len(predicted)), key=lambda number: predicted[number])
    # A gold span is no copy of another one, however near they lie; as it was written first, then as it is rendered.
    for rounding in (0.0, TIME_ROUNDING):
        for number in tuple(others):
            start, end = predicted[number]
            for span in left:
                if abs(span[0] - start) <= rounding and abs(span[1] - end) <= rounding:
                    left.remove(span)
                    kept.append(number)
                    others.remove(number)
                    break
    reach = interval / 2
    for number in sorted(others, key=lambda number: (-max(rows[number]), predicted[number])):
        start, end = span = predicted[number]
        for other in kept:
            a, b = predicted[other]
            if span == (a, b) or (-reach < a - start < reach and -reach < b - end < reach):
                break
        else:
            kept.append(number)
    return sorted(kept)


def tal_iou(predicted: Sequence[Span], gold: Sequence[Span], interval: float = DEFAULT_INTERVAL) -> float:
    """Sum of IoU over the best one-to-one matching, divided by the larger number of spans. 0 to 1.

    1 means that the predicted spans are the gold spans, widened. A copy is among the predicted spans and matches none.

    Raises:
        BadGroundTruth: no gold span.
    """
    return _matched_share(predicted, gold, _rows(predicted, gold, interval))


def tal_wasserstein(predicted: Sequence[Span], gold: Sequence[Span], interval: float = DEFAULT_INTERVAL) -> float:
    """`tal_iou` with `gold_nearness` in the place of the IoU: it says something where nothing overlaps. 0 to 1.

    Raises:
        BadGroundTruth: no gold span.
    """
    return _matched_share(predicted, gold, _rows(predicted, gold, interval, gold_nearness))


def _matched_share(predicted: Sequence[Span], gold: Sequence[Span], rows: Sequence[tuple[int, list[float]]]) -> float:
    values = [row for _, row in rows]
    total = sum(values[i][j] for i, j in assign(values))
    return min(total / max(len(predicted), len(gold)), 1.0)


def _told(events: Sequence[Event]) -> list[Event]:
    """The events that describe something. A blank caption is no event found, but it was predicted and counts."""
    return [event for event in events if event.caption.strip()]


def _spans(events: Sequence[Event]) -> list[Span]:
    return [(event.start, event.end) for event in events]


def temporal_f1(
    predicted: Sequence[Event],
    gold: Sequence[Event],
    interval: float = DEFAULT_INTERVAL,
    thresholds: Sequence[float] = F1_THRESHOLDS,
) -> float:
    """F1 of events found, averaged over IoU thresholds; an event counts once, in the largest one-to-one matching.

    1 means as many events as the gold has, each of another gold event with an IoU of at least the highest threshold.
    Copies and events with a blank caption count as predicted and find nothing.

    Raises:
        BadGroundTruth: no gold event.
    """
    ious = [row for _, row in _rows(_spans(_told(predicted)), _spans(gold), interval)]
    total = sum(_matched(ious, threshold) for threshold in thresholds)
    return 2 * total / (len(predicted) + len(gold)) / len(thresholds)


def _matched(ious: Sequence[Sequence[float]], threshold: float) -> int:
    """Size of the largest one-to-one matching among pairs at or above the threshold."""
    hits = [[j for j, value in enumerate(row) if value >= threshold] for row in ious if max(row) >= threshold]
    if len(hits) < 2:
        return len(hits)
    if all(len(row) == 1 for row in hits):
        return len({row[0] for row in hits})
    columns = sorted({j for row in hits for j in row})
    return len(assign([[1.0 if j in row else 0.0 for j in columns] for row in hits]))


def matched_events(
    predicted: Sequence[Event], gold: Sequence[Event], interval: float = DEFAULT_INTERVAL
) -> list[tuple[Event, Event]]:
    """Pairs (predicted, gold) of the best one-to-one matching with an IoU of at least `PAIR_THRESHOLD`.

    The order in which events come does not matter, ties included; among equal IoUs, equal captions go together.
    Copies and events with a blank caption are in no pair.
    """
    predicted = sorted(_told(predicted), key=_event_key)
    gold = sorted(gold, key=_event_key)
    candidates: list[Event] = []
    values: list[list[float]] = []
    for number, row in _rows(_spans(predicted), _spans(gold), interval):
        event = predicted[number]
        # What matches nothing is left out of the assignment: it must not decide how ties are broken.
        if max(row) >= PAIR_THRESHOLD:
            candidates.append(event)
            values.append(
                [
                    value + _TIE * (event.caption == other.caption) if value >= PAIR_THRESHOLD else 0.0
                    for value, other in zip(row, gold, strict=True)
                ]
            )
    return [(candidates[i], gold[j]) for i, j in assign(values)]


def _event_key(event: Event) -> tuple[float, float, str]:
    return event.start, event.end, event.caption
