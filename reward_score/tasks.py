# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The eight tasks, one row each: how an answer is read, what is measured, and how measures combine.

A ninth task is a row in `TASKS`: a parser, a function that reads its reference, one that measures, and weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any

from . import answers
from .answers import Event, Parsed
from .boxes import Box, to_canvas
from .captions import CaptionPairs, event_pairs, text_pair
from .errors import BadGroundTruth, UnknownTask
from .ordinal import closeness, exact_share
from .spatial import stg_iou
from .temporal import DEFAULT_INTERVAL, tal_iou, temporal_f1
from .vocabularies import same_label

PREFIX = "medvidbench"
CAPTION_SIGNALS = ("similarity", "judge")
"""Signals measured on the pairs of texts that `Task.pairs` names."""


@dataclass(frozen=True)
class Context:
    """What a measurement may know beside the answer: the source, and the sample's ``extra_info``."""

    source: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def interval(self) -> float:
        """Seconds between sampled frames, `DEFAULT_INTERVAL` where the sample does not say."""
        value = self.extra.get("sample_interval")
        return DEFAULT_INTERVAL if value is None else float(value)

    def to_canvas(self, boxes: Mapping[float, Box]) -> Mapping[float, Box]:
        """Boxes of an answer in canvas pixels; without a model family they are on the canvas already."""
        family = self.extra.get("model_family")
        if family is None:
            return boxes
        canvas, size = self.extra.get("canvas"), self.extra.get("processed_size")
        if canvas is None or size is None:
            raise BadGroundTruth("extra_info: expected canvas and processed_size beside model_family")
        return {time: to_canvas(box, canvas, size, family) for time, box in boxes.items()}


def _no_signals(value: Any, gold: Any, context: Context) -> dict[str, float]:
    return {}


