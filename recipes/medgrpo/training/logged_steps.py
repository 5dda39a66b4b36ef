# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The metrics of a run's steps, joined over its attempts: verl's file logger starts a new file with each attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.files import read_json
from reward_score.statistics import is_finite

ATTEMPTS = "attempts/grpo_*.jsonl"
REWARD = "medgrpo/pairs_mean/reward"


class LoggedSteps:
    """One record `{"step", "attempt", ...metrics}` per training step.

    When an attempt resumes at step s, what its predecessors logged from s on was trained again and is dropped.
    """

    def __init__(self) -> None:
        self._steps: dict[int, dict] = {}
        self._attempt, self._first = 0, 0

    def add(self, attempt: int, record: Mapping[str, Any]) -> None:
        """Take a line of an attempt's file, `{"step", "data"}`; attempts come in order, counted from 1."""
        step, data = record["step"], record["data"]
        if REWARD not in data:
            return
        if attempt != self._attempt or step < self._first:
            self._attempt, self._first = attempt, step
            known = self._steps.items()
            self._steps = {number: old for number, old in known if number < step or old["attempt"] == attempt}
        finite = {name: value for name, value in data.items() if is_finite(value)}
        self._steps[step] = {"step": step, "attempt": attempt, **finite}

    def records(self) -> list[dict]:
        """The steps in order."""
        return [self._steps[step] for step in sorted(self._steps)]


def attempt_files(run: Path) -> list[Path]:
    """The attempts' metrics files in the order of the attempts."""
    return sorted(run.glob(ATTEMPTS), key=lambda file: int(file.stem.rsplit("_", 1)[1]))


def merge_attempts(attempts: Sequence[Sequence[dict]]) -> list[dict]:
    """The steps of some attempts, whose lines are given in the order of the attempts: see `LoggedSteps`."""
    steps = LoggedSteps()
    for number, records in enumerate(attempts, 1):
        for record in records:
            steps.add(number, record)
    return steps.records()


def with_lost_steps(records: Sequence[dict], states: Path, trained: int | None) -> list[dict]:
    """The records with those that a kill took, in step order; `trained` is a step whose checkpoint is whole.

    verl logs a step after its checkpoint. A run that was killed between the two goes on behind a step that no attempt
    logged; its metrics as far as the sampler knew them are in the state that the run went on from
    (`states/step_N.json`). The timings and the actor's metrics of that step are lost.
    """
    known = {record["step"]: record for record in records}
    for step in range(1, max([*known, trained or 0]) + 1):
        file = states / f"step_{step}.json"
        if step not in known and file.exists():
            metrics = read_json(file).get("metrics", {})
            attempt = max((record["attempt"] for record in records if record["step"] < step), default=1)
            if REWARD in metrics:
                known[step] = {"step": step, "attempt": attempt, **metrics}
    return [known[step] for step in sorted(known)]
