# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The comparison of normalisers for a reader: Markdown tables out of the JSON of `compare_normalizers`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHORT = "medvidbench/"
SUMMARY = (
    "normaliser, advantage",
    "easy half over hard half",
    "easy (Pearson)",
    "easy (Spearman)",
    "effective pairs",
    "max/min",
    "Gini",
)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10**-digits else f"{value:.0e}"


def _span(row: dict[str, float | None], digits: int = 2) -> str:
    """`value (low..high)`."""
    value, low, high = ("-" if row[n] is None else f"{row[n]:.{digits}f}" for n in ("value", "low", "high"))
    return value if low == "-" else f"{value} ({low}..{high})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _pair(name: str) -> str:
    return name.removeprefix(SHORT)


def markdown(result: dict) -> str:
    """The whole comparison."""
    counted = "tokens" if result["weights"] == "tokens" else "answers (no response lengths recorded)"
    parts = [
        "# Normalisers compared",
        f"{result['answers']} recorded answers in {result['groups']} groups, {len(result['pairs'])} pairs. Gradient "
        f"share of a pair: its part of the sum of |advantage| over {counted}. Brackets: 95 % bootstrap over groups.",
        *result["notes"],
        "## Do easy pairs pull harder?",
        "What the easier half of the pairs pulls, over the harder half (by mean raw reward), and the correlation over "
        "pairs of mean raw reward and gradient share. `none` is the ablation without normalisation.",
        _cells(result),
        "## What is left of each normaliser against `none`",
        "1 - cosine of the advantages, 0 where both train alike: over all answers, and the mean of the pairs' own "
        "(blind to a scale between pairs).",
        _left(result, "left_of_none"),
        "The same with every format set to 1, so that no format factor is left:",
        _left(result, "left_of_none_formats_1"),
        "Groups whose answers change order or tie, and groups without spread, against `none`:",
        _groups(result),
        "Where the logistic's effect comes from, one cause at a time (mean of the pairs' own 1 - cosine; in brackets "
        "over all answers):",
        _causes(result),
        "## Rewards",
        _rewards(result),
    ]
    for advantage, cells in result["cells"].items():
        parts += [
            f"## Under `{advantage}`",
            "Gradient share per pair in %:",
            _shares(result, cells),
            "Left against `none` per task, mean of the pairs' own:",
            _left_by_task(cells),
        ]
    if any("true_gradient" in cell for cells in result["cells"].values() for cell in cells.values()):
        parts += ["## True norm of the policy gradient", *_true(result)]
    if result.get("runs"):
        parts += ["## Runs", _runs(result["runs"])]
    return "\n\n".join(parts) + "\n"


def _each(result: dict) -> Iterable[tuple[str, str, dict]]:
    for advantage, cells in result["cells"].items():
        for name, cell in cells.items():
            yield advantage, name, cell


def _cells(result: dict) -> str:
    rows = []
    for advantage, name, cell in _each(result):
        summary = cell["summary"]
        rows.append(
            [
                f"{name}, {advantage}",
                _span(summary["easy_over_hard"]),
                _span(summary["easy_pearson"]),
                _span(summary["easy_spearman"]),
                _span(summary["effective_pairs"], 1),
                _span(summary["max_over_min"], 1),
                _span(summary["gini"]),
                f"{_pair(cell['largest_pair'])} {100 * summary['largest']['value']:.1f}",
                f"{_pair(cell['smallest_pair'])} {100 * summary['smallest']['value']:.1f}",
            ]
        )
    return _table((*SUMMARY, "largest, %", "smallest, %"), rows)


def _left(result: dict, key: str) -> str:
    advantages = list(result["cells"])
    rows = []
    for name in result["rewards"]:
        cells = [result["cells"][advantage][name][key]["all"] for advantage in advantages]
        rows.append([name, *(f"{_number(cell['across'])}, {_number(cell['within'])}" for cell in cells)])
    return _table(["normaliser", *advantages], rows)


