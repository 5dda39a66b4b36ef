# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Answer text to structure, and back: the grammar of each task, once.

Every parser takes the answer's text and returns a `Parsed`: the value, and how well the *whole* answer follows the
task's grammar. 1 is the grammar itself and nothing else; 0.5 is an answer that can be read although it deviates
(another dash, a missing unit, text around it, a component missing or out of range); 0 is an answer that cannot be
read, and its value is empty. Parsers never raise.

Numbers are ASCII digits with an optional decimal part. Full-width digits, ``nan``, ``inf`` and exponents are not
numbers, nor is a part of a longer number, and another unit is no second (`seconds`). What stands around an answer is
taken off first (`wrappers`). Every pattern is bounded, so that parsing is linear in the text, and an answer longer
than `MAX_CHARS` or with more than `MAX_ITEMS` spans, boxes or events is no answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from .boxes import Box
from .seconds import NOT_AFTER, NUMBER, TO, UNIT, find_spans, is_part, masked, may_be_seconds
from .wrappers import unwrapped, visible

T = TypeVar("T")
Span = tuple[float, float]

MAX_CHARS = 65_536
"""A longer answer is no answer. The longest reference answers have about 1,200 words, some 8,000 characters."""
MAX_ITEMS = 200
"""More spans, boxes or events than this are no answer. Reference answers have a handful."""
MAX_CAPTION_CHARS = 8_000
"""A longer summary or region caption is a deviation (format 0.5)."""
MAX_LABEL_CHARS = 100
"""A longer next-action label is no label. The longest known label has fewer than 60 characters."""

CVS_COMPONENTS = ("two_structures", "cystic_plate", "hepatocystic_triangle")
"""Components of the critical view of safety, each scored 0, 1 or 2."""
CVS_NAMES = {
    "two_structures": "Two structures",
    "cystic_plate": "Cystic plate",
    "hepatocystic_triangle": "Hepatocystic triangle",
}
"""The components as answers spell them."""
CVS_RANGE = (0, 2)
ASPECTS = (
    "Respect for tissue",
    "Suture/needle handling",
    "Time and motion",
    "Flow of operation",
    "Overall performance",
    "Quality of final product",
)
"""Skill aspects, each scored 1 to 5."""
SA_RANGE = (1, 5)


@dataclass(frozen=True)
class Event:
    """One described event: clip seconds and a caption."""

    start: float
    end: float
    caption: str


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """What an answer says, and its format: 1 whole grammar, 0.5 recoverable deviation, 0 no parse (empty value)."""

    value: T
    format: float


_COORD = rf"(-?{NUMBER})"
_COMMA = r"(?:\s{0,3}[,;]\s{0,3}|\s{1,3})"

_TAL = re.compile(rf"{NUMBER}-{NUMBER}(?:, {NUMBER}-{NUMBER})* seconds\.")
_TAL_ITEM = re.compile(rf"({NUMBER})-({NUMBER})")

_STG_BOX = rf"{NUMBER} seconds: \[-?{NUMBER}, -?{NUMBER}, -?{NUMBER}, -?{NUMBER}\]"
_STG = re.compile(rf"{_STG_BOX}(?: {_STG_BOX})*")
_STG_ITEM = re.compile(rf"({NUMBER}) seconds: \[{_COORD}, {_COORD}, {_COORD}, {_COORD}\]")
_STG_LOOSE = re.compile(
    rf"{NOT_AFTER}({NUMBER})[\"']?({UNIT})?[\"']?\s{{0,3}}[:,=]?\s{{0,3}}[\[(]{{1,2}}\s{{0,3}}"
    rf"{_COORD}{_COMMA}{_COORD}{_COMMA}{_COORD}{_COMMA}{_COORD}\s{{0,3}}[\])]",
    re.IGNORECASE,
)

