# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""An answer whose log-probabilities are not all finite is a failed rollout, whatever engine gave it.

A fault of a kernel shows there first: the model's output was not finite, and what was sampled from it means nothing.
verl 0.9.1 scores such an answer and trains on it. Only its correlation of rollout and actor becomes NaN. Here the
rollout raises before it is scored, is counted like any that fails, and too many of them end the run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from recipes.medgrpo.rollout.after_import import after_import


class NotFiniteError(RuntimeError):
    """An answer that cannot be trusted; one line that says how much of it."""


def check_finite(outputs: Iterable[Any]) -> None:
    """Raises NotFiniteError if one of these answers of an agent loop has a log-probability that is not finite."""
    for output in outputs:
        found = output.response_logprobs or ()
        if bad := sum(not math.isfinite(one) for one in found):
            raise NotFiniteError(
                f"{bad} of {len(found)} tokens of an answer have a log-probability that is not finite: the rollout "
                "server computes wrongly"
            )


def mend(module: ModuleType) -> None:
    compute_score = module.AgentLoopWorker._compute_score

    @functools.wraps(compute_score)
    async def _compute_score(self, outputs, *args, **kwargs):
        check_finite(outputs)
        return await compute_score(self, outputs, *args, **kwargs)

    module.AgentLoopWorker._compute_score = _compute_score


def install() -> None:
    after_import("verl.experimental.agent_loop.agent_loop", mend)
