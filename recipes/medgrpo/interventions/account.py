# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What became of every recorded answer: by pair, by reason, and what came after in either arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from recipes.medgrpo.interventions.attempts import Attempt, Found
from recipes.medgrpo.interventions.control import ARMS, Outcome
from recipes.medgrpo.terminal import table

KEPT, NOT_HIGHER, NO_BETTER = "kept", "the correction is not judged higher", "the rest is no better with it"


def ends_of(results: Sequence[Outcome], margin: float) -> list[str]:
    """Of each attempt, `KEPT` where the rest earns more by over `margin` with the correction, else `NO_BETTER`."""
    return [KEPT if result.gain > margin else NO_BETTER for result in results]


def tried_lines(attempts: Sequence[Attempt], results: Sequence[Outcome], ends: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of `interventions.jsonl`: every attempt, what the rest earned in each arm, and its end."""
    return [
        {"data_source": attempt.data_source, **attempt.described(), "after": vars(result), "end": end}
        for attempt, result, end in zip(attempts, results, ends, strict=True)
    ]


def by_pair(found: Found, lines: Sequence[Mapping[str, Any]], rows: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """By pair: the median, how many answers met which end, what was tried, and how many rows are written.

    Args:
        lines: of `tried_lines`.
        rows: written ones by pair.
    """
    ends: dict[str, list[Mapping[str, Any]]] = {pair: [] for pair in found.reasons}
    for line in lines:
        ends[line["data_source"]].append(line)
    return {
        pair: {
            "median": float(found.medians[pair]),
            "answers": {name: many for name, many in (mine + _count(ends[pair])).items() if many},
            **tried_of(ends[pair]),
            "rows": rows.get(pair, 0),
        }
        for pair, mine in found.reasons.items()
    }


def _count(lines: Sequence[Mapping[str, Any]]) -> Counter[str]:
    return Counter(line["end"] for line in lines)


def tried_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many attempts were tried, and what came after in each arm on average: the filter has no part in it."""
    after = {arm: fmean(line["after"][arm] for line in lines) if lines else None for arm in ARMS}
    return {"tried": len(lines), "after": after}


def pairs_table(pairs: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a pair: recorded answers, attempts, what comes after in each arm, what is kept and written."""
    header = ["pair", "recorded", "median", "tried", "after correction", "after original", "kept", "rows"]
    lines = []
    for pair, one in pairs.items():
        after, answers = one["after"], one["answers"]
        shown = [one["tried"], *(after[arm] for arm in ARMS), answers.get(KEPT, 0), one["rows"]]
        lines.append([pair.partition("/")[2], answers.get("recorded", 0), float(one["median"]), *shown])
    return table(header, lines)


def reasons_table(pairs: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a reason for which an answer was left out: how many, over all pairs."""
    total: dict[str, int] = {}
    for one in pairs.values():
        for reason, many in one["answers"].items():
            total[reason] = total.get(reason, 0) + many
    return table(["recorded answers", "number"], sorted(total.items(), key=lambda item: -item[1]))
