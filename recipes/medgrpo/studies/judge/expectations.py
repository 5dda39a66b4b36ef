# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What must be true of a fair judge's scores: expectations of probes, and how often a judge meets them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.medgrpo.studies.judge import agreement
from recipes.medgrpo.studies.judge.ratings import Item
from reward_score.bootstrap import Bootstrap
from reward_score.judge import DIMENSIONS

SAME, NEAR, FAR, CLOSE, FLOOR = 0.5, 1.0, 2.0, 4.5, 1.5
"""Points: what still is the same score, near it, far from it; what rounds to 5; what rounds to 1."""
_ALIKE = 1e-9

EXPECTATIONS = {
    "highest": f"at least {CLOSE}",
    "same": f"within {SAME} of",
    "near": f"within {NEAR:g} of",
    "not_higher": "not above",
    "lower": "below",
    "far": f"at least {FAR:g} below",
    "lowest": f"below {FLOOR}",
}
"""What is expected of every touched dimension, in words."""


@dataclass(frozen=True)
class Probe:
    """An edit of a reference and what to expect of its scores.

    Attributes:
        name: in tables.
        family: which bias it asks about.
        build: (reference, source of chance, other references) to the answer; None where it does not apply.
        touches: the dimensions that are compared; empty: the mean of the five.
        expect: one of `EXPECTATIONS`.
        against: the probe whose scores it is compared with; the reference itself by default.
    """

    name: str
    family: str
    build: Callable[..., str | None]
    expect: str
    touches: tuple[str, ...] = ()
    against: str = "reference"


@dataclass(frozen=True)
class Ordering:
    """One probe must score above another in the mean of some dimensions (empty: of all)."""

    better: str
    worse: str
    touches: tuple[str, ...] = ()


def holds(expect: str, scores: Mapping[str, float], base: Mapping[str, float], touches: Sequence[str]) -> bool:
    """Whether an expectation is met by the scores of an answer, beside those it is compared with."""
    pairs = [(scores[name], base[name]) for name in touches] or [(mean(scores), mean(base))]
    tests: dict[str, Callable[[float, float], bool]] = {
        "highest": lambda score, _: score >= CLOSE,
        "same": lambda score, other: abs(score - other) <= SAME + _ALIKE,
        "near": lambda score, other: abs(score - other) <= NEAR + _ALIKE,
        "not_higher": lambda score, other: score <= other + _ALIKE,
        "lower": lambda score, other: score < other - _ALIKE,
        "far": lambda score, other: score <= other - FAR + _ALIKE,
        "lowest": lambda score, _: score < FLOOR,
    }
    return all(tests[expect](*pair) for pair in pairs)


def mean(scores: Mapping[str, float], touches: Sequence[str] = ()) -> float:
    """The mean of some dimensions, of all where none is named."""
    names = touches or DIMENSIONS
    return sum(scores[name] for name in names) / len(names)


def measured(
    bootstrap: Bootstrap,
    probes: Sequence[Probe],
    orderings: Sequence[Ordering],
    texts: Mapping[Item, Mapping[str, Item | None]],
    verdict: Callable[[Item], Mapping[str, float] | None],
) -> dict[str, Any]:
    """Mean scores of every probe, and the share of references where each expectation and ordering holds, as JSON.

    Args:
        bootstrap: over the references' videos.
        probes, orderings: what was asked.
        texts: by reference and probe the item that was judged, None where the probe did not apply.
        verdict: an item's scores, None where the judge gave none.
    """
    scored = {
        reference: {name: None if item is None else verdict(item) for name, item in made.items()}
        for reference, made in texts.items()
    }

    def share(left: str, right: str, test: Callable[[Mapping, Mapping], bool]) -> dict[str, Any]:
        both = [
            (reference, found[left], found[right])
            for reference, found in scored.items()
            if found[left] is not None and found[right] is not None
        ]
        met = [test(one, other) for _, one, other in both]
        return agreement.share(bootstrap, met, [reference.cluster for reference, _, _ in both])

    def about(probe: Probe) -> dict[str, Any]:
        scores = [found[probe.name] for found in scored.values() if found[probe.name] is not None]
        skipped = sum(made[probe.name] is None for made in texts.values())
        names = [*DIMENSIONS, "mean"]
        means = {
            name: sum(mean(one, () if name == "mean" else (name,)) for one in scores) / len(scores) if scores else None
            for name in names
        }
        return {
            "family": probe.family,
            "expect": probe.expect,
            "touches": list(probe.touches),
            "against": probe.against,
            "n": len(scores),
            "skipped": skipped,
            "failed": len(texts) - skipped - len(scores),
            "means": means,
            "holds": share(
                probe.name, probe.against, lambda one, other: holds(probe.expect, one, other, probe.touches)
            ),
        }

    def ordered(ordering: Ordering) -> dict[str, Any]:
        names = ordering.touches
        return {
            "better": ordering.better,
            "worse": ordering.worse,
            "touches": list(names),
            "holds": share(
                ordering.better, ordering.worse, lambda one, other: mean(one, names) > mean(other, names) + _ALIKE
            ),
        }

    return {"probes": {probe.name: about(probe) for probe in probes}, "orderings": [ordered(one) for one in orderings]}
