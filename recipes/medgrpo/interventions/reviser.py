# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The first wrong sentence of a caption by a model's word, rewritten with the reference in view.

The judge's endpoint is asked, through the judge's store and within its limits: each caption once. What it says is
checked by code: one of the student's sentences, and one sentence in its place. Whether it is better, the judge says.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_preprocess.curation.asking import ask_each, outcome
from data_preprocess.curation.prompts import chat_prompt
from data_preprocess.curation.replies import FormCaller
from recipes.medgrpo.files import RecipeError
from recipes.medgrpo.interventions.location import Asked, LeftOut, Mistake, corrected_sentence
from recipes.medgrpo.terminal import progress
from reward_score.judge.options import Options as JudgeOptions
from reward_score.paid_call import CallMalformed
from reward_score.paid_call.prompt_files import filled
from reward_score.paid_call.store import MAX_MB
from reward_score.pieces import sentences

PROMPTS = Path(__file__).with_name("prompts")
AT_ONCE = 64
_NOT_OURS = ("second", "prompt", "max_candidate_chars")
"""Settings of the judge that say what the judge is asked."""


@dataclass(frozen=True, kw_only=True)
class Options(JudgeOptions):
    """The judge's endpoint, key and limits; a sentence may need more tokens than a verdict."""

    max_tokens: int | None = 512


class Revision(BaseModel):
    """What it says: the number of the first wrong sentence, 0 for none, and what should stand there."""

    model_config = ConfigDict(extra="forbid")
    sentence: int
    rewritten: str


class Reviser(FormCaller):
    """Asks the judge's endpoint for the first wrong sentence.

    Args:
        settings: of the judge (`judge_settings`).

    Raises:
        CallSettingsError: no key, no model, or a setting out of range.
    """

    FORM = Revision
    EXPECTED = "the number of a sentence and a text"
    TASK = "revise"

    def __init__(self, *, store: str | None = None, max_mb: float = MAX_MB, **settings: Any) -> None:
        given = Options(**{name: value for name, value in settings.items() if name not in _NOT_OURS})
        prompt = chat_prompt("revise", PROMPTS, frozenset({"question", "reference", "sentences"}))
        super().__init__(
            given,
            asks=["revise", given.model, prompt.digest, given.temperature, given.max_tokens],
            prompt=prompt,
            name="revision",
            store=store,
            max_mb=max_mb,
        )

    async def reply(self, asked: Asked) -> dict[str, Any]:
        """What it says of a caption, checked. Raises `CallError`; where ``answer_caused``, it said something else."""
        said = [piece.value for piece in sentences(asked.answer)]
        values = {
            "question": str(asked.context.extra.get("question") or "Describe the video."),
            "reference": asked.target,
            "sentences": "\n".join(f"{number}. {text}" for number, text in enumerate(said, 1)),
        }
        question = {name: filled(text, values) for name, text in self.prompt.sections} | {"sentences": len(said)}
        return (await self.ask(question))[0]

    def read(self, question: Mapping[str, Any], text: str) -> dict[str, Any]:
        found = super().read(question, text)
        one = len(sentences(found["rewritten"])) == 1
        if not 0 <= found["sentence"] <= question["sentences"] or (found["sentence"] and not one):
            raise CallMalformed("expected the number of one of the sentences and one sentence in its place")
        return found


def revised(asked: Asked, revision: Mapping[str, Any]) -> Mistake | LeftOut:
    """What a reply comes to: the mistake that it names, or why there is none."""
    if not revision["sentence"]:
        return LeftOut.NO_ERROR
    return corrected_sentence(asked, revision["sentence"] - 1, revision["rewritten"].strip())


def revise_all(reviser: Reviser, captions: Sequence[Asked]) -> dict[tuple[str, str], Mistake | LeftOut]:
    """By (answer, target): the mistake in each caption.

    Raises:
        RecipeError: the endpoint failed for some; the others' replies are in the store, if there is one.
        CallSettingsError, CallBudgetExceeded: another try is useless.
    """
    found: dict[tuple[str, str], Mistake | LeftOut] = {}
    failures: Counter[str] = Counter()
    things = {(one.answer, one.target): one for one in captions if sentences(one.answer)}

    async def ask(asked: Asked, last: bool) -> bool:
        from reward_score.paid_call import CallUnproven

        try:
            said = await outcome(reviser.reply(asked), failures, last)
        except CallUnproven:
            return True
        if said is not None:
            key = asked.answer, asked.target
            found[key] = revised(asked, said["said"]) if "said" in said else LeftOut.DECLINED
        return False

    with progress(len(things), "caption", "revisions") as bar:
        asyncio.run(ask_each(things.values(), ask, [reviser], AT_ONCE, bar.update))
    if failures:
        kinds = ", ".join(f"{name} {many}" for name, many in failures.most_common())
        raise RecipeError(f"{reviser.model}: {failures.total()} of {len(things)} captions without a reply: {kinds}")
    return found
