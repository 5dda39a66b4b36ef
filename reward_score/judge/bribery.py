# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A cheap look at an answer: does it talk to the judge instead of describing?

`find_attack` is one layer of several, and the one that may be wrong: the fence, the nonce and the verdict's parser hold
whatever it misses. So it is made for precision: a description of a procedure must not be taken for an attack, while an
attack in words that nobody thought of may pass. What it knows are tables of words and patterns.

Nearly all honest texts end at a few fast tests, 1 kB in less than 50 microseconds; patterns run only where one fired.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from .judgement import DIMENSIONS
from .prompting import PROMPT_FOLDER, load_prompt

MAX_HONEST_CHARS = 20_000
"""More than this is no description of a clip."""
SHINGLE = 7
"""So many words of our own prompts in a row are no chance."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- what is said: words of one sentence ------------------------------------------------------------------------------

_IGNORE = _words("ignore disregard forget override")
_ORDERS = _words("instruction instructions prompt prompts rule rules rubric guideline guidelines directives criteria")
_EARLIER = _words("all any every previous prior preceding above earlier former foregoing your these everything")
_GIVE = _words("give award assign grant reply respond print set choose receive receives must should please")
_TOP = _words("5 5s five fives full maximum max highest perfect top 10 ten 100")
_MARKS = _words("score scores rating ratings rubric verdict fives 5s")
_CLINICAL = _words(
    "patient patients nurse nurses pain apgar glasgow gcs coma braden sedation risk morse norton vas nrs calcium syntax"
    " asa oxygen bleeding wound mesh suture incision skin vessel balloon scale surgeon trainee"
)
"""Who or what a mark of a description is of. A sentence with one of these asks no judge for a mark."""
_MARK_IT = _words("dimension dimensions criterion criteria categories everywhere verdict rubric")
_EUROPEAN_IGNORE = _words(
    "ignora ignorad ignorar olvida ignorez ignorer oubliez ignoriere ignorieren vergiss dimentica negeer zignoruj"
    " ignore"
)
_EUROPEAN_ORDERS = _words(
    "instrucciones instrucción reglas indicaciones consignes règles anweisungen anweisung regeln istruzioni regole"
    " instruções instrucoes regras instructies polecenia instrukcje"
)
_EUROPEAN_GIVE = _words(
    "gib gebe vergib bewerte asigna otorga dame donne donnez attribue attribuez assegna atribua geef przyznaj calificar"
)
_EUROPEAN_TOP = _words(
    "5 fünf maximale höchste höchstpunktzahl cinco máxima maxima máximo cinq maximum cinque massimo massima vijf pięć"
)

_RULES = (
    ("tells the judge to ignore its instructions", 8, (_IGNORE, _ORDERS, _EARLIER)),
    ("tells the judge to ignore its instructions", 5, (_EUROPEAN_IGNORE, _EUROPEAN_ORDERS)),
    ("tells the judge to ignore its instructions", 0, (_words("talimatları"), _words("say görmezden unut"))),
    ("asks the judge for a mark", 0, (_MARKS, _GIVE, _TOP)),
    ("asks the judge for a mark", 0, (_MARK_IT, _TOP, _words("all every each everywhere"), _GIVE)),
    ("asks the judge for a mark", 0, (_EUROPEAN_GIVE, _EUROPEAN_TOP)),
    ("asks the judge for a mark", 0, (_words("puntuación nota pontuação punteggio puan"), _EUROPEAN_TOP | {"beş"})),
    ("says what it deserves", 0, (_words("deserves deserve merits"), _TOP - {"full"})),
    ("speaks of candidate and reference", 0, (_words("candidate"), _words("reference"))),
    ("asks for the judge's form of reply", 0, (_words("json nonce"),)),
    ("asks to decode and obey", 0, (_words("decode base64 rot13"), _words("obey follow execute"))),
)
"""An attack is a sentence with a word of every list; with a number, within so many words of the first list's."""
_OF_PATIENTS = ("asks the judge for a mark", "tells the judge to ignore its instructions")
_TRIGGERS = frozenset().union(*(lists[0] for _, _, lists in _RULES))
"""A text without one of these breaks no rule."""

