# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The judge as the training's driver sees it: what a step's judging took, and when it must end the run.

The reward workers count what they do in the judge's store. Only the driver sees the counts of all workers. A judge that
fails costs rollouts and does not stop verl; a caption that the judge refuses scores as a wrong one. Both would train on
noise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from recipes.medgrpo.judge_guard import MAX_FAILED_SHARE, MAX_REFUSED_SHARE, TRY, fault
from recipes.medgrpo.training.curves import PREFIX
from recipes.medgrpo.training.stopping import JudgeStop
from reward_score.judge.errors import judges_failures
from reward_score.judge.make import members_of
from reward_score.judge.metering import ANSWER_CAUSED, metrics
from reward_score.paid_call.metering import FAILED
from reward_score.paid_call.store import open_store

logger = logging.getLogger(__name__)

Snapshot = Mapping[str, Mapping[str, float]]
TIMEOUT_S = 120.0
"""Longest wait for the store; a busy disk takes its time."""
SETTLE_S = 0.2
"""The reward workers do not wait for their counts to arrive; they take less than this."""
BUDGET = f"{FAILED}JudgeBudgetExceeded"


def _result(work: Awaitable) -> Any:
    """What the work returns, from an event loop on a thread of its own: the caller's loop may be running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, asyncio.wait_for(work, TIMEOUT_S)).result()


class JudgeWatch:
    """Counts of the judge's stores, step by step.

    Args:
        judge: the reward's setting of that name.
        judge_settings: likewise. A judge without a store counts in its own process, and nothing is seen of it.

    Raises:
        JudgeError: the store cannot be opened.
    """

    def __init__(self, judge: str | None, judge_settings: Mapping[str, Any] | None) -> None:
        members = members_of(judge, judge_settings or {})
        self.lanes = sorted({str(one["model"]) for one in members})
        with judges_failures():
            self._stores = [open_store(where) for where in dict.fromkeys(str(one["store"]) for one in members)]
        self._spent_usd = 0.0
        self._missed = 0
        self.last: Snapshot = self._snapshot()

    def __bool__(self) -> bool:
        return bool(self._stores)

    def _snapshot(self) -> Snapshot:
        found: dict[str, Counter] = {lane: Counter() for lane in ("", *self.lanes)}
        spent_usd = 0.0
        for store in self._stores:
            for lane, counts in _result(store.snapshot()).items():
                spent_usd += counts.get("cost_usd", 0.0) + counts.get("unconfirmed_usd", 0.0)
                # Other lanes are of other commands that share the store.
                if lane in self.lanes:
                    found[lane].update(counts)
                    found[""].update(counts)
        self._spent_usd = spent_usd
        return found

    def _settled(self) -> Snapshot:
        """The counts once they stand still: the step's last answer is there, its count may be on its way."""
        found = self._snapshot()
        for _ in range(10):
            time.sleep(SETTLE_S)
            before, found = found, self._snapshot()
            if found == before:
                break
        return found

    def step(self) -> dict[str, dict[str, float]]:
        """What the judge did since the last call, as `metering.metrics` says it, by lane, and of all lanes as ``""``.

        Empty without a store. A store that cannot be read is an error in the log and an empty step, whose counts are
        in the next one's, with ``steps``: of how many.
        """
        if not self._stores:
            return {}
        try:
            after = self._settled()
        except Exception as error:  # training goes on: a judge that fails for good shows in failed rollouts
            logger.error("the judge's account cannot be read: %s: %s", type(error).__name__, error)
            self._missed += 1
            return {}
        before, self.last = self.last, after
        several, self._missed = {"steps": self._missed + 1.0} if self._missed else {}, 0
        return {lane: metrics(before[lane], after[lane]) | several for lane in after}

    def total_usd(self) -> float:
        """Dollars over the life of the stores, as the budget counts them, when they were last read."""
        return self._spent_usd


