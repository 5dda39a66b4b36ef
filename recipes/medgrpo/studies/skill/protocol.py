# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Leave one domain out: every domain is tested with heads that were trained on others and stopped on another.

`loo` stops on the next domain in order, which it neither trains nor tests on. `published` stops on the domain that it
tests on, as A-VBANet did, trains on one domain more, and is optimistic. Both split by surgeon (`episodes`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.files import InputError, read_json, write_atomic, write_json
from recipes.medgrpo.studies.skill.episodes import splits, support_sets, without
from recipes.medgrpo.studies.skill.figures import Answers
from recipes.medgrpo.studies.skill.heads import Encoder
from recipes.medgrpo.studies.skill.items import Trial
from recipes.medgrpo.studies.skill.training import PROBE, Clips, Settings, answers, fit

LOO, PUBLISHED = "loo", "published"
PROTOCOLS = (LOO, PUBLISHED)


@dataclass(frozen=True)
class Cell:
    """One training or none, and all that is asked of it: a tested domain, a seed, a fold of its surgeons, a method."""

    domain: str
    seed: int
    fold: int
    method: str

    @property
    def name(self) -> str:
        return f"{self.domain}_{self.method}_seed{self.seed}_fold{self.fold}"


class Study:
    """All cells of a run.

    Args:
        domains: trials by domain, three or more. features: of their recordings.
        protocol: one of `PROTOCOLS`. shots: trials of each class in a support set.
        folder: where the answers of finished cells are kept; what another start left there is taken up.

    Raises:
        InputError: too few domains, or a folder of another study.
    """

    def __init__(
        self,
        domains: Mapping[str, Sequence[Trial]],
        features: Mapping[str, np.ndarray],
        settings: Settings,
        *,
        protocol: str,
        shots: Sequence[int],
        folds: int,
        folder: Path,
        identity: Mapping[str, Any],
    ):
        if len(domains) < 3:
            raise InputError(f"expected three domains or more: to train on, stop on and test on; found {len(domains)}")
        self.domains, self.features, self.settings = domains, features, settings
        self.protocol, self.shots, self.folds, self.folder = protocol, shots, folds, folder
        self.ways = 1 + max(trial.label for trials in domains.values() for trial in trials)
        self._fitted: dict[tuple, tuple[Encoder, dict[str, float]]] = {}
        about = {
            **identity,
            "protocol": protocol,
            "folds": folds,
            "shots": list(shots),
            "settings": asdict(settings),
        }
        about = json.loads(json.dumps(about))
        place = folder / "study.json"
        if place.exists() and read_json(place) != about:
            raise InputError(f"{folder}: holds answers of other features or settings; name another folder")
        write_json(place, about)

    def roles(self, domain: str) -> tuple[list[str], str]:
        """The domains that are trained on, and the one that says when to stop, where `domain` is tested."""
        names = sorted(self.domains)
        stop = domain if self.protocol == PUBLISHED else names[(names.index(domain) + 1) % len(names)]
        return [name for name in names if name not in (domain, stop)], stop

    def cells(self, methods: Sequence[str], seeds: Sequence[int], tested: Sequence[str] | None = None) -> list[Cell]:
        """The cells of some tested domains, by default all. Raises `InputError` for one that there is not."""
        if unknown := sorted(set(tested or ()) - set(self.domains)):
            raise InputError(f"{', '.join(unknown)}: expected some of {', '.join(sorted(self.domains))}")
        return [
            Cell(domain, seed, fold, method)
            for domain in sorted(tested or self.domains)
            for seed in seeds
            for fold in range(self.folds)
            for method in methods
        ]

    def run(self, cell: Cell) -> dict[str, Any]:
        """The answers of a cell, from the folder where they are there."""
        place = self.folder / f"{cell.name}.npz"
        if not place.exists():
            found = self._asked(cell)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_suffix(".partial.npz")
            np.savez_compressed(draft, **found)
            write_atomic(place, draft.read_bytes())
            draft.unlink()
        with np.load(place, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}

    def _asked(self, cell: Cell) -> dict[str, Any]:
        """Probabilities (sets, n, classes) as `k<shots>`, the `query` trials, and what stopped the training."""
        train, stop = self.roles(cell.domain)
        rng = np.random.default_rng([cell.seed, 2])
        split = splits(self.domains[cell.domain], self.folds, rng)[cell.fold]
        asked = {trial.surgeon for trial in split.query}
        taught = {name: without(self.domains[name], asked) for name in train}
        # What is published is stopped on all of the domain, those that are asked about included.
        stop_on = self.domains[stop] if self.protocol == PUBLISHED else without(self.domains[stop], asked)
        clips = Clips(self.features, [t for name in train for t in taught[name]], self.settings.channels)
        found: dict[str, Any] = {"query": np.array([trial.name for trial in split.query])}
        encoder = None
        if cell.method != PROBE:
            key = (
                cell.method,
                cell.seed,
                stop,
                *(t.name for t in stop_on),
                *(t.name for ts in taught.values() for t in ts),
            )
            if key not in self._fitted:
                self._fitted[key] = fit(
                    clips,
                    taught,
                    stop_on,
                    method=cell.method,
                    ways=self.ways,
                    settings=self.settings,
                    seed=cell.seed,
                )
            encoder, seen = self._fitted[key]
            found |= {f"stop_{name}": np.array(value) for name, value in seen.items()}
        for shots in self.shots:
            sets = support_sets(split.pool, self.ways, shots, np.random.default_rng([cell.seed, 3, shots]))
            if sets:
                found[f"k{shots}"] = answers(
                    clips, encoder, sets, split.query, method=cell.method, ways=self.ways, settings=self.settings
                )
        return found


def gathered(study: Study, cells: Sequence[Cell]) -> Iterator[tuple[str, str, int, Answers]]:
    """(domain, method, shots, answers) of finished cells, over seeds and folds; shots that a domain has no set for
    are left out."""
    trials = {name: {trial.name: trial for trial in found} for name, found in study.domains.items()}
    for domain in dict.fromkeys(cell.domain for cell in cells):
        for method in dict.fromkeys(cell.method for cell in cells):
            mine = [study.run(cell) for cell in cells if (cell.domain, cell.method) == (domain, method)]
            for shots in study.shots:
                found = Answers(study.domains[domain], study.ways)
                for content in mine:
                    if f"k{shots}" in content:
                        query = [trials[domain][str(name)] for name in content["query"]]
                        found.add(query, content[f"k{shots}"])
                # A fold without a support set leaves trials out: figures over some of the surgeons are no column.
                if found.times.all():
                    yield domain, method, shots, found
