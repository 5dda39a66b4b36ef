# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The stages of a folder. Each is a table that only grows, so that another threshold asks nobody.

excerpts.jsonl   what is said in a clip, by its content
extracted.jsonl  the facts that a model found in an excerpt, or that it would not look for any
written.jsonl    the questions that a model asked about the facts that passed
guessed.jsonl    how a model answers a question that sees no frame
decisions.jsonl  facts and questions: what is kept under which settings, and why not
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_preprocess.annotations import RecordError, parse_record
from data_preprocess.curation.asking import Asked, ask_each, outcome
from data_preprocess.curation.captions.tables import Table
from data_preprocess.curation.questions.checks import (
    BLIND,
    DUPLICATE,
    NOT_ASKED,
    RULES,
    Fact,
    KeepSettings,
    fact_reasons,
    facts_of,
    question_reasons,
)
from data_preprocess.curation.questions.excerpts import Excerpt
from data_preprocess.curation.questions.models import Extractor, Guesser, TextModel, Writer
from data_preprocess.curation.questions.rows import asked_of, question_row
from data_preprocess.curation.rows.wordings import Wordings
from reward_score.paid_call import CallUnproven

EMBEDDED_AT_ONCE = 4096


class Folder:
    """The tables of a folder."""

    def __init__(self, folder: Path) -> None:
        self.excerpts = Table(folder / "excerpts.jsonl")
        self.extracted = Table(folder / "extracted.jsonl")
        self.written = Table(folder / "written.jsonl")
        self.guessed = Table(folder / "guessed.jsonl")
        self.decisions = Table(folder / "decisions.jsonl")

    def close(self) -> None:
        """Close all tables."""
        for table in vars(self).values():
            table.close()


