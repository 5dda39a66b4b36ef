# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Records to the evaluator's numbers, one by one, and the judge of captions.

``score_record`` raises `LeaderboardError` for a record that the evaluator cannot read. A failure of the encoder or of
the judge is not the record's fault: it goes through as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from ..errors import RewardError
from . import actions, assessments, events, spans, tubes
from .records import Record, is_task, starts_task

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
        classes = actions.classes_of(question, chain([question], _readable_actions(peers)))
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


def _readable_actions(records: Iterable[Record]) -> Iterator[actions.Question]:
    for record in records:
        try:
            if is_task("next_action", record["qa_type"]):
                yield actions.restructure(record)
        except Exception:  # a peer that breaks the evaluator is its own record's error
            continue


def asked_once(judge: Judge) -> Judge:
    """The judge, asked once for each distinct pair, its numbers checked but, as officially, not clamped to 1..5."""
    known: dict[tuple[str, str], Mapping[str, float] | None] = {}

    def ask(prediction: Any, reference: Any) -> Mapping[str, float] | None:
        key = (repr(prediction), repr(reference))
        if key not in known:
            scores = judge(prediction, reference)
            if scores is not None:
                try:
                    scores = {aspect: float(scores[aspect]) for aspect in ASPECTS}
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"judge: expected a number for each of {ASPECTS}, got {scores!r:.200}") from error
                if not all(map(math.isfinite, scores.values())):
                    raise ValueError(f"judge: expected finite numbers, got {scores!r:.200}")
            known[key] = scores
        return known[key]

    return ask


def task_records(task: str, records: Sequence[Any]) -> dict[int, Record]:
    """The records that the evaluator counts to a task, by position; none where no record makes it run the task."""
    typed = {
        row: record
        for row, record in enumerate(records)
        if isinstance(record, Mapping) and isinstance(record.get("qa_type"), str)
    }
    if not any(starts_task(task, record["qa_type"]) for record in typed.values()):
        return {}
    return {row: record for row, record in typed.items() if is_task(task, record["qa_type"])}
