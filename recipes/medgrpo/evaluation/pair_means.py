# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Scored answers in means per dataset-task pair, and two evaluations compared answer by answer.

Numbers alone: nothing here needs a model, verl or torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


class ComparisonError(ValueError):
    """Two evaluations do not answer the same questions."""


def pair_scores(records: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Mean accuracy, mean format and count per pair."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for record in records:
        groups[record["data_source"]].append(record)
    return {
        pair: {
            "acc": float(np.mean([record["acc"] for record in members])),
            "format": float(np.mean([record["format"] for record in members])),
            "n": len(members),
        }
        for pair, members in sorted(groups.items())
    }


def overall(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Plain means over pairs."""
    return {name: float(np.mean([values[name] for values in scores.values()])) for name in ("acc", "format")}


def _match(before: Sequence[dict], after: Sequence[dict]) -> list[tuple[str, str, float]]:
    """(pair, video, difference in accuracy) of every answer."""

    def keyed(records):
        # Two annotation files number their rows alike.
        return {(r["data_source"], r.get("file") or "", r["index"], r["sample"]): r for r in records}

    first, second = keyed(before), keyed(after)
    if len(first) != len(before) or len(second) != len(after):
        raise ComparisonError("an evaluation holds the same row (pair, file, index) and sample twice")
    if first.keys() != second.keys():
        raise ComparisonError(
            f"the two evaluations share {len(first.keys() & second.keys())} of {len(first)} and {len(second)} answers: "
            "same data, seed and samples are needed"
        )
    return [(key[0], first[key]["video"], second[key]["acc"] - first[key]["acc"]) for key in sorted(first)]


def paired_difference(
    runs: Sequence[tuple[Sequence[dict], Sequence[dict]]], *, resamples: int = 4000, seed: int = 0
) -> dict[str, float]:
    """Mean over pairs of the change in accuracy, averaged over runs, with a 95 % bootstrap interval over videos.

    `runs` holds (records before, records after) of one or several independent runs; the videos of each run are
    drawn with replacement. Not within sources: with a few videos each that would understate the spread.
    """
    rng = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    estimate, videos_seen = 0.0, 0
    for before, after in runs:
        rows = _match(before, after)
        pairs = sorted({pair for pair, _, _ in rows})
        videos = sorted({video for _, video, _ in rows})
        videos_seen += len(videos)
        totals, counts = np.zeros((len(videos), len(pairs))), np.zeros((len(videos), len(pairs)))
        for pair, video, change in rows:
            at = videos.index(video), pairs.index(pair)
            totals[at] += change
            counts[at] += 1
        estimate += float(np.mean(totals.sum(0) / counts.sum(0))) / len(runs)
        weights = rng.multinomial(len(videos), np.full(len(videos), 1 / len(videos)), resamples)
        drawn = weights @ counts
        # A pair whose videos were not drawn at all is left out of that resample's mean.
        means = np.divide(weights @ totals, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
        draws += np.nanmean(means, axis=1) / len(runs)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"acc_change": estimate, "low": float(low), "high": float(high), "runs": len(runs), "videos": videos_seen}
