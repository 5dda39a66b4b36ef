# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which record of a results file answers which row.

Our rollouts name their row by file and number. All other forms count on their place: a record at the place of a row
answers that row, unless it says something else (`stray`); then it is left out. Where most records are not at the place
of their row, or a list has more or fewer records than there are rows, each has to name one row by what it says (video,
clip, question), and no two the same. A file in which one does not is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.wording import short
from recipes.medgrpo.answers.formats import own_rollouts
from recipes.medgrpo.answers.questions import CLAIMS, Row, folded_question, problem, stray

ROW_NUMBER = re.compile("0|[1-9][0-9]{0,9}")
"""What a key of results by row looks like, whole."""


@dataclass(frozen=True)
class Dropped:
    """A row (by its number in the ground truth, where that is known) or a record that is not evaluated, and why."""

    index: int | None
    what: str


@dataclass
class Matched:
    """Records by the position of the row that they answer, what was left out, and what is worth knowing.

    `in_place` says that every record stood where its row's answer belongs, or named its row by number.
    """

    records: dict[int, dict] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_place: bool = True


def match(
    path: Path,
    content: Any,
    rows: Sequence[Row],
    *,
    total: int | None = None,
    sample: int | None = None,
    merged_parts: int = 1,
) -> Matched:
    """The record that answers each row.

    Args:
        path: the results file, for errors.
        content: what is in it.
        rows: the rows of the ground truth, in file order.
        total: how many rows its file has, those that cannot be used among them; None is as many as `rows`.
        sample: of our rollouts: which of several samples of a row; None is the one with the lowest number.
        merged_parts: of released output: how many GPUs' parts it was merged from.

    Raises:
        InputError: a file of another shape or to other rows, or one whose order is lost.
    """
    matched = Matched()
    if own_rollouts(content):
        if merged_parts > 1:
            found = "our rollouts, which know their rows"
            raise problem(path, None, "", "released output, for parts that were merged", found)
        _by_name(path, content, rows, sample, matched)
        return matched
    if sample is not None:
        raise problem(path, None, "sample", "our rollouts, which number their samples", "answers without such numbers")
    if len(files := sorted({row.file for row in rows})) > 1:
        found = f"{path.name} without file names"
        raise problem(path, None, "", f"records that say which of {', '.join(files)} they answer", found)
    numbered, matched.dropped = numbered_records(path, content)
    if merged_parts > 1:
        numbered = unmerged(path, numbered, rows, merged_parts)
    _by_place(path, numbered, rows, len(content) if isinstance(content, list) else None, total or len(rows), matched)
    return matched


def numbered_records(path: Path, content: Any) -> tuple[dict[int, dict], list[Dropped]]:
    """The records of a list or of a dict by row number, and what among them is no record."""
    dropped: list[Dropped] = []
    if isinstance(content, list):
        items = dict(enumerate(content))
    elif isinstance(content, dict):
        items = {int(key): value for key, value in content.items() if ROW_NUMBER.fullmatch(key)}
        if content and not items:
            raise problem(path, None, "", "row numbers as keys", next(iter(content)))
        strange = [key for key in content if not ROW_NUMBER.fullmatch(key)]
        dropped = [Dropped(None, f"the results' key {short(key)} is no row number") for key in strange]
    else:
        raise problem(path, None, "", "a dict by row number, a list, or JSON lines", content)
    if not items:
        raise problem(path, None, "", "answers", "none")
    records = {index: item for index, item in sorted(items.items()) if isinstance(item, dict)}
    if not records:
        raise problem(path, next(iter(items)), "", "a record", next(iter(items.values())))
    odd = [(index, item) for index, item in items.items() if index not in records]
    return records, dropped + [Dropped(index, f"expected a record, found {short(item)}") for index, item in odd]


def _by_name(path: Path, content: list, rows: Sequence[Row], sample: int | None, matched: Matched) -> None:
    """Our rollouts by the file and the index that they give."""
    positions = {(row.file, row.index): position for position, row in enumerate(rows)}
    files = sorted({row.file for row in rows})
    drawn: dict[int, dict[int, dict]] = defaultdict(dict)
    for number, record in enumerate(content):
        if isinstance(record, dict) and "header" in record:
            continue
        index, draw = (record.get("index"), record.get("sample", 0)) if isinstance(record, dict) else (None, None)
        if type(index) is not int or type(draw) is not int:
            expected = "a whole number as index and as sample"
            matched.dropped.append(Dropped(None, f"record {number}: expected {expected}, found {short(record)}"))
            continue
        file = record.get("file") or (files[0] if len(files) == 1 else None)
        position = positions.get((str(file), index))
        if position is None and file in files:
            reason = f"answers a row that {file} does not have"
        elif position is None:
            reason = f"answers a row of {short(file)}, expected one of {', '.join(files)}"
        elif odd := stray(record, rows[position]):
            reason = _misfit(*odd)
        elif draw in drawn[position]:
            reason = f"a second answer with sample number {draw}"
        else:
            drawn[position][draw] = record
            continue
        matched.dropped.append(Dropped(index, reason))
    drawn = {position: draws for position, draws in drawn.items() if draws}
    if not drawn:
        _refuse(path, matched)
    numbers = sorted({draw for draws in drawn.values() for draw in draws})
    if sample is not None and sample not in numbers:
        raise problem(path, None, "sample", f"number {sample}", f"only {', '.join(map(str, numbers))}")
    for position, draws in drawn.items():
        chosen = min(draws) if sample is None else sample
        if chosen in draws:
            matched.records[position] = draws[chosen]
        else:
            matched.dropped.append(Dropped(rows[position].index, f"no sample number {chosen}"))
    several = sum(len(draws) > 1 for draws in drawn.values())
    if several and sample is None:
        matched.notes.append(f"rows with several samples: {several}; of each the one with the lowest number is taken")


