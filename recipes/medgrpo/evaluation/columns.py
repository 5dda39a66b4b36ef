# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The leaderboard's columns as functions of weights over records: for a file, a part of it, or thousands of resamples.

Each column is a mean over datasets of a mean over parts of a mean over records::

    column = sum over datasets of w(d) x inner(mean of each part over the records of d) / sum of w(d)

==============  =======================  ================  ===============================================
column          parts                    datasets          inner
==============  =======================  ================  ===============================================
tag, stg, nap   one                      one               the mean itself
dvc_f1          one                      by their records  the mean itself
cvs_acc sa_acc  components, aspects      alike             mean over the parts that were answered
vs_llm rc_llm   five aspects             one               mean over the parts
dvc_llm         3 thresholds, 5 aspects  by their records  mean of the aspects above 0, then of the thresholds
==============  =======================  ================  ===============================================

A dataset counts when it has records, with or without a mean; without any part answered it is 0, as officially.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.medgrpo.evaluation.intervals import Additive, Evaluation, LeftOut, breakdown
from reward_score.bootstrap import RESAMPLES, ratio
from reward_score.leaderboard import COLUMNS, actions, events
from reward_score.leaderboard.contributions import JUDGED, MACRO, Entry, Parts, inner, part_name, read_parts
from reward_score.leaderboard.scoring import ASPECTS, Judge

if TYPE_CHECKING:
    from recipes.medgrpo.evaluation.inputs import Graded


@dataclass(frozen=True)
class Layout:
    """Which cells a column has.

    Attributes:
        datasets, parts: their names, in the order of the cells: sums (datasets x parts), counts (the same), records
            by dataset, calls of the judge.
    """

    column: str
    datasets: tuple[Hashable, ...]
    parts: tuple[str, ...]

    @property
    def size(self) -> int:
        return 2 * len(self.datasets) * len(self.parts) + len(self.datasets) + 1


def layout_of(*files: Parts) -> tuple[Layout, ...]:
    """The cells that hold every record of these files."""
    found = []
    for column in COLUMNS:
        entries = [entry for parts in files for entry in parts.entries.get(column, ())]
        if not entries:
            continue
        if column == "dvc_llm":
            names = [part_name(threshold, aspect) for threshold in events.THRESHOLDS for aspect in ASPECTS]
        else:
            names = list(dict.fromkeys(name for entry in entries for name in entry.parts)) or [""]
        found.append(Layout(column, tuple(dict.fromkeys(entry.dataset for entry in entries)), tuple(names)))
    return tuple(found)


