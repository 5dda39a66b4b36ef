# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The scan of the exact model for a reader: Markdown tables out of its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from recipes.medgrpo.terminal import table

WORLDS = {
    False: "One style is best for all tasks (`agreeing`)",
    True: "Captions want a style that is no answer to other tasks (`conflict`)",
}
ROW = ("coupling", "optimizer", "rate", "group", "updates")
"""Settings that a row of a table stands for, in the order in which rows are sorted."""


def variant(run: Mapping[str, Any]) -> str:
    return f"{run['normalizer']}:{run['advantage']}"


def cell(runs: Sequence[Mapping[str, Any]]) -> str:
    """Least column and least format, means over the seeds; where it collapsed, in how many and when."""
    columns = [min(row["acc"] / row["acc_start"] for row in run["tasks"].values()) for run in runs]
    formats = [min(row["format"] for row in run["tasks"].values()) for run in runs]
    fallen = [run for run in runs if run["collapsed"] is not None]
    text = f"{fmean(columns):.2f}, {fmean(formats):.2f}"
    if not fallen:
        return text
    causes = [run["cause"] for run in fallen]
    often = max(sorted(set(causes)), key=causes.count)
    return f"{text}; **{len(fallen)} of {len(runs)}**, step {median(run['collapsed'] for run in fallen):.0f}, {often}"


def markdown(result: Mapping[str, Any]) -> str:
    """The whole scan."""
    runs, seeds = result["runs"], result["settings"]["seeds"]
    parts = [
        "# The exact model, scanned",
        f"{len(runs)} trainings of {result['settings']['steps']} steps, seeds {', '.join(map(str, seeds))}. A cell has "
        "two numbers at the end of training, means over the seeds: the least share that a task has kept of its "
        "starting accuracy, and the least format of a task. Bold: in how many trainings a task's accuracy fell below "
        "half of its start or its format below 0.5, looked at every 10 steps; the median step of the first such look; "
        "what fell most often.",
    ]
    variants = list(dict.fromkeys(variant(run) for run in runs))
    for conflict, title in WORLDS.items():
        mine = [run for run in runs if run["conflict"] is conflict]
        rows: dict[tuple, dict[str, list]] = {}
        for run in mine:
            key = tuple("exact" if run[name] is None else run[name] for name in ROW)
            rows.setdefault(key, {}).setdefault(variant(run), []).append(run)
        if rows:
            lines = [
                [*map(str, key), *(cell(cells[name]) if name in cells else "-" for name in variants)]
                for key, cells in rows.items()
            ]
            parts += [f"## {title}", table((*ROW, *variants), lines)]
        pulls = [pull for pull in result["pulls"] if pull["conflict"] is conflict]
        if pulls:
            parts += [
                "Mean advantage of the style prose before the first step, in a group of all answers, by task and over "
                "all that are asked. Where styles are shared, the style grows if the last number is above 0.",
                table(
                    ("variant", *pulls[0]["styles"]),
                    ([variant(pull), *(row["prose"] for row in pull["styles"].values())] for pull in pulls),
                ),
            ]
    return "\n\n".join(parts) + "\n"
