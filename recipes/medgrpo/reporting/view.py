# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run as the pieces of data that a page asks for, made from what its files say now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recipes.medgrpo.files import InputError, RecipeError, read_json
from recipes.medgrpo.reporting.configuration import Configuration
from recipes.medgrpo.reporting.curves import CurveBook
from recipes.medgrpo.reporting.distributions import RECENT, distributions, newest, sampled, scorer_of
from recipes.medgrpo.reporting.evaluation import Evaluated
from recipes.medgrpo.reporting.growing import Tail
from recipes.medgrpo.reporting.rows import RowBook
from recipes.medgrpo.reporting.said import answered
from recipes.medgrpo.reporting.steps import StepBook
from recipes.medgrpo.reporting.thumbnails import Thumbnails
from recipes.medgrpo.training.checkpoints import latest_complete
from recipes.medgrpo.training.logged_steps import LoggedSteps, attempt_files, with_lost_steps
from reward_score.errors import RewardError

CHECKPOINTS = ("grpo", "checkpoints")
"""Where the checkpoints of a run may lie, and with them its recorded answers."""
NAME = re.compile(r"(curves|distributions|evaluation|rollouts|rows|answers)_(r\d+)(?:_(\d+))?")
"""A piece of data: its kind, the run, and of rows and answers the number."""


class RunView:
    """One run.

    Args:
        run: its folder. name: how the page calls it. number: its place among the runs of a report.
        thumbs: gives out the names of thumbnails.
        data: the folder of its parquet files; None: in the run's folder, or where its configuration says.
        rows_per_pair: of this many rows of a pair thumbnails are shown.
        most: of a longer run whole steps are left out, evenly, so that about this many answers are shown.
        patient: a file that cannot be used is a warning and not an error: it may be half written.

    Raises:
        InputError: no folder of a run, or a plan in it that is none of ours.
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
        self.pairs: list[str] = []
        self.book, self._data, self._opened = RowBook(thumbs, rows_per_pair), data, False
        planned = self.configuration.plan.get("steps")
        root = next((run / place for place in CHECKPOINTS if (run / place).is_dir()), run / CHECKPOINTS[0])
        self.steps = StepBook(root, self.book, self.pairs, most, planned if isinstance(planned, int) else 0)
        self.curves = CurveBook(self.pairs)
        self.compared: dict[str, Any] | None = None
        self.problems: dict[str, str] = {}
        self._logged, self._tails = LoggedSteps(), dict[Path, Tail]()
        self._lost: dict[int, dict] = {}
        self._compared_at: tuple[float, ...] = ()
        self._seen: tuple = ()

    def refresh(self) -> bool:
        """Take up what has come since the last call; whether anything has.

        Raises:
            InputError: a file that cannot be used.
        """
        self._try("configuration", self._configure)
        self._try("metrics", self._take_metrics)
        changed = self.steps.refresh(self.patient)
        records = self._records()
        self.curves.update(records, self.steps.steps)
        self._try("evaluation", self._evaluate)
        newest = records[-1]["step"] if records else 0
        problems = dict(self.problems), dict(self.steps.problems)
        now = (len(records), newest, self.status, self._compared_at, problems)
        before, self._seen = self._seen, now
        return bool(changed) or before != now

    def _try(self, what: str, work: Callable[[], None]) -> None:
        self.problems.pop(what, None)
        try:
            work()
        except (RecipeError, RewardError, OSError) as error:
            if not self.patient:
                raise
            self.problems[what] = str(error)

    def _configure(self) -> None:
        if self.configuration.config is None:
            self.configuration = Configuration.of(self.run)
        folder = self._data or self.configuration.data_dir(self.run)
        self._opened = self._opened or (folder is not None and self.book.open(folder))

    def _take_metrics(self) -> None:
        for attempt, file in enumerate(attempt_files(self.run), 1):
            for record in self._tails.setdefault(file, Tail(file)).new():
                if not isinstance(record, dict) or not isinstance(record.get("data"), dict) or "step" not in record:
                    raise InputError(f"{file}: expected objects with step and data, found {record!r:.60}")
                self._logged.add(attempt, record)

    def _records(self) -> list[dict]:
        known = self._logged.records()
        mine = {record["step"] for record in known}
        joined = with_lost_steps(known, self.steps.root / "sampler", latest_complete(self.steps.root))
        # The same object each time: `CurveBook` knows by it what it has seen.
        return [one if one["step"] in mine else self._lost.setdefault(one["step"], one) for one in joined]

    def _times(self) -> tuple[float, ...]:
        """When the evaluations were written."""
        names = ("answers.jsonl", "report.json")
        files = sorted(file for name in names for file in (self.run / "eval").glob(f"*/{name}"))
        return tuple(file.stat().st_mtime for file in files)

    def _evaluate(self) -> None:
        when = self._times()
        if not Evaluated.there(self.run) or when == self._compared_at:
            return
        self.compared, evaluated = None, Evaluated(self.run)
        # Made at once: its rows get their numbers.
        self.compared = {
            "rows": evaluated.rows(self.book),
            "figures": evaluated.figures(),
            "leaderboard": evaluated.leaderboard(),
        }
        self._compared_at = when

    @property
    def summary(self) -> Mapping[str, Any]:
        """What `summary.json` says, nothing where there is none."""
        file = self.run / "summary.json"
        found = read_json(file) if file.exists() else {}
        return found if isinstance(found, dict) else {}

    @property
    def status(self) -> str:
        """`complete`, `incomplete`, or that the run has not come to its summary."""
        return self.summary.get("status") or "running or interrupted"

    def names(self) -> Iterator[str]:
        """The pieces of data that there are now. Those of rows come last: others add rows."""
        yield from (f"{kind}_{self.id}" for kind in ("curves", "distributions", "rollouts"))
        yield from (f"answers_{self.id}_{step:06d}" for step, _ in self.steps.since())
        if self.compared is not None:
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
        if number is not None or (kind == "evaluation" and self.compared is None):
            return None
        if kind == "rollouts":
            return self.rollouts(first)
        if kind == "curves":
            return self.curves.shown()
        return self.compared["rows"] if kind == "evaluation" and self.compared else self.distributions()

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


COLUMNS = {"group": "group", "pair": "pair", "row": "row", "score": "reward", "format": "format", "acc": "acc"}
COLUMNS |= {"advantage": "advantage", "tokens": "tokens", "flags": "flags"}
"""Columns of a step, and how the page calls them."""
