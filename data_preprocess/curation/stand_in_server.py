# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A server of a stand-in for a model: an OpenAI-compatible endpoint on loopback, with rules in the place of a model.

    python data_preprocess/curate.py standin --name stand-in-a --mistakes 0.2 --log mistakes_a.jsonl [--port 0]
    python data_preprocess/curate.py standin --of lectures --name stand-in-c --mistakes 0.2 --log mistakes_c.jsonl

By default it stands in for a captioner, with `--of lectures` for the models that `curate.py questions` asks. What it
says is for tests and demonstrations alone. It makes mistakes at a known rate and notes them in its log. It prints its
address, and ends when its standard input is closed or after --max-seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from data_preprocess.curation.captions.stand_in import StandIn
from data_preprocess.curation.questions.stand_in import Lecturer
from data_preprocess.wording import Parser, status_of

MAX_BODY = 256 * 2**20


class Stand(Protocol):
    """What a server needs of a stand-in."""

    @property
    def name(self) -> str:
        """The model's name."""

    def answer(self, user: str) -> str:
        """The reply to a question."""

    def mistake(self, user: str) -> Any:
        """What is wrong with that reply, as JSON."""


KINDS: Mapping[str, Callable[[str, float, int], Stand]] = {"captions": StandIn, "lectures": Lecturer}
"""By what it answers, a stand-in: name, share of mistakes and seed to it."""


def app(stand_in: Stand, log: Path | None = None, latency_s: float = 0.0) -> web.Application:
    """The server. Each answered question is a line of ``log``: the question's digest, the model, the mistake in it."""

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


async def serve(stand_in: Stand, port: int, log: Path | None, latency_s: float, max_seconds: float) -> None:
    """Serves on loopback until standard input is closed."""
    if log is not None:
        # It is there before the first question, so that whoever is to read it can look for it.
        log.touch()
    runner = web.AppRunner(app(stand_in, log, latency_s), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        host, bound = runner.addresses[0][:2]
        print(f"http://{host}:{bound}/v1", flush=True)
        print(f"{stand_in.name}: a stand-in without a model, which looks at no picture", file=sys.stderr)
        with suppress(TimeoutError):
            async with asyncio.timeout(max_seconds):
                await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()


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
    parser.add_argument("--of", choices=tuple(KINDS), default="captions", help="what it answers (default captions)")
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 2**16:
        parser.error(f"--port: expected a number from 0 to {2**16 - 1}")
    if not (options.latency >= 0 and options.max_seconds > 0):
        parser.error("--latency and --max-seconds: expected seconds")
    stand_in = KINDS[options.of](options.name, options.mistakes, options.seed)
    work = serve(stand_in, options.port, options.log, options.latency, options.max_seconds)
    return status_of("curate", lambda: asyncio.run(work) or 0, (), "interrupted")


def _share_of(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to 1")
    return value
