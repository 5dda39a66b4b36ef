# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What each record gives to each of the leaderboard's columns, and which records the official evaluator dies on.

In the official evaluator one record that cannot be read loses its whole task. `read_parts` leaves such a record out of
the columns that it would lose, with the reason; `Parts.official` says what the official evaluator would show. `figures`
makes the columns of it.

Encoder and judge are asked once per file. Where a next action's classes are the references found in the file, they
are those of the whole file: a subset or a resample of it keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import actions, assessments, events, spans, tubes
from .records import Record, dataset
from .scoring import ASPECTS, COLUMNS, TASKS, Judge, asked_once, broken, caption_texts, task_records

TASK_COLUMNS = {
    "tal": ("tag_miou_03", "tag_miou_05"),
    "stg": ("stg_miou",),
    "dvc": ("dvc_f1",),
    "next_action": ("nap_acc",),
    "cvs_assessment": ("cvs_acc",),
    "skill_assessment": ("sa_acc",),
}
JUDGED = {"dvc": "dvc_llm", "video_summary": "vs_llm", "region_caption": "rc_llm"}
MACRO = ("cvs_acc", "sa_acc")
"""Columns in which every dataset counts alike."""
SAME, LOST, NAN, UNJUDGED = "same", "lost", "nan", "unjudged"


@dataclass(frozen=True)
class Entry:
    """What one record gives to one column.

    Attributes:
        row: position in the file.
        dataset: what the record is filed under; one name for all where the column does not look at it.
        parts: by name of a part (component, aspect, threshold and aspect) the sum of its values and their number. A
            record without a part is counted to its dataset, and is in no mean.
        asked: calls of the judge.
    """

    row: int
    dataset: Hashable
    parts: Mapping[str, tuple[float, float]]
    asked: int = 0


@dataclass(frozen=True)
class Loss:
    """A record that is left out of some columns; `official` is what it does to them there (lost or nan)."""

    row: int
    columns: tuple[str, ...]
    reason: str
    official: str = LOST


@dataclass
class Parts:
    """All entries of a file by column, and the records that are left out.

    Attributes:
        count: records in the file.
        entries: by column; a column that no record asks for has none.
        losses: in the order of the file within a task.
    """

    count: int
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    @property
    def official(self) -> dict[str, str]:
        """By column: ``same``; ``lost`` or ``nan`` there; ``unjudged``: no call was answered, and the official
        evaluator puts another measure (0 to 1) in the column."""
        state = {}
        for column in COLUMNS:
            faults = {loss.official for loss in self.losses if column in loss.columns}
            if faults:
                state[column] = LOST if LOST in faults else NAN
            elif column in self.entries:
                state[column] = UNJUDGED if self._unjudged(column) else SAME
        return state

    def _unjudged(self, column: str) -> bool:
        entries = self.entries[column]
        asked = column != "dvc_llm" or any(entry.asked for entry in entries)
        return column in JUDGED.values() and asked and not any(entry.parts for entry in entries)


def read_parts(records: Sequence[Any], *, encoder: actions.Encoder | None = None, judge: Judge | None = None) -> Parts:
    """Measure every record of a file.

    Args:
        records: in the merged format, all of the file.
        encoder: for next actions outside the lists of classes; None is the real model.
        judge: for the three ``*_llm`` columns; without it they are left out. An identical pair is judged once.

    Raises:
        EmbeddingUnavailable: the encoder failed. What the judge raises goes through.
    """
    parts = Parts(len(records))
    _strangers(records, parts)
    for task in ("tal", "stg", "dvc", "cvs_assessment", "skill_assessment"):
        _measure(task, task_records(task, records), parts)
    _actions(task_records("next_action", records), encoder, parts)
    if judge is not None:
        panel = asked_once(judge)
        for task in JUDGED:
            _captions(task, task_records(task, records), panel, parts)
    return parts


def _strangers(records: Sequence[Any], parts: Parts) -> None:
    """Records that no task counts; one that is no object at all loses every column officially."""
    counted = {row for task in TASKS for row in task_records(task, records)}
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            reason = f"record: expected an object, got {type(record).__name__}"
            parts.losses.append(Loss(row, COLUMNS, reason))
        elif row not in counted:
            reason = f"qa_type {record.get('qa_type')!r:.80}: no task of the leaderboard"
            parts.losses.append(Loss(row, (), reason, SAME))


