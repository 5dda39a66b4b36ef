# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Small edits of surgical and nursing sentences, by which probes are built. Their word tables are in `words.toml`.

An edit returns the text with every word of its table replaced, or None where it has none.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
INSTRUMENTS, STRUCTURES, ELSEWHERE = WORDS["instruments"], WORDS["structures"], WORDS["elsewhere"]
SIDES, REVERSED, SYNONYMS, PLAIN = WORDS["sides"], WORDS["reversed"], WORDS["synonyms"], WORDS["plain"]
NEGATION = re.compile(r"\b(?:no|not|never|without|cannot)\b|n't\b", re.IGNORECASE)

_PAST = WORDS["grammar"]["past"]
_BEFORE_NOUNS, _DOUBLED, _UNCHANGED = (
    WORDS["grammar"][name].split() for name in ("before_nouns", "doubled", "unchanged")
)
_VOWELS = "aeiou"


def forms(verb: str) -> tuple[str, str, str, str]:
    """A verb's plain form, and those in -s, -ed and -ing; of `work on` the first word changes."""
    head, blank, rest = verb.partition(" ")
    tail = blank + rest
    stem = head + head[-1] if head in _DOUBLED else head
    if head.endswith("y") and head[-2] not in _VOWELS:
        third, past = head[:-1] + "ies", head[:-1] + "ied"
    else:
        third = head + ("es" if head.endswith(("s", "sh", "ch", "x")) else "s")
        past = head + "d" if head.endswith("e") else stem + "ed"
    past = head if head in _UNCHANGED else _PAST.get(head, past)
    if head.endswith("ie"):
        going = head[:-2] + "ying"
    else:
        going = (head[:-1] if head.endswith("e") else stem) + "ing"
    return head + tail, third + tail, past + tail, going + tail


def replace(text: str, table: Mapping[str, str], *, verbs: bool = False) -> str | None:
    """Whole words and phrases of a table replaced, longest first, none twice; None where there is none.

    A capital stays one, a plural in -s stays one where the new word can have it, and a or an before it follows. With
    `verbs` the table is of verb forms, and words that stand where a noun does are left alone.
    """

    def put(match: re.Match[str]) -> str:
        article, word, plural = match[1] or "", match[2], match[3]
        before = re.findall(r"\w+", text[max(0, match.start(2) - 20) : match.start(2)])
        if verbs and before and before[-1].casefold() in _BEFORE_NOUNS:
            return match[0]
        new = table[word.casefold()]
        if not new.endswith("s"):
            new += plural
        if article:
            article = article[0] + ("n" if new[0].lower() in _VOWELS else "") + article.lstrip("anAN")
        return article + (capital(new) if word[0].isupper() else new)

    if not table:
        return None
    words = "|".join(re.escape(word) for word in sorted(table, key=len, reverse=True))
    changed = re.sub(rf"\b(an?\s+)?({words})({'' if verbs else 's?'})\b", put, text, flags=re.IGNORECASE)
    return None if changed == text else changed


def verb_table(verbs: Mapping[str, str]) -> dict[str, str]:
    """A table of verbs in -s, -ed and -ing. Plain forms are left out: most of them are nouns as well."""
    return {
        one: other for verb, new in verbs.items() for one, other in zip(forms(verb)[1:], forms(new)[1:], strict=True)
    }


VERBS = (*REVERSED, *WORDS["other_verbs"])
OPPOSITES = verb_table(REVERSED)
OTHER_SIDES = SIDES | {other: one for one, other in SIDES.items()}
NEGATED = {word: f"{word} not" for word in ("is", "are", "was", "were")}
NEGATED |= {forms(verb)[1]: f"does not {verb}" for verb in VERBS}
GENERIC_NAMES = {word: "tool" for group in INSTRUMENTS for word in group}
GENERIC_NAMES |= {word: "area" for group in STRUCTURES for word in group}
GENERIC_VERBS = verb_table(dict.fromkeys(VERBS, "work on"))


def negate(text: str) -> str | None:
    """Every verb denied; None where the text denies something already, or has no verb that can be."""
    return None if NEGATION.search(text) else replace(text, NEGATED, verbs=True)


def swap_groups(text: str, groups: Sequence[Sequence[str]], names: Sequence[str], chance: random.Random) -> str | None:
    """Every group that the text names, swapped for one of `names` that is neither in the group nor in the text.

    All words of a group become the same one, different groups different ones.
    """
    table: dict[str, str] = {}
    for group in groups:
        if any(_has(text, word) for word in group):
            taken = {*group, *table.values()}
            free = [word for word in names if word not in taken and not _has(text, word)]
            if not free:
                return None
            table |= dict.fromkeys(group, chance.choice(free))
    return replace(text, table)


def _has(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}s?\b", text, re.IGNORECASE) is not None


def capital(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def uncapital(text: str) -> str:
    """The text without a capital at its beginning; abbreviations such as CO2 keep theirs."""
    return text[:1].lower() + text[1:] if not text[1:2].isupper() else text


def sentences(text: str) -> list[str]:
    """The text's sentences and lines, stripped."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]
