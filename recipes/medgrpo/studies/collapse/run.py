# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One training of the exact model: answers drawn, rewarded, compared in groups, and the policy moved; and what became.

A step asks every rewarded task equally often, as `data.medgrpo.mix=tasks` does, and draws `group` answers for each
prompt. Rewards are the project's for the normaliser, advantages those of `training.advantages`. The loss is verl's
token-mean: an answer pulls by its advantage over the tokens of the whole batch. What is reported is exact: expectations
under the policy, over all tasks, asked or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import lcm
from typing import Any

import numpy as np

from recipes.medgrpo.studies.collapse.policy import Policy, clipped_slope
from recipes.medgrpo.studies.collapse.world import STYLES, World
from recipes.medgrpo.training.adaptive import AdaptiveStatistics
from recipes.medgrpo.training.advantages import make_advantage
from recipes.medgrpo.training.groups import EPSILON, TIE, Part, stacked
from reward_score.normalization import NEEDED, NORMALIZERS, Normalizer
from reward_score.reward import Scorer, get_scorer
from reward_score.settings import ADAPTIVE
from reward_score.statistics import Statistics

PAPER = "paper"
"""The paper's logistic alone; `logistic` adds the share of the raw signal that this project's default adds."""
CHOICES = (PAPER, *NORMALIZERS, ADAPTIVE)
EXACT = ("grpo", "dr_grpo")
"""Advantages whose formula is known for a group of all answers that there are."""
COLUMN_SHARE, LEAST_FORMAT = 0.5, 0.5
"""Collapse: a task's accuracy below this share of its start, or its format below this."""
EVERY = 10
"""Steps between two looks at whether it has collapsed."""


@dataclass(frozen=True)
class Setting:
    """What is trained and how.

    Attributes:
        normalizer: one of `CHOICES`. advantage: of `training.advantages`, with its settings.
        rate, coupling, optimizer: see `Policy`.
        group: answers drawn for a prompt; None: the group is all answers, each as probable as it is (`EXACT`).
        updates: gradient steps on one batch; from the second on, clipping can act.
        steps: of the training. seed: of the draws. rewarded: tasks that are asked and earn a reward, None for all.
    """

    normalizer: str = PAPER
    advantage: str = "grpo"
    advantage_settings: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 1.0
    coupling: float = 0.5
    optimizer: str = "sgd"
    group: int | None = 8
    updates: int = 1
    steps: int = 300
    seed: int = 0
    rewarded: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.normalizer not in CHOICES:
            raise ValueError(f"normalizer {self.normalizer!r}: expected one of {', '.join(CHOICES)}")
        if self.group is None and (self.advantage not in EXACT or self.normalizer == ADAPTIVE):
            raise ValueError(f"group exact: expected an advantage of {', '.join(EXACT)} and a normalizer that is fixed")
        if self.group is not None and self.group < 2:
            raise ValueError(f"group {self.group!r}: expected 2 or more")


class Rewards:
    """The rewards of all answers of a world under a normaliser."""

    def __init__(self, world: World, statistics: Statistics, setting: Setting) -> None:
        self.world = world
        self.scorer: Scorer = get_scorer(rewarded_tasks=None if setting.rewarded is None else tuple(setting.rewarded))
        self.window = AdaptiveStatistics(statistics) if setting.normalizer == ADAPTIVE else None
        name = "logistic" if setting.normalizer in (PAPER, ADAPTIVE) else setting.normalizer
        self.share = 0.0 if setting.normalizer == PAPER else NEEDED
        self._use(Normalizer(statistics, name, linear_share=self.share))

    def _use(self, normalizer: Normalizer) -> None:
        rows = []
        for at, pair in enumerate(self.world.pairs):
            signals = {name: self.world.raw[pair][name] for name in self.scorer.signals[self.world.tasks[at]]}
            rows += [
                self.scorer.summands(pair, float(form), {name: float(x[k]) for name, x in signals.items()}, normalizer)
                for k, form in enumerate(self.world.format[at])
            ]
        self.parts = stacked(rows)
        self.table = sum(part.values * part.weights for part in self.parts.values()).reshape(self.world.start.shape)

    def of(self, cells: np.ndarray) -> tuple[np.ndarray, dict[str, Part]]:
        """(rewards, their parts) of answers, by their numbers in the flattened table."""
        parts = {name: Part(part.values[cells], part.weights[cells]) for name, part in self.parts.items()}
        return self.table.ravel()[cells], parts

    def learn(self, pair: np.ndarray, answer: np.ndarray) -> None:
        """Let an adaptive normaliser see the answers of a step; others do not change."""
        if self.window is None:
            return
        for at in np.unique(pair):
            name = self.world.pairs[at]
            for signal, values in self.world.raw[name].items():
                self.window.add(name, signal, values[answer[pair == at]].tolist())
        self._use(self.window.normalizer(3.0, linear_share=self.share))


def population_advantages(table: np.ndarray, probabilities: np.ndarray, advantage: str) -> np.ndarray:
    """(P, K) advantages in a group of all answers, each with its probability: what large groups tend to."""
    mean = (probabilities * table).sum(axis=1, keepdims=True)
    centred = table - mean
    std = np.sqrt((probabilities * centred**2).sum(axis=1, keepdims=True))
    centred = np.where(std < TIE, 0.0, centred)
    return centred if advantage == "dr_grpo" else centred / (std + EPSILON)


