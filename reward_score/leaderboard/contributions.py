# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What each record gives to each of the leaderboard's columns, which records the official evaluator dies on, and the
columns of a file.

In the official evaluator one record that cannot be read loses its whole task. `read_parts` leaves such a record out of
the columns that it would lose, with the reason; `Parts.official` says what the official evaluator would show, and
`columns` shows that.

A column is a mean over datasets of a mean over parts of a mean over records; `inner` is the middle one, and
``dvc_f1`` and ``dvc_llm`` weigh a dataset by its records.

Encoder and judge are asked once per file. Where a next action's classes are the references found in the file, they
are those of the whole file: a subset or a resample of it keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import actions, assessments, events, spans, tubes
from .records import Record, dataset
from .scoring import ASPECTS, COLUMNS, TASKS, Judge, Panel, broken, caption_texts, task_rows

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
        _measure(task, task_rows(task, records), records, parts)
    _actions(task_rows("next_action", records), records, encoder, parts)
    if judge is not None:
        panel = Panel(judge)
        for task in JUDGED:
            _captions(task, task_rows(task, records), records, panel, parts)
    return parts


def _strangers(records: Sequence[Any], parts: Parts) -> None:
    """Records that no task counts; one that is no object at all loses every column officially."""
    counted = {row for task in TASKS for row in task_rows(task, records)}
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            reason = f"record: expected an object, got {type(record).__name__}"
            parts.losses.append(Loss(row, COLUMNS, reason))
        elif row not in counted:
            reason = f"qa_type {record.get('qa_type')!r:.80}: no task of the leaderboard"
            parts.losses.append(Loss(row, (), reason, SAME))


def _guarded(
    task: str,
    columns: tuple[str, ...],
    rows: Sequence[int],
    records: Sequence[Any],
    parts: Parts,
    read: Callable[[Mapping[str, Any]], Any],
) -> list[tuple[int, Any]]:
    """(row, what `read` makes of it) of the records that it can read; the others become losses."""
    found = []
    for row in rows:
        try:
            found.append((row, read(records[row])))
        except Exception as error:  # whatever Python raises here, the official evaluator dies of
            parts.losses.append(Loss(row, columns, str(broken(task, error))))
    return found


def _measure(task: str, rows: Sequence[int], records: Sequence[Any], parts: Parts) -> None:
    columns = TASK_COLUMNS[task]
    for row, entries in _guarded(task, columns, rows, records, parts, _READERS[task]):
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


def _actions(rows: Sequence[int], records: Sequence[Any], encoder: actions.Encoder | None, parts: Parts) -> None:
    columns = TASK_COLUMNS["next_action"]
    questions = _guarded("next_action", columns, rows, records, parts, actions.restructure)
    from_file: dict[Any, Sequence[str]] = {}

    def classes_of(question: actions.Question) -> Sequence[str]:
        if not actions.needs_peers(question):
            return actions.classes_of(question, ())
        if question.dataset not in from_file:
            peers = [other for _, other in questions]
            from_file[question.dataset] = actions.classes_of(question, peers)
        return from_file[question.dataset]

    read, asked = [], []
    for row, question in questions:
        classes = classes_of(question)
        try:
            path = actions.path_of(question, classes)
        except Exception as error:
            parts.losses.append(Loss(row, columns, str(broken("next_action", error))))
            continue
        read.append((row, question, path))
        if path == "semantic":
            asked.append((question.answer, classes))
    labels = iter(actions.nearest(asked, encoder))
    for row, question, path in read:
        answer = next(labels)[0] if path == "semantic" else question.answer
        value = None if path == "skipped" else float(answer == question.gold)
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


def _captions(task: str, rows: Sequence[int], records: Sequence[Any], panel: Panel, parts: Parts) -> None:
    column = JUDGED[task]
    found = _guarded(task, (column,), rows, records, parts, lambda record: _caption_pairs(task, record))
    for row, (filed, pairs) in found:
        measured: dict[str, tuple[float, float]] = {}
        for threshold, texts in pairs.items():
            scores = [score for pair in texts if (score := panel(*pair)) is not None]
            for aspect in ASPECTS if scores else ():
                total = math.fsum(score[aspect] for score in scores)
                measured[part_name(threshold, aspect)] = (total, float(len(scores)))
        asked = sum(map(len, pairs.values()))
        parts.entries.setdefault(column, []).append(Entry(row, filed, measured, asked))


def inner(column: str, means: Mapping[str, float]) -> float:
    """A dataset's value in a column from the means of its parts.

    The plain mean. In ``dvc_llm`` the mean over thresholds of the mean over aspects, of those above 0 each time. 0
    without a part.
    """
    if column != "dvc_llm":
        return _mean(means.values())
    levels = [
        _mean(value for aspect in ASPECTS if (value := means.get(part_name(threshold, aspect), 0.0)) > 0)
        for threshold in events.THRESHOLDS
    ]
    return _mean(level for level in levels if level > 0)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values) if values else 0.0


def _value(column: str, entries: Sequence[Entry]) -> float:
    groups: dict[Hashable, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.dataset, []).append(entry)
    total = weights = 0.0
    for group in groups.values():
        sums: dict[str, list[tuple[float, float]]] = {}
        for entry in group:
            for name, part in entry.parts.items():
                sums.setdefault(name, []).append(part)
        means = {
            name: math.fsum(total for total, _ in found) / sum(n for _, n in found) for name, found in sums.items()
        }
        weight = 1 if column in MACRO else len(group)
        total, weights = total + weight * inner(column, means), weights + weight
    return total / weights


def columns(
    records: Iterable[Record], *, encoder: actions.Encoder | None = None, judge: Judge | None = None
) -> dict[str, float]:
    """The leaderboard's columns of one file, unrounded; nan is possible (``stg_miou``).

    A task without records has no column; nor has one with a record that the evaluator cannot read, nor a judged column
    in whose task no call was answered: there the evaluator puts another measure, 0..1, in the column.

    Args:
        records: all records of the file.
        encoder, judge: see `read_parts`.

    Raises:
        EmbeddingUnavailable: the encoder failed.
        ValueError: the judge gave no finite number for an aspect. What the judge itself raises goes through.
    """
    parts = read_parts(list(records), encoder=encoder, judge=judge)
    shown = {column: state for column, state in parts.official.items() if state in (SAME, NAN)}
    return {
        column: math.nan if state == NAN else _value(column, parts.entries[column]) for column, state in shown.items()
    }
