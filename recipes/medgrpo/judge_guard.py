# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""When a judge's verdicts are not worth a result: the limits on failed, refused and malformed judgements.

A judge that answers nothing leaves plausible tables behind, because a refused caption scores as a wrong one. Training
looks at these limits step by step (`training/judge_watch.py`). A command looks at all its judgements before it writes
anything under a final name::

    check(count(records))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from recipes.medgrpo.files import RecipeError

MAX_FAILED_SHARE, MAX_REFUSED_SHARE = 0.5, 0.5
"""Greatest share of judgements that failed for the infrastructure's sake, and that were refused or malformed."""
TRY = "Try the judge with --judge-ping and start again"


class JudgeFailed(RecipeError):
    """The judge gave too few verdicts for a result; one line."""


def fault(
    given: float,
    refused: float,
    broken: float = 0.0,
    *,
    fewest: float = 1,
    max_refused_share: float = MAX_REFUSED_SHARE,
    max_failed_share: float = MAX_FAILED_SHARE,
) -> str | None:
    """Which limit these judgements are beyond: ``failed``, ``all`` (none but refused ones) or ``refused``; None: none.

    Args:
        given: judgements with a verdict. refused: refused or malformed. broken: failed for the infrastructure's sake.
        fewest: fewer bad judgements than this are no reason, whatever their share.
    """
    tried = given + refused + broken
    if broken >= fewest and broken / tried > max_failed_share:
        return "failed"
    if refused >= fewest and refused == tried:
        return "all"
    if refused >= fewest and refused / tried > max_refused_share:
        return "refused"
    return None


def count(records: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Answers whose captions were ``judged`` and ``unjudged``, from what `compute_score` returns for each.

    An answer without anything to compare was not asked about: it has neither similarity nor a judge's value.
    """
    found: Counter[str] = Counter(judged=0, unjudged=0)
    for record in records:
        # What a file lacks may be None or NaN by now, which is not above 0.
        unjudged, *compared = ((record.get(name) or 0) for name in ("unjudged", "raw_judge", "raw_similarity"))
        if unjudged > 0:
            found.update(judged=1 - unjudged, unjudged=unjudged)
        elif "raw_judge" in record and record["format"] > 0 and any(value > 0 for value in compared):
            found["judged"] += 1
    return found


def check(counts: Mapping[str, float], what: str = "answers", **limits: float) -> list[str]:
    """A line about those without a verdict, or none: what was left out belongs into every report.

    Args:
        counts: ``judged``, ``unjudged`` (refused or malformed), and perhaps ``broken`` (the infrastructure failed).
        what: was judged.
        **limits: of `fault`.

    Raises:
        JudgeFailed: too many are without a verdict.
    """
    judged, unjudged, broken = counts["judged"], counts["unjudged"], counts.get("broken", 0)
    tried = judged + unjudged + broken
    if beyond := fault(judged, unjudged, broken, **limits):
        bad, kind = (broken, "failed") if beyond == "failed" else (unjudged, "were refused or malformed")
        raise JudgeFailed(
            f"the judge gave a verdict on {judged:g} of {tried:g} {what}: {bad:g} {kind}. Nothing is written, because "
            f"the scores would say nothing of the answers. {TRY}"
        )
    return [f"{what} without the judge's verdict: {unjudged:g} of {tried:g}, scored as wrong"] if unjudged else []
