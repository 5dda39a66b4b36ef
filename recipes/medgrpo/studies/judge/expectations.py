# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What must be true of a fair judge's scores: expectations of probes, and how often a judge meets them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recipes.medgrpo.studies.judge.agreement import MEAN, estimate, own_share, share
from recipes.medgrpo.studies.judge.probes import ORDERINGS, PROBES
from recipes.medgrpo.studies.judge.ratings import Item
from reward_score.bootstrap import Bootstrap
from reward_score.judge import DIMENSIONS

_ALIKE = 1e-9

EXPECTATIONS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "highest": ("at least 4.5", lambda score, other: score >= 4.5),
    "same": ("within 0.5 of", lambda score, other: abs(score - other) <= 0.5 + _ALIKE),
    "near": ("within 1 of", lambda score, other: abs(score - other) <= 1 + _ALIKE),
    "not_higher": ("not above", lambda score, other: score <= other + _ALIKE),
    "higher": ("above", lambda score, other: score > other + _ALIKE),
    "lower": ("below", lambda score, other: score < other - _ALIKE),
    "far": ("at least 2 below", lambda score, other: score <= other - 2 + _ALIKE),
    "lowest": ("below 1.5", lambda score, other: score < 1.5),
}
"""What can be expected of every touched dimension: in words, and of its score beside the one it is compared with.
4.5 and more rounds to the highest score, less than 1.5 to the lowest."""


def holds(expect: str, scores: Mapping[str, float], base: Mapping[str, float], touches: Sequence[str]) -> bool:
    """Whether an expectation is met by the scores of an answer, beside those it is compared with."""
    _, test = EXPECTATIONS[expect]
    if not touches:
        return test(mean(scores), mean(base))
    return all(test(scores[name], base[name]) for name in touches)


def mean(scores: Mapping[str, float]) -> float:
    """The mean of the five dimensions."""
    return sum(scores[name] for name in DIMENSIONS) / len(DIMENSIONS)


def measured(
    bootstrap: Bootstrap,
    texts: Mapping[Item, Mapping[str, Item | None]],
    verdict: Callable[[Item], Mapping[str, float] | None],
) -> dict[str, Any]:
    """Mean scores of every probe, and the share of references where each expectation and ordering holds, as JSON.

    Args:
        bootstrap: over the references' videos.
        texts: by reference and probe the item that was judged, None where the probe did not apply.
        verdict: an item's scores, None where the judge gave none.
    """
    scored = {
        reference: {name: None if item is None else verdict(item) for name, item in made.items()}
        for reference, made in texts.items()
    }

    def share_met(expect: str, name: str, against: str, touches: Sequence[str]) -> dict[str, Any]:
        sides = [(reference, found[name], found[against]) for reference, found in scored.items()]
        both = [(at, one, other) for at, one, other in sides if one is not None and other is not None]
        met = [float(holds(expect, one, other, touches)) for _, one, other in both]
        clusters = [reference.cluster for reference, *_ in both]
        found = estimate(bootstrap, share, np.reshape(met, (-1, 1)), clusters, {"share": "no items"})
        figure = found.pop("share")
        return found | figure

    probes = {}
    for probe in PROBES:
        scores = [one for found in scored.values() if (one := found[probe.name]) is not None]
        columns = {name: [one[name] for one in scores] for name in DIMENSIONS} | {MEAN: [mean(one) for one in scores]}
        skipped = sum(made[probe.name] is None for made in texts.values())
        about = {name: value for name, value in probe._asdict().items() if name not in ("name", "build")}
        probes[probe.name] = about | {
            "n": len(scores),
            "skipped": skipped,
            "failed": len(texts) - skipped - len(scores),
            "means": {name: sum(column) / len(column) if column else None for name, column in columns.items()},
            "holds": share_met(probe.expect, probe.name, probe.against, probe.touches),
        }
    rows = [(reference, one) for reference, found in scored.items() for one in found.values() if one is not None]
    dimensions = {
        name: estimate(
            bootstrap,
            own_share,
            np.reshape([(one[name], (mean(one) * len(DIMENSIONS) - one[name])) for _, one in rows], (-1, 2)),
            [reference.cluster for reference, _ in rows],
            {"own": "all scores are the same"},
        )
        | {
            "probes": sum(
                probe["n"] for probe in probes.values() if name in probe["touches"] and len(probe["touches"]) < 5
            )
        }
        for name in DIMENSIONS
    }
    orderings = [ordering._asdict() | {"holds": share_met("higher", *ordering)} for ordering in ORDERINGS]
    return {"probes": probes, "orderings": orderings, "dimensions": dimensions}
