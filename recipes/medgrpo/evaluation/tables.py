# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Evaluations and comparisons as JSON and as tables that read on a terminal and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.medgrpo.evaluation.comparison import Comparison, Difference
from recipes.medgrpo.evaluation.intervals import Estimate, Evaluation
from recipes.medgrpo.files import write_atomic, write_json, write_json_lines
from recipes.medgrpo.terminal import number, span, table
from reward_score.leaderboard.contributions import LOST, NAN, SAME, UNJUDGED
from reward_score.leaderboard.figures import ordered

if TYPE_CHECKING:
    from recipes.medgrpo.evaluation.inputs import Dropped

_LEVELS = {"pairs": "dataset-task pair", "tasks": "task", "sources": "source"}
FIRST_ROWS = 10
"""Row numbers that a table names beside a reason; the JSON has all."""
INEXACT = "inexact"
OFFICIAL = {
    SAME: "same",
    LOST: "lost: shows 0",
    NAN: "not a number",
    UNJUDGED: "no judge answered: another measure",
    INEXACT: "not known: see the notes",
}
"""By state of a column (`contributions.Parts.official`) its words in the table."""


def shown(value: float | None, official: str = SAME) -> float | None:
    """What the leaderboard shows for a column: four decimals are printed there, then rounded to three."""
    if official == LOST:
        return 0.0
    return None if value is None or official != SAME else round(float(f"{value:.4f}"), 3)


def group_reasons(reasons: Iterable[tuple[int | None, str]]) -> list[dict[str, Any]]:
    """Rows and why they were left out, by reason: ``reason`` as the first row has it, ``count``, the ``rows`` known.

    Reasons that differ in their numbers only are one reason.
    """
    groups: dict[str, dict[str, Any]] = {}
    for row, reason in reasons:
        group = groups.setdefault(re.sub(r"\d+", "0", reason), {"reason": reason, "count": 0, "rows": []})
        group["count"] += 1
        if row is not None:
            group["rows"].append(row)
    return sorted(groups.values(), key=lambda group: -group["count"])


