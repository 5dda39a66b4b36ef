# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What can go wrong in a paid call: a flat vocabulary.

Messages hold no key and no text of what was asked. Every error carries the tokens that were spent before it, because a
failed call is paid for too.
"""

from __future__ import annotations

from ..errors import RewardError
from .usage import Usage


class CallError(RewardError):
    """Base of every failure of a paid call.

    Attributes:
        answer_caused: True where the text that was asked about is a likely cause; False where only the infrastructure
            can be.
        usage: tokens and requests spent on this question until it failed.
    """

    answer_caused: bool = False

    def __init__(self, message: str, *, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage or Usage()


class CallSettingsError(CallError, ValueError):
    """A missing or rejected key, a missing or unknown model, or a setting out of range. Trying again is useless."""


class CallBudgetExceeded(CallError):
    """The next request could cost more than the budget has left. Nothing was sent."""


class CallTimeout(CallError):
    """No complete reply in time, in any attempt."""


class CallRateLimited(CallError):
    """The endpoint still said 429 after the last attempt or asked for too long a wait, or our own limits would."""


class CallUnavailable(CallError):
    """The endpoint could not be reached, failed (5xx), rejected the request or sent a broken response.

    Also raised without a request, while too many calls of late have failed.
    """


class CallRefused(CallError):
    """The model or the endpoint's content filter declined the text."""

    answer_caused = True


class CallMalformed(CallError):
    """The model replied, but not with what was asked for. It has done so for other questions."""

    answer_caused = True


class CallUnproven(CallError):
    """The model replied with something else, and with what was asked for never yet. Its set-up is the likely cause."""
