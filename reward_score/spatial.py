# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signal in space and time: boxes against boxes at given times. Canvas pixels and clip seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from math import inf

from .boxes import Box, iou
from .errors import BadGroundTruth

_TIME_TOLERANCE = 1e-6


def pair_times(predicted: list[float], gold: list[float], reach: float) -> list[tuple[float, float]]:
    """Pairs (predicted time, gold time) at most ``reach`` seconds apart, each time in one pair; both lists have no
    time twice.

    A predicted time belongs to the gold time nearest to it and to no other, the earlier one of two; of those that
    belong to a gold time, the nearest one serves it, the earlier one of two. So no other prediction can push one to
    a gold time that suits it better.
    """
    asked = set(gold)
    if all(time in asked for time in predicted):
        return [(time, time) for time in predicted]
    gold = sorted(gold)
    best: dict[float, tuple[float, float]] = {}
    for time in predicted:
        place = bisect_left(gold, time)
        distance, other = min((abs(time - other), other) for other in gold[max(place - 1, 0) : place + 1])
        if distance <= reach + _TIME_TOLERANCE and (distance, time) < best.get(other, (inf, inf)):
            best[other] = (distance, time)
    return [(time, other) for other, (_, time) in best.items()]


def stg_iou(predicted: Mapping[float, Box], gold: Mapping[float, Box], stride: float | None = None) -> float:
    """Mean IoU over the gold times, surplus times at a cost: sum of IoU / max(#gold, #predicted). 0 to 1.

    The box that counts at a gold time is the one predicted nearest to it, at most half a stride away; one predicted
    time serves one gold time (`pair_times`), and nothing is carried forward. Without a stride, the least gap between
    gold times is taken, and 1 s where there is only one. 1 means every gold box at its time or within half a stride
    of it, and no other.

    Raises:
        BadGroundTruth: no gold box.
    """
    if not gold:
        raise BadGroundTruth("the reference has no box: expected at least one")
    if not stride or stride <= 0:
        times = sorted(gold)
        stride = min((b - a for a, b in zip(times, times[1:], strict=False)), default=1.0)
    pairs = pair_times(list(predicted), list(gold), stride / 2)
    total = sum(iou(predicted[time], gold[other]) for time, other in pairs)
    return min(total / max(len(gold), len(predicted)), 1.0)
