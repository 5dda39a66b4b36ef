# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a caller is told: whom it asks, how, and what that may cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from .errors import CallSettingsError
from .keys import KEY_VARIABLES, checked_url
from .limits import Limits, check
from .prices import price_of
from .usage import Usage

OWN_FIELDS = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "n", "stream"})
"""Fields of a request that decide what it asks and what it can cost, so that no ``extra_body`` may hold them."""


@dataclass(frozen=True, kw_only=True)
class Options(Limits):
    """Whom to ask and how, and the limits of `Limits`.

    Attributes:
        base_url: the endpoint, ``http(s)://host[:port]/v1``, without credentials or a query.
        api_key: the key; else that of the environment's first of ``key_variables`` that is set. A local server without
            a key accepts any word.
        key_variable: name of another variable of the environment that holds the key.
        model: the model's name at the endpoint. Limits hold per model.
        timeout_s: seconds for one request, from sending to the last byte.
        deadline_s: seconds for one question with all its attempts and pauses, without waits for our own limits.
        queue_s: seconds that a question waits for our own limits.
        max_attempts: requests for one question at most, after timeouts, 429, 5xx and broken connections.
        max_malformed_attempts: of these, how many may be spent on replies that are refused or malformed.
        backoff_s: first wait before trying again; doubles with every attempt, with full jitter.
        temperature: sampling temperature; None leaves it to the endpoint.
        max_tokens: tokens of the reply at most; None leaves it to the endpoint.
        structured: ask for a strict JSON schema: True, False, or ``auto``: unless the endpoint rejects it.
        extra_body: more fields for the request, as the endpoint needs them.
        image_tokens: tokens of one image at most, as this endpoint counts them: what a call may cost is bounded by it.
        cache: False: every question is asked anew each time, and nothing is kept.
        prompt_price, completion_price: dollars per million tokens; None: those of `prices`, if the model is there.
        filter_codes: codes by which this endpoint's content filter declines a text, besides those of `failures`.

    Raises:
        CallSettingsError: no model, or a value out of range.
    """

    key_variables: ClassVar[tuple[str, ...]] = KEY_VARIABLES

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    key_variable: str | None = None
    model: str
    timeout_s: float = 60.0
    deadline_s: float = 240.0
    queue_s: float = 1_800.0
    max_attempts: int = 5
    max_malformed_attempts: int = 2
    backoff_s: float = 1.0
    temperature: float | None = 0.0
    max_tokens: int | None = 256
    structured: bool | str = "auto"
    extra_body: Mapping[str, Any] | None = None
    image_tokens: int = 1_500
    cache: bool = True
    prompt_price: float | None = None
    completion_price: float | None = None
    filter_codes: Collection[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_url(self.base_url)
        if not isinstance(self.model, str) or not self.model.strip():
            raise CallSettingsError("no model: expected the model's name at the endpoint")
        times = ("timeout_s", "deadline_s", "queue_s")
        for name in (*times, "max_attempts", "max_malformed_attempts"):
            check(self, name, lambda value: value > 0, "more than 0")
        check(self, "image_tokens", lambda tokens: tokens >= 0, "0 or more")
        check(self, "structured", lambda given: given in (True, False, "auto"), "True, False or 'auto'")
        if taken := OWN_FIELDS & set(self.extra_body or {}):
            raise CallSettingsError(f"extra_body: {', '.join(sorted(taken))}: expected none of our own")
        codes = self.filter_codes
        if isinstance(codes, str) or not all(isinstance(code, str) for code in codes):
            raise CallSettingsError(f"filter_codes is {codes!r}: expected a list of codes")
        if self.prices is None and self.budget_usd is not None:
            raise CallSettingsError(
                f"budget_usd, but no price of {self.model!r} is known: set prompt_price and completion_price"
            )
        if self.budget_usd is not None and self.max_tokens is None:
            raise CallSettingsError("budget_usd needs max_tokens, which bounds what a request can cost")

    @cached_property
    def prices(self) -> tuple[float, float] | None:
        """Dollars per million prompt and completion tokens; None: not known, and counted as 0."""
        if self.prompt_price is None and self.completion_price is None:
            return price_of(self.model)
        for name in ("prompt_price", "completion_price"):
            expected = "dollars per million tokens, as of the other"
            check(self, name, lambda price: price is not None and price >= 0, expected)
        assert self.prompt_price is not None and self.completion_price is not None
        return float(self.prompt_price), float(self.completion_price)

    def cost_usd(self, usage: Usage) -> float:
        """Dollars for these tokens."""
        return usage.cost_usd(*(self.prices or (0.0, 0.0)))
