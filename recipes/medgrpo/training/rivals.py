# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Advantages of methods for several rewards or several tasks: `gdpo`, `ema_grpo`, `mt_grpo`, `g2rpo`."""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtri, softmax

from recipes.medgrpo.training.groups import EPSILON, TIE, Advantage, Groups, one_of, task_of

WHITEN_EPSILON = 1e-8
"""verl's, in `masked_whiten`: added to the variance."""

FORMAT = "format"
"""The name of the format among the parts of a reward (`Scorer.summands`); its weight there is 0."""


class Gdpo(Advantage):
    """Each signal standardised in its group by itself, then summed (GDPO, arXiv 2601.05242).

        A = sum_k w_k (r_k - mean_g,k) / (std_g,k + 1e-6), then A / sqrt(variance over the batch + 1e-8)

    The r_k are what the reward is the weighted sum of: format x normalised signal, for every signal of the task.
    verl's estimator of that name (`upstream/fixes/gdpo_on_v1`) whitens: it takes off the batch's mean as well, which
    is 0 here, as answers count alike and not their tokens.

    Args:
        format_weight: weight of the format as a summand of its own, beside the signals' weights, which sum to 1. 0:
            the format is in the signals' products alone, as in the reward.
    """

    needs_parts = True

    def __init__(self, format_weight: float = 0.0) -> None:
        if not (isfinite(format_weight) and format_weight >= 0):
            raise ValueError(f"gdpo: format_weight {format_weight!r}: expected a number from 0")
        self.format_weight = float(format_weight)

    def _compute(self, batch: Groups) -> np.ndarray:
        total = np.zeros(len(batch.rewards))
        for name, part in batch.parts.items():
            weights = self.format_weight if name == FORMAT else part.weights
            total += weights * batch.standardise(part.values)
        variance = total.var(ddof=1) if total.size > 1 else 0.0
        return total / sqrt(variance + WHITEN_EPSILON)


