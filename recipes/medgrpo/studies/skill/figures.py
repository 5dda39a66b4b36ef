# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Figures of a method: accuracy, macro-F1, area under the curve, and their intervals by bootstrap over surgeons.

Every figure is a function of how often each trial is in a resample and of what was answered about it, averaged over
support sets, seeds and folds: shares of answers for accuracy and F1, shares of pairs in the right order for the area.
A pair of trials is compared only where both were asked about after the same support set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recipes.medgrpo.studies.skill.items import Trial
from reward_score.bootstrap import Bootstrap, finite, interval, ratio

FIGURES = ("accuracy", "macro_f1", "auc")


class Answers:
    """What a method said of the trials of a domain.

    Args:
        trials: of the domain, all of them. classes: how many there are.
    """

    def __init__(self, trials: Sequence[Trial], classes: int):
        self.trials, self.classes = list(trials), classes
        self.labels = np.array([trial.label for trial in trials])
        self.surgeons = [trial.surgeon for trial in trials]
        self._place = {trial.name: at for at, trial in enumerate(trials)}
        self.said = np.zeros((len(trials), classes))
        self.times = np.zeros(len(trials))
        self.ordered = np.zeros((classes, len(trials), len(trials)))
        self.pairs = np.zeros((len(trials), len(trials)))
        self.sets = 0

    def add(self, query: Sequence[Trial], probabilities: np.ndarray) -> None:
        """Answers (sets, n, classes) about some of the trials. Equal probabilities: the first class is said."""
        at = np.array([self._place[trial.name] for trial in query])
        said = np.eye(self.classes)[probabilities.argmax(-1)]
        self.record(at, said, probabilities)

    def record(self, at: np.ndarray, said: np.ndarray, scores: np.ndarray) -> None:
        """Answers (sets, n, classes) about the trials at some places: what was said (0 or 1), and how likely it was."""
        self.sets += len(said)
        self.said[at] += said.sum(0)
        self.times[at] += len(said)
        block = np.ix_(at, at)
        self.pairs[block] += len(said)
        for label in range(self.classes):
            score = scores[..., label]
            above = score[:, :, None] - score[:, None, :]
            self.ordered[label][block] += (above > 0).sum(0) + 0.5 * (above == 0).sum(0)

    def measure(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The figures under weights of the trials (resamples, n), array (resamples,) each; nan where undefined."""
        shares = ratio(self.said, self.times[:, None])
        asked = weights * (self.times > 0)
        shares = np.nan_to_num(shares)
        table = np.stack([(asked * (self.labels == label)) @ shares for label in range(self.classes)], axis=1)
        there = np.stack([(asked * (self.labels == label)).sum(1) for label in range(self.classes)], axis=1)
        right = np.einsum("rcc->rc", table)
        # A class that neither is nor is said has no F1.
        f1 = ratio(2 * right, there + table.sum(1))
        return {
            "accuracy": ratio(right.sum(1), there.sum(1)),
            "macro_f1": _mean(f1),
            "auc": _mean(np.stack([self._area(asked, label) for label in range(self.classes)], axis=1)),
        }

    def _area(self, weights: np.ndarray, label: int) -> np.ndarray:
        """Of one class against the rest."""
        positive, negative = weights * (self.labels == label), weights * (self.labels != label)
        right = ((positive @ self.ordered[label]) * negative).sum(1)
        return ratio(right, ((positive @ self.pairs) * negative).sum(1))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the columns that have a value; nan where none has."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0).sum(1), known.sum(1))


class Figures:
    """Figures of several methods on the same trials, with intervals and paired differences from the same resamples.

    Args:
        surgeons: of every trial of every domain.
    """

    def __init__(self, surgeons: Sequence[str], resamples: int, seed: int):
        self._bootstrap = Bootstrap(surgeons, resamples, seed)

    def draws(self, answers: Answers) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """The figures of a domain, and each of them in every resample."""
        values = answers.measure(np.ones((1, len(answers.trials))))
        return (
            {name: float(value[0]) for name, value in values.items()},
            self._bootstrap.resample(answers.measure, answers.surgeons),
        )


Found = tuple[dict[str, float], dict[str, np.ndarray]]
"""Figures, and each in every resample."""


def mean_of(found: Sequence[Found]) -> Found:
    """The mean over domains."""
    return (
        {name: float(np.mean([values[name] for values, _ in found])) for name in FIGURES},
        {name: np.mean([draws[name] for _, draws in found], axis=0) for name in FIGURES},
    )


def less(first: Found, second: Found) -> Found:
    """The paired difference."""
    return (
        {name: first[0][name] - second[0][name] for name in FIGURES},
        {name: first[1][name] - second[1][name] for name in FIGURES},
    )


def as_json(found: Found, surgeons: int) -> dict[str, dict[str, float | None]]:
    """Each figure with its interval."""
    values, draws = found
    result = {}
    for name in FIGURES:
        low, high, _ = interval(draws[name], surgeons)
        result[name] = {"value": finite(values[name]), "low": low, "high": high}
    return result
