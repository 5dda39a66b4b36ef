# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The scan of the exact model, and the registered trainings, for a reader: Markdown tables out of their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from recipes.medgrpo.terminal import number, span, table

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


def _setting(row: Mapping[str, Any]) -> list[str]:
    return [row["world"], f"{row['rate']:g}"]


def _seeds(row: Mapping[str, Any]) -> str:
    return ", ".join(number(value, "+.3f") for value in row["by_seed"])


def _fallen(one: Mapping[str, Any]) -> str:
    if not one["complete"]:
        return "not complete"
    return "-" if one["step"] is None else f"step {one['step']}, {one['cause']}"


def trainings_markdown(result: Mapping[str, Any]) -> str:
    """The registered trainings: `hypotheses.registered` as text."""
    trainings = result["trainings"]
    done = sum(one["complete"] for one in trainings)
    parts = [
        "# The registered trainings",
        f"{done} of {len(trainings)} trainings are complete. What is tested and how: docs/collapse.md.",
    ]
    if result["tested"]:
        rows = [
            [
                one["hypothesis"],
                *_setting(one),
                one["measure"],
                span(one, "+.3f", "difference"),
                _seeds(one),
                one["videos"],
                *(number(one[name], ".4f") for name in ("p", "p_holm")),
                {None: "not tested", True: "yes", False: "no"}[one["claimed"]],
            ]
            for one in result["tested"]
        ]
        header = ("", "world", "rate", "held-out", "B - A", "each seed", "videos", "p", "p (Holm)", "claimed")
        parts += [
            "## Tested",
            "B minus A on the same held-out rows after the last step, 95 % interval by bootstrap over the videos "
            "within each seed, p by exchange video by video. Holm's correction is over all twelve tests of the "
            "registration, made or not. An effect is claimed if all three seeds have the sign of the hypothesis and "
            "Holm's p is below 0.05.",
            table(header, rows),
        ]
        rows = [
            [one["hypothesis"], *_setting(one), one["what"], number(one["difference"], "+.3f"), _seeds(one)]
            for one in result["shown"]
        ]
        parts += ["## Shown, without a test", table(("", "world", "rate", "number", "mean", "each seed"), rows)]
        rows = [
            [*_setting(one), len(one["seeds"]), *one["collapsed"].values(), one["claim"]] for one in result["claims"]
        ]
        variants = result["claims"][0]["collapsed"]
        parts += [
            "## Collapse, and the paper's claim",
            "In how many seeds a training collapsed. The claim holds if B collapses in two of three seeds or more "
            "and A in none; it is refuted if B collapses in none.",
            table(("world", "rate", "seeds", *variants, "claim"), rows),
        ]
    rows = [
        [
            *_setting(one),
            one["seed"],
            one["variant"],
            one["steps"],
            _fallen(one),
        ]
        for one in trainings
    ]
    parts += ["## Every training", table(("world", "rate", "seed", "variant", "steps", "collapsed at"), rows)]
    if result["not_whole"]:
        names = [f"{one['world']}, rate {one['rate']:g}, seed {one['seed']}" for one in result["not_whole"]]
        parts.append(f"Blocks that are not whole, and not tested: {'; '.join(names)}.")
    return "\n\n".join(parts) + "\n"
