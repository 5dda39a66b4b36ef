# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The numbers of `pictures` drawn. Needs matplotlib, and no display."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PREFIX = "medvidbench/"
SIGNAL, BEFORE, AFTER = "#8c8c8c", "#c46a2c", "#2c6fb3"
DPI = 110


def draw(numbers: dict, folder: Path) -> list[Path]:
    """All pictures of `histograms.json`'s content; returns their files."""
    tasks: dict[str, dict[str, dict]] = defaultdict(dict)
    for pair, row in numbers["pairs"].items():
        tasks[pair.rpartition("/")[2]][pair] = row
    figures = {f"histograms_{task}": _histograms(task, rows, numbers) for task, rows in sorted(tasks.items())}
    figures["overview"] = _overview(numbers)
    if "gradient_share" in numbers:
        figures["gradient_share"] = _shares(numbers["gradient_share"])
    files = []
    for name, figure in figures.items():
        file = folder / f"{name}.png"
        draft = folder / f".{name}.png"
        FigureCanvasAgg(figure).print_png(draft)
        draft.replace(file)
        files.append(file)
    return files


def _name(pair: str) -> str:
    return pair.removeprefix(PREFIX)


def _after(numbers: dict) -> str:
    return "after (logistic)" if numbers["after"] == "logistic" else "as recorded"


def _histograms(task: str, rows: dict[str, dict], numbers: dict) -> Figure:
    """A row of panels per pair: each raw signal, the reward before and after."""
    signals = sorted({signal for row in rows.values() for signal in row["signals"]})
    columns = [*(f"raw {signal}" for signal in signals), "reward, not normalised", f"reward, {_after(numbers)}"]
    figure = Figure(figsize=(3.1 * len(columns), 1.9 * len(rows) + 0.7), dpi=DPI, layout="constrained")
    figure.suptitle(f"{task}: share of answers by value", fontsize=11)
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
    edges = np.array(numbers["bins"])
    for line, (pair, row) in zip(panels, rows.items(), strict=True):
        cells = [*((row["signals"].get(signal), SIGNAL) for signal in signals)]
        cells += [(row["before"], BEFORE), (row["after"], AFTER)]
        line[0].set_ylabel(f"{_name(pair).rpartition('/')[0]}\nn = {row['after']['n']}", fontsize=9)
        for panel, (cell, colour) in zip(line, cells, strict=True):
            if cell is None:
                panel.set_axis_off()
            else:
                _panel(panel, cell, edges, colour)
    for panel, title in zip(panels[0], columns, strict=True):
        panel.set_title(title, fontsize=10)
    return figure


def _panel(panel, cell: dict, edges: np.ndarray, colour: str) -> None:
    heights = np.array(cell["counts"]) / max(1, cell["n"])
    panel.bar(edges[:-1], heights, width=np.diff(edges), align="edge", color=colour, edgecolor="white", linewidth=0.4)
    # Room for the text above the bars, wherever they are.
    panel.axvline(cell["median"], ymax=0.72, color="black", linewidth=1, linestyle=":")
    panel.set_ylim(0, 1.75 * max(heights.max(), 1e-9))
    panel.set_xlim(-0.02, 1.02)
    panel.tick_params(labelsize=7)
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.spines[["top", "right"]].set_visible(False)
    text = (
        f"var {cell['variance']:.3f}   median {cell['median']:.2f}\n"
        f"IQR {cell['iqr']:.2f}   saturated {100 * cell['saturated']:.0f} %"
    )
    panel.text(0.03, 0.97, text, transform=panel.transAxes, va="top", fontsize=7.5, linespacing=1.4)


def _overview(numbers: dict) -> Figure:
    """Mean (dot) and standard deviation (bar, cut at 0 and 1) of every pair's reward, the hardest below."""
    rows = sorted(numbers["pairs"].items(), key=lambda item: item[1]["before"]["mean"])
    figure = Figure(figsize=(8.5, 0.3 * len(rows) + 1.6), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    places = np.arange(len(rows))
    titles = ("not normalised", _after(numbers))
    for panel, key, title, colour in zip(panels, ("before", "after"), titles, (BEFORE, AFTER), strict=True):
        means = np.array([row[key]["mean"] for _, row in rows])
        stds = np.sqrt([row[key]["variance"] for _, row in rows])
        bars = np.minimum(stds, [means, 1 - means])
        panel.errorbar(means, places, xerr=bars, fmt="o", color=colour, ecolor=colour, elinewidth=1.4, markersize=4)
        panel.set_title(f"{title}\nspread of the pairs' means {means.std():.3f}", fontsize=10)
        panel.set_xlabel("reward: mean and standard deviation within 0 to 1", fontsize=9)
        panel.axvline(0.5, color="#bbbbbb", linewidth=0.8, zorder=0)
        panel.grid(axis="y", color="#eeeeee", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].set_yticks(places, [_name(pair) for pair, _ in rows])
    panels[0].set_ylim(-0.7, len(rows) - 0.3)
    panels[0].set_xlim(-0.03, 1.03)
    return figure


def _shares(over_steps: dict) -> Figure:
    """Pairs over steps: each pair's share against an equal one, on a logarithmic scale of colours."""
    pairs = list(over_steps["shares"])
    table = np.array([[np.nan if x is None else x for x in over_steps["shares"][pair]] for pair in pairs], dtype=float)
    with np.errstate(divide="ignore"):
        # In a step that holds some pairs only, an equal share is one of those.
        times = np.log2(table * np.maximum(1, np.isfinite(table).sum(0)))
    steps = over_steps["steps"]
    figure = Figure(figsize=(max(6.0, 0.14 * len(steps) + 4), 0.26 * len(pairs) + 1.6), dpi=DPI, layout="constrained")
    panel = figure.subplots()
    image = panel.imshow(np.clip(times, -3, 3), aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, interpolation="nearest")
    panel.set_facecolor("#dddddd")
    panel.set_yticks(range(len(pairs)), [_name(pair) for pair in pairs], fontsize=8)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(10, len(steps))).round().astype(int))
    panel.set_xticks(shown, [str(steps[at]) for at in shown], fontsize=8)
    panel.set_xlabel("training step", fontsize=9)
    panel.set_title("share of tokens x |advantage|, against an equal share (grey: pair not in the batch)", fontsize=10)
    bar = figure.colorbar(image, ticks=[-3, -2, -1, 0, 1, 2, 3], shrink=0.8)
    bar.ax.set_yticklabels(["1/8 or less", "1/4", "1/2", "equal", "2 x", "4 x", "8 x or more"], fontsize=8)
    return figure
