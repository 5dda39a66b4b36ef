# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signals of component scores (critical view of safety, surgical skill): ordinal numbers by component.

Both are means over *all* gold components. A component that the answer does not give scores 0, never better than a
wrong one; components that the reference does not have count nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import BadGroundTruth


def _components(gold: Mapping[str, int]) -> int:
    if not gold:
        raise BadGroundTruth("the reference has no component: expected at least one")
    return len(gold)


def exact_share(predicted: Mapping[str, int], gold: Mapping[str, int]) -> float:
    """Share of the gold components whose score is exactly right, 0 to 1. Empty gold raises BadGroundTruth."""
    count = _components(gold)
    return sum(predicted.get(key) == score for key, score in gold.items()) / count


def closeness(predicted: Mapping[str, int], gold: Mapping[str, int], score_range: int) -> float:
    """Mean over the gold components of 1 - |difference| / range, 0 where missing. Empty gold raises BadGroundTruth.

    Args:
        predicted: scores by component.
        gold: scores by component.
        score_range: greatest difference that two scores can have (2 for 0..2, 4 for 1..5).
    """
    count = _components(gold)
    total = 0.0
    for key, score in gold.items():
        if key in predicted:
            total += max(0.0, 1 - abs(predicted[key] - score) / score_range)
    return total / count
