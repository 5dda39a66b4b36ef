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

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..bootstrap import ratio
from . import actions, events
from .contributions import JUDGED, MACRO, NAN, SAME, Parts, part_name, read_parts
from .records import Record
from .scoring import ASPECTS, COLUMNS, Judge


def ordered(figures: Iterable[str]) -> list[str]:
    """Columns in the leaderboard's order; figures of strict mode: accuracy, format, then the signals."""
    return sorted(figures, key=lambda name: (COLUMNS.index(name) if name in COLUMNS else name.startswith("raw_"), name))


@dataclass(frozen=True)
class Layout:
    """Which cells a figure has: for each of its datasets the sums of its parts, their counts, records, judge's calls.

    Attributes:
        datasets, parts: their names, in the order of the cells.
    """

    figure: str
    datasets: tuple[Hashable, ...]
    parts: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(datasets, cells of one)."""
        return len(self.datasets), 2 * len(self.parts) + 2

    def cells(self, parts: Parts) -> np.ndarray:
        """What every record of a file adds to each sum, array (records, cells)."""
        width = len(self.parts)
        cells = np.zeros((parts.count, *self.shape))
        for entry in parts.entries.get(self.figure, ()):
            line = cells[entry.row, self.datasets.index(entry.dataset)]
            for name, (total, count) in entry.parts.items():
                at = self.parts.index(name)
                line[at] += total
                line[width + at] += count
            line[-2] += 1
            line[-1] += entry.asked
        return cells.reshape(parts.count, math.prod(self.shape))


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


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the chosen values, 0 where none is."""
    return np.nan_to_num(ratio(np.where(chosen, values, 0.0).sum(-1), chosen.sum(-1)))


def _figure(layout: Layout, sums: np.ndarray) -> np.ndarray:
    """A figure from its sums, array (..., datasets, cells of one) to (...); nan where the column would not be there."""
    width = len(layout.parts)
    counts, records = sums[..., width : 2 * width], sums[..., -2]
    means = ratio(sums[..., :width], counts)
    if layout.figure == "dvc_llm":
        # A part without a verdict has mean 0, and what is 0 leaves the means.
        levels = np.nan_to_num(means).reshape(*means.shape[:-1], len(events.THRESHOLDS), len(ASPECTS))
        levels = _mean_where(levels, levels > 0)
        inner = _mean_where(levels, levels > 0)
    else:
        inner = _mean_where(means, counts > 0)
    alike = layout.figure in MACRO or layout.figure not in COLUMNS
    weights = (records > 0).astype(float) if alike else records
    value = ratio((weights * inner).sum(-1), weights.sum(-1))
    if layout.figure in JUDGED.values():
        silent = counts.sum((-1, -2)) == 0
        asked = sums[..., -1].sum(-1) > 0
        value = np.where(silent & asked if layout.figure == "dvc_llm" else silent, np.nan, value)
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
        self._layouts = layout_of(parts) if layouts is None else layouts
        self.names = tuple(layout.figure for layout in self._layouts)
        blocks = [np.zeros((parts.count, 0)), *(layout.cells(parts) for layout in self._layouts)]
        self._edges = np.cumsum([block.shape[1] for block in blocks])
        self.cells = np.hstack(blocks)

    def _sums(self, sums: np.ndarray) -> Iterator[tuple[Layout, np.ndarray]]:
        """Sums, array (..., cells), figure by figure, array (..., datasets, cells of one)."""
        for layout, (start, stop) in zip(self._layouts, pairwise(self._edges), strict=True):
            yield layout, sums[..., start:stop].reshape(*sums.shape[:-1], *layout.shape)

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Sums, array (..., cells), to figures, array (..., figures); nan where a figure is undefined."""
        found = [_figure(layout, block)[..., None] for layout, block in self._sums(sums)]
        return np.concatenate([sums[..., :0], *found], axis=-1)

    def support(self, sums: np.ndarray) -> np.ndarray:
        """Sums to the number of records that stand behind each figure, array (..., figures)."""
        found = [block[..., -2].sum(-1)[..., None] for _, block in self._sums(sums)]
        return np.concatenate([sums[..., :0], *found], axis=-1)


def columns_of(parts: Parts) -> dict[str, float]:
    """The columns of the records that can be read, unrounded; one that is undefined is left out."""
    figures = Figures(parts)
    found = figures.values(figures.cells.sum(0))
    return {name: float(value) for name, value in zip(figures.names, found, strict=True) if not np.isnan(value)}


def columns(
    records: Iterable[Record], *, encoder: actions.Encoder | None = None, judge: Judge | None = None
) -> dict[str, float]:
    """The leaderboard's columns of one file as the official evaluator shows them, unrounded; `stg_miou` may be nan.

    A task without records has no column; nor has one with a record that the evaluator cannot read, nor a judged column
    in whose task no call was answered: there the evaluator puts another measure, 0..1, in the column.

    Args:
        records: all records of the file.
        encoder, judge: see `read_parts`.

    Raises:
        EmbeddingUnavailable: the encoder failed.
        ValueError: the judge gave no finite number for an aspect. What the judge itself raises goes through.
    """
    parts = read_parts(list(records), encoder=encoder, judge=judge)
    found = columns_of(parts) | {column: math.nan for column, state in parts.official.items() if state == NAN}
    return {column: found[column] for column, state in parts.official.items() if state in (SAME, NAN)}


def record_numbers(parts: Parts) -> list[dict[str, float]]:
    """Of every record its own numbers: by figure, and by ``figure/part`` where a figure has several.

    A record that is in no mean of a figure has no number for it.
    """
    figures = Figures(parts)
    values = figures.values(figures.cells)
    found: list[dict[str, float]] = [{} for _ in range(parts.count)]
    for column, name in enumerate(figures.names):
        for entry in parts.entries[name]:
            means = {part: total / count for part, (total, count) in entry.parts.items() if count}
            if means:
                found[entry.row][name] = float(values[entry.row, column])
            if len(means) > 1 or "" not in means:
                found[entry.row] |= {f"{name}/{part}": value for part, value in means.items()}
    return found