def _left_by_task(cells: dict) -> str:
    tasks = [task for task in next(iter(cells.values()))["left_of_none"] if task != "all"]
    rows = []
    for name, cell in cells.items():
        rows.append([name, *(_number(cell["left_of_none"][task]["within"]) for task in tasks)])
    return _table(["normaliser", *tasks], rows)


def _groups(result: dict) -> str:
    rows = []
    for name, rewards in result["rewards"].items():
        changes = rewards["groups_against_none"]["all"]
        shares = [changes[key] for key in ("reordered", "tied", "died", "revived")]
        rows.append([name, *(_number(x) for x in (*shares, rewards["dead_groups"], rewards["faint_groups"]))])
    return _table(("normaliser", "reordered", "ties change", "died", "revived", "dead", "std below 1e-4"), rows)


def _causes(result: dict) -> str:
    names = ("curvature", "mixture", "epsilon", "format")
    rows = []
    for advantage, causes in result["parts"].items():
        found = (causes.get(name) for name in names)
        cells = ("-" if c is None else f"{_number(c['within'])} ({_number(c['across'])})" for c in found)
        rows.append([advantage, *cells])
    return _table(("advantage", *names), rows)


def _rewards(result: dict) -> str:
    names = list(result["rewards"])
    rows = []
    for pair, row in result["pairs"].items():
        cells = [result["rewards"][name]["pairs"][pair] for name in names]
        texts = (
            f"{_number(c['mean'], 2)} ± {_number(c['std'], 2)}, {100 * (c['saturated'] or 0):.0f} %" for c in cells
        )
        rows.append([_pair(pair), f"{row['answers']}", *texts])
    return "Mean ± std, and the saturated share of the answers that parse.\n\n" + _table(
        ("pair", "answers", *names), rows
    )


def _shares(result: dict, cells: dict) -> str:
    rows = []
    for pair, row in sorted(result["pairs"].items(), key=lambda item: item[1]["raw_mean"]):
        shares = (f"{100 * cell['pairs'][pair]['gradient_share']:.1f}" for cell in cells.values())
        rows.append([_pair(pair), _number(row["raw_mean"], 2), _number(row["raw_group_std"], 3), *shares])
    return _table(("pair, hardest first", "raw mean", "raw std in a group", *cells), rows)


def _true(result: dict) -> list[str]:
    rows = []
    for advantage, name, cell in _each(result):
        summary = cell["true_gradient"]["summary"]
        keys = {
            "easy_over_hard": 2,
            "easy_pearson": 2,
            "easy_spearman": 2,
            "effective_pairs": 1,
            "max_over_min": 1,
            "gini": 2,
        }
        rows.append([f"{name}, {advantage}", *(_span(summary[key], digits) for key, digits in keys.items())])
    parts = [_table(SUMMARY, rows)]
    for advantage, cells in result["cells"].items():
        lines = []
        for pair, row in sorted(result["pairs"].items(), key=lambda item: item[1]["raw_mean"]):
            found = [cell["true_gradient"]["pairs"].get(pair) for cell in cells.values()]
            if None not in found:
                lines.append([_pair(pair), *(f"{100 * x['share']:.1f}" for x in found)])
        parts += [f"Share in %, `{advantage}`:", _table(("pair, hardest first", *cells), lines)]
    return parts


def _runs(runs: dict[str, dict]) -> str:
    rows = []
    for run, row in runs.items():
        change = row["acc_change"]
        told = "-" if change is None else f"{change['acc_change']:+.3f}"
        if change and change["low"] is not None:
            told += f" ({change['low']:+.3f}..{change['high']:+.3f})"
        numbers = (_number(row[key]) for key in ("acc_before", "acc_after"))
        rewards = (_number(row[key]) for key in ("reward_first5", "reward_last5"))
        shares = row["gradient_share"]
        pull = "-" if shares is None else _number(shares["summary"]["effective_pairs"], 1)
        rows.append([run, row["status"], str(row["steps"]), *numbers, told, *rewards, pull])
    head = ("run", "status", "steps", "acc SFT", "acc after", "change (95 %)", "reward first 5", "reward last 5")
    return _table((*head, "effective pairs"), rows)