def _guarded(
    task: str, columns: tuple[str, ...], records: Mapping[int, Any], parts: Parts, read: Callable[[Any], Any]
) -> dict[int, Any]:
    """By row what `read` makes of the records that it can read; the others become losses."""
    found = {}
    for row, record in records.items():
        try:
            found[row] = read(record)
        except Exception as error:  # whatever Python raises here, the official evaluator dies of
            parts.losses.append(Loss(row, columns, str(broken(task, error))))
    return found


def _measure(task: str, records: Mapping[int, Record], parts: Parts) -> None:
    columns = TASK_COLUMNS[task]
    for row, entries in _guarded(task, columns, records, parts, _READERS[task]).items():
        for column, (filed, measured) in zip(columns, entries, strict=True):
            if any(math.isnan(total) for total, _ in measured.values()):
                reason = f"{task}: the score is not a number, and makes the whole column none"
                parts.losses.append(Loss(row, (column,), reason, NAN))
            else:
                parts.entries.setdefault(column, []).append(Entry(row, filed, measured))


def _one(value: float | None) -> dict[str, tuple[float, float]]:
    return {} if value is None else {"": (float(value), 1.0)}


def _each(values: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    return {str(name): (float(value), 1.0) for name, value in values.items()}


def _tal(record: Mapping[str, Any]) -> list:
    result = spans.score(record)
    return [("", _one(result[f"meanIoU@{threshold}"])) for threshold in spans.THRESHOLDS]


_READERS: dict[str, Callable[[Mapping[str, Any]], list]] = {
    "tal": _tal,
    "stg": lambda record: [("", _one(tubes.score(record)["mean_iou"]))],
    "dvc": lambda record: [(dataset("dvc", record), _one(events.score_times(record)["F1_Score"]))],
    "cvs_assessment": lambda record: [
        (dataset("cvs_assessment", record), _each(assessments.score_cvs(record)["per_component"]))
    ],
    "skill_assessment": lambda record: [
        (dataset("skill_assessment", record), _each(assessments.score_skill(record)["per_aspect"]))
    ],
}
"""By task: a record to one (dataset, parts) for each of the task's columns."""


def _actions(records: Mapping[int, Record], encoder: actions.Encoder | None, parts: Parts) -> None:
    columns = TASK_COLUMNS["next_action"]
    questions = _guarded("next_action", columns, records, parts, actions.restructure)
    known: dict[tuple[Any, str | None], Sequence[str]] = {}

    def path(question: actions.Question) -> tuple[str, Sequence[str]]:
        decides = question.dataset, question.procedure
        if decides not in known:
            known[decides] = actions.classes_of(question, questions.values())
        return actions.path_of(question, known[decides]), known[decides]

    found = _guarded("next_action", columns, questions, parts, path)
    asked = [(questions[row].answer, classes) for row, (way, classes) in found.items() if way == "semantic"]
    labels = iter(actions.nearest(asked, encoder))
    for row, (way, _) in found.items():
        answer = next(labels)[0] if way == "semantic" else questions[row].answer
        value = None if way == "skipped" else float(answer == questions[row].gold)
        parts.entries.setdefault("nap_acc", []).append(Entry(row, "", _one(value)))


def _caption_pairs(task: str, record: Mapping[str, Any]) -> tuple[Any, dict[str, list]]:
    """(dataset, texts for the judge by threshold)."""
    if task != "dvc":
        texts = caption_texts(record)
        return "", {"": [] if texts is None else [texts]}
    pairs = events.caption_pairs(record, events.score_times(record)["pred_segments"])
    return dataset("dvc", record), pairs or {}


def part_name(threshold: Any, aspect: str) -> str:
    """Of a judged part: the aspect, for events with the threshold before it."""
    return f"{threshold} {aspect}".strip()


def _captions(task: str, records: Mapping[int, Record], panel: Judge, parts: Parts) -> None:
    column = JUDGED[task]
    found = _guarded(task, (column,), records, parts, lambda record: _caption_pairs(task, record))
    for row, (filed, pairs) in found.items():
        measured: dict[str, tuple[float, float]] = {}
        for threshold, texts in pairs.items():
            scores = [score for pair in texts if (score := panel(*pair)) is not None]
            for aspect in ASPECTS if scores else ():
                total = math.fsum(score[aspect] for score in scores)
                measured[part_name(threshold, aspect)] = (total, float(len(scores)))
        asked = sum(map(len, pairs.values()))
        parts.entries.setdefault(column, []).append(Entry(row, filed, measured, asked))
