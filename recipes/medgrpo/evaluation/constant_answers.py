# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Constant answers that may score best on training rows, by task; and the times that a question asks for.

====  ===========================================================================================
tal   the whole clip, the spans most like the others, lists of such spans, equal parts of the clip
stg   the boxes most like the others, and boxes of their quantiles, at the times that are asked for
dvc   equal parts of the clip, and training answers
nap   the commonest labels
cvs   the commonest score of each component
sa    the commonest score of each aspect
====  ===========================================================================================

Spans are in clip seconds or in fractions of the clip, whose length stands in the row's metadata.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.truths import Truth, finite_number
from reward_score.answers import (
    ASPECTS,
    CVS_COMPONENTS,
    MAX_ITEMS,
    Box,
    Event,
    render_cvs,
    render_dvc,
    render_sa,
    render_stg,
    render_tal,
)

FINALISTS = 8
"""Labels and boxes that are proposed; of more candidates so many are scored on the whole sample."""
LOOKED_AT = 400
"""Spans or boxes of a pair among which those most like the others are found."""
MOST_SPANS = 8
"""Spans of a tal answer. So many fit into the 128 tokens that an answer of this task gets."""
MOST_EVENTS = 20
TRAINING_ANSWERS = 50
"""dvc answers that are tried as they are, in fractions of the clip."""


_NUMBER = r"([0-9]{1,6}(?:\.[0-9]{1,4})?)"
_UNIT = r"\s{0,2}(?:seconds?|secs?|s)?"
_STRIDE = re.compile(rf"every\s{{1,3}}{_NUMBER}\s{{0,2}}-?(?:seconds?|secs?|s)(?!\w)", re.IGNORECASE)
_INTERVAL = re.compile(
    rf"(?<![\w.]){_NUMBER}{_UNIT}\s{{0,3}}(?:-|–|—|to|and|until)\s{{0,3}}{_NUMBER}(?![0-9])", re.IGNORECASE
)


@dataclass(frozen=True)
class Piece:
    """A span: clip seconds, or fractions of the clip's length where `of_clip`."""

    start: float
    end: float
    of_clip: bool = True

    def at(self, seconds: float) -> tuple[float, float]:
        """The span in seconds of a clip of that length."""
        return (self.start * seconds, self.end * seconds) if self.of_clip else (self.start, self.end)


@dataclass(frozen=True)
class Constant:
    """A constant answer: a text, pieces of the clip (with a caption: events), or a box."""

    text: str = ""
    pieces: tuple[Piece, ...] = ()
    caption: str = ""
    box: Box | tuple[()] = ()

    def answer(self, mode: str, seconds: float, times: Sequence[float]) -> str:
        """The answer's text for a clip of that length, boxes at those times."""
        if self.box:
            # The leaderboard looks times up rounded to one decimal.
            asked = [round(time, 1) for time in times] if mode == "leaderboard" else times
            return render_stg(dict.fromkeys(asked or [0.0], self.box))
        if not self.pieces:
            return self.text
        spans = [piece.at(seconds) for piece in self.pieces]
        if not self.caption:
            return render_tal(spans)
        return render_dvc(Event(*span, self.caption) for span in spans)

    def describe(self) -> dict[str, Any]:
        """What it says, as JSON."""
        found: dict[str, Any] = {"text": self.text, "caption": self.caption, "box": list(self.box)}
        found["spans"] = [
            {"start": p.start, "end": p.end, "of": "the clip's length" if p.of_clip else "seconds"} for p in self.pieces
        ]
        return {key: value for key, value in found.items() if value}


def asked_times(question: Any, stated: Any = None) -> list[float]:
    """The times, clip seconds, at which an stg question asks for boxes: start, start + stride, ... up to the end.

    They are read from the question's own words ("from 12.0 to 28.0 seconds, every 4 seconds"). Where these do not say,
    from `start`, `end` and `stride` of `stated`, the annotation's description of the question. The times that have a
    reference box are never looked at: those would tell when the object is visible. Empty where neither says.
    """
    if isinstance(question, str):
        stride, interval = _STRIDE.search(question), _INTERVAL.search(question)
        if stride and interval and (times := _grid(interval[1], interval[2], stride[1])):
            return times
    if isinstance(stated, Mapping):
        return _grid(stated.get("start"), stated.get("end"), stated.get("stride"))
    return []


def _grid(start: Any, end: Any, stride: Any) -> list[float]:
    first, last, step = map(finite_number, (start, end, stride))
    if first is None or last is None or step is None or step <= 0:
        return []
    count = min(math.floor((last - first) / step + 1e-6) + 1, MAX_ITEMS)
    return [round(first + number * step, 6) for number in range(count)]