_DVC_LINE = re.compile(rf"({NUMBER})-({NUMBER}) seconds: (\S[^\n]*)")
_DVC_HEAD = re.compile(
    rf"{NOT_AFTER}({NUMBER}){UNIT}?{TO}({NUMBER}){UNIT}[\])]?(?:\s{{0,2}}:|\s{{1,2}}[-–—](?=\s))",
    re.IGNORECASE,
)
_DVC_HEAD_NO_UNIT = re.compile(
    rf"^[ \t•\[(>-]{{0,6}}(?:[0-9]{{1,3}}[.)][ \t]{{1,2}})?({NUMBER}){TO}({NUMBER})"
    r"[\])]?(?:\s{0,2}:|\s{1,2}[-–—](?=\s))",
    re.MULTILINE,
)
_LIST_NUMBER = re.compile(
    r"(?:^|\n)\s{0,4}(?:\(?[0-9]{1,3}[.)]|(?:event|segment|step)\s{1,2}[0-9]{1,3}\s?[:.)-]?|from|between)\s{0,4}$",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"[0-9]")
_WORD = re.compile(r"[^\W_]")

_LABEL = re.compile(r"[^\W_](?:(?:[\w \-/&(),+|]|(?<=\w)'(?=\w))*[\w)+])?")
_LABEL_PREFIX = re.compile(
    r"(?:(?:the\s)?(?:most\slikely\s|predicted\s)?next\s(?:surgical\s|nursing\s)?(?:action|step|phase)"
    r"(?:\s(?:is|will\sbe|would\sbe)|:)|next:|it\s(?:is|will\sbe)\s"
    r"|(?:(?:the|my)\s)?(?:final\s|correct\s|predicted\s)?(?:answer|action|prediction|label)(?:\sis|:|\s?\n|\s[-–]\s))"
    r"\s{0,3}:?\s{0,3}",
    re.IGNORECASE,
)
_LABEL_EDGES = " \t\r\n\"'`*.,;:!?…。！“”‘’[]{}<>"
_BULLET = re.compile(r"(?:[-=]?>|[-–—*•·+→⇒]|#{1,6}|[(\[]?(?:[0-9]{1,2}|[A-Ha-h])[.)\]])\s{1,4}")
_PLAIN = str.maketrans("–—−‐‑\u00a0", "----- ")

_CVS = re.compile(r"Two structures: ([0-2]), Cystic plate: ([0-2]), Hepatocystic triangle: ([0-2])")
_SA = re.compile(", ".join(re.escape(aspect) + r": ([1-5])/5" for aspect in ASPECTS))
# A whole number, out of the highest score or alone: no part of 1.5, 12/50, 1-2, 2 mm or a foreign numeral.
_SCORE = (
    r"(?<![-+−.,/<>≤≥~≈±$0-9])(0|[1-9][0-9]{0,2})(?:\s{0,2}(?:/|(?:out\s)?of\s)\s{0,2}([0-9]{1,3}))?"
    r"(?![\w%°]|[.,:][0-9]|\s{0,2}(?:[-–—−~/+×*^]|(?:to|or|of)\s)\s{0,2}[0-9]|\s(?:%|percent|[cm]m\b|s\b|sec|min))"
)
_SCORE_MARK = r"[^\w\n,;]{0,6}[:=|→][^\w\n,;.+−-]{0,6}"
_SCORE_GAP = r"[^\w\n,;.]{1,8}"


def _name_words(name: str) -> list[str]:
    """The words of a component's name without plurals and ``and``, by which its spellings differ."""
    return [word.removesuffix("s") for word in re.findall("[a-z]+", name.lower()) if word != "and"]


def _score_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """A name, and its score: a mark such as a colon says that a score is meant, be it readable or not."""
    spelled = "|".join(r"[ \t\u00a0_/&-]{1,3}(?:and[ \u00a0_])?".join(_name_words(name)) + "s?" for name in names)
    note = r"(?:\s?\([^()\n]{0,40}\))?(?:[ _]{1,3}(?:score|rating|is|scored|rated|at)(?![^\W_])){0,3}"
    return re.compile(rf"(?<![A-Za-z])({spelled}){note}(?:{_SCORE_MARK}(?:{_SCORE})?|{_SCORE_GAP}{_SCORE})", re.I)


_CVS_LOOSE = _score_pattern(CVS_NAMES.values())
_SA_LOOSE = _score_pattern(ASPECTS)

