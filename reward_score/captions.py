# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signals of free text: which texts are compared, and how values of single pairs become one number.

Two signals look at the same pairs: ``similarity``, the cosine of two sentence embeddings (`similarity`), and
``judge``, the mean of five judged dimensions brought from 1..5 to 0..1 (`judge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .answers import Event
from .errors import BadGroundTruth, RewardError
from .temporal import DEFAULT_INTERVAL, matched_events

JUDGE_LOW, JUDGE_HIGH = 1.0, 5.0


@dataclass(frozen=True)
class CaptionPairs:
    """Pairs (prediction, reference) to compare, and by how many comparisons their sum is divided."""

    pairs: tuple[tuple[str, str], ...]
    count: int

    def mean(self, values: Sequence[float]) -> float:
        """The signal of the whole answer: what was not paired counts 0. 0 to 1."""
        return min(sum(values) / self.count, 1.0) if self.count else 0.0


def text_pair(predicted: str, reference: str) -> CaptionPairs:
    """A summary or region caption against its reference text. A blank reference raises BadGroundTruth."""
    if not reference.strip():
        raise BadGroundTruth("the reference text is blank: expected a caption")
    return CaptionPairs(((predicted, reference),), 1)


def event_pairs(predicted: Sequence[Event], gold: Sequence[Event], interval: float = DEFAULT_INTERVAL) -> CaptionPairs:
    """Captions of matched events; every unmatched event, predicted or gold, counts 0."""
    pairs = matched_events(predicted, gold, interval)
    return CaptionPairs(tuple((a.caption, b.caption) for a, b in pairs), max(len(predicted), len(gold)))


def judge_value(mean: float) -> float:
    """The mean of the judged dimensions, 1 to 5, as 0 to 1.

    Raises:
        RewardError: outside 1 to 5: a judge that cannot count is not an answer's fault.
    """
    if not JUDGE_LOW <= mean <= JUDGE_HIGH:
        raise RewardError(f"judge mean {mean!r}: expected {JUDGE_LOW} to {JUDGE_HIGH}")
    return (mean - JUDGE_LOW) / (JUDGE_HIGH - JUDGE_LOW)
