# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A complete file of answers, one to each row of a test file, as a submission needs it: nothing is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.medgrpo.answers.formats import SPACES, answer_key, decoded, own_rollouts, space_of
from recipes.medgrpo.answers.matching import ANOTHER_ROW, MERGED_HINT, match
from recipes.medgrpo.answers.questions import CLAIMS, Frame, InputError, Row, problem


@dataclass(frozen=True)
class Answer:
    """What a model said to a row.

    `truncated` tells whether the token budget cut the text off (None: not known), `space` what its boxes are in, one of
    `SPACES`, `placed` that nothing but the answer's place in its file ties it to the row, and `frame` the sizes and
    family that bring boxes of the model's space back, where the record has them.
    """

    text: str
    truncated: bool | None
    space: str
    placed: bool
    frame: Frame | None = None


def read_results(
    path: Path, rows: Sequence[Row], *, sample: int | None = None, merged_parts: int = 1, box_space: str | None = None
) -> list[Answer]:
    """One answer for each row, in the rows' order.

    Args:
        path: results in one of the forms that `recipes.medgrpo.submission` names.
        rows: what `read_test` returns.
        sample, merged_parts: see `match`.
        box_space: one of `SPACES`, for records that do not say it; None is the default of the form.

    Raises:
        InputError: a row without an answer or with two, an answer without a row, or an answer to another row.
    """
    content = decoded(path)
    matched = match(path, content, rows, sample=sample, merged_parts=merged_parts)
    if not matched.in_place:
        raise problem(path, None, "", "records in the order of the rows", f"another{MERGED_HINT}")
    if matched.dropped:
        first, more = matched.dropped[0], len(matched.dropped) - 1
        where = "" if first.index is None else f": row {first.index}"
        hint = "" if own_rollouts(content) or merged_parts > 1 or ANOTHER_ROW not in first.what else MERGED_HINT
        raise InputError(f"{path}{where}: {first.what}{hint}" + (f" (and {more} more)" if more > 0 else ""))
    if missing := [row.index for position, row in enumerate(rows) if position not in matched.records]:
        raise problem(path, missing[0], "answer", f"one for each of {len(rows)} rows", "none", len(missing) - 1)
    usual = box_space or ("model" if own_rollouts(content) else "canvas")
    return [_answer(path, row, matched.records[at], usual, box_space) for at, row in enumerate(rows)]


def _answer(path: Path, row: Row, record: dict, usual: str, stated: str | None) -> Answer:
    if (key := answer_key(record)) is None:
        raise problem(path, row.index, "answer", "an answer", f"only {', '.join(map(str, record))}")
    try:
        space, frame = space_of(record, usual)
    except ValueError:
        space, frame = "", None
    if not space or (stated and space != stated):
        raise problem(path, row.index, "box_space", stated or " or ".join(SPACES), record["box_space"])
    if frame and row.space and frame != (*map(tuple, row.space[:2]), row.space[2]):
        raise problem(path, row.index, "box_space", f"what the test file says, {row.space}", frame)
    if not isinstance(record[key], str):
        raise problem(path, row.index, key, "text (the server would lose the whole task)", record[key])
    truncated = record.get("truncated")
    placed = not CLAIMS & record.keys()
    return Answer(record[key], truncated if isinstance(truncated, bool) else None, space, placed, frame)
