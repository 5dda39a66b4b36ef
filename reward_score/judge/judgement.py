# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a judge returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..paid_call.usage import Usage

DIMENSIONS = ("terminology", "instruments_anatomy", "specificity", "procedure_context", "action_state")
"""The five judged dimensions, in the order of the MedGRPO paper."""
LOWEST, HIGHEST = 1, 5
"""The scale of every dimension, both ends included."""


@dataclass(frozen=True)
class Judgement:
    """Five scores of 1 (worst) to 5 (as close to the reference as can be), and who gave them.

    Attributes:
        terminology: precision of the medical terms.
        instruments_anatomy: the right instruments and anatomical structures.
        specificity: as specific as the reference, not vague.
        procedure_context: the right step of the right procedure.
        action_state: the right actions and states.
        judge: name of the judge, with its version.
        usage: what the judgement cost; None for a judge that costs nothing.

    Raises:
        ValueError: a score that is not a finite number of 1 to 5. Scores are never clamped.
    """

    terminology: float
    instruments_anatomy: float
    specificity: float
    procedure_context: float
    action_state: float
    judge: str
    usage: Usage | None = None

    def __post_init__(self) -> None:
        for name, value in self.scores().items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not LOWEST <= value <= HIGHEST:
                raise ValueError(f"judgement: {name} is {value!r}, expected a number of {LOWEST} to {HIGHEST}")

    @classmethod
    def lowest(cls, judge: str, usage: Usage | None = None) -> Judgement:
        """1 in every dimension: what an answer without a word deserves."""
        return cls(**dict.fromkeys(DIMENSIONS, LOWEST), judge=judge, usage=usage)

    @property
    def mean(self) -> float:
        """The mean of the five dimensions, 1 to 5."""
        return sum(self.scores().values()) / len(DIMENSIONS)

    def scores(self) -> dict[str, float]:
        """The five dimensions alone."""
        return {name: getattr(self, name) for name in DIMENSIONS}

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON: the dimensions, ``mean``, ``judge`` and ``usage`` (a dict or None)."""
        usage = None if self.usage is None else vars(self.usage).copy()
        return {**self.scores(), "mean": self.mean, "judge": self.judge, "usage": usage}
