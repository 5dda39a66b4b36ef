# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Learning to learn from a few trials: features made small, episodes, early stopping, and the answers of a method."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.func import vmap

from recipes.medgrpo.studies.skill.episodes import Episode, draw
from recipes.medgrpo.studies.skill.heads import LOSSES, Encoder, linear_probe, logits_of, masked_mean
from recipes.medgrpo.studies.skill.items import Trial

PROTOMAML, PROTONET, PROBE = "protomaml", "protonet", "linear_probe"
METHODS = (PROTOMAML, PROTONET, PROBE)
AT_ONCE = 16
"""Support sets that are adapted to at the same time."""


@dataclass(frozen=True)
class Settings:
    """How a head is trained and adapted.

    Published: `channels` 8, `size` 512, `rate` of the inner steps 0.1 with 1 of them in training and 20 in a test,
    AdamW at `outer_rate` 0.01 without decay, 8 tasks a batch with 1 support and 1 query trial a class, `loss` cosine,
    `patience` 10. Not published, or left out: how many batches an epoch has, on how many episodes training is stopped
    (`looks`), and a schedule of the rate, which with the same patience never acts before the stop.
    """

    channels: int = 8
    size: int = 512
    inner_rate: float = 0.1
    train_steps: int = 1
    test_steps: int = 20
    outer_rate: float = 0.01
    loss: str = "cosine"
    ways: int | None = None
    tasks: int = 8
    batches: int = 20
    epochs: int = 60
    patience: int = 10
    looks: int = 64


class Clips:
    """Recordings with few channels: principal components of the features of some trials, each of variance 1 there.

    Args:
        features: (steps, channels) by file.
        fitted: the trials whose recordings decide mean, components and scale; each recording weighs the same.
        channels: components to keep, at most as many as there are.
    """

    def __init__(self, features: Mapping[str, np.ndarray], fitted: Sequence[Trial], channels: int):
        files = [file for trial in fitted for file in trial.files]
        mean = np.mean([features[file].mean(0) for file in files], axis=0, dtype=np.float64)
        moments = [(x := features[file] - mean).T @ x / len(x) for file in files]
        values, vectors = np.linalg.eigh(np.mean(moments, axis=0))
        kept = [at for at in np.argsort(values)[::-1][:channels] if values[at] > 1e-9 * values[-1]]
        self.channels = len(kept)
        self._map = vectors[:, kept] / np.sqrt(values[kept])
        self._mean, self._features = mean, features

    def small(self, file: str) -> np.ndarray:
        """(channels, steps) of a recording."""
        return ((self._features[file] - self._mean) @ self._map).T.astype(np.float32)

    def stack(self, files: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Recordings (n, channels, steps), padded with 0, and which of their steps are there (n, 1, steps)."""
        found = [torch.from_numpy(self.small(file)) for file in files]
        longest = max(clip.shape[1] for clip in found)
        mask = torch.stack([torch.arange(longest) < clip.shape[1] for clip in found])[:, None].float()
        padded = [torch.nn.functional.pad(clip, (0, longest - clip.shape[1])) for clip in found]
        return torch.stack(padded), mask


def stacked(clips: Clips, rows: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """As `Clips.stack`, for as many recordings in every row: (rows, n, channels, steps) and (rows, n, 1, steps)."""
    x, mask = clips.stack([file for row in rows for file in row])
    return x.unflatten(0, (len(rows), -1)), mask.unflatten(0, (len(rows), -1))


def one_view(trials: Sequence[Trial], rng: np.random.Generator) -> list[str]:
    """One recording of each trial, drawn."""
    return [trial.files[int(rng.integers(len(trial.files)))] for trial in trials]


def all_views(trials: Sequence[Trial], count: int) -> list[str]:
    """`count` recordings of each trial, its own one after the other, again from the first where it has fewer."""
    return [trial.files[at % len(trial.files)] for trial in trials for at in range(count)]


def fit(
    clips: Clips,
    train: Mapping[str, Sequence[Trial]],
    stop_on: Sequence[Trial],
    *,
    method: str,
    ways: int,
    settings: Settings,
    seed: int,
) -> tuple[Encoder, dict[str, float]]:
    """An encoder trained on episodes of some domains, as it was at its best epoch on episodes of another.

    Args:
        train: trials of each domain; an episode is of one of them.
        stop_on: trials of the domain whose episodes say when to stop.
        ways: classes of an episode that stops; those that train have `settings.ways`, by default as many.

    Returns:
        The encoder, and what was seen: its epoch, and the accuracy there.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    encoder = Encoder(clips.channels, settings.size)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=settings.outer_rate, weight_decay=0.0)
    loss, taught = LOSSES[settings.loss], settings.ways or ways
    steps = settings.train_steps if method == PROTOMAML else 0
    one = partial(logits_of, encoder, steps=steps, rate=settings.inner_rate, loss=loss)
    looks = [draw(stop_on, ways, 1, 1, rng) for _ in range(settings.looks)]
    best, best_weights, best_epoch = -1.0, copy.deepcopy(encoder.state_dict()), 0
    names = sorted(train)
    for epoch in range(1, settings.epochs + 1):
        for _ in range(settings.batches):
            drawn = [
                draw(train[names[int(rng.integers(len(names)))]], taught, 1, 1, rng) for _ in range(settings.tasks)
            ]
            support = stacked(clips, [one_view(episode.support, rng) for episode in drawn])
            query = stacked(clips, [one_view(episode.query, rng) for episode in drawn])
            weights = dict(encoder.named_parameters())
            logits = vmap(lambda s, q, w=weights: one(w, s, q, ways=taught))(support, query)
            cost = torch.stack([loss(row, torch.arange(taught)) for row in logits]).mean()
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
        accuracy = _accuracy(encoder, clips, looks, method, ways, settings)
        if accuracy > best:
            best, best_weights, best_epoch = accuracy, copy.deepcopy(encoder.state_dict()), epoch
        elif epoch - best_epoch >= settings.patience:
            break
    encoder.load_state_dict(best_weights)
    return encoder, {"epoch": best_epoch, "accuracy": best}


