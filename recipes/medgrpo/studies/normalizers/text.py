# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The comparison of normalisers for a reader: Markdown tables out of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from recipes.medgrpo.terminal import number, span, table

SUMMARY = {
    "easy_over_hard": ("easy half over hard half", 2),
    "easy_spearman": ("easy (Spearman)", 2),
    "effective_pairs": ("effective pairs", 1),
}
"""By summary number of the shares: its title and its decimals."""
SUMMARY_HEAD = ("normaliser, advantage", *(title for title, _ in SUMMARY.values()))
CAUSES = ("curvature", "mixture", "epsilon", "format")


def markdown(result: Mapping[str, Any]) -> str:
    """The whole comparison."""
    counted = "tokens" if result["weights"] == "tokens" else "answers (no response lengths recorded)"
    parts = [
        "# Normalisers compared",
        f"{result['answers']} recorded answers in {result['groups']} groups, {len(result['pairs'])} pairs. Gradient "
        f"share of a pair: its part of the sum of |advantage| over {counted}. Brackets: 95 % bootstrap over groups.",
        *result["notes"],
        "## Do easy pairs pull harder?",
        "What the easier half of the pairs pulls, over the harder half (by mean raw reward), and the rank correlation "
        "over pairs of mean raw reward and gradient share. `none` is the ablation without normalisation.",
        table((*SUMMARY_HEAD, "largest, %", "smallest, %"), (_shares_summary(*each) for each in _each(result))),
        "## What is left of each normaliser against `none`",
        "1 - cosine of the advantages, 0 where both train alike: over all answers, and the mean of the pairs' own "
        "(blind to a scale between pairs).",
        _left(result, "left_of_none"),
        "The same with every format set to 1, so that no format factor is left:",
        _left(result, "left_of_none_formats_1"),
        "Where the logistic's effect comes from, one cause at a time (mean of the pairs' own 1 - cosine; in brackets "
        "over all answers):",
        _causes(result),
        "## Rewards",
        "Mean ± std, and the saturated share of the answers that parse. Below, the share of groups without spread, "
        "which train nothing.",
        _rewards(result),
    ]
    for advantage, cells in result["cells"].items():
        parts += [
            f"## Under `{advantage}`",
            "Gradient share per pair in %:",
            _by_pair(result, cells, lambda cell, pair: cell["pairs"][pair]["gradient_share"]),
            "Left against `none` per task, mean of the pairs' own:",
            _left_by_task(cells),
        ]
    if any("true_gradient" in cell for _, _, cell in _each(result)):
        lines = [[f"{name}, {advantage}", *_summary(cell["true_gradient"])] for advantage, name, cell in _each(result)]
        parts += ["## True norm of the policy gradient", table(SUMMARY_HEAD, lines)]
        for advantage, cells in result["cells"].items():
            parts.append(f"Share in %, `{advantage}`:")
            parts.append(
                _by_pair(result, cells, lambda cell, pair: cell["true_gradient"]["pairs"].get(pair, {}).get("share"))
            )
    return "\n\n".join(parts) + "\n"


def _small(value: float | None) -> str:
    """Three decimals; what these would show as 0 and is not, as a power of ten."""
    return number(value, ".0e" if value and abs(value) < 1e-3 else ".3f")


def _short(pair: str) -> str:
    return pair.removeprefix("medvidbench/")


def _each(result: Mapping[str, Any]) -> Iterable[tuple[str, str, dict]]:
    for advantage, cells in result["cells"].items():
        for name, cell in cells.items():
            yield advantage, name, cell


def _summary(found: Mapping[str, Any]) -> list[str]:
    return [span(found["summary"][key], f".{digits}f") for key, (_, digits) in SUMMARY.items()]


def _shares_summary(advantage: str, name: str, cell: Mapping[str, Any]) -> list[str]:
    ends = [
        f"{_short(cell[f'{end}_pair'])} {100 * cell['summary'][end]['value']:.1f}" for end in ("largest", "smallest")
    ]
    return [f"{name}, {advantage}", *_summary(cell), *ends]


def _left(result: Mapping[str, Any], key: str) -> str:
    lines = []
    for name in result["rewards"]:
        cells = [cells[name][key]["all"] for cells in result["cells"].values()]
        lines.append([name, *(f"{_small(cell['across'])}, {_small(cell['within'])}" for cell in cells)])
    return table(["normaliser", *result["cells"]], lines)


def _left_by_task(cells: Mapping[str, Any]) -> str:
    tasks = [task for task in next(iter(cells.values()))["left_of_none"] if task != "all"]
    lines = [[name, *(_small(cell["left_of_none"][task]["within"]) for task in tasks)] for name, cell in cells.items()]
    return table(["normaliser", *tasks], lines)


def _causes(result: Mapping[str, Any]) -> str:
    lines = []
    for advantage, causes in result["parts"].items():
        found = [causes.get(name) for name in CAUSES]
        lines.append([advantage, *(c and f"{_small(c['within'])} ({_small(c['across'])})" for c in found)])
    return table(("advantage", *CAUSES), lines)


def _rewards(result: Mapping[str, Any]) -> str:
    lines = []
    for pair, row in result["pairs"].items():
        cells = [rewards["pairs"][pair] for rewards in result["rewards"].values()]
        texts = [f"{c['mean']:.2f} ± {c['std']:.2f}, {100 * (c['saturated'] or 0):.0f} %" for c in cells]
        lines.append([_short(pair), row["answers"], *texts])
    dead = [f"{100 * rewards['dead_groups']:.0f} %" for rewards in result["rewards"].values()]
    lines.append(["groups without spread", sum(row["groups"] for row in result["pairs"].values()), *dead])
    return table(("pair", "answers", *result["rewards"]), lines)


def _by_pair(result: Mapping[str, Any], cells: Mapping[str, Any], share: Callable[[Mapping, str], float | None]) -> str:
    """A line per pair with its shares under each normaliser, the hardest first; pairs without shares are left out."""
    lines = []
    for pair, row in sorted(result["pairs"].items(), key=lambda item: item[1]["raw_mean"]):
        shares = [share(cell, pair) for cell in cells.values()]
        known = [x for x in shares if x is not None]
        if len(known) == len(shares):
            about = [number(row["raw_mean"], ".2f"), number(row["raw_group_std"])]
            lines.append([_short(pair), *about, *(f"{100 * x:.1f}" for x in known)])
    return table(("pair, hardest first", "raw mean", "raw std in a group", *cells), lines)
