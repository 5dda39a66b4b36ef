# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Calls that cost money: each question is paid for once, within limits that hold for all workers.

`Caller` asks an OpenAI-compatible endpoint. Its subclasses say what is asked: `reward_score.judge.Judge` and the
captioners of `data_preprocess.curation`.
"""

from .caller import Caller
from .endpoint import IMAGE, Chat
from .errors import (
    CallBudgetExceeded,
    CallError,
    CallMalformed,
    CallRateLimited,
    CallRefused,
    CallSettingsError,
    CallTimeout,
    CallUnavailable,
    CallUnproven,
)
from .options import Options
from .usage import Usage

__all__ = [
    "IMAGE",
    "CallBudgetExceeded",
    "CallError",
    "CallMalformed",
    "CallRateLimited",
    "CallRefused",
    "CallSettingsError",
    "CallTimeout",
    "CallUnavailable",
    "CallUnproven",
    "Caller",
    "Chat",
    "Options",
    "Usage",
]
