# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The statistics of raw signals that normalisation needs: their file, and what is done where they are degenerate.

Every (data source, raw signal) has its own row, measured on the SFT model's answers. They come in a file::

    {"format": 1, "judge": ..., "similarity": ..., "model": {...}, "data": {...}, "code": {...},
     "degenerate": {"min_iqr": 0.1, "min_samples": 32},
     "pairs": {"medvidbench/AVOS/tal": {"iou": {
         "n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.4, "iqr": 0.3,
         "mean": 0.25, "std": 0.2, "min": 0.0, "max": 0.9, "quantiles": [0.0, ... 101 numbers ..., 0.9],
         "used": {"p50": 0.2, "iqr": 0.3, "why": []}, ...}}}}

The first five numbers of a row are required, the rest serves single normalisers or the reader.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import isclose, isfinite
from pathlib import Path
from typing import Any

from .errors import BadSetting, BadStatistics, MissingStatistics

FORMAT = 1
DEFAULT_MIN_IQR = 0.1
DEFAULT_MIN_SAMPLES = 32
QUANTILES = 101
"""Percentiles 0, 1, ..., 100."""


@dataclass(frozen=True)
class Percentiles:
    """Statistics of one raw signal of one data source. None: the file does not say (it is of an older version).

    Attributes:
        n: answers measured. p25, p50, p75: percentiles. iqr: p75 - p25.
        mean, std: of the answers; std divides by n. min, max: least and greatest value.
        quantiles: percentiles 0 to 100, `QUANTILES` numbers that never decrease.
    """

    n: int
    p25: float
    p50: float
    p75: float
    iqr: float
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    quantiles: tuple[float, ...] | None = None


def summarize(values: Iterable[float]) -> dict[str, Any]:
    """The row of raw values: the fields of `Percentiles`, percentiles by linear interpolation between order statistics.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    import numpy as np

    data = np.fromiter(values, dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise ValueError(f"{data.size} values: expected at least one, all finite")
    # Interpolating between equal neighbours may be off by a rounding: quantiles must not decrease.
    quantiles = np.maximum.accumulate(np.percentile(data, np.arange(QUANTILES))).tolist()
    p25, p50, p75 = quantiles[25], quantiles[50], quantiles[75]
    return {
        "n": int(data.size),
        "p25": p25,
        "p50": p50,
        "p75": p75,
        "iqr": p75 - p25,
        "mean": float(data.mean()),
        "std": float(data.std()),
        "min": float(data.min()),
        "max": float(data.max()),
        "quantiles": quantiles,
    }


@dataclass(frozen=True)
class Statistics:
    """A statistics file: rows by data source and signal, where they come from, and the file's name for messages."""

    pairs: Mapping[str, Mapping[str, Percentiles]]
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = "statistics"

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read and check a statistics file.

        Raises:
            BadStatistics: unreadable, or not of the format; the message names file, data source, signal and field.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadStatistics(f"{path}: cannot be read as JSON: {error}") from error
        return cls.from_dict(content, str(path))

    @classmethod
    def from_dict(cls, content: Any, name: str = "statistics") -> Statistics:
        """The same check on the content of a file; ``name`` stands for the file in messages."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise BadStatistics(f'{name}: expected a JSON object with "format": {FORMAT}')
        pairs = content.get("pairs")
        if not isinstance(pairs, dict) or not pairs:
            raise BadStatistics(f'{name}: "pairs": expected a non-empty object')
        checked = {}
        for source, signals in pairs.items():
            if not isinstance(signals, dict) or not signals:
                raise BadStatistics(f"{name}: {source}: expected a non-empty object of signals")
            checked[source] = {
                signal: _percentiles(row, f"{name}: {source}: {signal}") for signal, row in signals.items()
            }
        chosen = content.get("degenerate", {})
        if not isinstance(chosen, dict):
            raise BadStatistics(f'{name}: "degenerate": expected an object')
        try:
            check_degenerate(chosen.get("min_iqr", DEFAULT_MIN_IQR), chosen.get("min_samples", DEFAULT_MIN_SAMPLES))
        except ValueError as error:
            raise BadStatistics(f'{name}: "degenerate": {error}') from None
        return cls(checked, {key: value for key, value in content.items() if key != "pairs"}, name)

    def get(self, data_source: str, signal: str) -> Percentiles:
        """The row of a signal; MissingStatistics where there is none."""
        try:
            return self.pairs[data_source][signal]
        except KeyError:
            raise MissingStatistics(f"no statistics for {data_source}, signal {signal}: calibrate that pair") from None

    def degenerate(self) -> tuple[float, int]:
        """(min_iqr, min_samples) that the file asks for, the defaults where it does not say."""
        chosen = self.meta.get("degenerate", {})
        return chosen.get("min_iqr", DEFAULT_MIN_IQR), chosen.get("min_samples", DEFAULT_MIN_SAMPLES)


def is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold, and no bool."""
    try:
        return not isinstance(value, bool) and isinstance(value, int | float) and isfinite(value)
    except OverflowError:
        # A whole number that no float can hold.
        return False


