# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One judgement at an endpoint: as many requests as it takes, each admitted by the store and settled with it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .endpoint import Endpoint, Form, Reply, size_of
from .errors import JudgeError, JudgeMalformed, JudgeUnavailable, JudgeUnproven
from .failures import MAX_RETRY_AFTER_S, Failure
from .judgement import Usage
from .limits import Estimate
from .options import Options
from .prompting import Prompt, messages, new_nonce
from .store.owner import Store
from .verdict import parse_verdict

BYTES_PER_TOKEN, REPLY_TOKENS = 4, 60
"""What a request is likely to take, for the pace: English text, and a reply of one verdict."""


@dataclass(frozen=True)
class Outcome:
    """A verdict's scores, or what is to be raised; what was spent on it; which counter it adds to if nothing was."""

    result: dict[str, int] | JudgeError
    usage: Usage
    how: str | None = None


class Attempts:
    """Asks an endpoint about pairs of texts.

    Args:
        options: whom to ask and how, and when to give up.
        prompt: what to ask.
        count: told what happened: numbers by counter name, and the usage.

    Attributes:
        endpoint: who is asked.
        answered: whether this judge has given a verdict on any texts. Until then, a reply without one says nothing of
            the answer.
    """

    def __init__(self, options: Options, prompt: Prompt, count: Callable[..., None]) -> None:
        self.endpoint = Endpoint(options)
        self.answered = False
        self._options, self._prompt, self._count = options, prompt, count

    async def ask(self, store: Store, texts: dict[str, Any]) -> Outcome:
        """The scores, or the error that ended the last attempt. It raises no judge error. `store` keeps the limits."""
        options = self._options
        left_s, queue_s = options.deadline_s, options.queue_s
        spent, tried, malformed = Usage(), 0, 0
        form = self.endpoint.form
        while True:
            nonce = new_nonce()
            chat = messages(self._prompt, nonce=nonce, **texts)
            begun = time.monotonic()
            try:
                reply, waited_s = await self._request(store, chat, form, min(options.timeout_s, left_s), queue_s)
            except JudgeError as error:  # by our own limits: nothing was sent
                return self._over(error, spent)
            left_s, queue_s = left_s - (time.monotonic() - begun - waited_s), queue_s - waited_s
            spent += reply.usage
            if (failure := reply.failure) is None:
                try:
                    scores = parse_verdict(reply.text, nonce)
                except JudgeError as error:
                    failure = Failure(error, 0.0)
                else:
                    self.answered = True
                    self._count({}, answered=True)
                    return Outcome(scores, spent)
            simpler = self.endpoint.simpler(form, failure.complaint)
            if simpler is not None:
                form = simpler
                self._count({"retries": 1})
                continue
            tried += 1
            malformed += failure.error.answer_caused
            tired = tried >= options.max_attempts or malformed >= options.max_malformed_attempts
            # Jitter on top of what the endpoint asks for, so that all waiters do not come back at once.
            pause_s = (failure.retry_after or 0.0) + random.uniform(0, options.backoff_s * 2 ** (tried - 1))
            if failure.retry_after is None or tired or pause_s >= left_s or pause_s > MAX_RETRY_AFTER_S:
                return self._over(self._whose(failure, texts), spent)
            left_s -= pause_s
            self._count({"retries": 1})
            await asyncio.sleep(pause_s)

    def _whose(self, failure: Failure, texts: dict[str, Any]) -> JudgeError:
        """The failure's error, unless the answer is not known to have caused it."""
        if failure.too_long and not (self.answered and len(texts["candidate"]) > len(texts["reference"])):
            told = f"{failure.error}: the model's context is too short for the prompt, whatever the answer is"
            return JudgeUnavailable(told)
        if isinstance(failure.error, JudgeMalformed) and not self.answered:
            return JudgeUnproven(f"{failure.error}; this judge has given no verdict on any text yet")
        return failure.error

    def _over(self, error: JudgeError, spent: Usage) -> Outcome:
        # Without its context the error holds neither a request nor a key.
        error.__context__ = error.__cause__ = None
        error.usage = spent
        if spent.requests:  # what our own limits refused says nothing about the endpoint
            self._count({}, answered=error.answer_caused)
        return Outcome(error, spent)

    def _estimate(self, body: dict[str, Any]) -> Estimate:
        """Likely tokens and highest cost of a request: no prompt has more tokens than bytes."""
        size = size_of(body)
        most = Usage(prompt_tokens=size, completion_tokens=self._options.max_tokens or 0)
        return Estimate(size // BYTES_PER_TOKEN + REPLY_TOKENS, self._options.cost_usd(most))

    async def _request(
        self, store: Store, chat: list[dict[str, str]], form: Form, timeout_s: float, queue_s: float
    ) -> tuple[Reply, float]:
        """One request and the seconds that it waited for our own limits. Its ticket is settled in any case."""
        body = self.endpoint.body(chat, form)
        begun = time.monotonic()
        ticket = await store.admit(self._options.model, self._estimate(body), self._options, queue_s)
        usage: Usage | None = None
        tokens: int | None = 0
        cost_usd: float | None = 0.0
        latency_s = None
        try:
            if ticket.wait_s > 0:
                await asyncio.sleep(ticket.wait_s)
            await self.endpoint.ready()
            waited_s = time.monotonic() - begun
            # Sent; what it takes is unknown until there is a reply.
            usage, tokens, cost_usd = Usage(requests=1), None, None
            reply = await self.endpoint.ask(body, form, timeout_s)
            usage, latency_s = reply.usage, reply.latency_s
            if reply.counted:
                tokens, cost_usd = usage.prompt_tokens + usage.completion_tokens, self._options.cost_usd(usage)
        finally:
            if usage is not None:
                spent = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
                self._count({"calls": 1, **spent}, usage)
            with contextlib.suppress(JudgeError):
                # A reply that was paid for is not lost with the store, whose next owner books the estimate.
                store.settle(ticket, tokens, cost_usd, latency_s)
        return reply, waited_s
