# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which row is trained on when: the same mix of dataset-task pairs in every step.

verl 0.9.1's V1 trainer offers a shuffled or a sequential sampler, nothing between. So the order lives in the
dataset: it presents one long sequence, read sequentially (`data.shuffle=False`), in which every block of
`batch_size` rows holds the same number of rows of each pair. A sequence that is a pure function of
(rows, batch size, seed) also makes resuming trivial: verl's dataloader only has to skip.

With `data.medgrpo.mix=learnt` the shares of the tasks are what the advantage asks for (`mt_grpo`). The sampler leaves
them in `sampler/step_N.json`, and step N + 1 is drawn by that file alone, so that a resumed run draws what it drew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recipes.medgrpo.files import InputError


class ScheduleError(InputError):
    """The batch cannot hold every pair."""


def quotas(pairs: Sequence[str], batch_size: int, mix: str | Mapping[str, float] = "pairs") -> dict[str, int]:
    """Rows of each pair in every batch, at least one each, summing to `batch_size`.

    `mix="pairs"` gives every pair the same share, `mix="tasks"` every task (split evenly over its pairs), a mapping
    each task its share of the mapping's sum; a task that is not in it has the mean share. What does not divide evenly
    goes to the pairs with the largest remainder, first in alphabetical order.
    """
    pairs = sorted(set(pairs))
    if batch_size < len(pairs):
        raise ScheduleError(
            f"a batch of {batch_size} rows cannot hold all {len(pairs)} dataset-task pairs in every step: "
            f"raise data.train_batch_size to at least {len(pairs)} or name fewer tasks in data.medgrpo.tasks"
        )
    if mix == "pairs":
        share = {pair: 1.0 / len(pairs) for pair in pairs}
    elif mix == "tasks" or isinstance(mix, Mapping):
        tasks = [pair.rsplit("/", 1)[-1] for pair in pairs]
        known = {} if isinstance(mix, str) else {task: mix[task] for task in set(tasks) if task in mix}
        mean = sum(known.values()) / len(known) if known else 1.0
        parts = {task: known.get(task, mean) for task in set(tasks)}
        whole = sum(parts.values())
        share = {pair: parts[task] / whole / tasks.count(task) for pair, task in zip(pairs, tasks, strict=True)}
    else:
        raise ScheduleError(f"data.medgrpo.mix is {mix!r}, expected 'pairs', 'tasks' or 'learnt'")
    spare = batch_size - len(pairs)
    exact = {pair: share[pair] * batch_size for pair in pairs}
    result = {pair: 1 for pair in pairs}
    for _ in range(spare):
        neediest = max(pairs, key=lambda pair: (exact[pair] - result[pair], -pairs.index(pair)))
        result[neediest] += 1
    return result


def choose_rows(row_pairs: Sequence[str], rows_per_pair: int | None, seed: int = 0) -> list[int]:
    """Row numbers in file order: all, or at most `rows_per_pair` of every pair, drawn at random."""
    if rows_per_pair is None:
        return list(range(len(row_pairs)))
    labels = np.asarray(row_pairs, dtype=object)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == pair))[:rows_per_pair] for pair in sorted(set(row_pairs))]
    return sorted(int(number) for number in np.concatenate(chosen))


