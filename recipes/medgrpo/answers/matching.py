# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which record of a results file answers which row.

Our rollouts name their row. All other forms count on their place, which is trusted as long as no record says that it
answers another row (`answer_files.stray`). Where few do, they alone are moved or left out. Where most do, or a list is
shorter than the ground truth, all records are placed by what they say: in their order where that is possible, else in
any order, where each names one row and no two the same. What stays in doubt in their order is left out; in any other
order the file is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_preprocess.wording import short
from recipes.medgrpo.answers.formats import CLAIMS, ROW_NUMBER, own_rollouts, stray, unmerged
from recipes.medgrpo.answers.questions import Row, problem
from recipes.medgrpo.answers.row_search import RowSearch


@dataclass(frozen=True)
class Dropped:
    """A row (by its number in the ground truth, where that is known) or a record that is not evaluated, and why."""

    index: int | None
    what: str


@dataclass
class Matched:
    """Records by the position of the row that they answer, what was left out, and what is worth knowing."""

    records: dict[int, dict] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
    numbered = _numbered(path, content, matched)
    if merged_parts > 1:
        numbered = unmerged(path, numbered, rows, merged_parts)
    _by_place(path, numbered, rows, len(content) if isinstance(content, list) else None, total or len(rows), matched)
    return matched


def numbered_records(path: Path, content: Any) -> tuple[dict[int, dict], list[Dropped]]:
    """The records of a list or of a dict by row number, and what among them is no record."""
    matched = Matched()
    return _numbered(path, content, matched), matched.dropped


def _numbered(path: Path, content: Any, matched: Matched) -> dict[int, dict]:
    if isinstance(content, list):
        items = dict(enumerate(content))
    elif isinstance(content, dict):
        items = {int(key): value for key, value in content.items() if ROW_NUMBER.fullmatch(key)}
        if content and not items:
            raise problem(path, None, "", "row numbers as keys", next(iter(content)))
        odd = [key for key in content if not ROW_NUMBER.fullmatch(key)]
        matched.dropped += [Dropped(None, f"the results' key {short(key)} is no row number") for key in odd]
    else:
        raise problem(path, None, "", "a dict by row number, a list, or JSON lines", content)
    if not items:
        raise problem(path, None, "", "answers", "none")
    records = {index: item for index, item in sorted(items.items()) if isinstance(item, dict)}
    if not records:
        raise problem(path, next(iter(items)), "", "a record", next(iter(items.values())))
    matched.dropped += [
        Dropped(index, f"expected a record, found {short(item)}")
        for index, item in items.items()
        if not isinstance(item, dict)
    ]
    return records


_BY_PLACE = "; the official evaluator goes by place alone"

_NO_ROW = "answers a row that the ground truth does not have"


def _by_name(path: Path, content: list, rows: Sequence[Row], sample: int | None, matched: Matched) -> None:
    """Our rollouts by the file and the index that they give."""
    positions = {(row.file, row.index): position for position, row in enumerate(rows)}
    files = {row.file for row in rows}
    only_file = next(iter(files)) if len(files) == 1 else None
    drawn: dict[int, dict[int, dict]] = defaultdict(dict)
    strays: list[tuple[Row, str, Any, Any]] = []
    foreign: list[Dropped] = []
    for number, record in enumerate(content):
        if isinstance(record, dict) and "header" in record:
            continue
        index, draw = (record.get("index"), record.get("sample", 0)) if isinstance(record, dict) else (None, None)
        if type(index) is not int or type(draw) is not int:
            expected = "a whole number as index and as sample"
            matched.dropped.append(Dropped(None, f"record {number}: expected {expected}, found {short(record)}"))
            continue
        file = record.get("file") or only_file
        file = file if isinstance(file, str) else short(file)
        position = positions.get((file, index))
        if position is None and file not in files:
            foreign.append(Dropped(index, f"answers a row of {short(file)}, which the ground truth does not have"))
        elif position is None:
            foreign.append(Dropped(index, _NO_ROW))
        elif odd := stray(record, rows[position]):
            strays.append((rows[position], *odd))
        elif draw in drawn[position]:
            matched.dropped.append(Dropped(index, f"sample {draw} is there twice; the first is taken"))
        else:
            drawn[position][draw] = record
    drawn = {position: draws for position, draws in drawn.items() if draws}
    if not drawn and strays:
        _refuse_foreign(path, *strays[0], more=len(strays) - 1)
    if not drawn:
        found = foreign[0].what if foreign else "none"
        raise problem(path, foreign[0].index if foreign else None, "", "an answer to a row of the ground truth", found)
    numbers = sorted({draw for draws in drawn.values() for draw in draws})
    if sample is not None and sample not in numbers:
        raise problem(path, None, "sample", f"number {sample}", f"only {', '.join(map(str, numbers))}")
    matched.dropped += foreign
    matched.dropped += [Dropped(row.index, _misfit(key, expected, found)) for row, key, expected, found in strays]
    for position, draws in drawn.items():
        chosen = min(draws) if sample is None else sample
        if chosen in draws:
            matched.records[position] = draws[chosen]
        else:
            matched.dropped.append(Dropped(rows[position].index, f"no sample number {chosen}"))
    several = sum(len(draws) > 1 for draws in drawn.values())
    if several and sample is None:
        matched.notes.append(f"rows with several samples: {several}; of each the one with the lowest number is taken")


def _misfit(key: str, expected: Any, found: Any) -> str:
    return f"the answer is to another row: {key}: expected {short(expected)}, found {short(found)}"


def _refuse_foreign(path: Path, row: Row, key: str, expected: Any, found: Any, more: int) -> None:
    wanted = f"answers to rows of {row.file} ({short(expected, 60)})"
    raise problem(path, row.index, key, wanted, f"{short(found, 60)}: ground truth of another split?", more)


