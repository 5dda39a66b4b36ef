# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From raw signals to comparable rewards: the logistic of the paper and its rivals, one table.

All are maps of one answer's raw signal, with the statistics of its (data source, signal), see `statistics`. All are
monotone and give 0 to 1. The second is no nicety: the reward is format x normalised signal with 0 for an answer
that cannot be read, so a negative normalised value would make a bad format pay.

Rivals that need the whole batch (a standard deviation per task, percentiles of the running policy) are no maps of an
answer; they live in the recipe's sampler.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, isfinite
from typing import TYPE_CHECKING

from .errors import BadSetting, BadStatistics, MissingStatistics
from .statistics import (
    DEFAULT_MIN_IQR,
    DEFAULT_MIN_SAMPLES,
    Statistics,
    Used,
    check_degenerate,
    used_rows,
)

if TYPE_CHECKING:
    import numpy as np

DEFAULT_K = 3.0
NEEDED = None
"""The default `linear_share`: of every row what `needed_share` says, nothing where the paper's formula is good."""
BOUNDS = ((0.0, 0.45), (0.6, 0.74))
"""Raw signals, and what each may earn at most of a right answer's reward.

- Nothing at all: less than half, so that a right answer whose format is halved beats a wrong one of whole format.
- 0.6: less than three quarters. It is the raw reward of the best answer that is the same for a whole task of the
  synthetic set.
"""
ZSCORE_WIDTH = 3.0
"""Standard deviations from the mean at which the z-score's map reaches 0 or 1."""
NORMAL_IQR = 1.349
"""The IQR of a normal distribution in standard deviations: turns the least IQR into a least standard deviation."""
SATURATED = (0.02, 0.98)
"""A normalised value beyond these is saturated: it hardly moves any more, whatever the answer does."""


def saturated(values: np.ndarray) -> np.ndarray:
    """(N,) whether each of N normalised values lies beyond `SATURATED`."""
    low, high = SATURATED
    return (values < low) | (values > high)


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
class Row:
    """What every map may be made from: the mended median and spread of a row, and the settings."""

    used: Used
    k: float
    min_iqr: float
    linear_share: float | None = 0.0


Map = Callable[[float], float]


def needed_share(p50: float, iqr: float, k: float = DEFAULT_K) -> float:
    """The least share s of the raw signal with which (1 - s) logistic(x) + s x keeps within `BOUNDS`.

    The logistic says how an answer compares with the SFT model's, and nothing of how far it is from right. Where that
    model is poor it pays 0.5 for nothing at all (a median of 0) and nearly everything for an answer hardly better
    than the median. A median of 0.6 or more needs no share, a median of 0 with a narrow spread about 0.65.
    """
    right, share = logistic(1.0, p50, iqr, k), 0.0
    for x, bound in BOUNDS:
        # (1 - s) f(x) + s x <= bound ((1 - s) f(1) + s), solved for s.
        over = logistic(x, p50, iqr, k) - bound * right
        if over > 0:
            share = max(share, over / (over + bound - x))
    return share


def _logistic(row: Row) -> Map:
    """(1 - s) logistic(x) + s x, with the mended median and spread (`statistics.used_rows`).

    s is ``linear_share``; 0 is the paper's formula alone, None what `needed_share` says of the row.
    """
    p50, iqr, k = row.used.p50, row.used.iqr, row.k
    linear = needed_share(p50, iqr, k) if row.linear_share is NEEDED else row.linear_share
    return lambda x: linear * x + (1 - linear) * logistic(x, p50, iqr, k)


def _none(row: Row) -> Map:
    """x itself: the paper's ablation row B."""
    return lambda x: x


def _zscore(row: Row, mean: float, std: float) -> Map:
    """clip(1/2 + (x - mean) / (2 c max(std, floor)), 0, 1), c = `ZSCORE_WIDTH`, floor = min_iqr / `NORMAL_IQR`.

    The z-score itself is negative for half the answers, hence shifted and bounded (see the module). Few samples: mean
    and standard deviation are used as measured, only the floor keeps a tie from a slope without bound.
    """
    width = 2 * ZSCORE_WIDTH * max(std, row.min_iqr / NORMAL_IQR)
    return lambda x: min(1.0, max(0.0, 0.5 + (x - mean) / width))


def _percentile_rank(row: Row, quantiles: Sequence[float]) -> Map:
    """The share of the SFT model's answers that are worse, those that tie counted half (mid-rank).

    From the stored percentiles 0 to 100: a value that fills the percentiles a to b has the rank (a + b) / 200; from
    just above it the rank runs from b / 100 to (b + 1) / 100 at the next value; below the least it is 0, above the
    greatest 1. That is within 0.01 + 1 / n of the share among the n answers themselves. Few samples: the rank is
    among those few; of one answer it is 0, 1/2 or 1.
    """
    last = len(quantiles) - 1

    def rank(x: float) -> float:
        first, after = bisect_left(quantiles, x), bisect_right(quantiles, x)
        if first < after:  # x fills the percentiles from first to after - 1
            return (first + after - 1) / (2 * last)
        if first in (0, len(quantiles)):
            return float(first > 0)
        low, high = quantiles[first - 1], quantiles[first]
        return (first - 1 + min(1.0, (x - low) / (high - low))) / last

    return rank


