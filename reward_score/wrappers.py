# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Take off what models put around an answer: drafts, tags, tokens, fences, marks of emphasis.

What stands around an answer deviates from the grammar and costs the format. It must never cost a part of the answer,
and a draft must never be read as the answer. Every parser reads `unwrapped`, or `visible` where the answer is free
text, after the grammar itself did not match. All patterns are linear in the text.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

_THINK = r"(?:think|thinking|thought|reasoning|reflection|analysis|scratchpad)"
_DRAFT_BEGINS = re.compile(rf"[<\[◁]{_THINK}[>\]▷]", re.IGNORECASE)
_DRAFT_ENDS = re.compile(rf"[<\[◁]/{_THINK}[>\]▷]", re.IGNORECASE)
_ANSWER = r"(?:answer|final_answer|final|response|output|result)"
_ANSWER_BEGINS = re.compile(rf"<{_ANSWER}(?:\s[^<>\n]{{0,80}})?>", re.IGNORECASE)
_ANSWER_ENDS = re.compile(rf"</{_ANSWER}>", re.IGNORECASE)
_TOKEN = re.compile(
    r"<\|[A-Za-z0-9_]{1,40}\|>|</?(?:s|tool_call|eos|bos|pad|unk|(?:start|end)_of_turn)>|\[/?INST\]", re.IGNORECASE
)
_ROLE_MARK = re.compile(
    r"(?!\A[a-z]+\Z)^[ \t]{0,4}(?:(?:assistant|user|system|human|gpt)[ \t]{0,2}(?::[ \t]{0,4}|$))+",
    re.IGNORECASE | re.MULTILINE,
)
"""A speaker's name before a colon or alone on its line. A text of one word is no mark: it may be an event's caption."""
_CONTROL_CHAR = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")
# What is not seen: soft hyphens, zero-width characters, marks of direction, variation selectors, tags, private use.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_FENCE_BEGINS = r"(?:```|~~~)(?:[A-Za-z0-9_+-]{0,20}[ \t]{0,4}\n)?"
_FENCED = re.compile(rf"{_FENCE_BEGINS}(.*?)(?:```|~~~)", re.DOTALL)
_FENCE = re.compile(_FENCE_BEGINS)
_PAIRS = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“", "*": "*", "_": "_", "(": ")", "[": "]"}
_BULLET = re.compile(r"(?:[-–—*•>·+]|#{1,6}|\(?[0-9]{1,2}[.)])\s{1,4}(?![^\n]{0,8000}[.\s][0-9]{1,2}[.)]\s)(?=[^\n]*$)")
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9_-]{0,20})(?:\s[^<>\n]{0,80})?/?>")
_BLOCKS = frozenset("br p div li ul ol tr table tbody h1 h2 h3 h4 h5 h6".split())
_INLINE = frozenset("b i em strong u span code sub sup font a mark small".split())
_BOXED = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\{([^{}]{0,8000})\}")
_ESCAPED = {"&lt;": "<", "&gt;": ">", "&nbsp;": " "}
_ESCAPE = re.compile("|".join(_ESCAPED))
_MOST_LAYERS = 8
"""Wrappers in wrappers that are taken off."""
_BULLETS = frozenset("-–—*•>·+#(0123456789")
_ODD = re.compile(r"[<&\\◁]|\[/?[A-Za-z]")
_EMPHASIS = re.compile(r"(?<!\w)[*`]{1,3}|[*`]{1,3}(?!\w)|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)")


def visible(text: str) -> str:
    """A text without drafts, control tokens, role marks, HTML and characters that are not seen or not printed.

    Of a text with an ``<answer>`` element, only the content of the last one is the answer. A bullet, a code fence, a
    pair of quotes, brackets or marks of emphasis, JSON with a single text in it and a second mark at the end are taken
    off where they hold the whole text.
    """
    text = _whole(text)
    if not text.isascii() or not text.isprintable() or _ODD.search(text):
        # Unseen characters first: without them what is left may be a control token.
        text = text if text.isascii() else _INVISIBLE.sub("", text)
        if "&" in text:
            text = _ESCAPE.sub(lambda match: _ESCAPED[match[0]], text)
        if "<" in text or "[" in text or "◁" in text:
            text = _TAG.sub(_html, _TOKEN.sub(" ", _answer(_without_drafts(text))))
        if "\\" in text:
            text = _BOXED.sub(r"\1", _BOXED.sub(r"\1", text))
        text = _CONTROL_CHAR.sub(" ", _ROLE_MARK.sub(" ", text)).strip()
    elif _ROLE_MARK.match(text):
        text = _ROLE_MARK.sub(" ", text).strip()
    else:
        return text
    return _whole(text)


def _without_drafts(text: str) -> str:
    """What stands behind the last draft that ends, up to one that does not end."""
    ends = [match.end() for match in _DRAFT_ENDS.finditer(text)]
    text = text[ends[-1] :] if ends else text
    begins = _DRAFT_BEGINS.search(text)
    return text[: begins.start()] if begins else text


def _answer(text: str) -> str:
    begins = [match.end() for match in _ANSWER_BEGINS.finditer(text)]
    if begins:
        text = text[begins[-1] :]
    ends = _ANSWER_ENDS.search(text)
    if ends is None:
        return text
    inside = text[: ends.start()]
    return inside if begins or inside.strip() else _ANSWER_ENDS.sub(" ", text)


def _whole(text: str) -> str:
    """A text without what holds the whole of it."""
    for _ in range(_MOST_LAYERS):
        if len(text) < 2:
            break
        first, last = text[0], text[-1]
        if first in _BULLETS and (bullet := _BULLET.match(text)):
            text = text[bullet.end() :]
        elif first in "`~" and (fenced := _FENCED.fullmatch(text)):
            text = fenced[1].strip()
        elif first in "{[" and last in "}]" and (inner := _only_text(text)) != text:
            text = inner.strip()
        elif (
            (end := _PAIRS.get(first)) == last
            and first not in (body := text[1:-1]).strip(first)
            and end not in body.strip(end)
        ):
            text = body.strip()
        elif last in ".!?;,。…" and text[-2] in ".!?" and not text.endswith("..."):
            text = text[:-1]
        else:
            break
    return text


def _only_text(text: str) -> str:
    """The text in JSON that holds one text, or a list of texts, one a line; anything else as it is."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    while isinstance(value, dict | list) and len(value) == 1:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = "\n".join(value)
    return value if isinstance(value, str) else text


def _html(match: re.Match[str]) -> str:
    """What a tag of HTML is in plain text; any other tag stays."""
    name = match[1].lower()
    return "\n" if name in _BLOCKS else "" if name in _INLINE else " | " if name in ("td", "th") else match[0]


def unwrapped(text: str) -> str:
    """A text of numbers and names as `visible`, and without tags, fences, marks of emphasis and escapes inside it."""
    text = visible(text)
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "`" in text or "~~~" in text:
        text = _FENCE.sub("\n", text)
    if "*" in text or "`" in text or "_" in text:
        text = _EMPHASIS.sub("", text)
    return text.strip()
