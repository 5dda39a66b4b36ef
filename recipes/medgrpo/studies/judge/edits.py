# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Word tables and small edits of surgical and nursing sentences, by which probes are built.

An edit returns the text with every word of its table replaced, or None where it has none. Tables are short and plain
on purpose: what they do to a sentence can be foreseen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

INSTRUMENTS = (
    ("grasper",),
    ("hook",),
    ("clipper", "clip applier"),
    ("scissors",),
    ("scalpel", "knife"),
    ("forceps", "tweezers"),
    ("needle driver", "needle holder"),
    ("bipolar",),
    ("suction tube", "irrigator", "aspirator"),
    ("stapler",),
    ("retractor",),
    ("trocar",),
    ("specimen bag",),
    ("syringe",),
    ("towel",),
    ("comb",),
)
"""Instruments; what stands in one line may mean the same thing, so one is never swapped for another of its line."""

STRUCTURES = (
    ("gallbladder",),
    ("cystic duct and artery", "cystic duct", "cystic artery", "cystic plate", "cystic pedicle"),
    ("liver bed", "hepatic bed", "liver"),
    ("small bowel", "bowel", "intestine", "colon"),
    ("stomach",),
    ("omentum", "peritoneum"),
    ("abdominal wall", "abdomen"),
    ("skin",),
    ("flap", "lesion", "mucosa", "submucosa"),
    ("wound", "tissue"),
    ("muscle", "fascia"),
    ("blood vessel", "vessel", "artery", "vein"),
    ("hair",),
    ("nose",),
    ("eye",),
)
ELSEWHERE = ("thyroid", "spleen", "ureter", "pancreas", "kidney", "uterus", "tongue", "knee joint", "heart valve")
"""What a structure of the list is swapped for: parts of the body that none of its lines names."""

SIDES = {
    "left": "right",
    "upper": "lower",
    "above": "below",
    "anterior": "posterior",
    "medial": "lateral",
    "proximal": "distal",
    "superior": "inferior",
    "under": "over",
    "before": "after",
    "inside": "outside",
}
"""Each word and its opposite, to be read both ways."""

REVERSED = {
    "insert": "remove",
    "open": "close",
    "lift": "lower",
    "pull": "push",
    "grasp": "release",
    "grip": "release",
    "hold": "drop",
    "clip": "unclip",
    "cut": "join",
    "separate": "join",
    "dissect": "suture",
    "suture": "separate",
    "tie": "untie",
    "retract": "release",
    "place": "remove",
    "apply": "remove",
    "inject": "withdraw",
    "clean": "soil",
    "wash": "soil",
    "wet": "dry",
    "moisten": "dry",
    "dry": "wet",
    "wrap": "unwrap",
    "draw": "erase",
    "write": "erase",
    "inflate": "deflate",
    "advance": "withdraw",
    "coagulate": "tear",
    "expose": "cover",
    "cover": "expose",
    "tighten": "loosen",
    "loosen": "tighten",
    "remove": "insert",
    "close": "open",
    "push": "pull",
    "release": "grasp",
    "withdraw": "insert",
}
"""What undoes an action, or is as good as its opposite."""

OTHER_VERBS = ("use", "move", "prepare", "comb", "rub", "perform", "irrigate", "aspirate", "stabilize", "position")
"""Further actions, which can be negated but have no opposite."""

SYNONYMS = {
    "grasper": "grasping forceps",
    "clipper": "clip applier",
    "hook": "hook electrode",
    "scalpel": "surgical knife",
    "gallbladder bed": "gallbladder fossa",
    "liver bed": "hepatic bed",
    "upper right quadrant": "right upper quadrant",
    "incision line": "line of incision",
    "before surgery": "preoperatively",
    "bleeding": "hemorrhage",
    "removes": "extracts",
    "lifts": "elevates",
    "grasps": "grips",
    "separates": "detaches",
    "divides": "transects",
    "cuts": "transects",
    "places": "positions",
    "moves": "repositions",
    "injects": "infiltrates",
    "cleans": "cleanses",
    "closes": "sutures shut",
    "opens": "incises",
    "ties": "fastens",
    "washes": "rinses",
    "dries": "makes dry",
    "wets": "moistens",
    "combs": "runs a comb through",
    "writes": "records",
    "draws": "marks",
    "retracts": "pulls back",
    "prepares": "makes ready",
    "uses": "employs",
}
"""Words and what a clinician takes for the same."""