def _minmax(row: Row, least: float, greatest: float) -> Map:
    """clip((x - min) / (max - min), 0, 1); 1/2 for every x where max = min: one value says nothing about a scale.

    Few samples: least and greatest are used as measured, and lie closer together than those of many would.
    """
    if least == greatest:
        return lambda x: 0.5
    return lambda x: min(1.0, max(0.0, (x - least) / (greatest - least)))


@dataclass(frozen=True)
class NormalizerKind:
    """One per-answer normaliser: makes the map of a row.

    ``needs`` names the optional fields of `statistics.Percentiles` that ``make`` takes after the row.
    """

    make: Callable[..., Map]
    needs: tuple[str, ...] = ()


NORMALIZERS: dict[str, NormalizerKind] = {
    "logistic": NormalizerKind(_logistic),
    "none": NormalizerKind(_none),
    "zscore": NormalizerKind(_zscore, ("mean", "std")),
    "percentile_rank": NormalizerKind(_percentile_rank, ("quantiles",)),
    "minmax": NormalizerKind(_minmax, ("min", "max")),
}
"""The table. Each formula stands in the docstring of its function."""


class Normalizer:
    """Normalised value, 0 to 1, of a raw signal of a data source.

    Without statistics every raw signal is its own normalised value, the neutral default; ``none`` needs no rows.

    Args:
        statistics: the loaded file, or None.
        name: a key of `NORMALIZERS`.
        k: steepness of the logistic.
        linear_share: the raw signal's own share beside the logistic, 0 to 1; 0 is the paper's formula alone, None
            the least that each row needs (`needed_share`).
        min_iqr, min_samples: what is done with degenerate rows, see `statistics.used_rows`; None: what the file
            says, else the defaults.

    Raises:
        ValueError: a bad setting.
        BadStatistics: the file lacks a field that this normaliser needs; names file, data source, signal and field.
    """

    def __init__(
        self,
        statistics: Statistics | None = None,
        name: str = "logistic",
        k: float = DEFAULT_K,
        min_iqr: float | None = None,
        min_samples: int | None = None,
        linear_share: float | None = 0.0,
    ) -> None:
        if name not in NORMALIZERS:
            raise BadSetting(f"normalizer {name!r}: expected one of {', '.join(sorted(NORMALIZERS))}")
        if not isfinite(k) or k <= 0:
            raise BadSetting(f"k {k!r}: expected a positive number")
        if linear_share is not NEEDED and not 0 <= linear_share <= 1:
            raise BadSetting(f"linear_share {linear_share!r}: expected 0 to 1, or None for what each row needs")
        stored = (DEFAULT_MIN_IQR, DEFAULT_MIN_SAMPLES) if statistics is None else statistics.degenerate()
        self.min_iqr = stored[0] if min_iqr is None else min_iqr
        self.min_samples = stored[1] if min_samples is None else min_samples
        check_degenerate(self.min_iqr, self.min_samples)
        self.statistics, self.name, self.k, self.linear_share = statistics, name, k, linear_share
        self.neutral = statistics is None or name == "none"
        self._maps: dict[tuple[str, str], Map] = {}
        if statistics is not None and not self.neutral:
            self._make(statistics)

    def _make(self, statistics: Statistics) -> None:
        kind = NORMALIZERS[self.name]
        used = used_rows(statistics.pairs, self.min_iqr, self.min_samples)
        for source, signals in statistics.pairs.items():
            for signal, measured in signals.items():
                fields = {key: getattr(measured, key) for key in kind.needs}
                for key, value in fields.items():
                    if value is None:
                        raise BadStatistics(
                            f"{statistics.name}: {source}: {signal}: {key}: missing, the normalizer {self.name} needs "
                            "it: calibrate again"
                        )
                row = Row(used[source][signal], self.k, self.min_iqr, self.linear_share)
                self._maps[source, signal] = kind.make(row, *fields.values())

    def __call__(self, data_source: str, signal: str, x: float) -> float:
        """The normalised value.

        Raises:
            MissingStatistics: the file has no row for this data source and signal.
            ValueError: ``x`` is not finite.
        """
        if not isfinite(x):
            raise ValueError(f"{data_source}: signal {signal}: expected a finite number, got {x!r}")
        if self.neutral:
            return x
        function = self._maps.get((data_source, signal))
        if function is None:
            raise MissingStatistics(f"no statistics for {data_source}, signal {signal}: calibrate that pair")
        return function(x)