class EmaGrpo(Advantage):
    """A = (r - mean_g) / (std_t + 1e-6), std_t the task's over the last steps (OneThinker, arXiv 2512.03043).

    std_t^2 = EMA[r^2] - EMA[r]^2, both moving averages of the means of t's rewards in a step, this step's included;
    the first step of a task starts them. A group in which some |A| is above `most` is divided by its own std instead.

    Args:
        decay: of the averages; 0.99 remembers about a hundred steps.
        most: the largest |A| that is let be.
        by: "task" (`tal`, over all its datasets) or "pair".
    """

    def __init__(self, decay: float = 0.99, most: float = 5.0, by: str = "task") -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_grpo: decay {decay!r}: expected a number from 0, below 1")
        if not most > 0:
            raise ValueError(f"ema_grpo: most {most!r}: expected a number above 0")
        self.decay, self.most, self.by = float(decay), float(most), one_of("ema_grpo", by, ("task", "pair"))
        self._moments: dict[str, list[float]] = {}

    def _compute(self, batch: Groups) -> np.ndarray:
        names, unit = batch.units(self.by)
        size = np.bincount(unit)
        now = np.stack([np.bincount(unit, batch.rewards), np.bincount(unit, batch.rewards**2)], axis=1) / size[:, None]
        for name, moments in zip(names, now, strict=True):
            before = np.array(self._moments.get(name, moments))
            self._moments[name] = (self.decay * before + (1 - self.decay) * moments).tolist()
        first, second = np.array([self._moments[name] for name in names]).T
        std = np.sqrt(np.maximum(second - first**2, 0.0))
        advantages = batch.centred / (std[unit] + EPSILON)
        beyond = np.zeros(len(batch.size), dtype=bool)
        np.logical_or.at(beyond, batch.group, np.abs(advantages) > self.most)
        return np.where(beyond[batch.group], batch.standardised, advantages)

    def state_dict(self) -> dict:
        return {"moments": {name: list(moments) for name, moments in self._moments.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError when `state` is not what `state_dict` gave."""
        self._moments = _numbers_by_name(state, "moments", 2, 'ema_grpo: state: expected {"moments": {task: [m, m2]}}')


class MtGrpo(Advantage):
    """A = (grpo advantage) * z_t G / G_t: tasks weigh what they need (MT-GRPO, arXiv 2602.05547).

    z = softmax(x). After a step every task t has J_t, the moving average of its mean reward, and I_t, what J_t gained
    in this step, and with s_t = I_t + lambda J_t

        x_t <- x_t - step * z_t (s_t - sum_k z_k s_k)

    so that a task that is poor or does not improve weighs more. Weights act from the next step on. A task that a step
    shows for the first time starts at x = 0.

    Published beside it is a sampler that asks for more prompts until the groups with a gradient stand in the ratio z.
    verl's batch is drawn before its answers are known; so `mix` asks for z_t / a_t of the next batch, where a_t is the
    share of t's groups that had a gradient, a moving average. What is then still missing to the ratio, or all of it
    where the data do not follow (`data.medgrpo.mix`), is done by weights: with G live groups, G_t of them of t, each of
    t's weighs z_t G / G_t, at most `most`. z is of the tasks that have a live group.

    Args:
        step: size of the weights' steps.
        trade: lambda. Large: the worst task counts; small: the one that improves least. 0.2 is published.
        decay: of the moving averages of a task's rewards and live groups; 0 is the step's own mean.
        most: the largest weight of a group, and how many times its share z a task may be asked for.
    """

    mixes = True

    def __init__(self, step: float = 1.0, trade: float = 0.2, decay: float = 0.5, most: float = 5.0) -> None:
        for name, value in (("step", step), ("trade", trade)):
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"mt_grpo: {name} {value!r}: expected a number from 0")
        if not 0 <= decay < 1:
            raise ValueError(f"mt_grpo: decay {decay!r}: expected a number from 0, below 1")
        if not most >= 1:
            raise ValueError(f"mt_grpo: most {most!r}: expected a number from 1")
        self.step, self.trade, self.decay, self.most = float(step), float(trade), float(decay), float(most)
        self._tasks: dict[str, list[float]] = {}  # logit, average reward, average share of live groups

    def _compute(self, batch: Groups) -> np.ndarray:
        names, unit = batch.units("task")
        now = np.bincount(unit, batch.rewards) / np.bincount(unit)
        names, number = names.tolist(), np.searchsorted(names, [task_of(pair) for pair in batch.pair])
        live = np.bincount(number, ~batch.dead)
        alive = live / np.bincount(number)
        for name, reward, share in zip(names, now, alive, strict=True):
            self._tasks.setdefault(name, [0.0, float(reward), float(share)])
        weights = self._weights(names, number, live)
        self._learn(names, now, alive)
        return batch.standardised * weights[batch.group]

    def _weights(self, names: list[str], number: np.ndarray, live: np.ndarray) -> np.ndarray:
        """(G,) what each group weighs: of task `number`, an index of `names`, which has so many `live` groups."""
        share = softmax([self._tasks[name][0] for name in names]) * (live > 0)
        if not live.any():
            return np.ones(len(number))
        weight = share / share.sum() * live.sum() / np.maximum(live, 1)
        return np.minimum(weight, self.most)[number]

    def _learn(self, names: list[str], rewards: np.ndarray, alive: np.ndarray) -> None:
        logits, before, lived = np.array([self._tasks[name] for name in names]).T
        after, living = (self.decay * old + (1 - self.decay) * new for old, new in ((before, rewards), (lived, alive)))
        share, signal = softmax(logits), after - before + self.trade * after
        logits = logits - self.step * share * (signal - share @ signal)
        self._tasks.update(zip(names, np.stack([logits, after, living], axis=1).tolist(), strict=True))

    def mix(self) -> dict[str, float] | None:
        if not self._tasks:
            return None
        logits, _, living = np.array(list(self._tasks.values())).T
        asked = softmax(logits) * np.minimum(1 / np.maximum(living, 1e-9), self.most)
        return dict(zip(self._tasks, (asked / asked.sum()).tolist(), strict=True))

    def state_dict(self) -> dict:
        return {"tasks": {name: list(numbers) for name, numbers in self._tasks.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError when `state` is not what `state_dict` gave."""
        self._tasks = _numbers_by_name(
            state, "tasks", 3, 'mt_grpo: state: expected {"tasks": {task: [logit, reward, live]}}'
        )


class G2rpo(Advantage):
    """A = normal score of the reward's rank (Gaussian GRPO, arXiv 2604.08539): how far apart rewards are is left out.

    The i-th of n rewards scores the (i - 1/2) / n quantile of the standard normal distribution; equal rewards have the
    mean score of their ranks. The scores are centred in their groups, which changes none where ranks are the group's.
    The offset 1/2 and what ties get are not said in the sources that were read, and chosen here.

    Args:
        by: "group", "pair" or "task": among which rewards of the step a reward is ranked.
    """

    def __init__(self, by: str = "group") -> None:
        self.by = one_of("g2rpo", by, ("group", "pair", "task"))

    def _compute(self, batch: Groups) -> np.ndarray:
        _, unit = batch.units(self.by)
        values, scores = np.round(batch.rewards / TIE), np.zeros(len(batch.rewards))
        for number in range(unit.max() + 1):
            rows = np.flatnonzero(unit == number)
            score = ndtri((np.arange(len(rows)) + 0.5) / len(rows))
            _, rank, ties = np.unique(values[rows], return_inverse=True, return_counts=True)
            mean = np.bincount(rank[np.argsort(rank, kind="stable")], score) / ties
            scores[rows] = mean[rank]
        return np.where(batch.dead[batch.group], 0.0, batch.within(scores)[0])


def _numbers_by_name(state: Any, key: str, many: int, expected: str) -> dict[str, list[float]]:
    """{name: `many` finite numbers} of a state; ValueError, with `expected`, for anything else."""
    try:
        found = {str(name): [float(number) for number in numbers] for name, numbers in state[key].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        found = {"": []}
    if any(len(numbers) != many or not all(map(isfinite, numbers)) for numbers in found.values()):
        raise ValueError(expected)
    return found
