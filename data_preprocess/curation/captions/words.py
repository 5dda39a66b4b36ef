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


@cache
def named_once(kind: str, text: str) -> frozenset[str]:
    """As `named`, of one text, remembered: labels come again and again."""
    return named(kind, [text])


def word_count(text: str) -> int:
    """Words of a text."""
    return len(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text))
