# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""From the rewards of one step to advantages: GRPO's, and the rivals that look beyond one prompt's group.

With r a rollout's reward, g its group (the rollouts of one prompt), d its dataset-task pair:

    grpo        (r - mean_g) / (std_g + 1e-6)
    dr_grpo     r - mean_g
    per_task    (r - mean_g) / (std over all rollouts of g's task in the batch + 1e-6)
    drpo        the grpo advantage / (scale of the domain d * scale of the cluster of g), see `Drpo`

Every std has N - 1 in its denominator, as torch's and verl's. All of them are centred: the advantages of a group sum
to 0. A group without spread, of one rollout included, gets exactly 0 (verl would give a lone rollout its raw reward:
`upstream/fixes/lone_survivor_reward`).
Groups may differ in size: rollouts fail.

    >>> advantage = make_advantage("dr_grpo")
    >>> advantage(np.array([0.0, 1.0]), ["a", "a"], ["medvidbench/AVOS/tal"] * 2).tolist()
    [-0.5, 0.5]
"""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

EPSILON = 1e-6
"""verl's, in `compute_grpo_outcome_advantage`."""
TIE = 1e-9
"""Rewards nearer to each other than this are the same reward: what differs is rounding."""
SEED = 0
"""Of the k-means starts. Fixed: an advantage is a function of the rewards seen."""


class Advantage:
    """Advantages of one step: `(rewards (N,), groups, pairs) -> (N,)`, float64, no unit.

    `groups` names each rollout's prompt, `pairs` its dataset-task pair (a `data_source`). The call may learn from the
    rewards; what it learnt is its state, plain JSON.
    """

    def __call__(self, rewards: np.ndarray, groups: Sequence[str], pairs: Sequence[str]) -> np.ndarray:
        """Raises ValueError for columns of different lengths, a reward that is not finite, or a group of two pairs."""
        rewards = np.asarray(rewards, dtype=np.float64)
        if rewards.ndim != 1 or not len(rewards) == len(groups) == len(pairs):
            raise ValueError(f"{rewards.shape} rewards, {len(groups)} groups, {len(pairs)} pairs: expected one each")
        if not np.isfinite(rewards).all():
            raise ValueError(f"reward {int(np.argmin(np.isfinite(rewards)))} is not finite")
        if rewards.size == 0:
            return rewards
        return self._compute(_Groups(rewards, groups, pairs))

    def _compute(self, batch: _Groups) -> np.ndarray:
        raise NotImplementedError

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} has no state, got {', '.join(sorted(state))}")


class _Groups:
    """The rewards of a step with what every formula needs of their groups."""

    def __init__(self, rewards: np.ndarray, groups: Sequence[str], pairs: Sequence[str]) -> None:
        self.rewards = rewards
        self.pairs = np.asarray(pairs, dtype=object)
        _, self.first, self.group = np.unique(np.asarray(groups, dtype=str), return_index=True, return_inverse=True)
        self.pair = self.pairs[self.first]
        if (self.pair[self.group] != self.pairs).any():
            at = int(np.argmax(self.pair[self.group] != self.pairs))
            raise ValueError(f"group {groups[at]!r} is of two pairs, {self.pair[self.group[at]]} and {self.pairs[at]}")
        self.size = size = np.bincount(self.group)
        mean = np.bincount(self.group, rewards) / size
        centred = rewards - mean[self.group]
        spread = np.zeros(len(size))
        np.maximum.at(spread, self.group, np.abs(centred))
        # Rounding of the mean is not a spread: divided by epsilon it would be an advantage.
        self.dead = spread < TIE
        self.centred = np.where(self.dead[self.group], 0.0, centred)
        self.std = np.sqrt(np.bincount(self.group, self.centred**2) / np.maximum(size - 1, 1))

    @property
    def standardised(self) -> np.ndarray:
        return self.centred / (self.std[self.group] + EPSILON)


