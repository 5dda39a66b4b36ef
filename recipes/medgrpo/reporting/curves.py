# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run's metrics as curves, per pair, task and source and over everything.

A task's and a source's curve is the plain mean over its pairs, as everywhere: a pair counts once, however many rows it
has. A long run's steps share points: each is the mean over some neighbouring steps.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from recipes.medgrpo.reporting.steps import Step
from recipes.medgrpo.training.curves import PREFIX
from reward_score.errors import UnknownTask
from reward_score.tasks import PREFIX as PAIRS
from reward_score.tasks import find_task

POINTS = 1000
"""Most points of a curve."""
MEASURES = {"acc": "accuracy", "saturated": "saturation"}
"""Measures of a pair whose name on the page is not that of the metric."""
OVERALL = {
    "clip_share": "actor/pg_clipfrac",
    "rollout_actor_corr": "training/rollout_actor_probs_pearson_corr",
    "judge_cost": "medgrpo/judge/cost_usd",
    "judge_cost_total": "medgrpo/judge/cost_usd_total",
    "judge_refused": "medgrpo/judge/refused_share",
    "judge_failed": "medgrpo/judge/failed_share",
    "dead_groups": "medgrpo/groups/dead_share",
    "dropped_groups": "medgrpo/groups/dropped",
    "failed_rollouts": "medgrpo/rollouts/failed",
    "tokens": "response_length/mean",
    "cut_off": "response_length/clip_ratio",
    "grad_norm": "actor/grad_norm",
    "entropy": "actor/entropy",
    "learning_rate": "actor/lr",
    "seconds": "timing_s/step",
}
"""Curves over everything, and the metric that each is."""
_OVERALL = {metric: name for name, metric in OVERALL.items()}


def pair_measure(metric: str) -> tuple[str, str] | None:
    """(measure, pair) of a metric `medgrpo/<source>/<task>/<name>`, None for another metric."""
    parts = metric.split("/")
    if len(parts) != 4 or parts[0] != PREFIX:
        return None
    pair = f"{PAIRS}/{parts[1]}/{parts[2]}"
    try:
        find_task(pair)
    except UnknownTask:
        return None
    return MEASURES.get(parts[3], parts[3]), pair


class CurveBook:
    """Curves that grow with a run; `pairs` are the recorded answers' pairs by number."""

    def __init__(self, pairs: Sequence[str]):
        self._pairs = pairs
        self._records: list[Mapping[str, Any]] = []
        self._curves: dict[str, array] = {}

    def update(self, records: Sequence[Mapping[str, Any]], steps: Mapping[int, Step]) -> None:
        """Take up the metrics of the steps, in order; those that were there before are not looked at again.

        Args:
            records: as `logged_steps` joins them.
            steps: recorded answers, which alone know the lengths of a pair's answers.
        """
        known = len(self._records)
        if known > len(records) or any(old is not new for old, new in zip(self._records, records, strict=False)):
            self._records, self._curves, known = [], {}, 0
        for record in records[known:]:
            self._records.append(record)
            for metric, value in record.items():
                if name := curve_of(metric):
                    self._put(name, value)
            step = steps.get(record["step"])
            for pair, tokens in () if step is None else step.tokens.items():
                self._put(f"tokens|pair|{self._pairs[pair]}", tokens)
        for values in self._curves.values():
            _fill(values, len(records))

    def _put(self, name: str, value: float) -> None:
        values = self._curves.setdefault(name, array("d"))
        _fill(values, len(self._records) - 1)
        values.append(value)

    def shown(self) -> dict[str, Any]:
        """`step` and `attempt` by point, and by `measure|level|name` a number or nan a point."""
        records = self._records
        curves = {name: np.array(values) for name, values in self._curves.items()}
        curves |= _means(curves)
        blocks = np.array_split(np.arange(len(records)), min(POINTS, len(records))) if records else []
        starts = [int(block[0]) for block in blocks]
        return {
            "step": [records[block[-1]]["step"] for block in blocks],
            "attempt": [records[block[-1]]["attempt"] for block in blocks],
            "steps_per_point": len(records) / max(1, len(blocks)),
            "series": {name: _blocks(values, starts) for name, values in sorted(curves.items())},
        }


def _fill(values: array, length: int) -> None:
    values.extend([float("nan")] * (length - len(values)))


@cache
def curve_of(metric: str) -> str | None:
    """The name of a metric's curve, None for a metric that is not shown."""
    if metric in _OVERALL:
        return f"{_OVERALL[metric]}|all|"
    found = pair_measure(metric)
    return found and f"{found[0]}|pair|{found[1]}"


def _means(curves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of every measure the plain mean over the pairs of a task, of a source, and of all."""
    members: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, values in curves.items():
        measure, level, pair = name.split("|")
        if level != "pair":
            continue
        _, source, task = pair.split("/")
        groups = [f"task|{task}", f"source|{source}"]
        # A share of the gradient is a share of all pairs.
        if f"{measure}|all|" not in curves and measure != "gradient_share":
            groups.append("all|")
        for group in groups:
            members[f"{measure}|{group}"].append(values)
    return {name: _mean(values, add=name.startswith("gradient_share|")) for name, values in members.items()}


def _mean(values: Sequence[np.ndarray], add: bool) -> np.ndarray:
    """Mean, or sum, of the curves that have a value at a point."""
    table = np.array(values)
    there = np.isfinite(table)
    total, count = np.where(there, table, 0).sum(0), there.sum(0)
    return np.where(count > 0, total if add else total / np.maximum(count, 1), np.nan)


def _blocks(values: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """Means over neighbouring steps, of those that have a value."""
    if len(starts) == len(values):
        return values
    there = np.isfinite(values)
    count = np.add.reduceat(there, starts)
    total = np.add.reduceat(np.where(there, values, 0), starts)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
