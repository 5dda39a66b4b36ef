# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From raw signals to comparable rewards: the logistic of the paper, and the statistics that it needs.

Every (data source, raw signal) has its own statistics, the percentiles of the SFT model's raw signal. They come in a
file::

    {"format": 1, "judge": ..., "similarity": ..., "model": {...}, "data": {...}, "code": {...},
     "pairs": {"medvidbench/AVOS/tal": {"iou": {"n": 64, "p25": 0.1, "p50": 0.2, "p75": 0.4, "iqr": 0.3}}}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, isfinite
from pathlib import Path
from typing import Any

from .errors import BadStatistics, MissingStatistics

FORMAT = 1
DEFAULT_K = 3.0
DEFAULT_MIN_IQR = 0.1


def logistic(x: float, p50: float, iqr: float, k: float = DEFAULT_K) -> float:
    """1 / (1 + exp(-k (x - p50) / iqr)), the normalisation of the MedGRPO paper. 0 to 1, exactly 0.5 at the median.

    Raises:
        ValueError: a value that is not finite, or an ``iqr`` or ``k`` that is not positive.
    """
    if not (isfinite(x) and isfinite(p50) and isfinite(iqr) and isfinite(k)):
        raise ValueError(f"logistic({x!r}, p50={p50!r}, iqr={iqr!r}, k={k!r}): expected finite numbers")
    if iqr <= 0 or k <= 0:
        raise ValueError(f"logistic: iqr={iqr!r}, k={k!r}: expected positive numbers")
    z = k * ((x - p50) / iqr)
    if z >= 0:
        return 1 / (1 + exp(-z))
    small = exp(z)
    return small / (1 + small)


@dataclass(frozen=True)
class Percentiles:
    """Statistics of one raw signal of one data source."""

    n: int
    p25: float
    p50: float
    p75: float
    iqr: float


def summarize(values: Iterable[float]) -> dict[str, float | int]:
    """``{"n", "p25", "p50", "p75", "iqr"}`` of raw values: percentiles by linear interpolation, iqr = p75 - p25.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    import numpy as np

    data = np.asarray(list(values), dtype=np.float64)
    if data.size == 0 or not np.isfinite(data).all():
        raise ValueError(f"{data.size} values: expected at least one, all finite")
    p25, p50, p75 = np.percentile(data, [25, 50, 75]).tolist()
    return {"n": int(data.size), "p25": p25, "p50": p50, "p75": p75, "iqr": p75 - p25}


@dataclass(frozen=True)
class Statistics:
    """A statistics file: percentiles by data source and signal, and where they come from."""

    pairs: Mapping[str, Mapping[str, Percentiles]]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read and check a statistics file.

        Raises:
            BadStatistics: unreadable, or not of the format; the message names file, data source, signal and field.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
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
        return cls(checked, {key: value for key, value in content.items() if key != "pairs"})

    def get(self, data_source: str, signal: str) -> Percentiles:
        """The row of a signal; MissingStatistics where there is none."""
        try:
            return self.pairs[data_source][signal]
        except KeyError:
            raise MissingStatistics(f"no statistics for {data_source}, signal {signal}: calibrate that pair") from None


def _percentiles(row: Any, name: str) -> Percentiles:
    if not isinstance(row, dict):
        raise BadStatistics(f"{name}: expected an object")
    n = row.get("n")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise BadStatistics(f"{name}: n: expected a positive whole number, got {n!r}")
    numbers = {}
    for key in ("p25", "p50", "p75", "iqr"):
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise BadStatistics(f"{name}: {key}: expected a finite number, got {value!r}")
        numbers[key] = float(value)
    if not numbers["p25"] <= numbers["p50"] <= numbers["p75"]:
        raise BadStatistics(f"{name}: expected p25 <= p50 <= p75")
    if abs(numbers["p75"] - numbers["p25"] - numbers["iqr"]) > 1e-9:
        raise BadStatistics(f"{name}: iqr: expected p75 - p25")
    return Percentiles(n, **numbers)


def missing_pairs(
    statistics: Statistics, data_sources: Iterable[str], signals: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    """What a run over these data sources would miss, for a launcher to name before the run starts.

    Args:
        statistics: the loaded file.
        data_sources: ``medvidbench/<source>/<task>`` of the rows to be trained on, repeats allowed.
        signals: the signals needed by task (``medgrpo.needed_signals``); without it, only whole pairs are checked.

    Returns:
        Sorted names, ``medvidbench/AVOS/tal`` for a whole pair, ``medvidbench/AVOS/dvc: judge`` for one signal.
    """
    missing = []
    for source in sorted(set(data_sources)):
        needed = None if signals is None else signals.get(source.rpartition("/")[2], ())
        rows = statistics.pairs.get(source)
        if rows is None:
            if needed is None or needed:
                missing.append(source)
        elif needed is not None:
            missing.extend(f"{source}: {signal}" for signal in needed if signal not in rows)
    return missing


def _logistic(x: float, row: Percentiles, k: float, min_iqr: float) -> float:
    return logistic(x, row.p50, max(row.iqr, min_iqr), k)


def _none(x: float, row: Percentiles, k: float, min_iqr: float) -> float:
    return x


NORMALIZERS: dict[str, Callable[[float, Percentiles, float, float], float]] = {"logistic": _logistic, "none": _none}
"""By name: (raw value, statistics of the pair and signal, k, min_iqr) to the normalised value, 0 to 1."""


class Normalizer:
    """Normalised value of a raw signal of a data source.

    Without statistics every raw signal is its own normalised value, the neutral default; ``none`` needs no rows.

    Args:
        statistics: the loaded file, or None.
        name: a key of `NORMALIZERS`.
        k: steepness of the logistic.
        min_iqr: the logistic's spread is at least this. Where raw signals tie (an iqr of 0 is common: medians of 0,
            or near 1), it keeps a difference of 0.1 from deciding everything.
    """

    def __init__(
        self,
        statistics: Statistics | None = None,
        name: str = "logistic",
        k: float = DEFAULT_K,
        min_iqr: float = DEFAULT_MIN_IQR,
    ) -> None:
        if name not in NORMALIZERS:
            raise ValueError(f"normalizer {name!r}: expected one of {', '.join(sorted(NORMALIZERS))}")
        for label, value in (("k", k), ("min_iqr", min_iqr)):
            if not isfinite(value) or value <= 0:
                raise ValueError(f"{label} {value!r}: expected a positive number")
        self.statistics, self.name, self.k, self.min_iqr = statistics, name, k, min_iqr
        self._function = NORMALIZERS[name]

    def __call__(self, data_source: str, signal: str, x: float) -> float:
        """The normalised value; MissingStatistics where the file has no row for this pair and signal."""
        if self.statistics is None or self.name == "none":
            return x
        return self._function(x, self.statistics.get(data_source, signal), self.k, self.min_iqr)
