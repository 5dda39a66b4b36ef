# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What an answer and a reference say, as a page can draw it: spans, boxes, events, a label, a text or scores.

Times are clip seconds, boxes pixels of the annotation canvas. Answers are read by the reward's own grammars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reward_score.errors import BadGroundTruth, RewardError
from reward_score.tasks import Context, find_task, read_gold

Said = dict[str, Any]


def _boxes(boxes: Mapping[float, Any]) -> Said:
    return {"boxes": [{"time": time, "box": list(box)} for time, box in sorted(boxes.items())]}


def _plain(value: Any) -> Said:
    """A text, or numbers by name."""
    return {"scores": dict(value)} if isinstance(value, Mapping) else {"text": str(value)}


DRAWN: dict[str, Callable[[Any], Said]] = {
    "tal": lambda spans: {"spans": [list(span) for span in spans]},
    "stg": _boxes,
    "dvc": lambda events: {"events": [vars(event) for event in events]},
    "nap": lambda label: {"label": label},
}
"""By task: what its value looks like, where it is neither a text nor numbers by name."""


def _drawn(task: str, value: Any) -> Said:
    return DRAWN.get(task, _plain)(value)


def answered(data_source: str, text: str, extra: Mapping[str, Any] | None) -> tuple[Said, str | None]:
    """What an answer says, and a line about what is wrong with its form, None where nothing is.

    Args:
        data_source: ``medvidbench/<source>/<task>``.
        text: the answer.
        extra: of the row, as the reward takes it; None: the row is not known, and boxes stay in the answer's space.
    """
    task, source = find_task(data_source)
    parsed = task.parse(text)
    if parsed.format == 0:
        return {}, f"no answer to {task.name} can be read in this text"
    value = parsed.value
    if task.name == "stg" and extra is not None:
        try:
            value = Context(source, extra).to_canvas(value)
        except BadGroundTruth as error:
            return {}, str(error)
    deviates = f"it can be read, but deviates from the grammar of {task.name}"
    return _drawn(task.name, value), None if parsed.format == 1 else deviates


def reference(data_source: str, ground_truth: str) -> Said:
    """What a row's reference says; nothing where it cannot be read."""
    task, _ = find_task(data_source)
    try:
        gold = read_gold(task.name, ground_truth)
    except RewardError:
        return {}
    return _drawn(task.name, gold[0] if task.name == "stg" else gold)
