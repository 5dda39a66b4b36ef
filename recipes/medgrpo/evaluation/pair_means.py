# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Scored answers in means per dataset-task pair, and two evaluations compared answer by answer.

Numbers alone: nothing here needs a model, verl or torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from recipes.medgrpo.files import InputError
from reward_score.bootstrap import Bootstrap, interval, ratio


class ComparisonError(InputError):
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
) -> dict[str, Any]:
    """Mean over pairs of the change in accuracy, averaged over runs, with a 95 % bootstrap interval over videos.

    Whole videos are drawn, the same ones for every run, so that runs on the same videos are no more evidence about
    other videos than one of them. They are not drawn within sources: with a few videos each, that would understate
    the spread.

    Args:
        runs: (records before, records after) of one or several runs.
        resamples, seed: of the bootstrap.

    Returns:
        ``acc_change``, ``low`` and ``high`` (None with a single video), ``runs``, and ``videos``, each counted once.
    """
    matched = [_match(before, after) for before, after in runs]
    bootstrap = Bootstrap([video for rows in matched for _, video, _ in rows], resamples, seed)
    changes, draws = [], []
    for rows in matched:
        pairs = sorted({pair for pair, _, _ in rows})
        cells = np.zeros((len(rows), 2, len(pairs)))
        for cell, (pair, _, change) in zip(cells, rows, strict=True):
            cell[:, pairs.index(pair)] = change, 1
        totals, counts = bootstrap.sums(cells, [video for _, video, _ in rows]).swapaxes(0, 1)
        changes.append(np.mean(totals.sum(0) / counts.sum(0)))
        means = ratio(bootstrap.drawn @ totals, bootstrap.drawn @ counts)
        # A pair whose videos were not drawn at all is left out of that resample's mean.
        draws.append(ratio(np.nansum(means, axis=1), (~np.isnan(means)).sum(axis=1)))
    videos = bootstrap.drawn.shape[1]
    low, high, _ = interval(np.mean(draws, axis=0), videos)
    return {"acc_change": float(np.mean(changes)), "low": low, "high": high, "runs": len(runs), "videos": videos}