def _percentiles(row: Any, name: str) -> Percentiles:
    if not isinstance(row, dict):
        raise BadStatistics(f"{name}: expected an object")
    n = row.get("n")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise BadStatistics(f"{name}: n: expected a positive whole number, got {n!r}")
    numbers = {}
    required = ("p25", "p50", "p75", "iqr")
    for key in (*required, "mean", "std", "min", "max"):
        if key in required or key in row:
            if not is_finite(row.get(key)):
                raise BadStatistics(f"{name}: {key}: expected a finite number, got {row.get(key)!r:.40}")
            numbers[key] = float(row[key])
    if not numbers["p25"] <= numbers["p50"] <= numbers["p75"]:
        raise BadStatistics(f"{name}: expected p25 <= p50 <= p75")
    if abs(numbers["p75"] - numbers["p25"] - numbers["iqr"]) > 1e-9:
        raise BadStatistics(f"{name}: iqr: expected p75 - p25")
    if numbers.get("std", 0.0) < 0:
        raise BadStatistics(f"{name}: std: expected no negative number, got {numbers['std']!r}")
    if "min" in numbers and "max" in numbers and numbers["min"] > numbers["max"]:
        raise BadStatistics(f"{name}: expected min <= max")
    quantiles = row.get("quantiles")
    if quantiles is not None:
        if not isinstance(quantiles, list) or len(quantiles) != QUANTILES or not all(map(is_finite, quantiles)):
            raise BadStatistics(f"{name}: quantiles: expected {QUANTILES} finite numbers")
        if any(a > b for a, b in zip(quantiles, quantiles[1:], strict=False)):
            raise BadStatistics(f"{name}: quantiles: expected numbers that never decrease")
        quantiles = tuple(map(float, quantiles))
    return Percentiles(n, **numbers, quantiles=quantiles)


@dataclass(frozen=True)
class Used:
    """The median and spread that the logistic uses for a signal of a data source, and why they are not the measured.

    ``why`` holds some of:

    ``constant``     every answer has the same value
    ``two_valued``   the answers take two values only, as those of a right-or-wrong signal do
    ``few_samples``  fewer answers than min_samples: shrunk toward the task's pooled statistics
    ``zero_iqr``     the measured spread is 0: min_iqr at least stands in for it
    ``narrow_iqr``   the measured spread is not 0, but less than min_iqr: the same

    The first two are told for the reader: they change nothing by themselves, what they cause (a spread of 0) does.
    """

    p50: float
    iqr: float
    why: tuple[str, ...] = ()


def check_degenerate(min_iqr: Any, min_samples: Any) -> None:
    """BadSetting unless ``min_iqr`` is a positive finite number and ``min_samples`` a positive whole number."""
    if not is_finite(min_iqr) or min_iqr <= 0:
        raise BadSetting(f"min_iqr {min_iqr!r}: expected a positive number")
    if isinstance(min_samples, bool) or not isinstance(min_samples, int) or min_samples < 1:
        raise BadSetting(f"min_samples {min_samples!r}: expected a positive whole number")


