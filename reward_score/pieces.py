# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Where in an answer each of its elements stands: spans, boxes, events, scores, sentences.

The grammars are those of `answers`, read from the beginning of the text and no further than they are followed. So what
is found may be cut out of the text or put into it, and the text before it is what a model said, to the character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import answers
from .answers import Event
from .captions import BETWEEN_SENTENCES
from .seconds import NUMBER


@dataclass(frozen=True)
class Piece:
    """An element of an answer: its text is ``answer[start:end]``, and `value` what that says.

    By task: a span (start, end); (seconds, box); an `Event`; (component, score); a sentence.
    """

    start: int
    end: int
    value: Any


_ITEM = {
    "tal": re.compile(rf"({NUMBER})-({NUMBER})"),
    "stg": re.compile(rf"({NUMBER}) seconds: \[{', '.join([rf'(-?{NUMBER})'] * 4)}\]"),
    # The line break belongs to the event that it ends: tokenizers join it with the full stop before it.
    "dvc": re.compile(rf"({NUMBER})-({NUMBER}) seconds: (\S[^\n]*)(?:\n|\Z)"),
    "cvs": re.compile(rf"({'|'.join(map(re.escape, answers.CVS_NAMES.values()))}): ([0-2])"),
    "sa": re.compile(rf"({'|'.join(map(re.escape, answers.ASPECTS))}): ([1-5])/5"),
}
_KEYS = {name: key for key, name in answers.CVS_NAMES.items()} | {name: name for name in answers.ASPECTS}


def _box(*said: str) -> tuple[float, tuple[float, ...]]:
    time, *box = map(float, said)
    return time, tuple(box)


def _span(start: str, end: str) -> tuple[float, float]:
    return float(start), float(end)


def _event(start: str, end: str, caption: str) -> Event:
    return Event(float(start), float(end), caption.rstrip())


def _score(name: str, score: str) -> tuple[str, int]:
    return _KEYS[name], int(score)


def _listed(
    item: re.Pattern[str], value: Callable[..., Any], text: str, *, join: str = "", tail: str = ""
) -> list[Piece]:
    """Elements one after the other, `join` between them and `tail` behind the last."""
    found: list[Piece] = []
    start = 0
    while match := item.match(text, start):
        rest = text[match.end() :]
        # What goes on in another way was not this element: the 1/5 of 1/5.4/5.
        if not rest.startswith(join) and rest.rstrip() != tail:
            break
        found.append(Piece(start, match.end(), value(*match.groups())))
        start = match.end() + len(join)
    return found


def sentences(text: str) -> list[Piece]:
    """The sentences and lines of a text, without the white space around them."""
    edges = [(match.start(), match.end()) for match in BETWEEN_SENTENCES.finditer(text)]
    found = []
    for start, end in zip([0, *(end for _, end in edges)], [*(start for start, _ in edges), len(text)], strict=True):
        said = text[start:end]
        if said.strip():
            start += len(said) - len(said.lstrip())
            found.append(Piece(start, start + len(said.strip()), said.strip()))
    return found


JOIN = {"tal": ", ", "stg": " ", "dvc": "", "cvs": ", ", "sa": ", "}
"""What stands between two elements, by task; of sentences a blank."""
PIECES: dict[str, Callable[[str], list[Piece]]] = {
    "tal": partial(_listed, _ITEM["tal"], _span, join=JOIN["tal"], tail=" seconds."),
    "stg": partial(_listed, _ITEM["stg"], _box, join=JOIN["stg"]),
    "dvc": partial(_listed, _ITEM["dvc"], _event),
    "cvs": partial(_listed, _ITEM["cvs"], _score, join=JOIN["cvs"]),
    "sa": partial(_listed, _ITEM["sa"], _score, join=JOIN["sa"]),
    "vs": sentences,
    "rc": sentences,
    "qa": sentences,
}
"""By task: an answer's text to its elements, in its order. A label has none: it is one word, right or wrong."""
