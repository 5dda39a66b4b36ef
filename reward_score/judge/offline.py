# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The offline judge: five dimensions by comparing words. Lexical, deterministic, no model, no network.

It stands in for a language-model judge where there is none. It knows no synonyms and no medicine beyond the word
lists of `lexicon`; its numbers are not comparable with those of a model, and carry its name wherever they go.

The texts become lists of word stems without function words; a word after a negation is another word (``¬cut`` is not
``cut``). Overlaps are F1 over sets of stems, in which words that one side lacks, and repetitions beyond those of the
reference, count against the prediction: neither padding nor repeating can raise a score. Full marks need the same
content words in the same order, by first and by last occurrence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import lru_cache

from ..errors import BadGroundTruth
from .judgement import HIGHEST, LOWEST, Judgement
from .lexicon import STOP_WORDS, is_action, is_instrument_or_anatomy, is_negation, is_term, stem

MAX_CHARS = 16_000
"""What comes after this many characters of a text is not read; reference captions have at most some 8,000."""
MAX_WORD_CHARS = 40
NEGATION_REACH = 3
"""A negation turns the first content word within this many words after it ('not been cut')."""
DIMENSION_WEIGHT = 0.7
"""Weight of a dimension's own words; the rest is the overlap of all words, so a lone keyword is no description."""
DIRECTIONS = frozenset("before after up down over under".split())
"""Function words that are content here: pulling up is not pulling down."""
ORDER_WEIGHT_ACTION = 0.25
ORDER_WEIGHT_CONTEXT = 0.5
ORDER_WEIGHT_SPECIFICITY = 0.5
"""Weights of word order (who does what to what): all keywords in any order are less than a sentence that lacks some,
and a paraphrase is not ruined."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


class OfflineJudge:
    """Lexical judge with the interface of `Judge`; stateless, safe in any thread or event loop."""

    name = "offline-lexical-v2"
    store = None

    async def score(self, prediction: str, reference: str, *, task: str, question: str | None = None) -> Judgement:
        """Compare two texts; ``task`` and ``question`` are taken for the interface's sake and not used.

        Raises:
            BadGroundTruth: the reference has no word.
        """
        return self.compare(prediction, reference)

    async def aclose(self) -> None:
        """Nothing to close."""

    def compare(self, prediction: str, reference: str) -> Judgement:
        """The same, synchronously. Linear in the length of the texts."""
        gold = read(reference)
        if not gold.total:
            raise BadGroundTruth("the reference text has no word: expected a description")
        said = read(prediction)
        if not said.total:
            return Judgement.lowest(self.name)
        content = overlap(said.stems, gold.stems, max(0, said.repeats - gold.repeats))
        order = _f1_sets(said.bigrams, gold.bigrams, content)

        def own(mine: Set[str], theirs: Set[str]) -> float:
            return _mix(DIMENSION_WEIGHT, _f1_sets(mine, theirs, content), content)

        # The reference decides which of its stems are actions: 'elevates' there and 'elevating' here are the same.
        actions = own((said.stems & gold.actions) | (said.actions - gold.stems), gold.actions)
        shares = {
            "terminology": own(said.stems_that(is_term), gold.stems_that(is_term)),
            "instruments_anatomy": own(
                said.stems_that(is_instrument_or_anatomy), gold.stems_that(is_instrument_or_anatomy)
            ),
            "specificity": _mix(ORDER_WEIGHT_SPECIFICITY, order, _covered(said, gold)),
            "procedure_context": _mix(ORDER_WEIGHT_CONTEXT, order, content),
            "action_state": _mix(ORDER_WEIGHT_ACTION, order, actions),
        }
        scores = {name: min(float(HIGHEST), LOWEST + (HIGHEST - LOWEST) * share) for name, share in shares.items()}
        return Judgement(**scores, judge=self.name, usage=None)


@dataclass(frozen=True)
class Words:
    """A text as it is compared: content stems, each once; what looks like an action; neighbours among the stems.

    Neighbours are counted twice, among first and among last occurrences: both are the same for a text and for the
    text said twice, and together they notice what is moved behind its first mention.
    """

    stems: Set[str]
    bigrams: Set[tuple[bool, str, str]]
    actions: Set[str]
    repeats: int
    total: int

    def stems_that(self, are: Callable[[str], bool]) -> Set[str]:
        """The stems of a kind, negated ones among them."""
        return {word for word in self.stems if are(word.removeprefix("¬"))}


@lru_cache(maxsize=16_384)
def _entry(word: str) -> tuple[str, bool, bool, bool]:
    """Stem; is it a negation, a function word, an action."""
    base = stem(word)
    return base, is_negation(word), word in STOP_WORDS and word not in DIRECTIONS, is_action(word, base)


def read(text: str) -> Words:
    """Words of a text. Upper case, punctuation, width variants and typographic apostrophes make no difference.

    A text of function words only is compared by these.
    """
    text = unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold().replace("\u2019", "'")
    entries = [_entry(word[:MAX_WORD_CHARS]) for word in _WORD.findall(text)]
    stems: list[str] = []
    actions: set[str] = set()
    negated = 0
    for base, negation, function_word, action in entries:
        if negation:
            negated = NEGATION_REACH
            continue
        if function_word:
            negated -= 1
            continue
        marked = "¬" + base if negated > 0 else base
        if action or negated > 0:
            actions.add(marked)
        stems.append(marked)
        negated = 0
    stems = stems or [entry[0] for entry in entries]
    # Each stem once: saying a sentence twice must not make new neighbours.
    first, last = list(dict.fromkeys(stems)), list(dict.fromkeys(reversed(stems)))[::-1]
    bigrams = [
        (late, one, other)
        for late, once in ((False, first), (True, last))
        for one, other in zip(once, once[1:], strict=False)
    ]
    return Words(frozenset(first), frozenset(bigrams), actions, len(stems) - len(first), len(entries))


def overlap(said: Set[str], gold: Set[str], extra: int = 0) -> float:
    """F1 of two sets, ``extra`` counting as words that only ``said`` has. 0 to 1; both must not be empty."""
    return 2 * len(said & gold) / (len(said) + extra + len(gold))


def _covered(said: Words, gold: Words) -> float:
    """Share of the reference's stems that are said, less where more words are needed for it."""
    return len(said.stems & gold.stems) / len(gold.stems) * min(1.0, gold.total / said.total)


def _f1_sets(said: Set, gold: Set, otherwise: float) -> float:
    """F1, or ``otherwise`` where the reference has nothing to compare. Extra items still count against it."""
    if not gold:
        return otherwise / (1 + len(said))
    return overlap(said, gold)


def _mix(weight: float, first: float, second: float) -> float:
    return weight * first + (1 - weight) * second
