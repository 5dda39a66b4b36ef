# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A stand-in for a captioner: an OpenAI-compatible server without a model, which words the labels that it is told.

    python data_preprocess/curate.py standin --name stand-in-a --mistakes 0.2 --log mistakes_a.jsonl [--port 0]

It looks at no picture. Of the questions of `prompts/` it reads the experts' labels and writes sentences of them, in
words that follow from its name; so what it says is no description of a video, and rows of it are for tests and
demonstrations alone. At a known rate it makes mistakes, one kind for each question, and notes which in its log; some
are such that nothing here can find them. It prints its address, and ends when its standard input is closed or after
--max-seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from data_preprocess.curation.captions.context import EVENT_KINDS
from data_preprocess.curation.captions.words import named
from data_preprocess.wording import Parser, status_of

_LINE = re.compile(r"(\d+\.\d)-(\d+\.\d) (\w+): (.+)")
_THING = re.compile(r"^The thing to describe: ([^(\n]+)", re.MULTILINE)
_PROCEDURE = re.compile(r"^Procedure: (.+)$", re.MULTILINE)
_BARE = re.compile(r"^Describe the events of this clip of (\d+\.\d) seconds")
_EVENTS = "Events to describe:\n"
MAX_BODY = 256 * 2**20
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


def app(stand_in: StandIn, log: Path | None = None, latency_s: float = 0.0) -> web.Application:
    """The server. Each answered question is a line of ``log``: the question's digest, the model, the mistake."""

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        user = _user_text(body["messages"])
        reply = stand_in.answer(user)
        if latency_s:
            await asyncio.sleep(latency_s)
        if log is not None:
            line = {"question": digest(user), "model": stand_in.name, "mistake": stand_in.mistake(user)}
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        usage = {"prompt_tokens": len(user) // 4, "completion_tokens": len(reply) // 4}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
        return web.json_response(
            {"id": "stand-in", "object": "chat.completion", "model": stand_in.name, "choices": [choice], "usage": usage}
        )

    made = web.Application(client_max_size=MAX_BODY)
    made.router.add_post("/v1/chat/completions", complete)
    return made


def digest(user: str) -> str:
    """SHA-256 of a question's text, as the table of descriptions has it."""
    return hashlib.sha256(user.encode()).hexdigest()


def _user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    content = messages[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def serve(stand_in: StandIn, port: int, log: Path | None, latency_s: float, max_seconds: float) -> None:
    """Serves on loopback until standard input is closed."""
    runner = web.AppRunner(app(stand_in, log, latency_s), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        host, bound = runner.addresses[0][:2]
        print(f"http://{host}:{bound}/v1", flush=True)
        print(f"{stand_in.name}: a stand-in without a model: it words labels and looks at no picture", file=sys.stderr)
        with suppress(TimeoutError):
            async with asyncio.timeout(max_seconds):
                await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = Parser("curate standin", __doc__)
    parser.add_argument("--name", default="stand-in-a", help="the model's name (default stand-in-a)")
    parser.add_argument(
        "--mistakes", type=_share_of, default=0.0, metavar="SHARE", help="share of wrong answers, 0 to 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the mistakes (default 0)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds until an answer (default 0)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="file of JSON lines that notes the mistakes")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--max-seconds", type=float, default=3600.0, metavar="S", help="end after so long (default 3600)"
    )
    options = parser.parse_args(arguments)
    stand_in = StandIn(options.name, options.mistakes, options.seed)
    work = serve(stand_in, options.port, options.log, options.latency, options.max_seconds)
    return status_of("curate", lambda: asyncio.run(work) or 0, (), "interrupted")


def _share_of(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to 1")
    return value