def _no_pairs(value: Any, gold: Any, context: Context) -> CaptionPairs:
    return CaptionPairs((), 0)


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: short name, the last part of ``data_source``.
        parse: answer text to `Parsed`.
        gold: decoded ``ground_truth`` object to the reference that the functions below take.
        weights: every raw signal and its weight in the reward; they sum to 1.
        acc: signals and their weights in the strict metric.
        measure: (value, reference, context) to the raw signals that need no text comparison, each 0..1.
        pairs: (value, reference, context) to the texts to compare, for tasks with `CAPTION_SIGNALS`.
    """

    name: str
    parse: Callable[[Any], Parsed]
    gold: Callable[[Mapping[str, Any]], Any]
    weights: Mapping[str, float]
    acc: Mapping[str, float]
    measure: Callable[[Any, Any, Context], dict[str, float]] = _no_signals
    pairs: Callable[[Any, Any, Context], CaptionPairs] = _no_pairs


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise BadGroundTruth(f"ground_truth: {name}: expected a finite number, got {value!r}")
    return float(value)


def _items(ground_truth: Mapping[str, Any], key: str, kind: type) -> Any:
    value = ground_truth.get(key)
    if not isinstance(value, kind) or not value:
        raise BadGroundTruth(f"ground_truth: {key}: expected a non-empty {kind.__name__}, got {value!r}")
    return value


def _gold_spans(ground_truth: Mapping[str, Any]) -> list[answers.Span]:
    spans = []
    for span in _items(ground_truth, "spans", list):
        if not isinstance(span, list) or len(span) != 2:
            raise BadGroundTruth(f"ground_truth: spans: expected [start, end], got {span!r}")
        spans.append((_number(span[0], "spans"), _number(span[1], "spans")))
    return spans


def _gold_boxes(ground_truth: Mapping[str, Any]) -> tuple[dict[float, Box], float | None]:
    boxes: dict[float, Box] = {}
    for key, box in _items(ground_truth, "boxes", dict).items():
        try:
            time = _number(float(key), "boxes")
        except ValueError:
            raise BadGroundTruth(f"ground_truth: boxes: expected seconds, got {key!r}") from None
        if not isinstance(box, list) or len(box) != 4:
            raise BadGroundTruth(f"ground_truth: boxes: {key}: expected four numbers, got {box!r}")
        x1, y1, x2, y2 = (_number(value, f"boxes: {key}") for value in box)
        boxes[time] = (x1, y1, x2, y2)
    stride = ground_truth.get("stride")
    return boxes, None if stride is None else _number(stride, "stride")


def _gold_events(ground_truth: Mapping[str, Any]) -> list[Event]:
    events = []
    for event in _items(ground_truth, "events", list):
        if not isinstance(event, dict) or not isinstance(event.get("caption"), str):
            raise BadGroundTruth(f"ground_truth: events: expected start, end and caption, got {event!r}")
        events.append(Event(_number(event.get("start"), "start"), _number(event.get("end"), "end"), event["caption"]))
    return events


def _gold_text(key: str) -> Callable[[Mapping[str, Any]], str]:
    def gold(ground_truth: Mapping[str, Any]) -> str:
        text = _items(ground_truth, key, str)
        if not text.strip():
            raise BadGroundTruth(f"ground_truth: {key}: expected text, got a blank")
        return text

    return gold


def _gold_scores(low: int, high: int) -> Callable[[Mapping[str, Any]], dict[str, int]]:
    def gold(ground_truth: Mapping[str, Any]) -> dict[str, int]:
        scores = _items(ground_truth, "scores", dict)
        for name, score in scores.items():
            if isinstance(score, bool) or not isinstance(score, int) or not low <= score <= high:
                raise BadGroundTruth(f"ground_truth: scores: {name}: expected {low} to {high}, got {score!r}")
        return scores

    return gold


def _measure_tal(value: list[answers.Span], gold: list[answers.Span], context: Context) -> dict[str, float]:
    return {"iou": tal_iou(value, gold, context.interval)}


def _measure_stg(value: Mapping[float, Box], gold: Any, context: Context) -> dict[str, float]:
    boxes, stride = gold
    return {"iou": stg_iou(context.to_canvas(value), boxes, stride)}


def _measure_dvc(value: list[Event], gold: list[Event], context: Context) -> dict[str, float]:
    return {"temporal_f1": temporal_f1(value, gold, context.interval)}


def _measure_nap(value: str, gold: str, context: Context) -> dict[str, float]:
    return {"exact": float(same_label(value, gold, context.source))}


def _measure_scores(low: int, high: int) -> Callable[[Any, Any, Context], dict[str, float]]:
    def measure(value: Mapping[str, int], gold: Mapping[str, int], context: Context) -> dict[str, float]:
        return {"exact": exact_share(value, gold), "closeness": closeness(value, gold, high - low)}

    return measure


def _dvc_pairs(value: list[Event], gold: list[Event], context: Context) -> CaptionPairs:
    return event_pairs(value, gold, context.interval)


def _text_pairs(value: str, gold: str, context: Context) -> CaptionPairs:
    return text_pair(value, gold)


_IOU = {"iou": 1.0}
_EXACT = {"exact": 1.0}
_ORDINAL = {"exact": 0.5, "closeness": 0.5}
_CAPTION = {"similarity": 0.5, "judge": 0.5}
_DENSE = {"temporal_f1": 0.5, "similarity": 0.25, "judge": 0.25}
_F1 = {"temporal_f1": 1.0}
_CVS, _SA = answers.CVS_RANGE, answers.SA_RANGE

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("tal", answers.parse_tal, _gold_spans, _IOU, _IOU, _measure_tal),
        Task("stg", answers.parse_stg, _gold_boxes, _IOU, _IOU, _measure_stg),
        Task("dvc", answers.parse_dvc, _gold_events, _DENSE, _F1, _measure_dvc, _dvc_pairs),
        Task("nap", answers.parse_nap, _gold_text("label"), _EXACT, _EXACT, _measure_nap),
        Task("vs", answers.parse_caption, _gold_text("text"), _CAPTION, _CAPTION, pairs=_text_pairs),
        Task("rc", answers.parse_caption, _gold_text("text"), _CAPTION, _CAPTION, pairs=_text_pairs),
        Task("sa", answers.parse_sa, _gold_scores(*_SA), _ORDINAL, _EXACT, _measure_scores(*_SA)),
        Task("cvs", answers.parse_cvs, _gold_scores(*_CVS), _ORDINAL, _EXACT, _measure_scores(*_CVS)),
    )
}
"""The table. Names as in ``data_source``."""


def find_task(data_source: str) -> tuple[Task, str]:
    """Task and source of ``medvidbench/<source>/<task>``; UnknownTask for anything else."""
    return _find_task(data_source if isinstance(data_source, str) else repr(data_source))


@lru_cache(maxsize=256)
def _find_task(data_source: str) -> tuple[Task, str]:
    parts = data_source.split("/")
    if len(parts) != 3 or parts[0] != PREFIX or not parts[1] or parts[2] not in TASKS:
        raise UnknownTask(f"data_source {data_source!r}: expected {PREFIX}/<source>/<{'|'.join(TASKS)}>")
    return TASKS[parts[2]], parts[1]


@lru_cache(maxsize=4096)
def read_gold(task_name: str, ground_truth: str) -> Any:
    """The reference of a task from its JSON string. Cached: all rollouts of a prompt share one; do not change it.

    Raises:
        BadGroundTruth: not JSON, empty, or a field missing or out of range.
    """
    try:
        content = json.loads(ground_truth)
    except (TypeError, ValueError) as error:
        raise BadGroundTruth(f"ground_truth: expected a JSON object: {error}") from error
    if not isinstance(content, dict):
        raise BadGroundTruth(f"ground_truth: expected a JSON object, got {type(content).__name__}")
    return TASKS[task_name].gold(content)
