# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stand-ins for the models that are asked about lectures: no model, but rules that fit the synthetic transcripts.

    python data_preprocess/curate.py standin --of lectures --name stand-in-c --mistakes 0.2 --log mistakes_c.jsonl

Facts are the transcript's sentences in slightly other words, questions are patterns. So what comes out is for tests and
demonstrations alone. At a known rate it makes mistakes, one kind for each fact or question, and notes which in its log;
some are such that nothing here can find them. Asked without a video, it repeats what a question gives away.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_preprocess.curation.captions.words import CLASSES, named
from data_preprocess.curation.questions.checks import BLIND, DUPLICATE
from data_preprocess.curation.questions.models import KINDS
from data_preprocess.curation.questions.pipeline import Found

_SPEECH, _FACTS = "What is said:\n", "Facts:\n"
_NUMBERED = re.compile(r"^(\d+) (\w+): (.+)$", re.MULTILINE)
_GIVEN_AWAY = re.compile(r"Is it so that (.+), or what else\?")
_CUES = (("plan", "Next "), ("deduction", "So "))
_ASKED: Mapping[str, str] = {
    "observation": "What happens near the {thing} in this part of the video?",
    "reason": "Why is the work on the {thing} done in this way?",
    "plan": "Which step that concerns the {thing} will follow?",
    "deduction": "What should be concluded about the {thing} here?",
}
REPEATED = "repeated_question"
UNKNOWN = "Nothing can be said without the video."


def _stray(text: str) -> str:
    """The text with an instrument that it does not name."""
    return f"{text.rstrip('.')}, and a {sorted({'tourniquet', 'trocar'} - named('instruments', [text]))[0]} is used."


@dataclass
class _Said:
    """A fact before it is written down."""

    kind: str
    text: str
    quote: str


@dataclass
class _Asked:
    """A question before it is written down; `fact` counts from 1."""

    fact: int
    question: str
    answer: str


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def make(made: Any) -> None:
        setattr(made, name, change(getattr(made, name)))

    return make


def _give_away(made: _Asked) -> None:
    answer = made.answer.rstrip(".")
    made.question = f"Is it so that {answer[0].lower()}{answer[1:]}, or what else?"


FACT_MISTAKES: Mapping[str, Callable[[_Said], None]] = {
    "invented_quote": _change("quote", lambda quote: f"as every textbook of surgery teaches, {quote.lower()}"),
    "scrap_of_a_quote": _change("quote", lambda quote: " ".join(quote.split()[:2])),
    "unsaid_instrument": _change("text", _stray),
    "names_nothing": _change("text", lambda text: "Something is going on at this place."),
    "turned_fact": _change("text", lambda text: f"It is not true that {text[0].lower()}{text[1:]}"),
}
QUESTION_MISTAKES: Mapping[str, Callable[[_Asked], None]] = {
    "unknown_fact": _change("fact", lambda fact: fact + 100),
    "another_instrument": _change("answer", _stray),
    "speaks_of_lecture": _change("answer", lambda text: f"The narrator says that {text[0].lower()}{text[1:]}"),
    "too_short": _change("answer", lambda text: "Yes."),
    "gives_answer_away": _give_away,  # found by a model that guesses
    REPEATED: lambda made: None,  # it is asked again
    "turned_answer": _change("answer", lambda text: f"Nobody claims that {text[0].lower()}{text[1:]}"),
}
"""Kinds of mistakes, and what each does. Nothing here can find those that turn a sentence round."""


