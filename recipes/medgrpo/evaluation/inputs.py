# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Answers beside what is right for them, from every form that results come in.

Results are one of:

    our rollouts     JSON lines of `generate` and `evaluate`
    released output  a dict by row number, from the paper's inference code
    submission       the list that goes to the leaderboard, or any list of answers in the order of the rows
    merged           a list or dict of records that carry their reference (`gnd`, `struc_info`) themselves

and the ground truth is the annotation file with answers or the preprocessor's parquet; merged records need none.
`truths` reads the ground truth, and `answers.matching` finds the record that answers each of its rows.

One bad record costs itself: what is left out is named, row by row. Answers stay as they were found, be they text or
not; only the boxes of stg answers are brought to pixels of the annotation canvas, where a record says that they are in
a model's space.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.annotations import TASKS
from data_preprocess.wording import short
from recipes.medgrpo.answers.box_text import boxes_on_canvas
from recipes.medgrpo.answers.formats import answer_key, decoded, own_rollouts, space_of
from recipes.medgrpo.answers.matching import Dropped, Matched, match, numbered_records
from recipes.medgrpo.answers.questions import problem
from recipes.medgrpo.evaluation.truths import (
    PARQUET_CAPTIONS,
    Truth,
    Truths,
    inexact_answer,
    merged_truth,
    read_truths,
)

__all__ = ["Dropped", "Graded", "Inputs", "read_graded"]


@dataclass(frozen=True)
class Graded:
    """An answer and what is right for it.

    `index` is the row's number in the ground truth's `file`, `data_source` is `medvidbench/<source>/<task>`, `video`
    is `<source>/<video id>`, by which a bootstrap draws. `answer` is as found, whatever its type; boxes of an stg
    answer are canvas pixels. `record` is the official merged record, for `reward_score.leaderboard`. `ground_truth`
    and `extra` are for the strict scorer; None: it cannot score this row.
    """

    index: int
    file: str
    data_source: str
    video: str
    answer: Any
    record: dict[str, Any]
    ground_truth: str | None
    extra: dict[str, Any]


@dataclass
class Inputs:
    """What is evaluated, in the order of the ground truth; what is not, and why; notes of a line each.

    `inexact` names leaderboard columns that these records cannot give as the official evaluator would, with the reason.
    `unanswered` holds (file, index) of the rows in `graded` that the results do not answer: their answer is empty.
    """

    graded: list[Graded] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inexact: dict[str, str] = field(default_factory=dict)
    unanswered: set[tuple[str, int]] = field(default_factory=set)


def read_graded(
    results: Path,
    ground_truth: Path | None,
    *,
    sample: int | None = None,
    merged_parts: int = 1,
    box_space: str | None = None,
    tasks: Collection[str] | None = None,
    strict: bool = False,
) -> Inputs:
    """The answers of a results file, each with its ground truth.

    A row without an answer is left out for the leaderboard's columns, whose evaluator takes no incomplete file, and
    has an empty answer for the strict ones. Rows that a mode cannot score are left out of that mode alone.

    Args:
        results: answers in one of the forms that the module names.
        ground_truth: annotations with answers, or the preprocessor's parquet; None for merged records.
        sample: of our rollouts: which of several samples of a row; None is the one with the lowest number.
        merged_parts: of released output: how many GPUs' parts it was merged from.
        box_space: "model" or "canvas", of the boxes of records that do not say it; None is "model" for our rollouts
            and "canvas" for all else.
        tasks: only rows of these; None is all.
        strict: for the strict scores instead of the leaderboard's columns.

    Raises:
        InputError: a file that cannot be read, ground truth of other rows, an order that is lost, boxes that
            cannot be brought to the canvas; one line.
    """
    results = Path(results)
    if odd := sorted(set(tasks or ()) - set(TASKS)):
        raise problem(results, None, "tasks", f"some of {', '.join(TASKS)}", ", ".join(odd))
    content = decoded(results)
    inputs = Inputs()
    if ground_truth is None:
        truths, matched = _merged(results, content, sample, merged_parts)
        rebuilt = False
        if isinstance(content, list):
            lost = "merged records as a list: the official evaluator takes a dict and would lose every column"
            inputs.notes.append(lost)
    else:
        found = read_truths(Path(ground_truth))
        truths, rebuilt = found.rows, found.parquet and not strict
        matched = _paired(results, content, found, sample, merged_parts)
        if rebuilt:
            inputs.notes.append(_REBUILT)
            inputs.inexact |= {"dvc_llm": PARQUET_CAPTIONS} if any(truth.row.task == "dvc" for truth in truths) else {}
    inputs.notes += matched.notes
    others = {truth.row.index for truth in truths if tasks is not None and truth.row.task not in tasks}
    inputs.dropped += [drop for drop in matched.dropped if drop.index not in others]
    usual = box_space or ("model" if own_rollouts(content) else "canvas")
    missing: list[int] = []
    spaceless: list[_BadSpace] = []
    named = {drop.index for drop in inputs.dropped}
    for position, truth in enumerate(truths):
        row = truth.row
        if tasks is not None and row.task not in tasks:
            continue
        if strict and truth.ground_truth is None:
            inputs.dropped.append(Dropped(row.index, truth.unscored or "no ground truth"))
            continue
        record = matched.records.get(position)
        key = None if record is None else answer_key(record)
        if record is not None and key is None:
            inputs.dropped.append(Dropped(row.index, f"no answer in the record, only {short(', '.join(record))}"))
            named.add(row.index)
        if record is None or key is None:
            missing.append(row.index)
            if strict:
                inputs.graded.append(_graded(truth, ""))
                inputs.unanswered.add((row.file, row.index))
            elif row.index not in named:
                inputs.dropped.append(Dropped(row.index, "no answer in the results"))
            continue
        try:
            answer = _on_canvas(results, truth, record, record[key], usual, box_space)
        except _BadSpace as error:
            inputs.dropped.append(Dropped(row.index, str(error)))
            spaceless.append(error)
            continue
        if rebuilt and (reason := inexact_answer(truth, answer)):
            inputs.dropped.append(Dropped(row.index, reason))
            continue
        inputs.graded.append(_graded(truth, answer))
    if spaceless and not any(row.record["qa_type"] == "stg" and row.answer for row in inputs.graded):
        raise problem(results, None, "box_space", "boxes in canvas pixels", spaceless[0], len(spaceless) - 1)
    if not inputs.graded:
        first = inputs.dropped[0] if inputs.dropped else Dropped(None, "none")
        raise problem(results, first.index, "", "an answer to evaluate", first.what, len(inputs.dropped) - 1)
    inputs.dropped.sort(key=lambda drop: (drop.index is None, drop.index or 0))
    inputs.notes += _missing_notes(missing, strict, bool(ground_truth))
    inputs.notes += _odd_answers(inputs.graded)
    return inputs


