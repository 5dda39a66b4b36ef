# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""From scored answers to the rows of a statistics file, several runs together if need be, and two files compared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recipes.medgrpo.answers.recorded import SAMPLED, numbers_of
from recipes.medgrpo.files import InputError, read_json_lines, write_atomic
from reward_score.bootstrap import Bootstrap, interval, quantiles
from reward_score.errors import UnknownTask
from reward_score.normalization import NEEDED, Normalizer, saturated
from reward_score.statistics import (
    DEFAULT_MIN_IQR,
    DEFAULT_MIN_SAMPLES,
    FORMAT,
    Statistics,
    summarize,
    used_rows,
)
from reward_score.tasks import find_task

RESAMPLES = 1000
SAME_SAMPLING = ("temperature", "max_new_tokens", "engine")
"""Sampling settings that define the distribution of answers; seed and numbers of rows and samples may differ."""
ORIGIN = ("judge", "model", "data", "code", "sampling", "degenerate")


@dataclass(frozen=True)
class Series:
    """The raw values of one signal of one pair.

    Attributes:
        values: (N,) raw values. videos: (N,) whole numbers from 0, equal for answers about the same video.
        parsed: (N,) whether the answer could be read; one that could not has the raw value 0.
    """

    values: np.ndarray
    videos: np.ndarray
    parsed: np.ndarray


def series_of(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Series]]:
    """Recorded answers as series by pair and signal, sorted by name. An answer that does not parse counts."""
    found: dict[str, dict[str, Series]] = {}
    for pair, rows in pd.DataFrame(records).groupby("data_source"):
        signals = rows.filter(regex="^raw_").dropna(axis=1, how="all")  # those of the task
        videos, parsed = pd.factorize(rows["video"], sort=True)[0], (rows["format"] > 0).to_numpy()
        found[str(pair)] = {
            name.removeprefix("raw_"): Series(signals[name].to_numpy(float), videos, parsed) for name in sorted(signals)
        }
    return found


def intervals(series: Series, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, list[float | None]] | None:
    """95 % intervals of p25, p50, p75 and iqr: ``{"p25": [low, high], ...}``.

    Bootstrap over videos, because answers about one video are not independent: as many videos as there are, drawn
    with replacement, each with all its answers; the percentiles (linear interpolation) of every resample, and of
    those the 2.5th and 97.5th percentile. None with a single video, of which nothing can be drawn.
    """
    bootstrap = Bootstrap(series.videos.tolist(), resamples, seed)
    if bootstrap.drawn.shape[1] < 2:
        return None

    def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
        p25, p50, p75 = quantiles(series.values, weights, (0.25, 0.5, 0.75)).T
        return {"p25": p25, "p50": p50, "p75": p75, "iqr": p75 - p25}

    drawn = bootstrap.resample(measure, series.videos.tolist())
    return {name: list(interval(values)[:2]) for name, values in drawn.items()}