@dataclass(frozen=True)
class Lecturer:
    """What a stand-in says.

    Attributes:
        name: its model name.
        mistakes: share of facts and questions that are wrong.
        seed: of the mistakes.
    """

    name: str
    mistakes: float = 0.0
    seed: int = 0

    def answer(self, user: str) -> str:
        """The reply to a question, as JSON."""
        return json.dumps(self._made(user)[0])

    def mistake(self, user: str) -> list[str]:
        """The kind of mistake in each fact or question of the reply, in order; empty texts for none."""
        return self._made(user)[1]

    def _made(self, user: str) -> tuple[dict[str, Any], list[str]]:
        dice = random.Random(f"{self.seed}/{self.name}/{user}")
        if _SPEECH in user:
            facts = sorted(map(_fact, _sentences(user)), key=lambda fact: KINDS.index(fact.kind) if fact.kind else 9)
            facts = [fact for fact in facts if fact.kind]
            kinds = [self._spoil(fact, FACT_MISTAKES, dice) for fact in facts]
            said = {kind: [{"text": f.text, "quote": f.quote} for f in facts if f.kind == kind] for kind in KINDS}
            return said, kinds
        if _FACTS in user:
            asked: list[_Asked] = []
            kinds = []
            for number, kind, text in _NUMBERED.findall(user.partition(_FACTS)[2]):
                one = _question(int(number), kind, text)
                kinds.append(self._spoil(one, QUESTION_MISTAKES, dice))
                asked.append(one)
                if kinds[-1] == REPEATED:
                    kinds[-1:] = ["", REPEATED]
                    asked.append(replace(one, question=f"Once more: {one.question}"))
            return {"questions": [vars(one) for one in asked]}, kinds
        given_away = _GIVEN_AWAY.search(user)
        return {"answer": f"{given_away[1]}." if given_away else UNKNOWN}, []

    def _spoil(self, made: Any, kinds: Mapping[str, Callable[[Any], None]], dice: random.Random) -> str:
        wrong, kind = dice.random() < self.mistakes, dice.choice(list(kinds))
        if not wrong or (kind == "names_nothing" and made.kind != "observation"):
            return ""
        kinds[kind](made)
        return kind


def _sentences(user: str) -> list[str]:
    return [line for line in user.partition(_SPEECH)[2].splitlines() if line.strip()]


def _fact(sentence: str) -> _Said:
    kind = next((kind for kind, cue in _CUES if sentence.startswith(cue)), "")
    if not kind and " because " in sentence:
        kind = "reason"
    if not kind and any(named(one, [sentence]) for one in CLASSES):
        kind = "observation"
    said = re.sub(r"^(?:Now|So|You see how) ", "", sentence)
    return _Said(kind, said[0].upper() + said[1:], sentence)


def _question(number: int, kind: str, text: str) -> _Asked:
    things = sorted(named("anatomy", [text]) or named("instruments", [text]) or {"patient"})
    return _Asked(number, _ASKED[kind].format(thing=things[0]), text)


def found_out(replies: Iterable[Mapping[str, Any]], decided: Sequence[Found], logs: Iterable[Path]) -> list[str]:
    """How well the checks found the stand-ins' mistakes, as lines: precision, recall, and recall by kind.

    A question that only repeats another one has no mistake in it; such are counted by themselves.

    Args:
        replies: records of `extracted.jsonl` and `written.jsonl`.
        decided: what became of them.
        logs: of the stand-ins.
    """
    noted: dict[tuple[str, str], list[str]] = {}
    for path in logs:
        for line in path.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            noted[one["model"], one["question"]] = one["mistake"]
    mistakes = {one["key"]: noted.get((one["model"], one["question"]), []) for one in replies}
    rows, repeated = [], 0
    for one in decided:
        if one.index >= len(mistakes.get(one.reply, ())):
            continue
        mistake = mistakes[one.reply][one.index]
        if one.reasons == (DUPLICATE,) and not mistake:
            repeated += 1
        else:
            # A fact that nobody asked about stands or falls by what was asked.
            dropped = bool(one.reasons) and one.reasons != ("not_asked",)
            rows.append((mistake, dropped, one.reasons))
    wrong, rejected = [row for row in rows if row[0]], [row for row in rows if row[1]]
    caught = sum(1 for row in wrong if row[1])
    lines = [
        f"{len(rows)} facts and questions of stand-ins, {len(wrong)} with a mistake, {len(rejected)} rejected, "
        f"{repeated} more as repetitions",
        f"precision {_share(caught, len(rejected))}: of the rejected ones, those with a mistake",
        f"recall {_share(caught, len(wrong))}: of those with a mistake, the rejected ones",
    ]
    for kind in (*FACT_MISTAKES, *QUESTION_MISTAKES):
        of_kind = [row for row in wrong if row[0] == kind]
        if of_kind:
            guessed = sum(1 for row in of_kind if BLIND in row[2])
            beside = f", {guessed} of them by a guess" if guessed else ""
            lines.append(f"  {kind}: {sum(1 for row in of_kind if row[1])} of {len(of_kind)}{beside}")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f} ({part} of {whole})" if whole else f"unknown (0 of {whole})"
