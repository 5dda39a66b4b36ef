# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One OpenAI-compatible chat endpoint: a chat goes out, a reply or a failure comes back, and what it took.

Connections belong to the event loop that opened them, so there is one client per loop. Of the ``openai`` client we
use the low-level ``post`` on its aiohttp transport, which takes a third of the CPU of its usual way: no typed objects
are built, and what comes back has to be checked here anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from .errors import CallError, CallMalformed, CallRefused, CallSettingsError, CallTimeout, CallUnavailable
from .failures import Failure, by_report, explain, filtered, too_long
from .flights import PerLoop
from .keys import find_key
from .options import Options
from .usage import Usage

Chat = list[dict[str, Any]]
"""Messages of a request: ``role``, and ``content``, which is a text or parts of ``type`` ``text`` or `IMAGE`."""
IMAGE = "image_url"
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
        text: the reply's text, empty where ``failure`` says why there is none.
        usage: tokens as the endpoint counted them, and the one request.
        counted: whether the endpoint counted them; if not, they are unknown and not 0.
        failure: what went wrong.
        latency_s: seconds until the reply, of whatever kind, was there; None if none came.
    """

    text: str
    usage: Usage
    counted: bool
    failure: Failure | None
    latency_s: float | None


class Endpoint:
    """Sends chats to one endpoint. Safe in several event loops and threads.

    Args:
        options: which endpoint, and how it is asked.
        schema: the ``response_format`` of a request for structured output, for endpoints that know it.

    Attributes:
        form: the wording that new requests should have.

    Raises:
        CallSettingsError: no address, or no key.
    """

    def __init__(self, options: Options, schema: dict[str, Any] | None = None) -> None:
        self._options, self._schema = options, schema
        self._base_url = options.base_url
        self._key = find_key(options.api_key, options.key_variable, options.key_variables)
        self._filter_codes = {code.lower() for code in options.filter_codes}
        self.form = Form(schema=bool(options.structured and schema))
        self._proven = False
        self._clients = PerLoop(self._client)

    def body(self, chat: Chat, form: Form) -> dict[str, Any]:
        """The request as it is sent."""
        options = self._options
        optional = {
            "temperature": options.temperature,
            form.limit_field: options.max_tokens,
            "response_format": self._schema if form.schema else None,
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return {"model": options.model, "messages": chat, **given, **(options.extra_body or {})}

    def simpler(self, form: Form, complaint: str | None) -> Form | None:
        """Another wording to try after the endpoint complained about a request, or None.

        No request has to be reworded where one of this wording was understood before.
        """
        if complaint is None or (self._proven and form == self.form):
            return None
        new, old = COMPLETION_LIMITS
        if form.limit_field == new and new in complaint and self._options.max_tokens is not None:
            return replace(form, limit_field=old)
        if form.schema and self._options.structured == "auto":
            return replace(form, schema=False)
        return None

    async def ask(self, body: dict[str, Any], form: Form, timeout_s: float) -> Reply:
        """Send one request. A wording that is understood is used from then on.

        Raises:
            CallSettingsError: the ``openai`` package is missing. All else is in the reply.
        """
        client = await self.ready()
        begun = time.monotonic()
        try:
            # The library's timeout is per read; an endpoint that drips bytes is stopped by the one around it.
            async with asyncio.timeout(timeout_s):
                completion = await client.post(
                    "/chat/completions", cast_to=object, body=body, options={"timeout": timeout_s}
                )
        except TimeoutError:
            failure, replied = Failure(CallTimeout(f"no complete reply within {timeout_s:.3g} s"), 0.0), False
        except Exception as error:  # whatever the client library raises is a failure of the call, never an answer
            failure, replied = explain(error, self._key, self._filter_codes), hasattr(error, "status_code")
        else:
            reply = self._read(completion, time.monotonic() - begun)
            if reply.failure is None or reply.counted:
                self.form, self._proven = form, True
            return reply
        latency_s = time.monotonic() - begun if replied else None
        return Reply("", Usage(requests=1), not failure.billed, failure, latency_s)

    def _read(self, completion: Any, latency_s: float) -> Reply:
        if isinstance(completion, str):  # JSON that the header calls something else
            with contextlib.suppress(ValueError, RecursionError):
                completion = json.loads(completion.lstrip("\ufeff"))
        usage, counted = _tokens(completion)
        try:
            found = _content(completion, self._key, self._filter_codes)
        except CallError as error:
            found = Failure(error, 0.0)
        text, failure = ("", found) if isinstance(found, Failure) else (found, None)
        return Reply(text, usage, counted, failure, latency_s)

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a loop that ends in order closes its own."""
        if (client := self._clients.pop()) is not None:
            await client.aclose()

    async def ready(self) -> Any:
        """The client of the running event loop.

        Raises:
            CallSettingsError: the ``openai`` package is missing.
        """
        if not _openai.cache_info().currsize:
            # It takes half a second, which the event loop has no time for.
            await asyncio.to_thread(_openai)
        return await anext(self._clients.get())

    async def _client(self) -> AsyncGenerator[Any]:
        """Yields one client. It is closed with the generator, which event loops close before they end."""
        client = self._new_client()
        try:
            while True:
                yield client
        finally:
            await client.close()

    def _new_client(self) -> Any:
        openai = _openai()
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE_S)
        return openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._base_url,
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(limits=limits),
        )


