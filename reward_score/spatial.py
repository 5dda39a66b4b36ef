# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signal in space and time: boxes against boxes at given times. Canvas pixels and clip seconds."""

from __future__ import annotations

from collections.abc import Mapping

from .boxes import Box, iou
from .errors import BadGroundTruth

_TIME_TOLERANCE = 1e-6


def pair_times(predicted: list[float], gold: list[float], reach: float) -> list[tuple[float, float]]:
    """Pairs (predicted time, gold time) at most ``reach`` seconds apart, each time in one pair, nearest first."""
    asked = set(gold)
    if all(time in asked for time in predicted) or not predicted:
        return [(time, time) for time in predicted]
    distances = sorted(
        (abs(time - other), other, time)
        for time in predicted
        for other in gold
        if abs(time - other) <= reach + _TIME_TOLERANCE
    )
    pairs: list[tuple[float, float]] = []
    used: set[float] = set()
    served: set[float] = set()
    for _, other, time in distances:
        if other not in served and time not in used:
            served.add(other)
            used.add(time)
            pairs.append((time, other))
    return pairs


def stg_iou(predicted: Mapping[float, Box], gold: Mapping[float, Box], stride: float | None = None) -> float:
    """Mean IoU over the gold times, surplus times at a cost: sum of IoU / max(#gold, #predicted). 0 to 1.

    The box that counts at a gold time is the one predicted nearest to it, at most half a stride away; one predicted
    time serves one gold time, and nothing is carried forward. Without a stride, the least gap between gold times is
    taken, and 1 s where there is only one.

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
