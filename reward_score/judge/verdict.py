# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a judge model sent back: one verdict, or JudgeMalformed.

A reply holds one JSON object with exactly the nonce of this request and five whole scores of 1 to 5. Models without
structured output put prose or a code fence around it, which is allowed as long as there is no other brace. Why text of
an answer, which cannot know the nonce, can then change no score, wherever it comes back in the reply:

- One opening and one closing brace: beside the object, it can neither add a second one nor close the first early.
- Exactly six keys, each once, all strings among them: inside the object, it can neither add a pair, nor hide one in a
  string, nor open an object within.
- A score is one digit, perhaps with ``.0`` behind it: it cannot be made longer or another number.

What a model thinks before it answers ends at the first ``</think>``. That mark could come from the answer, too, and cut
an object in two, so where something with a brace was cut off the object has to begin with the nonce. Nothing is clamped
or rounded: ``4.0`` is 4, and ``3.5`` is no score.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import Any

from .errors import JudgeMalformed
from .judgement import DIMENSIONS, HIGHEST, LOWEST

MAX_REPLY_CHARS = 4_000
"""The longest reply that is read, after what the model thought."""
_THINK, _THOUGHT = "<think>", "</think>"
_INTEGRAL = re.compile(r"\d\.0+", re.ASCII)


def parse_verdict(reply: str, nonce: str) -> dict[str, int]:
    """The five scores of a reply, by dimension.

    Raises:
        JudgeMalformed: anything but the verdict that was asked for. The message quotes nothing of the reply.
    """
    thought, mark, said = reply.partition(_THOUGHT)
    if not mark:
        thought, said = "", reply
    if len(said) > MAX_REPLY_CHARS:
        raise JudgeMalformed(f"verdict: {len(said)} characters, expected at most {MAX_REPLY_CHARS}")
    if said.rfind(_THINK) > said.rfind(_THOUGHT):
        raise JudgeMalformed("verdict: the model did not end its thinking")
    try:
        verdict = json.loads(_only_object(said), object_pairs_hook=_unique, parse_float=_whole)
    except (ValueError, RecursionError):
        raise JudgeMalformed("verdict: expected one JSON object with whole numbers") from None
    missing = sorted({"nonce", *DIMENSIONS} - verdict.keys())
    if missing or len(verdict) != len(DIMENSIONS) + 1:
        raise JudgeMalformed(f"verdict: missing {', '.join(missing)}" if missing else "verdict: keys not asked for")
    given = verdict["nonce"]
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(errors="replace"), nonce.encode()):
        raise JudgeMalformed("verdict: it does not carry the code of this request")
    if ("{" in thought or "}" in thought) and next(iter(verdict)) != "nonce":
        raise JudgeMalformed("verdict: after thoughts with braces, expected the code first")
    for name in DIMENSIONS:
        value = verdict[name]
        if type(value) is not int or not LOWEST <= value <= HIGHEST:
            raise JudgeMalformed(f"verdict: {name} is not a whole number of {LOWEST} to {HIGHEST}")
    return {name: verdict[name] for name in DIMENSIONS}


def _only_object(text: str) -> str:
    """The one object in the text, braces included."""
    if text.count("{") != 1 or text.count("}") != 1:
        raise JudgeMalformed("verdict: expected one JSON object and no other brace")
    begin, end = text.index("{"), text.index("}") + 1
    # A list of one verdict is not the verdict that was asked for.
    if text[:begin].rstrip().endswith("[") or text[end:].lstrip().startswith("]"):
        raise JudgeMalformed("verdict: expected one JSON object, not a list")
    return text[begin:end]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JudgeMalformed("verdict: a key occurs twice")
    return found


def _whole(number: str) -> int:
    """The score of a number such as ``4.0``, which some models write for 4."""
    if not _INTEGRAL.fullmatch(number):
        raise JudgeMalformed("verdict: a score is not a whole number")
    return int(number[0])
