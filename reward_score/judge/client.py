# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A judge behind an OpenAI-compatible endpoint: a hosted model, or a local one under ``vllm serve``.

One `Judge` may be used from several event loops and threads: HTTP connections belong to the loop that opened them, so
there is one client per loop. The key is read from the argument, the environment or a file, and appears in no
``repr``, message, log or exception of ours: exceptions of the client library, which hold the request, are not chained.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import BadGroundTruth
from .errors import JudgeError, JudgeMalformed, JudgeRefused, JudgeSettingsError, JudgeTimeout, JudgeUnavailable
from .failures import MAX_RETRY_AFTER_S, explain
from .judgement import Judgement, Usage
from .prompting import clean, load_prompt, messages, new_nonce, response_format
from .verdict import parse_verdict

KEY_VARIABLES = ("MEDGRPO_JUDGE_API_KEY", "OPENAI_API_KEY")
KEY_FILE_VARIABLE = "MEDGRPO_JUDGE_API_KEY_FILE"


class Judge:
    """Comparative five-dimension judge on an OpenAI-compatible chat endpoint.

    Args:
        base_url: the endpoint, ``http(s)://host[:port]/v1``, without credentials or a query.
        api_key: the key; else ``MEDGRPO_JUDGE_API_KEY``, the file named by ``MEDGRPO_JUDGE_API_KEY_FILE``, or
            ``OPENAI_API_KEY``. A local server without a key accepts any word.
        model: the model's name at the endpoint.
        timeout_s: seconds for one request, from sending to the last byte.
        deadline_s: seconds for one judgement with all its attempts and waits.
        max_attempts: requests for one judgement at most, after timeouts, 429, 5xx and broken connections.
        max_malformed_attempts: of these, how many may be spent on replies that are refused or malformed.
        max_in_flight: judgements under way at once, per event loop; one that waits to try again counts.
        temperature: sampling temperature; None leaves it to the endpoint.
        max_tokens: tokens of the reply at most; None leaves it to the endpoint.
        structured: ask for a strict JSON schema. Off for endpoints that reject ``response_format``.
        max_candidate_chars: what comes after this many characters of a candidate is not judged.
        prompt_price, completion_price: dollars per million tokens, for `cost_usd`.
        backoff_s: first wait before trying again; doubles with every attempt, with full jitter.
        extra_body: more fields for the request, as the endpoint needs them.

    Attributes:
        name: model and prompt version, as in every `Judgement`.
        counters: ``judgements``, ``requests``, ``retries``, ``blank``, and failures by error name.
        usage: tokens and requests of all judgements so far, failed ones included.

    Raises:
        JudgeSettingsError: no key, no model, or a setting out of range.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        *,
        timeout_s: float = 60.0,
        deadline_s: float = 240.0,
        max_attempts: int = 5,
        max_malformed_attempts: int = 2,
        max_in_flight: int = 64,
        temperature: float | None = 0.0,
        max_tokens: int | None = 256,
        structured: bool = True,
        max_candidate_chars: int = 8_000,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
        backoff_s: float = 1.0,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        if not isinstance(model, str) or not model.strip():
            raise JudgeSettingsError("judge: no model: expected the model's name at the endpoint")
        self.model = model
        for name, value in {
            "timeout_s": timeout_s,
            "deadline_s": deadline_s,
            "max_attempts": max_attempts,
            "max_malformed_attempts": max_malformed_attempts,
            "max_in_flight": max_in_flight,
            "max_candidate_chars": max_candidate_chars,
        }.items():
            if not value > 0:
                raise JudgeSettingsError(f"judge: {name} is {value!r}: expected more than 0")
        self._key = _find_key(api_key)
        self._prompt = load_prompt()
        self.name = f"{model}/{self._prompt.version}"
        self.timeout_s, self.deadline_s, self.backoff_s = timeout_s, deadline_s, backoff_s
        self.max_attempts, self.max_malformed_attempts = max_attempts, max_malformed_attempts
        self.max_in_flight, self.max_candidate_chars = max_in_flight, max_candidate_chars
        self.prompt_price, self.completion_price = prompt_price, completion_price
        self._request: dict[str, Any] = {
            "model": model,
            "temperature": temperature,
            "max_completion_tokens": max_tokens,
        }
        self._request = {name: value for name, value in self._request.items() if value is not None}
        if structured:
            self._request["response_format"] = response_format()
        if extra_body:
            self._request["extra_body"] = dict(extra_body)
        self.counters: Counter[str] = Counter()
        self.usage = Usage()
        self._lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, asyncio.Semaphore]]
        self._loops = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Judge(base_url={self.base_url!r}, model={self.model!r})"

    @property
    def cost_usd(self) -> float:
        """Dollars spent so far, at the given prices."""
        return self.usage.cost_usd(self.prompt_price, self.completion_price)

    async def score(self, prediction: str, reference: str, *, task: str, question: str | None = None) -> Judgement:
        """Judge how close ``prediction`` is to ``reference``.

        A prediction without a visible character is not sent: it gets 1 in every dimension.

        Args:
            prediction: the text to judge.
            reference: the text that is taken as true.
            task: ``vs``, ``rc`` or ``dvc``: what the texts describe, as the prompt says it.
            question: the question that both answer, if the judge shall see it.

        Raises:
            BadGroundTruth: a blank reference.
            JudgeError: no verdict; which subclass says why, and ``usage`` what was spent.
        """
        reference = clean(reference)
        if not reference:
            raise BadGroundTruth("the reference text is blank: expected a description")
        candidate = clean(prediction)[: self.max_candidate_chars]
        if not candidate:
            self._count(judgements=1, blank=1)
            return Judgement.lowest(self.name, Usage())
        texts = {"candidate": candidate, "reference": reference, "task": task, "question": question}
        client, slots = self._for_this_loop()
        async with slots:
            result = await self._attempts(client, texts)
        if isinstance(result, JudgeError):
            self._count(**{type(result).__name__: 1})
            raise result
        self._count(judgements=1)
        return result

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the judge stays usable."""
        with self._lock:
            entry = self._loops.pop(asyncio.get_running_loop(), None)
        if entry:
            await entry[0].close()

    async def _attempts(self, client: Any, texts: dict[str, Any]) -> Judgement | JudgeError:
        deadline = time.monotonic() + self.deadline_s
        spent, malformed = Usage(), 0
        for attempt in range(1, self.max_attempts + 1):
            left = deadline - time.monotonic()
            scores, failure, retry_after, usage = await self._attempt(client, texts, min(self.timeout_s, left))
            spent += usage
            self._count(usage, requests=1)
            if failure is None:
                return Judgement(**scores, judge=self.name, usage=spent)
            failure.usage = spent
            malformed += failure.answer_caused
            if retry_after is None or attempt == self.max_attempts or malformed >= self.max_malformed_attempts:
                return failure
            # Jitter on top of what the endpoint asks for, so that all waiters do not come back at once.
            wait = retry_after + random.uniform(0, self.backoff_s * 2 ** (attempt - 1))
            if time.monotonic() + wait >= deadline or wait > MAX_RETRY_AFTER_S:
                return failure
            self._count(retries=1)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns")

    async def _attempt(
        self, client: Any, texts: dict[str, Any], timeout: float
    ) -> tuple[dict[str, int], JudgeError | None, float | None, Usage]:
        """One request: scores, or a failure with the seconds to wait at least (None: trying again is useless)."""
        nonce = new_nonce()
        chat = messages(self._prompt, nonce=nonce, **texts)
        usage = Usage(requests=1)
        try:
            # The library's timeout is per read; an endpoint that drips bytes is stopped by the one around it.
            completion = await asyncio.wait_for(
                client.chat.completions.create(messages=chat, timeout=timeout, **self._request), timeout
            )
            usage += _tokens(completion)
            return parse_verdict(_content(completion), nonce), None, None, usage
        except JudgeError as error:
            failure, retry_after = error, 0.0
        except asyncio.TimeoutError:  # noqa: UP041 - in Python 3.10 not the builtin one
            failure, retry_after = JudgeTimeout(f"judge: no complete reply within {timeout:.3g} s"), 0.0
        except Exception as error:  # whatever the client library raises is a failure of the judge, never a score
            failure, retry_after = explain(error, self._key)
        # Here, outside of the handlers, the failure has no context that would hold the request and its key.
        failure.__context__ = failure.__cause__ = None
        return {}, failure, retry_after, usage

    def _for_this_loop(self) -> tuple[Any, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._loops:
                # Transports of a client refer to its loop, so weak keys alone would never let a finished loop go.
                for old in [known for known in self._loops if known.is_closed()]:
                    del self._loops[old]
                self._loops[loop] = (self._new_client(), asyncio.Semaphore(self.max_in_flight))
            return self._loops[loop]

    def _new_client(self) -> Any:
        try:
            from openai import AsyncOpenAI  # only here: the offline judge must not need it
        except ImportError as error:
            raise JudgeSettingsError(f"judge: the package 'openai' cannot be imported: {error}") from None
        return AsyncOpenAI(api_key=self._key, base_url=self.base_url, max_retries=0, timeout=self.timeout_s)

    def _count(self, usage: Usage | None = None, **counts: int) -> None:
        with self._lock:
            self.counters.update(counts)
            if usage:
                self.usage += usage


def _find_key(given: str | None) -> str:
    key, where = given, "the argument api_key"
    if key is None and os.environ.get(KEY_VARIABLES[0]):
        key, where = os.environ[KEY_VARIABLES[0]], KEY_VARIABLES[0]
    if key is None and os.environ.get(KEY_FILE_VARIABLE):
        path, where = Path(os.environ[KEY_FILE_VARIABLE]), f"the file of {KEY_FILE_VARIABLE}"
        try:
            key = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise JudgeSettingsError(f"judge: {path}: {type(error).__name__}: expected a file with the key") from None
    if key is None and os.environ.get(KEY_VARIABLES[1]):
        key, where = os.environ[KEY_VARIABLES[1]], KEY_VARIABLES[1]
    if key is None:
        raise JudgeSettingsError(f"judge: no key: set {KEY_VARIABLES[0]}, {KEY_FILE_VARIABLE} or {KEY_VARIABLES[1]}")
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise JudgeSettingsError(f"judge: the key from {where} is not one printable word")
    return key


def _checked_url(url: str | None) -> str:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise JudgeSettingsError("judge: base_url: expected http(s)://host[:port]/path")
    if parts.username or parts.password or parts.query:
        raise JudgeSettingsError("judge: base_url holds credentials or a query: the key belongs in api_key")
    return str(url)


def _tokens(completion: Any) -> Usage:
    """Tokens as the endpoint counted them; what is missing or no count is 0."""
    told = getattr(completion, "usage", None)
    counts = [getattr(told, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(n if type(n) is int and n > 0 else 0 for n in counts))


def _content(completion: Any) -> str:
    """The reply's text. The library does not check what it received, so nothing is taken for granted."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise JudgeUnavailable("judge: the response holds no choices: is base_url an OpenAI-compatible endpoint?")
    message = getattr(choices[0], "message", None)
    reason = getattr(choices[0], "finish_reason", None)
    if getattr(message, "refusal", None) or reason == "content_filter":
        raise JudgeRefused("judge: the model or its content filter declined to judge")
    content = getattr(message, "content", None)
    if reason == "length":
        raise JudgeMalformed("judge: the reply was cut at max_tokens")
    if not isinstance(content, str) or not content.strip():
        raise JudgeMalformed("judge: the reply is empty")
    return content
