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
from .limits import Estimate, Limits
from .prompting import Prompt, messages, new_nonce
from .store.owner import Store
from .verdict import parse_verdict

BYTES_PER_TOKEN, REPLY_TOKENS = 4, 60
"""What a request is likely to take, for the pace: English text, and a reply of one verdict."""


@dataclass(frozen=True)
class Patience:
    """How long and how often one judgement is tried; the fields are arguments of `Judge`."""

    timeout_s: float
    deadline_s: float
    queue_s: float
    max_attempts: int
    max_malformed_attempts: int
    backoff_s: float


@dataclass(frozen=True)
class Tariff:
    """What a model costs.

    Attributes:
        prices: dollars per million prompt and completion tokens; None: not known, and counted as 0.
        max_tokens: of a reply; None: not bounded, so that no upper bound of a cost is known.
    """

    prices: tuple[float, float] | None
    max_tokens: int | None

    def cost_usd(self, usage: Usage) -> float:
        """Dollars for these tokens."""
        return usage.cost_usd(*(self.prices or (0.0, 0.0)))

    def estimate(self, body: dict[str, Any]) -> Estimate:
        """Likely tokens and highest cost of a request: no prompt has more tokens than bytes."""
        size = size_of(body)
        most = Usage(prompt_tokens=size, completion_tokens=self.max_tokens or 0)
        return Estimate(size // BYTES_PER_TOKEN + REPLY_TOKENS, self.cost_usd(most))


@dataclass(frozen=True)
class Outcome:
    """A verdict's scores, or what is to be raised; what was spent on it; which counter it adds to if nothing was."""

    result: dict[str, int] | JudgeError
    usage: Usage
    how: str | None = None


class Attempts:
    """Asks an endpoint about pairs of texts.

    Args:
        endpoint: whom to ask.
        prompt: what to ask.
        lane: what the limits hold for: the model's name.
        limits: as `Store.admit` wants them.
        patience: when to give up.
        tariff: what it costs.
        count: told what happened: numbers by counter name, and the usage.

    Attributes:
        answered: whether this judge has given a verdict on any texts. Until then, a reply without one says nothing of
            the answer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        prompt: Prompt,
        lane: str,
        limits: Limits,
        patience: Patience,
        tariff: Tariff,
        count: Callable[..., None],
    ) -> None:
        self._endpoint, self._prompt = endpoint, prompt
        self._lane, self._limits = lane, limits
        self._patience, self._tariff, self._count = patience, tariff, count
        self.answered = False

    async def ask(self, store: Store, texts: dict[str, Any]) -> Outcome:
        """The scores, or the error that ended the last attempt. It raises no judge error. `store` keeps the limits."""
        patience = self._patience
        left_s, queue_s = patience.deadline_s, patience.queue_s
        spent, tried, malformed = Usage(), 0, 0
        form = self._endpoint.form
        while True:
            nonce = new_nonce()
            chat = messages(self._prompt, nonce=nonce, **texts)
            begun = time.monotonic()
            try:
                reply, waited_s = await self._request(store, chat, form, min(patience.timeout_s, left_s), queue_s)
            except JudgeError as error:  # by our own limits: nothing was sent
                return self._over(error, spent)
            left_s, queue_s = left_s - (time.monotonic() - begun - waited_s), queue_s - waited_s
            spent += reply.usage
            scores, failure = _verdict(reply, nonce)
            if failure is None:
                self.answered = True
                self._count({}, answered=True)
                return Outcome(scores, spent)
            simpler = self._endpoint.simpler(form, failure.complaint)
            if simpler is not None:
                form = simpler
                self._count({"retries": 1})
                continue
            tried += 1
            malformed += failure.error.answer_caused
            if (
                failure.retry_after is None
                or tried >= patience.max_attempts
                or malformed >= patience.max_malformed_attempts
            ):
                return self._over(self._whose(failure, texts), spent)
            # Jitter on top of what the endpoint asks for, so that all waiters do not come back at once.
            pause_s = failure.retry_after + random.uniform(0, patience.backoff_s * 2 ** (tried - 1))
            if pause_s >= left_s or pause_s > MAX_RETRY_AFTER_S:
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

    async def _request(
        self, store: Store, chat: list[dict[str, str]], form: Form, timeout_s: float, queue_s: float
    ) -> tuple[Reply, float]:
        """One request and the seconds that it waited for our own limits. Its ticket is settled in any case."""
        body = self._endpoint.body(chat, form)
        begun = time.monotonic()
        ticket = await store.admit(self._lane, self._tariff.estimate(body), self._limits, queue_s)
        usage: Usage | None = None
        tokens: int | None = 0
        cost_usd: float | None = 0.0
        latency_s = None
        try:
            if ticket.wait_s > 0:
                await asyncio.sleep(ticket.wait_s)
            await self._endpoint.ready()
            waited_s = time.monotonic() - begun
            # Sent; what it takes is unknown until there is a reply.
            usage, tokens, cost_usd = Usage(requests=1), None, None
            reply = await self._endpoint.ask(body, form, timeout_s)
            usage, latency_s = reply.usage, reply.latency_s
            if reply.counted:
                tokens, cost_usd = usage.prompt_tokens + usage.completion_tokens, self._tariff.cost_usd(usage)
        finally:
            if usage is not None:
                spent = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
                self._count({"calls": 1, **spent}, usage)
            with contextlib.suppress(JudgeError):
                # A reply that was paid for is not lost with the store, whose next owner books the estimate.
                store.settle(ticket, tokens, cost_usd, latency_s)
        return reply, waited_s


def _verdict(reply: Reply, nonce: str) -> tuple[dict[str, int], Failure | None]:
    if reply.failure is not None:
        return {}, reply.failure
    assert reply.text is not None  # only a failure has no text
    try:
        return parse_verdict(reply.text, nonce), None
    except JudgeError as error:
        return {}, Failure(error, 0.0)
