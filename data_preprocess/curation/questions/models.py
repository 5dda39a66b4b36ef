# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The models that are asked, by text alone: one finds facts in what is said, one asks about them, one guesses answers.

Each pays as the judge does (`reward_score.paid_call`): each question once, within limits, with typed failures.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from data_preprocess.curation.prompts import chat_prompt
from data_preprocess.curation.questions.excerpts import Excerpt
from data_preprocess.curation.replies import FormCaller, Line
from reward_score.paid_call import Options
from reward_score.paid_call.prompt_files import filled
from reward_score.paid_call.store import MAX_MB

PROMPT_FOLDER = Path(__file__).with_name("prompts")
KINDS = ("observation", "reason", "plan", "deduction")
"""The kinds of facts, in the order in which they are numbered."""


@dataclass(frozen=True, kw_only=True)
class TextOptions(Options):
    """Whom to ask and how. A key is taken from ``key_variable`` or ``OPENAI_API_KEY``; the judge's is never sent here.

    Attributes:
        prompts: a folder with ``facts.txt``, ``questions.txt`` and ``blind.txt``; empty for the packaged ones.
    """

    prompts: str = ""
    timeout_s: float = 120.0
    deadline_s: float = 600.0
    max_tokens: int | None = 2_000
    max_in_flight: int | None = 32


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Fact(_Strict):
    text: Line
    quote: Line


class Facts(_Strict):
    """What is found in an excerpt."""

    observation: list[_Fact]
    reason: list[_Fact]
    plan: list[_Fact]
    deduction: list[_Fact]


class _Question(_Strict):
    fact: int
    question: Line
    answer: Line


class Questions(_Strict):
    """What is asked about the facts."""

    questions: list[_Question]


class Guess(_Strict):
    """What is answered without a look."""

    answer: Line


class TextModel(FormCaller):
    """A model behind an OpenAI-compatible endpoint. A subclass says what it is asked.

    Args:
        store, max_mb: as in `Caller`.
        options: of `TextOptions`.

    Attributes:
        prompt: what it is told.

    Raises:
        CallSettingsError: no key, no model, or a setting out of range. PromptError, BadSetting: a prompt that cannot be
            used.
    """

    STAGE: ClassVar[str]
    """Name of its prompt."""
    VALUES: ClassVar[frozenset[str]]
    """What the prompt is filled with."""
    TASK = "qa"

    def __init__(self, *, store: str | None = None, max_mb: float = MAX_MB, **options: Any) -> None:
        given = TextOptions(**options)
        self._given = given
        folder = Path(given.prompts) if given.prompts else PROMPT_FOLDER
        how = [given.temperature, given.max_tokens, dict(given.extra_body or {})]
        super().__init__(
            given,
            asks=[self.STAGE, given.model, *how],
            prompt=chat_prompt(self.STAGE, folder, self.VALUES),
            name=self.STAGE,
            store=store,
            max_mb=max_mb,
        )

    @abstractmethod
    def values(self, about: Any) -> dict[str, str]:
        """What fills the prompt."""

    def user_text(self, about: Any) -> str:
        """The question as it is sent, without the system message."""
        return filled(dict(self.prompt.sections)["user"], self.values(about))

    def key(self, about: Any) -> str:
        """SHA-256 of what its reply depends on: the key in the table."""
        said = [self.user_text(about), self.asks, self.prompt.digest]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    async def reply(self, about: Any) -> dict[str, Any]:
        """What it says, as the values of its form.

        Raises:
            CallError: no reply. Where ``answer_caused``, the model declined or said something else.
        """
        values = self.values(about)
        return (await self.ask({name: filled(text, values) for name, text in self.prompt.sections}))[0]

    def settings(self) -> dict[str, Any]:
        """The settings without the key, for the manifest."""
        return {name: value for name, value in asdict(self._given).items() if name != "api_key"}


class Extractor(TextModel):
    """Finds facts in an `Excerpt`."""

    STAGE, FORM, EXPECTED = "facts", Facts, "observation, reason, plan and deduction, each with texts and quotes"
    VALUES = frozenset({"procedure", "speech"})

    def values(self, about: Excerpt) -> dict[str, str]:
        return {"procedure": about.clip.video.procedure or "not known", "speech": about.text}


class Writer(TextModel):
    """Asks about facts: (kind, text) pairs, which it gets by their numbers from 1 and nothing beside them."""

    STAGE, FORM, EXPECTED = "questions", Questions, "questions with fact, question and answer"
    VALUES = frozenset({"facts"})

    def values(self, about: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return {"facts": "\n".join(f"{number} {kind}: {text}" for number, (kind, text) in enumerate(about, 1))}


class Guesser(TextModel):
    """Answers a question without a look at the video."""

    STAGE, FORM, EXPECTED = "blind", Guess, "an answer"
    VALUES = frozenset({"question"})

    def values(self, about: str) -> dict[str, str]:
        return {"question": about}
