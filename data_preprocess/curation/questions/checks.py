# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a fact is one that the lecture says, and whether a question about it may become a row. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_preprocess.curation.captions.words import CLASSES, FORBIDDEN, named, word_count
from data_preprocess.curation.questions.models import KINDS
from data_preprocess.curation.settings import open_choice

RULES = "rules-v1"
"""Part of a decision's key: other rules are other decisions."""
LECTURE = "lecture"
"""The list of words by which a text speaks of who speaks."""
THINGS = ("instruments", "anatomy")
"""What a fact may not name unless it is said, nor an answer unless the fact names it. Verbs have too many meanings."""
DUPLICATE, BLIND, NOT_ASKED = "duplicate", "answered_blind", "not_asked"
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class KeepSettings:
    """When a fact and a question are kept; how Surg-QA was filtered is not published."""

    quote_words_least: int = open_choice(4, "words of a quote, from: fewer are found by chance", least=1)
    fact_words_most: int = open_choice(60, "words of a fact, up to: it is one sentence", least=1)
    question_words_least: int = open_choice(3, "words of a question, from", least=1)
    question_words_most: int = open_choice(60, "words of a question, up to", least=1)
    answer_words_least: int = open_choice(3, "words of an answer, from", least=1)
    answer_words_most: int = open_choice(80, "words of an answer, up to: what the budget of tokens holds", least=1)
    duplicate: float = open_choice(0.9, "similarity from which two questions with their answers are one")
    duplicates_among: str = open_choice(
        "video", "what is compared: another video's clip is another question", ("video", "all")
    )
    blind: float = open_choice(0.8, "similarity from which a guess without the video counts as the answer")


@dataclass(frozen=True)
class Fact:
    """A fact, the words that say it, and where they stand in the excerpt's text; None where they do not."""

    kind: str
    text: str
    quote: str
    place: tuple[int, int] | None


def find_quote(text: str, quote: str) -> tuple[int, int] | None:
    """Where a quote stands in a text: the characters from its first to behind its last word, of several places the
    first. Case, white space and punctuation between words do not count, words do. None where it does not stand."""
    wanted = [match[0].casefold() for match in _WORD.finditer(quote)]
    there = [(match[0].casefold(), match.span()) for match in _WORD.finditer(text)]
    for at in range(len(there) - len(wanted) + 1):
        if wanted and all(there[at + step][0] == word for step, word in enumerate(wanted)):
            return there[at][1][0], there[at + len(wanted) - 1][1][1]
    return None


def facts_of(text: str, said: Mapping[str, Any]) -> Iterator[Fact]:
    """The facts of a reply, kind by kind, with the places of their quotes in an excerpt's text."""
    for kind in KINDS:
        for one in said[kind]:
            yield Fact(kind, one["text"], one["quote"], find_quote(text, one["quote"]))


def fact_reasons(fact: Fact, text: str, procedure: str, settings: KeepSettings) -> list[str]:
    """Why a fact is dropped; empty for a good one.

    Args:
        text: what is said in the excerpt.
        procedure: what is done, by the source's own annotators.
    """
    found = []
    if fact.place is None:
        found.append("no_such_quote")
    elif word_count(fact.quote) < settings.quote_words_least:
        found.append("quote_too_short")
    if word_count(fact.text) > settings.fact_words_most:
        found.append("length_of_fact")
    if fact.kind == "observation" and not any(named(kind, [fact.text]) for kind in CLASSES):
        found.append("nothing_named")
    if any(named(kind, [fact.text]) - named(kind, [text, procedure]) for kind in THINGS):
        found.append("names_what_is_not_said")
    return found


def question_reasons(asked: Mapping[str, Any], facts: Sequence[Fact], settings: KeepSettings) -> list[str]:
    """Why a question is dropped, before it is compared with others; empty for a good one.

    Args:
        asked: ``fact`` (from 1), ``question`` and ``answer``.
        facts: what the writer was given.
    """
    if not 1 <= asked["fact"] <= len(facts):
        return ["no_such_fact"]
    both = [asked["question"], asked["answer"]]
    found = [f"forbidden_{name}" for name in sorted(named(FORBIDDEN, both) | named(LECTURE, both))]
    for what, text in zip(("question", "answer"), both, strict=True):
        least, most = getattr(settings, f"{what}_words_least"), getattr(settings, f"{what}_words_most")
        if not least <= word_count(text) <= most:
            found.append(f"length_of_{what}")
    fact = facts[asked["fact"] - 1]
    if any(named(kind, both) - named(kind, [fact.text]) for kind in THINGS):
        found.append("names_what_the_fact_does_not")
    return found