@dataclass(frozen=True)
class Found:
    """What became of a fact or of a question.

    Attributes:
        excerpt: where it is from.
        reply: key of the reply that it stands in, in `extracted.jsonl` or `written.jsonl`.
        index: its place in the reply.
        fact: the fact; None for a question about a fact that there is none of, and for a reply that was declined.
        asked: the question; None for a fact.
        row: of a question that passed so far.
        reasons: why it is dropped; none: it is kept.
        nearest: similarity to the nearest question before it, with which it was compared.
        guess: similarity of a guess to the answer.
    """

    excerpt: Excerpt
    reply: str
    index: int
    fact: Fact | None = None
    asked: Mapping[str, Any] | None = None
    row: Mapping[str, Any] | None = None
    reasons: tuple[str, ...] = ()
    nearest: float | None = None
    guess: float | None = None

    @property
    def kept(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


class Asking:
    """Has the two models asked about excerpts, and a third one about their questions.

    Args:
        folder: the tables.
        extractor, writer: the two; they may share a store.
        settings: which facts go on to the second.
        at_once: excerpts under way at once.
    """

    def __init__(
        self, folder: Folder, extractor: Extractor, writer: Writer, settings: KeepSettings, at_once: int
    ) -> None:
        self._folder, self._settings, self._at_once = folder, settings, at_once
        self.extractor, self.writer = extractor, writer
        self.asked = Asked()

    async def run(self, excerpts: Iterable[Excerpt], done: Callable[[], object] = lambda: None) -> Asked:
        """Ask for what is missing. A failure of the infrastructure leaves an excerpt open for the next run.

        Raises:
            CallSettingsError, CallBudgetExceeded: another try is useless.
        """
        await ask_each(excerpts, self._both, (self.extractor, self.writer), self._at_once, done)
        return self.asked

    async def guess(self, guesser: Guesser, questions: Iterable[str]) -> Asked:
        """Have questions answered that nobody has guessed at yet. Raises as `run`."""

        async def ask(question: str, last: bool) -> bool:
            return await self._ask(self._folder.guessed, guesser, question, last) is None

        await ask_each(dict.fromkeys(questions), ask, (guesser,), self._at_once)
        return self.asked

    async def _both(self, excerpt: Excerpt, last: bool) -> bool:
        self._folder.excerpts.add(excerpt.key, **excerpt.as_dict())
        found = await self._ask(self._folder.extracted, self.extractor, excerpt, last, excerpt=excerpt.key)
        if not found:
            return found is None
        facts = good_facts(excerpt, found, self._settings)
        if not facts:
            return False
        return await self._ask(self._folder.written, self.writer, told(facts), last) is None

    async def _ask(
        self, table: Table, model: TextModel, about: Any, last: bool, **more: Any
    ) -> Mapping[str, Any] | None:
        """The record of a reply; empty where the infrastructure failed, None where to ask again at the end."""
        key = model.key(about)
        if (there := table.get(key)) is not None:
            self.asked.there += 1
            return there
        try:
            said = await outcome(model.reply(about), self.asked.failures, last)
        except CallUnproven:
            return None
        if said is None:
            self.asked.open += 1
            return {}
        self.asked.new += 1
        question = hashlib.sha256(model.user_text(about).encode()).hexdigest()
        return table.add(key, **more, model=model.model, prompt=model.prompt.version, question=question, **said)


def told(facts: Sequence[Fact]) -> tuple[tuple[str, str], ...]:
    """All that the writer learns of facts: their kinds and texts. It sees neither quotes nor anything else of what is
    said."""
    return tuple((fact.kind, fact.text) for fact in facts)


def good_facts(excerpt: Excerpt, found: Mapping[str, Any], settings: KeepSettings) -> list[Fact]:
    """The facts of a record of `extracted.jsonl` that pass the checks, in order."""
    return [one.fact for one in _facts(excerpt, found, settings) if one.kept and one.fact is not None]


def _facts(excerpt: Excerpt, found: Mapping[str, Any], settings: KeepSettings) -> Iterator[Found]:
    if "said" not in found:
        yield Found(excerpt, found["key"], 0, reasons=(f"declined_{found['declined']}",))
        return
    for index, fact in enumerate(facts_of(excerpt.text, found["said"])):
        why = fact_reasons(fact, excerpt.text, excerpt.clip.video.procedure, settings)
        yield Found(excerpt, found["key"], index, fact, reasons=tuple(why))


def judged(
    folder: Folder,
    excerpts: Iterable[Excerpt],
    asking: Asking,
    settings: KeepSettings,
    words: Wordings,
    similarity: Any,
) -> list[Found]:
    """All facts and questions with what speaks against them, guesses aside; what is still open is left out.

    Args:
        similarity: a `reward_score.similarity.Similarity`.
    """
    found: list[Found] = []
    for excerpt in excerpts:
        extracted = folder.extracted.get(asking.extractor.key(excerpt))
        if extracted is None:
            continue
        facts = list(_facts(excerpt, extracted, settings))
        good = [one.fact for one in facts if one.kept and one.fact is not None]
        written = folder.written.get(asking.writer.key(told(good))) if good else None
        if written is not None:
            asked = {one["fact"] for one in written.get("said", {}).get("questions", ())}
            places = {id(fact): number for number, fact in enumerate(good, 1)}
            why = NOT_ASKED if "said" in written else f"declined_{written['declined']}"
            facts = [
                replace(one, reasons=(why,)) if one.kept and places[id(one.fact)] not in asked else one for one in facts
            ]
        found += facts
        if written is not None and "said" in written:
            found += _questions(excerpt, written, good, settings, words)
    return _apart(found, settings, similarity)


def _questions(
    excerpt: Excerpt, written: Mapping[str, Any], facts: Sequence[Fact], settings: KeepSettings, words: Wordings
) -> Iterator[Found]:
    for index, asked in enumerate(written["said"]["questions"]):
        why = question_reasons(asked, facts, settings)
        fact = facts[asked["fact"] - 1] if 1 <= asked["fact"] <= len(facts) else None
        row = None
        if not why and fact is not None:
            row = question_row(excerpt, fact, asked, words)
            try:
                parse_record(dict(row), "questions.json", index)
            except RecordError:  # such as marks that a tokenizer reads as a turn's end
                why, row = ["no_row"], None
        yield Found(excerpt, written["key"], index, fact, asked, row, tuple(why))


def _apart(found: Sequence[Found], settings: KeepSettings, similarity: Any) -> list[Found]:
    """The same, where of questions that are as good as one only the first is kept."""
    texts = {
        at: f"{one.asked['question']} {one.asked['answer']}" for at, one in enumerate(found) if one.row and one.asked
    }
    vectors: dict[int, np.ndarray] = {}
    places = list(texts)
    for start in range(0, len(places), EMBEDDED_AT_ONCE):
        some = places[start : start + EMBEDDED_AT_ONCE]
        vectors |= zip(some, asyncio.run(similarity.embeddings([texts[at] for at in some])), strict=True)
    kept: dict[Any, list[np.ndarray]] = defaultdict(list)
    result = list(found)
    for at, vector in vectors.items():
        video = found[at].excerpt.clip.video
        others = kept[(video.source, video.video_id) if settings.duplicates_among == "video" else None]
        nearest = round(float((np.stack(others) @ vector).max()), 6) if others else None
        same = nearest is not None and nearest >= settings.duplicate
        result[at] = replace(found[at], nearest=nearest, reasons=(DUPLICATE,) if same else ())
        if not same:
            others.append(vector)
    return result


def questions_of(found: Iterable[Found]) -> list[str]:
    """The questions that a guess decides about: those that were kept so far, as their rows ask them."""
    return [asked_of(one.row) for one in found if one.kept and one.row is not None]


def guessed(
    folder: Folder, found: Sequence[Found], guesser: Guesser, settings: KeepSettings, similarity: Any
) -> list[Found]:
    """The same, where a question is dropped whose answer was guessed. Who would not guess has guessed nothing."""
    told_apart: dict[int, tuple[str, str]] = {}
    for at, one in enumerate(found):
        if one.kept and one.row is not None and one.asked is not None:
            record = folder.guessed.get(guesser.key(asked_of(one.row))) or {}
            if "said" in record:
                told_apart[at] = (record["said"]["answer"], one.asked["answer"])
    values = similarity.cosine_pairs(list(told_apart.values())) if told_apart else ()
    result = list(found)
    for at, value in zip(told_apart, values, strict=True):
        right = value >= settings.blind
        result[at] = replace(found[at], guess=round(value, 6), reasons=(BLIND,) if right else ())
    return result


def record(folder: Folder, found: Iterable[Found], settings: KeepSettings) -> None:
    """Note every decision with its reasons. The same decision under the same settings is noted once."""
    for one in found:
        about = {
            "of": "fact" if one.asked is None else "question",
            "reply": one.reply,
            "index": one.index,
            "excerpt": one.excerpt.key,
            "kept": one.kept,
            "reasons": one.reasons,
            "nearest": one.nearest,
            "guess": one.guess,
            "rules": RULES,
        }
        key = hashlib.sha256(json.dumps([about, asdict(settings)], sort_keys=True).encode()).hexdigest()
        folder.decisions.add(key, **about)
