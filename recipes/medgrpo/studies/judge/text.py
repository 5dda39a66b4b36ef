# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A study of a judge for a reader: Markdown out of its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recipes.medgrpo.studies.judge.expectations import EXPECTATIONS
from recipes.medgrpo.terminal import number, span, table
from reward_score.judge import DIMENSIONS

SHORT = [name.split("_")[0] for name in DIMENSIONS]


def markdown(report: Mapping[str, Any]) -> str:
    """Any of the three reports."""
    body = {"agreement": _agreement, "repeat": _repeat, "probes": _probes}[report["study"]]
    missing = ", ".join(f"{kind} {count}" for kind, count in report["failures"].items()) or "none"
    head = [
        f"# Judge study: {report['study']}",
        f"Judge `{report['judge']}`; {report['items']} items of {report['videos']} videos; judgements "
        f"{report['judged']}, failed: {missing}. Brackets: 95 % intervals by bootstrap over videos.",
    ]
    head += [f"**Incomplete**: {report['incomplete']}."] if report["incomplete"] else []
    return "\n\n".join([*head, *body(report)]) + "\n"


def _agreement(report: Mapping[str, Any]) -> Iterable[str]:
    yield (
        "Pearson and Spearman use the ratings as they are. Kappas, exact and within-one agreement need categories: "
        "ratings that are not whole are rounded, halves up. Bias: judge minus human. `mean`: of the five dimensions; "
        "`pooled`: all ratings of all dimensions in one list."
    )
    yield "## Judge against the mean of the raters"
    yield _figures(report["judge_against_humans"]["overall"])
    yield from _parts(report["judge_against_humans"]["sources"])
    if (humans := report["humans_against_humans"]) is not None:
        yield "## Each rater against the mean of the others"
        yield _figures(humans["each_against_the_others"])
        yield from _parts(humans["pairs"])


def _parts(parts: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    for name, rows in parts.items():
        yield f"### {' '.join(name.split())}"
        yield _figures(rows)


def _figures(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per row of figures, and below why some have no value."""
    names = [name for name in next(iter(rows.values())) if name not in ("n", "videos")]
    lines = [
        [row, found["n"], found["videos"], *(span(found[name], ".2f") for name in names)] for row, found in rows.items()
    ]
    why = [
        f"{row}, {name}: {found[name]['why']}" for row, found in rows.items() for name in names if found[name]["why"]
    ]
    return table(["", "n", "videos", *names], lines) + (f"\n\n-: undefined ({'; '.join(why)})" if why else "")


def _repeat(report: Mapping[str, Any]) -> Iterable[str]:
    yield (
        f"Each item judged {report['times']} times. identical: share of items with the same score every time. "
        "within_sd: standard deviation within items, in points. icc: intraclass correlation of one score (one-way)."
    )
    yield _figures(report["rows"])


def _probes(report: Mapping[str, Any]) -> Iterable[str]:
    yield (
        f"References: {report['kind']}, asked about as {report['asked_as']}. "
        "Mean scores of edited references judged against the untouched ones. Expectations are of every dimension named "
        "(none: of the mean of the five), compared with the reference judged against itself unless another probe is "
        "named; `holds` is the share of references where they are met. Skipped: the edit does not apply."
    )
    lines = []
    for name, found in report["probes"].items():
        means = [number(value, ".2f") for value in found["means"].values()]
        lines.append([name, found["n"], found["skipped"], *means, _expected(found), span(found["holds"], ".2f")])
    yield table(["probe", "n", "skipped", *SHORT, "mean", "expected", "holds"], lines)
    yield "## A true paraphrase against a false near-copy"
    ordered = [
        [one["better"], one["worse"], _names(one["touches"]), one["holds"]["n"], span(one["holds"], ".2f")]
        for one in report["orderings"]
    ]
    yield table(["must score higher", "than", "in", "n", "holds"], ordered)
    yield "## What each dimension says of its own"
    yield (
        "Over all answers of all probes: the share of a dimension's variance that a line through the sum of the other "
        "four does not tell. `tested by`: answers of probes that touch it and not all five."
    )
    own = [[name, span(found["own"], ".2f"), found["probes"]] for name, found in report["dimensions"].items()]
    yield table(["dimension", "own", "tested by"], own)
    yield "## The project page's pair"
    pair = report["page_pair"]
    judged = []
    for one in pair["judged"]:
        scores = [one["scores"][name] for name in DIMENSIONS] if one["scores"] else []
        cells = [number(value, ".2f") for value in (*scores, sum(scores) / len(scores))] if scores else ["-"] * 6
        judged.append([one["candidate"], one["reference"], *cells])
    yield table(["candidate", "reference", *SHORT, "mean"], judged)
    cosine = pair["cosine"]
    yield f"Cosine of the two by our sentence encoder: {cosine['why'] or number(cosine['value'])}."


def _expected(found: Mapping[str, Any]) -> str:
    words, _ = EXPECTATIONS[found["expect"]]
    other = "its own" if found["against"] == "reference" else found["against"]
    compared = found["expect"] not in ("highest", "lowest")
    return f"{_names(found['touches'])} {words}" + (f" {other}" if compared else "")


def _names(touches: Sequence[str]) -> str:
    if not touches:
        return "mean"
    return "all" if len(touches) == len(DIMENSIONS) else ", ".join(touches)
