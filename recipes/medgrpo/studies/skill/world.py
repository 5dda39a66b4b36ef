# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Domains with a known Bayes rate: recordings whose class shows along one line, among much that tells nothing.

A trial's level in `dims` channels is the domain's offset, the surgeon's, the trial's own deviation, and half of
`skill` up or down along one direction that all domains share. Along it deviations have standard deviation 1 and
surgeons have no offset; along `loud` other directions surgeons and trials deviate by three times as much. Steps vary
about the level and have it as their mean exactly; recordings of a trial differ in nothing but that. So nothing tells a
new trial's class but its place on the line: after k trials a class, with the middle between classes known from them
and from other domains, it is told right with probability Phi(skill / 2 sqrt(1 + v)), v the variance of the middle.

Surgeons mostly have one class. Whoever is asked about a surgeon after having seen them knows more than that.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from math import erf, sqrt
from pathlib import Path

import numpy as np

from recipes.medgrpo.files import write_atomic
from recipes.medgrpo.studies.skill.items import COLUMNS, TABLE

ABOUT = "about.json"
"""What is known of a folder of features beside its table."""


@dataclass(frozen=True)
class World:
    """The settings of synthetic domains. `skill` is the distance between two classes, in deviations of a trial."""

    domains: int = 5
    surgeons: int = 16
    trials: int = 4
    views: int = 2
    dims: int = 12
    loud: int = 5
    skill: float = 3.0
    offset: float = 3.0
    steady: float = 0.85
    seed: int = 0

    def bayes_rate(self, shots: int | None) -> float:
        """The best accuracy after `shots` trials of each class, None: with the domain known."""
        middle = 0.0 if shots is None else 1 / (1 / self.offset**2 + 2 * shots)
        return (1 + erf(self.skill / 2 / sqrt(1 + middle) / sqrt(2))) / 2


def write_world(world: World, folder: Path, shots: tuple[int, ...] = (1, 2, 4, 8, 16)) -> int:
    """The features of a world's trials in a folder, the table last; how many recordings there are."""
    rng = np.random.default_rng(world.seed)
    turn, _ = np.linalg.qr(rng.normal(size=(world.dims, world.dims)))
    spread = np.concatenate([[1.0], np.full(world.loud, 3.0), np.full(world.dims - 1 - world.loud, 0.3)])
    personal = np.concatenate([[0.0], spread[1:]])
    rows = []
    for d in range(world.domains):
        centre = rng.normal(size=world.dims) * np.concatenate([[world.offset], np.full(world.dims - 1, 3.0)])
        for s in range(world.surgeons):
            surgeon = rng.normal(size=world.dims) * personal
            for t in range(world.trials):
                label = int((rng.random() < world.steady) == (s % 2 == 1))
                level = centre + surgeon + rng.normal(size=world.dims) * spread
                level[0] += world.skill * (label - 0.5)
                for view in range(world.views):
                    steps = rng.normal(size=(int(rng.integers(20, 41)), world.dims))
                    values = (level + steps - steps.mean(0)) @ turn
                    name = f"d{d}/s{s:02d}_t{t}_{view + 1}.npy"
                    buffer = io.BytesIO()
                    np.save(buffer, values.astype(np.float32))
                    write_atomic(folder / name, buffer.getvalue())
                    rows.append((name, f"d{d}", f"d{d}s{s:02d}", f"d{d}s{s:02d}t{t}", label))
    about = {
        "what": f"synthetic domains, seed {world.seed}",
        "world": asdict(world),
        "bayes_rate": {str(k): world.bayes_rate(k) for k in shots},
    }
    write_atomic(folder / ABOUT, json.dumps(about, indent=2) + "\n")
    write_table(folder, rows)
    return len(rows)


def write_table(folder: Path, rows: list[tuple]) -> None:
    """The table of a folder's recordings, whose rows have the columns in their order."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_atomic(folder / TABLE, text.getvalue())
