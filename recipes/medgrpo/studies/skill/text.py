# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The study for a reader: Markdown tables out of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipes.medgrpo.studies.skill.figures import FIGURES
from recipes.medgrpo.studies.skill.protocol import PUBLISHED
from recipes.medgrpo.terminal import span, table

NAMES = {
    "protomaml": "ProtoMAML",
    "protonet": "ProtoNet",
    "linear_probe": "linear probe",
    "language_model": "language model",
}
MEAN = "mean of domains"
TITLES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "auc": "Area under the curve"}


def markdown(result: Mapping[str, Any]) -> str:
    """The whole study."""
    about, shots = result["about"], result["shots"]
    optimistic = result["protocol"] == PUBLISHED
    parts = [
        "# Skill from a few trials"
        + (" (optimistic: stopped on the domain that it is tested on)" if optimistic else ""),
        f"{about['trials']} trials in {about['domains']} tested domains, {about['classes']} classes, seeds "
        f"{', '.join(map(str, result['seeds']))}; features: {about['what']}. Columns: trials of each class in a "
        "support set. Every disjoint support set counts; who is asked about is in no support set and in no training. "
        f"95 % intervals by bootstrap over surgeons ({about['surgeons']}). `-`: too few trials for a support set.",
    ]
    if rates := about.get("bayes_rate"):
        parts.append("Best possible accuracy: " + ", ".join(f"{rates[str(k)]:.3f} (k = {k})" for k in shots) + ".")
    for figure in FIGURES:
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for row in result["figures"]:
            rows.setdefault((row["domain"], row["method"]), {})[str(row["shots"])] = span(row[figure])
        lines = [
            [domain, NAMES[method], *(cells.get(str(k), cells.get("None", "-") if k == 1 else "-") for k in shots)]
            for (domain, method), cells in rows.items()
        ]
        parts += [f"## {TITLES[figure]}", table(["domain", "method", *(f"k = {k}" for k in shots)], lines)]
    if result["differences"]:
        lines = [
            [f"{NAMES[row['first']]} less {NAMES[row['second']]}", row["shots"], *(_signed(row[f]) for f in FIGURES)]
            for row in result["differences"]
        ]
        parts += ["## Paired differences, mean of domains", table(["", "k", *(TITLES[f] for f in FIGURES)], lines)]
    if result["stops"]:
        stops = [
            [r["domain"], NAMES[r["method"]], r["seed"], r["fold"], r["epoch"], r["accuracy"]] for r in result["stops"]
        ]
        parts += [
            "## Where training stopped",
            table(["tested", "method", "seed", "fold", "epoch", "accuracy where stopped on"], stops),
        ]
    return "\n\n".join(parts) + "\n"


def _signed(found: Mapping[str, Any]) -> str:
    return span(found, "+.3f")