def step_metrics(by_lane: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """`JudgeWatch.step` under the names of the log: `medgrpo/judge/...`, and by lane where there is more than one."""
    return {
        "/".join(part for part in (PREFIX, "judge", lane, name) if part): float(value)
        for lane, counts in by_lane.items()
        for name, value in counts.items()
        if not lane or len(by_lane) > 2
    }


FEWEST = 8
"""A run goes on with fewer bad judgements than this, whatever their share is."""


@dataclass
class JudgeStops:
    """When the judge ends a run.

    Attributes:
        budget: dollars over the life of the store, from the judge's own `budget_usd`; None: no limit.
        max_refused_share: greatest share of refused or malformed judgements ...
        window: ... over this many steps.
        max_failed_share: greatest share of one step's judgements that the infrastructure may fail.
        refused: refused ones and all that were tried of the last steps, by lane.
        dearest: dollars of the dearest step, by lane.
    """

    budget: float | None
    max_refused_share: float = MAX_REFUSED_SHARE
    window: int = 4
    max_failed_share: float = MAX_FAILED_SHARE
    refused: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    dearest: dict[str, float] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        refused = {lane: [list(one) for one in steps] for lane, steps in self.refused.items()}
        return {"refused": refused, "dearest": dict(self.dearest)}

    def forget(self) -> None:
        """Drop the steps that led to a stop: the next attempt is judged by its own steps."""
        self.refused.clear()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for what is no such state."""
        for lane, steps in state["refused"].items():
            pairs = ((float(refused), float(tried)) for refused, tried in steps)
            self.refused[str(lane)] = deque(pairs, maxlen=self.window)
        self.dearest = {str(lane): float(usd) for lane, usd in state["dearest"].items()}

    def check_step(self, step: int, by_lane: Mapping[str, Mapping[str, float]]) -> None:
        """Checks a step once its answers are judged. Raises JudgeStop if they must not be trained on."""
        if not by_lane:
            return
        for lane, counts in by_lane.items():
            spent = (counts.get("cost_usd", 0.0) + counts.get("unconfirmed_usd", 0.0)) / counts.get("steps", 1.0)
            if lane and spent > self.dearest.get(lane, 0.0):
                self.dearest[lane] = spent
        for lane in sorted(by_lane, key=bool, reverse=True) if len(by_lane) > 2 else [""]:
            self._check_lane(step, lane, by_lane[lane])

    def _check_lane(self, step: int, lane: str, counts: Mapping[str, float]) -> None:
        whose = f" of {lane}" if lane else ""
        failed = {name: n for name, n in counts.items() if name.startswith(FAILED) and n > 0}
        refused = sum(n for name, n in failed.items() if name.removeprefix(FAILED) in ANSWER_CAUSED)
        # A blank caption has its verdict without the judge, and says nothing of it.
        given, broken = counts.get("judgements", 0.0) - counts.get("blank", 0.0), sum(failed.values()) - refused
        tried = given + refused + broken
        limits = {"fewest": FEWEST, "max_failed_share": self.max_failed_share}
        beyond = fault(given, refused, broken, max_refused_share=1.0, **limits)
        if failed.get(BUDGET):
            # Another command on the same store may have a budget where this run has none.
            budget = "" if self.budget is None else f" of ${self.budget:.4f}"
            raise JudgeStop(
                f"step {step}: the judge's budget is used up: {failed[BUDGET]:.0f} of {tried:.0f} judgements were not "
                f"made. ${counts['cost_usd_total']:.4f} are spent{budget}. {RAISE}"
            )
        if beyond == "failed":
            raise JudgeStop(
                f"step {step}: the judge failed in {broken:.0f} of {tried:.0f} judgements{whose} ({_kinds(failed)}), "
                f"more than {self.max_failed_share:.0%}; the errors are in the log above. Start again when it is back"
            )
        if beyond == "all":
            raise JudgeStop(
                f"step {step}: all {tried:.0f} judgements{whose} were refused or malformed ({_kinds(failed)}). {TRY}"
            )
        steps = self.refused.setdefault(lane, deque(maxlen=self.window))
        steps.append((refused, tried))
        refused, tried = (sum(column) for column in zip(*steps, strict=True))
        share = {"fewest": FEWEST, "max_refused_share": self.max_refused_share}
        if len(steps) == steps.maxlen and fault(tried - refused, refused, **share):
            raise JudgeStop(
                f"step {step}: {refused:.0f} of the {tried:.0f} judgements{whose} of the last {len(steps)} steps were "
                f"refused or malformed, more than max_refused_share={self.max_refused_share:.0%}: the answers score "
                f"as wrong ones, which says nothing of them. {TRY}"
            )

    def too_dear(self, spent_usd: float) -> str | None:
        """The reason why the budget has no room for another step, None if it has. `spent_usd`: spent so far."""
        dearest = sum(self.dearest.values())
        if self.budget is None or not dearest or spent_usd + dearest <= self.budget:
            return None
        return (
            f"no other step fits the judge's budget of ${self.budget:.4f}: ${spent_usd:.4f} are spent, the dearest "
            f"step so far took ${dearest:.4f}. {RAISE}"
        )


RAISE = "Raise it (judge_settings.budget_usd, JUDGE_BUDGET_USD) and start again: judgements that are there cost nothing"


def _kinds(failed: Mapping[str, float]) -> str:
    return ", ".join(f"{name.removeprefix(FAILED)} {n:.0f}" for name, n in sorted(failed.items()))


def judge_stops(judge: str | None, judge_settings: Mapping[str, Any] | None, **settings: Any) -> JudgeStops:
    """`JudgeStops` with the budget and the greatest share of failures that a judge's own settings name."""
    members = members_of(judge, judge_settings or {})
    settings["max_failed_share"] = min(
        [float(one.get("max_failed_share", MAX_FAILED_SHARE)) for one in members], default=MAX_FAILED_SHARE
    )
    budgets = [float(one["budget_usd"]) for one in members if one.get("budget_usd") is not None]
    return JudgeStops(min(budgets, default=None), **settings)