def balanced_order(
    row_pairs: Sequence[str],
    batch_size: int,
    batches: int,
    seed: int = 0,
    mix: str = "pairs",
    rates: np.ndarray | None = None,
) -> np.ndarray:
    """Row numbers (batches * batch_size,) int64: each pair's rows are shuffled anew in every pass over them.

    With `rates` (N,), above 0 and at most 1, a row takes part in that share of the passes over its pair, evenly spaced
    from a random start. A pair's shares are relative to its largest one.
    """
    labels = np.asarray(row_pairs, dtype=object)
    counts = quotas(list(row_pairs), batch_size, mix)
    order = np.empty((batches, batch_size), dtype=np.int64)
    at = 0
    for number, (pair, quota) in enumerate(counts.items()):
        rows = np.flatnonzero(labels == pair)
        rng = np.random.default_rng([seed, number])
        needed = quota * batches
        rate = np.ones(len(rows)) if rates is None else rates[rows] / rates[rows].max()
        # A stream of its own: where no row is rare, the order is what it was without rates.
        start = np.random.default_rng([seed, number, 1]).random(len(rows))
        passes, drawn, many = [], 0, 0
        while drawn < needed:
            taken = rows[np.floor(start + (many + 1) * rate) > np.floor(start + many * rate)]
            passes.append(rng.permutation(taken))
            drawn, many = drawn + len(taken), many + 1
        order[:, at : at + quota] = np.concatenate(passes)[:needed].reshape(batches, quota)
        at += quota
    # Neighbours in a batch share a micro-batch: mix the pairs inside it too.
    rng = np.random.default_rng([seed, len(counts)])
    return rng.permuted(order, axis=1).reshape(-1)


class LearntOrder:
    """Row numbers whose mix follows the training: each step's is that of the state after the step before it.

    A pair's rows are drawn anew in every step, without repetition where there are enough; a row with a rate in that
    proportion. The first step has equal shares of the tasks.

    Args:
        row_pairs, batch_size, batches, seed, rates: as of `balanced_order`.
        folder: the sampler's states, `step_N.json`, whose `mix` has the share of each task.
    """

    def __init__(
        self,
        row_pairs: Sequence[str],
        batch_size: int,
        batches: int,
        seed: int,
        folder: Path,
        rates: np.ndarray | None = None,
    ) -> None:
        labels = np.asarray(row_pairs, dtype=object)
        self._rows = {pair: np.flatnonzero(labels == pair) for pair in sorted(set(row_pairs))}
        self._rates = np.ones(len(labels)) if rates is None else rates
        self._batch_size, self._batches, self._seed, self._folder = batch_size, batches, seed, folder
        self._drawn: tuple[int, np.ndarray] | None = None
        if batch_size <= len(self._rows):
            raise ScheduleError(
                f"data.medgrpo.mix=learnt: a batch of {batch_size} rows is one of each of the {len(self._rows)} "
                "dataset-task pairs whatever is learnt: raise data.train_batch_size"
            )

    def __len__(self) -> int:
        return self._batches * self._batch_size

    def __getitem__(self, item: int) -> int:
        """Raises `ScheduleError` where the step before has left no shares."""
        before, at = divmod(item, self._batch_size)
        if self._drawn is None or self._drawn[0] != before:
            self._drawn = before, self._draw(before)
        return int(self._drawn[1][at])

    def _draw(self, before: int) -> np.ndarray:
        rng, drawn = np.random.default_rng([self._seed, before]), []
        for pair, quota in quotas(list(self._rows), self._batch_size, self._mix(before)).items():
            rows = self._rows[pair]
            rates = self._rates[rows] / self._rates[rows].sum()
            drawn.append(rng.choice(rows, quota, replace=quota > len(rows), p=rates))
        return rng.permutation(np.concatenate(drawn))

    def _mix(self, before: int) -> str | dict[str, float]:
        if before == 0:
            return "tasks"
        file = self._folder / f"step_{before}.json"
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ScheduleError(
                f"{file}: {error}: data.medgrpo.mix=learnt draws a step by it; expected a trainer that draws one step "
                "after the other (trainer_mode sync, data.dataloader_num_workers=0)"
            ) from error
        if not state.get("mix") or state.get("prompts") != self._batch_size:
            raise ScheduleError(
                f"{file}: expected the shares of the tasks and {self._batch_size} prompts, got "
                f"{state.get('mix')} and {state.get('prompts')}: data.medgrpo.mix=learnt needs the advantage mt_grpo, "
                "and data.train_batch_size as it was"
            )
        return state["mix"]