_LETTERS = re.compile(r"[A-Za-z]{2}")


def _stripped(text: Any) -> str:
    """The answer without white space around it; empty, which no grammar reads, where it is no text or too long."""
    return text.strip() if isinstance(text, str) and len(text) <= MAX_CHARS else ""


def parse_tal(text: Any) -> Parsed[list[Span]]:
    """Temporal grounding: ``22.0-78.0, 89.0-94.0 seconds.`` as spans in clip seconds, in the order of the text.

    Read with format 0.5: other dashes, ``to``, ``between a and b``, units at each number or none, text around.
    An inverted span is kept as it is: it is a span that was predicted, and overlaps nothing.
    """
    text = _stripped(text)
    if _TAL.fullmatch(text):
        spans, form = [(float(start), float(end)) for start, end in _TAL_ITEM.findall(text)], 1.0
    else:
        spans, form = find_spans(unwrapped(text), MAX_ITEMS), 0.5
    return Parsed(spans, form) if 0 < len(spans) <= MAX_ITEMS else Parsed([], 0.0)


def parse_stg(text: Any) -> Parsed[dict[float, Box]]:
    """Spatio-temporal grounding: ``66.0 seconds: [x1, y1, x2, y2] 74.0 seconds: [...]``, boxes in the text's space.

    Read with format 0.5: other units, separators and brackets, text around, boxes without a readable time or with
    too few numbers (left out). A time given twice with different boxes keeps an empty box, which overlaps nothing.
    """
    text = _stripped(text)
    if _STG.fullmatch(text):
        found, form = _STG_ITEM.findall(text), 1.0
    else:
        text, form = unwrapped(text), 0.5
        matches = list(islice(_STG_LOOSE.finditer(text), MAX_ITEMS + 1))
        found = [
            match.group(1, 3, 4, 5, 6)
            for match in matches
            if not is_part(text, match.start()) and (match[2] or may_be_seconds(text, match.start()))
        ]
        if len(matches) > MAX_ITEMS:
            found = []
    if not found or len(found) > MAX_ITEMS:
        return Parsed({}, 0.0)
    boxes: dict[float, Box] = {}
    for item in found:
        time, x1, y1, x2, y2 = map(float, item)
        box = (x1, y1, x2, y2)
        if time in boxes:
            form = 0.5
            if boxes[time] != box:
                box = (0.0, 0.0, 0.0, 0.0)
        boxes[time] = box
    return Parsed(boxes, form)


def parse_dvc(text: Any) -> Parsed[list[Event]]:
    """Dense captioning: one event a line, ``0.0-88.0 seconds: caption``, in the order of the text.

    Read with format 0.5: bullets and numbering, other dashes and units, several events on a line (an event inside a
    caption is an event, not a caption), captions over several lines, text before the first event, and what
    `wrappers.unwrapped` takes off. An event whose caption has no letter or digit stays, with an empty caption: it
    was predicted, and counts as an event that is not there. With no other event there is no answer.
    """
    text = _stripped(text)
    events = _strict_events(text)
    if events is not None:
        return Parsed(events, 1.0) if len(events) <= MAX_ITEMS else Parsed([], 0.0)
    clean = unwrapped(text)
    heads = _event_heads(clean)
    if not heads or len(heads) > MAX_ITEMS:
        return Parsed([], 0.0)
    events = []
    ends = [head.start() for head in heads[1:]] + [len(clean)]
    for head, end in zip(heads, ends, strict=True):
        caption = clean[head.end() : end]
        numbering = _LIST_NUMBER.search(caption, max(0, len(caption) - 24))
        if numbering:
            caption = caption[: numbering.start()]
        caption = visible(" ".join(caption.split()).strip(" *•-–([>|#"))
        events.append(Event(float(head[1]), float(head[2]), caption if _WORD.search(caption) else ""))
    return Parsed(events, 0.5) if any(event.caption for event in events) else Parsed([], 0.0)


