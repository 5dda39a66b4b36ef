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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from recipes.medgrpo.files import InputError, read_json_lines
from reward_score.errors import RewardError
from reward_score.tasks import find_task

STEP_FILES = "step_*.jsonl"
RAW = "raw_"
NUMBERS = {"format": (0, 1), "score": (-np.inf, np.inf)}
"""Fields that every answer has, with the least and the greatest value."""
OPTIONAL = {"tokens": (1, np.inf), "step": (0, np.inf), "advantage": (-np.inf, np.inf)}
SAMPLED, ROLLED_OUT = {"index": int, "sample": int}, {"step": int, "group": str}
"""By field of a sampled answer, and of one of a training step: its type."""


class RecordedError(InputError):
    """Files of recorded answers that cannot be used: one line per file."""


class Text(NamedTuple):
    """An answer as it was said, and the row that it answers."""

    file: str | None
    row: int
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
        taken: dict[str, Any] = {name: x[places] for name, x in vars(self).items() if isinstance(x, np.ndarray)}
        raw = {name: column[places] for name, column in self.raw.items()}
        texts = self.texts and [self.texts[place] for place in places]
        return replace(self, **taken, raw=raw, texts=texts)

    def by_pair(self) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
        """By pair, in order: the mask of its answers, and the columns of the raw signals that all of them have."""
        found = {}
        for pair in sorted(set(self.data_source)):
            rows = self.data_source == pair
            columns = {signal: column[rows] for signal, column in self.raw.items()}
            found[pair] = rows, {name: column for name, column in columns.items() if not np.isnan(column).any()}
        return found

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


def read_recorded(paths: Iterable[str | Path]) -> Recorded:
    """Recorded answers of some files, `rollouts/` folders or runs, in the order given.

    Raises:
        RecordedError: what is wrong with each bad file, one line a file.
    """
    frames, headers, problems = [], [], []
    for number, path in enumerate(paths):
        try:
            files = files_of(Path(path))
        except RecordedError as error:
            problems.append(str(error))
            continue
        for file in files:
            try:
                records = read_json_lines(file)
                if headed := bool(records) and isinstance(records[0], dict) and "header" in records[0]:
                    headers.append(records.pop(0)["header"])
                frames.append(_frame(records, headed, f"{number}:"))
            except (OSError, ValueError, RecursionError) as error:
                problems.append(str(error) if str(file) in str(error) else f"{file}: {error}")
    if problems:
        raise RecordedError("\n".join(problems))
    if not frames:
        raise RecordedError("no recorded answers: no file was named")
    table = pd.concat(frames, ignore_index=True)
    known = {name: table[name].to_numpy() for name in OPTIONAL if name in table and table[name].notna().all()}
    if "step" in known:
        known["step"] = known["step"].astype(int)
    return Recorded(
        **{name: table[name].to_numpy() for name in ("data_source", "group", *NUMBERS)},
        raw={name[len(RAW) :]: table[name].to_numpy() for name in sorted(table) if name.startswith(RAW)},
        **known,
        texts=table["text"].tolist() if "text" in table and table["text"].notna().all() else None,
        headers=headers,
    )


def _frame(records: list[Any], headed: bool, prefix: str) -> pd.DataFrame:
    """A file's answers as columns, `prefix` before their groups' names: as objects they take ten times as much memory.

    Raises:
        ValueError: what is wrong, with the line.
    """
    if not records:
        raise ValueError("no answers in this file")
    numbers = []
    for line, record in enumerate(records, 1 + headed):
        try:
            numbers.append(numbers_of(record, SAMPLED if headed else ROLLED_OUT, NUMBERS))
        except (ValueError, RewardError) as error:
            raise ValueError(f"line {line}: {error}") from error
    if headed:
        named = Counter((r["data_source"], r.get("file"), r["index"], r["sample"]) for r in records)
        (source, name, index, sample), times = named.most_common(1)[0]
        if times > 1:
            raise ValueError(f"sample {sample} of row {index} of {name or source} is there {times} times")
    groups = [(r.get("file") or "", r["index"]) if headed else (r["step"], r["group"]) for r in records]
    # One text for all answers of a pair or a group: a long run has a million of them.
    columns = {
        "data_source": [sys.intern(r["data_source"]) for r in records],
        "group": [sys.intern(f"{prefix}{first}:{second}") for first, second in groups],
        **({"text": [_text(r) for r in records]} if headed else {}),
    }
    return pd.DataFrame(numbers, dtype=float).assign(
        **{name: pd.Series(column, dtype=object) for name, column in columns.items()}
    )


def _text(record: dict) -> Text | None:
    if not isinstance(record.get("answer"), str):
        return None
    return Text(record.get("file"), record["index"], record["answer"], bool(record.get("truncated")))


def numbers_of(record: Any, fields: Mapping[str, type], needed: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The numbers of a scored answer: those that are `needed`, with their bounds, its signals, and what is optional.

    Args:
        record: of a file.
        fields: what it has beside `data_source` and its numbers, see `SAMPLED`.
        needed: by field its least and greatest value.

    Raises:
        ValueError, UnknownTask: it is no answer; names the field and what was expected there.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected one JSON object, got {type(record).__name__}")
    for name, kind in {"data_source": str, **fields}.items():
        if name not in record:
            raise ValueError(f"{name}: missing, expected {kind.__name__}")
        if not isinstance(record[name], kind):
            raise ValueError(f"{name}: expected {kind.__name__}, got {record[name]!r:.40}")
    find_task(record["data_source"])
    bounds = dict(needed) | {name: pair for name, pair in OPTIONAL.items() if record.get(name) is not None}
    bounds |= {name: (0, 1) for name in record if name.startswith(RAW)}
    return {name: _number(record, name, *pair) for name, pair in bounds.items()}


def _number(record: dict, name: str, low: float, high: float) -> float:
    value = record.get(name)
    # A float holds no whole number beyond 1e308.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e308 < value < 1e308:
        raise ValueError(f"{name}: expected a finite number, got {value!r:.40}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a finite number, {low:g} to {high:g}, got {value!r}")
    return float(value)