def _by_place(
    path: Path, records: dict[int, dict], rows: Sequence[Row], listed: int | None, total: int, matched: Matched
) -> None:
    """Records by number; `listed` is the length of the list that they come from, None for a dict."""
    places = {row.index: position for position, row in enumerate(rows)}
    silent = {number for number, record in records.items() if not CLAIMS & record.keys()}
    if listed not in (None, total) and len(silent) == len(records):
        found = f"{listed}, and nothing in them says which row each answers"
        raise problem(path, None, "", f"{total} records, one for each row of the ground truth", found)
    fitting = {n: record for n, record in records.items() if n in places and not stray(record, rows[places[n]])}
    inside = sum(number in places for number in records)
    # A shorter list has lost the places of its records, even where each fits by chance.
    shifted = listed is not None and (listed < total or (listed > total and inside > len(fitting)))
    if 2 * len(fitting) > inside and not shifted:
        if silent:
            matched.notes.append(f"answers that nothing but their place ties to a row: {len(silent)}")
        matched.records = {places[number]: record for number, record in fitting.items()}
        _repair({n: record for n, record in records.items() if n not in fitting}, places, rows, matched)
        return
    if len(silent) == len(records):
        raise problem(path, min(silent), "", "answers to rows of the ground truth", "none of a row that it has")
    search = RowSearch(rows)
    near = {number: search.first_two(record) for number, record in records.items() if number not in silent}
    if not any(near.values()):
        number = next((number for number in near if number in places), next(iter(near)))
        _refuse_foreign(path, *_claim(records[number], rows[places.get(number, 0)]), more=len(near) - 1)
    kept = {number: records[number] for number, fits in near.items() if fits}
    matched.dropped += [
        # Where records have moved, their place does not say which row has no answer now.
        Dropped(None, f"record {number} {'says nothing of the row that it answers' if number in silent else _NO_ROW}")
        for number in records
        if number not in kept
    ]
    if order := _in_order(kept, rows):
        _take_in_order(order, kept, rows, matched)
    else:
        _take_by_names(path, kept, near, rows, listed is not None, matched)


def _claim(record: dict, row: Row) -> tuple[Row, str, Any, Any]:
    return row, *(stray(record, row) or ("", row.id, record))


def _repair(strays: dict[int, dict], places: dict[int, int], rows: Sequence[Row], matched: Matched) -> None:
    """A few records that are not where they belong: to the one free row that each names, or out."""
    search = RowSearch(rows) if strays else None
    wanted = {number: search.first_two(record) for number, record in strays.items()}
    claims = Counter(positions[0] for positions in wanted.values() if len(positions) == 1)
    moved = 0
    for number, positions in wanted.items():
        if len(positions) == 1 and claims[positions[0]] == 1 and positions[0] not in matched.records:
            matched.records[positions[0]] = strays[number]
            moved += 1
        elif number in places:
            _, *misfit = _claim(strays[number], rows[places[number]])
            matched.dropped.append(Dropped(number, _misfit(*misfit)))
        else:
            matched.dropped.append(Dropped(number, _NO_ROW))
    if moved:
        matched.notes.append(f"records out of place, put where each says that it belongs: {moved}{_BY_PLACE}")


def _in_order(records: dict[int, dict], rows: Sequence[Row]) -> dict[int, tuple[int, int]] | None:
    """By record: the first and the last row that it can answer, if the records kept the rows' order; else None."""
    first = _leftmost(list(records.values()), range(len(rows)), rows)
    last = _leftmost(list(records.values())[::-1], range(len(rows) - 1, -1, -1), rows)
    if first is None or last is None:
        return None
    return dict(zip(records, zip(first, last[::-1], strict=True), strict=True))


def _leftmost(records: Sequence[dict], positions: Sequence[int], rows: Sequence[Row]) -> list[int] | None:
    ahead = iter(positions)
    taken = [next((at for at in ahead if stray(record, rows[at]) is None), None) for record in records]
    return None if None in taken else taken


def _take_in_order(
    order: dict[int, tuple[int, int]], records: dict[int, dict], rows: Sequence[Row], matched: Matched
) -> None:
    for number, (first, last) in order.items():
        if first == last:
            matched.records[first] = records[number]
        else:
            which = f"row {rows[first].index} or row {rows[last].index}"
            matched.dropped.append(Dropped(None, f"record {number} answers {which}, and nothing says which"))
    matched.notes.append(
        f"{len(records)} records for {len(rows)} rows: placed in their order by what each says of its row{_BY_PLACE}"
    )


def _take_by_names(
    path: Path,
    records: dict[int, dict],
    fitting: dict[int, list[int]],
    rows: Sequence[Row],
    listed: bool,
    matched: Matched,
) -> None:
    """Records in another order than the rows: each must name one row, and no two the same."""
    hint = "" if listed else "; output merged from several GPUs' parts: --merged-parts N"
    for number, record in records.items():
        position = fitting[number][0]
        if len(fitting[number]) > 1:
            which = f"row {rows[position].index} as well as row {rows[fitting[number][1]].index}"
            found = f"another order, and record {number}, which may answer {which}{hint}"
            raise problem(path, None, "", "records in the order of the rows, or each naming its row", found)
        if position in matched.records:
            found = f"another order, and two to row {rows[position].index}, one of them record {number}{hint}"
            raise problem(path, None, "", "records in the order of the rows, or one for each row", found)
        matched.records[position] = record
    order = f"{len(records)} records in another order than the rows"
    matched.notes.append(f"{order}: placed by what each says of its row{_BY_PLACE}")
