# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a lane's counters are called, and the histogram of its latencies. Pure.

Latencies are counted in buckets, so that histograms of many processes add up: ten to a factor of ten, from 1 ms to
1000 s. What lies outside counts in the first or the last.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

LATENCY = "latency/"
"""Prefix of the histogram's counters; the bucket's number follows."""
FAILED = "failed/"
"""Prefix of the counters of questions that ended in an error; the error's name follows."""
SHORTEST_S, PER_DECADE, DECADES = 1e-3, 10, 6
BUCKETS = PER_DECADE * DECADES


def latency_bucket(seconds: float) -> str:
    """Name of the counter for a call that took so long."""
    place = math.floor(math.log10(max(seconds, SHORTEST_S) / SHORTEST_S) * PER_DECADE + 1e-9)
    return f"{LATENCY}{min(place, BUCKETS - 1):02d}"


def latency_quantile(counts: Sequence[float], share: float) -> float:
    """Seconds that a share of the calls did not exceed, at most one bucket (26 %) off.

    Args:
        counts: calls by bucket, at least one in all.
        share: above 0, to 1.
    """
    totals = list(accumulate(counts))
    wanted = share * totals[-1]
    place = bisect_left(totals, wanted)
    within = (wanted - (totals[place] - counts[place])) / counts[place]
    return SHORTEST_S * 10 ** ((place + within) / PER_DECADE)