@cache
def _openai() -> Any:
    try:
        import openai  # only here: what asks nobody must not need it
    except ImportError as error:
        raise CallSettingsError(f"the package 'openai' cannot be imported: {error}") from None
    return openai


def size_of(body: dict[str, Any]) -> tuple[int, int]:
    """(bytes of a request without its images, images in it): no tokenizer makes more tokens of a text than bytes."""
    images, chat = 0, []
    for message in body["messages"]:
        if isinstance(content := message["content"], list):
            texts = [part for part in content if part.get("type") != IMAGE]
            images, message = images + len(content) - len(texts), {**message, "content": texts}
        chat.append(message)
    return len(json.dumps({**body, "messages": chat}, ensure_ascii=False).encode()), images


def _tokens(completion: Any) -> tuple[Usage, bool]:
    """Tokens as the endpoint counted them, and whether it did; what is missing or no count is 0."""
    told = completion.get("usage") if isinstance(completion, dict) else None
    told = told if isinstance(told, dict) else {}
    counts = [told.get(name, -1) for name in ("prompt_tokens", "completion_tokens")]
    known = [type(count) is int and 0 <= count <= MOST_TOKENS for count in counts]
    prompt, completion = (n if right else 0 for n, right in zip(counts, known, strict=True))
    return Usage(prompt, completion, requests=1), all(known)


_BROKEN = re.compile(r"error|abort|cancel|fail|time_?out|interrupt|insufficient|overload", re.IGNORECASE)
_CUT = re.compile(r"length|max(imum)?[_ -]?(output[_ -]?)?tokens", re.IGNORECASE)
_CONTEXT = re.compile(r"context", re.IGNORECASE)
_ENDS = frozenset({"", "none", "stop", "tool_calls", "function_call", "tool_use", "eos", "eos_token", "end_turn"})
"""Why a model ended by itself, in lower case; what is none of the four is not known."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Fields of a message that hold what a model thought."""


def _content(completion: Any, key: str, filter_codes: Collection[str]) -> str | Failure:
    """The reply's text, or why there is none. Nobody has checked what was received: nothing is taken for granted.

    Raises:
        CallError: there is none.
    """
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        if isinstance(completion, dict) and completion:
            report = by_report(200, completion, key, filter_codes)
            if not isinstance(report.error, CallUnavailable):
                return report
        raise CallUnavailable("the response holds no choices: is base_url an OpenAI-compatible endpoint?")
    choice = choices[0]
    if error := choice.get("error") or completion.get("error"):
        return by_report(200, error, key, filter_codes)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    reasons = [str(choice.get(name) or "") for name in ("finish_reason", "native_finish_reason")]
    codes = {reason.lower() for reason in reasons}
    text, refusal = _text(message)
    if refusal or filtered(200, codes, " ".join(reasons), filter_codes):
        raise CallRefused("the model or its content filter declined")
    reason = reasons[0]
    if _BROKEN.search(reason):
        raise CallUnavailable("the endpoint broke off the reply")
    if _CONTEXT.search(reason):
        return too_long("the reply was cut")
    said = text.rpartition("</think>")[2]
    blank = not said.strip() or "<think>" in said
    if _CUT.search(reason):
        if blank:
            told = "the model's thoughts used up max_tokens: raise it, or have the model think less"
            raise CallUnavailable(told)
        raise CallMalformed("the reply was cut at max_tokens")
    if reason.lower() not in _ENDS and "{" not in said:
        raise CallUnavailable("the reply ended without an object, for a reason that is not known")
    if blank and any(message.get(name) for name in _THOUGHTS):
        raise CallUnavailable("the reply holds thoughts and no answer: check the server's reasoning parser")
    if not text.strip():
        raise CallMalformed("the reply is empty")
    return text


def _text(message: Mapping[str, Any]) -> tuple[str, bool]:
    """(text, whether it is a refusal) of a message: a text, parts of one, a JSON object, or a tool's arguments."""
    content = message.get("content")
    texts, refused = [], bool(message.get("refusal"))
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and "type" in part:
            refused |= bool(part.get("refusal")) or part["type"] == "refusal"
            part = part.get("text") if part["type"] in ("text", "output_text") else None
        texts += [part if isinstance(part, str) else json.dumps(part)] if isinstance(part, str | dict) else []
    text = "".join(texts)
    if "{" not in text:
        calls = message.get("tool_calls")
        calls = [*(calls if isinstance(calls, list) else []), {"function": message.get("function_call")}]
        tools = [call.get("function") for call in calls if isinstance(call, dict)]
        given = [tool.get("arguments") for tool in tools if isinstance(tool, dict)]
        arguments = [one if isinstance(one, str) else json.dumps(one) for one in given if isinstance(one, str | dict)]
        text = "\n".join(arguments) or text
    return text, refused
