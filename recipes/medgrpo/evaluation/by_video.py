# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two trainings of each seed on the same rows, compared video by video: the statistic of docs/collapse.md.

The difference is averaged over the answers of a row, the rows of a video, the videos of a seed and the seeds. Its
interval draws videos within each seed, as every seed has videos of its own. Its test exchanges the two trainings video
by video: if they are alike, either could have given either answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.medgrpo.evaluation.comparison import NOISE, ComparisonError, Records, exchange_p, exchanges, matched
from reward_score.bootstrap import draw, interval


@dataclass(frozen=True)
class SeedDifference:
    """A number of the second trainings minus that of the first.

    Attributes:
        difference: mean over the seeds. by_seed: each seed's.
        low, high: 95 %, over videos; None where a seed has one video only.
        p: of the exchange, two-sided; exact says whether all exchanges were tried.
        videos: of all seeds.
    """

    difference: float
    by_seed: list[float]
    low: float | None
    high: float | None
    p: float
    exact: bool
    videos: int


def video_changes(before: Records, after: Records, measure: str, tasks: Collection[str]) -> dict[str, float]:
    """By video: the mean over its rows, of these tasks, of the mean change of a row's answers.

    Raises:
        ComparisonError: see `matched`; or no answer of these tasks.
    """
    first, second = (
        [one for one in side if one["data_source"].rpartition("/")[2] in tasks] for side in (before, after)
    )
    rows: dict[str, dict[tuple, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record, change in matched(first, second, measure):
        rows[record["video"]][record["data_source"], record.get("file"), record["index"]].append(change)
    if not rows:
        raise ComparisonError(f"no answer of the tasks {', '.join(sorted(tasks))}")
    return {video: float(np.mean([np.mean(changes) for changes in row.values()])) for video, row in rows.items()}


def seed_difference(seeds: Sequence[Mapping[str, float]], *, resamples: int = 10_000, seed: int = 0) -> SeedDifference:
    """The mean difference of some seeds with its interval and p.

    Args:
        seeds: of each seed the `video_changes`. resamples, seed: of the bootstrap; the seed is the test's too.
    """
    values = [np.array([changes[video] for video in sorted(changes)]) for changes in seeds]
    means = [float(of.mean()) for of in values]
    drawn = [
        draw(len(of), resamples, np.random.default_rng([seed, number])) @ of / len(of)
        for number, of in enumerate(values)
    ]
    low, high, _ = interval(np.mean(drawn, axis=0), min(map(len, values)))
    # What each video adds to the difference; exchanging its trainings turns the sign.
    added = np.concatenate([of / (len(of) * len(values)) for of in values])
    added = added[np.abs(added) > NOISE]
    tries, exact = exchanges(len(added), seed)
    observed = added.sum()
    reached = int((np.abs(observed - 2 * tries @ added) >= abs(observed) - NOISE).sum())
    p = float(exchange_p(reached, len(tries), exact))
    return SeedDifference(float(np.mean(means)), means, low, high, p, exact, sum(map(len, values)))
