# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a page shows of a run first: what was run, what came of it, and what deserves a look."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from recipes.medgrpo.files import read_json
from recipes.medgrpo.reporting import warnings
from recipes.medgrpo.reporting.view import RunView
from recipes.medgrpo.training.logged_steps import attempt_files
from recipes.medgrpo.training.recording import VERSIONS


def iso(when: float) -> str:
    """A time in seconds since 1970 as ISO 8601, in the machine's own zone."""
    return datetime.datetime.fromtimestamp(when).astimezone().isoformat(timespec="seconds")


def overview(view: RunView) -> dict[str, Any]:
    """Settings, figures and warnings of a run, and which data there are."""
    shown, summary = view.curves.shown(), view.summary
    compared: Mapping[str, Any] = view.compared or {"figures": [], "leaderboard": []}
    attempts = zip(shown["step"], shown["attempt"], shown["attempt"][:1] + shown["attempt"], strict=False)
    return {
        "id": view.id,
        "name": view.name,
        "folder_name": view.run.resolve().name,
        "status": view.status,
        "steps": shown["step"][-1] if shown["step"] else 0,
        "started": _started(view),
        "settings": view.configuration.rows(),
        "versions": _versions(view),
        "judge": summary.get("judge"),
        "figures": compared["figures"],
        "leaderboard": compared["leaderboard"],
        "warnings": _warnings(view, shown["series"], compared, summary),
        "resumes": [step for step, attempt, before in attempts if attempt != before],
        "pairs": view.pairs,
        "metrics": sorted(shown["series"]),
        "rows": len(view.book),
        "every": max(1, view.steps.every),
        "era": view.steps.era,
        "has": {
            "rollouts": bool(view.steps.steps),
            "texts": bool(view.steps.said),
            "evaluation": view.compared is not None,
            "statistics": (view.run / "statistics.json").exists(),
        },
    }


def _warnings(
    view: RunView, series: Mapping[str, Any], compared: Mapping[str, Any], summary: Mapping[str, Any]
) -> list[dict[str, Any]]:
    problems = [*view.problems.values(), *view.steps.problems.values()]
    lines: list[dict[str, Any]] = [{"kind": "file", "text": problem, "link": None} for problem in problems]
    if failed := summary.get("failed_rollouts"):
        lines.append({"kind": "failed", "text": f"{failed} rollouts failed", "link": f"#training?run={view.id}"})
    lines += warnings.of_figures(view.id, compared["figures"], compared["leaderboard"])
    lines += warnings.of_curves(view.id, series)
    return lines + warnings.of_rollouts(view.id, [step for _, step in view.steps.since()], view.pairs)


def _started(view: RunView) -> str | None:
    times = [file.stat().st_mtime for file in (view.run / "plan.json", *attempt_files(view.run)) if file.exists()]
    return iso(min(times)) if times else None


def _versions(view: RunView) -> dict[str, str]:
    file = view.steps.root / VERSIONS
    found = read_json(file) if file.exists() else {}
    return {name: version for name, version in found.items() if version is not None}
