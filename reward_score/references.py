# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Read the reference of each task from its decoded ``ground_truth``, and refuse one that no answer can satisfy.

A reference that nobody can satisfy would earn 0 for every answer, which looks like a hard sample and is a broken one.
So every reader writes its reference as the task's grammar does, parses that text and expects the reference back.
All readers raise `BadGroundTruth`; its message begins with ``ground_truth:`` and the field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from . import answers
from .answers import Event, Span
from .boxes import Box
from .errors import BadGroundTruth
from .vocabularies import same_label

TIME_ROUNDING = 0.051
"""Seconds by which a written target may differ from its reference: one decimal, and the noise of floats."""
BOX_ROUNDING = 0.51
"""Units of the model's space by which a coordinate of a written target may differ: whole numbers."""
_DECIMALS = 6
_NOISE = 1e-6


def _bad(field: str, expected: str, found: Any) -> BadGroundTruth:
    return BadGroundTruth(f"ground_truth: {field}: expected {expected}, got {found!r}")


def number(value: Any, field: str) -> float:
    """A finite number of a reference; BadGroundTruth, with the field, for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise _bad(field, "a finite number", value)
    return float(value)


def _items(ground_truth: Mapping[str, Any], field: str, kind: type) -> Any:
    value = ground_truth.get(field)
    if not isinstance(value, kind) or not value:
        raise _bad(field, f"a non-empty {kind.__name__}", value)
    return value


def _span(start: Any, end: Any, field: str) -> Span:
    span = number(start, field), number(end, field)
    if not 0 <= span[0] <= span[1]:
        raise _bad(field, "0 <= start <= end", list(span))
    return span


def spans(ground_truth: Mapping[str, Any]) -> list[Span]:
    """The spans of temporal grounding, in clip seconds."""
    gold = []
    for span in _items(ground_truth, "spans", list):
        if not isinstance(span, list) or len(span) != 2:
            raise _bad("spans", "[start, end]", span)
        gold.append(_span(span[0], span[1], "spans"))
    if not same_spans(answers.parse_tal(answers.render_tal(gold, _DECIMALS)).value, gold, tolerance=_NOISE):
        raise _bad("spans", "spans that an answer can give", gold)
    return gold


def boxes(ground_truth: Mapping[str, Any]) -> tuple[dict[float, Box], float | None]:
    """The boxes of spatio-temporal grounding by clip second, in canvas pixels, and the stride of their times."""
    gold: dict[float, Box] = {}
    for key, box in _items(ground_truth, "boxes", dict).items():
        try:
            time = number(float(key), "boxes")
        except ValueError:
            raise _bad("boxes", "seconds", key) from None
        if not isinstance(box, list) or len(box) != 4:
            raise _bad(f"boxes: {key}", "four numbers", box)
        x1, y1, x2, y2 = (number(value, f"boxes: {key}") for value in box)
        if not (x1 < x2 and y1 < y2):
            raise _bad(f"boxes: {key}", "x1 < x2 and y1 < y2", box)
        if time in gold:
            raise _bad("boxes", "each time once", key)
        gold[time] = (x1, y1, x2, y2)
    said = answers.parse_stg(answers.render_stg(gold, _DECIMALS, _DECIMALS)).value
    if not same_boxes(said, gold, tolerance=_NOISE):
        raise _bad("boxes", "boxes that an answer can give", gold)
    stride = ground_truth.get("stride")
    return gold, None if stride is None else number(stride, "stride")


def events(ground_truth: Mapping[str, Any]) -> list[Event]:
    """The events of dense captioning, in clip seconds."""
    gold = []
    for event in _items(ground_truth, "events", list):
        if not isinstance(event, dict) or not isinstance(event.get("caption"), str):
            raise _bad("events", "start, end and caption", event)
        gold.append(Event(*_span(event.get("start"), event.get("end"), "events"), event["caption"]))
    if not same_events(answers.parse_dvc(answers.render_dvc(gold, _DECIMALS)).value, gold, tolerance=_NOISE):
        raise _bad("events", "events that an answer can give", ground_truth["events"])
    return gold


def label(ground_truth: Mapping[str, Any]) -> str:
    """The label of the next action."""
    gold: str = _items(ground_truth, "label", str)
    if not same_label(answers.parse_nap(gold).value, gold):
        raise _bad("label", "a label that an answer can give", gold)
    return gold


def text(ground_truth: Mapping[str, Any]) -> str:
    """The caption of a summary or of a region, or the answer to a question."""
    gold: str = _items(ground_truth, "text", str)
    if not answers.parse_caption(gold).format:
        raise _bad("text", "text that an answer can give", gold[:200])
    return gold


def _scores(names: Iterable[str], low: int, high: int) -> Callable[[Mapping[str, Any]], dict[str, int]]:
    known = tuple(names)

    def scores(ground_truth: Mapping[str, Any]) -> dict[str, int]:
        gold = _items(ground_truth, "scores", dict)
        for name, score in gold.items():
            if name not in known:
                raise _bad("scores", f"some of {', '.join(known)}", name)
            if isinstance(score, bool) or not isinstance(score, int) or not low <= score <= high:
                raise _bad(f"scores: {name}", f"{low} to {high}", score)
        return gold

    return scores


cvs_scores = _scores(answers.CVS_COMPONENTS, *answers.CVS_RANGE)
"""Scores by component of the critical view of safety."""
skill_scores = _scores(answers.ASPECTS, *answers.SA_RANGE)
"""Scores by aspect of surgical skill."""


def _near(said: Iterable[float], gold: Iterable[float], tolerance: float) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(said, gold, strict=True))


def same_spans(said: list[Span], gold: list[Span], source: str = "", *, tolerance: float = TIME_ROUNDING) -> bool:
    """Whether spans are those of the reference, in its order; one with length has not become an instant."""
    return len(said) == len(gold) and all(
        _near(a, b, tolerance) and (a[0] < a[1]) == (b[0] < b[1]) for a, b in zip(said, gold, strict=True)
    )


def same_events(said: list[Event], gold: list[Event], source: str = "", *, tolerance: float = TIME_ROUNDING) -> bool:
    """Whether events are those of the reference, white space in captions aside."""
    said_spans, gold_spans = ([(event.start, event.end) for event in side] for side in (said, gold))
    said_captions, captions = ([event.caption.split() for event in side] for side in (said, gold))
    return said_captions == captions and same_spans(said_spans, gold_spans, tolerance=tolerance)


def same_boxes(
    said: Mapping[float, Box], gold: Mapping[float, Box], source: str = "", *, tolerance: float = BOX_ROUNDING
) -> bool:
    """Whether boxes by time are those of the reference, in the same space; each has an area."""
    if len(said) != len(gold):
        return False
    return all(
        abs(a - b) <= min(tolerance, TIME_ROUNDING)
        and _near(said[a], gold[b], tolerance)
        and said[a][0] < said[a][2]
        and said[a][1] < said[a][3]
        for a, b in zip(sorted(said), sorted(gold), strict=True)
    )


def same_value(said: Any, gold: Any, source: str) -> bool:
    """Whether a target's value equals the reference, white space around a text aside."""
    return bool(said == (gold.strip() if isinstance(gold, str) else gold))


def same_numbers(said: Mapping[str, int], gold: Mapping[str, int], source: str) -> bool:
    """Whether numbers by name are those of the reference; what the reference does not name does not matter."""
    return all(said.get(name) == value for name, value in gold.items())


SAME: dict[str, Callable[[Any, Any, str], bool]] = {
    "tal": same_spans,
    "stg": same_boxes,
    "dvc": same_events,
    "nap": same_label,
    "sa": same_numbers,
    "cvs": same_numbers,
}
"""By task: (what a target says, the reference, the source) to whether they are the same, rounding aside; any other
task has `same_value`."""
