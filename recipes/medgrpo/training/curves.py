# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a step says about its dataset-task pairs: the metrics for the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.medgrpo.training.groups import TIE
from reward_score.normalization import saturated

PREFIX = "medgrpo"
CURVES = ("acc", "format")
PAIR_CURVES = (*CURVES, "attack")
"""Only captions have an `attack`, whether they address the judge: it has no mean over all pairs."""


@dataclass(frozen=True)
class Rollout:
    """One answer of a step.

    Attributes:
        group: its prompt. data_source: the prompt's pair.
        tokens: the answer's length.
        reward: as scored. parts: the reward's parts by name.
        row: the annotation that is asked about (file, number in it), None where the queue does not say.
        response: the answer's token ids, empty where they were not asked for.
        nats: mean -log probability of its tokens as they were drawn, None where the queue does not say.
    """

    group: str
    data_source: str
    tokens: int
    reward: float
    parts: Mapping[str, float]
    row: tuple[str, int] | None = None
    response: Sequence[int] = ()
    nats: float | None = None

    @property
    def raw(self) -> dict[str, float]:
        """Raw value by signal."""
        return {name[4:]: float(value) for name, value in self.parts.items() if name.startswith("raw_")}


def pair_name(data_source: str) -> str:
    """`medvidbench/AVOS/tal` -> `AVOS/tal`."""
    return data_source.split("/", 1)[-1]


def recorded(name: str) -> bool:
    """Whether a part of the reward is a curve of its pair, and is recorded with each answer."""
    return name in PAIR_CURVES or name.startswith("raw_")


def pair_curves(rows: Iterable[tuple[str, float, Mapping[str, float]]]) -> dict[str, float]:
    """Step metrics from (data source, reward, reward parts) of every trained rollout.

    Per pair: mean reward, accuracy, format, every raw signal and, of captions, the share of attacks. Over all pairs:
    the plain mean of the first three (a pair counts once, however many rows it has).
    """
    values: dict[str, list[float]] = defaultdict(list)
    for source, reward, parts in rows:
        pair = f"{PREFIX}/{pair_name(source)}"
        values[f"{pair}/reward"].append(reward)
        for name, value in parts.items():
            if recorded(name):
                values[f"{pair}/{name}"].append(float(value))
    metrics = {name: float(np.mean(series)) for name, series in values.items()}
    for name in ("reward", *CURVES):
        series = [value for key, value in metrics.items() if key.endswith(f"/{name}")]
        if series:
            metrics[f"{PREFIX}/pairs_mean/{name}"] = float(np.mean(series))
    return metrics


def training_curves(
    rollouts: Sequence[Rollout],
    rewards: np.ndarray,
    advantages: np.ndarray,
    *,
    format_first: bool = False,
    rewarded: Callable[[str], bool] = lambda task: True,
) -> dict[str, float]:
    """Step metrics of what is trained on, per pair.

    reward_std      standard deviation (N - 1) of the rewards
    gradient_share  share of the pair in sum(tokens x |advantage|) over the batch. Tokens weigh: verl's loss is a mean
                    over the batch's tokens (`loss_agg_mode=token-mean`), in which an answer counts once per token. It
                    says how the advantages share out the step, not how long the gradients of the answers are.
    saturated       share of the parsed answers whose normalised value is below 0.02 or above 0.98; of pairs whose
                    task is rewarded. Two signals: their weighted mean is looked at. `pairs_mean/saturated` is the
                    plain mean over the pairs that have it.
    groups/dead_share
                    share of the groups whose rewards all tie: they teach nothing

    Args:
        rollouts: the answers. rewards, advantages: (N,), as trained on.
        format_first: the format multiplies the raw signal; else it multiplies the normalised value, and is divided
            out again here.
        rewarded: whether a task, by its short name, earns a reward.
    """
    pull = np.array([rollout.tokens for rollout in rollouts], dtype=np.float64) * np.abs(advantages)
    members: dict[str, list[int]] = defaultdict(list)
    for at, rollout in enumerate(rollouts):
        members[rollout.data_source].append(at)
    groups: dict[str, list[int]] = defaultdict(list)
    for at, rollout in enumerate(rollouts):
        groups[rollout.group].append(at)
    dead = [np.ptp(rewards[rows]) < TIE for rows in groups.values()]
    metrics = {f"{PREFIX}/groups/dead_share": float(np.mean(dead))} if dead else {}
    shares = []
    for source, rows in members.items():
        pair = f"{PREFIX}/{pair_name(source)}"
        if len(rows) > 1:
            metrics[f"{pair}/reward_std"] = float(np.std(rewards[rows], ddof=1))
        if pull.sum() > 0:
            metrics[f"{pair}/gradient_share"] = float(pull[rows].sum() / pull.sum())
        formats = np.array([float(rollouts[at].parts.get("format", 0.0)) for at in rows])
        if rewarded(source.rpartition("/")[2]) and (formats > 0).any():
            values = rewards[rows][formats > 0] / (1.0 if format_first else formats[formats > 0])
            shares.append(float(saturated(values).mean()))
            metrics[f"{pair}/saturated"] = shares[-1]
    if shares:
        metrics[f"{PREFIX}/pairs_mean/saturated"] = float(np.mean(shares))
    return metrics
