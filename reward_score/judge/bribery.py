# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A cheap look at an answer: does it talk to the judge instead of describing?

`find_attack` is one layer of several, and the one that may be wrong: the fence, the nonce and the verdict's parser hold
whatever it misses. So it is made for precision: a description of a procedure must not be taken for an attack, while an
attack in words that nobody thought of may pass. What it knows are tables of words and patterns. An attack addresses the
judge: it orders without naming anybody who is to obey, it speaks of the answer or the reference as such, or it writes
down a verdict or a prompt's own marks. Scores, grades, forms, modes and instructions of a clinic are descriptions.

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


# --- what is said -----------------------------------------------------------------------------------------------------

_CLINICAL = _words(
    "patient patients nurse nurses midwife physician doctor surgeon surgeons anaesthetist therapist caregiver"
    " resident trainee trainees student students learner operator assistant instructor trainer teacher examiner"
    " examiners assessor participant participants child baby newborn pain apgar glasgow gcs coma braden sedation"
    " risk morse norton waterlow vas nrs calcium syntax asa osats goals gears bishop oxygen bleeding wound ulcer"
    " mesh suture sutures incision skin vessel balloon scale scales subscale assess assessed assesses assessment"
    " graded rated form forms chart charts sheet checklist questionnaire record records recorded item items exam"
    " examination test exudate mobility nutrition tool sensitivity strength muscle limb limbs reflex reflexes pulse"
    " pupils console screen monitor device pump"
)
"""Who or what a mark or an instruction of a description is of."""
_START = (
    r"(?:[\n.!?;:,(\"'“*#>\]-]\s{0,2}"
    r"|\b(?:and|then|please|now|so|always|you|you\s(?:must|should|can|may|will|have\sto))\s)"
)
"""An order begins here: the description has named nobody who is to do it."""
_JUDGE = r"(?:judge|grader|evaluator|rater|assessor|llm|ai|(?:large\s)?language\smodel)"
_JUDGED = r"(?:answer|response|description|candidate|caption)"
_GIVES = (
    r"(?:give|award|assign|grant|output|print|return|reply|respond|set|choose|rate|score|grade|receive)"
    r"(?:\s[\w'-]{1,15}){0,4}?"
)
_TOP = r"(?:5|five|full|top|max|maximum|highest|perfect|10|ten|100)(?:\spossible)?"
_MARK = r"(?:scores?|marks?|ratings?|verdict|grades?)"
_ALL = r"(?:in|for|to|across|on)\s(?:all|every|each)\s(?:\w{1,10}\s)?(?:dimensions?|criteri|categor|aspects?|fields?)"
_ORDERS = r"(?:instructions?|prompts?|rules?|rubric|guidelines?|directives?|criteria)"
_EARLIER = r"(?:all|any|every|previous|prior|preceding|above|earlier|former|foregoing|your|these|everything|rubric)"
_ADDED = r"(?:y|e|et|und|en|i|por\sfavor|bitte)"

