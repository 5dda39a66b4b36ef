# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A captioner behind an OpenAI-compatible endpoint: a context goes out with its pictures, a description comes back.

It pays as the judge does (`reward_score.paid_call`): each question once, within limits, with typed failures.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from data_preprocess.curation.captions import overlay
from data_preprocess.curation.captions.context import Context, Labelled
from data_preprocess.curation.prompts import chat_prompt
from data_preprocess.curation.replies import Line, read_reply
from reward_score.paid_call import IMAGE, Caller, Chat, Options
from reward_score.paid_call.prompt_files import PromptFile, filled
from reward_score.paid_call.store import MAX_MB

PROMPT_FOLDER = Path(__file__).with_name("prompts")
PLACEHOLDERS = frozenset(
    "procedure seconds labels events speech times region region_time region_start region_end".split()
)
SIDES = ("a", "b")
"""The two captioners, as the endings of their rows' `qa_type`."""
NOTHING = "(nothing)"
MAX_EVENTS = 200


@dataclass(frozen=True, kw_only=True)
class CaptionerOptions(Options):
    """Whom to ask and how. A key is taken from ``key_variable`` or ``OPENAI_API_KEY``; the judge's is never sent here.

    Attributes:
        prompts: a folder with ``dvc.txt``, ``vs.txt`` and ``rc.txt``; empty for the packaged ones.
        plain: ask with the packaged prompts that tell nothing, for the human study.
    """

    prompts: str = ""
    plain: bool = False
    timeout_s: float = 120.0
    deadline_s: float = 600.0
    max_tokens: int | None = 4_000
    max_in_flight: int | None = 32


@cache
def load_prompt(task: str, folder: str = "", plain: bool = False) -> PromptFile:
    """The prompt of a task.

    Raises:
        PromptError, BadSetting: as `chat_prompt`.
    """
    where = Path(folder) if folder else PROMPT_FOLDER
    return chat_prompt(f"plain_{task}" if plain else task, where, PLACEHOLDERS)


def wording(context: Context, prompt: PromptFile) -> dict[str, str]:
    """System and user text of a question."""
    region = context.region
    details = "" if region is None else "; ".join(f"{name}: {text}" for name, text in region.details)
    others = [label for label in context.labels if not (context.task == "dvc" and label.event)]
    values = {
        "procedure": context.clip.video.procedure or "not known",
        "seconds": f"{context.clip.duration:.1f}",
        "events": _lines(context.events),
        "labels": _lines(others),
        "speech": "\n".join(f"{one.start:.1f}-{one.end:.1f}: {one.text}" for one in context.speech) or NOTHING,
        "times": ", ".join(f"{frame.time:.1f}" for frame in context.shown),
        "region": "" if region is None else region.label + (f" ({details})" if details else ""),
        "region_time": "" if region is None else f"{context.clip.times[region.index]:.1f}",
        "region_start": "" if region is None else f"{region.start:.1f}",
        "region_end": "" if region is None else f"{region.end:.1f}",
    }
    return {name: filled(text, values) for name, text in prompt.sections}


def _lines(labels: tuple[Labelled, ...] | list[Labelled]) -> str:
    return "\n".join(f"{one.start:.1f}-{one.end:.1f} {one.kind}: {one.text}" for one in labels) or NOTHING


class Captioner(Caller):
    """One of the two captioners.

    Args:
        store, max_mb: as in `Caller`.
        options: of `CaptionerOptions`.

    Attributes:
        name: model and kind of prompt, as the tables call its descriptions.

    Raises:
        CallSettingsError: no key, no model, or a setting out of range. PromptError: a prompt that cannot be used.
    """

    GIVEN = "descriptions"

    def __init__(self, *, store: str | None = None, max_mb: float = MAX_MB, **options: Any) -> None:
        given = CaptionerOptions(**options)
        self._given = given
        how = [given.temperature, given.max_tokens, dict(given.extra_body or {})]
        super().__init__(given, asks=["captioner", given.model, *how], store=store, max_mb=max_mb)
        self.name = given.model

    def prompt(self, task: str) -> PromptFile:
        """What it is asked for a task."""
        return load_prompt(task, self._given.prompts, self._given.plain)

    def key(self, context: Context) -> str:
        """SHA-256 of what its description of a context depends on, but for the pixels: the key in the table."""
        said = [context.key, self.asks, self.prompt(context.task).digest]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    async def describe(self, context: Context, pictures: list[bytes]) -> dict[str, Any]:
        """What it says of a context: ``caption``, or ``events`` with ``start``, ``end`` and ``caption``.

        Raises:
            CallError: no description. Where ``answer_caused``, the captioner declined or said something else.
        """
        said = wording(context, self.prompt(context.task))
        question = {"task": context.task, "version": self.prompt(context.task).version, "pictures": pictures, **said}
        return (await self.ask(question))[0]

    def compose(self, question: Mapping[str, Any]) -> tuple[Chat, Callable[[str], dict[str, Any]]]:
        urls = ("data:image/jpeg;base64," + base64.b64encode(one).decode() for one in question["pictures"])
        parts: list[dict[str, Any]] = [{"type": "text", "text": question["user"]}]
        parts += [{"type": IMAGE, IMAGE: {"url": url}} for url in urls]
        chat: Chat = [{"role": "system", "content": question["system"]}, {"role": "user", "content": parts}]
        return chat, read_events if question["task"] == "dvc" else read_caption

    def key_of(self, question: Mapping[str, Any]) -> list[Any]:
        return [question["system"], question["user"], overlay.digest(question["pictures"])]

    def topic(self, question: Mapping[str, Any]) -> dict[str, str]:
        return {"prompt": question["version"], "task": question["task"]}

    def kept(self, reply: dict[str, Any]) -> dict[str, Any] | None:
        return reply if isinstance(reply.get("caption"), str) or isinstance(reply.get("events"), list) else None

    def settings(self) -> dict[str, Any]:
        """The settings without the key, for the manifest."""
        return {name: value for name, value in asdict(self._given).items() if name != "api_key"}


class _Captioned(BaseModel):
    caption: Line


class _Event(_Captioned):
    start: Annotated[FiniteFloat, Field(ge=0)]
    end: Annotated[FiniteFloat, Field(ge=0)]


class _Events(BaseModel):
    events: Annotated[list[_Event], Field(min_length=1, max_length=MAX_EVENTS)]


def read_caption(text: str) -> dict[str, Any]:
    """A caption. Raises CallMalformed for anything else; the message quotes nothing of the reply."""
    return read_reply(_Captioned, text, "a caption")


def read_events(text: str) -> dict[str, Any]:
    """Events with their captions. Raises CallMalformed."""
    return read_reply(_Events, text, "events with start, end and caption")