def _event_heads(text: str) -> list[re.Match[str]]:
    """Where events begin in a free text, at most one more than are read; those with a unit if there are any."""
    numbers = masked(text)
    for pattern in (_DVC_HEAD, _DVC_HEAD_NO_UNIT):
        heads = list(islice(pattern.finditer(numbers), MAX_ITEMS + 1))
        if heads := [head for head in heads if not is_part(numbers, head.start(1))]:
            return heads
    return []


def _strict_events(text: str) -> list[Event] | None:
    """The events of an answer that is nothing but the grammar, else ``None``."""
    events = []
    for line in text.split("\n"):
        match = _DVC_LINE.fullmatch(line)
        if match is None:
            return None
        caption = match[3].rstrip()
        if (
            _WORD.search(caption) is None
            or visible(caption) != caption
            or (_DIGIT.search(caption) and _DVC_HEAD.search(caption))
        ):
            return None
        events.append(Event(float(match[1]), float(match[2]), caption))
    return events


def parse_nap(text: Any) -> Parsed[str]:
    """Next action: the label alone, on one line. Whether it is a known label is not the grammar's business.

    Read with format 0.5: quotes, brackets, bullets, a final dot, ``The next action is ...`` and its like; they are
    taken off the value.
    """
    text = _stripped(text)
    if _is_label(text) and not _LABEL_PREFIX.match(text) and not _BULLET.match(text):
        return Parsed(unicodedata.normalize("NFC", text), 1.0)
    label = unwrapped(text).translate(_PLAIN)
    for _ in range(3):
        if len(label) > 4 * MAX_LABEL_CHARS:
            break
        for part in (_BULLET, _LABEL_PREFIX):
            if match := part.match(label):
                label = label[match.end() :]
        label = label.strip(_LABEL_EDGES)
        if label.startswith("(") and label.endswith(")"):
            label = label[1:-1]
    return Parsed(unicodedata.normalize("NFC", label), 0.5) if _is_label(label) else Parsed("", 0.0)


def _is_label(text: str) -> bool:
    """Whether a text may be a label: short, one line, a letter in it, no full-width or other variants of letters."""
    if len(text) > MAX_LABEL_CHARS or not _LABEL.fullmatch(text):
        return False
    return any(map(str.isalpha, text)) and (
        text.isascii() or unicodedata.is_normalized("NFKC", unicodedata.normalize("NFC", text))
    )


def _parse_scores(
    text: Any,
    grammar: re.Pattern[str],
    loose: re.Pattern[str],
    keys: Mapping[str, str],
    limits: tuple[int, int],
) -> Parsed[dict[str, int]]:
    """Scores by name: `grammar` has a group for each of `keys`, `loose` finds a name, its score and the highest one.

    A score that is unreadable, out of range or ambiguous is left out.
    """
    text = _stripped(text)
    if match := grammar.fullmatch(text):
        return Parsed(dict(zip(keys.values(), map(int, match.groups()), strict=True)), 1.0)
    low, high = limits
    scores: dict[str, int] = {}
    dropped: set[str] = set()
    for name, *found in loose.findall(unwrapped(text)):
        number, most = found[:2] if found[0] else found[2:]
        key = keys[" ".join(_name_words(name))]
        score = int(number) if number and most in ("", str(high)) else -1
        if not low <= score <= high or scores.get(key, score) != score:
            dropped.add(key)
        scores[key] = score
    kept = {key: score for key, score in scores.items() if key not in dropped}
    return Parsed(kept, 0.5 if kept else 0.0)


_CVS_KEYS = {" ".join(_name_words(name)): key for key, name in CVS_NAMES.items()}
_SA_KEYS = {" ".join(_name_words(aspect)): aspect for aspect in ASPECTS}


def parse_cvs(text: Any) -> Parsed[dict[str, int]]:
    """Critical view of safety: ``Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0``, each 0 to 2.

    Keys are `CVS_COMPONENTS`. Read with format 0.5: ``=``, other separators, other order, ``/2``, text around,
    missing components. A score out of range, not whole, or given twice with different values is a missing component.
    """
    return _parse_scores(text, _CVS, _CVS_LOOSE, _CVS_KEYS, CVS_RANGE)


