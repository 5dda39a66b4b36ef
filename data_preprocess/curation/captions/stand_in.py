# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A stand-in for a captioner, without a model: it words the labels that it is told.

    python data_preprocess/curate.py standin --name stand-in-a --mistakes 0.2 --log mistakes_a.jsonl

It looks at no picture. Of the questions of `prompts/` it reads the experts' labels and writes sentences of them, in
words that follow from its name; so what it says is no description of a video, and rows of it are for tests and
demonstrations alone. At a known rate it makes mistakes, one kind for each question, and notes which in its log; some
are such that nothing here can find them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_preprocess.curation.captions.context import EVENT_KINDS
from data_preprocess.curation.captions.words import named

_LINE = re.compile(r"(\d+\.\d)-(\d+\.\d) (\w+): (.+)")
_THING = re.compile(r"^The thing to describe: ([^(\n]+)", re.MULTILINE)
_PROCEDURE = re.compile(r"^Procedure: (.+)$", re.MULTILINE)
_BARE = re.compile(r"^Describe the events of this clip of (\d+\.\d) seconds")
_EVENTS = "Events to describe:\n"
WORDINGS = (
    (
        "The surgeon carries out {what} during {procedure}{tools}, and the field stays in view.",
        "Over the clip the team performs {procedure}: {what}{tools}. The work goes on step by step to the end.",
        "The {thing} is used in {procedure} for {what} and stays close to the tissue.",
        " with the {}",
    ),
    (
        "In this part of {procedure} one sees {what}{tools} while the tissue is kept under tension.",
        "This stretch of {procedure} shows, one after the other, {what}{tools}, without a break until its last moment.",
        "During {what}, a step of {procedure}, the {thing} works near the target.",
        " by means of the {}",
    ),
)
"""Sentences of the two stand-ins: for an event, a summary, a region, and how tools are named."""


def _stray_tool(text: str, told: str) -> str:
    """Another instrument than those that are told."""
    strange = sorted({"scissors", "clipper", "scalpel", "syringe"} - named("instruments", [told]))
    return f"{text.rstrip('.')} and the {strange[0]}."


MISTAKES: Mapping[str, Callable[[str, str], str]] = {
    "another_instrument": _stray_tool,
    "unknown_instrument": lambda text, told: f"{text.rstrip('.')} and a stapler.",
    "unrelated": lambda text, told: "A cook cuts carrots in a kitchen while music plays and guests arrive for dinner.",
    "speaks_of_picture": lambda text, told: f"The image shows this: {text[0].lower()}{text[1:]}",
    "too_short": lambda text, told: "Surgery goes on.",
    "outside_the_clip": lambda text, told: text,  # the times are wrong
    "turned": lambda text, told: f"{text.rstrip('.')}, though nothing of this is done.",  # nothing here can find it
}
"""Kinds of mistakes: (the right text, what was told) to a wrong one."""


@dataclass(frozen=True)
class StandIn:
    """What a stand-in says.

    Attributes:
        name: its model name; it decides the wording.
        mistakes: share of questions that are answered wrongly.
        seed: of the mistakes.
    """

    name: str
    mistakes: float = 0.0
    seed: int = 0

    def mistake(self, user: str) -> str:
        """The kind of mistake in the answer to a question; empty for none."""
        dice = random.Random(f"{self.seed}/{self.name}/{user}")
        wrong = dice.random() < self.mistakes
        kinds = [kind for kind in MISTAKES if kind != "outside_the_clip" or _EVENTS in user]
        return dice.choice(kinds) if wrong else ""

    def answer(self, user: str) -> str:
        """The reply to a question, as JSON."""
        event, summary, region, by = WORDINGS[self.name.endswith("b")]
        procedure = (match := _PROCEDURE.search(user)) and match[1] or "the operation"
        kind = self.mistake(user)
        lines = [(float(a), float(b), what, text) for a, b, what, text in _LINE.findall(user)]

        def said(form: str, what: str, span: tuple[float, float], thing: str = "") -> str:
            near = [text for start, end, _, text in lines if start <= span[1] and end >= span[0]]
            tools = sorted(named("instruments", [*near, thing]) - named("instruments", [what]))
            told = by.format(" and the ".join(tools)) if tools and not thing else ""
            text = form.format(what=what, procedure=procedure, tools=told, thing=thing)
            return MISTAKES[kind](text, " ".join([*near, thing])) if kind else text

        if _EVENTS in user:
            wanted = _LINE.findall(user.partition(_EVENTS)[2].partition("\n\n")[0])
            late = 10_000.0 if kind == "outside_the_clip" else 0.0
            events = [
                {"start": float(a) + late, "end": float(b) + late, "caption": said(event, text, (float(a), float(b)))}
                for a, b, _, text in wanted
            ]
            return json.dumps({"events": events})
        if bare := _BARE.search(user):
            whole = 0.0, float(bare[1])
            return json.dumps({"events": [{"start": 0.0, "end": whole[1], "caption": said(event, "a step", whole)}]})
        times = [time for start, end, _, _ in lines for time in (start, end)] or [0.0]
        span = min(times), max(times)
        steps = [text for _, _, what, text in lines if what in (*EVENT_KINDS, "event")]
        what = ", then ".join(dict.fromkeys(steps)) or "a step that has no name"
        if thing := _THING.search(user):
            return json.dumps({"caption": said(region, what, span, thing[1].strip().lower())})
        return json.dumps({"caption": said(summary, what, span)})


def found_out(
    descriptions: Iterable[Mapping[str, Any]], decisions: Iterable[Mapping[str, Any]], logs: Iterable[Path]
) -> list[str]:
    """How well validation found the stand-ins' mistakes, as lines: precision, recall, and recall by kind.

    Args:
        descriptions, decisions: records of those tables; of a description's decisions the last one counts.
        logs: of the stand-ins.
    """
    mistakes: dict[tuple[str, str], str] = {}
    for path in logs:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            mistakes[record["model"], record["question"]] = record["mistake"]
    kept = {record["description"]: record["kept"] for record in decisions}
    rows = [
        (mistakes[one["model"], one["question"]], not kept[one["key"]])
        for one in descriptions
        if one["key"] in kept and (one["model"], one["question"]) in mistakes
    ]
    wrong, rejected = [row for row in rows if row[0]], [row for row in rows if row[1]]
    caught = sum(1 for row in wrong if row[1])
    lines = [
        f"{len(rows)} descriptions of stand-ins, {len(wrong)} with a mistake, {len(rejected)} rejected",
        f"precision {_share(caught, len(rejected))}: of the rejected ones, those with a mistake",
        f"recall {_share(caught, len(wrong))}: of those with a mistake, the rejected ones",
    ]
    for kind in MISTAKES:
        of_kind = [row for row in wrong if row[0] == kind]
        if of_kind:
            lines.append(f"  {kind}: {sum(1 for row in of_kind if row[1])} of {len(of_kind)}")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f} ({part} of {whole})" if whole else f"unknown (0 of {whole})"
