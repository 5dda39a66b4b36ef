# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Several judges as one: their scores averaged, their disagreement counted."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from .errors import JudgeError, JudgeSettingsError
from .judgement import DIMENSIONS, Judgement, Usage


class AveragedJudge:
    """The mean of several judges in every dimension, with the interface of `Judge`.

    There is a score only where every judge gave one: the mean of those that did not fail would be another judge.

    Args:
        judges: two or more, each a `Judge`, an `OfflineJudge`, or anything with their ``name`` and ``score``.

    Attributes:
        name: the names of the judges.
        store: of the first judge that has one, else None. How far the judges are apart is counted there, in that
            judge's lane: ``disagreement``, summed over ``compared`` judgements.

    Raises:
        JudgeSettingsError: fewer than two judges, or two that ask the same.
    """

    def __init__(self, judges: Sequence[Any]) -> None:
        self.judges = tuple(judges)
        if len(self.judges) < 2:
            raise JudgeSettingsError(f"judge: {len(self.judges)} to average: expected at least two")
        asks = [judge.asks for judge in self.judges if hasattr(judge, "asks")]
        if any(one == other for one, other in combinations(asks, 2)):
            # A verdict is known by what was asked and not by whom: the second would be given the first's.
            told = "second: expected another model's name, prompt or sampling than the first's"
            raise JudgeSettingsError(f"judge: {told}")
        self.name = "mean(" + ", ".join(judge.name for judge in self.judges) + ")"
        self._keeper = next((judge for judge in self.judges if getattr(judge, "store", None) is not None), None)
        self.store = self._keeper and self._keeper.store
        self._own: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def counters(self) -> Counter[str]:
        """The counters of all judges, added, with ``disagreement`` and ``compared``."""
        return sum((judge.counters for judge in self.judges if hasattr(judge, "counters")), Counter(self._own))

    @property
    def usage(self) -> Usage:
        """Tokens and requests of all judges so far."""
        return sum((getattr(judge, "usage", Usage()) for judge in self.judges), Usage())

    @property
    def cost_usd(self) -> float:
        """Dollars spent by all judges so far, where their prices are known."""
        return sum(getattr(judge, "cost_usd", 0.0) for judge in self.judges)

    @property
    def price_known(self) -> bool:
        """Whether every judge's price is known."""
        return all(getattr(judge, "price_known", True) for judge in self.judges)

    async def score(self, prediction: str, reference: str, *, task: str, question: str | None = None) -> Judgement:
        """Ask all judges at once; arguments as in `Judge.score`.

        Raises:
            BadGroundTruth: a blank reference.
            JudgeError: a judge failed. It counts as the answer's doing only if every failure is; ``usage`` is what
                all judges spent.
        """
        asked = (judge.score(prediction, reference, task=task, question=question) for judge in self.judges)
        results = await asyncio.gather(*asked, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, JudgeError):
                raise result
        failures = {place: result for place, result in enumerate(results) if isinstance(result, JudgeError)}
        given = [result for result in results if not isinstance(result, BaseException)]
        usages = [result.usage for result in (*failures.values(), *given) if result.usage is not None]
        usage = sum(usages, Usage()) if usages else None
        if failures:
            # False sorts first: a failure of the infrastructure before one that the answer may have caused.
            place = min(failures, key=lambda place: failures[place].answer_caused)
            raise type(failures[place])(f"{self.judges[place].name}: {failures[place]}", usage=usage)
        counts = {"disagreement": max(_apart(one, other) for one, other in combinations(given, 2)), "compared": 1}
        with self._lock:
            self._own.update(counts)
        if self._keeper is not None:
            self._keeper.store.count(self._keeper.model, counts)
        means = {name: sum(getattr(result, name) for result in given) / len(given) for name in DIMENSIONS}
        return Judgement(**means, judge=self.name, usage=usage)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the judges stay usable."""
        for judge in self.judges:
            if hasattr(judge, "aclose"):
                await judge.aclose()


def _apart(one: Judgement, other: Judgement) -> float:
    """Mean absolute difference over the dimensions."""
    return sum(abs(getattr(one, name) - getattr(other, name)) for name in DIMENSIONS) / len(DIMENSIONS)
