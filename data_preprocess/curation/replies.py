# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a model said, read strictly: one JSON object of a known form, or a typed failure that quotes nothing of it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from reward_score.paid_call import CallMalformed

_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\s*\Z", re.DOTALL)


def _one_line(text: str) -> str:
    said = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    if not said:
        raise ValueError("expected a text")
    return said


Line = Annotated[str, AfterValidator(_one_line)]
"""One line of characters that are seen, at least one."""


def read_reply(form: type[BaseModel], text: str, expected: str) -> dict[str, Any]:
    """A reply as the values of a form. It may stand in a fence or behind thoughts.

    Args:
        form: what the object has to be.
        text: the reply.
        expected: the form in words.

    Raises:
        CallMalformed: anything else; the message quotes nothing of the reply.
    """
    said = text.rpartition("</think>")[2].strip()
    said = match[1] if (match := _FENCE.fullmatch(said)) else said
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        raise CallMalformed("expected one JSON object") from None
    if not isinstance(found, dict):
        raise CallMalformed("expected one JSON object")
    try:
        return form.model_validate(found, strict=True).model_dump()
    except ValidationError:
        raise CallMalformed(f"expected {expected}") from None
