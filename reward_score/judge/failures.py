# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From what the ``openai`` library raises to the errors of this room, without a key and without text of the answer."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from .errors import JudgeError, JudgeRateLimited, JudgeRefused, JudgeSettingsError, JudgeTimeout, JudgeUnavailable

MAX_RETRY_AFTER_S = 300.0
"""A longer wait is not waited for: the judgement fails at once."""
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
_NO_RETRY_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_TOO_LONG = ("context_length_exceeded", "context length", "maximum context", "max_model_len")
"""How endpoints say that a request has more tokens than the model reads."""
_CODE = re.compile(r"[a-zA-Z_.-][\w.-]{0,59}", re.ASCII)
_GATEWAY_GAVE_UP = frozenset({502, 504})


@dataclass(frozen=True)
class Failure:
    """Why a request gave no reply that can be read.

    Attributes:
        error: what to raise if no other attempt follows.
        retry_after: seconds to wait at least before trying again; None: trying again is useless.
        billed: whether tokens may have been spent on it all the same.
        complaint: what the endpoint says is wrong with the request (HTTP 400 and 422), in lower case. It may quote
            anything, so it is searched and never shown.
    """

    error: JudgeError
    retry_after: float | None
    billed: bool = True
    complaint: str | None = None


def explain(error: Exception, key: str) -> Failure:
    """What an exception of the client library means.

    The endpoint's own message is left out of the error, since endpoints quote requests and keys in theirs; its short
    code stays.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _by_status(error, key)
    if isinstance(error, openai.APITimeoutError) and not _broken(error):
        return Failure(JudgeTimeout("judge: the endpoint did not answer in time"), 0.0)
    if isinstance(error, openai.APIConnectionError):
        told = JudgeUnavailable("judge: the endpoint cannot be reached or broke the connection")
        return Failure(told, 0.0, billed=not _refused(error))
    # A response that is no JSON, a connection lost while reading, and whatever else a library may raise.
    return Failure(JudgeUnavailable(f"judge: the response could not be read ({type(error).__name__})"), 0.0)


def retry_after(headers: Any) -> float:
    """Seconds asked for by Retry-After (seconds or an HTTP date) or retry-after-ms; 0 when there is none."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = (headers.get(name) or "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if seconds == seconds:  # not NaN
            return max(0.0, seconds)
    return 0.0


def _broken(error: Exception) -> bool:
    """Whether a "timeout" is a broken connection: the library's aiohttp transport does not tell them apart."""
    first = error.__cause__ and error.__cause__.__cause__
    return type(first).__module__.startswith("aiohttp") and not isinstance(first, TimeoutError)


def _refused(error: Exception) -> bool:
    """Whether there was no connection at all, so that nothing was sent."""
    causes = (error.__cause__, error.__cause__ and error.__cause__.__cause__)
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    return not names.isdisjoint({"ConnectError", "ClientConnectorError"})


def _by_status(error: Any, key: str) -> Failure:
    status, code = error.status_code, str(error.code or error.type or "")
    shown = code[:60] if _CODE.fullmatch(code) and key not in code else ""
    told = f"judge: HTTP {status}" + (f" ({shown})" if shown else "")
    if code in _FILTER_CODES:
        return Failure(JudgeRefused(f"{told}: the content filter declined"), 0.0)
    if status in (401, 403):
        return Failure(JudgeSettingsError(f"{told}: the endpoint rejects the key"), None, billed=False)
    if status == 404:
        return Failure(
            JudgeSettingsError(f"{told}: the endpoint does not know the model or the path"), None, billed=False
        )
    if status == 429:
        wait = None if code in _NO_RETRY_CODES else retry_after(error.response.headers)
        return Failure(JudgeRateLimited(f"{told}: too many requests"), wait, billed=False)
    if status in (408, 409) or status >= 500:
        wait = retry_after(error.response.headers)
        return Failure(JudgeUnavailable(f"{told}: the endpoint failed"), wait, billed=status in _GATEWAY_GAVE_UP)
    complaint = f"{error.message} {error.body}".lower() if status in (400, 422) else None
    if complaint is not None and any(words in f"{code} {complaint}" for words in _TOO_LONG):
        # Of all that is sent, only the candidate can be of any length.
        return Failure(JudgeRefused(f"{told}: more tokens than the model reads"), None, billed=False)
    rejected = JudgeUnavailable(f"{told}: the endpoint rejects the request")
    return Failure(rejected, None, billed=False, complaint=complaint)