def some(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, in random order, always the same ones."""
    return random.Random(0).sample(items, min(most, len(items)))


def commonest(values: Iterable[Any], most: int) -> list[Any]:
    """The commonest values, of equally common ones the first in order."""
    counts = Counter(values)
    return sorted(counts, key=lambda value: (-counts[value], value))[:most]


def _most_alike(candidates: np.ndarray, pieces: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Candidates ordered by their mean IoU with the pieces, greatest first.

    Args:
        candidates, pieces: spans (n, 2) or boxes (n, 4), the lower bounds before the upper ones.
        weights: of each piece in the mean; None: all alike.
    """
    half = pieces.shape[1] // 2
    sizes, others = ((given[:, half:] - given[:, :half]).prod(axis=1) for given in (candidates, pieces))
    sides = np.minimum(candidates[:, None, half:], pieces[:, half:]) - np.maximum(
        candidates[:, None, :half], pieces[:, :half]
    )
    shared = np.maximum(sides, 0.0).prod(axis=2)
    ious = shared / np.maximum(sizes[:, None] + others - shared, 1e-9)
    return candidates[np.argsort(-np.average(ious, axis=1, weights=weights), kind="stable")]


def _parts(count: int) -> tuple[Piece, ...]:
    """The clip in equal parts."""
    return tuple(Piece(k / count, (k + 1) / count) for k in range(count))


def _spans(rows: Sequence[Truth]) -> list[Constant]:
    """Single spans first, then lists: training spans in groups of like place or length, of each group one."""
    given = some([(row.seconds, *span) for row in rows for span in row.ground["spans"] if span[1] > span[0]], LOOKED_AT)
    fractions = [(start / seconds, end / seconds) for seconds, start, end in given if seconds]
    singles, lists = [_parts(1)], [_parts(count) for count in range(2, MOST_SPANS + 1)]
    for of_clip, bounds in ((True, fractions), (False, [span[1:] for span in given])):
        spans = np.array(bounds).reshape(-1, 2).round(4)
        orders = [spans[np.argsort(key, kind="stable")] for key in (spans.sum(axis=1), spans[:, 1] - spans[:, 0])]
        for count in range(1, MOST_SPANS + 1) if len(spans) else ():
            for ordered in orders:
                groups = [group for group in np.array_split(ordered, count) if len(group)]
                typical = [_most_alike(group, group)[0].tolist() for group in groups]
                pieces = dict.fromkeys(Piece(start, end, of_clip) for start, end in typical)
                singles += [(piece,) for piece in pieces]
                lists.append(tuple(pieces))
    return [Constant(pieces=pieces) for pieces in dict.fromkeys([*singles, *lists])]


def _boxes(rows: Sequence[Truth]) -> list[Constant]:
    given = [(1 / len(row.ground["boxes"]), *box) for row in rows for box in row.ground["boxes"].values()]
    weights, boxes = np.split(np.array(some(given, LOOKED_AT)), [1], axis=1)
    quantiles = np.array(list(product(*np.quantile(boxes, [0.1, 0.3, 0.5, 0.7, 0.9], axis=0).T)))
    best = _most_alike(np.concatenate([boxes, quantiles]).round(2), boxes, weights[:, 0])
    return [Constant(box=box) for box in list(dict.fromkeys(map(tuple, best.tolist())))[:FINALISTS]]


def _events(rows: Sequence[Truth]) -> list[Constant]:
    lists = [_parts(count) for count in range(1, MOST_EVENTS + 1)]
    for row in some([row for row in rows if row.seconds], TRAINING_ANSWERS):
        bounds = [(event["start"], event["end"]) for event in row.ground["events"][:MOST_EVENTS]]
        lists.append(tuple(Piece(*(round(bound / row.seconds, 4) for bound in pair)) for pair in bounds))
    # No score of times looks at the caption.
    return [Constant(pieces=pieces, caption="event") for pieces in dict.fromkeys(lists)]


def _scores(rows: Sequence[Truth]) -> list[Constant]:
    names, render = (CVS_COMPONENTS, render_cvs) if rows[0].row.task == "cvs" else (ASPECTS, render_sa)
    return [Constant(render({name: commonest((row.ground["scores"][name] for row in rows), 1)[0] for name in names}))]


def _labels(rows: Sequence[Truth]) -> list[Constant]:
    return [Constant(text) for text in commonest((row.ground["label"].strip() for row in rows), FINALISTS)]


def answer_texts(rows: Sequence[Truth]) -> list[Constant]:
    """The commonest answers as they stand: for a task of which no more is known here."""
    return [Constant(text) for text in commonest((row.ground["text"].strip() for row in rows), FINALISTS)]


CANDIDATES: dict[str, Callable[[Sequence[Truth]], list[Constant]]] = {
    "tal": _spans,
    "stg": _boxes,
    "dvc": _events,
    "cvs": _scores,
    "sa": _scores,
    "nap": _labels,
}
"""By task: the constants that may score best, of equally good ones the first."""