_REQUESTS = tuple(
    (reason, re.compile("|".join(patterns)))
    for reason, *patterns in (
        (
            "tells the judge to ignore its instructions",
            rf"{_START}(?:ignore|disregard|forget|override|(?:do|must)\snot\sfollow)\s(?=(?:\w{{1,15}}\s){{0,6}}?{_EARLIER}\b)"
            rf"(?:\w{{1,15}}\s){{0,6}}?{_ORDERS}\b",
            rf"(?:[\n.!?;:,]\s?|\b{_ADDED}\s)(?:ignora|ignorad|ignorar|olvida|ignorez|ignorer|oubliez|ignoriere|ignorieren"
            r"|vergiss|dimentica|negeer|zignoruj|ignore)\s(?:\w{1,15}\s){0,3}?(?:instrucciones|reglas|indicaciones|consignes"
            r"|instructions|règles|anweisungen|regeln|istruzioni|regole|instruções|regras|instructies|polecenia|instrukcje)\b",
            r"\btalimatları\s(?:yok\ssay|görmezden|unut)\b",
        ),
        (
            "asks the judge for a mark",
            rf"{_START}{_GIVES}\s{_TOP}\s(?:{_MARK}\b|{_ALL}|only\b|everywhere\b)",
            rf"{_START}{_GIVES}\s(?:(?:only|just)\s)?(?:fives|5s)\b",
            rf"{_START}{_GIVES}\s{_MARK}\s(?:(?:of|as|to|is)\s)?{_TOP}(?![\w%]|\s?(?:m?[lmg]|cm|points?)\b)",
            rf"\b(?:all|every|each)\s(?:\w{{1,10}}\s)?(?:dimensions?|criteria|criterion|categor\w{{1,3}})\s"
            rf"(?:(?:should|must)\sbe\s(?:scored|rated|graded|set\sto)|receives?|gets?|scores?|deserves?)\s{_TOP}\b",
            rf"\bscores?\s(?:of|for)\s(?:this|my)\s{_JUDGED}\b",
            rf"\b{_TOP}\s(?:{_MARK}\s)(?:everywhere\b|{_ALL})",
            rf"(?:[\n.!?;:,]\s?|\b{_ADDED}\s)(?:gib|vergib|bewerte|asigna|otorga|dame|da|dê|donne|donnez|attribue|attribuez"
            r"|assegna|atribua|geef|przyznaj|calificar)\s(?:\w{1,15}\s){0,5}?(?:punkte|höchstpunktzahl|puntuación|nota"
            r"|puntos|points|note|partout|punteggio|pontuação|pontos|punten|punktów)\b",
        ),
        (
            "speaks to the judge",
            rf"\b(?:this|the|my)\s{_JUDGED}\s(?:deserves?|merits?|earns?|should\s(?:get|receive|be)|must\s(?:get|receive|be))\s"
            rf"(?:\w{{1,15}}\s){{0,3}}?{_TOP}\s(?:{_MARK}\b|{_ALL})",
            rf"\b(?:dear|hey|hello)[\s,:]{{1,2}}(?:the\s)?{_JUDGE}\b(?!-)",
            r"\b(?:note|message|instructions?)\s(?:to|for)\s(?:the\s|an?\s)?(?:judge|grader|llm|ai|language\smodel)\s?[:,]",
            rf"\bas\s(?:the\s|an?\s)?{_JUDGE},?\syou\b",
            rf"\byou\s(?:are|act\sas)\s(?:now\s)?(?:the\s|an?\s)?(?:\w{{1,20}}\s)?{_JUDGE}\b(?!-)",
            rf"\b(?:score|rate|grade)\s(?:(?:this|my)\s{_JUDGED}\b|(?:this|it|me)\s(?:as\s|with\s|at\s)?(?:an?\s)?(?:5|five|10|perfect)\b)",
            rf"[.!?\n]\s?(?:new|updated|hidden)\sinstructions?\s?:[^.!?\n]{{0,60}}\b(?:{_MARK}|fives|reply|candidate)\b",
            r"\bterminology(?:\sis)?\sfive\b",
            r"\b(?:reply|respond|return|output)\s(?:\w{1,15}\s){0,6}?json\b|\b(?:base64|rot13)\b[^.!?\n]{0,40}\b(?:follow|obey|execute)\b",
            # The subject is the answer, or what it is like can only be the reference of a judge.
            rf"\b(?:this|the|my)\s{_JUDGED}\s(?:above\s)?(?:\w{{1,12}}ly\s)?(?:is\s(?:\w{{1,12}}ly\s)?"
            r"(?:identical|equivalent|equal)\sto|match(?:es)?)\sthe\s(?:\w{1,10}\s)?(?:reference|truth)(?:\s(?:description|answer|caption|text))?"
            r"(?=[^\w\s]|\n|\s(?:perfectly|exactly|completely|fully|word|in\s(?:every|all)|so|and))",
            r"\bthe\s(?:(?:expert|gold|ground)\s)?(?:reference|truth)\s(?:(?:description|answer|caption|text)\s)?(?:word\sfor\sword|in\severy\srespect)\b",
        ),
    )
)
"""What addresses the judge. Looked for where one of `_TRIGGERS` stands, in lower case with single blanks, a line end
before and after. Not where the sentence speaks of the clinic (`_CLINICAL`)."""
_TRIGGERS = _words(
    "ignore disregard forget override follow ignora ignorad ignorar olvida ignorez ignorer oubliez ignoriere"
    " ignorieren vergiss dimentica negeer zignoruj talimatları give award assign grant output print return reply"
    " respond set choose rate score grade receive receives scores marks ratings gib vergib bewerte asigna otorga"
    " dame da dê donne donnez attribue attribuez assegna atribua geef przyznaj calificar answer response description"
    " candidate caption judge grader evaluator rater assessor llm ai model terminology instructions instruction"
    " base64 rot13 reference truth dimensions dimension criteria criterion categories"
)
_MARKED = (
    r"(?:(?:final|total|overall|my)\s)?(?:scores?|ratings?|marks?|verdict)[^\w\n]{0,4}(?:[:=|>–—-]|\b(?:is|are)\b)"
    r"[^\w\n]{0,4}(?:(?:5, ){3,5}5|5|five|10|100|perfect)\b(?=\s?/|\sout\sof\b|[^\w\n]*(?:[\n.!|]|$))"
)
_LINES = tuple(
    (reason, re.compile("|".join(patterns)))
    for reason, *patterns in (
        (
            "holds a marked line",
            r"[\[<{=#]\s?(?:\S{1,40}\s)?(?:candidate|reference|question)\s(?:begin|end|start|stop)s?\s?[\]>}*=#]",
        ),
        (
            "holds a mark",
            rf"[.!?|\n][^\w\n.!?|]{{0,8}}{_MARKED}",
            r"[.!?|\n][^\w\n.!?|]{0,8}(?:terminology|specificity|nonce)[^\w\n]{0,4}(?:[:=|>–—-]|\bis\b)[^\w\n]{0,4}"
            r"(?:[1-5]|five|perfect)\b(?![.,%]?\d?%)",
            r"\bterminology[^\w\n]{0,3}[:=][^\w\n]{0,3}[1-5](?![\d.,%]{0,3}[\d%])",
        ),
    )
)
"""A verdict written out. Looked for where one of `_LINE_WORDS` stands, not where the text speaks of the clinic."""
_LINE_WORDS = _words(
    "score scores mark marks rating ratings verdict nonce candidate reference question terminology specificity"
)
_IN_OTHER_SCRIPTS = "|".join(
    (
        r"(?:忽略|无视|無視|不要理会).{0,6}(?:之前|以上|上述|前面|所有).{0,8}(?:指示|指令|说明|提示|规则|規則)",
        r"(?:打|给|給|评|評)(?:这个|此|本|我的|該)?(?:回答|答案|描述).{0,6}(?:满分|滿分|五分|5\s*分|最高分)",
        r"所有.{0,6}都?(?:打|给|給).{0,3}(?:满分|滿分|五分|5\s*分(?!钟|鐘))",
        r"(?:以前|これまで|上記|すべて|全て).{0,8}(?:指示|命令|ルール).{0,8}(?:無視|忘れ)し?て",
        r"(?:満点|5\s*点|最高点).{0,3}(?:つけ|付け|与え)てください",
        r"(?:이전|위의|모든).{0,8}지시.{0,8}(?:무시|잊)",
        r"игнорируй.{0,40}(?:инструкц|указани|правил)|поставь.{0,30}(?:балл|оценк)",
        r"تجاهل.{0,20}(?:تعليمات|التعليمات|الأوامر)\s*السابقة",
        r"पिछले.{0,12}निर्देश.{0,20}(?:अनदेखा|नज़रअंदाज़)\s*कर",
        r"bỏ\s{1,3}qua\s{1,3}mọi.{0,10}(?:hướng|chỉ)\s{1,3}dẫn",
        r"ละเว้นคำสั่งก่อนหน้า|התעלם.{0,20}הוראות|αγνόησε.{0,20}προηγούμενες.{0,10}οδηγίες",
    )
)
_FOREIGN = re.compile(unicodedata.normalize("NFKC", _IN_OTHER_SCRIPTS), re.DOTALL)
"""Both kinds of request in languages whose words carry endings, or stand without spaces."""

