# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The first wrong element of an answer, exactly, by the task's own measures, and the reference's element in its place.

An answer is walked through from its beginning. A span is right where it overlaps a span of the reference that no former
one has taken, with an IoU of at least `LEAST_IOU`; a box likewise, at its time; an event likewise, where its caption
contradicts nothing of the reference's; a score where it equals the reference's. What is wrong is replaced by the first
element of the reference that is not there yet, or by the one that it speaks of (the same component, the same time).
What is passed over is put in where it belongs in the reference's order. Of a caption, a sentence is wrong that names an
instrument, an action or a structure where the reference names others (`slots`).

A task is a function and a row of `ELEMENTS`. One without a row is left out, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from recipes.medgrpo.interventions.slots import alike, conflicts, nearest, rewritten
from reward_score.boxes import iou
from reward_score.pieces import JOIN, PIECES, Piece, sentences
from reward_score.tasks import TASKS, Context
from reward_score.temporal import gold_iou

LEAST_IOU = 0.5
"""From which IoU on an element is the reference's. Unpublished; the middle threshold of the temporal F1."""


class LeftOut(StrEnum):
    """Why an answer has no correction that could be measured."""

    NO_ELEMENTS = "the task's answers have no elements"
    OTHER_TARGET = "the answer to learn has other elements than the reference"
    ONE_ELEMENT = "the reference is one element: its correction is SFT on the reference"
    NOTHING_AFTER = "nothing of the reference is left after the correction"
    SURPLUS = "the first wrong element is one too many: nothing can be put in its place"
    NO_ERROR = "no wrong element"
    DECLINED = "the endpoint would not say"
    UNREADABLE = "the grammar breaks before a wrong element"


@dataclass(frozen=True)
class Asked:
    """An answer and what it is measured by.

    Attributes:
        task: its name.
        answer: the text.
        truncated: whether the token budget ended it.
        target: the reference as an answer, in the model's space (`extra_info.answer`).
        ground_truth: the decoded reference.
        context: of the reward.
    """

    task: str
    answer: str
    truncated: bool
    target: str
    ground_truth: Mapping[str, Any]
    context: Context

    @classmethod
    def of(cls, row: Mapping[str, Any], answer: str, truncated: bool = False) -> Asked:
        """From a row of the parquet."""
        extra, truth = row["extra_info"], json.loads(row["reward_model"]["ground_truth"])
        _, source, task = row["data_source"].split("/")
        return cls(task, answer, truncated, extra["answer"], truth, Context(source, extra))

    @property
    def whole(self) -> bool:
        """Whether the answer follows the grammar to an end of its own, so that what it lacks is missing."""
        return not self.truncated and TASKS[self.task].parse(self.answer).format == 1

    def pieces(self) -> list[Piece]:
        """The answer's elements; one that the token budget may have cut short is none."""
        found = PIECES[self.task](self.answer)
        return found[:-1] if self.truncated and found and found[-1].end == len(self.answer) else found

    @property
    def stride(self) -> float:
        """Seconds between boxes, as the reward has them: the reference's, else the least gap between its times."""
        stride = self.ground_truth.get("stride")
        times = sorted(map(float, self.ground_truth["boxes"]))
        return stride or min((b - a for a, b in zip(times, times[1:], strict=False)), default=1.0)


@dataclass(frozen=True)
class Mistake:
    """A wrong element and its correction. `prefix + original` is how the answer began.

    Attributes:
        prefix: the answer up to the element.
        original: the element as it was said; empty where one is missing.
        correction: what is put in its place.
        gold: which element of the reference it is, by number.
        left: which elements of the reference are not there yet, by number; never empty.
    """

    prefix: str
    original: str
    correction: str
    gold: int
    left: tuple[int, ...]

    @property
    def guided(self) -> str:
        """What is trained on: the prefix with its correction."""
        return self.prefix + self.correction

    @property
    def control(self) -> str:
        """The same beginning as it was said."""
        return self.prefix + self.original


@dataclass(frozen=True)
class Elements:
    """How elements of a task are compared, and its first wrong one is found.

    Attributes:
        field: of the ground truth, which holds them in the order of the answer to learn.
        right: (an element's value, one of the reference's, what was asked) to whether they are the same.
        about: likewise, whether the one speaks of what the other does, rightly or wrongly.
        locate: (this, what was asked) to the mistake.
    """

    field: str
    right: Callable[[Any, Any, Asked], bool]
    about: Callable[[Any, Any, Asked], bool]
    locate: Callable[[Elements, Asked], Mistake | LeftOut]


def _same_span(said: Any, gold: Any, asked: Asked) -> bool:
    return gold_iou(said, gold, asked.context.interval) >= LEAST_IOU


def _same_box(said: Any, gold: Any, asked: Asked) -> bool:
    # In the model's space on both sides: an IoU is the same whatever the axes' units are.
    return _same_time(said, gold, asked) and iou(said[1], gold[1]) >= LEAST_IOU


def _same_time(said: Any, gold: Any, asked: Asked) -> bool:
    return abs(said[0] - gold[0]) <= asked.stride / 2 + 1e-6


