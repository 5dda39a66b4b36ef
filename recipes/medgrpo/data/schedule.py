# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which row is trained on when: the same mix of dataset-task pairs in every step.

verl 0.9.1's V1 trainer offers a shuffled or a sequential sampler, nothing between. So the order lives in the
dataset: it presents one long sequence, read sequentially (`data.shuffle=False`), in which every block of
`batch_size` rows holds the same number of rows of each pair. A sequence that is a pure function of
(rows, batch size, seed) also makes resuming trivial: verl's dataloader only has to skip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recipes.medgrpo.files import InputError


class ScheduleError(InputError):
    """The batch cannot hold every pair."""


def quotas(pairs: Sequence[str], batch_size: int, mix: str = "pairs") -> dict[str, int]:
    """Rows of each pair in every batch, at least one each, summing to `batch_size`.

    `mix="pairs"` gives every pair the same share, `mix="tasks"` every task (split evenly over its pairs).
    What does not divide evenly goes to the pairs with the largest remainder, first in alphabetical order.
    """
    pairs = sorted(set(pairs))
    if batch_size < len(pairs):
        raise ScheduleError(
            f"a batch of {batch_size} rows cannot hold all {len(pairs)} dataset-task pairs in every step: "
            f"raise data.train_batch_size to at least {len(pairs)} or name fewer tasks in data.medgrpo.tasks"
        )
    if mix == "pairs":
        share = {pair: 1.0 / len(pairs) for pair in pairs}
    elif mix == "tasks":
        tasks = [pair.rsplit("/", 1)[-1] for pair in pairs]
        share = {pair: 1.0 / len(set(tasks)) / tasks.count(task) for pair, task in zip(pairs, tasks, strict=True)}
    else:
        raise ScheduleError(f"data.medgrpo.mix is {mix!r}, expected 'pairs' or 'tasks'")
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
