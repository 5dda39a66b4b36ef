# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Statistics that follow the policy: percentiles of the newest raw signals, the SFT model's until there are enough.

The normaliser `adaptive` is the logistic with these. Its median answer earns 0.5 at any time of a run, so a pair that
the policy has learnt does not saturate; in return an answer's reward says how it compares with recent answers, not
how good it is, and is no measure of progress.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from math import isfinite

from reward_score.normalization import Normalizer
from reward_score.statistics import Percentiles, Statistics, summarize


class AdaptiveStatistics:
    """The last values of every (data source, signal), and the logistic made from them.

    Answers that do not parse count, with their raw 0, as they do in calibration.

    Args:
        start: the SFT model's statistics, used for a signal with fewer than `min_values` values; None: there are
            none, and such a signal cannot be normalised yet.
        window: values that are kept of each signal, the newest.
        min_values: values from which on they replace the start's.

    Raises:
        ValueError: not 1 <= min_values <= window.
    """

    def __init__(self, start: Statistics | None, window: int = 512, min_values: int = 128) -> None:
        if not 1 <= min_values <= window:
            raise ValueError(f"min_values {min_values}, window {window}: expected 1 <= min_values <= window")
        self.start, self.window, self.min_values = start, int(window), int(min_values)
        self._values: dict[str, dict[str, deque[float]]] = defaultdict(dict)

    def add(self, data_source: str, signal: str, values: Iterable[float]) -> None:
        """Raw values enter the window, in their order; ValueError for one that is not finite."""
        values = [float(value) for value in values]
        if not all(map(isfinite, values)):
            raise ValueError(f"{data_source}: signal {signal}: expected finite numbers, got {values}")
        self._values[data_source].setdefault(signal, deque(maxlen=self.window)).extend(values)

    def statistics(self) -> Statistics:
        """The rows as of now: the window's where it holds enough, else the start's."""
        pairs = {} if self.start is None else {source: dict(rows) for source, rows in self.start.pairs.items()}
        for source, signals in self._values.items():
            for signal, values in signals.items():
                if len(values) >= self.min_values:
                    row = summarize(values)
                    pairs.setdefault(source, {})[signal] = Percentiles(
                        **{key: row[key] for key in ("n", "p25", "p50", "p75", "iqr")}
                    )
        return Statistics(pairs, {} if self.start is None else self.start.meta, "window")

    def normalizer(
        self, k: float, min_iqr: float | None = None, min_samples: int | None = None, linear_share: float | None = 0.0
    ) -> Normalizer:
        """The logistic with the rows as of now; what enters the window later does not change it.

        `min_iqr`, `min_samples` and `linear_share` as in `Normalizer`.
        """
        return Normalizer(self.statistics(), "logistic", k, min_iqr, min_samples, linear_share)

    def state_dict(self) -> dict:
        """The window as plain JSON: values by data source and signal, oldest first."""
        return {
            "values": {
                source: {signal: list(values) for signal, values in signals.items()}
                for source, signals in self._values.items()
            }
        }

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError when `state` is not what `state_dict` gave."""
        self._values.clear()
        try:
            for source, signals in state["values"].items():
                for signal, values in signals.items():
                    self.add(source, signal, values)
        except (AttributeError, KeyError, TypeError) as error:
            expected = '{"values": {data source: {signal: values}}}'
            raise ValueError(f"adaptive statistics: state: expected {expected}") from error
