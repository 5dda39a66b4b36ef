# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""From the rewards of one step to advantages: GRPO's, and the rivals that look beyond one prompt's group.

With r a rollout's reward, g its group (the rollouts of one prompt), d its dataset-task pair, t its task:

    grpo        (r - mean_g) / (std_g + 1e-6)
    dr_grpo     r - mean_g
    per_task    (r - mean_g) / (std over all rollouts of t in the batch + 1e-6)
    drpo        the grpo advantage / (scale of the domain d * scale of the cluster of g), see `drpo`
    gdpo        the grpo advantage of each signal, weighted and summed, / std over the batch, see `rivals`
    ema_grpo    (r - mean_g) / (std of t over the last hundred steps or so + 1e-6)
    mt_grpo     the grpo advantage * what g's task weighs; tasks that are poor and do not improve weigh more
    g2rpo       the normal score of r's rank in g

Every std has N - 1 in its denominator, as torch's and verl's, but that of ema_grpo. All of them are centred: the
advantages of a group sum to 0. A group without spread, of one rollout included, gets exactly 0 (verl would give a lone
rollout its raw reward: `upstream/fixes/lone_survivor_reward`).
Groups may differ in size: rollouts fail.

    >>> advantage = make_advantage("dr_grpo")
    >>> advantage(np.array([0.0, 1.0]), ["a", "a"], ["medvidbench/AVOS/tal"] * 2).tolist()
    [-0.5, 0.5]
"""

from __future__ import annotations

import numpy as np

from recipes.medgrpo.training.drpo import Drpo
from recipes.medgrpo.training.groups import EPSILON, Advantage, Groups, one_of
from recipes.medgrpo.training.rivals import EmaGrpo, G2rpo, Gdpo, MtGrpo


class Grpo(Advantage):
    """A = (r - mean_g) / (std_g + 1e-6): verl's `compute_grpo_outcome_advantage`, DeepSeekMath's formula."""

    def _compute(self, batch: Groups) -> np.ndarray:
        return batch.standardised


class DrGrpo(Advantage):
    """A = r - mean_g (Dr. GRPO, arXiv 2503.20783): a pair pulls as hard as its rewards spread."""

    def _compute(self, batch: Groups) -> np.ndarray:
        return batch.centred


class PerTask(Advantage):
    """A = (r - mean_g) / (std_t + 1e-6), std_t over all rollouts of the task t in the batch.

    Standardising over the task is (r - mean_t) / std_t; centring that per group, as verl's estimator does, cancels
    mean_t, so only std_t is left. A group then pulls in proportion to its own spread within the task, while tasks
    are alike. std_t holds the differences between prompts too.

    Args:
        by: "task" (`tal`, over all its datasets) or "pair" (the dataset-task pair).
    """

    def __init__(self, by: str = "task") -> None:
        self.by = one_of("per_task", by, ("task", "pair"))

    def _compute(self, batch: Groups) -> np.ndarray:
        _, unit = batch.units(self.by)
        size = np.bincount(unit)
        off = batch.rewards - (np.bincount(unit, batch.rewards) / size)[unit]
        std = np.sqrt(np.bincount(unit, off**2) / np.maximum(size - 1, 1))
        return batch.centred / (std[unit] + EPSILON)


_KINDS: dict[str, type[Advantage]] = {
    "grpo": Grpo,
    "dr_grpo": DrGrpo,
    "per_task": PerTask,
    "drpo": Drpo,
    "gdpo": Gdpo,
    "ema_grpo": EmaGrpo,
    "mt_grpo": MtGrpo,
    "g2rpo": G2rpo,
}
ADVANTAGES: tuple[str, ...] = tuple(_KINDS)
"""Names that `make_advantage` knows."""


def make_advantage(name: str, **settings) -> Advantage:
    """The advantage of that name; settings as in its class (`Grpo` and `DrGrpo` have none).

    Raises:
        ValueError: an unknown name or a bad value. TypeError: a setting that it does not have.
    """
    if name not in _KINDS:
        raise ValueError(f"advantage {name!r}: expected one of {', '.join(ADVANTAGES)}")
    try:
        return _KINDS[name](**settings)
    except TypeError as error:
        raise TypeError(f"advantage {name}: {error}") from error