def _fill(cells: np.ndarray, layout: Layout, entries: Sequence[Entry]) -> None:
    datasets = {name: number for number, name in enumerate(layout.datasets)}
    names = {name: number for number, name in enumerate(layout.parts)}
    half, width = len(datasets) * len(names), len(names)
    for entry in entries:
        line, filed = cells[entry.row], datasets[entry.dataset]
        for name, (total, count) in entry.parts.items():
            at = filed * width + names[name]
            line[at] += total
            line[half + at] += count
        line[2 * half + filed] += 1
        line[-1] += entry.asked


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the chosen values, 0 where none is."""
    return np.nan_to_num(ratio(np.where(chosen, values, 0.0).sum(-1), chosen.sum(-1)))


def _column(layout: Layout, sums: np.ndarray) -> np.ndarray:
    """A column from its sums, array (..., size) to (...); nan where the column would not be there."""
    shape = (*sums.shape[:-1], len(layout.datasets), len(layout.parts))
    half = shape[-1] * shape[-2]
    totals, counts = sums[..., :half].reshape(shape), sums[..., half : 2 * half].reshape(shape)
    records, asked = sums[..., 2 * half : -1], sums[..., -1]
    means = ratio(totals, counts)
    if layout.column == "dvc_llm":
        # A part without a verdict has mean 0, and what is 0 leaves the means.
        levels = np.nan_to_num(means).reshape(*shape[:-1], len(events.THRESHOLDS), len(ASPECTS))
        levels = _mean_where(levels, levels > 0)
        inner = _mean_where(levels, levels > 0)
    else:
        inner = _mean_where(means, counts > 0)
    weights = (records > 0).astype(float) if layout.column in MACRO else records
    value = ratio((weights * inner).sum(-1), weights.sum(-1))
    if layout.column in JUDGED.values():
        silent = counts.sum((-1, -2)) == 0
        value = np.where(silent & (asked > 0) if layout.column == "dvc_llm" else silent, np.nan, value)
    return value


def additive(parts: Parts, cells_of: Sequence[Layout] | None = None) -> Additive:
    """The columns of a file; `cells_of` is for two files that have to share their cells."""
    chosen = layout_of(parts) if cells_of is None else tuple(cells_of)
    edges = np.cumsum([0, *(layout.size for layout in chosen)])
    blocks = [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
    cells = np.zeros((parts.count, int(edges[-1])))
    for layout, block in zip(chosen, blocks, strict=True):
        _fill(cells[:, block], layout, parts.entries.get(layout.column, ()))

    def values(sums: np.ndarray) -> np.ndarray:
        found = [_column(layout, sums[..., block]) for layout, block in zip(chosen, blocks, strict=True)]
        return np.stack(found, axis=-1) if found else np.zeros((*sums.shape[:-1], 0))

    def support(sums: np.ndarray) -> np.ndarray:
        found = [
            sums[..., block.stop - 1 - len(layout.datasets) : block.stop - 1].sum(-1)
            for layout, block in zip(chosen, blocks, strict=True)
        ]
        return np.stack(found, axis=-1) if found else np.zeros((*sums.shape[:-1], 0))

    return Additive(cells, tuple(layout.column for layout in chosen), values, support)


def columns(parts: Parts, weights: np.ndarray | None = None) -> dict[str, float] | dict[str, np.ndarray]:
    """The leaderboard's columns, unrounded.

    Args:
        parts: from `read_parts`.
        weights: how often each record counts, array (records,) or (resamples, records); None: each once.

    Returns:
        By column a number, for a matrix of weights an array (resamples,). A column that is undefined is left out for
        one set of weights, and is nan in a resample.
    """
    figures = additive(parts)
    found = figures.at(weights)
    if found.ndim == 1:
        return {name: float(value) for name, value in zip(figures.figures, found, strict=True) if not np.isnan(value)}
    return {name: found[:, number] for number, name in enumerate(figures.figures)}


def record_numbers(parts: Parts) -> list[dict[str, float]]:
    """Of every record its own numbers: by column, and by ``column/part`` where a column has several.

    A record that is in no mean of a column has no number for it.
    """
    found: list[dict[str, float]] = [{} for _ in range(parts.count)]
    for column, entries in parts.entries.items():
        for entry in entries:
            means = {name: total / count for name, (total, count) in entry.parts.items() if count}
            if not means:
                continue
            found[entry.row][column] = inner(column, means)
            if len(means) > 1 or "" not in means:
                found[entry.row] |= {f"{column}/{name}": value for name, value in means.items()}
    return found


def score_leaderboard(
    rows: Sequence[Graded],
    *,
    encoder: actions.Encoder | None = None,
    judge: Judge | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Leaderboard mode: the columns of these rows, as a file of their own, with intervals and breakdowns.

    Within a pair or a source a column is what the file would score if it held these rows alone, except that the
    classes of next actions stay those of the whole file; so they do in the resamples.

    Args:
        rows: their `record` is what is scored.
        encoder, judge: see `read_parts`.
        resamples, seed: of the bootstrap over videos.
    """
    parts = read_parts([row.record for row in rows], encoder=encoder, judge=judge)
    return Evaluation(
        mode="leaderboard",
        rows=rows,
        records=record_numbers(parts),
        measured=parts,
        scores=breakdown(additive(parts), rows, resamples=resamples, seed=seed),
        left_out=[LeftOut(loss.row, loss.columns, loss.reason) for loss in parts.losses],
        official=parts.official,
        resamples=resamples,
        seed=seed,
    )