def style_advantages(world: World, statistics: Statistics, setting: Setting) -> dict[str, dict[str, float]]:
    """By task that is asked, and over `all` of them: the mean advantage of each style before the first step.

    In a group of all answers (`population_advantages`). Where styles are shared, the sign of `all` says whether a
    style grows.
    """
    table, share = Rewards(world, statistics, setting).table, prompts_of(world, setting.rewarded).astype(float)
    advantages = population_advantages(table, world.start, setting.advantage)
    tasks = np.array(world.tasks)
    found = {}
    for task in [*dict.fromkeys(tasks[share > 0].tolist()), "all"]:
        asked = share if task == "all" else share * (tasks == task)
        weight = world.start * asked[:, None]
        found[task] = {
            style: float((weight * advantages)[world.style == at].sum() / weight[world.style == at].sum())
            for at, style in enumerate(STYLES)
        }
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes:
        collapsed: step of the first look at which it had collapsed, None if never. cause: what was seen then.
        tasks: by task: format, accuracy, entropy (nats) and tokens of an answer at the end, and each at the start as
            `..._start`, expectations over the policy, mean over the task's pairs.
    """

    collapsed: int | None
    cause: str | None
    tasks: dict[str, dict[str, float]]

    @property
    def worst_column(self) -> float:
        """The least share of its accuracy at the start that a task has at the end."""
        return min(row["acc"] / row["acc_start"] for row in self.tasks.values())

    @property
    def least_format(self) -> float:
        return min(row["format"] for row in self.tasks.values())


def prompts_of(world: World, rewarded: Sequence[str] | None) -> np.ndarray:
    """(P,) prompts of each pair in a step: the fewest with which every rewarded task has as many as another.

    Raises:
        ValueError: none of the tasks is in the world.
    """
    counts = Counter(task for task in world.tasks if rewarded is None or task in rewarded)
    if not counts:
        raise ValueError(f"rewarded {rewarded}: expected some of {', '.join(dict.fromkeys(world.tasks))}")
    whole = lcm(*counts.values())
    return np.array([whole // counts[task] if task in counts else 0 for task in world.tasks])


def measures(world: World, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
    """By task: expected format, accuracy, entropy and tokens, mean over its pairs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.where(probabilities > 0, np.log(probabilities), 0.0)
    columns = {
        "format": (probabilities * world.format).sum(axis=1),
        "acc": (probabilities * world.acc).sum(axis=1),
        "entropy": -(probabilities * log).sum(axis=1),
        "tokens": (probabilities * world.tokens).sum(axis=1),
    }
    tasks = np.array(world.tasks)
    return {
        task: {name: float(column[tasks == task].mean()) for name, column in columns.items()}
        for task in dict.fromkeys(world.tasks)
    }


def collapse_of(start: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]) -> str | None:
    """What has collapsed, None if nothing: the rule of docs/collapse.md."""
    for task, row in now.items():
        if row["format"] < LEAST_FORMAT <= start[task]["format"]:
            return f"{task}: format"
        if row["acc"] < COLUMN_SHARE * start[task]["acc"]:
            return f"{task}: accuracy"
    return None


def train(world: World, statistics: Statistics, setting: Setting) -> Outcome:
    """Train the exact model."""
    rng, policy = np.random.default_rng(setting.seed), Policy(world, setting.coupling, setting.rate, setting.optimizer)
    rewards = Rewards(world, statistics, setting)
    advantage = make_advantage(setting.advantage, **setting.advantage_settings)
    pairs, answers = world.start.shape
    before = policy.probabilities()
    start = measures(world, before)
    asked = prompts_of(world, setting.rewarded)
    prompt_pair = np.repeat(np.arange(pairs), asked)
    pair = np.repeat(prompt_pair, setting.group or 0)
    groups = [str(prompt) for prompt in range(len(prompt_pair)) for _ in range(setting.group or 0)]
    names = [world.pairs[at] for at in pair]
    share = (asked / asked.sum())[:, None]
    tokens = float((share * before * world.tokens).sum())
    collapsed, cause = None, None
    for step in range(1, setting.steps + 1):
        old = policy.probabilities()
        if setting.group is None:
            pull = population_advantages(rewards.table, old, setting.advantage)
            weight, length = old * share, float((share * old * world.tokens).sum())
        else:
            edges = np.cumsum(old, axis=1)
            drawn = (edges[pair] < rng.random(len(pair))[:, None] * edges[pair, -1:]).sum(axis=1)
            cells = pair * answers + drawn
            scored, parts = rewards.of(cells)
            found = advantage(scored, groups, names, parts)
            length = float(world.tokens.ravel()[cells].mean())
        for _ in range(setting.updates):
            now = policy.probabilities()
            if setting.group is None:
                slope = weight * clipped_slope(now / np.where(old > 0, old, 1.0), pull)
            else:
                ratio = now.ravel()[cells] / old.ravel()[cells]
                pulled = np.bincount(cells, clipped_slope(ratio, found), minlength=now.size)
                slope = pulled.reshape(now.shape) / len(cells)
            # The mean over the batch's tokens, in answers of the length that they had at the start.
            policy.climb(slope * tokens / length, now)
        if setting.group is not None:
            rewards.learn(pair, drawn)
        if collapsed is None and (step % EVERY == 0 or step == setting.steps):
            cause = collapse_of(start, measures(world, policy.probabilities()))
            collapsed = step if cause else None
    end = measures(world, policy.probabilities())
    tasks = {task: row | {f"{name}_start": value for name, value in start[task].items()} for task, row in end.items()}
    return Outcome(collapsed, cause, tasks)


def as_json(setting: Setting, outcome: Outcome) -> dict[str, Any]:
    """A training's settings and what became of it."""
    return asdict(setting) | asdict(outcome)