class Grpo(Advantage):
    """A = (r - mean_g) / (std_g + 1e-6): verl's `compute_grpo_outcome_advantage`, DeepSeekMath's formula."""

    def _compute(self, batch: _Groups) -> np.ndarray:
        return batch.standardised


class DrGrpo(Advantage):
    """A = r - mean_g (Dr. GRPO, arXiv 2503.20783): a pair pulls as hard as its rewards spread."""

    def _compute(self, batch: _Groups) -> np.ndarray:
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
        if by not in ("task", "pair"):
            raise ValueError(f"per_task: by {by!r}: expected task or pair")
        self.by = by

    def _compute(self, batch: _Groups) -> np.ndarray:
        names = [pair.rpartition("/")[2] if self.by == "task" else pair for pair in batch.pairs]
        _, unit = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        size = np.bincount(unit)
        off = batch.rewards - (np.bincount(unit, batch.rewards) / size)[unit]
        std = np.sqrt(np.bincount(unit, off**2) / np.maximum(size - 1, 1))
        return batch.centred / (std[unit] + EPSILON)


class Drpo(Advantage):
    """Domain-aware relative policy optimisation (QoQ-Med, arXiv 2506.00711), its KL-aware damping off as released.

        A = grpo advantage / (T_d * sqrt(N_c) * mu_c),  T_d = sqrt(N_d) * mu_d,  then A / (std over the batch + 1e-6)

    d is the dataset-task pair, N_d the number of its questions in the history, this step's included. A question is
    the vector of its rollouts' rewards; k-means puts those of d into clusters, k at the elbow: the first k from 1 on
    whose successor lowers the within-cluster sum of squares by less than 10 %, at most 10. N_c is the number of
    questions in the cluster of this one, mu_c the mean of its centroid, and
    mu_d = sum_c(mu_c / N_c) / sum_c(1 / N_c). Rare domains, rare kinds of question and poor ones pull harder.

    Where the release has a weak point:

    - its history grows without bound: here the newest `window` questions of a domain, so N_d ends there;
    - its vectors depend on the order of rollouts, which means nothing: here they are sorted (`sort`);
    - a mu near 0 explodes, and is held back for the domain only: here mu_d and mu_c both are kept within
      `min_mu`..1, so that no question pulls more than 1 / min_mu^2 times as hard for being poor;
    - a vector that is short, as rollouts failed, is filled with its own mean, which leaves mu as it was;
    - k-means starts are seeded: the same rewards give the same advantages.

    Args:
        window: questions of a domain that are remembered.
        sort: vectors hold the rewards in ascending order; off, in the order given.
        min_mu: least value of mu_d and mu_c; rewards are 0 to 1.
    """

    MAX_CLUSTERS = 10
    ELBOW = 0.10

    def __init__(self, window: int = 128, sort: bool = True, min_mu: float = 0.1) -> None:
        if int(window) != window or window < 1:
            raise ValueError(f"drpo: window {window!r}: expected a positive whole number")
        if not 0 < min_mu <= 1:
            raise ValueError(f"drpo: min_mu {min_mu!r}: expected a number above 0, at most 1")
        self.window, self.sort, self.min_mu = int(window), bool(sort), float(min_mu)
        self._history: dict[str, deque[list[float]]] = defaultdict(lambda: deque(maxlen=self.window))

    def _compute(self, batch: _Groups) -> np.ndarray:
        questions: dict[str, list[int]] = defaultdict(list)
        members = np.split(batch.rewards[np.argsort(batch.group, kind="stable")], np.cumsum(batch.size)[:-1])
        for number in np.argsort(batch.first):
            rewards = members[number].tolist()
            questions[batch.pair[number]].append(int(number))
            self._history[batch.pair[number]].append(sorted(rewards) if self.sort else rewards)
        scale = np.ones(len(batch.first))
        for pair, numbers in questions.items():
            # A step with more questions than the window: those that it no longer holds are scaled as its oldest.
            known = self._scales(self._history[pair])[-len(numbers) :]
            scale[numbers] = np.concatenate([np.full(len(numbers) - len(known), known[0]), known])
        advantages = batch.standardised / scale[batch.group]
        std = advantages.std(ddof=1) if advantages.size > 1 else 0.0
        return advantages / (std + EPSILON)

    def _scales(self, history: Sequence[Sequence[float]]) -> np.ndarray:
        """T_d * sqrt(N_c) * mu_c of every question of a domain, in the order of the history."""
        width = max(map(len, history))
        vectors = np.array([[*row, *[sum(row) / len(row)] * (width - len(row))] for row in history])
        if self.sort:
            vectors.sort(axis=1)
        cluster = _elbow_clusters(vectors, self.MAX_CLUSTERS, self.ELBOW)
        size = np.bincount(cluster)
        mean = np.bincount(cluster, vectors.mean(axis=1)) / size
        domain_mean = (mean / size).sum() / (1 / size).sum()
        low = self.min_mu
        domain = np.sqrt(len(vectors)) * np.clip(domain_mean, low, 1.0)
        return (domain * np.sqrt(size) * np.clip(mean, low, 1.0))[cluster]

    def state_dict(self) -> dict:
        return {"history": {pair: list(rows) for pair, rows in self._history.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError when `state` is not what `state_dict` gave."""
        try:
            history = state["history"].items()
            read = {pair: [np.array(row, dtype=np.float64) for row in rows] for pair, rows in history}
            whole = all(row.ndim == 1 and row.size and np.isfinite(row).all() for rows in read.values() for row in rows)
        except (AttributeError, KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise ValueError('drpo: state: expected {"history": {pair: rewards of its questions}}')
        self._history.clear()
        for pair, rows in read.items():
            self._history[pair].extend(row.tolist() for row in rows)


def _elbow_clusters(vectors: np.ndarray, most: int, drop: float) -> np.ndarray:
    """Cluster number (N,) of every row, 0 to k - 1 without gaps; k at the elbow."""
    labels, inertia = np.zeros(len(vectors), dtype=np.int64), ((vectors - vectors.mean(axis=0)) ** 2).sum()
    # More clusters than different rows do not exist, and k-means++ would look for them.
    for k in range(2, min(most, len(np.unique(vectors, axis=0))) + 1):
        more, less = _kmeans(vectors, k)
        if inertia - less < drop * inertia:
            break
        labels, inertia = more, less
    return labels


def _kmeans(vectors: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Cluster numbers (N,) and the within-cluster sum of squares."""
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        # A cluster that ends empty is no cluster: the numbers below close up.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        _, labels = kmeans2(vectors, k, minit="++", seed=SEED)
    _, labels = np.unique(labels, return_inverse=True)
    size = np.bincount(labels)
    centroids = np.zeros((len(size), vectors.shape[1]))
    np.add.at(centroids, labels, vectors)
    centroids /= size[:, None]
    return labels, float(((vectors - centroids[labels]) ** 2).sum())


_KINDS: dict[str, type[Advantage]] = {"grpo": Grpo, "dr_grpo": DrGrpo, "per_task": PerTask, "drpo": Drpo}
ADVANTAGES: tuple[str, ...] = tuple(_KINDS)
"""Names that `make_advantage` knows."""


def make_advantage(name: str, **settings) -> Advantage:
    """The advantage of that name; settings as in its class (`PerTask`, `Drpo`; the others have none).

    Raises:
        ValueError: an unknown name or a bad value. TypeError: a setting that it does not have.
    """
    if name not in _KINDS:
        raise ValueError(f"advantage {name!r}: expected one of {', '.join(ADVANTAGES)}")
    try:
        return _KINDS[name](**settings)
    except TypeError as error:
        raise TypeError(f"advantage {name}: {error}") from error
