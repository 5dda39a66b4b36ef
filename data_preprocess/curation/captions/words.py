# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which instruments, verbs and structures a text names, by the lists of `words.toml`, and which forbidden phrases."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

WORDS_FILE = Path(__file__).with_name("words.toml")
CLASSES = ("instruments", "verbs", "anatomy")
"""What is compared with the labels."""
FORBIDDEN = "forbidden"


def _form(phrase: str) -> str:
    return re.escape(phrase).replace(r"\*", r"\w*").replace(r"\ ", r"[\s_-]+")


@cache
def _patterns(kind: str) -> dict[str, re.Pattern[str]]:
    with open(WORDS_FILE, "rb") as file:
        lists = tomllib.load(file)[kind]
    forms = {name: "|".join(map(_form, sorted(phrases, key=len, reverse=True))) for name, phrases in lists.items()}
    # A label may join its words with an underscore, which `\b` takes for a letter.
    return {name: re.compile(rf"(?<![^\W_])(?:{form})(?![^\W_])", re.IGNORECASE) for name, form in forms.items()}


def named(kind: str, texts: Iterable[str]) -> frozenset[str]:
    """The names of a list, one of `CLASSES` or `FORBIDDEN`, that any of the texts holds."""
    text = " \n ".join(texts)
    return frozenset(name for name, pattern in _patterns(kind).items() if pattern.search(text))


def places(kind: str, text: str) -> list[tuple[str, int, int]]:
    """Where a text holds names of a list: (name, start, end), in the text's order."""
    found = [
        (name, match.start(), match.end())
        for name, pattern in _patterns(kind).items()
        for match in pattern.finditer(text)
    ]
    return sorted(found, key=lambda place: (place[1], place[2]))


def contradicted(said: frozenset[str], told: frozenset[str]) -> frozenset[str]:
    """Those of the names that are said which what is told contradicts. Where nothing is told, nothing can be."""
    return said - told if told else frozenset()


@cache
def named_once(kind: str, text: str) -> frozenset[str]:
    """As `named`, of one text, remembered: labels come again and again."""
    return named(kind, [text])


def word_count(text: str) -> int:
    """Words of a text."""
    return len(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text))
