# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a model said, read strictly: one JSON object of a known form, or a typed failure that quotes nothing of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ValidationError

from data_preprocess.curation.prompts import SECTIONS
from reward_score.paid_call import Caller, CallMalformed, Chat, Options
from reward_score.paid_call.prompt_files import PromptFile

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


class FormCaller(Caller):
    """A model that is asked by text alone, by a question's `SECTIONS`, and replies with a form.

    Args:
        given, asks: as `Caller` takes them.
        prompt: what it is told.
        name: of the form, for the endpoint.
        more: of `Caller`.
    """

    FORM: ClassVar[type[BaseModel]]
    EXPECTED: ClassVar[str]
    """The form in words."""
    TASK: ClassVar[str]
    """What its calls are counted under."""

    def __init__(self, given: Options, *, asks: list[Any], prompt: PromptFile, name: str, **more: Any) -> None:
        self.prompt = prompt
        schema = {"name": name, "strict": True, "schema": self.FORM.model_json_schema()}
        super().__init__(given, asks=asks, schema={"type": "json_schema", "json_schema": schema}, **more)

    def read(self, question: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The values of a reply to a question. Raises `CallMalformed`."""
        return read_reply(self.FORM, text, self.EXPECTED)

    def compose(self, question: Mapping[str, Any]) -> tuple[Chat, Callable[[str], dict[str, Any]]]:
        chat: Chat = [{"role": role, "content": question[role]} for role in SECTIONS]
        return chat, partial(self.read, question)

    def key_of(self, question: Mapping[str, Any]) -> list[Any]:
        return [question[role] for role in SECTIONS]

    def topic(self, question: Mapping[str, Any]) -> dict[str, str]:
        return {"prompt": self.prompt.version, "task": self.TASK}

    def kept(self, reply: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self.FORM.model_validate(reply, strict=True).model_dump()
        except ValidationError:
            return None
