# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Raw signals of free text: which texts are compared, and how values of single pairs become one number.

Two signals look at the same pairs: ``similarity``, the cosine of two sentence embeddings (`similarity`), and
``judge``, the mean of five judged dimensions brought from 1..5 to 0..1 (`judge`).

What an answer says again is compared once, and its words count as words that match nothing: both signals of a text
are multiplied by the share of its words that is left (`said_once`). A sentence embedding alone would not mind, and
can even rise when a text is repeated.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .answers import Event
from .errors import BadGroundTruth, RewardError
from .temporal import DEFAULT_INTERVAL, matched_events

JUDGE_LOW, JUDGE_HIGH = 1.0, 5.0


@dataclass(frozen=True)
class CaptionPairs:
    """Texts to compare, and how the values of the comparisons become one.

    Attributes:
        pairs: (prediction, reference) each, the prediction without what it says again.
        count: by how many comparisons the sum is divided.
        shares: what the value of each pair is multiplied by, 0 to 1.
    """

    pairs: tuple[tuple[str, str], ...]
    count: int
    shares: tuple[float, ...] = ()

    def mean(self, values: Sequence[float]) -> float:
        """The signal of the whole answer: what was not paired counts 0. 0 to 1."""
        total = sum(value * share for value, share in zip(values, self.shares, strict=True))
        return min(total / self.count, 1.0) if self.count else 0.0


_WORD = re.compile(r"[^\W_]+")
BETWEEN_SENTENCES = re.compile(r"(?<=[.!?;])\s|\n")


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _period(words: Sequence[str]) -> int:
    """After how many words a text begins anew and goes on so to its end; its length if it does not."""
    borders = [0] * len(words)
    border = 0
    for place in range(1, len(words)):
        while border and words[place] != words[border]:
            border = borders[border - 1]
        border += words[place] == words[border]
        borders[place] = border
    period = len(words) - border
    return period if 2 * period <= len(words) else len(words)


def said_once(text: str, reference: str) -> tuple[str, float]:
    """A text without what it says again, and the share of its words that is left, 0 to 1.

    A text that begins anew after some words and goes on so to its end is cut there. Of the same sentence, case and
    punctuation aside, as many stay as the reference has, at least one. A text with the reference's words in the
    reference's order is left as it is. Full-width and other variants of a letter are that letter.
    """
    given = text
    text, reference = unicodedata.normalize("NFKC", text), unicodedata.normalize("NFKC", reference)
    words = _words(text)
    if not words or words == _words(reference):
        return given, 1.0
    period = _period(words)
    if period < len(words):
        text = text[: [match.start() for match in _WORD.finditer(text)][period]].rstrip()
    sentences = [(sentence, _words(sentence)) for sentence in BETWEEN_SENTENCES.split(text)]
    told = Counter(key for _, key in sentences if key)
    if len(told) < told.total():
        allowed = Counter(_words(sentence) for sentence in BETWEEN_SENTENCES.split(reference))
        seen: Counter[tuple[str, ...]] = Counter()
        kept = []
        for sentence, key in sentences:
            seen[key] += 1
            if not key or seen[key] <= max(1, allowed[key]):
                kept.append(sentence)
        text = " ".join(kept)
    left = len(_words(text))
    return (text, left / len(words)) if left < len(words) else (given, 1.0)


def _compared(texts: Sequence[tuple[str, str]], count: int) -> CaptionPairs:
    once = [said_once(predicted, reference) for predicted, reference in texts]
    pairs = tuple((text, reference) for (text, _), (_, reference) in zip(once, texts, strict=True))
    return CaptionPairs(pairs, count, tuple(share for _, share in once))


def text_pair(predicted: str, reference: str) -> CaptionPairs:
    """A summary or region caption against its reference text. A blank reference raises BadGroundTruth."""
    if not reference.strip():
        raise BadGroundTruth("the reference text is blank: expected a caption")
    return _compared([(predicted, reference)], 1)


def event_pairs(predicted: Sequence[Event], gold: Sequence[Event], interval: float = DEFAULT_INTERVAL) -> CaptionPairs:
    """Captions of matched events; every unmatched event, predicted or gold, counts 0."""
    pairs = matched_events(predicted, gold, interval)
    return _compared([(a.caption, b.caption) for a, b in pairs], max(len(predicted), len(gold)))


def judge_value(mean: float) -> float:
    """The mean of the judged dimensions, 1 to 5, as 0 to 1.

    Raises:
        RewardError: outside 1 to 5: a judge that cannot count is not an answer's fault.
    """
    if not JUDGE_LOW <= mean <= JUDGE_HIGH:
        raise RewardError(f"judge mean {mean!r}: expected {JUDGE_LOW} to {JUDGE_HIGH}")
    return (mean - JUDGE_LOW) / (JUDGE_HIGH - JUDGE_LOW)
