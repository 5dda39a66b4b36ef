# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One question at an endpoint: as many requests as it takes, each admitted by the store and settled with it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .endpoint import Chat, Endpoint, Form, Reply, size_of
from .errors import CallError, CallMalformed, CallUnavailable, CallUnproven
from .failures import MAX_RETRY_AFTER_S, Failure
from .limits import Estimate
from .options import Options
from .store.owner import Store
from .usage import Usage

BYTES_PER_TOKEN, REPLY_TOKENS = 4, 60
"""What a request is likely to take, for the pace: English text, and a short reply."""


@dataclass(frozen=True)
class Outcome:
    """What a reply says, or what is to be raised; what was spent on it; which counter it adds to if nothing was."""

    result: dict[str, Any] | CallError
    usage: Usage
    how: str | None = None


class Wording(ABC):
    """What is asked, and what a reply has to be."""

    @abstractmethod
    def compose(self, question: Mapping[str, Any]) -> tuple[Chat, Callable[[str], dict[str, Any]]]:
        """A chat for one request, and what reads its reply: CallMalformed where that is not what was asked for."""

    def is_long(self, question: Mapping[str, Any]) -> bool:
        """Whether the text that is asked about makes the question a long one."""
        return False


class Attempts:
    """Asks an endpoint.

    Args:
        options: whom to ask and how, and when to give up.
        wording: what to ask.
        schema: as in `Endpoint`.
        count: told what happened: numbers by counter name, and the usage.

    Attributes:
        endpoint: who is asked.
        answered: whether any reply held what was asked for. Until then, one that does not says nothing of the question.
    """

    def __init__(
        self, options: Options, wording: Wording, schema: dict[str, Any] | None, count: Callable[..., None]
    ) -> None:
        self.endpoint = Endpoint(options, schema)
        self.answered = False
        self._options, self._wording, self._count = options, wording, count

    async def ask(self, store: Store, question: Mapping[str, Any]) -> Outcome:
        """The reply, or the error that ended the last attempt. It raises no CallError. `store` keeps the limits."""
        options = self._options
        left_s, queue_s = options.deadline_s, options.queue_s
        spent, tried, malformed = Usage(), 0, 0
        form = self.endpoint.form
        while True:
            chat, read = self._wording.compose(question)
            begun = time.monotonic()
            try:
                reply, waited_s = await self._request(store, chat, form, min(options.timeout_s, left_s), queue_s)
            except CallError as error:  # by our own limits: nothing was sent
                return self._over(error, spent)
            left_s, queue_s = left_s - (time.monotonic() - begun - waited_s), queue_s - waited_s
            spent += reply.usage
            if (failure := reply.failure) is None:
                try:
                    said = read(reply.text)
                except CallError as error:
                    failure = Failure(error, 0.0)
                else:
                    self.answered = True
                    self._count({}, answered=True)
                    return Outcome(said, spent)
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
                return self._over(self._whose(failure, question), spent)
            left_s -= pause_s
            self._count({"retries": 1})
            await asyncio.sleep(pause_s)

    def _whose(self, failure: Failure, question: Mapping[str, Any]) -> CallError:
        """The failure's error, unless the text is not known to have caused it."""
        if failure.too_long and not (self.answered and self._wording.is_long(question)):
            told = f"{failure.error}: the model's context is too short for the prompt, whatever it is asked"
            return CallUnavailable(told)
        if isinstance(failure.error, CallMalformed) and not self.answered:
            return CallUnproven(f"{failure.error}; no reply of this model could be read yet")
        return failure.error

    def _over(self, error: CallError, spent: Usage) -> Outcome:
        # Without its context the error holds neither a request nor a key.
        error.__context__ = error.__cause__ = None
        error.usage = spent
        if spent.requests:  # what our own limits refused says nothing about the endpoint
            self._count({}, answered=error.answer_caused)
        return Outcome(error, spent)

    def _estimate(self, body: dict[str, Any]) -> Estimate:
        """Likely tokens and highest cost of a request."""
        size, images = size_of(body)
        seen = images * self._options.image_tokens
        most = Usage(prompt_tokens=size + seen, completion_tokens=self._options.max_tokens or 0)
        return Estimate(size // BYTES_PER_TOKEN + seen + REPLY_TOKENS, self._options.cost_usd(most))

    async def _request(
        self, store: Store, chat: Chat, form: Form, timeout_s: float, queue_s: float
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
            with contextlib.suppress(CallError):
                # A reply that was paid for is not lost with the store, whose next owner books the estimate.
                store.settle(ticket, tokens, cost_usd, latency_s)
        return reply, waited_s