def build(
    evaluation: Evaluation,
    *,
    dropped: Sequence[Dropped] = (),
    notes: Sequence[str] = (),
    blind: Evaluation | None = None,
    published: Mapping[str, Mapping[str, float]] | None = None,
    inexact: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of one evaluation, as JSON.

    Args:
        evaluation: from `leaderboard.score_leaderboard` or `strict.score_strict`.
        dropped, notes: what the reading of the files had to say.
        inexact: columns that these records cannot give as the official evaluator would, with the reason
            (`inputs.Inputs`).
        blind: what answers without a look at a frame score on the same rows.
        published: by model its columns (`published.published`); leaderboard mode only.
        about: where it all comes from (files, judge, ...), kept as it is.
    """
    missing = Estimate(None, None, None, 0, 0)
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for level, groups in evaluation.scores.items():
        scores[level] = {}
        for group, figures in groups.items():
            guessed = blind.scores[level].get(group, {}) if blind else {}
            if level == "overall":  # a column all of whose records are lost is still to be named
                figures = {name: figures.get(name, missing) for name in ordered({*figures, *evaluation.parts.official})}
            scores[level][group] = {name: asdict(estimate) for name, estimate in figures.items()}
            for name, entry in scores[level][group].items():
                if name in guessed and guessed[name].value is not None:
                    entry["blind"] = guessed[name].value
                if level == "overall" and evaluation.mode == "leaderboard":
                    state = evaluation.parts.official[name]
                    entry["official"] = INEXACT if state == SAME and name in (inexact or {}) else state
                    entry["leaderboard"] = shown(entry["value"], entry["official"])
    # Once, though it costs two columns.
    lost = dict.fromkeys((loss.row, loss.reason) for loss in evaluation.parts.losses)
    reasons: list[tuple[int | None, str]] = [(evaluation.rows[row].index, reason) for row, reason in lost]
    reasons += [(item.index, item.what) for item in dropped]
    return {
        "mode": evaluation.mode,
        **({"about": dict(about)} if about else {}),
        "rows": len(evaluation.rows),
        "videos": len({row.video for row in evaluation.rows}),
        "bootstrap": {"over": "videos", "resamples": evaluation.resamples, "seed": evaluation.seed, "level": 0.95},
        "scores": scores,
        "published": {model: dict(values) for model, values in (published or {}).items()},
        "left_out": group_reasons(reasons),
        "notes": [*notes, *(f"{name}: {reason}" for name, reason in (inexact or {}).items())],
    }


def _cell(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _figures_table(report: Mapping[str, Any], level: str) -> str:
    """A line per figure of each group; of the whole file with what the leaderboard shows and published figures."""
    whole, leaderboard = level == "overall", report["mode"] == "leaderboard"
    models = list(report["published"]) if whole and leaderboard else []
    lines = []
    for group, figures in report["scores"][level].items():
        for name, entry in figures.items():
            line = [] if whole else [group]
            line += [name, entry["value"], span(entry, value=None), entry["rows"], entry["videos"], entry.get("blind")]
            line += [entry["leaderboard"], OFFICIAL[entry["official"]]] if whole and leaderboard else []
            lines.append([*line, *(report["published"][model].get(name) for model in models)])
    header = [] if whole else [level[:-1]]
    header += ["column" if leaderboard else "figure", "value", "95 % interval", "rows", "videos", "blind"]
    header += ["leaderboard shows", "official evaluator"] if whole and leaderboard else []
    return table([*header, *models], lines)


def _signals_table(report: Mapping[str, Any], level: str) -> str:
    """Strict mode: a line per group."""
    lines = []
    for group, figures in report["scores"][level].items():
        if not figures:
            continue
        acc, form = figures["acc"], figures["format"]
        signals = [f"{name[4:]} {number(entry['value'])}" for name, entry in figures.items() if name[:4] == "raw_"]
        line = [group, acc["rows"], acc["videos"], acc["value"], span(acc, value=None)]
        lines.append([*line, acc.get("blind"), form["value"], ", ".join(signals)])
    return table([level[:-1], "rows", "videos", "acc", "95 % interval", "blind", "format", "raw signals"], lines)


def markdown(report: Mapping[str, Any]) -> str:
    """The report of `build` as text."""
    mode = report["mode"]
    blocks = [
        f"# {mode.capitalize()} evaluation",
        f"{report['rows']} rows, {report['videos']} videos; intervals by bootstrap over videos, "
        f"{report['bootstrap']['resamples']} resamples.",
    ]
    if "about" in report:
        blocks.append("\n".join(f"- {_cell(name)}: {_cell(value)}" for name, value in report["about"].items()))
    blocks.append(_figures_table(report, "overall"))
    inner = _figures_table if mode == "leaderboard" else _signals_table
    for level in ("pairs", "sources") if mode == "leaderboard" else ("pairs", "tasks", "sources"):
        if report["scores"].get(level):
            blocks += [f"## By {_LEVELS[level]}"]
            blocks.append(inner(report, level))
    if report["left_out"]:
        blocks.append("## Left out")
        lines = []
        for group in report["left_out"]:
            first = group["rows"][:FIRST_ROWS]
            rows = ", ".join(map(str, first)) + (", ..." if group["count"] > len(first) else "")
            lines.append([group["count"], rows, group["reason"]])
        blocks.append(table(["rows", "first of them", "why (the first one's words)"], lines))
    if report["notes"]:
        blocks += ["## Notes", "\n".join(f"- {_cell(note)}" for note in report["notes"])]
    return "\n\n".join(blocks) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """A comparison as text."""

    def line(name: str, found: Difference) -> list[Any]:
        sides = [found.first, found.second, number(found.difference, "+.3f")]
        p = "-" if found.p is None else f"{found.p:.4f}{'' if found.exact else ' ~'}"
        tail = [p, number(found.p_holm, ".4f"), number(found.effect, "+.2f"), found.rows, found.videos]
        return [name, *sides, span(asdict(found), "+.3f", None), *tail]

    header = ["figure", "first", "second", "difference", "95 % interval", "p", "p Holm", "d", "rows", "videos"]
    blocks = [
        f"# Comparison, {comparison.mode} mode",
        f"{comparison.rows} rows of {comparison.videos} videos that both have; difference = second - first, interval "
        "by bootstrap over videos, p by exchange of the videos' answers (~: drawn at random), corrected after Holm; "
        "d: mean over videos of the difference by its standard deviation.",
        table(header, [line(name, found) for name, found in comparison.scores["overall"]["all"].items()]),
    ]
    for level, groups in comparison.scores.items():
        if level == "overall":
            continue
        # The other figures of a group stand in the JSON.
        lines = [[group, *line("acc", figures["acc"])] for group, figures in groups.items() if "acc" in figures]
        blocks += [f"## By {_LEVELS[level]}", table([level[:-1], *header], lines)]
    for title, names in (
        ("Only in the first", comparison.only_first),
        ("Only in the second", comparison.only_second),
        ("Left out: one of the two could not score it", comparison.left_out),
    ):
        if names:
            more = ", ..." if len(names) > FIRST_ROWS else ""
            blocks.append(f"{title}: {len(names)} ({_cell('; '.join(names[:FIRST_ROWS]))}{more})")
    return "\n\n".join(blocks) + "\n"


def publish(folder: Path, name: str, content: Mapping[str, Any], text: str) -> None:
    """Write what was found as ``<name>.json`` and, as text for people, as ``<name>.md``; print the text."""
    # A name in the data may hold half a surrogate pair, which neither files nor terminals take.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    write_json(folder / f"{name}.json", content)
    write_atomic(folder / f"{name}.md", text)
    print(text)


def write(folder: Path, report: Mapping[str, Any], evaluation: Evaluation | None = None) -> None:
    """``report.json`` and ``report.md``; with an evaluation ``records.jsonl`` too, a line per row."""
    if evaluation is not None:
        write_json_lines(folder / "records.jsonl", _lines(evaluation))
    publish(folder, "report", report, markdown(report))


def write_comparison(folder: Path, comparison: Comparison, about: Mapping[str, Any] | None = None) -> None:
    """``comparison.json`` and ``comparison.md``."""
    content = {**({"about": dict(about)} if about else {}), **asdict(comparison)}
    publish(folder, "comparison", content, comparison_markdown(comparison))


def _lines(evaluation: Evaluation) -> list[dict[str, Any]]:
    reasons: dict[int, list[str]] = {}
    for loss in evaluation.parts.losses:
        reasons.setdefault(loss.row, []).append(loss.reason)
    return [
        {
            "file": row.file,
            "index": row.index,
            "data_source": row.data_source,
            "video": row.video,
            **numbers,
            **({"left_out": reasons[number]} if number in reasons else {}),
        }
        for number, (row, numbers) in enumerate(zip(evaluation.rows, evaluation.records, strict=True))
    ]
