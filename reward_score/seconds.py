# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which numbers of a free text are clip seconds.

Two rules. A number that is part of another one (``1,000``, ``2,5``, ``0:03``, ``1 200``, ``3 min 10``) is not read.
A number of something else is no second: ``3-7 minutes``, ``frames 3 to 7``, ``a stone of 3-7 mm``. A number with a
unit of seconds is one. A bare number is one only where no unknown noun stands right before or after it: the words that
may are listed here, and what is not listed is taken for a unit. In a list, ``3-7, 8-9 minutes``, the unit counts for
all of it.
"""

from __future__ import annotations

import re
from itertools import islice

NUMBER = r"[0-9]{1,7}(?:\.[0-9]{1,6})?"
"""ASCII digits with an optional decimal part."""
NOT_AFTER = r"(?<![\w./#$€£^–−-])(?<![0-9][:,'’])(?<![0-9][.,:'’/][.,:'’/])"
"""Before a number: nothing that it would be a part of."""
NOT_BEFORE = r"(?![\w/]|[.,:'’–−-][0-9]|[.,:'’/]{2}[0-9])"
"""After a number: nothing that would make it a part."""
UNIT = r"(?:\s{0,2}(?:seconds?|secs?|s)(?![\w/²]))"
TO = r"\s{0,3}(?:-|–|—|−|~|to|until)\s{0,3}"

_PAIR = re.compile(
    rf"(?:(between\s{{1,3}})|{NOT_AFTER})({NUMBER})({UNIT})?(?(1)\s{{1,3}}and\s{{1,3}}|{TO})({NUMBER})({UNIT})?{NOT_BEFORE}",
    re.IGNORECASE,
)
# A comma without a blank separates spans where it stands between two ranges, or between two decimals.
_LIST_COMMA = re.compile(
    rf"(?:(?<=\.[0-9])|(?<=\.[0-9][0-9])),(?=[0-9]{{1,7}}\.[0-9])|(?<=[0-9][-–])({NUMBER}),(?={NUMBER}[-–][0-9])"
)
# After a group that may repeat stands what it may not stop before: a possessive group would say it in a character, but
# Python before 3.11.5 reads those wrongly (gh-106052).
_MARK = "[,'’\u00a0\u2009\u202f]"
_GROUPED = re.compile(
    rf"(?<![\w.,])(?:[0-9]++(?:{_MARK}[0-9]++)+(?!{_MARK}[0-9])(?:\.[0-9]++|(?!\.[0-9]))"
    r"|[0-9]{1,3}+(?: [0-9]{3})+(?! [0-9]{3})(?![\w.]))"
)
_COMPOUND = re.compile(
    r"[0-9]\s{0,2}(?:h|hrs?|hours?|m|mins?|minutes?)[.,]?\s{0,3}(?:and\s{1,3})?$|[0-9][ \u00a0\u2009\u202f]$",
    re.IGNORECASE,
)
_COUNTED = frozenset(
    "frame image picture photo slide step phase stage page fig figure table box boxe bbox bboxe object event item"
    " option case patient minute min hour hr day score grade level size length age id index indice number no shot"
    " chapter part".split()
)
"""Nouns, without a plural's s, whose numbers are no seconds, whatever stands between: ``frames from 3``, ``box: 3``."""
_BETWEEN = frozenset("from between range interval no nos number numbers index indices id ids is are of".split())
_MARKS = " \t\n\u00a0:=#.,(['\""
_WORDS = re.compile(r"[^\W\d_]+|[,;\n]")
_WORD_AFTER = re.compile(r"(?:-|[ \t\u00a0]{1,3})?([(\[]?)\s?([^\W\d_]+|[%°‰′″])")
_LEADERS = frozenset(
    "from between at is are was were during about around approximately approx roughly and or to within over only then"
    " time times timestamp timestamps interval intervals range span spans segment segments window period moment moments"
    " second seconds sec secs s t answer answers occurs occur happens happen appears starts visible seen performed"
    " clip video action until by".split()
)
_FOLLOWERS = frozenset(
    "and or then the a an is are was were when where while as during with to but there only if because since it this"
    " that he she they we i surgeon nurse assistant approximately approx respectively from between at".split()
)
_FOREIGN_UNITS = re.compile(
    r"ms|milli\w*|micro\w*|min|mins|minutes?|h|hrs?|hours?|days?|weeks?|months?|years?|frames?|fps|steps?|mm|cm|m|km"
    r"|ml|l|mg|g|kg|px|pixels?|percent|degrees?|[%°‰′]",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"[\s,;&+|/\"'(){}\[\]*•-]{0,8}(?:(?:and|or|then|also|plus)\s{1,3})?(?:(?:from|between|at)\s{1,3})?"
    r"(?:[0-9]{1,3}[.)]\s{1,3})?[\"'(\[]{0,2}",
    re.IGNORECASE,
)
_CONTEXT = 32
"""Characters before a number that are looked at."""


