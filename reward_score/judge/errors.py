# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What can go wrong in judging, never a number: the failures of a paid call, under the judge's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..paid_call import errors as call


class JudgeError(call.CallError):
    """Base of every failure of a judge.

    Attributes:
        answer_caused: True where the judged answer is a likely cause, so that a caller may count it as a wrong
            answer; False where only the infrastructure can be.
        usage: tokens and requests spent on this judgement until it failed.
    """


class JudgeSettingsError(JudgeError, call.CallSettingsError):
    """A missing or rejected key, a missing or unknown model, or a setting out of range. Trying again is useless."""


class JudgeBudgetExceeded(JudgeError, call.CallBudgetExceeded):
    """The next request could cost more than the budget has left. Nothing was sent."""


class JudgeTimeout(JudgeError, call.CallTimeout):
    """No complete reply in time, in any attempt."""


class JudgeRateLimited(JudgeError, call.CallRateLimited):
    """The endpoint still said 429 after the last attempt or asked for too long a wait, or our own limits would."""


class JudgeUnavailable(JudgeError, call.CallUnavailable):
    """The endpoint could not be reached, failed (5xx), rejected the request or sent a broken response.

    Also raised without a request, while too many judgements of late have failed.
    """


class JudgeRefused(JudgeError, call.CallRefused):
    """The judge model or the endpoint's content filter declined to judge the text."""


class JudgeMalformed(JudgeError, call.CallMalformed):
    """The judge replied, but not with the one verdict that was asked for. It has given verdicts on other texts."""


class JudgeUnproven(JudgeError, call.CallUnproven):
    """The judge replied without a verdict, and it has given none on any text yet. Its set-up is the likely cause."""


_JUDGES = {kind.__bases__[1]: kind for kind in JudgeError.__subclasses__()}


def of_judge(error: call.CallError) -> JudgeError:
    """A failure of a paid call, as the judge's."""
    if isinstance(error, JudgeError):
        return error
    return _JUDGES[type(error)](f"judge: {error}", usage=error.usage)


@contextmanager
def judges_failures() -> Iterator[None]:
    """Inside, a failure of a paid call is raised as the judge's. It holds neither the request nor the key."""
    try:
        yield
    except call.CallError as error:
        raise of_judge(error) from None
