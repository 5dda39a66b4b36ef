# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sentences against a reference: instruments, actions and structures that it contradicts, and how to set them right.

The words are those by which the curation checks captions against labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_preprocess.curation.captions.words import CLASSES, contradicted, named_once, places

ACTIONS = "verbs"
_WORD = re.compile(r"[^\W_]+")


def conflicts(sentence: str, reference: str) -> dict[str, frozenset[str]]:
    """By class of words: what a sentence names where the reference names others of that class, and not these."""
    found = {kind: contradicted(named_once(kind, sentence), named_once(kind, reference)) for kind in CLASSES}
    return {kind: names for kind, names in found.items() if names}


def alike(text: str, other: str) -> float:
    """Share of the words of two texts that both have, 0 to 1."""
    one, two = ({word.casefold() for word in _WORD.findall(each)} for each in (text, other))
    return len(one & two) / len(one | two) if one | two else 0.0


def nearest(sentence: str, references: Sequence[str], among: Sequence[int]) -> int:
    """Which of some references, by number, has most of the sentence's words; of equals the first."""
    return max(among, key=lambda number: (alike(sentence, references[number]), -number))


def rewritten(sentence: str, reference: str, wrong: dict[str, frozenset[str]]) -> str:
    """The sentence with what is wrong in it replaced from a sentence of the reference.

    Names of things take the place of names of their class, in the reference's spelling and order, and the rest of the
    sentence stays the model's own. An action is its verb, its object and their forms: where one is wrong, and where
    the reference's sentence names nothing of a class, the reference's sentence stands for the whole.
    """
    if ACTIONS in wrong:
        return reference
    swaps = []
    for kind, names in wrong.items():
        there = [reference[start:end] for _, start, end in places(kind, reference)]
        said = [(start, end) for name, start, end in places(kind, sentence) if name in names]
        if not there or len(said) > len(there):
            return reference
        swaps += [(start, end, new) for (start, end), new in zip(said, there, strict=False)]
    for start, end, new in sorted(swaps, reverse=True):
        sentence = sentence[:start] + new + sentence[end:]
    return sentence
