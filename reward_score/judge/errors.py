# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What can go wrong in judging: a flat vocabulary, and never a number.

Messages hold no key and no text of an answer. Every error carries the tokens that were spent before it, because a
failed call is paid for too.
"""

from __future__ import annotations

from ..errors import RewardError
from .judgement import Usage


class JudgeError(RewardError):
    """Base of every failure of a judge.

    Attributes:
        answer_caused: True where the judged answer is a likely cause, so that a caller may count it as a wrong
            answer; False where only the infrastructure can be.
        usage: tokens and requests spent on this judgement until it failed.
    """

    answer_caused: bool = False

    def __init__(self, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage or Usage()


class JudgeSettingsError(JudgeError, ValueError):
    """A missing or rejected key, a missing or unknown model, or a setting out of range. Trying again is useless."""


class JudgeBudgetExceeded(JudgeError):
    """The next request could cost more than the budget has left. Nothing was sent."""


class JudgeTimeout(JudgeError):
    """No complete reply in time, in any attempt."""


class JudgeRateLimited(JudgeError):
    """The endpoint still said 429 after the last attempt or asked for too long a wait, or our own limits would."""


class JudgeUnavailable(JudgeError):
    """The endpoint could not be reached, failed (5xx), rejected the request or sent a broken response.

    Also raised without a request, while too many judgements of late have failed.
    """


class JudgeRefused(JudgeError):
    """The judge model or the endpoint's content filter declined to judge the text."""

    answer_caused = True


class JudgeMalformed(JudgeError):
    """The judge replied, but not with the one verdict that was asked for. It has given verdicts on other texts."""

    answer_caused = True


class JudgeUnproven(JudgeError):
    """The judge replied without a verdict, and it has given none on any text yet. Its set-up is the likely cause."""
