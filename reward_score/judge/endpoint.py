# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One OpenAI-compatible chat endpoint: a chat goes out, a reply or a failure comes back, and what it took.

Connections belong to the event loop that opened them, so there is one client per loop. Of the ``openai`` client we
use the low-level ``post`` on its aiohttp transport, which takes a third of the CPU of its usual way: no typed objects
are built, and what comes back has to be checked here anyway.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .errors import JudgeError, JudgeMalformed, JudgeRefused, JudgeSettingsError, JudgeTimeout, JudgeUnavailable
from .failures import Failure, explain
from .flights import PerLoop
from .judgement import Usage
from .prompting import response_format

CONNECTIONS = 1_000
MOST_TOKENS = 10**9
"""A larger count is none."""
KEEP_ALIVE_S = 4.0
"""Idle connections are dropped after this long: before the endpoint drops them (uvicorn, and so vLLM, after 5 s)."""
COMPLETION_LIMITS = ("max_completion_tokens", "max_tokens")
"""What the field for the longest reply is called: now, and by older servers."""


@dataclass(frozen=True)
class Form:
    """How a request is worded: whether it asks for a JSON schema, and which field bounds the reply."""

    schema: bool
    limit_field: str = COMPLETION_LIMITS[0]


@dataclass(frozen=True)
class Reply:
    """What came of one request.

    Attributes:
        text: the reply's text; None where ``failure`` says why there is none.
        usage: tokens as the endpoint counted them, and the one request.
        counted: whether the endpoint counted them; if not, they are unknown and not 0.
        failure: what went wrong.
        latency_s: seconds until the reply, of whatever kind, was there; None if none came.
    """

    text: str | None
    usage: Usage
    counted: bool
    failure: Failure | None
    latency_s: float | None


class Endpoint:
    """Sends chats to one endpoint. Safe in several event loops and threads.

    Args:
        base_url: ``http(s)://host[:port]/v1``.
        key: sent with every request, and shown nowhere.
        model: the model's name at the endpoint.
        temperature, max_tokens, extra_body: as in `Judge`.
        structured: ask for a JSON schema: yes, no, or ``"auto"``: yes, unless the endpoint rejects it.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        model: str,
        *,
        temperature: float | None,
        max_tokens: int | None,
        structured: bool | str,
        extra_body: Mapping[str, Any] | None,
    ) -> None:
        self._base_url, self._key = base_url, key
        self._max_tokens = max_tokens
        self._fields: dict[str, Any] = {"model": model}
        if temperature is not None:
            self._fields["temperature"] = temperature
        self._more = dict(extra_body or {})
        self._may_drop_schema = structured == "auto"
        self._form = Form(schema=bool(structured))
        self._proven = False
        self._connections = PerLoop(self._new_connections)

    @property
    def form(self) -> Form:
        """The wording that new requests should have."""
        return self._form

    def body(self, chat: list[dict[str, str]], form: Form) -> dict[str, Any]:
        """The request as it is sent."""
        body = {**self._fields, "messages": chat}
        if self._max_tokens is not None:
            body[form.limit_field] = self._max_tokens
        if form.schema:
            body["response_format"] = response_format()
        return {**body, **self._more}

    def simpler(self, form: Form, complaint: str | None) -> Form | None:
        """Another wording to try after the endpoint complained about a request, or None.

        No request has to be reworded where one of this wording was understood before.
        """
        if complaint is None or (self._proven and form == self._form):
            return None
        new, old = COMPLETION_LIMITS
        if form.limit_field == new and new in complaint and self._max_tokens is not None:
            return replace(form, limit_field=old)
        if form.schema and self._may_drop_schema:
            return replace(form, schema=False)
        return None

    async def ask(self, body: dict[str, Any], form: Form, timeout_s: float) -> Reply:
        """Send one request. A wording that is understood is used from then on.

        Raises:
            JudgeSettingsError: the ``openai`` package is missing. All else is in the reply.
        """
        client = (await self.ready()).client
        begun = time.monotonic()
        try:
            # The library's timeout is per read; an endpoint that drips bytes is stopped by the one around it.
            async with asyncio.timeout(timeout_s):
                completion = await client.post(
                    "/chat/completions", cast_to=object, body=body, options={"timeout": timeout_s}
                )
        except TimeoutError:
            failure, replied = Failure(JudgeTimeout(f"judge: no complete reply within {timeout_s:.3g} s"), 0.0), False
        except Exception as error:  # whatever the client library raises is a failure of the judge, never a score
            failure, replied = explain(error, self._key), hasattr(error, "status_code")
        else:
            self._form, self._proven = form, True
            return _read(completion, time.monotonic() - begun)
        latency_s = time.monotonic() - begun if replied else None
        return Reply(None, Usage(requests=1), not failure.billed, failure, latency_s)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a loop that ends in order closes its own."""
        connections = self._connections.pop()
        if connections is not None and connections.closing is not None:
            await connections.closing.aclose()

    async def ready(self) -> _Connections:
        """The connections of the running event loop.

        Raises:
            JudgeSettingsError: the ``openai`` package is missing.
        """
        if "openai" not in sys.modules:
            # It takes half a second, which the event loop has no time for.
            await asyncio.to_thread(_openai)
        connections = self._connections.get()
        if connections.closing is None:
            connections.closing = _closing(connections.client)
            await anext(connections.closing)
        return connections

    def _new_connections(self) -> _Connections:
        return _Connections(self._new_client())

    def _new_client(self) -> Any:
        openai = _openai()
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S)
        return openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._base_url,
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(limits=limits),
        )


def _openai() -> Any:
    try:
        import openai  # only here: the offline judge must not need it
    except ImportError as error:
        raise JudgeSettingsError(f"judge: the package 'openai' cannot be imported: {error}") from None
    return openai


@dataclass
class _Connections:
    client: Any
    closing: AsyncGenerator[None] | None = None


async def _closing(client: Any) -> AsyncGenerator[None]:
    """Closes a client when it is closed itself, which event loops do with generators before they end."""
    try:
        yield
    finally:
        await client.close()


def size_of(body: dict[str, Any]) -> int:
    """Bytes of a request: no tokenizer makes more tokens of it."""
    return len(json.dumps(body, ensure_ascii=False).encode())


def _read(completion: Any, latency_s: float) -> Reply:
    usage, counted = _tokens(completion)
    try:
        return Reply(_content(completion), usage, counted, None, latency_s)
    except JudgeError as error:
        failure = Failure(error, 0.0)
    return Reply(None, usage, counted, failure, latency_s)


def _tokens(completion: Any) -> tuple[Usage, bool]:
    """Tokens as the endpoint counted them, and whether it did; what is missing or no count is 0."""
    told = completion.get("usage") if isinstance(completion, dict) else None
    told = told if isinstance(told, dict) else {}
    counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    known = [type(count) is int and 0 <= count <= MOST_TOKENS for count in counts]
    return Usage(*(n if right else 0 for n, right in zip(counts, known, strict=True)), requests=1), all(known)


def _content(completion: Any) -> str:
    """The reply's text. Nobody has checked what was received, so nothing is taken for granted."""
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise JudgeUnavailable("judge: the response holds no choices: is base_url an OpenAI-compatible endpoint?")
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    message = message if isinstance(message, dict) else {}
    if message.get("refusal") or reason == "content_filter":
        raise JudgeRefused("judge: the model or its content filter declined to judge")
    if reason == "length":
        raise JudgeMalformed("judge: the reply was cut at max_tokens")
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        raise JudgeMalformed("judge: the reply is empty")
    return content