ANOTHER_ROW = "the answer is to another row"
MERGED_HINT = "; output merged from several GPUs' parts is in another order: --merged-parts N"


def _misfit(key: str, expected: Any, found: Any) -> str:
    return f"{ANOTHER_ROW}: {key}: expected {short(expected)}, found {short(found)}"


def _refuse(path: Path, matched: Matched) -> None:
    """No record answers a row."""
    first = matched.dropped[0] if matched.dropped else None
    found = f"{short(first.what, 110)}: ground truth of another split?" if first else "none"
    wanted = "an answer to a row of the ground truth"
    raise problem(path, first.index if first else None, "", wanted, found, len(matched.dropped) - 1)


def _by_place(
    path: Path, records: dict[int, dict], rows: Sequence[Row], listed: int | None, total: int, matched: Matched
) -> None:
    """Records by number; `listed` is the length of the list that they come from, None for a dict."""
    places = {row.index: position for position, row in enumerate(rows)}
    silent = {number for number, record in records.items() if not CLAIMS & record.keys()}
    if listed not in (None, total) and len(silent) == len(records):
        found = f"{listed}, and nothing in them says which row each answers"
        raise problem(path, None, "", f"{total} records, one for each row of the ground truth", found)
    strays = {n: stray(record, rows[places[n]]) for n, record in records.items() if n in places}
    fitting = [number for number, odd in strays.items() if odd is None]
    # A shorter list has lost the places of its records, even where each fits by chance.
    shifted = listed is not None and (listed < total or (listed > total and len(strays) > len(fitting)))
    if 2 * len(fitting) <= len(strays) or shifted:
        if len(silent) == len(records):
            raise problem(path, min(silent), "", "answers to rows of the ground truth", "none of a row that it has")
        _by_ids(path, records, silent, rows, listed is not None, matched)
        return
    matched.records = {places[number]: records[number] for number in fitting}
    misfits = {number: _misfit(*odd) for number, odd in strays.items() if odd is not None}
    foreign = f"answers a row that {rows[0].file} does not have"
    matched.dropped += [Dropped(n, misfits.get(n, foreign)) for n in records if n in misfits or n not in strays]
    if silent:
        matched.notes.append(f"answers that nothing but their place ties to a row: {len(silent)}")


def _by_ids(
    path: Path, records: dict[int, dict], silent: set[int], rows: Sequence[Row], listed: bool, matched: Matched
) -> None:
    """Records that are not in the order of the rows: each must name one row, and no two the same."""
    matched.in_place = False
    rows_of = _row_finder(rows)
    hint = "" if listed else MERGED_HINT
    for number, record in records.items():
        found = [] if number in silent else rows_of(record)
        if not found:
            foreign = f"answers a row that {rows[0].file} does not have"
            why = "says nothing of the row that it answers" if number in silent else foreign
            # Where records have moved, their place does not say which row has no answer now.
            matched.dropped.append(Dropped(None, f"record {number} {why}"))
        elif len(found) > 1 or found[0] in matched.records:
            first = f"row {rows[found[0]].index}"
            which = f"which may answer {first} as well as row {rows[found[1]].index}" if found[1:] else f"{first} twice"
            wanted = "records in the order of the rows, or each naming a row of its own"
            raise problem(path, None, "", wanted, f"another order, and record {number}, {which}{hint}")
        else:
            matched.records[found[0]] = record
    if not matched.records:
        _refuse(path, matched)
    matched.notes.append(
        f"{len(matched.records)} records for {len(rows)} rows, not in their order: each is placed by what it says "
        "of its row; the official evaluator goes by place alone"
    )


def _row_finder(rows: Sequence[Row]) -> Callable[[dict], list[int]]:
    """A function from a record to the positions of the first two rows that it says nothing against."""
    by_text: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        for text in {row.video_id, row.name, row.question}:
            by_text[text].append(position)

    def find(record: dict) -> list[int]:
        metadata, name = record.get("metadata"), record.get("id")
        video = metadata.get("video_id") if isinstance(metadata, dict) else str(record.get("video")).partition("/")[2]
        texts = [video, name, str(name).rsplit("&&", 3)[0], folded_question(str(record.get("question")))]
        near = next(
            (by_text[text] for text in texts if text and isinstance(text, str) and text in by_text), range(len(rows))
        )
        found = (position for position in near if stray(record, rows[position]) is None)
        return [position for position, _ in zip(found, range(2), strict=False)]

    return find


def unmerged(path: Path, records: dict[int, Any], rows: Sequence[Row], parts: int) -> dict[int, Any]:
    """Records of merged parts by the row that each answers.

    The released code deals the rows of each qa_type to its GPUs in turn and numbers the parts' answers on end.

    Raises:
        InputError: there are more or fewer records than rows.
    """
    if records.keys() != set(range(len(rows))):
        found = f"{len(records)}: without all parts their order is lost"
        raise problem(path, None, "", f"{len(rows)} answers", found)
    kinds: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        kinds[row.qa_type].append(row.index)
    order = [index for part in range(parts) for members in kinds.values() for index in members[part::parts]]
    return {index: records[number] for number, index in enumerate(order)}
