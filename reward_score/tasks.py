# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The tasks, one row each: how an answer is read, what is measured, and how measures combine.

Eight are published; `qa`, answers to questions about a lecture, is ours. Another task is a row in `TASKS`: a parser, a
function that reads its reference, one that measures, and weights. Those of the rows here stand in `answers` and
`references`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from numbers import Real
from typing import Any

from . import answers, references
from .answers import Event, Parsed
from .boxes import Box, to_canvas, to_model
from .captions import CaptionPairs, event_pairs, text_pair
from .errors import BadGroundTruth, UnknownTask
from .ordinal import closeness, exact_share
from .spatial import stg_iou
from .temporal import DEFAULT_INTERVAL, tal_iou, tal_wasserstein, temporal_f1
from .vocabularies import same_label

PREFIX = "medvidbench"
CAPTION_SIGNALS = ("similarity", "judge")
"""Signals measured on the pairs of texts that `Task.pairs` names."""
WASSERSTEIN = "wasserstein"
"""The signal of temporal grounding that is measured only with the setting `tal_wasserstein`."""


@dataclass(frozen=True)
class Context:
    """What a measurement may know beside the answer: the source, the sample's ``extra_info``, the signals asked for.

    `signals` is None where all are; what is not asked for need not be measured.
    """

    source: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    signals: Collection[str] | None = None

    @property
    def interval(self) -> float:
        """Seconds between sampled frames, `DEFAULT_INTERVAL` where the sample does not say."""
        value = self.extra.get("sample_interval")
        if value is None:
            return DEFAULT_INTERVAL
        if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value) or value <= 0:
            raise BadGroundTruth(f"extra_info: sample_interval: expected a positive number of seconds, got {value!r}")
        return float(value)

    def to_canvas(self, boxes: Mapping[float, Box]) -> Mapping[float, Box]:
        """Boxes of an answer in canvas pixels; without a model family they are on the canvas already."""
        return self._moved(boxes, to_canvas)

    def to_model(self, boxes: Mapping[float, Box]) -> Mapping[float, Box]:
        """Boxes of the canvas in the space that answers are in."""
        return self._moved(boxes, to_model)

    def _moved(self, boxes: Mapping[float, Box], move: Callable[..., Box]) -> Mapping[float, Box]:
        family = self.extra.get("model_family")
        if family is None:
            return boxes
        canvas, size = self.extra.get("canvas"), self.extra.get("processed_size")
        if canvas is None or size is None:
            raise BadGroundTruth("extra_info: expected canvas and processed_size beside model_family")
        try:
            return {time: move(box, canvas, size, family) for time, box in boxes.items()}
        except (TypeError, ValueError, IndexError) as error:
            raise BadGroundTruth(f"extra_info: canvas and processed_size: {error}") from error


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

    @property
    def text_alone(self) -> bool:
        """Whether an answer is one text, which the strict metric compares with the reference's and nothing else."""
        return set(self.acc) <= set(CAPTION_SIGNALS)


def _measure_tal(value: list[answers.Span], gold: list[answers.Span], context: Context) -> dict[str, float]:
    found = {"iou": tal_iou(value, gold, context.interval)}
    if context.signals is None or WASSERSTEIN in context.signals:
        found[WASSERSTEIN] = tal_wasserstein(value, gold, context.interval)
    return found


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
_SPANS = {"iou": 0.5, WASSERSTEIN: 0.5}
_EXACT = {"exact": 1.0}
_ORDINAL = {"exact": 0.5, "closeness": 0.5}
_CAPTION = {"similarity": 0.5, "judge": 0.5}
_DENSE = {"temporal_f1": 0.5, "similarity": 0.25, "judge": 0.25}
_F1 = {"temporal_f1": 1.0}
_CVS, _SA = answers.CVS_RANGE, answers.SA_RANGE

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("tal", answers.parse_tal, references.spans, _SPANS, _IOU, _measure_tal),
        Task("stg", answers.parse_stg, references.boxes, _IOU, _IOU, _measure_stg),
        Task("dvc", answers.parse_dvc, references.events, _DENSE, _F1, _measure_dvc, _dvc_pairs),
        Task("nap", answers.parse_nap, references.label, _EXACT, _EXACT, _measure_nap),
        Task("vs", answers.parse_caption, references.text, _CAPTION, _CAPTION, pairs=_text_pairs),
        Task("rc", answers.parse_caption, references.text, _CAPTION, _CAPTION, pairs=_text_pairs),
        Task("sa", answers.parse_sa, references.skill_scores, _ORDINAL, _EXACT, _measure_scores(*_SA)),
        Task("cvs", answers.parse_cvs, references.cvs_scores, _ORDINAL, _EXACT, _measure_scores(*_CVS)),
        Task("qa", answers.parse_caption, references.text, _CAPTION, _CAPTION, pairs=_text_pairs),
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
        BadGroundTruth: not JSON, empty, a field missing or out of range, or a reference that no answer can satisfy.
    """
    try:
        content = json.loads(ground_truth)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadGroundTruth(f"ground_truth: expected a JSON object: {error}") from error
    return check_reference(task_name, content)


def check_reference(task_name: str, ground_truth: Any) -> Any:
    """The reference of a task, read from its decoded ``ground_truth``, after a check that an answer can satisfy it.

    Raises:
        BadGroundTruth: the message begins with the field: ``ground_truth: spans: ...``. Beside missing fields and
            values out of range: a span or event that ends before it starts or starts before 0, a box without area
            or with exchanged corners, an unknown component, a label or caption that the answer's grammar cannot say.
    """
    if not isinstance(ground_truth, Mapping):
        raise BadGroundTruth(f"ground_truth: expected a JSON object, got {type(ground_truth).__name__}")
    return TASKS[task_name].gold(ground_truth)


def check_target(data_source: str, target: str, ground_truth: Any, extra_info: Any = None) -> None:
    """Check that the answer which a row is trained on is read back whole, as the ground truth of that row.

    Times may differ by what an answer's one decimal loses, boxes by what whole numbers of the model's space lose.

    Args:
        data_source: ``medvidbench/<source>/<task>``.
        target: the answer to learn, in the space of the model.
        ground_truth: the decoded reference, as `check_reference` takes it.
        extra_info: of the sample, as `medgrpo.compute_score` takes it.

    Raises:
        BadGroundTruth: the reference fails `check_reference`, or the message begins with ``target:``.
        UnknownTask: of the data source.
    """
    task, source = find_task(data_source)
    gold = check_reference(task.name, ground_truth)
    parsed = task.parse(target)
    if parsed.format != 1:
        raise BadGroundTruth(f"target: expected the grammar of {task.name} and nothing else, got {target[:200]!r}")
    context = Context(source, extra_info if isinstance(extra_info, Mapping) else {})
    said = parsed.value
    if task.name == "stg":
        gold = context.to_model(gold[0])
    if not references.SAME.get(task.name, references.same_value)(said, gold, source):
        raise BadGroundTruth(f"target: expected what the ground truth says, got {target[:200]!r}")
