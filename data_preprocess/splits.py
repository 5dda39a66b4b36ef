# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Train and validation by source video: no video on both sides, every dataset-task pair on both where it can be."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

Video = tuple[str, str]
"""(source, video id)."""


def choose_validation(counts: Mapping[tuple[Video, str], int], fraction: float, seed: int = 0) -> set[Video]:
    """The videos whose rows are validation rows.

    Videos are taken in an order that depends on the seed alone, not on the order of the rows; one is taken when it
    brings its pairs' shares of validation rows nearer to `fraction` (sum of squared differences) and leaves each of
    them a training video. A pair with two videos or more that is still without validation rows then gets the video
    that disturbs the shares least. Pairs whose videos overlap badly may stay on one side: look at the counts.

    Args:
        counts: rows of each (video, pair).
        fraction: wanted share of validation rows in every pair, 0 to below 1. 0 takes none.
        seed: of the order.
    """
    if fraction <= 0:
        return set()
    rows: dict[Video, Counter[str]] = {}
    videos: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for (video, pair), count in counts.items():
        rows.setdefault(video, Counter())[pair] += count
    for pairs in rows.values():
        totals.update(pairs)
        videos.update(pairs.keys())
    order = sorted(rows, key=lambda video: hashlib.sha256(repr((seed, *video)).encode()).digest())
    taken: set[Video] = set()
    shown: Counter[str] = Counter()
    used: Counter[str] = Counter()

    def gain(video: Video) -> float:
        """How much nearer to the fraction the shares come when `video` is taken."""
        before = ((shown[pair] / totals[pair] - fraction) ** 2 for pair in rows[video])
        after = (((shown[pair] + count) / totals[pair] - fraction) ** 2 for pair, count in rows[video].items())
        return sum(before) - sum(after)

    def spare(video: Video) -> bool:
        return all(used[pair] + 1 < videos[pair] for pair in rows[video])

    def take(video: Video) -> None:
        taken.add(video)
        shown.update(rows[video])
        used.update(rows[video].keys())

    for video in order:
        if spare(video) and gain(video) > 1e-12:
            take(video)
    for pair in sorted(totals):
        if not shown[pair]:
            candidates = [video for video in order if video not in taken and pair in rows[video] and spare(video)]
            if candidates:
                take(max(candidates, key=gain))
    return taken
