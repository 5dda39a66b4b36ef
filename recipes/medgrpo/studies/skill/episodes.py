# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Who is learnt from and who is asked about: by surgeon, never by trial or camera.

The surgeons of the tested domain are dealt into folds. A fold's trials are asked about; support comes from the other
surgeons of the domain; and whoever is asked about has no trial in any domain that is trained on or stopped on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from recipes.medgrpo.files import InputError
from recipes.medgrpo.studies.skill.items import Trial

TRIES = 200
"""Draws of an episode before a domain is said to have none."""


class Split(NamedTuple):
    """The trials of a tested domain that may be support, and those that are asked about."""

    pool: list[Trial]
    query: list[Trial]


def splits(trials: Sequence[Trial], folds: int, rng: np.random.Generator) -> list[Split]:
    """A split for each fold of a domain's surgeons; every trial is asked about in one of them.

    Surgeons are dealt in the order of the class that most of their trials have, so that folds are alike.

    Raises:
        InputError: fewer surgeons than folds.
    """
    labels: dict[str, list[int]] = defaultdict(list)
    for trial in trials:
        labels[trial.surgeon].append(trial.label)
    if len(labels) < folds:
        raise InputError(f"{trials[0].domain}: expected {folds} surgeons or more (--folds), found {len(labels)}")
    names = sorted(labels)
    rng.shuffle(names)
    names.sort(key=lambda name: Counter(sorted(labels[name])).most_common(1)[0][0])
    fold = {name: at % folds for at, name in enumerate(names)}
    return [
        Split([t for t in trials if fold[t.surgeon] != at], [t for t in trials if fold[t.surgeon] == at])
        for at in range(folds)
    ]


def without(trials: Sequence[Trial], surgeons: Collection[str]) -> list[Trial]:
    """The trials that none of these surgeons did."""
    return [trial for trial in trials if trial.surgeon not in surgeons]


def by_class(trials: Sequence[Trial]) -> dict[int, list[Trial]]:
    found: dict[int, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.label].append(trial)
    return dict(sorted(found.items()))


def support_sets(pool: Sequence[Trial], classes: int, shots: int, rng: np.random.Generator) -> list[list[Trial]]:
    """Every disjoint support set: `shots` trials of each class, ordered by class; none where a class has too few."""
    groups = by_class(pool)
    if len(groups) < classes:
        return []
    mixed = [[group[at] for at in rng.permutation(len(group))] for group in groups.values()]
    count = min(len(group) for group in mixed) // shots
    return [[trial for group in mixed for trial in group[at * shots : (at + 1) * shots]] for at in range(count)]


class Episode(NamedTuple):
    """Support and query trials of some classes of a domain, each ordered by class."""

    support: list[Trial]
    query: list[Trial]


def draw(trials: Sequence[Trial], ways: int, shots: int, queries: int, rng: np.random.Generator) -> Episode:
    """An episode of `ways` classes of a domain whose query is by other surgeons than its support.

    Raises:
        InputError: the domain has none.
    """
    groups = by_class(trials)
    surgeons = sorted({trial.surgeon for trial in trials})
    for _ in range(TRIES):
        if len(groups) < ways or len(surgeons) < 2:
            break
        asked = set(rng.permutation(surgeons)[: int(rng.integers(1, len(surgeons)))].tolist())
        support: list[Trial] = []
        query: list[Trial] = []
        for label in sorted(rng.permutation(list(groups))[:ways].tolist()):
            ours = [trial for trial in groups[label] if trial.surgeon not in asked]
            theirs = [trial for trial in groups[label] if trial.surgeon in asked]
            if len(ours) < shots or len(theirs) < queries:
                break
            support += [ours[at] for at in rng.permutation(len(ours))[:shots]]
            query += [theirs[at] for at in rng.permutation(len(theirs))[:queries]]
        else:
            return Episode(support, query)
    where = trials[0].domain if trials else "a domain"
    raise InputError(
        f"{where}: no episode of {ways} classes with {shots} trials to learn from and {queries} by other surgeons to "
        f"ask about, in {len(trials)} trials of {len(surgeons)} surgeons"
    )