def masked(text: str) -> str:
    """The text, as long as before, with a mark for every digit of a number that has groups or a decimal comma."""
    return _GROUPED.sub(lambda match: "#" * len(match[0]), text)


def is_part(text: str, start: int) -> bool:
    """Whether the number that begins at `start` is part of a longer quantity: ``3 min 10``, ``1 200``."""
    before = text[max(0, start - _CONTEXT // 2) : start]
    # Most numbers stand behind a bracket or another mark: no pattern has to look at those.
    last = before.rstrip()[-1:]
    return (last.isalnum() or last in (".", ",")) and _COMPOUND.search(before) is not None


def may_be_seconds(text: str, start: int) -> bool:
    """Whether a bare number that begins at `start` may be seconds, as far as the words before it tell."""
    before = text[max(0, start - _CONTEXT) : start]
    tail = before.rstrip(_MARKS)
    if not tail[-1:].isalpha():
        return True
    words = [word.lower() for word in _WORDS.findall(tail)[-3:]]
    for word in reversed(words):
        if word.removesuffix("s") in _COUNTED:
            return False
        if word not in _BETWEEN:
            break
    return words[-1] in _LEADERS or before[len(tail) :].strip(" \t\u00a0") != ""


def _other_unit(text: str, end: int) -> bool:
    """Whether the word after a bare number, which ends at `end`, may be a unit."""
    word = _WORD_AFTER.match(text, end)
    if word is None:
        return False
    if word[1]:
        return _FOREIGN_UNITS.fullmatch(word[2]) is not None
    return word[2].lower() not in _FOLLOWERS


def find_spans(text: str, most: int) -> list[tuple[float, float]]:
    """Every range of seconds in a free text, in its order; none where there are more than `most` ranges of anything."""
    text = masked(_LIST_COMMA.sub(lambda match: (match[1] or "") + ", ", text))
    found = list(islice(_PAIR.finditer(text), most + 1))
    if len(found) > most:
        return []
    linked = [False] + [
        after.start() - before.end() < _CONTEXT and _LINK.fullmatch(text, before.end(), after.start()) is not None
        for before, after in zip(found, found[1:], strict=False)
    ]
    # Units count backwards through a list, nouns before it forwards.
    unknown: list[bool] = [False] * len(found)
    for number in range(len(found) - 1, -1, -1):
        match = found[number]
        if match[5]:
            continue
        unknown[number] = _other_unit(text, match.end())
        if not unknown[number] and number + 1 < len(found) and linked[number + 1]:
            unknown[number] = unknown[number + 1]
    spans = []
    named = False
    for number, match in enumerate(found):
        start = match.start(2)
        lead = not match[1] and not may_be_seconds(text, start)
        named = lead or (named and linked[number])
        own = bool(match[5] or match[3])
        if not unknown[number] and (own or not named) and not is_part(text, start):
            spans.append((float(match[2]), float(match[4])))
    return spans