def parse_sa(text: Any) -> Parsed[dict[str, int]]:
    """Skill assessment: ``Respect for tissue: 2/5, Suture/needle handling: 1/5, ...``, each 1 to 5.

    Keys are `ASPECTS`. Deviations as in `parse_cvs`; ``/5`` may be missing at format 0.5.
    """
    return _parse_scores(text, _SA, _SA_LOOSE, _SA_KEYS, SA_RANGE)


_MARKS = {"cvs": (_CVS, CVS_COMPONENTS), "sa": (_SA, ASPECTS)}


def mark_places(task: str, text: str) -> dict[str, int]:
    """Where the mark of each component of `sa` or `cvs` stands in an answer, in characters from its beginning.

    A mark is one digit. Empty for an answer that is not the task's grammar and nothing else.
    """
    grammar, names = _MARKS[task]
    match = grammar.fullmatch(_stripped(text))
    ahead = len(text) - len(text.lstrip())
    return {name: ahead + match.start(number) for number, name in enumerate(names, 1)} if match else {}


def parse_caption(text: Any) -> Parsed[str]:
    """Summaries and region captions: plain text.

    Read with format 0.5: what `wrappers.visible` takes off, more than `MAX_CAPTION_CHARS` characters (the value is
    cut there). Text without two letters in a row is no caption.
    """
    plain = _stripped(text)
    clean = visible(plain)
    if _LETTERS.search(clean) is None:
        return Parsed("", 0.0)
    if clean == plain and len(clean) <= MAX_CAPTION_CHARS:
        return Parsed(clean, 1.0)
    return Parsed(clean[:MAX_CAPTION_CHARS], 0.5)


PARSERS: dict[str, Callable[[Any], Parsed]] = {
    "tal": parse_tal,
    "stg": parse_stg,
    "dvc": parse_dvc,
    "nap": parse_nap,
    "vs": parse_caption,
    "rc": parse_caption,
    "qa": parse_caption,
    "sa": parse_sa,
    "cvs": parse_cvs,
}
"""The parser of each task."""


def _number(value: float, decimals: int) -> str:
    """Fixed decimals, and no minus sign before a zero."""
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def _time(value: float) -> str:
    """Seconds with one decimal, two where one would move the time."""
    return _number(value, 1 if abs(round(value, 1) - value) < 1e-6 else 2)


def _bounds(start: float, end: float, decimals: int) -> str:
    """``start-end``; with more decimals where the given ones would leave a span without its length."""
    while start < end and decimals < 6 and _number(start, decimals) == _number(end, decimals):
        decimals += 1
    return f"{_number(start, decimals)}-{_number(end, decimals)}"


def render_tal(spans: Iterable[Span], decimals: int = 1) -> str:
    """Spans in clip seconds as the grammar writes them."""
    return ", ".join(_bounds(start, end, decimals) for start, end in spans) + " seconds."


def render_stg(boxes: Mapping[float, Box], decimals: int = 2, time_decimals: int | None = None) -> str:
    """Boxes by time (clip seconds) as the grammar writes them, in order of time; coordinates with ``decimals``.

    Times have ``time_decimals``, by default one, or two where one would move the time.
    """
    return " ".join(
        f"{_time(time) if time_decimals is None else _number(time, time_decimals)} seconds: "
        f"[{', '.join(_number(value, decimals) for value in boxes[time])}]"
        for time in sorted(boxes)
    )


def render_dvc(events: Iterable[Event], decimals: int = 1) -> str:
    """Events as the grammar writes them, one a line; white space inside a caption becomes single blanks."""
    return "\n".join(
        f"{_bounds(event.start, event.end, decimals)} seconds: {' '.join(event.caption.split())}" for event in events
    )


def render_cvs(scores: Mapping[str, int]) -> str:
    """Scores by `CVS_COMPONENTS` as the grammar writes them; a missing component raises KeyError."""
    return ", ".join(f"{CVS_NAMES[key]}: {scores[key]}" for key in CVS_COMPONENTS)


def render_sa(scores: Mapping[str, int]) -> str:
    """Scores by `ASPECTS` as the grammar writes them; a missing aspect raises KeyError."""
    return ", ".join(f"{aspect}: {scores[aspect]}/5" for aspect in ASPECTS)
