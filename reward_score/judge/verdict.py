# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a judge model sent back: one strict verdict, or JudgeMalformed.

The whole reply must be one JSON object (a single code fence around it is allowed) with exactly the nonce of this
request and five whole scores of 1 to 5. No object is searched for inside other text: whatever text of the answer
comes back with the verdict makes the reply malformed instead of competing with it. Nothing is clamped or rounded.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import Any, NoReturn

from .errors import JudgeMalformed
from .judgement import DIMENSIONS, HIGHEST, LOWEST

MAX_REPLY_CHARS = 4_000
_FENCE = re.compile(r"```(?:json)?\s*(\{[^`]*\})\s*```", re.IGNORECASE)


def parse_verdict(reply: str, nonce: str) -> dict[str, int]:
    """The five scores of a reply.

    Raises:
        JudgeMalformed: anything but the verdict that was asked for. The message quotes nothing of the reply.
    """
    if len(reply) > MAX_REPLY_CHARS:
        raise JudgeMalformed(f"verdict: {len(reply)} characters, expected at most {MAX_REPLY_CHARS}")
    text = reply.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        verdict = json.loads(
            fenced[1] if fenced else text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_no_float
        )
    except JudgeMalformed:
        raise
    except (ValueError, RecursionError):
        raise JudgeMalformed("verdict: expected one JSON object and nothing else") from None
    if not isinstance(verdict, dict):
        raise JudgeMalformed("verdict: expected a JSON object")
    missing = sorted({"nonce", *DIMENSIONS} - verdict.keys())
    if missing or len(verdict) != len(DIMENSIONS) + 1:
        raise JudgeMalformed(f"verdict: missing {', '.join(missing)}" if missing else "verdict: keys not asked for")
    given = verdict["nonce"]
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(errors="replace"), nonce.encode()):
        raise JudgeMalformed("verdict: it does not carry the code of this request")
    for name in DIMENSIONS:
        value = verdict[name]
        if type(value) is not int or not LOWEST <= value <= HIGHEST:
            raise JudgeMalformed(f"verdict: {name} is not a whole number of {LOWEST} to {HIGHEST}")
    return {name: verdict[name] for name in DIMENSIONS}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JudgeMalformed("verdict: a key occurs twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise JudgeMalformed("verdict: NaN and Infinity are no scores")


def _no_float(_: str) -> NoReturn:
    raise JudgeMalformed("verdict: a score is not a whole number")
