# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From what the ``openai`` library raises to the errors of this room, without a key and without text of the answer."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from .errors import JudgeError, JudgeRateLimited, JudgeRefused, JudgeSettingsError, JudgeTimeout, JudgeUnavailable

MAX_RETRY_AFTER_S = 300.0
"""A longer wait is not waited for: the judgement fails at once."""
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
_NO_RETRY_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


def explain(error: Exception, key: str) -> tuple[JudgeError, float | None]:
    """The error to raise, and the seconds to wait at least before trying again (None: trying again is useless).

    The endpoint's own message is left out, since endpoints quote requests and keys in theirs; its short code stays.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return JudgeTimeout("judge: the endpoint did not answer in time"), 0.0
    if isinstance(error, openai.APIStatusError):
        return _by_status(error, key)
    if isinstance(error, openai.APIConnectionError):
        return JudgeUnavailable("judge: the endpoint cannot be reached or broke the connection"), 0.0
    # A response that is no JSON, a connection lost while reading, and whatever else a library may raise.
    return JudgeUnavailable(f"judge: the response could not be read ({type(error).__name__})"), 0.0


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


def _by_status(error: Any, key: str) -> tuple[JudgeError, float | None]:
    status, code = error.status_code, str(error.code or error.type or "")[:60]
    told = f"judge: HTTP {status}" + (f" ({code})" if code.isprintable() and code and key not in code else "")
    if code in _FILTER_CODES:
        return JudgeRefused(f"{told}: the content filter declined"), 0.0
    if status in (401, 403):
        return JudgeSettingsError(f"{told}: the endpoint rejects the key"), None
    if status == 404:
        return JudgeSettingsError(f"{told}: the endpoint does not know the model or the path"), None
    if status == 429:
        wait = None if code in _NO_RETRY_CODES else retry_after(error.response.headers)
        return JudgeRateLimited(f"{told}: too many requests"), wait
    if status in (408, 409) or status >= 500:
        return JudgeUnavailable(f"{told}: the endpoint failed"), retry_after(error.response.headers)
    return JudgeUnavailable(f"{told}: the endpoint rejects the request"), None
