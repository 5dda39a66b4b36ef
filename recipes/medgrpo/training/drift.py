# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Warnings that a pair's answers are moving away from how they began: what docs/collapse.md says to watch.

Of every pair the format, the entropy and the length of its answers are remembered: the mean of the first steps that had
the pair, and that of the newest. They are compared once the two do not overlap. A training on rewards alone is free to
change all three, and does: entropy falls as a policy becomes sure, and captions become shorter. The limits are those
beyond which no healthy training of this project went (`Limits`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipes.medgrpo.training.curves import PREFIX, Rollout, pair_name

logger = logging.getLogger(__name__)

MEASURES = ("format", "entropy", "tokens")


@dataclass(frozen=True)
class Limits:
    """How far is too far. The figures of a healthy training are those of the CPU run, seed 0, 20 steps.

    Attributes:
        window: steps with the pair that make a mean. Five have 40 answers in the CPU run: the standard error of a
            format of 0.7 is 0.07.
        format_fall: the format's mean may fall by this. It fell by up to 0.14 there; the rule of docs/collapse.md, a
            format below 0.5, is then still ahead of a pair that began at 0.75.
        entropy_share: the entropy's mean may fall to this share of where it began. Over all pairs it fell to 0.79
            there, that of CoPESD/tal to 0.30.
        length_factor: answers may become so many times longer, or shorter. Dense captions of AVOS became 1.7
            times shorter there, with the same format.
    """

    window: int = 5
    format_fall: float = 0.25
    entropy_share: float = 0.15
    length_factor: float = 2.0

    def __post_init__(self) -> None:
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise ValueError(f"drift: window {self.window!r}: expected a whole number above 0")
        for name, low, high in (("format_fall", 0, 1), ("entropy_share", 0, 1), ("length_factor", 1, float("inf"))):
            if not low < (value := getattr(self, name)) < high:
                raise ValueError(f"drift: {name} {value!r}: expected a number above {low} and below {high}")


def drifted(measure: str, began: float, now: float, limits: Limits) -> bool:
    """Whether the mean of a measure has moved too far: from where it began to now."""
    if measure == "format":
        return now < began - limits.format_fall
    if measure == "entropy":
        return now < began * limits.entropy_share
    return not began / limits.length_factor <= now <= began * limits.length_factor


ADVICE = {
    "format": "its answers stop being readable",
    "entropy": "the policy narrows to one answer",
    "tokens": "its answers take another length",
}
WHAT_TO_DO = (
    "read its newest answers; if they are worse, stop and go on from a checkpoint before, with a lower learning rate "
    "or another normalizer (docs/collapse.md, What to watch)"
)


class Drift:
    """Remembers how each pair began and how it is now; call it with every step's answers.

    A message is logged when a pair passes a limit, and again only after it was back within.
    """

    def __init__(self, **limits: Any) -> None:
        """`limits` as `Limits` names them; TypeError, ValueError: no such limit, or one without meaning."""
        self.limits = Limits(**limits)
        self._first: dict[str, list[list[float]]] = {}
        self._newest: dict[str, deque[list[float]]] = {}
        self._warned: set[tuple[str, str]] = set()

    def __call__(self, step: int, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Metrics of the step.

        <pair>/tokens, <pair>/entropy   means of the step's answers; the entropy, in nats a token, is that of the tokens
                                        that were drawn, where the queue has their probabilities
        drift/format_fall               the largest fall of a pair's format from where it began
        drift/entropy_share             the least share of its entropy that a pair still has
        drift/length_factor             the largest change of a pair's length, longer or shorter
        drift/pairs                     how many pairs are beyond a limit

        The last four from the first step on at which a pair can be compared.
        """
        members: dict[str, list[Rollout]] = {}
        for rollout in rollouts:
            members.setdefault(pair_name(rollout.data_source), []).append(rollout)
        metrics = {}
        for pair, answers in members.items():
            means = [float(np.mean(column)) for column in zip(*map(_numbers, answers), strict=True)]
            metrics[f"{PREFIX}/{pair}/tokens"] = means[2]
            if np.isfinite(means[1]):
                metrics[f"{PREFIX}/{pair}/entropy"] = means[1]
            self._remember(pair, means)
        return metrics | self._compare(step, members)

    def _remember(self, pair: str, means: list[float]) -> None:
        first = self._first.setdefault(pair, [])
        if len(first) < self.limits.window:
            first.append(means)
        else:
            self._newest.setdefault(pair, deque(maxlen=self.limits.window)).append(means)

    def _compare(self, step: int, asked: Mapping[str, Any]) -> dict[str, float]:
        changes: dict[str, list[tuple[float, float]]] = {measure: [] for measure in MEASURES}
        for pair, newest in self._newest.items():
            if len(newest) < self.limits.window:
                continue
            means = zip(np.mean(self._first[pair], axis=0).tolist(), np.mean(newest, axis=0).tolist(), strict=True)
            for measure, (began, now) in zip(MEASURES, means, strict=True):
                if not (np.isfinite(began) and np.isfinite(now)):
                    continue
                changes[measure].append((began, now))
                if pair in asked:
                    self._warn(step, pair, measure, began, now)
        found = {}
        if changes["format"]:
            found["format_fall"] = max(began - now for began, now in changes["format"])
        if shares := [now / began for began, now in changes["entropy"] if began > 0]:
            found["entropy_share"] = min(shares)
        if changes["tokens"]:
            found["length_factor"] = max(
                max(now, began) / max(min(now, began), 1.0) for began, now in changes["tokens"]
            )
            found["pairs"] = float(len({pair for pair, _ in self._warned}))
        return {f"{PREFIX}/drift/{name}": value for name, value in found.items()}

    def _warn(self, step: int, pair: str, measure: str, began: float, now: float) -> None:
        if not drifted(measure, began, now, self.limits):
            self._warned.discard((pair, measure))
        elif (pair, measure) not in self._warned:
            self._warned.add((pair, measure))
            logger.warning(
                "medgrpo warning: step %d: %s: %s %.2f over its last %d steps, %.2f over its first: %s; %s",
                *(step, pair, measure, now, self.limits.window, began, ADVICE[measure], WHAT_TO_DO),
            )

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, plain JSON; a mean that is not known is None."""

        def plain(rows: Any) -> list[list[float | None]]:
            return [[value if np.isfinite(value) else None for value in row] for row in rows]

        return {
            "first": {pair: plain(rows) for pair, rows in self._first.items()},
            "newest": {pair: plain(rows) for pair, rows in self._newest.items()},
            "warned": sorted(map(list, self._warned)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; of one that was made with a wider window, what fits is kept."""

        def rows(found: Any) -> list[list[float]]:
            return [[float("nan") if value is None else float(value) for value in row] for row in found]

        self._first = {pair: rows(found)[: self.limits.window] for pair, found in state["first"].items()}
        self._newest = {pair: deque(rows(found), self.limits.window) for pair, found in state["newest"].items()}
        self._warned = {(pair, measure) for pair, measure in state["warned"]}


def drawn_nats(data: Any) -> list[float]:
    """Of N answers the mean -log probability of their tokens, from the queue's `rollout_log_probs` and `rm_scores`."""
    rows = zip(data["rollout_log_probs"], data["rm_scores"], strict=True)
    return [-float(found.sum()) / max(scores.numel(), 1) for found, scores in rows]


def _numbers(rollout: Rollout) -> tuple[float, float, float]:
    entropy = float("nan") if rollout.nats is None else rollout.nats
    return float(rollout.parts.get("format", 0.0)), entropy, float(rollout.tokens)