def pair_statistics(
    records: Sequence[Mapping[str, Any]],
    *,
    seed: int = 0,
    min_iqr: float = DEFAULT_MIN_IQR,
    min_samples: int = DEFAULT_MIN_SAMPLES,
) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of a statistics file by pair and signal.

    Each holds the fields of `statistics.Percentiles`, and for the reader: ``videos`` (how many), ``ci`` (`intervals`),
    ``used`` (`statistics.used_rows`), and ``saturated``, the share of the answers that parse whose normalised value
    is beyond `normalization.SATURATED`, None where none parses.
    """
    if not records:
        raise InputError("no answers: nothing to make statistics of")
    found = series_of(records)
    pairs = {
        pair: {
            signal: {
                **summarize(series.values),
                "videos": int(series.videos.max()) + 1,
                "ci": intervals(series, seed),
            }
            for signal, series in signals.items()
        }
        for pair, signals in found.items()
    }
    degenerate = {"min_iqr": min_iqr, "min_samples": min_samples}
    statistics = Statistics.from_dict({"format": FORMAT, "degenerate": degenerate, "pairs": pairs})
    used = used_rows(statistics.pairs, min_iqr, min_samples)
    normalizer = Normalizer(statistics, linear_share=NEEDED)
    for pair, signals in pairs.items():
        for signal, row in signals.items():
            row["used"] = {**asdict(used[pair][signal]), "why": list(used[pair][signal].why)}
            series = found[pair][signal]
            normalised = [normalizer(pair, signal, value) for value in series.values[series.parsed].tolist()]
            row["saturated"] = float(saturated(np.array(normalised)).mean()) if normalised else None
    return pairs


def write_statistics(path: Path, content: Mapping[str, Any]) -> None:
    """JSON, indented for reading, with every list of numbers on one line."""
    text = json.dumps(content, indent=2, allow_nan=False)
    # Text holds no bare line break in JSON, so that this meets lists of plain values only.
    text = re.sub(r'\[\n\s+([^\[\]{}"]+?)\n\s+\]', lambda found: f"[{' '.join(found[1].split())}]", text)
    write_atomic(path, text + "\n")


@dataclass(frozen=True)
class Run:
    """One file of raw signals: what its first line says, and its answers."""

    file: Path
    header: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]


def read_run(file: Path) -> Run:
    """Read and check a ``raw_signals.jsonl``.

    Raises:
        InputError: not there, unfinished, or a line that is no scored answer; names file, line and field.
    """
    if not file.is_file() or file.suffix == ".partial":
        raise InputError(f"{file}: expected the raw_signals.jsonl of a finished calibration")
    lines = read_json_lines(file)
    header = (lines[0].get("header") if lines and isinstance(lines[0], dict) else None) or {}
    expected = {"model": str, "data": str, "code": str, "settings": dict, "scoring": dict}
    for key, kind in expected.items():
        if not isinstance(header, dict) or not isinstance(header.get(key), kind):
            raise InputError(f"{file}: line 1: header: {key}: expected what calibrate writes there")
    # Every answer to a task has the signals of the first: one without would be left out of its row unseen.
    signals: dict[str, set[str]] = {}
    for number, record in enumerate(lines[1:], 2):
        place = f"{file}: line {number}"
        try:
            numbers_of(record, {"video": str, **SAMPLED}, {"format": (0, 1)})
        except (ValueError, UnknownTask) as error:
            raise InputError(f"{place}: {error}") from None
        mine = {key for key in record if key.startswith("raw_")}
        first = signals.setdefault(find_task(record["data_source"])[0].name, mine)
        if mine != first or not mine:
            raise InputError(
                f"{place}: signals: expected {', '.join(sorted(first)) or 'raw_...'} as in this task's first "
                f"answer, got {', '.join(sorted(mine)) or 'none'}"
            )
    return Run(file, header, lines[1:])


def merge(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """The answers of several runs together.

    Raises:
        InputError: runs of different models, judges, reward code or sampling, or with an answer in common.
    """
    first = runs[0]
    for run in runs[1:]:
        for key in ("model", "code", "scoring", *SAME_SAMPLING):
            mine, its = (_identity(item.header, key) for item in (first, run))
            if mine != its:
                raise InputError(f"{run.file}: {key}: expected that of {first.file} ({mine}), got {its}")
    seen: dict[tuple[Any, ...], Path] = {}
    for run in runs:
        seed = run.header["settings"].get("seed")
        for record in run.records:
            answer = (record.get("file"), record["index"], record["sample"], seed)
            if answer in seen:
                file, index, sample, _ = answer
                raise InputError(
                    f"{run.file}: file {file}, index {index}, sample {sample}, seed {seed}: the same answer is in "
                    f"{seen[answer]} already, expected each once"
                )
            seen[answer] = run.file
    return [record for run in runs for record in run.records]


def _identity(header: Mapping[str, Any], key: str) -> Any:
    if key in SAME_SAMPLING:
        return header["settings"].get(key)
    if key == "scoring":
        # Where the judge is asked says nothing of what it answers.
        judge = {k: v for k, v in (header["scoring"].get("judge_settings") or {}).items() if k != "base_url"}
        return {**header["scoring"], "judge_settings": judge}
    return header[key]


def _interval(row: Mapping[str, Any], key: str) -> list[float] | None:
    """The interval of a percentile in a row of a file, None where there is none: it is told, not computed with."""
    found = row.get("ci")
    found = found.get(key) if isinstance(found, dict) else None
    whole = isinstance(found, list) and len(found) == 2 and all(isinstance(bound, int | float) for bound in found)
    return found if whole else None


def difference(first: Path, second: Path) -> dict[str, Any]:
    """What changed between two statistics files.

    Returns:
        ``a``, ``b``: the files. ``origin``: {key: [of a, of b]} where judge, model, data, code or settings differ.
        ``only_a``, ``only_b``: rows ("pair: signal") that only one has. ``changes``: one object per common row,
        greatest first: ``pair``, ``signal``, ``p50`` and ``iqr`` [of a, of b], ``p50_ci`` and ``iqr_ci`` (intervals
        or None), and ``reward`` {"change", "at"}: the greatest change of the normalised value (each file's
        own settings; b minus a) over raw values 0, 0.001, ..., 1, and where it is.

    Raises:
        BadStatistics: a file that is not one of statistics.
    """
    files = [first, second]
    loaded = [Statistics.load(file) for file in files]
    rows = [json.loads(Path(file).read_text(encoding="utf-8"))["pairs"] for file in files]
    names = [{(pair, signal) for pair, signals in item.pairs.items() for signal in signals} for item in loaded]
    maps = [Normalizer(item, linear_share=NEEDED) for item in loaded]
    grid = [number / 1000 for number in range(1001)]
    changes = []
    for pair, signal in sorted(names[0] & names[1]):
        moved = [maps[1](pair, signal, x) - maps[0](pair, signal, x) for x in grid]
        most = max(range(len(grid)), key=lambda number: abs(moved[number]))
        change: dict[str, Any] = {"pair": pair, "signal": signal}
        for key in ("p50", "iqr"):
            change[key] = [getattr(item.get(pair, signal), key) for item in loaded]
            change[f"{key}_ci"] = [_interval(row[pair][signal], key) for row in rows]
        changes.append(change | {"reward": {"change": moved[most], "at": grid[most]}})
    changes.sort(key=lambda change: -abs(change["reward"]["change"]))
    origin = {key: [item.meta.get(key) for item in loaded] for key in ORIGIN}
    return {
        "a": str(first),
        "b": str(second),
        "origin": {key: values for key, values in origin.items() if values[0] != values[1]},
        "only_a": sorted(": ".join(name) for name in names[0] - names[1]),
        "only_b": sorted(": ".join(name) for name in names[1] - names[0]),
        "changes": changes,
    }
