# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Trials of several domains with their features: a folder of `.npy` files and the table `items.csv` beside them.

    file,domain,surgeon,trial,label
    a/0001.npy,Suturing,B,Suturing_B001,0
    a/0002.npy,Suturing,B,Suturing_B001,0

A file has the features of one recording, (steps, channels), or (channels,) for a recording as a whole. Recordings of
one trial (cameras) share its name: a trial is on one side with all of them, and counts once. Labels are classes from 0
on. A surgeon's name means one person in all domains.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recipes.medgrpo.files import InputError

TABLE = "items.csv"
COLUMNS = ("file", "domain", "surgeon", "trial", "label")


@dataclass(frozen=True)
class Trial:
    """A trial: its class, who did it, and where its recordings' features are, in the order of the table."""

    domain: str
    surgeon: str
    name: str
    label: int
    files: tuple[str, ...]


def read_trials(folder: Path) -> list[Trial]:
    """The trials of a folder, in the order of the table.

    Raises:
        InputError: the table is missing or malformed, a trial has two labels or surgeons, or classes differ.
    """
    table = folder / TABLE
    if not table.is_file():
        raise InputError(f"{table}: not found, expected a table with the columns {', '.join(COLUMNS)}")
    found: dict[tuple[str, str], tuple[str, int, list[str]]] = {}
    with open(table, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := sorted(set(COLUMNS) - set(reader.fieldnames or ())):
            raise InputError(f"{table}: no column {', '.join(missing)}, expected {', '.join(COLUMNS)}")
        for number, row in enumerate(reader, 2):
            where = f"{table}: line {number}"
            if empty := [name for name in COLUMNS if not row[name]]:
                raise InputError(f"{where}: {empty[0]}: expected a value, found none")
            if not row["label"].isdecimal():
                raise InputError(f"{where}: label: expected a class from 0 on, found {row['label']!r}")
            key, label = (row["domain"], row["trial"]), int(row["label"])
            surgeon, before, files = found.setdefault(key, (row["surgeon"], label, []))
            if (surgeon, before) != (row["surgeon"], label):
                raise InputError(f"{where}: trial {key[1]}: expected surgeon {surgeon} and label {before} as above")
            files.append(row["file"])
    trials = [
        Trial(domain, surgeon, name, label, tuple(files)) for (domain, name), (surgeon, label, files) in found.items()
    ]
    classes = {domain: {trial.label for trial in trials if trial.domain == domain} for domain, _ in found}
    most = max((max(labels) for labels in classes.values()), default=0)
    for domain, labels in classes.items():
        if labels != set(range(most + 1)) or not most:
            raise InputError(
                f"{table}: {domain}: expected trials of the classes 0 to {max(most, 1)}, found {sorted(labels)}"
            )
    return trials


def read_features(folder: Path, trials: list[Trial]) -> dict[str, np.ndarray]:
    """The features of every recording of some trials, (steps, channels) in float32, by file.

    Raises:
        InputError: a file that cannot be read, is not of numbers, or has other channels than the first.
    """
    found: dict[str, np.ndarray] = {}
    for trial in trials:
        for name in trial.files:
            try:
                values = np.load(folder / name, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise InputError(f"{folder / name}: cannot be read as .npy: {error}") from error
            values = values[None] if values.ndim == 1 else values
            if values.ndim != 2 or not values.size or not np.issubdtype(values.dtype, np.number):
                raise InputError(f"{folder / name}: expected numbers of shape (steps, channels), found {values.shape}")
            if not np.isfinite(values).all():
                raise InputError(f"{folder / name}: expected finite numbers")
            first = next(iter(found.values()), values)
            if values.shape[1] != first.shape[1]:
                raise InputError(f"{folder / name}: expected {first.shape[1]} channels, found {values.shape[1]}")
            found[name] = values.astype(np.float32)
    return found


def by_domain(trials: list[Trial]) -> dict[str, list[Trial]]:
    """The trials of each domain, domains in order of their names."""
    found: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.domain].append(trial)
    return dict(sorted(found.items()))
