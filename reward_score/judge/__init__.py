# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Judges: how close is a generated description to the reference, in five dimensions of 1 to 5.

Judges stand behind one interface, ``name`` and ``await score(prediction, reference, *, task, question=None)``: `Judge`
asks an OpenAI-compatible endpoint (``Judge.for_router``: verl's own reward-model servers), `OfflineJudge` compares
words and needs nothing, `AveragedJudge` averages several; `make_judge` makes what settings name. All return a
`Judgement` or raise: a failure is never a number. A blank prediction is an answer, and gets 1 in every dimension
without a call; a blank reference is bad data (`reward_score.errors.BadGroundTruth`).
"""

from ..paid_call import Usage
from .client import Judge
from .errors import (
    JudgeBudgetExceeded,
    JudgeError,
    JudgeMalformed,
    JudgeRateLimited,
    JudgeRefused,
    JudgeSettingsError,
    JudgeTimeout,
    JudgeUnavailable,
    JudgeUnproven,
)
from .judgement import DIMENSIONS, Judgement
from .make import make_judge
from .offline import OfflineJudge
from .panel import AveragedJudge

__all__ = [
    "DIMENSIONS",
    "AveragedJudge",
    "Judge",
    "JudgeBudgetExceeded",
    "JudgeError",
    "JudgeMalformed",
    "JudgeRateLimited",
    "JudgeRefused",
    "JudgeSettingsError",
    "JudgeTimeout",
    "JudgeUnavailable",
    "JudgeUnproven",
    "Judgement",
    "OfflineJudge",
    "Usage",
    "make_judge",
]
