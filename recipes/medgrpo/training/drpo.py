# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The advantage `drpo`: domains and kinds of question that are rare or poor pull harder."""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from recipes.medgrpo.training.groups import EPSILON, Advantage, Groups

SEED = 0
"""Of the k-means starts. Fixed: an advantage is a function of the rewards seen."""


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

    def _compute(self, batch: Groups) -> np.ndarray:
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