def _same_event(said: Any, gold: Any, asked: Asked) -> bool:
    return _same_span((said.start, said.end), (gold.start, gold.end), asked) and not conflicts(
        said.caption, gold.caption
    )


def _same_score(said: Any, gold: Any, asked: Asked) -> bool:
    return bool(said == gold)


def _same_name(said: Any, gold: Any, asked: Asked) -> bool:
    return bool(said[0] == gold[0])


def _same_sentence(said: Any, gold: Any, asked: Asked) -> bool:
    return alike(said, gold) == 1


def _ended(task: str, text: str) -> str:
    """A text whose last element is at its end in both arms: another line follows an event."""
    return text if task != "dvc" or not text or text.endswith("\n") else text + "\n"


def in_order(elements: Elements, asked: Asked) -> Mistake | LeftOut:
    """The first wrong or missing element of a list, in the reference's order."""
    gold = PIECES[asked.task](asked.target)
    if len(gold) < 2:
        return LeftOut.ONE_ELEMENT
    said, whole = asked.pieces(), asked.whole

    def first(test: Callable[[Any, Any, Asked], bool], piece: Piece, among: Sequence[int]) -> int | None:
        return next((number for number in among if test(piece.value, gold[number].value, asked)), None)

    def mistake(prefix: str, original: str, number: int, join: str = "") -> Mistake | LeftOut:
        left = tuple(other for other in free if other != number)
        if not left:
            return LeftOut.NOTHING_AFTER
        correction = join + asked.target[gold[number].start : gold[number].end]
        ends = partial(_ended, asked.task)
        return Mistake(prefix, ends(original) if original else "", ends(correction), number, left)

    def missing(before: int, number: int) -> Mistake | LeftOut:
        prefix = _ended(asked.task, asked.answer[: said[before - 1].end]) if before else ""
        return mistake(prefix, "", number, JOIN[asked.task] if before else "")

    free = list(range(len(gold)))
    for at, piece in enumerate(said):
        if not free:
            return LeftOut.SURPLUS
        hit = first(elements.right, piece, free)
        meant = hit if hit is not None else first(elements.about, piece, free)
        number = free[0] if meant is None else meant
        for other in free if whole else ():
            if other < number and not any(
                first(elements.about, later, [other]) is not None for later in said[at + 1 :]
            ):
                return missing(at, other)
        if hit is None:
            return mistake(asked.answer[: piece.start], asked.answer[piece.start : piece.end], number)
        free.remove(hit)
    if not whole:
        return LeftOut.UNREADABLE
    return missing(len(said), free[0]) if free else LeftOut.NO_ERROR


def by_slots(elements: Elements, asked: Asked) -> Mistake | LeftOut:
    """The first sentence of a caption that names what the reference contradicts, with the reference's words."""
    if len(sentences(asked.target)) < 2:
        return LeftOut.ONE_ELEMENT
    for at, piece in enumerate(asked.pieces()):
        if conflicts(piece.value, asked.target):
            return corrected_sentence(asked, at)
    return LeftOut.NO_ERROR if asked.whole else LeftOut.UNREADABLE


def corrected_sentence(asked: Asked, at: int, correction: str | None = None) -> Mistake | LeftOut:
    """The mistake that sentence `at` of a caption is.

    Each sentence up to it stands for the one of the reference that is most like it. What is left is the others.

    Args:
        correction: what is to stand there; None: what `rewritten` makes of it.
    """
    reference = [piece.value for piece in sentences(asked.target)]
    if len(reference) < 2:
        return LeftOut.ONE_ELEMENT
    free, number = list(range(len(reference))), 0
    said = sentences(asked.answer)
    for piece in said[: at + 1]:
        if not free:
            return LeftOut.SURPLUS
        number = nearest(piece.value, reference, free)
        free.remove(number)
    if not free:
        return LeftOut.NOTHING_AFTER
    wrong = said[at]
    if correction is None:
        correction = rewritten(wrong.value, reference[number], conflicts(wrong.value, asked.target))
        if conflicts(correction, asked.target):
            correction = reference[number]
    return Mistake(asked.answer[: wrong.start], wrong.value, correction, number, tuple(free))


_TEXT = Elements("text", _same_sentence, _same_sentence, by_slots)
ELEMENTS: dict[str, Elements] = {
    "tal": Elements("spans", _same_span, _same_span, in_order),
    "stg": Elements("boxes", _same_box, _same_time, in_order),
    "dvc": Elements("events", _same_event, _same_event, in_order),
    "sa": Elements("scores", _same_score, _same_name, in_order),
    "cvs": Elements("scores", _same_score, _same_name, in_order),
    "vs": _TEXT,
    "rc": _TEXT,
    "qa": _TEXT,
}
"""By task. The answer to `nap` is one label, which has no elements."""


def locate(asked: Asked) -> Mistake | LeftOut:
    """The first wrong element of an answer to any task, or why there is none to correct."""
    elements = ELEMENTS.get(asked.task)
    if elements is None:
        return LeftOut.NO_ELEMENTS
    held = asked.ground_truth[elements.field]
    if not isinstance(held, str) and len(held) != len(PIECES[asked.task](asked.target)):
        return LeftOut.OTHER_TARGET
    return elements.locate(elements, asked)
