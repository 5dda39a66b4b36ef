# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What deserves a look in a run, a line each with a link to where it shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from recipes.medgrpo.reporting.steps import ATTACK, NO_PARSE, REFUSED, Step

SATURATED, DEAD, UNREAD, CORRELATION = 0.5, 0.5, 0.5, 0.99
"""Shares of saturated answers, dead groups and unreadable answers above these deserve a look; a correlation below."""
RECENT = 5
"""Newest points of a curve that are looked at."""

Warning_ = dict[str, Any]


def _line(kind: str, text: str, link: str | None = None) -> Warning_:
    return {"kind": kind, "text": text, "link": link}


def _name(pair: str) -> str:
    return pair.partition("/")[2]


def _recent(values: Iterable[float]) -> float | None:
    """Mean of the newest values of a curve, None where it has none."""
    known = [value for value in list(values)[-RECENT:] if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def of_figures(run: str, figures: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]) -> list[Warning_]:
    """Pairs and columns that are no better than the best answer without a look at a frame."""
    link = f"#evaluation?run={run}"
    behind = [
        f"{row['source']}/{row['task']} {row['after']:.3f}, blind {row['blind']:.3f}"
        for row in figures
        if row["task"] and row["source"] and row["blind"] is not None and row["after"] <= row["blind"]
    ]
    lines = [_line("blind", f"not above the best answer without frames: {one}", link) for one in behind]
    for row in columns:
        if row["blind"] is not None and row["after"] is not None and row["after"] <= row["blind"]:
            text = f"column {row['column']}: {row['after']:.3f}, and {row['blind']:.3f} without frames"
            lines.append(_line("blind", text, "#overview"))
    return lines


def of_curves(run: str, series: Mapping[str, Iterable[float]]) -> list[Warning_]:
    """Saturated pairs, dead groups, a rollout that is not the actor's, a judge that refuses, rollouts that fail."""
    lines = []
    for name, values in series.items():
        measure, level, pair = name.split("|")
        if measure == "saturation" and level == "pair" and (share := _recent(values) or 0) > SATURATED:
            text = f"{_name(pair)}: {share:.0%} of the readable answers of the last steps are saturated"
            lines.append(_line("saturated", text, f"#normalisation?run={run}&pair={pair}"))
    link = f"#training?run={run}"
    dead = _recent(series.get("dead_groups|all|", ()))
    if dead is not None and dead > DEAD:
        lines.append(
            _line("dead groups", f"{dead:.0%} of the last steps' groups have one reward: they teach nothing", link)
        )
    known = [value for value in series.get("rollout_actor_corr|all|", ()) if np.isfinite(value)]
    if known and min(known) < CORRELATION:
        text = f"rollout and actor agree less than they should: the least correlation is {min(known):.4f}"
        lines.append(_line("correlation", text, link))
    refused = [value for value in series.get("judge_refused|all|", ()) if np.isfinite(value)]
    if refused and max(refused) > 0:
        lines.append(
            _line("judge", f"the judge refused or garbled up to {max(refused):.0%} of a step's judgements", link)
        )
    return lines


def of_rollouts(run: str, steps: Sequence[Step], pairs: Sequence[str]) -> list[Warning_]:
    """Answers that address the judge, those that it refused, and pairs whose newest answers mostly cannot be read."""
    lines, link = [], f"#rollouts?run={run}"
    flags = _column(steps, "flags")
    if attacks := int((flags & ATTACK > 0).sum()):
        lines.append(_line("attack", f"{attacks} answers address the judge", f"{link}&flag={ATTACK}"))
    if refused := int((flags & REFUSED > 0).sum()):
        text = f"{refused} answers have no verdict of the judge, and count as wrong"
        lines.append(_line("judge", text, f"{link}&flag={REFUSED}"))
    newest, pair = _column(steps[-RECENT:], "flags"), _column(steps[-RECENT:], "pair")
    for number in np.unique(pair):
        share = float((newest[pair == number] & NO_PARSE > 0).mean())
        if share > UNREAD:
            text = f"{_name(pairs[number])}: {share:.0%} of the newest answers cannot be read"
            lines.append(_line("format", text, f"{link}&pair={pairs[number]}&flag={NO_PARSE}"))
    return lines


def _column(steps: Sequence[Step], name: str) -> np.ndarray:
    return np.concatenate([np.empty(0, int), *(np.array(step.columns[name]) for step in steps)])