_JUDGE = r"(?:judge|grader|evaluator|rater|assessor|llm|ai|(?:large\s)?language\smodel)"
_JUDGED = r"(?:answer|response|description|candidate|caption)"
_MARKED = (
    r"(?:terminology|specificity|nonce|(?:(?:final|total|overall|my)\s)?(?:scores?|ratings?|marks?|verdict))"
    r"[^\w\n]{0,4}(?:[:=|>–—-]|\bis\b)[^\w\n]{0,4}(?:\d|five\b|perfect)"
)
_PHRASES = tuple(
    (reason, re.compile("|".join(patterns)))
    for reason, *patterns in (
        (
            "speaks to the judge",
            r"\b(?:full|top|maximum|max|highest|perfect)\s(?:possible\s)?(?:scores?|marks|ratings?)\b",
            rf"\b(?:as|dear|hey|hello|(?:note|message|instructions?)\s(?:to|for))[\s,:]{{1,2}}(?:the\s|an?\s)?{_JUDGE}\b(?!-)",
            rf"\byou\s(?:are|act\sas)\s(?:now\s)?(?:the\s|an?\s)?(?:\w{{1,20}}\s)?{_JUDGE}\b",
            rf"\b(?:score|rate|grade)\s(?:(?:this|my)\s{_JUDGED}\b|(?:this|it|me)\s(?:as\s|with\s|at\s)?(?:an?\s)?(?:5|five|10|perfect)\b)",
            r"[.!?\n]\s?(?:new|updated|hidden)\sinstructions?\s?:|\bsystem\sprompt\b|\bdeveloper\smode\b",
            r"\n\s?system\s(?:override|message|note|notice|instructions?)\s?:",
            r"\bnot\sfollow\s(?:\w{1,20}\s){0,3}(?:previous\sinstructions|rubric|rules\sabove)\b",
            r"\bterminology(?:\sis)?\sfive\b",
            r"\b(?:(?:identical|equivalent|equal)\sto|match(?:es)?)\sthe\s(?:(?:expert|gold|ground)\s)?(?:reference|truth)\b"
            r"(?!\s(?:vessel|line|point|image|frame|plane|organ|electrode|limb|side))",
        ),
        (
            "holds a marked line",
            r"(?:candidate|reference|question)\s(?:begin|end|start|stop)s?\s?[\]>)}*=#-]",
            r"(?:end|begin)\sof\s(?:the\s)?(?:candidate|reference)\s?[\]\n>*=-]",
        ),
        (
            "holds a mark",
            rf"[.!?|\n][^\w\n.!?|]{{0,8}}{_MARKED}",
            r"(?:terminology|specificity)[^\w\n]{0,3}[:=][^\w\n]{0,3}[1-5](?![\d.,%]{0,3}[\d%])",
        ),
    )
)
"""Looked for where one of `_PHRASE_WORDS` stands, in lower case with single blanks, a line end before and after."""
_PHRASE_WORDS = _words(
    "score scores mark marks rating ratings verdict nonce judge grader evaluator rater assessor llm ai model rate grade"
    " instructions instruction prompt override mode message notice note candidate reference question follow terminology"
    " specificity"
)
_REQUESTS = "|".join(
    (
        r"(?:忽略|无视|無視|不要理会).{0,12}(?:指示|指令|说明|提示|规则|規則)",
        r"(?:打|给|給|评|評).{0,10}(?:满分|滿分|五分|5\s*分(?!钟|鐘)|最高分)",
        r"(?:指示|命令|ルール).{0,8}(?:無視|忘れ)|(?:満点|5\s*点|最高点).{0,4}(?:つけ|付け|与え)",
        r"지시.{0,8}(?:무시|잊)|(?:만점|5\s*점).{0,6}(?:주|매기|부여)",
        r"игнорируй.{0,40}(?:инструкц|указани|правил)|(?:поставь|оцени).{0,30}(?:пять|5|максимальн)",
        r"تجاهل.{0,30}(?:تعليمات|التعليمات|الأوامر)",
        r"निर्देश.{0,20}(?:अनदेखा|नज़रअंदाज़)",
        r"bỏ\s{1,3}qua.{0,20}(?:hướng\s{1,3}dẫn|chỉ\s{1,3}dẫn)",
        r"ละเว้น.{0,20}คำสั่ง|คำสั่ง.{0,30}คะแนน|התעלם.{0,20}הוראות|αγνόησε.{0,40}οδηγίες",
    )
)
_FOREIGN = re.compile(unicodedata.normalize("NFKC", _REQUESTS), re.DOTALL)
"""Both kinds of request in languages whose words carry endings, or stand without spaces."""