# --- how it is written ------------------------------------------------------------------------------------------------

_LITERALS = {
    "holds a code fence": ("```", "~~~"),
    "holds a role marker": ("<|", "|>", "[inst]", "[/inst]", "<<sys", "<</sys", "</s>", "_of_turn>"),
    "holds a placeholder": ("${", "{nonce", "{candidate", "{reference", "{question", "$nonce"),
    "holds a verdict": DIMENSIONS[1:2] + DIMENSIONS[3:],
    "holds a marked line": ("=== system", "=== user", "--- end of", "--- begin of"),
    "holds a mark": ("\n5\n5\n", "\n★★★", "\n⭐⭐⭐"),
}
_FIELD = r"[\"'“‘`](?:nonce|verdict|terminology|specificity)[\"'”’`]"
_TO_THE_JUDGE = (
    r"[^\n]{0,200}\b(?:scores?\s(?:is|are)\s(?:5|five)|the\scandidate|ignore|disregard|verdict|judge|grader|fives"
    r"|give\s(?:5|five)(?=[\n.!]))(?!\w)"
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
            r"\n\s{0,4}(?:#{1,4}\s?)?assistant\s?:\s{0,2}\{",
            r"[\"'“]role[\"'”]\s?:\s?[\"'“](?:system|user|assistant)[\"'”]",
        ),
        (
            "#",
            "holds a role marker",
            r"\n#{1,4}\s?instructions?\s?:?\s?\n[^#]{0,400}\n#{1,4}\s?response\s?:?\s{1,4}(?:$|\{)",
        ),
        (
            ":",
            "holds a verdict",
            rf"{_FIELD}\s?:",
            r"[\"'“]r[2-8][\"'”]\s?:\s?\d\s?,\s?[\"'“]r[2-8][\"'”]",
            r"(?:\{\s?[\"'“]\w{0,20}[\"'”]\s?:\s?){4}",
        ),
        ("=", "holds a verdict", rf"{_FIELD}\s?=>?\s?[\"'“{{\[\d]"),
        ("{{", "holds a placeholder", r"\{\{\s?\w{1,40}\s?\}\}"),
        ("{", "holds a verdict", r"\{\s?[\"'“]?\s?(?:nonce|scores?|verdict|terminology)"),
        (
            "/",
            "holds a mark",
            r"\n[^\w\n]{0,4}(?:(?:5\s?/\s?5|10\s?/\s?10)[^\w\n]{1,4}){0,20}(?:5\s?/\s?5|10\s?/\s?10)[^\w\n]{0,4}\n",
        ),
        ("\\", "holds escaped text", r"(?:\\x[0-9a-f]{2}){3}|(?:\\u[0-9a-f]{4}){2}"),
        ("%", "holds escaped text", r"(?:%[0-9a-f]{2}){3}"),
        ("&", "holds escaped text", r"(?:&#x?[0-9a-f]{1,6};){3}"),
    )
)
"""Looked for where the character stands. As in all patterns here, repetitions are bounded, so the time is linear."""
_LONG_WORD = 20
_ENCODED = re.compile(
    r"(?<![A-Za-z0-9+/])(?=[A-Za-z+/]*\d)(?=[A-Za-z0-9+/]*[A-Za-z0-9]{21})[A-Za-z0-9+/]{40,}"
    r"|\b(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{32,}\b"
)
_BASE64_JSON = re.compile(r"\beyJ[A-Za-z0-9+/_-]{8,}")
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_OTHER_SCRIPT = re.compile("[\u0400-\u1fff\u3040-\ud7ff]|[\u0370-\u03ff]{3}")
_MIXED_SCRIPT = re.compile(r"[a-z][\u0400-\u04ff]|[\u0400-\u04ff][a-z]")
_BLANKS = re.compile(r"[^\S\n]+")
_SENTENCE = re.compile(r"(?<!\d)[.!?\n]|[.!?\n](?!\d)")
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
    if not low.isascii() and _OTHER_SCRIPT.search(low):
        if _MIXED_SCRIPT.search(low):
            return "mixes scripts within a word"
        if _FOREIGN.search(low):
            return "speaks to the judge"
    if found := _written(f"\n{low}\n"):
        return found
    words = _words_of(low)
    long = max(map(len, words), default=0) > _LONG_WORD
    if (long and _ENCODED.search(plain)) or ("eyJ" in plain and _BASE64_JSON.search(plain)):
        return "holds encoded text"
    if not _shingles().isdisjoint(zip(*[iter(words)] * SHINGLE, strict=False)):
        return "holds the judge's own prompt"
    if not _LINE_WORDS.isdisjoint(words) and _CLINICAL.isdisjoint(words):
        for reason, pattern in _LINES:
            if pattern.search(f"\n{_BLANKS.sub(' ', low)}\n"):
                return reason
    return None if _TRIGGERS.isdisjoint(words) else _request(f"\n{_BLANKS.sub(' ', low)}\n")


def _request(text: str) -> str | None:
    for reason, pattern in _REQUESTS:
        for match in pattern.finditer(text):
            inside = match.end() - 1
            before = max((end.end() for end in _SENTENCE.finditer(text, 0, inside)), default=0)
            after = _SENTENCE.search(text, inside)
            if _CLINICAL.isdisjoint(_words_of(text[before : after.start() if after else None])):
                return reason
    return None


def _written(low: str) -> str | None:
    for reason, texts in _LITERALS.items():
        if any(text in low for text in texts):
            return reason
    for needed, reason, pattern in _PATTERNS:
        if needed in low and pattern.search(low):
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