def used_rows(
    pairs: Mapping[str, Mapping[str, Percentiles]],
    min_iqr: float = DEFAULT_MIN_IQR,
    min_samples: int = DEFAULT_MIN_SAMPLES,
) -> dict[str, dict[str, Used]]:
    """The median and spread to use for every row, degenerate rows mended. From the rows alone, so also after a merge.

    Fewer answers than ``min_samples``: with w = n / min_samples, median and spread are w x own + (1 - w) x pooled,
    pooled being the mean over all data sources of the task that have the signal, weighted by their n (the row's own
    among them: a task with one data source shrinks toward itself, that is not at all). Then the spread is at least
    ``min_iqr``: where raw signals tie, a hair's breadth must not decide everything. A row with min_samples answers
    or more keeps its median, whose logistic is then exactly 0.5; ``min_samples`` 1 shrinks nothing.

    What follows of the logistic alone for a right-or-wrong signal (next action's ``exact``: 0 or 1; k = 3, min_iqr
    0.1), s the share of right answers:

    =================  ===  ===  =============================  ======================================
    share right        p50  IQR  wrong earns                    right earns
    =================  ===  ===  =============================  ======================================
    s < 1/4             0    0   0.5                            1 / (1 + exp(-30)), 1 to 13 digits
    1/4 < s < 1/2       0    1   0.5                            1 / (1 + exp(-3)) = 0.953
    1/2 < s < 3/4       1    1   0.047                          0.5
    s > 3/4             1    0   exp(-30) / (1 + exp(-30))      0.5
    =================  ===  ===  =============================  ======================================

    Right beats wrong by 0.45 to 0.5 everywhere; only in the band of 1/n where a percentile falls between a 0 and a 1
    does it interpolate. A pair whose SFT model is mostly wrong pays 0.5 for a wrong answer that parses, as much as
    for a right one whose format is halved: the raw signal's own share (``linear_share``) answers that.

    Raises:
        ValueError: a bad ``min_iqr`` or ``min_samples``.
    """
    check_degenerate(min_iqr, min_samples)
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for source, signals in pairs.items():
        for signal, row in signals.items():
            total = totals[_task(source), signal]
            total[0] += row.n
            total[1] += row.n * row.p50
            total[2] += row.n * row.iqr
    return {
        source: {
            signal: _used(row, totals[_task(source), signal], min_iqr, min_samples) for signal, row in signals.items()
        }
        for source, signals in pairs.items()
    }


def _task(data_source: str) -> str:
    return data_source.rpartition("/")[2]


def _used(row: Percentiles, totals: list[float], min_iqr: float, min_samples: int) -> Used:
    p50, iqr, why = row.p50, row.iqr, []
    if row.min is not None and row.min == row.max:
        why.append("constant")
    elif _two_valued(row):
        why.append("two_valued")
    if row.n < min_samples:
        why.append("few_samples")
        own = row.n / min_samples
        n, p50s, iqrs = totals
        p50, iqr = own * p50 + (1 - own) * p50s / n, own * iqr + (1 - own) * iqrs / n
    if row.iqr < min_iqr:
        why.append("narrow_iqr" if row.iqr > 0 else "zero_iqr")
    return Used(p50, max(iqr, min_iqr), tuple(why))


def _two_valued(row: Percentiles) -> bool:
    """Whether all answers lie at the least or the greatest value.

    Numbers within [min, max] have a variance of at most (max - mean)(mean - min), and reach it only so (the
    inequality of Bhatia and Davis).
    """
    if row.mean is None or row.std is None or row.min is None or row.max is None:
        return False
    bound = (row.max - row.mean) * (row.mean - row.min)
    return isclose(row.std**2, bound, rel_tol=1e-9)


def missing_pairs(
    statistics: Statistics,
    data_sources: Iterable[str],
    signals: Mapping[str, Collection[str]],
    fields: Collection[str] = (),
) -> list[str]:
    """What a run over these data sources would miss, for a launcher to name before the run starts.

    Args:
        statistics: the loaded file.
        data_sources: ``medvidbench/<source>/<task>`` of the rows to be trained on, repeats allowed.
        signals: the signals needed by task (``medgrpo.needed_signals``).
        fields: fields of `Percentiles` that every needed row has to have (``normalization.NORMALIZERS[...].needs``).

    Returns:
        Sorted names, ``medvidbench/AVOS/tal`` for a whole pair, ``medvidbench/AVOS/dvc: judge`` for one signal,
        ``medvidbench/AVOS/dvc: judge: mean`` for one field.
    """
    missing = []
    for source in sorted(set(data_sources)):
        needed, rows = signals.get(_task(source), ()), statistics.pairs.get(source)
        if rows is None:
            missing += [source] if needed else []
            continue
        for signal in needed:
            if signal not in rows:
                missing.append(f"{source}: {signal}")
            else:
                missing += [f"{source}: {signal}: {key}" for key in fields if getattr(rows[signal], key) is None]
    return missing