PLAIN = {
    "gallbladder": "bile pouch",
    "cystic duct": "little bile tube",
    "cystic artery": "little bile blood vessel",
    "artery": "blood vessel",
    "grasper": "grabbing tool",
    "forceps": "pincers",
    "tweezers": "pincers",
    "scalpel": "small blade",
    "clipper": "clip tool",
    "hook": "bent wire",
    "needle driver": "sewing tool",
    "needle holder": "sewing tool",
    "needle": "pin",
    "anesthetic": "numbing shot",
    "incision": "cut",
    "lesion": "sore spot",
    "tissue": "flesh",
    "wound": "gash",
    "dissects": "cuts loose",
    "surgeon": "doctor",
    "nurse": "helper",
    "iodine": "brown cleaner",
    "handwashing": "washing up",
}
"""Terms and the everyday words for them."""

GENERIC_TOOL, GENERIC_PLACE, GENERIC_ACTION = "tool", "area", "work on"
NEGATED = {word: f"{word} not" for word in ("is", "are", "was", "were")}
NEGATION = re.compile(r"\b(?:no|not|never|without|cannot)\b|n't\b", re.IGNORECASE)

_BEFORE_NOUNS = frozenset(
    "a an the two three four several some many more these those of with by in on metal titanium surgical sharp".split()
)
"""A word behind one of these is no verb, though it may look like one: two clips."""
_DOUBLED = frozenset("cut grip clip unclip wet drop rub put wrap unwrap".split())
_UNCHANGED = frozenset(["cut", "put"])
_PAST = {"withdraw": "withdrew", "draw": "drew", "write": "wrote", "hold": "held", "tear": "tore"}
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


def replace(text: str, table: Mapping[str, str]) -> str | None:
    """Whole words and phrases of a table replaced, longest first, none twice; None where there is none.

    A capital stays one, a plural in -s stays one where the new word can have it, and a or an before it follows.
    """
    if not table:
        return None
    words = "|".join(re.escape(word) for word in sorted(table, key=len, reverse=True))
    changed, count = re.subn(
        rf"\b(?:(an?)(\s+))?({words})(s?)\b", lambda match: _put(match, table), text, flags=re.IGNORECASE
    )
    return changed if count else None


def _put(match: re.Match[str], table: Mapping[str, str]) -> str:
    article, blank, word, plural = match.groups()
    new = table[word.casefold()]
    if plural and not new.endswith("s"):
        new += plural
    if word[0].isupper():
        new = capital(new)
    if not article:
        return new
    article = article[0] + ("n" if new[0].lower() in _VOWELS else "")
    return article + blank + new


def replace_verbs(text: str, table: Mapping[str, str]) -> str | None:
    """As `replace`, for verb forms: words that stand where a noun does are left alone."""

    def put(match: re.Match[str]) -> str:
        before = re.findall(r"\w+", match.string[max(0, match.start() - 20) : match.start()])
        if before and before[-1].casefold() in _BEFORE_NOUNS:
            return match[0]
        new = table[match[0].casefold()]
        return capital(new) if match[0][0].isupper() else new

    words = "|".join(re.escape(word) for word in sorted(table, key=len, reverse=True))
    changed = re.sub(rf"\b(?:{words})\b", put, text, flags=re.IGNORECASE)
    return None if changed == text else changed


def verb_table(verbs: Mapping[str, str]) -> dict[str, str]:
    """A table of verbs in -s, -ed and -ing. Plain forms are left out: most of them are nouns as well."""
    return {
        one: other for verb, new in verbs.items() for one, other in zip(forms(verb)[1:], forms(new)[1:], strict=True)
    }


def both_ways(table: Mapping[str, str]) -> dict[str, str]:
    """A table of opposites, read from either side."""
    return {**table, **{other: one for one, other in table.items()}}


def swap_groups(
    text: str, groups: Sequence[Sequence[str]], others: Callable[[int], Sequence[str]], rng: random.Random
) -> str | None:
    """Every group that the text names, swapped for a word of `others(group number)` that the text does not have.

    All words of a group become the same one, different groups different ones.
    """
    taken: set[str] = set()
    table: dict[str, str] = {}
    for number, group in enumerate(groups):
        if not any(_has(text, word) for word in group):
            continue
        free = [word for word in others(number) if word not in taken and not _has(text, word)]
        if not free:
            return None
        taken.add(new := rng.choice(free))
        table |= dict.fromkeys(group, new)
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
