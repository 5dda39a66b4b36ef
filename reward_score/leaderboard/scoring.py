# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Records to numbers, numbers to columns.

A record that the evaluator cannot read loses its whole task there; here ``score_record`` names it, and ``columns``
leaves the task's columns out. A failure of the encoder or of the judge is not the record's: it goes through as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import RewardError
from . import actions, assessments, events, spans, tubes
from .records import Record, dataset, is_task, starts_task

COLUMNS = tuple("tag_miou_03 tag_miou_05 stg_miou nap_acc dvc_f1 cvs_acc sa_acc dvc_llm vs_llm rc_llm".split())
ASPECTS = ("R2", "R3", "R8", "R5", "R4")
TASKS = tuple("tal stg dvc next_action cvs_assessment skill_assessment video_summary region_caption".split())

Judge = Callable[[Any, Any], Mapping[str, float] | None]
"""(prediction, reference) to a number per aspect of ASPECTS, or None for a failed call."""


class LeaderboardError(RewardError, ValueError):
    """A record that the official evaluator cannot read; there it loses the whole task."""


def broken(task: str, error: Exception) -> LeaderboardError:
    """What Python raised on a record, as this package's error."""
    text = " ".join(str(error).split())
    return LeaderboardError(f"{task}: the evaluator would lose the task: {type(error).__name__}: {text[:200]}")


