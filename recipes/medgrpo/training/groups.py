# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rewards of one step by group, and what every advantage is: a map from them to one number an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

EPSILON = 1e-6
"""verl's, in `compute_grpo_outcome_advantage`."""
TIE = 1e-9
"""Rewards nearer to each other than this are the same reward: what differs is rounding."""


class Part(NamedTuple):
    """One summand of N rewards, such as that of a signal.

    Attributes:
        values: (N,), 0 where an answer does not have it.
        weights: (N,) its weight in each reward, 0 where an answer does not have it.
    """

    values: np.ndarray
    weights: np.ndarray


def stacked(rows: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, Part]:
    """Parts by name from N rows of {name: (value, weight)}, such as those of `Scorer.summands`."""
    names = sorted({name for row in rows for name in row})
    columns = {name: np.array([row.get(name, (0.0, 0.0)) for row in rows], dtype=np.float64) for name in names}
    return {name: Part(column[:, 0], column[:, 1]) for name, column in columns.items()}


class Advantage:
    """Advantages of one step: `(rewards (N,), groups, pairs, parts) -> (N,)`, float64, no unit.

    `groups` names each rollout's prompt, `pairs` its dataset-task pair (a `data_source`). `parts` are the summands of
    the rewards, read only by advantages that `needs_parts`. The call may learn from the rewards; what it learnt is its
    state, plain JSON.
    """

    needs_parts = False
    mixes = False
    """Whether `mix` says something."""

    def __call__(
        self,
        rewards: np.ndarray,
        groups: Sequence[str],
        pairs: Sequence[str],
        parts: Mapping[str, Part] | None = None,
    ) -> np.ndarray:
        """Raises ValueError for columns of different lengths, a number that is not finite, or a group of two pairs."""
        rewards = np.asarray(rewards, dtype=np.float64)
        if rewards.ndim != 1 or not len(rewards) == len(groups) == len(pairs):
            raise ValueError(f"{rewards.shape} rewards, {len(groups)} groups, {len(pairs)} pairs: expected one each")
        if not np.isfinite(rewards).all():
            raise ValueError(f"reward {int(np.argmin(np.isfinite(rewards)))} is not finite")
        if rewards.size == 0:
            return rewards
        return self._compute(Groups(rewards, groups, pairs, self._checked(parts, len(rewards))))

    def _checked(self, parts: Mapping[str, Part] | None, size: int) -> Mapping[str, Part]:
        if not self.needs_parts:
            return {}
        if not parts:
            raise ValueError(f"{type(self).__name__}: expected the parts of the rewards, got none")
        for name, part in parts.items():
            for column in part:
                if column.shape != (size,) or not np.isfinite(column).all():
                    raise ValueError(f"part {name}: expected {size} finite values and weights")
        return parts

    def _compute(self, batch: Groups) -> np.ndarray:
        raise NotImplementedError

    def mix(self) -> dict[str, float] | None:
        """How much of the next batch each task should be (`data.medgrpo.mix=learnt`); None: it does not say."""
        return None

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got {', '.join(sorted(state))}")


class Groups:
    """N rewards in G groups, with what every formula needs of them.

    Attributes:
        rewards: (N,). pairs: (N,). parts: see `Advantage`.
        group: (N,) number of each reward's group. first: (G,) where each group begins. size: (G,). pair: (G,).
        centred: (N,) reward minus its group's mean; exactly 0 in a group without spread.
        std: (G,) with N - 1, 0 of a group of one. dead: (G,) whether a group is without spread.
    """

    def __init__(
        self,
        rewards: np.ndarray,
        groups: Sequence[str],
        pairs: Sequence[str],
        parts: Mapping[str, Part] | None = None,
    ) -> None:
        self.rewards, self.parts = rewards, parts or {}
        self.pairs = np.asarray(pairs, dtype=object)
        _, self.first, self.group = np.unique(np.asarray(groups, dtype=str), return_index=True, return_inverse=True)
        self.pair = self.pairs[self.first]
        if (self.pair[self.group] != self.pairs).any():
            at = int(np.argmax(self.pair[self.group] != self.pairs))
            raise ValueError(f"group {groups[at]!r} is of two pairs, {self.pair[self.group[at]]} and {self.pairs[at]}")
        self.size = np.bincount(self.group)
        self.centred, self.std, self.dead = self.within(rewards)

    def within(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(centred (N,), std (G,), dead (G,)) of any N values in these groups; see the class."""
        mean = np.bincount(self.group, values) / self.size
        centred = values - mean[self.group]
        spread = np.zeros(len(self.size))
        np.maximum.at(spread, self.group, np.abs(centred))
        # Rounding of the mean is not a spread: divided by epsilon it would be an advantage.
        dead = spread < TIE
        centred = np.where(dead[self.group], 0.0, centred)
        return centred, np.sqrt(np.bincount(self.group, centred**2) / np.maximum(self.size - 1, 1)), dead

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """(N,) (value - mean of the group) / (std of the group + 1e-6), verl's GRPO."""
        centred, std, _ = self.within(values)
        return centred / (std[self.group] + EPSILON)

    @property
    def standardised(self) -> np.ndarray:
        return self.centred / (self.std[self.group] + EPSILON)

    def units(self, by: str) -> tuple[np.ndarray, np.ndarray]:
        """(names (U,), number (N,)) of the rewards' tasks (`by="task"`), pairs or groups."""
        if by == "group":
            return np.arange(len(self.size)), self.group
        names = [task_of(pair) if by == "task" else pair for pair in self.pairs]
        return np.unique(np.asarray(names, dtype=str), return_inverse=True)


def task_of(pair: str) -> str:
    """`medvidbench/AVOS/tal` -> `tal`."""
    return pair.rpartition("/")[2]


def one_of(name: str, by: str, choices: Sequence[str]) -> str:
    """`by`, the setting of the advantage `name`; ValueError unless it is one of the choices."""
    if by not in choices:
        raise ValueError(f"{name}: by {by!r}: expected {' or '.join(choices)}")
    return by
