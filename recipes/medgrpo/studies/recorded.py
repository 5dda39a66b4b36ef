# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Recorded answers as columns: what calibration sampled, or what a training run rolled out.

Three forms are read. `raw_signals.jsonl` of calibration (and an evaluation's `answers.jsonl`): the first line is a
header, the answers to one row (file, index) are a group, as the rollouts of a prompt are. `rollouts/` of a run, or
the run's folder: one file per step, a group is a prompt's uid within its step. One step's file alone.

The files of one call stay apart: the same row in two files makes two groups.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recipes.medgrpo.files import InputError, read_json_lines
from reward_score.errors import RewardError
from reward_score.tasks import find_task

STEP_FILES = "step_*.jsonl"
RAW = "raw_"


class RecordedError(InputError):
    """Files of recorded answers that cannot be used: one line per file."""


class Text(NamedTuple):
    """An answer as it was said, and the row that it answers."""

    file: str | None
    index: int
    answer: str
    truncated: bool


@dataclass(frozen=True)
class Recorded:
    """N recorded answers as columns.

    Attributes:
        data_source: (N,) texts, ``medvidbench/<source>/<task>``.
        group: (N,) texts; answers to one prompt, sampled together, share one.
        format: (N,) of 0..1.
        score: (N,), the reward as it was recorded.
        raw: by signal: (N,), NaN where the answer's task does not have that signal.
        tokens: (N,) response lengths, or None where some answer does not say.
        step: (N,) training steps, or None where some answer has none.
        advantage: (N,) as trained on, or None where some answer does not say.
        texts: (N,) what was said, or None where some answer does not say.
        headers: the first line of each file that has one.
    """

    data_source: np.ndarray
    group: np.ndarray
    format: np.ndarray
    score: np.ndarray
    raw: dict[str, np.ndarray]
    tokens: np.ndarray | None = None
    step: np.ndarray | None = None
    advantage: np.ndarray | None = None
    texts: list[Text] | None = None
    headers: list[dict] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data_source)

    @property
    def tasks(self) -> np.ndarray:
        """(N,) short task names."""
        return np.array([source.rpartition("/")[2] for source in self.data_source], dtype=object)

    def take(self, keep: np.ndarray) -> Recorded:
        """The answers at some places, or where a mask is true."""
        places = np.flatnonzero(keep) if keep.dtype == bool else keep

        def cut(column):
            return None if column is None else column[places]

        return Recorded(
            *(cut(column) for column in (self.data_source, self.group, self.format, self.score)),
            raw={name: column[places] for name, column in self.raw.items()},
            tokens=cut(self.tokens),
            step=cut(self.step),
            advantage=cut(self.advantage),
            texts=None if self.texts is None else [self.texts[place] for place in places],
            headers=self.headers,
        )

    def batches(self) -> list[np.ndarray]:
        """Places of the answers of each training step, in order; all of them at once where no step is recorded."""
        if self.step is None:
            return [np.arange(len(self))]
        _, size = np.unique(self.step, return_counts=True)
        return np.split(np.argsort(self.step, kind="stable"), np.cumsum(size)[:-1])


def files_of(path: Path) -> list[Path]:
    """The files of recorded answers that a file, a `rollouts/` folder or a run's folder stands for.

    Raises:
        RecordedError: nothing there.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RecordedError(f"{path}: no such file or folder")
    for folder in (path, path / "rollouts", path / "grpo/rollouts"):
        if found := sorted(folder.glob(STEP_FILES)):
            return found
    raise RecordedError(
        f"{path}: no {STEP_FILES} here, in rollouts/ or in grpo/rollouts/; expected a run's folder or a recorded file"
    )


def _number(record: dict, name: str, low: float = -np.inf, high: float = np.inf) -> float:
    value = record.get(name)
    # A float holds no whole number beyond 1e308.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e308 < value < 1e308:
        raise ValueError(f"{name}: expected a finite number, got {value!r:.40}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low:g} to {high:g}, got {value!r}")
    return float(value)


def _check(record: Any, headed: bool) -> dict:
    """A record's columns. Raises ValueError with the field and what was expected."""
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, got {type(record).__name__}")
    if not isinstance(record.get("data_source"), str):
        raise ValueError(f"data_source: expected str, got {record.get('data_source')!r:.40}")
    find_task(record["data_source"])
    names = {"index": int, "sample": int} if headed else {"step": int, "group": str}
    for name, kind in names.items():
        if name not in record:
            raise ValueError(f"{name}: missing; expected one of {'a sampled answer' if headed else 'a rollout'}")
        if not isinstance(record[name], kind):
            raise ValueError(f"{name}: expected {kind.__name__}, got {record[name]!r:.40}")
    return {
        # One text for all answers of a pair: a long run has a million of them.
        "data_source": sys.intern(record["data_source"]),
        "group": f"{record.get('file') or ''}:{record['index']}" if headed else f"{record['step']}:{record['group']}",
        "format": _number(record, "format", 0, 1),
        "score": _number(record, "score"),
        "raw": {name[len(RAW) :]: _number(record, name, 0, 1) for name in record if name.startswith(RAW)},
        "tokens": _number(record, "tokens", 1) if record.get("tokens") is not None else None,
        "step": _number(record, "step", 0) if record.get("step") is not None else None,
        "advantage": _number(record, "advantage") if record.get("advantage") is not None else None,
        "text": _text(record) if headed else None,
    }


