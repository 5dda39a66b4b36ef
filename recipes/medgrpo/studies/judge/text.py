# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A study of a judge for a reader: Markdown out of its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recipes.medgrpo.evaluation.tables import table
from recipes.medgrpo.studies.judge import repeatability
from recipes.medgrpo.studies.judge.agreement import FIGURES
from recipes.medgrpo.studies.judge.expectations import EXPECTATIONS
from reward_score.judge import DIMENSIONS

INTERVALS = "Brackets: 95 % intervals by bootstrap over videos."


def markdown(report: Mapping[str, Any]) -> str:
    """Any of the three reports."""
    body = {"agreement": _agreement, "repeat": _repeat, "probes": _probes}[report["study"]]
    return "\n\n".join([*_head(report), *body(report)]) + "\n"


def _head(report: Mapping[str, Any]) -> list[str]:
    judge, failed = report["judge"], report["failures"]
    missing = ", ".join(f"{kind} {count}" for kind, count in failed.items()) or "none"
    lines = [
        f"# Judge study: {report['study']}",
        f"Judge `{judge}`; {report['items']} items of {report['videos']} videos; judgements {report['judged']}, "
        f"failed: {missing}. {INTERVALS}",
    ]
    return lines + ([f"**Incomplete**: {report['incomplete']}."] if report["incomplete"] else [])


def _agreement(report: Mapping[str, Any]) -> Iterable[str]:
    yield (
        "Pearson and Spearman use the ratings as they are. Kappas, exact and within-one agreement need categories: "
        "ratings that are not whole are rounded, halves up. Bias: judge minus human. `mean`: of the five dimensions; "
        "`pooled`: all ratings of all dimensions in one list."
    )
    yield "## Judge against the mean of the raters"
    yield _figures(report["judge_against_humans"]["overall"])
    for source, found in report["judge_against_humans"]["sources"].items():
        yield f"### {_line(source)}"
        yield _figures(found)
    humans = report["humans_against_humans"]
    if humans is None:
        return
    yield "## Each rater against the mean of the others"
    yield _figures(humans["each_against_the_others"])
    for pair, found in humans["pairs"].items():
        yield f"### {_line(pair)}"
        yield _figures(found)


def _figures(rows: Mapping[str, Mapping[str, Any]]) -> str:
    return _rows(rows, FIGURES) + _reasons(rows, FIGURES)


def _rows(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    return table(
        ["", "n", "videos", *names],
        [
            [row, str(found["n"]), str(found["videos"]), *(_span(found[name]) for name in names)]
            for row, found in rows.items()
        ],
    )


def _reasons(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    why = [
        f"{row}, {name}: {found[name]['why']}" for row, found in rows.items() for name in names if found[name]["why"]
    ]
    return "\n\n-: undefined (" + "; ".join(why) + ")" if why else ""


def _repeat(report: Mapping[str, Any]) -> Iterable[str]:
    yield (
        f"Each item judged {report['times']} times. identical: share of items with the same score every time. "
        "within_sd: standard deviation within items, in points. icc: intraclass correlation of one score (one-way)."
    )
    yield _rows(report["rows"], repeatability.FIGURES) + _reasons(report["rows"], repeatability.FIGURES)


def _probes(report: Mapping[str, Any]) -> Iterable[str]:
    yield (
        "Mean scores of edited references judged against the untouched ones. Expectations are of every dimension named "
        "(none: of the mean of the five), compared with the reference judged against itself unless another probe is "
        "named; `holds` is the share of references where they are met. Skipped: the edit does not apply."
    )
    header = ["probe", "n", "skipped", *(name.split("_")[0] for name in DIMENSIONS), "mean", "expected", "holds"]
    lines = []
    for name, found in report["probes"].items():
        means = ["-" if value is None else f"{value:.2f}" for value in found["means"].values()]
        lines.append([name, str(found["n"]), str(found["skipped"]), *means, _expected(found), _span(found["holds"])])
    yield table(header, lines)
    yield "## A true paraphrase against a false near-copy"
    yield table(
        ["must score higher", "than", "in", "n", "holds"],
        [
            [one["better"], one["worse"], _names(one["touches"]), str(one["holds"]["n"]), _span(one["holds"])]
            for one in report["orderings"]
        ],
    )
    yield "## The project page's pair"
    pair = report["page_pair"]
    yield table(
        ["candidate", "reference", *(name.split("_")[0] for name in DIMENSIONS), "mean"],
        [[one["candidate"], one["reference"], *_scores(one["scores"])] for one in pair["judged"]],
    )
    cosine = pair["cosine"]
    known = cosine["why"] if cosine["value"] is None else _number(cosine["value"], 3)
    yield f"Cosine of the two by our sentence encoder: {known}."


def _scores(scores: Mapping[str, float] | None) -> list[str]:
    if scores is None:
        return ["-"] * (len(DIMENSIONS) + 1)
    return [_number(scores[name]) for name in DIMENSIONS] + [_number(sum(scores.values()) / len(scores))]


def _expected(found: Mapping[str, Any]) -> str:
    words = EXPECTATIONS[found["expect"]]
    where = _names(found["touches"])
    if found["expect"] in ("highest", "lowest"):
        return f"{where} {words}"
    return f"{where} {words} {'its own' if found['against'] == 'reference' else found['against']}"


def _names(touches: Sequence[str]) -> str:
    if not touches:
        return "mean"
    return "all" if len(touches) == len(DIMENSIONS) else ", ".join(touches)


def _line(text: str) -> str:
    return " ".join(text.split())


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _span(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return _number(found["value"])
    return f"{_number(found['value'])} [{_number(found['low'])}, {_number(found['high'])}]"
