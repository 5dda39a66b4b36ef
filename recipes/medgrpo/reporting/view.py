# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run as the pieces of data that a page asks for, made from what its files say now."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.files import InputError, read_json
from recipes.medgrpo.reporting import warnings
from recipes.medgrpo.reporting.configuration import Configuration
from recipes.medgrpo.reporting.curves import CurveBook
from recipes.medgrpo.reporting.distributions import RECENT, distributions, newest, sampled, scorer_of
from recipes.medgrpo.reporting.evaluation import Evaluated
from recipes.medgrpo.reporting.growing import Tail
from recipes.medgrpo.reporting.rows import RowBook
from recipes.medgrpo.reporting.said import answered
from recipes.medgrpo.reporting.steps import StepBook, steps_there
from recipes.medgrpo.reporting.thumbnails import Thumbnails
from recipes.medgrpo.training.checkpoints import latest_complete
from recipes.medgrpo.training.logged_steps import LoggedSteps, attempt_files, with_lost_steps
from recipes.medgrpo.training.recording import ROLLOUTS, VERSIONS

CHECKPOINTS = ("grpo", "checkpoints", ".")
"""Where the checkpoints of a run may lie, and with them its recorded answers."""
NAME = re.compile(r"(curves|distributions|evaluation|rollouts|rows|answers)_(r\d+)(?:_(\d+))?")
"""A piece of data: its kind, the run, and of rows and answers the number."""