def _graded(truth: Truth, answer: Any) -> Graded:
    row, record = truth.row, {**truth.record, "answer": answer}
    return Graded(row.index, row.file, truth.data_source, truth.video, answer, record, truth.ground_truth, truth.extra)


def _paired(path: Path, content: Any, truths: Truths, sample: int | None, merged_parts: int) -> Matched:
    """The answers to the rows of a ground truth; of rows that it cannot use only that is said."""
    rows = [truth.row for truth in truths.rows]
    matched = match(path, content, rows, total=truths.total, sample=sample, merged_parts=merged_parts)
    unusable = {index for index, _ in truths.unusable}
    matched.dropped = [drop for drop in matched.dropped if drop.index not in unusable]
    matched.dropped += [Dropped(index, reason) for index, reason in truths.unusable]
    if any("gnd" in record for record in matched.records.values()):
        matched.notes.append("the results carry a reference of their own; the ground truth's is used")
    return matched


def _merged(path: Path, content: Any, sample: int | None, merged_parts: int) -> tuple[list[Truth], Matched]:
    """Merged records as ground truth and results in one."""
    matched = Matched()
    if own_rollouts(content):
        raise problem(path, None, "", "a ground truth for our rollouts, which carry no reference", "none")
    if sample is not None:
        raise problem(path, None, "sample", "our rollouts, which number their samples", "merged records")
    if merged_parts > 1:
        raise problem(path, None, "", "a ground truth, in whose order merged parts can be put again", "none")
    records, matched.dropped = numbered_records(path, content)
    truths: list[Truth] = []
    for index, record in records.items():
        truth = merged_truth(record, path.name, index)
        if isinstance(truth, Truth):
            matched.records[len(truths)] = record
            truths.append(truth)
        else:
            matched.dropped.append(Dropped(index, truth))
    if not truths:
        expected = "records with gnd and struc_info, or a ground truth beside them"
        raise problem(path, matched.dropped[0].index, "", expected, matched.dropped[0].what, len(matched.dropped) - 1)
    if not any(truth.record["gnd"] or truth.record.get("struc_info") for truth in truths):
        # The released code writes these keys for the test rows too, and nothing into them.
        raise problem(path, truths[0].row.index, "gnd", "a reference, or a ground truth beside the results", "none")
    return truths, matched


_SURROGATE = re.compile("[\ud800-\udfff]")
_REBUILT = (
    "the leaderboard's records are rebuilt from a parquet: rows that the preprocessor left out are not there, and "
    "oddities of struc_info (a lone object, numbers as text, a source spelled two ways) are evened out"
)


class _BadSpace(ValueError):
    """A record whose boxes' space cannot be told."""


def _on_canvas(path: Path, truth: Truth, record: dict, answer: Any, usual: str, stated: str | None) -> Any:
    """An answer, its boxes in pixels of the annotation canvas."""
    if truth.row.task != "stg" or not isinstance(answer, str):
        return answer
    try:
        space, frame = space_of(record, usual)
    except ValueError as error:
        raise _BadSpace(str(error)) from None
    if stated and space != stated:
        raise problem(path, truth.row.index, "box_space", stated, space)
    if space == "canvas":
        return answer
    frame = frame or truth.row.space
    if frame is None:
        raise _BadSpace("boxes in a model's space that the record does not describe; give the parquet as ground truth")
    return boxes_on_canvas(answer, frame)[0]


def _missing_notes(missing: list[int], strict: bool, paired: bool) -> list[str]:
    if not missing:
        return []
    counted = f"rows without an answer: {len(missing)}, the first is row {missing[0]}; "
    if strict:
        return [counted + "each counts as an empty answer, which is wrong"]
    official = "; the official evaluator refuses a file that is not as long as the ground truth" if paired else ""
    return [f"{counted}they are left out of the columns{official}"]


def _odd_answers(graded: Sequence[Graded]) -> list[str]:
    """A line for each kind of answer that is no plain text."""
    lines = []
    if odd := [row for row in graded if not isinstance(row.answer, str)]:
        kinds = Counter("null" if row.answer is None else type(row.answer).__name__ for row in odd)
        counted = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
        lines.append(f"answers that are no text: {len(odd)} ({counted}), the first to row {odd[0].index}")
    if odd := [row for row in graded if isinstance(row.answer, str) and _SURROGATE.search(row.answer)]:
        what = "half a surrogate pair or bytes that are no UTF-8"
        lines.append(f"answers that hold {what}: {len(odd)}, the first to row {odd[0].index}")
    return lines
