# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What stands between rollout and update: counters, per-pair curves, a minimum group size, an emergency stop.

verl 0.9.1 leaves a failed rollout out of its group without a word, trains a lone survivor on its raw reward, drops
an empty group and never stops. Its training metrics know nothing of the parts of a reward either. This sampler
(`trainer.v1.sampler.custom_sampler`) runs in the driver between the two; what it returns joins the step's metrics.

Settings under `trainer.v1.sampler.sampler_kwargs`:

    group_size          rollouts of a prompt (`actor_rollout_ref.rollout.n`)
    min_group_size      a group with fewer survivors is not trained on (default 2)
    max_failed_share    the run stops when a larger share of rollouts fails (default 0.25) ...
    failure_window      ... over this many steps (default 4); a step without any survivor stops it at once
    poll_interval       seconds between two looks at the queue (default 2)
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

import numpy as np
import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

PREFIX = "medgrpo"
CURVES = ("acc", "format")


class RolloutFailure(RuntimeError):
    """Too many rollouts failed for the run to go on; their errors are in the log above."""


def group_of(key: str) -> str:
    """The prompt that a trajectory `{uid}_{session}_{index}` answers."""
    return key.rsplit("_", 2)[0]


def small_groups(keys: Iterable[str], minimum: int) -> set[str]:
    """Prompts with fewer than `minimum` surviving rollouts."""
    sizes: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        uid, session, _ = key.rsplit("_", 2)
        sizes[uid].add(session)
    return {uid for uid, sessions in sizes.items() if len(sessions) < minimum}


def pair_name(data_source: str) -> str:
    """`medvidbench/AVOS/tal` -> `AVOS/tal`."""
    return data_source.split("/", 1)[-1]


def pair_curves(rows: Iterable[tuple[str, str, float, Mapping[str, float]]]) -> dict[str, float]:
    """Step metrics from (prompt, data source, reward, reward parts) of every trained rollout.

    Per pair: mean reward, accuracy, format and every raw signal. Over all pairs: their plain mean (a pair counts
    once, however many rows it has) and the share of groups without any spread, which teach nothing.
    """
    values: dict[str, list[float]] = defaultdict(list)
    rewards: dict[str, list[float]] = defaultdict(list)
    for uid, source, reward, parts in rows:
        pair = f"{PREFIX}/{pair_name(source)}"
        values[f"{pair}/reward"].append(reward)
        rewards[uid].append(reward)
        for name, value in parts.items():
            if name in CURVES or name.startswith("raw_"):
                values[f"{pair}/{name}"].append(float(value))
    metrics = {name: float(np.mean(series)) for name, series in values.items()}
    for name in ("reward", *CURVES):
        series = [value for key, value in metrics.items() if key.endswith(f"/{name}")]
        if series:
            metrics[f"{PREFIX}/pairs_mean/{name}"] = float(np.mean(series))
    if rewards:
        metrics[f"{PREFIX}/groups/dead_share"] = float(np.mean([np.ptp(group) < 1e-9 for group in rewards.values()]))
    return metrics


class MedGRPOSampler(ReplayBuffer):
    """verl's replay buffer with the counters, curves and limits above."""

    def __init__(self, *args, **kwargs):
        settings = dict(kwargs.get("sampler_kwargs") or {})
        super().__init__(*args, poll_interval=float(settings.get("poll_interval", 2.0)), **kwargs)
        self.group_size = int(settings["group_size"])
        self.min_group_size = int(settings.get("min_group_size", 2))
        self.max_failed_share = float(settings.get("max_failed_share", 0.25))
        self.failed_shares: deque[float] = deque(maxlen=int(settings.get("failure_window", 4)))

    def sample(self, global_steps: int, partition_id: str, batch_size: int):
        try:
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
        except RuntimeError as error:
            if "no materializable trajectories" not in str(error):
                raise
            raise RolloutFailure(f"step {global_steps}: every rollout failed, see their errors above") from error
        if partition_id != "train":
            return batch, metrics
        expected = batch_size * self.group_size
        failed = expected - len({tuple(key.rsplit("_", 2)[:2]) for key in batch.keys})
        self._watch_failures(global_steps, failed / expected)
        dropped = small_groups(batch.keys, self.min_group_size)
        if dropped:
            self._drop(batch, dropped)
        if not batch.keys:
            raise RolloutFailure(
                f"step {global_steps}: no group kept {self.min_group_size} rollouts; their errors are in the log above"
            )
        metrics = dict(metrics)
        metrics[f"{PREFIX}/rollouts/failed"] = failed
        metrics[f"{PREFIX}/groups/dropped"] = batch_size - len({group_of(key) for key in batch.keys})
        metrics.update(pair_curves(self._rows(batch)))
        return batch, metrics

    def _watch_failures(self, step: int, share: float) -> None:
        self.failed_shares.append(share)
        mean = float(np.mean(self.failed_shares))
        if len(self.failed_shares) == self.failed_shares.maxlen and mean > self.max_failed_share:
            raise RolloutFailure(
                f"step {step}: {mean:.0%} of the rollouts of the last {len(self.failed_shares)} steps failed, more "
                f"than max_failed_share={self.max_failed_share:.0%}; their errors are in the log above"
            )

    @staticmethod
    def _drop(batch, uids: set[str]) -> None:
        gone = [key for key in batch.keys if group_of(key) in uids]
        tq.kv_clear(partition_id=batch.partition_id, keys=gone)
        kept = [(key, tag) for key, tag in zip(batch.keys, batch.tags, strict=True) if group_of(key) not in uids]
        batch.keys[:], batch.tags[:] = [key for key, _ in kept], [tag for _, tag in kept]

    @staticmethod
    def _rows(batch):
        data = tq.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=["rm_scores", "extra_fields", "data_source"],
        )
        sources = [getattr(value, "data", value) for value in data["data_source"]]
        extras = [getattr(value, "data", value) for value in data["extra_fields"]]
        for key, source, scores, extra in zip(batch.keys, sources, data["rm_scores"], extras, strict=True):
            yield group_of(key), source, float(scores.sum()), extra.get("reward_extra_info", {})
