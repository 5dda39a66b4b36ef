# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From what an endpoint reports to the errors of this room, without a key and without text of what was asked.

Endpoints report the same things in many forms: as a status, or inside a reply of status 200; with a code, a number or
a sentence. A content filter declines the text, so the answer is the likely cause. All else is the infrastructure's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from .errors import CallError, CallRateLimited, CallRefused, CallSettingsError, CallTimeout, CallUnavailable

MAX_RETRY_AFTER_S = 300.0
"""A longer wait is not waited for: the call fails at once."""
FILTER_CODES = frozenset(
    (
        *("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "invalid_prompt"),
        *("data_inspection_failed", "datainspectionfailed", "1301", "1026", "1027", "10013", "10014", "10019"),
        *("safety", "refusal", "sensitive", "recitation", "blocklist", "spii", "prohibited_content", "error_toxic"),
    )
)
"""Codes, in lower case, by which content filters of several providers decline a text. `Options` takes more of them."""
_FILTERED = re.compile(
    r"content[\s_-]*(filter|policy|management|moderation|inspection|violat|blocked|censor|exists risk)"
    r"|(inappropriate|sensitive|harmful|unsafe|prohibited|disallowed|objectionable|toxic)[\s_-]*(\w+[\s_-]+){0,2}"
    r"(content|text|input|output|prompt|words|information)"
    r"|content\w*[\s_-]+(is |was |be )?(unsafe|sensitive|prohibited)"
    r"|(text|input|output|prompt|content)[\s_]*(text)?[\s_]*(new_)?sensitive|usage (polic|guideline)"
    r"|violat\w* (\w+ ){0,4}(polic|terms|guideline)"
    r"|(considered|contains?|as|is) (sensitive|unsafe|harmful|inappropriate)"
    r"|(text|content|input|output) audit|(filtered|flagged|blocked): true"
    r"|\b(was|were|been|got|is) flagged|flagged (as|by|for)|flagged_"
    r"|safety (system|polic|filter|reason)|safety_?violation"
    r"|safety_check|moderation|guardrail|jailbreak|block_?reason|high risk|risk control"
    r"|敏感|不安全|违规|违法|审核|风险",
    re.IGNORECASE,
)
"""How endpoints say that a content filter declined a text."""
_NOT_FILTERED = re.compile(
    r"un(known|recogni[sz]ed|supported|expected|available)|not (supported|permitted|allowed to use|available|enabled)"
    r"|extra (fields|inputs)|\bparameter|\bargument|\bfield|deactivated|suspended|account|organi[sz]ation|api[\s_-]?key"
    r"|time[ds]?[\s_-]?out|overload|try again later|service (is )?(un|temp)|invalid json",
    re.IGNORECASE,
)
"""A message that also says one of these complains about the request, the account or the filter itself."""
_RATE = re.compile(
    r"rate[\s_-]*limit|too[\s_-]*many[\s_-]*requests|throttl|(request|token|usage) limit|\b[qr]p[ms]\b|\btpm\b"
    r"|quota|限流|频率",
    re.IGNORECASE,
)
_FILTER_STATUS = frozenset({200, 400, 403, 406, 422, 451})
_NAMES_OF_CODES = ("code", "type", "status", "reason")
MOST_WORDS = 600
"""Characters of an endpoint's message that are read for its meaning; a longer one quotes the request."""
_NO_RETRY_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_TOO_LONG = re.compile(
    r"context[\s_-]*(length|window|size)|maximum context|max_model_len|max_seq_len|(prompt|input)s? (is|are) too long"
    r"|too many (input )?tokens|(maximum )?(input|prompt) length|string_above_max_length|reduce the length"
    r"|max_new_tokens\W+must be",
    re.IGNORECASE,
)
"""How endpoints say that a request has more tokens than the model reads."""
_CODE = re.compile(r"[a-zA-Z_.-][\w.-]{0,59}", re.ASCII)
_WRONG_SETTING = {**dict.fromkeys((401, 403), "rejects the key"), 404: "does not know the model or the path"}
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
        too_long: whether the request has more tokens than the model reads.
    """

    error: CallError
    retry_after: float | None
    billed: bool = True
    complaint: str | None = None
    too_long: bool = False


def explain(error: Exception, key: str, filter_codes: Collection[str] = ()) -> Failure:
    """What an exception of the client library means.

    The endpoint's own message is left out of the error, since endpoints quote requests and keys in theirs; its short
    code stays. ``filter_codes`` are more codes of content filters than `FILTER_CODES`.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        code = str(error.code or error.type or "")
        return by_report(error.status_code, error.body, key, filter_codes, code=code, headers=error.response.headers)
    if isinstance(error, openai.APITimeoutError) and not _broken(error):
        return Failure(CallTimeout("the endpoint did not answer in time"), 0.0)
    if isinstance(error, openai.APIConnectionError):
        told = CallUnavailable("the endpoint cannot be reached or broke the connection")
        return Failure(told, 0.0, billed=not _refused(error))
    # A response that is no JSON, a connection lost while reading, and whatever else a library may raise.
    return Failure(CallUnavailable(f"the response could not be read ({type(error).__name__})"), 0.0)


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


def by_report(
    status: int,
    body: Any,
    key: str,
    filter_codes: Collection[str] = (),
    *,
    code: str = "",
    headers: Any = MappingProxyType({}),
) -> Failure:
    """What an endpoint's report of a failure means.

    Args:
        status: of HTTP. With 200 the report stands inside a reply, and its own code takes the status's place.
        body: the report, whatever it holds.
        key: never shown.
        filter_codes: as in `explain`.
        code: the report's code, where the client library has found it.
        headers: of the response.
    """
    codes, words = _said(body, code)
    code = code or next(iter(codes), "")
    shown = code[:60] if _CODE.fullmatch(code) and key not in code else ""
    told = f"HTTP {status}" + (f" ({shown})" if shown else "")
    if filtered(status, codes, words, filter_codes):
        return Failure(CallRefused(f"{told}: the content filter declined"), 0.0)
    limited = status == 200 and (not codes.isdisjoint(_NO_RETRY_CODES) or _RATE.search(words) is not None)
    if status == 200:
        status = next((int(one) for one in sorted(codes) if re.fullmatch(r"[45]\d\d", one)), 429 if limited else 500)
    if status in _WRONG_SETTING:
        return Failure(CallSettingsError(f"{told}: the endpoint {_WRONG_SETTING[status]}"), None, billed=False)
    if status == 429:
        wait = retry_after(headers) if codes.isdisjoint(_NO_RETRY_CODES) else None
        return Failure(CallRateLimited(f"{told}: too many requests"), wait, billed=False)
    if status in (408, 409) or status >= 500:
        wait = retry_after(headers)
        return Failure(CallUnavailable(f"{told}: the endpoint failed"), wait, billed=status in _GATEWAY_GAVE_UP)
    if status in (400, 413, 422) and _TOO_LONG.search(words):
        return replace(too_long(told), complaint=words.lower())
    rejected = CallUnavailable(f"{told}: the endpoint rejects the request")
    return Failure(rejected, None, billed=False, complaint=words.lower() if status in (400, 422) else None)


def too_long(told: str) -> Failure:
    """The request has more tokens than the model reads."""
    return Failure(CallRefused(f"{told}: more tokens than the model reads"), None, billed=False, too_long=True)


def filtered(status: int, codes: Collection[str], words: str, filter_codes: Collection[str] = ()) -> bool:
    """Whether a content filter declined the text: by a code that is known, or by what the words mean."""
    if not FILTER_CODES.union(filter_codes).isdisjoint(codes):
        return True
    words = words[:MOST_WORDS]
    return status in _FILTER_STATUS and _FILTERED.search(words) is not None and _NOT_FILTERED.search(words) is None


def _said(body: Any, code: str) -> tuple[set[str], str]:
    """(codes in lower case, the names and texts one after the other) of a report."""
    codes, words = {code.lower()} - {""}, []
    for name, value in _leaves(body, ""):
        words.append(f"{name}: {value}")
        if any(name.lower().endswith(one) for one in _NAMES_OF_CODES):
            codes.add(value.lower())
    return codes, "; ".join([code, *words])


def _leaves(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each text, number and truth with its name; of a deep report the upper parts."""
    if isinstance(value, dict | list) and depth < 6:
        for key, one in value.items() if isinstance(value, dict) else ((name, one) for one in value):
            yield from _leaves(one, str(key), depth + 1)
    elif isinstance(value, str | int):
        yield name, str(value)
