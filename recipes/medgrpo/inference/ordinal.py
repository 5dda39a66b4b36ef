# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Expectations in the place of the likeliest marks, for answers that are numbers on a scale (`sa`, `cvs`).

A model that is torn between 2 and 4 says one of them, and is two off half of the time. Its probabilities at the mark's
place say 3. `--ordinal expectation` of `generate` and `evaluate sample` lets the model write its answer as ever and
then puts at each mark's place the mean of the scale's marks, each with its probability there, rounded to a whole mark,
halves up. Probabilities are those of temperature 1, and what other tokens have of them is left out. A mark that stands
behind another was predicted behind the mark that the model wrote, not behind the mean.

Answers that are not the task's grammar and nothing else keep what the model wrote, and so do those whose marks are no
tokens of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, floor, isfinite
from typing import Any

from recipes.medgrpo.inference.jobs import InferenceError, Reply
from reward_score.answers import CVS_RANGE, SA_RANGE, mark_places, render_cvs, render_sa

SCALES = {"sa": SA_RANGE, "cvs": CVS_RANGE}
"""The tasks whose answers are marks, and the lowest and the highest mark."""
_RENDER = {"sa": render_sa, "cvs": render_cvs}
_DIGITS = [
    str(mark) for mark in range(min(low for low, _ in SCALES.values()), max(high for _, high in SCALES.values()) + 1)
]


def expectation(log_probs: Mapping[str, float], low: int, high: int) -> float | None:
    """The mean of the marks `low` to `high` under their probabilities, which are scaled to sum to 1.

    Args:
        log_probs: log-probabilities by token; others than marks, and marks that are not there, count nothing.

    Returns:
        None where no mark has any probability.
    """
    known = {mark: log_probs.get(str(mark), -float("inf")) for mark in range(low, high + 1)}
    most = max(known.values())
    if not isfinite(most):
        return None
    weights = {mark: exp(value - most) for mark, value in known.items()}
    return sum(mark * weight for mark, weight in weights.items()) / sum(weights.values())


def by_mark(places: Sequence[Mapping[int, Any]] | None, marks: Mapping[int, str]) -> list[dict[str, float]]:
    """vLLM's log-probabilities (`CompletionOutput.logprobs`: by token id, an object with `logprob`) by mark.

    It adds the token that was sampled, and one of minus infinity where lists of several requests differ in length;
    neither is a mark unless its id is one.
    """
    return [{marks[token]: found.logprob for token, found in place.items() if token in marks} for place in places or ()]


def expectations(
    task: str, text: str, pieces: Sequence[str], watched: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """The expectation of every component's mark; empty where the answer keeps the marks that it has.

    Args:
        text: the answer. pieces: the text of each of its tokens.
        watched: log-probabilities by mark at each token's place.
    """
    places = mark_places(task, text)
    if not places or "".join(pieces) != text or len(watched) != len(pieces):
        return {}
    starts: dict[int, int] = {}
    at = 0
    for number, piece in enumerate(pieces):
        if len(piece) == 1:
            starts[at] = number
        at += len(piece)
    found = {
        name: expectation(watched[starts[place]], *SCALES[task]) for name, place in places.items() if place in starts
    }
    known = {name: value for name, value in found.items() if value is not None}
    return known if len(known) == len(places) else {}


class Marks:
    """Puts expectations into answers, and counts those that it leaves as they are."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    @staticmethod
    def concerns(task: str) -> bool:
        return task in SCALES

    @staticmethod
    def ids(tokenizer: Any) -> dict[int, str]:
        """The token of every mark. Raises `InferenceError` where marks are not single tokens."""
        ids = [tokenizer.encode(digit, add_special_tokens=False) for digit in _DIGITS]
        if any(len(found) != 1 for found in ids):
            raise InferenceError("--ordinal expectation: expected a tokenizer with a token for each digit")
        return {found[0]: digit for found, digit in zip(ids, _DIGITS, strict=True)}

    def settle(self, task: str, reply: Reply, pieces: Sequence[str], watched: Sequence[Mapping[str, float]]) -> Reply:
        """The reply with rounded expectations as its marks, as `expectations` finds them."""
        self._asked[task] += 1
        found = expectations(task, reply.text, pieces, watched)
        if not found:
            self._left[task] += 1
            return reply
        marks = {name: floor(value + 0.5) for name, value in found.items()}
        return replace(reply, text=_RENDER[task](marks), sampled=reply.text, expected=found)

    def notes(self) -> list[str]:
        return [
            f"{task}: {left} of {self._asked[task]} answers keep the marks that the model wrote: not the task's grammar"
            for task, left in sorted(self._left.items())
        ]