def _accuracy(encoder: Encoder, clips: Clips, looks: Sequence[Episode], method: str, ways: int, settings: Settings):
    """Of episodes of one support and one query trial a class, adapted to as in a test."""
    probabilities = _adapted(
        encoder,
        stacked(clips, [all_views(episode.support, 1) for episode in looks]),
        stacked(clips, [all_views(episode.query, 1) for episode in looks]),
        method=method,
        ways=ways,
        settings=settings,
    )
    return float((probabilities.argmax(-1) == torch.arange(ways)).float().mean())


def _adapted(encoder, support, query, *, method: str, ways: int, settings: Settings) -> torch.Tensor:
    """(sets, n, ways) probabilities of query clips, the same number for every support set."""
    steps = settings.test_steps if method == PROTOMAML else 0
    loss = LOSSES[settings.loss]
    weights = {name: value.detach() for name, value in encoder.named_parameters()}
    with torch.no_grad():
        return vmap(
            lambda s, q: logits_of(
                encoder, weights, s, q, ways=ways, steps=steps, rate=settings.inner_rate, loss=loss
            ).softmax(-1),
            chunk_size=AT_ONCE,
        )(support, query)


def answers(
    clips: Clips,
    encoder: Encoder | None,
    supports: Sequence[Sequence[Trial]],
    query: Sequence[Trial],
    *,
    method: str,
    ways: int,
    settings: Settings,
) -> np.ndarray:
    """(sets, n, ways) probabilities of the classes of query trials after each support set.

    A support set has all recordings of its trials; a query trial's answer is the mean of its recordings'.

    Args:
        encoder: trained by `fit`; the linear probe has none and sees the recordings' means over time.
    """
    views = max(len(trial.files) for trial in [*query, *(trial for row in supports for trial in row)])
    asked = clips.stack(all_views(query, views))
    shown = [clips.stack(all_views(row, views)) for row in supports]
    if encoder is None:
        vectors = masked_mean(*asked)
        found = torch.stack([linear_probe(masked_mean(*row), vectors, ways) for row in shown])
    else:
        support = stacked(clips, [all_views(row, views) for row in supports])
        everyone = tuple(part.expand(len(supports), *part.shape) for part in asked)
        found = _adapted(encoder, support, everyone, method=method, ways=ways, settings=settings)
    return found.unflatten(1, (len(query), views)).mean(2).numpy()