def caption_texts(record: Record) -> tuple[str, str] | None:
    """(answer, reference) as the judge gets them, or None where the evaluator does not ask it."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(map(str, value))
        return str(value) if value else ""

    answer, gold = text(record["answer"]), text(record["gnd"])
    return (answer, gold) if answer and gold else None


def _score_events(record: Record) -> dict[str, Any]:
    result = events.score_times(record)
    return result | {"caption_pairs": events.caption_pairs(record, result["pred_segments"])}


def _judged(record: Record) -> dict[str, Any]:
    return {"judged": caption_texts(record) is not None}


_SCORERS: dict[str, Callable[[Record], dict[str, Any]]] = {
    "tal": spans.score,
    "stg": tubes.score,
    "dvc": _score_events,
    "cvs_assessment": assessments.score_cvs,
    "skill_assessment": assessments.score_skill,
    "video_summary": _judged,
    "region_caption": _judged,
}


def score_record(
    record: Record, *, peers: Iterable[Record] = (), encoder: actions.Encoder | None = None
) -> dict[str, Any]:
    """The evaluator's numbers of one record: what it parsed, and the task's scores.

    Keys by task: tal ``pred_spans fps_key recall@t meanIoU@t``; stg ``pred_boxes mean_iou``; dvc ``pred_segments
    overlaps pred_frames gt_frames Precision_Mean Recall_Mean F1_Score caption_pairs``; next_action ``dataset procedure
    path n_classes predicted margin correct``; cvs ``pred per_component abs_error rating_correct gold_rating``; skill
    ``pred_aspects pred_average pred_level skipped gold_level level_correct per_aspect abs_error``; captions
    ``judged``. None where the evaluator leaves the record out.

    Args:
        record: in the merged format.
        peers: the records of the same file; this record may be among them.
        encoder: for a next action outside the list of classes (path ``semantic``); None is the evaluator's own model.
            ``predicted`` is the class that the answer was taken for, and ``correct`` whether it is the reference's.
            ``margin`` is that class's lead in cosine over the second; None where no encoder was asked.

    Raises:
        LeaderboardError: the evaluator cannot read the record, or has no task for it.
        EmbeddingUnavailable: the encoder failed.
    """
    qa_type = record.get("qa_type") if isinstance(record, Mapping) else None
    if not isinstance(qa_type, str):
        raise LeaderboardError(f"record: expected an object with qa_type as text, got {type(record).__name__}")
    task = next((task for task in TASKS if is_task(task, qa_type)), None)
    if task is None:
        raise LeaderboardError(f"qa_type {qa_type[:80]!r}: no task of the leaderboard")
    if task == "next_action":
        return _score_action(record, peers, encoder)
    try:
        return _SCORERS[task](record)
    except Exception as error:
        raise broken(task, error) from error


def _score_action(record: Record, peers: Iterable[Record], encoder: actions.Encoder | None) -> dict[str, Any]:
    try:
        question = actions.restructure(record)
        file = [question]
        if actions.needs_peers(question):
            file += _readable_actions(peers)
        classes = actions.classes_of(question, file)
        path = actions.path_of(question, classes)
    except Exception as error:
        raise broken("next_action", error) from error
    predicted, margin = (question.answer if path == "exact" else None), None
    if path == "semantic":
        [(predicted, margin)] = actions.nearest([(question.answer, classes)], encoder)
    return {
        "dataset": question.dataset,
        "procedure": question.procedure,
        "path": path,
        "n_classes": len(classes),
        "predicted": predicted,
        "margin": margin,
        "correct": None if path == "skipped" else int(predicted == question.gold),
    }


def _readable_actions(records: Iterable[Record]) -> list[actions.Question]:
    found = []
    for record in records:
        try:
            if is_task("next_action", record["qa_type"]):
                found.append(actions.restructure(record))
        except Exception:  # a peer that breaks the evaluator is its own record's error
            continue
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _by_dataset(task: str, records: list[Record], rows: list[Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for record, row in zip(records, rows, strict=True):
        groups.setdefault(dataset(task, record), []).append(row)
    return groups


def _tag(records: list[Record]) -> dict[str, float]:
    rows = [spans.score(record) for record in records]
    return {f"tag_miou_0{str(t)[-1]}": _mean([row[f"meanIoU@{t}"] for row in rows]) for t in spans.THRESHOLDS}


def _stg(records: list[Record]) -> dict[str, float]:
    values = [value for record in records if (value := tubes.score(record)["mean_iou"]) is not None]
    return {"stg_miou": _mean(values)}


def _read_actions(records: list[Record]) -> tuple[list[int], list[tuple[str, Sequence[str]]], list[str]]:
    """Verdicts of the answers that are classes; (answer, classes) of those to embed, and the references of these."""
    questions = [actions.restructure(record) for record in records]
    from_file: dict[Any, Sequence[str]] = {}
    right, asked, golds = [], [], []
    for question in questions:
        if not actions.needs_peers(question):
            classes = actions.classes_of(question, ())
        else:
            if question.dataset not in from_file:
                from_file[question.dataset] = actions.classes_of(question, questions)
            classes = from_file[question.dataset]
        path = actions.path_of(question, classes)
        if path == "exact":
            right.append(int(question.answer == question.gold))
        elif path == "semantic":
            asked.append((question.answer, classes))
            golds.append(question.gold)
    return right, asked, golds


def _dvc(records: list[Record]) -> dict[str, float]:
    groups = _by_dataset("dvc", records, [events.score_times(record)["F1_Score"] for record in records])
    # A record left out of the mean keeps its weight: its dataset counts with all its records.
    total = sum(_mean([f1 for f1 in group if f1 is not None]) * len(group) for group in groups.values())
    return {"dvc_f1": total / len(records)}


def _macro(groups: Mapping[Any, list[Mapping[str, int]]]) -> float:
    """Mean over datasets of the mean over parts of the share of right ones; a dataset without parts is 0."""
    values = []
    for rows in groups.values():
        parts: dict[str, list[int]] = {}
        for row in rows:
            for name, right in row.items():
                parts.setdefault(name, []).append(right)
        values.append(_mean([_mean(part) for part in parts.values()]))
    return _mean(values)


def _cvs(records: list[Record]) -> dict[str, float]:
    rows = [assessments.score_cvs(record)["per_component"] for record in records]
    return {"cvs_acc": _macro(_by_dataset("cvs_assessment", records, rows))}


def _skill(records: list[Record]) -> dict[str, float]:
    rows = [assessments.score_skill(record)["per_aspect"] for record in records]
    return {"sa_acc": _macro(_by_dataset("skill_assessment", records, rows))}


class Panel:
    """The judge, asked once for each distinct pair, its numbers checked but, as officially, not clamped to 1..5."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[tuple[str, str], dict[str, float] | None] = {}

    def __call__(self, prediction: Any, reference: Any) -> dict[str, float] | None:
        key = (repr(prediction), repr(reference))
        if key not in self._known:
            scores = self._judge(prediction, reference)
            if scores is not None:
                try:
                    scores = {aspect: float(scores[aspect]) for aspect in ASPECTS}
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"judge: expected a number for each of {ASPECTS}, got {scores!r:.200}") from error
                if not all(map(math.isfinite, scores.values())):
                    raise ValueError(f"judge: expected finite numbers, got {scores!r:.200}")
            self._known[key] = scores
        return self._known[key]