def _text(record: dict) -> Text | None:
    if not isinstance(record.get("answer"), str):
        return None
    return Text(record.get("file"), record["index"], record["answer"], bool(record.get("truncated")))


def _read_file(file: Path, prefix: str) -> Recorded:
    """The answers of one file, `prefix` before their groups' names. Raises ValueError, with the record's number."""
    records = read_json_lines(file)
    header = None
    if records and isinstance(records[0], dict) and "header" in records[0]:
        header, records = records[0]["header"], records[1:]
    if not records:
        raise ValueError("no answers in this file")
    rows = []
    for number, record in enumerate(records, 1):
        try:
            rows.append(_check(record, header is not None))
        except (ValueError, RewardError) as error:
            raise ValueError(f"answer {number}: {error}") from error
    if header is not None:
        named = Counter((r["data_source"], r.get("file"), r["index"], r["sample"]) for r in records)
        (source, name, index, sample), times = named.most_common(1)[0]
        if times > 1:
            raise ValueError(f"sample {sample} of row {index} of {name or source} is there {times} times")
    groups: dict[str, str] = {}
    for row in rows:
        row["group"] = groups.setdefault(row["group"], prefix + row["group"])
    return _columns(rows, [] if header is None else [header])


def read_recorded(paths: Iterable[str | Path]) -> Recorded:
    """Recorded answers of some files, `rollouts/` folders or runs, in the order given.

    Raises:
        RecordedError: what is wrong with each bad file, one line a file.
    """
    parts, problems = [], []
    for number, path in enumerate(paths):
        try:
            files = files_of(Path(path))
        except RecordedError as error:
            problems.append(str(error))
            continue
        for file in files:
            try:
                # File by file into columns: as objects, the answers of a long run take ten times as much memory.
                parts.append(_read_file(file, f"{number}:"))
            except (OSError, ValueError, RecursionError) as error:
                problems.append(str(error) if str(file) in str(error) else f"{file}: {error}")
    if problems:
        raise RecordedError("\n".join(problems))
    if not parts:
        raise RecordedError("no recorded answers: no file was named")
    return _joined(parts)


def _joined(parts: Sequence[Recorded]) -> Recorded:
    """The answers of all parts, in their order."""

    def whole(name: str) -> np.ndarray | None:
        columns = [getattr(part, name) for part in parts]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    signals = sorted({signal for part in parts for signal in part.raw})
    absent = [np.full(len(part), np.nan) for part in parts]
    return Recorded(
        *(whole(name) for name in ("data_source", "group", "format", "score")),
        raw={
            signal: np.concatenate([part.raw.get(signal, nan) for part, nan in zip(parts, absent, strict=True)])
            for signal in signals
        },
        tokens=whole("tokens"),
        step=whole("step"),
        advantage=whole("advantage"),
        texts=None if any(part.texts is None for part in parts) else [text for part in parts for text in part.texts],
        headers=[header for part in parts for header in part.headers],
    )


def _columns(rows: Sequence[dict], headers: list[dict]) -> Recorded:
    def whole(name: str, kind: type = float) -> np.ndarray | None:
        values = [row[name] for row in rows]
        return None if None in values else np.array(values, dtype=kind)

    signals = sorted({signal for row in rows for signal in row["raw"]})
    texts = [row["text"] for row in rows]
    return Recorded(
        data_source=np.array([row["data_source"] for row in rows], dtype=object),
        group=np.array([row["group"] for row in rows], dtype=object),
        format=np.array([row["format"] for row in rows]),
        score=np.array([row["score"] for row in rows]),
        raw={signal: np.array([row["raw"].get(signal, np.nan) for row in rows]) for signal in signals},
        tokens=whole("tokens"),
        step=whole("step", int),
        advantage=whole("advantage"),
        texts=None if None in texts else texts,
        headers=headers,
    )