# --- how it is written ------------------------------------------------------------------------------------------------

_LITERALS = {
    "holds a code fence": ("```", "~~~"),
    "holds a role marker": ("<|", "|>", "[inst]", "[/inst]", "<<sys", "<</sys", "</s>", "_of_turn>"),
    "holds a placeholder": ("{{", "}}", "${", "{nonce", "{candidate", "{reference", "{question", "$nonce"),
    "holds a verdict": DIMENSIONS[1:2] + DIMENSIONS[3:],
    "holds escaped text": ("&quot;", "&#x", "&#1"),
    "holds a marked line": ("=== system", "=== user", "--- end of", "--- begin of"),
    "holds a mark": ("★★★", "⭐⭐⭐", "\n5\n5\n"),
}
_FIELD = r"[\"'“‘`](?:nonce|scores?|verdict|ratings?|marks?|grade|terminology|specificity|role|content|r[2-8])[\"'”’`]"
_TO_THE_JUDGE = (
    r"[^\n]{0,200}\b(?:scores?|candidate|reference|ignore|verdict|reply|give|rate|answer|judge|grade|five)\b"
)
_PATTERNS = tuple(
    (needed, reason, re.compile("|".join(patterns)))
    for needed, reason, *patterns in (
        (
            "<",
            "holds a role marker",
            r"</?(?:candidate|reference|question|system|assistant|user|human|instructions?|think|thinking|prompt|verdict"
            r"|scores?|judge|tool_call|tool_response)\b[^>\n]{0,80}>",
        ),
        (
            ":",
            "holds a role marker",
            rf"\n\s{{0,4}}(?:#{{1,4}}\s?)?(?:system|user|human|developer)\s?(?:message|prompt)?\s?:{_TO_THE_JUDGE}",
            r"\n\s{0,4}(?:#{1,4}\s?)?assistant\s?:\s{0,2}[{\"\n]",
        ),
        ("#", "holds a role marker", r"\n#{1,4}\s?(?:instructions?|response|system)\s?:?\s?\n"),
        (":", "holds a verdict", rf"{_FIELD}\s?:", r"[\"'”’`]\s?:\s?\{"),
        ("=", "holds a verdict", rf"{_FIELD}\s?=>?\s?[\"'“{{\[\d]"),
        ("{", "holds a verdict", r"\{\s?[\"'“]?\s?(?:nonce|scores?|verdict|terminology)"),
        (
            "/",
            "holds a mark",
            r"\n[^\w\n]{0,4}(?:5\s?/\s?5|10\s?/\s?10)[^\w\n]{0,4}\n",
            r"(?:5\s?/\s?5[^\w\n]{1,4}){3}",
        ),
        ("\\", "holds escaped text", r"(?:\\x[0-9a-f]{2}){3}|(?:\\u[0-9a-f]{4}){2}"),
        ("%", "holds escaped text", r"(?:%[0-9a-f]{2}){3}"),
    )
)
"""Looked for where the character stands. As in all patterns here, repetitions are bounded, so the time is linear."""
_LONG_WORD = 20
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/])(?=[A-Za-z+/]*\d)[A-Za-z0-9+/]{40,}|\b(?=[a-fA-F]*\d)[0-9a-fA-F]{32,}\b")
_BASE64_JSON = re.compile(r"\beyJ[A-Za-z0-9+/_-]{8,}")
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_OTHER_SCRIPT = re.compile("[\u0400-\u1fff\u3040-\ud7ff]|[\u0370-\u03ff]{3}")
_MIXED_SCRIPT = re.compile(r"[a-z][\u0400-\u04ff]|[\u0400-\u04ff][a-z]")
_BLANKS = re.compile(r"[^\S\n]+")
_SENTENCE = re.compile(r"[.!?;:\n]+")
_WORD = re.compile(r"[^\W_]+")
_NO_WORD = {ord(mark): " " for mark in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"}


def find_attack(text: str) -> str | None:
    """Why the text looks like an attempt on the judge, in words that quote nothing of it; None if it does not.

    Takes the text as it came from the model: `clean` would take out what this looks for.
    """
    if len(text) > MAX_HONEST_CHARS:
        return f"is longer than {MAX_HONEST_CHARS} characters"
    if not text.isprintable() and _HIDDEN.search(text.removeprefix("\ufeff")):
        return "holds characters that cannot be seen"
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    low = plain.lower()
    if not low.isascii() and _OTHER_SCRIPT.search(low) and (found := _beyond_latin(low)):
        return found
    if found := _written(f"\n{low}\n"):
        return found
    words = _words_of(low)
    if max(map(len, words), default=0) > _LONG_WORD and _ENCODED.search(plain):
        return "holds encoded text"
    if "eyJ" in plain and _BASE64_JSON.search(plain):
        return "holds encoded text"
    if not _shingles().isdisjoint(zip(*[iter(words)] * SHINGLE, strict=False)):
        return "holds the judge's own prompt"
    if not _PHRASE_WORDS.isdisjoint(words):
        spaced = f"\n{_BLANKS.sub(' ', low)}\n"
        for reason, pattern in _PHRASES:
            if pattern.search(spaced):
                return reason
    return None if _TRIGGERS.isdisjoint(words) else _broken_rule(low, words)


def _written(low: str) -> str | None:
    for reason, texts in _LITERALS.items():
        for text in texts:
            if text in low:
                return reason
    for needed, reason, pattern in _PATTERNS:
        if needed in low and pattern.search(low):
            return reason
    return None


def _beyond_latin(low: str) -> str | None:
    if _MIXED_SCRIPT.search(low):
        return "mixes scripts within a word"
    return "speaks to the judge" if _FOREIGN.search(low) else None


def _broken_rule(low: str, words: list[str]) -> str | None:
    possible = [rule for rule in _RULES if not any(one.isdisjoint(words) for one in rule[2])]
    for sentence in _SENTENCE.split(low) if possible else ():
        words = _words_of(sentence)
        for reason, reach, lists in possible:
            # Where an order of words is asked for, it is from the first list's word on.
            starts = [place for place, word in enumerate(words) if word in lists[0]] if reach else [0]
            for start in starts:
                near = words[start : start + reach] if reach else words
                clinical = not _CLINICAL.isdisjoint(words) and reason in _OF_PATIENTS
                if not clinical and not any(one.isdisjoint(near) for one in lists):
                    return reason
    return None


def _words_of(low: str) -> list[str]:
    return low.translate(_NO_WORD).split() if low.isascii() else _WORD.findall(low)


@cache
def _shingles() -> frozenset[tuple[str, ...]]:
    """Every run of `SHINGLE` words of our prompts. A text is looked up at every `SHINGLE`-th of its words only, which
    finds all copies of twice that length."""
    found: set[tuple[str, ...]] = set()
    for file in PROMPT_FOLDER.glob("*.txt"):
        prompt = load_prompt(file.stem)
        words = f"{prompt.system}\n{prompt.user}".lower().translate(_NO_WORD).split()
        found.update(zip(*(words[start:] for start in range(SHINGLE)), strict=False))
    return frozenset(found)