class RunView:
    """One run.

    Args:
        run: its folder. name: how the page calls it. number: its place among the runs of a report.
        data: the folder of its parquet files; None: in the run's folder, or where its configuration says.
        rows_per_pair: of this many rows of a pair thumbnails are shown.
        most: of a longer run whole steps are left out, evenly, so that about this many answers are shown.
        patient: a file that cannot be read yet is a warning and not an error.

    Raises:
        InputError: no folder of a run, or a file in it that is none of ours.
    """

    def __init__(
        self,
        run: Path,
        number: int,
        name: str,
        thumbs: Thumbnails,
        *,
        data: Path | None = None,
        rows_per_pair: int,
        most: int,
        patient: bool = False,
    ):
        if not run.is_dir():
            raise InputError(f"{run}: no such folder, expected a run's")
        self.run, self.id, self.name, self.patient = run, f"r{number}", name, patient
        self.configuration = Configuration.of(run)
        self.root = next((run / place for place in CHECKPOINTS if (run / place / ROLLOUTS).is_dir()), run / "grpo")
        self.pairs: list[str] = []
        self.book = RowBook(data or self.configuration.data_dir(run), thumbs, rows_per_pair)
        planned, (there, answers) = self.configuration.plan.get("steps"), steps_there(self.root)
        steps = max(there, planned if isinstance(planned, int) else 0)
        self.steps = StepBook(self.root, self.book, self.pairs, max(1, -(-steps * answers // most)))
        self.curves = CurveBook(self.pairs)
        self._logged, self._tails = LoggedSteps(), dict[Path, Tail]()
        self._lost: dict[int, dict] = {}
        self._evaluated: tuple[float, Evaluated] | None = None
        self._seen: tuple = ()

    def refresh(self) -> bool:
        """Take up what has come since the last call; whether anything has.

        Raises:
            InputError: a file that cannot be used.
        """
        records = self._metrics()
        changed = self.steps.refresh(self.patient)
        self.curves.update(records, self.steps.steps)
        if Evaluated.there(self.run):
            when = max(file.stat().st_mtime for file in (self.run / "eval").glob("*/*.json*"))
            if self._evaluated is None or self._evaluated[0] != when:
                self._evaluated = when, Evaluated(self.run)
                vars(self).pop("_compared", None)
        if self.evaluated is not None:
            _ = self._compared  # its rows get their numbers now
        last = records[-1]["step"] if records else 0
        before, self._seen = self._seen, (len(records), last, self._evaluated and self._evaluated[0], self._status())
        return bool(changed) or before != self._seen

    @property
    def evaluated(self) -> Evaluated | None:
        """The evaluations of the run's two checkpoints, None where there are none yet."""
        return self._evaluated and self._evaluated[1]

    @cached_property
    def _compared(self) -> dict[str, Any]:
        assert self.evaluated is not None
        return {
            "rows": self.evaluated.rows(self.book),
            "figures": self.evaluated.figures(),
            "leaderboard": self.evaluated.leaderboard(),
        }

    def _metrics(self) -> list[dict]:
        for attempt, file in enumerate(attempt_files(self.run), 1):
            tail = self._tails.setdefault(file, Tail(file))
            for record in tail.new():
                if not isinstance(record, dict) or not isinstance(record.get("data"), dict) or "step" not in record:
                    raise InputError(f"{file}: expected objects with step and data, found {record!r:.60}")
                self._logged.add(attempt, record)
        known = self._logged.records()
        mine = {record["step"] for record in known}
        joined = with_lost_steps(known, self.root / "sampler", latest_complete(self.root))
        return [one if one["step"] in mine else self._lost.setdefault(one["step"], one) for one in joined]

    def _summary(self) -> Mapping[str, Any]:
        file = self.run / "summary.json"
        found = read_json(file) if file.exists() else {}
        return found if isinstance(found, dict) else {}

    def _status(self) -> str:
        return self._summary().get("status") or "running or interrupted"

    def index(self) -> dict[str, Any]:
        """What the page shows first: settings, figures, warnings, and which data there are."""
        shown, summary = self.curves.shown(), self._summary()
        compared: Mapping[str, Any] = self._compared if self.evaluated else {"figures": [], "leaderboard": []}
        figures, columns = compared["figures"], compared["leaderboard"]
        steps = [step for _, step in self.steps.since()]
        attempts = zip(shown["step"], shown["attempt"], shown["attempt"][:1] + shown["attempt"], strict=False)
        lines = [{"kind": "file", "text": problem, "link": None} for problem in self.steps.problems.values()]
        if failed := summary.get("failed_rollouts"):
            lines.append({"kind": "failed", "text": f"{failed} rollouts failed", "link": f"#training?run={self.id}"})
        lines += warnings.of_figures(self.id, figures, columns)
        lines += warnings.of_curves(self.id, shown["series"])
        lines += warnings.of_rollouts(self.id, steps, self.pairs)
        return {
            "id": self.id,
            "name": self.name,
            "folder_name": self.run.resolve().name,
            "status": self._status(),
            "steps": shown["step"][-1] if shown["step"] else 0,
            "started": self._started(),
            "settings": self.configuration.rows(),
            "versions": self._versions(),
            "judge": summary.get("judge"),
            "figures": figures,
            "leaderboard": columns,
            "warnings": lines,
            "resumes": [step for step, attempt, before in attempts if attempt != before],
            "pairs": self.pairs,
            "metrics": sorted(shown["series"]),
            "rows": len(self.book),
            "every": self.steps.every,
            "era": self.steps.era,
            "has": {
                "rollouts": bool(steps),
                "texts": bool(self.steps.said),
                "evaluation": self.evaluated is not None,
                "statistics": (self.run / "statistics.json").exists(),
            },
        }

    def _started(self) -> str | None:
        times = [file.stat().st_mtime for file in (self.run / "plan.json", *attempt_files(self.run)) if file.exists()]
        return iso(min(times)) if times else None

    def _versions(self) -> dict[str, str | None]:
        file = self.root / VERSIONS
        return read_json(file) if file.exists() else {}

    def names(self) -> Iterator[str]:
        """The pieces of data that there are now. Those of rows come last: others add rows."""
        yield from (f"{kind}_{self.id}" for kind in ("curves", "distributions", "rollouts"))
        yield from (f"answers_{self.id}_{step:06d}" for step, _ in self.steps.since())
        if self.evaluated is not None:
            yield f"evaluation_{self.id}"
        yield from (f"rows_{self.id}_{number}" for number in range(self.book.chunks))

    def piece(self, kind: str, number: int | None, first: int = 0) -> dict[str, Any] | None:
        """A piece of data by the parts of its name; None where there is none of this name.

        `first` is the step from which on rollouts are given.
        """
        if kind in ("rows", "answers"):
            if number is None:
                return None
            if kind == "rows":
                return self.book.chunk(number) if number < self.book.chunks else None
            return self.answers(number) if number in self.steps.steps else None
        if number is not None or (kind == "evaluation" and self.evaluated is None):
            return None
        if kind == "rollouts":
            return self.rollouts(first)
        if kind == "curves":
            return self.curves.shown()
        return self.distributions() if kind == "distributions" else self._compared["rows"]

    def rollouts(self, first: int = 0) -> dict[str, Any]:
        """The columns of all answers from a step on, and by step the name of what they said."""
        steps = list(self.steps.since(first))
        columns: dict[str, Any] = {"step": [number for number, step in steps for _ in range(len(step))]}
        for name, shown in COLUMNS.items():
            whole = [np.array(step.columns[name]) for _, step in steps]
            columns[shown] = np.concatenate(whole) if whole else []
        texts = {str(number): f"answers_{self.id}_{number:06d}" for number, _ in steps}
        return {"from": first, "columns": columns, "texts": texts}

    def answers(self, number: int) -> dict[str, Any]:
        """What the answers of a step say; `text` is None where only the numbers are recorded."""
        step, said = self.steps.steps[number], self.steps.texts(number)
        shown = []
        for pair, row, raw, one in zip(step.columns["pair"], step.columns["row"], step.raw, said, strict=True):
            text = one.get("text")
            value, error = ({}, None) if text is None else answered(self.pairs[pair], text, self.book.extra(row))
            judge = {"marks": one["marks"], "reason": None} if one.get("marks") else None
            parts = {"text": text, "raw": raw, "normalised": one.get("normalised") or {}, "judge": judge}
            shown.append(parts | {"error": error, "said": value})
        return {"answers": shown}

    def distributions(self) -> dict[str, Any]:
        """Histograms of the SFT model's and of the newest answers by pair, and the maps between them."""
        statistics, raw = self.run / "statistics.json", self.run / "raw_signals.jsonl"
        scorer = scorer_of(self.configuration.reward(), statistics if statistics.exists() else None)
        recent = newest(self.steps.last(RECENT), self.pairs)
        return distributions(scorer, sampled(raw) if raw.exists() else {}, recent)


def iso(when: float) -> str:
    """A time in seconds since 1970 as ISO 8601, in the machine's own zone."""
    return datetime.datetime.fromtimestamp(when).astimezone().isoformat(timespec="seconds")


COLUMNS = {"group": "group", "pair": "pair", "row": "row", "score": "reward", "format": "format", "acc": "acc"}
COLUMNS |= {"advantage": "advantage", "tokens": "tokens", "flags": "flags"}
"""Columns of a step, and how the page calls them."""
