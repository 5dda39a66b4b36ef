# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""An ablation's table as text, and its row B against row A in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recipes.medgrpo.studies.ablation.variants import ABLATED, MODELS, PUBLISHED_ROWS, published_lines
from recipes.medgrpo.terminal import span
from recipes.medgrpo.terminal import table as text_table
from reward_score.leaderboard import COLUMNS
from reward_score.tasks import TASKS

FULL, WITHOUT = "A", "B"


def difference_cell(entry: Mapping[str, Any] | None) -> str:
    """A difference with its interval; a star where the interval leaves 0 out."""
    if entry is None or entry["difference"] is None:
        return "-"
    return span(entry, "+.3f", "difference") + (" *" if leaves_zero(entry) else "")


def leaves_zero(entry: Mapping[str, Any]) -> bool:
    """Whether the interval of a difference does not hold 0."""
    return entry["low"] is not None and not entry["low"] <= 0 <= entry["high"]


def sentence(table: Mapping[str, Any]) -> str | None:
    """Row B against row A with the figures, None unless both are done."""
    rows = table["rows"]
    if not {FULL, WITHOUT} <= rows.keys():
        return None
    found = rows[WITHOUT]["against_A"]
    strict = found["strict"]["acc"]
    told = "a difference" if leaves_zero(strict) else "no difference shown"
    moved = [f"{name} {difference_cell(entry)[:-2]}" for name, entry in found["columns"].items() if leaves_zero(entry)]
    printed = published_lines(ABLATED)[FULL]
    paper = ", ".join(f"{name} {value:.3f} against {printed[name]:.3f}" for name, value in PUBLISHED_ROWS["B"].items())
    return (
        f"Without normalisation (B) against the full method (A): strict accuracy {strict['second']:.3f} against "
        f"{strict['first']:.3f}, {difference_cell(strict).removesuffix(' *')} over {strict['videos']} videos, {told}; "
        f"of the {len(found['columns'])} columns {len(moved)} differ by an interval that leaves 0 out"
        f"{' (' + '; '.join(moved) + ')' if moved else ''}; the paper reports a collapse "
        f"of {MODELS[ABLATED]} ({paper})."
    )


def _settings(row: Mapping[str, Any]) -> str:
    if (chosen := row["settings"]) is None:
        return row["what"]
    tasks = " ".join(chosen["tasks"] or ["all eight"])
    rest = [chosen["normalizer"], chosen["advantage"], *([] if chosen["judged"] else ["no judge"])]
    return f"{row['what']} ({tasks}; {', '.join(rest)})"


def _values(found: Mapping[str, Any], names: Sequence[str]) -> list[float | None]:
    return [found.get(name, {}).get("value") for name in names]


def markdown(table: Mapping[str, Any]) -> str:
    """The table of `ablation.build` as text."""
    rows = table["rows"]
    tasks = [task for task in TASKS if any(task in row["strict_tasks"] for row in rows.values())]
    first = next(iter(rows.values()))
    lines, strict = [], []
    for name, row in rows.items():
        lines.append([name, *_values(row["columns"], COLUMNS)])
        if row["published"]:
            lines.append([f"{name}, published", *map(row["published"].get, COLUMNS)])
        strict.append([name, *_values(row["strict_tasks"], tasks), *_values(row["strict"], ("acc", "format"))])
    resamples = table["bootstrap"]["resamples"]
    steps = f", {' or '.join(map(str, table['steps']))} steps" if table["steps"] else ""
    unprinted = " Lines without it are not printed there." if any(not row["published"] for row in rows.values()) else ""
    blocks = [
        "# Ablation",
        f"{len(table['runs'])} run{'s' if len(table['runs']) > 1 else ''}{steps}: {first['answers']} answers of each "
        f"row to held-out questions of all tasks, {first['videos']} videos. Captions judged by {table['judge']}, the "
        "judged columns too: compare their numbers with no other judge's.",
        "\n".join(f"- {name}: {_settings(row)}" for name, row in rows.items()),
        "## The leaderboard's columns",
        text_table(["row", *COLUMNS], lines),
        f"Published: {MODELS.get(table['family'], 'no model of this family')} on the benchmark's test split, judged by "
        f"GPT-4.1. SFT and A as in the main table, B to E as far as the paper prints them ({MODELS[ABLATED]} alone)."
        f"{unprinted}",
        "## Strict accuracy",
        text_table(["row", *tasks, "mean over pairs", "format"], strict),
    ]
    compared = {name: row["against_A"] for name, row in rows.items() if "against_A" in row}
    if compared:
        wanted = [(column, "columns", column) for column in COLUMNS]
        wanted += [(f"strict {task}", "strict_tasks", task) for task in tasks] + [("strict mean", "strict", "acc")]
        changes = [
            [title, *(difference_cell(one[part].get(name)) for one in compared.values())]
            for title, part, name in wanted
        ]
        blocks += [
            "## Differences to A",
            f"Row - A on the same questions, 95 % interval by paired bootstrap over videos ({resamples} resamples), "
            "*: the interval leaves 0 out. Many intervals are read here together: one in twenty would leave 0 out by "
            "chance. Holm's p stands in table.json.",
            text_table(["figure", *compared], changes),
        ]
    if table["B_against_A"]:
        blocks += ["## B against A", table["B_against_A"]]
    if table["missing"]:
        blocks.append(f"Not done: {', '.join(table['missing'])}.")
    if table["notes"]:
        blocks += ["## Notes", "\n".join(f"- {note}" for note in table["notes"])]
    return "\n\n".join(blocks) + "\n"
