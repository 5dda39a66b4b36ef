# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""verl's entry point: one answer in, its reward and its raw signals out.

reward = format x sum over the task's signals of weight x normalised signal; an answer that cannot be read gets
exactly 0. In a verl run::

    reward.custom_reward_function.path=pkg://reward_score.medgrpo
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.statistics=outputs/run/statistics.json
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import RewardError
from .reward import Sample, Scorer, get_scorer
from .tasks import TASKS

AT_ONCE = 256
"""Answers that `score_many` compares side by side; a judge limits its own calls."""


def needed_signals(**settings: Any) -> dict[str, tuple[str, ...]]:
    """By task: the signals whose statistics these settings need, for `statistics.missing_pairs`.

    A task that is not rewarded needs none, and with the normalizer ``none`` no task does. Which fields of a row a
    normalizer needs beyond the percentiles stands in `normalization.NORMALIZERS`.
    """
    scorer = get_scorer(**{name: value for name, value in settings.items() if name != "statistics"})
    if scorer.settings.normalizer == "none":
        return dict.fromkeys(TASKS, ())
    return {name: tuple(signals) if scorer.rewarded[name] else () for name, signals in scorer.signals.items()}


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Any = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **settings: Any,
) -> dict[str, float]:
    """Score one answer.

    Args:
        data_source: ``medvidbench/<source>/<task>``.
        solution_str: the answer; anything but text is an answer that cannot be read.
        ground_truth: JSON string of the reference.
        extra_info: of the sample: ``sample_interval``, ``canvas``, ``processed_size``, ``model_family``,
            ``question``, ``frames``. Without a model family, boxes are taken to be on the canvas.
        reward_router_address: of verl's reward-model servers, handed in by verl where they run; ``judge="router"``
            asks them.
        reward_model_tokenizer: handed in with it, not needed: the servers take text.
        **settings: see `Settings`.

    Returns:
        ``score`` (the reward), ``acc`` (the strict metric, whatever the format short of no parse), ``format``, and
        ``raw_<signal>`` for each signal of the task, all within 0..1; where a judge is asked, ``attack``: 1 for an
        answer that addresses the judge, which by default is no parse, else 0. Of dense captions only the event that
        does so is lost: it counts as a wrong one. Only where the judge gave marks, ``mark_<dimension>``, 1 to 5: of
        dense captions the means. Only where the judge refused captions of the answer or could make nothing of them,
        ``unjudged``: their share. They count as wrong.

    Raises:
        TypeError, ValueError: bad settings.
        RewardError: the scoring failed through no fault of the answer. Errors of the judge that are not the
            answer's doing pass through as they are.
    """
    scorer = get_scorer(**settings)
    if reward_router_address is not None:
        scorer.router_address = reward_router_address
    sample = scorer.read(data_source, solution_str, ground_truth, extra_info)
    await scorer.compare(sample)
    return scorer.finish(sample)


def score_many(rows: Iterable[tuple[str, Any, str | None, Any]], **settings: Any) -> list[dict[str, float]]:
    """Score many answers, as `compute_score` does, with their texts compared side by side.

    Args:
        rows: (data_source, answer, ground_truth, extra_info) each.
        **settings: see `Settings`.

    Returns:
        One result per row, in order. Not to be called from a running event loop.

    Raises:
        As `compute_score`; a RewardError names the row, counted from 0.
    """
    scorer = get_scorer(**settings)
    samples = []
    for number, row in enumerate(rows):
        try:
            samples.append(scorer.read(*row))
        except RewardError as error:
            raise type(error)(f"row {number}: {error}") from error
    compared = [sample for sample in samples if sample.pairs.pairs]
    if compared:
        _ = scorer.similarity  # an encoder that cannot be had is found out before a judge is paid
        asyncio.run(_compare_all(scorer, compared))
    return [scorer.finish(sample) for sample in samples]


async def _compare_all(scorer: Scorer, samples: Sequence[Sample]) -> None:
    from .judge import JudgeUnproven

    gate = asyncio.Semaphore(AT_ONCE)
    early: list[Sample] = []

    async def one(sample: Sample) -> None:
        async with gate:
            try:
                await scorer.compare(sample)
            except JudgeUnproven:
                early.append(sample)
                if len(early) == len(samples):
                    raise

    try:
        await asyncio.gather(*map(one, samples))
        # By now the judge has answered others, so that it can be told whose fault a reply is.
        await asyncio.gather(*map(scorer.compare, early))
    finally:
        await scorer.close()
