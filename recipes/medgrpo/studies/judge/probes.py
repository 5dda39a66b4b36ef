# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Probes: references edited in one respect, each with what must then be true of a fair judge's scores.

A probe's answer is judged against the untouched reference. Its expectation compares the scores of the dimensions that
it touches with those of the reference judged against itself, or with another probe's answer to the same reference.
`PROBES` and `ORDERINGS` are the study; a probe that cannot be built from a reference (no instrument in it, one sentence
only) is skipped and counted.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import NamedTuple

from recipes.medgrpo.studies.judge import edits
from recipes.medgrpo.studies.judge.ratings import Item
from reward_score.judge import DIMENSIONS


@dataclass(frozen=True)
class Context:
    """What an edit may use beside the reference.

    Attributes:
        chance: the probe's own source of chance for this reference.
        own: the reference's video.
        alike, foreign: all references of the same source and task, and those of the task from other sources.
    """

    chance: random.Random
    own: str
    alike: Sequence[Item]
    foreign: Sequence[Item]


Build = Callable[[str, Context], str | None]
"""An edit: the reference to the answer; None where it does not apply."""


class Probe(NamedTuple):
    """An edit of a reference and what to expect of its scores.

    Attributes:
        name: in tables.
        family: which bias it asks about.
        build: the edit.
        expect: one of `expectations.EXPECTATIONS`.
        touches: the dimensions that are compared; empty: the mean of the five.
        against: the probe whose scores it is compared with; the reference itself by default.
    """

    name: str
    family: str
    build: Build
    expect: str
    touches: Sequence[str] = ()
    against: str = "reference"


class Ordering(NamedTuple):
    """One probe must score above another in a dimension (empty: in the mean of all)."""

    better: str
    worse: str
    touches: Sequence[str] = ()


def built(references: Sequence[Item], seed: int = 0) -> dict[Item, dict[str, Item | None]]:
    """By reference and probe the item to judge; None where the probe does not apply.

    The same references and seed give the same texts, whatever their order.
    """
    ordered = sorted(references, key=lambda item: (item.source, item.task, item.video, item.reference))
    places = {(item.source, item.task) for item in references}
    of_task = {place: [item for item in ordered if item.task == place[1]] for place in places}
    alike = {place: [item for item in of_task[place] if item.source == place[0]] for place in places}
    foreign = {place: [item for item in of_task[place] if item.source != place[0]] for place in places}
    found: dict[Item, dict[str, Item | None]] = {}
    for item in references:
        place = (item.source, item.task)
        found[item] = {}
        for probe in PROBES:
            chance = random.Random(f"{seed}|{probe.name}|{item.cluster}|{item.reference}")
            text = probe.build(item.reference, Context(chance, item.cluster, alike[place], foreign[place]))
            found[item][probe.name] = None if text is None else replace(item, prediction=text)
    return found


OVERLAP = 0.7
"""References of two videos that share more of their words may describe the same thing."""
TRIES = 50
OFF_TOPIC, ON_TOPIC, HEDGES, VAGUE, BLANK, BRIBES = (
    edits.WORDS["sentences"][name] for name in ("off_topic", "on_topic", "hedges", "vague", "blank", "bribes")
)


def _padded(text: str, filling: Sequence[str], words: int) -> str:
    """The text and then sentences of `filling` until some `words` words are added."""
    added: list[str] = []
    for sentence in cycle(filling):
        if sum(len(part.split()) for part in added) >= words:
            break
        added.append(sentence)
    return " ".join([text, *added])


def _share(text: str, share: float) -> str | None:
    words = text.split()
    return " ".join(words[: max(1, int(len(words) * share))]) if len(words) >= 8 else None


def _half_padded(text: str, at: Context) -> str | None:
    half = _share(text, 0.5)
    return None if half is None else _padded(half.rstrip(".,;:") + ".", ON_TOPIC, len(text.split()))


def _hedged(text: str, at: Context) -> str:
    start = at.chance.randrange(len(HEDGES))
    hedges = HEDGES[start:] + HEDGES[:start]
    return " ".join(f"{hedge} {edits.uncapital(part)}" for hedge, part in zip(cycle(hedges), edits.sentences(text)))


def _replaced(table: Mapping[str, str], verbs: bool = False) -> Build:
    return lambda text, at: edits.replace(text, table, verbs=verbs)


def _swapped(groups: Sequence[Sequence[str]], names: Sequence[str]) -> Build:
    return lambda text, at: edits.swap_groups(text, groups, names, at.chance)


def _generic_words(text: str, at: Context) -> str | None:
    named = edits.replace(text, edits.GENERIC_NAMES)
    return None if named is None else edits.replace(named, edits.GENERIC_VERBS, verbs=True) or named


