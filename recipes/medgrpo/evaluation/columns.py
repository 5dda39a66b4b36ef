# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The figures of a file as functions of weights over its records: for the file, a part of it, thousands of resamples.

A figure is a column of the leaderboard or a number of strict mode. Each is a mean over datasets of a mean over parts of
a mean over records::

    figure = sum over datasets of w(d) x inner(mean of each part over the records of d) / sum of w(d)

==============  =======================  ================  ===============================================
figure          parts                    datasets          inner
==============  =======================  ================  ===============================================
tag, stg, nap   one                      one               the mean itself
dvc_f1          one                      by their records  the mean itself
cvs_acc sa_acc  components, aspects      alike             mean over the parts that were answered
vs_llm rc_llm   five aspects             one               mean over the parts
dvc_llm         3 thresholds, 5 aspects  by their records  mean of the aspects above 0, then of the thresholds
strict mode's   one                      the pairs, alike  the mean itself
==============  =======================  ================  ===============================================

A dataset counts when it has records, with or without a mean; without any part answered it is 0, as officially.

Every figure is thus a function of a few sums. With one matrix of *cells*, what each record adds to each sum, any
resample is a product of matrices.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reward_score.bootstrap import ratio
from reward_score.leaderboard import COLUMNS, events
from reward_score.leaderboard.contributions import JUDGED, MACRO, Entry, Parts, inner, part_name
from reward_score.leaderboard.scoring import ASPECTS


def ordered(figures: Iterable[str]) -> list[str]:
    """Columns in the leaderboard's order; figures of strict mode: accuracy, format, then the signals."""
    return sorted(figures, key=lambda name: (COLUMNS.index(name) if name in COLUMNS else name.startswith("raw_"), name))


@dataclass(frozen=True)
class Layout:
    """Which cells a figure has.

    Attributes:
        datasets, parts: their names, in the order of the cells: sums (datasets x parts), counts (the same), records
            by dataset, calls of the judge.
    """

    figure: str
    datasets: tuple[Hashable, ...]
    parts: tuple[str, ...]

    @property
    def size(self) -> int:
        return 2 * len(self.datasets) * len(self.parts) + len(self.datasets) + 1


def layout_of(*files: Parts) -> tuple[Layout, ...]:
    """The cells that hold every record of these files."""
    found = []
    for figure in ordered({name for parts in files for name in parts.entries}):
        entries = [entry for parts in files for entry in parts.entries.get(figure, ())]
        if figure == "dvc_llm":
            names = [part_name(threshold, aspect) for threshold in events.THRESHOLDS for aspect in ASPECTS]
        else:
            names = list(dict.fromkeys(name for entry in entries for name in entry.parts)) or [""]
        found.append(Layout(figure, tuple(dict.fromkeys(entry.dataset for entry in entries)), tuple(names)))
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


def _figure(layout: Layout, sums: np.ndarray) -> np.ndarray:
    """A figure from its sums, array (..., size) to (...); nan where the column would not be there."""
    shape = (*sums.shape[:-1], len(layout.datasets), len(layout.parts))
    half = shape[-1] * shape[-2]
    totals, counts = sums[..., :half].reshape(shape), sums[..., half : 2 * half].reshape(shape)
    records, asked = sums[..., 2 * half : -1], sums[..., -1]
    means = ratio(totals, counts)
    if layout.figure == "dvc_llm":
        # A part without a verdict has mean 0, and what is 0 leaves the means.
        levels = np.nan_to_num(means).reshape(*shape[:-1], len(events.THRESHOLDS), len(ASPECTS))
        levels = _mean_where(levels, levels > 0)
        inner = _mean_where(levels, levels > 0)
    else:
        inner = _mean_where(means, counts > 0)
    alike = layout.figure in MACRO or layout.figure not in COLUMNS
    weights = (records > 0).astype(float) if alike else records
    value = ratio((weights * inner).sum(-1), weights.sum(-1))
    if layout.figure in JUDGED.values():
        silent = counts.sum((-1, -2)) == 0
        value = np.where(silent & (asked > 0) if layout.figure == "dvc_llm" else silent, np.nan, value)
    return value


class Figures:
    """The figures of a file.

    Args:
        parts: what each record gives to each of them.
        layouts: the cells; two files that are compared share those of both. None: the file's own.

    Attributes:
        cells: array (records, cells), finite: what a record adds to each sum.
        names: of the figures.
    """

    def __init__(self, parts: Parts, layouts: Sequence[Layout] | None = None) -> None:
        self._layouts = layout_of(parts) if layouts is None else tuple(layouts)
        self.names = tuple(layout.figure for layout in self._layouts)
        edges = np.cumsum([0, *(layout.size for layout in self._layouts)])
        self._blocks = [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
        self.cells = np.zeros((parts.count, int(edges[-1])))
        for layout, block in zip(self._layouts, self._blocks, strict=True):
            _fill(self.cells[:, block], layout, parts.entries.get(layout.figure, ()))

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Sums, array (..., cells), to figures, array (..., figures); nan where a figure is undefined."""
        found = [_figure(layout, sums[..., block]) for layout, block in zip(self._layouts, self._blocks, strict=True)]
        return np.stack(found, axis=-1) if found else np.zeros((*sums.shape[:-1], 0))

    def support(self, sums: np.ndarray) -> np.ndarray:
        """Sums to the number of records that stand behind each figure, array (..., figures)."""
        found = [
            sums[..., block.stop - 1 - len(layout.datasets) : block.stop - 1].sum(-1)
            for layout, block in zip(self._layouts, self._blocks, strict=True)
        ]
        return np.stack(found, axis=-1) if found else np.zeros((*sums.shape[:-1], 0))


def columns(parts: Parts, weights: np.ndarray | None = None) -> dict[str, float] | dict[str, np.ndarray]:
    """The leaderboard's columns, unrounded.

    Args:
        parts: from `read_parts`.
        weights: how often each record counts, array (records,) or (resamples, records); None: each once.

    Returns:
        By column a number, for a matrix of weights an array (resamples,). A column that is undefined is left out for
        one set of weights, and is nan in a resample.
    """
    figures = Figures(parts)
    found = figures.values(
        figures.cells.sum(0) if weights is None else np.asarray(weights, dtype=float) @ figures.cells
    )
    if found.ndim == 1:
        return {name: float(value) for name, value in zip(figures.names, found, strict=True) if not np.isnan(value)}
    return {name: found[:, number] for number, name in enumerate(figures.names)}


def record_numbers(parts: Parts) -> list[dict[str, float]]:
    """Of every record its own numbers: by figure, and by ``figure/part`` where a figure has several.

    A record that is in no mean of a figure has no number for it.
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
