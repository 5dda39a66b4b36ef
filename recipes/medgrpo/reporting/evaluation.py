# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Two checkpoints on the held-out rows: what changed, answer by answer and as figures with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.evaluation.comparison import paired_difference
from recipes.medgrpo.evaluation.strict import overall, pair_scores
from recipes.medgrpo.files import read_json
from recipes.medgrpo.reporting.rows import RowBook
from recipes.medgrpo.reporting.said import answered
from recipes.medgrpo.summary import answers

BEFORE, AFTER = "sft", "medgrpo"
"""Folders of a run's `eval/`."""
Records = Sequence[Mapping[str, Any]]


class Evaluated:
    """A run's two evaluations.

    Raises:
        InputError: an answer that lacks a field. ComparisonError: answers to other rows.
    """

    def __init__(self, run: Path):
        self.folder = run / "eval"
        self.before, self.after = (answers(self.folder / name) for name in (BEFORE, AFTER))
        self.strict = _report(self.folder / "strict")
        self.leaderboards = [_report(self.folder / name) for name in (f"leaderboard_{BEFORE}", "leaderboard")]

    @staticmethod
    def there(run: Path) -> bool:
        """Whether both evaluations of a run have been made."""
        return all((run / "eval" / name / "answers.jsonl").exists() for name in (BEFORE, AFTER))

    def figures(self) -> list[dict[str, Any]]:
        """Accuracy overall, per task, source and pair: both means, the change with its interval, the blind answer's."""
        rows = []
        for level, task, source in _levels([record["data_source"] for record in self.before]):
            chosen = [
                [one for one in records if _is_of(one["data_source"], task, source)]
                for records in (self.before, self.after)
            ]
            change = paired_difference([(chosen[0], chosen[1])])
            means = [overall(pair_scores(list(records))) for records in chosen]
            rows.append(
                {
                    "name": "acc",
                    "task": task,
                    "source": source,
                    "before": means[0]["acc"],
                    "after": means[1]["acc"],
                    "change": change["acc_change"],
                    "low": change["low"],
                    "high": change["high"],
                    "n": len(chosen[0]),
                    "videos": change["videos"],
                    "blind": _figure(self.strict, level, _group(task, source), "acc").get("blind"),
                    "format_before": means[0]["format"],
                    "format_after": means[1]["format"],
                }
            )
        return rows

    def leaderboard(self) -> list[dict[str, Any]]:
        """The leaderboard's columns; `low` and `high` are of `after`."""
        before, after = (_scores(report, "overall", "all") for report in self.leaderboards)
        return [
            {"column": name, "before": before.get(name, {}).get("value"), "after": found["value"]}
            | {key: found.get(key) for key in ("blind", "low", "high", "rows", "videos")}
            for name, found in after.items()
        ]

    def rows(self, book: RowBook) -> dict[str, Any]:
        """Each answer of both, those first whose accuracy differs most."""
        after = {_key(record): record for record in self.after}
        rows = []
        for record in self.before:
            other, pair = after[_key(record)], record["data_source"]
            key = (record.get("file") or "", record["index"])
            row = {"pair": pair, "sample": record["sample"], "difference": other["acc"] - record["acc"]}
            rows.append((key, row, record, other))
        rows.sort(key=lambda row: -abs(row[1]["difference"]))
        shown = []
        for key, row, record, other in rows:
            number = book.number(key, row["pair"])
            sides = {name: _side(one, book.extra(number)) for name, one in (("a", record), ("b", other))}
            shown.append({"row": number} | row | sides)
        return {"a": {"name": BEFORE}, "b": {"name": AFTER}, "rows": shown}


def _side(record: Mapping[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    said, error = answered(record["data_source"], record["answer"], extra)
    raw = {name[4:]: value for name, value in record.items() if name.startswith("raw_")}
    marks = {name[5:]: value for name, value in record.items() if name.startswith("mark_")}
    judge = {"judge": {"marks": marks, "reason": None}} if marks else {}
    return {"acc": record["acc"], "text": record["answer"], "said": said, "error": error, "raw": raw} | judge


def _key(record: Mapping[str, Any]) -> tuple:
    return record["data_source"], record.get("file") or "", record["index"], record["sample"]


def _levels(pairs: Sequence[str]) -> Iterator[tuple[str, str | None, str | None]]:
    """(level of a report, task, source) of everything, of each task, of each source and of each pair."""
    found = sorted({tuple(pair.split("/")[1:]) for pair in pairs})
    yield "overall", None, None
    for task in sorted({task for _, task in found}):
        yield "tasks", task, None
    for source in sorted({source for source, _ in found}):
        yield "sources", None, source
    for source, task in found:
        yield "pairs", task, source


def _is_of(pair: str, task: str | None, source: str | None) -> bool:
    _, own_source, own_task = pair.split("/")
    return task in (None, own_task) and source in (None, own_source)


def _group(task: str | None, source: str | None) -> str:
    """The name of a group in a report of `evaluate score`."""
    return f"medvidbench/{source}/{task}" if task and source else task or source or "all"


def _report(folder: Path) -> Mapping[str, Any]:
    file = folder / "report.json"
    found = read_json(file) if file.exists() else {}
    return found if isinstance(found, dict) else {}


def _scores(report: Mapping[str, Any], level: str, group: str) -> Mapping[str, Any]:
    return report.get("scores", {}).get(level, {}).get(group, {})


def _figure(report: Mapping[str, Any], level: str, group: str, name: str) -> Mapping[str, Any]:
    return _scores(report, level, group).get(name, {})