def _reversed_steps(text: str, at: Context) -> str | None:
    steps = edits.sentences(text)
    order = re.compile(r"(?:First|Then|Next|Finally|Afterwards)\b,?\s*")
    marks = [match[0] if (match := order.match(step)) else "" for step in steps]
    bare = [edits.uncapital(step[len(mark) :]) for step, mark in zip(steps, marks, strict=True)]
    # Without a word of order the sentences may describe one moment, and their order says nothing.
    if not any(marks) or bare == bare[::-1]:
        return None
    # The steps change places and the words that number them stay: else "then ... first" would tell the true order.
    return " ".join(edits.capital(mark + step) for mark, step in zip(marks, bare[::-1], strict=True))


def _vague(text: str) -> str:
    # Not from the probe's own chance: what is bribed for must be the sentence that stands without the bribe.
    return random.Random(text).choice(VAGUE)


def _another(text: str, pool: Sequence[Item], at: Context) -> str | None:
    """The reference of another video that cannot mean the same, None where some draws find none."""
    words = _words(text)
    for other in at.chance.sample(pool, min(TRIES, len(pool))):
        theirs = _words(other.reference)
        if other.cluster != at.own and len(words & theirs) <= OVERLAP * len(words | theirs):
            return other.reference
    return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


ALL, PARTS, ACTION = DIMENSIONS, ("instruments_anatomy",), ("action_state",)
INSTRUMENT_NAMES = [group[0] for group in edits.INSTRUMENTS if group[0] not in ("towel", "comb")]

PROBES = (
    Probe("reference", "control", lambda text, at: text, "highest", ALL),
    Probe("padded_off_topic", "length", lambda text, at: _padded(text, OFF_TOPIC, len(text.split())), "lower"),
    Probe("padded_on_topic", "length", lambda text, at: _padded(text, ON_TOPIC, len(text.split())), "lower"),
    Probe("half", "length", lambda text, at: _share(text, 0.5), "lower"),
    Probe("quarter", "length", lambda text, at: _share(text, 0.25), "lower", against="half"),
    Probe("half_padded", "length", _half_padded, "not_higher", against="half"),
    Probe("hedged", "hedging", _hedged, "near", ALL),
    Probe("synonyms", "synonyms", _replaced(edits.SYNONYMS), "near", ALL),
    Probe("swapped_instrument", "wrong facts", _swapped(edits.INSTRUMENTS, INSTRUMENT_NAMES), "lower", PARTS),
    Probe("wrong_anatomy", "wrong facts", _swapped(edits.STRUCTURES, edits.ELSEWHERE), "lower", PARTS),
    Probe("wrong_side", "wrong facts", _replaced(edits.OTHER_SIDES), "lower"),
    Probe("negated", "wrong facts", lambda text, at: edits.negate(text), "lower", ACTION),
    Probe("reversed_action", "wrong facts", _replaced(edits.OPPOSITES, verbs=True), "lower", ACTION),
    Probe("reversed_steps", "wrong facts", _reversed_steps, "lower", ACTION),
    Probe("generic_words", "generic", _generic_words, "lower", ("terminology", "specificity")),
    Probe("generic_sentence", "generic", lambda text, at: _vague(text), "far"),
    Probe("upper_case", "style", lambda text, at: text.upper(), "same", ALL),
    Probe("bullets", "style", lambda text, at: "\n".join(f"- {part}" for part in edits.sentences(text)), "same", ALL),
    Probe("no_punctuation", "style", lambda text, at: re.sub(r"[.,;:!?](?!\d)", "", text), "same", ALL),
    Probe("plain_words", "style", _replaced(edits.PLAIN), "lower", ("terminology",)),
    Probe("other_video", "another video", lambda text, at: _another(text, at.alike, at), "lower"),
    Probe("other_source", "another video", lambda text, at: _another(text, at.foreign, at), "far"),
    Probe("blank_like", "no answer", lambda text, at: at.chance.choice(BLANK), "lowest", ALL),
    Probe("bribe_alone", "bribe", lambda text, at: at.chance.choice(BRIBES), "lowest", ALL),
    Probe(
        "bribed",
        "bribe",
        lambda text, at: f"{_vague(text)} {at.chance.choice(BRIBES)}",
        "not_higher",
        against="generic_sentence",
    ),
)

ORDERINGS = (
    Ordering("synonyms", "swapped_instrument", PARTS),
    Ordering("synonyms", "wrong_anatomy", PARTS),
    Ordering("synonyms", "reversed_action", ACTION),
    Ordering("hedged", "negated", ACTION),
    Ordering("half", "other_video"),
    Ordering("generic_words", "other_source"),
    Ordering("plain_words", "generic_sentence"),
)
"""What a judge that understands can tell: a true paraphrase from a false near-copy."""

PAGE_VAGUE = "The tool grasps tissue in the upper area"
PAGE_SPECIFIC = "The grasper dissects the cystic duct in the upper right quadrant"
"""The pair by which the method's project page shows why similarity is not enough."""