def _captions(column: str, pairs: list[tuple[str, str]], panel: Panel) -> dict[str, float]:
    """VS_llm or RC_llm. Without one answered call the evaluator puts another measure, 0..1, in the column: left out."""
    scores = [score for pair in pairs if (score := panel(*pair)) is not None]
    return {column: _mean([_mean([score[aspect] for score in scores]) for aspect in ASPECTS])} if scores else {}


def _dvc_captions(groups: Mapping[Any, list[dict[str, list[list[Any]]] | None]], panel: Panel) -> dict[str, float]:
    total, asked, answered = 0.0, 0, 0
    for rows in groups.values():
        levels = []
        for threshold in map(str, events.THRESHOLDS):
            verdicts = [panel(*pair) for row in rows if row is not None for pair in row[threshold]]
            scores = [verdict for verdict in verdicts if verdict is not None]
            asked, answered = asked + len(verdicts), answered + len(scores)
            levels.append(_positive_mean([_mean([score[aspect] for score in scores]) for aspect in ASPECTS]))
        total += _positive_mean(levels) * len(rows)
    if asked and not answered:
        return {}
    return {"dvc_llm": total / sum(map(len, groups.values()))}


def _positive_mean(values: Sequence[float]) -> float:
    return _mean([value for value in values if value > 0])


def columns(
    records: Iterable[Record], *, encoder: actions.Encoder | None = None, judge: Judge | None = None
) -> dict[str, float]:
    """The leaderboard's columns of one file, unrounded; nan is possible (``stg_miou``).

    A task without records has no column; nor has one with a record that the evaluator cannot read, nor a judged column
    in whose task no call was answered.

    Args:
        records: all records of the file.
        encoder: for next actions outside the lists of classes; None is the real model.
        judge: for the three ``*_llm`` columns; without it they are left out. An identical pair is judged once.

    Raises:
        EmbeddingUnavailable: the encoder failed.
        ValueError: the judge gave no finite number for an aspect. What the judge itself raises goes through.
    """
    records = list(records)
    if not all(isinstance(record, Mapping) for record in records):
        return {}  # the evaluator dies on it in every task
    of_task = {task: [records[row] for row in task_rows(task, records)] for task in TASKS}
    result: dict[str, float] = {}
    for task, column in (
        ("tal", _tag),
        ("stg", _stg),
        ("dvc", _dvc),
        ("cvs_assessment", _cvs),
        ("skill_assessment", _skill),
    ):
        if of_task[task]:
            result |= _unless_lost(lambda column=column, task=task: column(of_task[task])) or {}
    # A record may lose its task in the reading; encoder and judge are asked outside, where a failure goes through.
    if of_task["next_action"] and (read := _unless_lost(lambda: _read_actions(of_task["next_action"]))):
        right, asked, golds = read
        labels = actions.nearest(asked, encoder)
        right += [int(label == gold) for (label, _), gold in zip(labels, golds, strict=True)]
        result["nap_acc"] = _mean(right)
    if judge is None:
        return result
    panel = Panel(judge)
    groups = _unless_lost(lambda: _event_pairs(of_task["dvc"]))
    if groups:
        result |= _dvc_captions(groups, panel)
    for task, column in (("video_summary", "vs_llm"), ("region_caption", "rc_llm")):
        texts = _unless_lost(lambda task=task: [caption_texts(record) for record in of_task[task]])
        result |= _captions(column, [pair for pair in texts or [] if pair is not None], panel)
    return result


def task_rows(task: str, records: Sequence[Any]) -> list[int]:
    """Which records the evaluator counts to a task, as positions; none where no record makes it run the task."""
    kinds = [record.get("qa_type") if isinstance(record, Mapping) else None for record in records]
    typed = [(row, kind) for row, kind in enumerate(kinds) if isinstance(kind, str)]
    if not any(starts_task(task, kind) for _, kind in typed):
        return []
    return [row for row, kind in typed if is_task(task, kind)]


def _event_pairs(records: list[Record]) -> dict[Any, list[dict[str, list[list[Any]]] | None]]:
    rows = [events.caption_pairs(record, events.score_times(record)["pred_segments"]) for record in records]
    return _by_dataset("dvc", records, rows)


def _unless_lost(compute: Callable[[], Any]) -> Any:
    """What a task comes to, None if a record breaks it."""
    try:
        return compute()
    except Exception:
        return None
