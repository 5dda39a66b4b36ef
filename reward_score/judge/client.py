# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A judge behind an OpenAI-compatible endpoint: a hosted model, a local one under ``vllm serve``, or verl's own.

Every pair is judged once: the store keeps what was judged, and who asks for what is being judged waits for it. A
failure is never kept. In a task or an actor of Ray a judge with a folder does not ask the endpoint itself: the actor
that owns the folder does, for all of them.

One `Judge` may be used from several event loops and threads. The key appears in no ``repr``, message, log, store or
exception of ours: exceptions of the client library, which hold the request, are not chained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import BadGroundTruth
from .attempts import Attempts, Outcome, Patience, Tariff
from .bribery import find_attack
from .endpoint import Endpoint
from .errors import JudgeError, JudgeSettingsError, JudgeUnavailable
from .judgement import DIMENSIONS, HIGHEST, LOWEST, Judgement, Usage
from .keys import checked_url, find_key
from .limits import Limits
from .prices import price_of
from .prompting import clean, load_prompt
from .store import MAX_MB, RayStore, Store, open_store

OWN_FIELDS = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "n", "stream"})
"""Fields of a request that decide what it asks and what it can cost, so that no ``extra_body`` may hold them."""
CACHED, SHARED = "cache_hits", "shared"
"""Counters of verdicts that were kept before, and that somebody else was about to give."""
LOCAL_NAMES = {"calls": "requests"}
"""Counters of the store whose names in `Judge.counters` are others."""


class Judge:
    """Comparative five-dimension judge on an OpenAI-compatible chat endpoint.

    Args:
        base_url: the endpoint, ``http(s)://host[:port]/v1``, without credentials or a query.
        api_key: the key; else ``MEDGRPO_JUDGE_API_KEY``, the file named by ``MEDGRPO_JUDGE_API_KEY_FILE``, or
            ``OPENAI_API_KEY``. A local server without a key accepts any word.
        key_variable: name of another variable of the environment that holds the key, for a second judge.
        model: the model's name at the endpoint. Limits hold per model.
        store: a folder for verdicts, budget and counters, which one process at a time has; all tasks and actors of a
            Ray cluster share it, and its limits. None: nothing is shared or kept.
        max_mb: megabytes of verdicts in the store; above, those go that were not used for longest.
        prompt: ``comparative``, ``rubric``, or a file of that form.
        timeout_s: seconds for one request, from sending to the last byte.
        deadline_s: seconds for one judgement with all its attempts and pauses, without waits for our own limits.
        queue_s: seconds that a judgement waits for our own limits.
        max_attempts: requests for one judgement at most, after timeouts, 429, 5xx and broken connections.
        max_malformed_attempts: of these, how many may be spent on replies that are refused or malformed.
        requests_per_min, tokens_per_min, max_in_flight: of all judges that share the store; None: no limit.
        budget_usd: dollars of all models over the store's whole life: what could exceed them is not sent.
        max_failed_share, failure_window, cooldown_s: no calls for ``cooldown_s`` seconds when more than this share of
            the last ``failure_window`` judgements failed for the infrastructure's sake.
        temperature: sampling temperature; None leaves it to the endpoint.
        max_tokens: tokens of the reply at most; None leaves it to the endpoint.
        structured: ask for a strict JSON schema: True, False, or ``auto``: unless the endpoint rejects it.
        max_candidate_chars: what comes after this many characters of a candidate is not judged.
        cache: False: every pair is judged anew each time, and nothing is kept.
        prompt_price, completion_price: dollars per million tokens; None: those of `prices`, if the model is there.
        backoff_s: first wait before trying again; doubles with every attempt, with full jitter.
        extra_body: more fields for the request, as the endpoint needs them.
        filter_codes: codes by which this endpoint's content filter declines a text, besides those of `failures`.

    Attributes:
        name: model and prompt version, as in every `Judgement`.
        store: where it counts, see `open_store`.
        counters: what this judge did: ``judgements`` (verdicts given), ``requests``, ``retries``, ``blank``,
            ``cache_hits``, ``shared``, ``attacks``, and failures by error name. Without those that are 0.
        usage: tokens and requests so far, those of failed judgements included.
        asks: what decides about a verdict besides the texts: judges with the same share their verdicts.
        price_known: whether `cost_usd` is what was spent, and not 0 for want of a price.

    Raises:
        JudgeSettingsError: no key, no model, or a setting out of range.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        *,
        key_variable: str | None = None,
        store: str | None = None,
        max_mb: float = MAX_MB,
        prompt: str = "comparative",
        timeout_s: float = 60.0,
        deadline_s: float = 240.0,
        queue_s: float = 1_800.0,
        max_attempts: int = 5,
        max_malformed_attempts: int = 2,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        max_in_flight: int | None = 64,
        budget_usd: float | None = None,
        max_failed_share: float = 0.5,
        failure_window: int = 50,
        cooldown_s: float = 30.0,
        temperature: float | None = 0.0,
        max_tokens: int | None = 256,
        structured: bool | str = "auto",
        max_candidate_chars: int = 8_000,
        cache: bool = True,
        prompt_price: float | None = None,
        completion_price: float | None = None,
        backoff_s: float = 1.0,
        extra_body: Mapping[str, Any] | None = None,
        filter_codes: Collection[str] = (),
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in ("self", "store", "max_mb")}
        self.base_url = checked_url(base_url)
        if not isinstance(model, str) or not model.strip():
            raise JudgeSettingsError("judge: no model: expected the model's name at the endpoint")
        self.model = model
        _more_than_0(
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            queue_s=queue_s,
            max_attempts=max_attempts,
            max_malformed_attempts=max_malformed_attempts,
            max_candidate_chars=max_candidate_chars,
            **{} if max_in_flight is None else {"max_in_flight": max_in_flight},
        )
        if structured not in (True, False, "auto"):
            raise JudgeSettingsError(f"judge: structured is {structured!r}: expected True, False or 'auto'")
        if taken := OWN_FIELDS & set(extra_body or {}):
            raise JudgeSettingsError(f"judge: extra_body: {', '.join(sorted(taken))}: expected none of the judge's own")
        if isinstance(filter_codes, str) or not all(isinstance(code, str) for code in filter_codes):
            raise JudgeSettingsError(f"judge: filter_codes is {filter_codes!r}: expected a list of codes")
        key = find_key(api_key, key_variable)
        try:
            self._prompt = load_prompt(prompt)
        except (ValueError, OSError) as error:
            raise JudgeSettingsError(f"judge: prompt: {error}") from None
        self.name = f"{model}/{self._prompt.version}"
        self._tariff = Tariff(_prices(model, prompt_price, completion_price), max_tokens)
        self.price_known = self._tariff.prices is not None
        if budget_usd is not None and not self.price_known:
            raise JudgeSettingsError(
                f"judge: budget_usd, but no price of {model!r} is known: set prompt_price and completion_price"
            )
        if budget_usd is not None and max_tokens is None:
            raise JudgeSettingsError("judge: budget_usd needs max_tokens, which bounds what a request can cost")
        limits = Limits(
            requests_per_min, tokens_per_min, max_in_flight, budget_usd, max_failed_share, failure_window, cooldown_s
        )
        self.max_candidate_chars = max_candidate_chars
        # What decides about a verdict besides the texts. The endpoint's address does not: the same model may move.
        more = dict(extra_body or {})
        self.asks = [model, self._prompt.version, self._prompt.digest, temperature, max_tokens, more]
        self.counters: Counter[str] = Counter()
        self.usage = Usage()
        self._lock = threading.Lock()
        self._endpoint = Endpoint(
            self.base_url,
            key,
            model,
            temperature=temperature,
            max_tokens=max_tokens,
            structured=structured,
            extra_body=extra_body,
            filter_codes=filter_codes,
        )
        self._cache = cache
        self._settings = settings
        self.store = open_store(store, max_mb)
        patience = Patience(timeout_s, deadline_s, queue_s, max_attempts, max_malformed_attempts, backoff_s)
        self._attempts = Attempts(self._endpoint, self._prompt, model, limits, patience, self._tariff, self._count)

    @classmethod
    def for_router(cls, address: str, model: str | None = None, **settings: Any) -> Judge:
        """A judge at verl's reward-model servers, which share the cluster with the policy.

        verl 0.9.1 (``reward.reward_model.enable=True``) starts OpenAI-compatible servers behind a small router and
        hands the router's address to the reward function as ``reward_router_address``. The router passes every path
        and header on to the least busy server. What that means here:

        - **Model name**: the servers answer to the path they were started with, which is
          ``reward.reward_model.model_path`` (for a remote path the local copy of it; with
          ``rollout.prometheus.served_model_name`` the last part of that name). Any other is refused, and comes as 500.
        - **Errors**: every status of a server that is not a success, 400 and 429 among them, leaves the router as a
          bare 500 without Retry-After, so all of them are `JudgeUnavailable` and tried again. That is why a JSON
          schema is asked for outright and not tried (``structured=True``): vLLM and SGLang both know it.
        - A server's reply that is no JSON comes as 200 with other fields, and is `JudgeUnavailable` too.
        - **Timeouts**: the router has none of its own and goes on when we hang up; only ``timeout_s`` ends a wait. To
          a server that refuses connections it goes three times, 2 s and 4 s apart, and then says 500.
        - It keeps at most 256 connections to a server and 1,024 in all; more requests wait in it, on ``timeout_s``.
        - A server that sleeps (colocated with the policy, not in a pool of its own) answers only while verl has woken
          it; verl itself scores after generation then.

        Args:
            address: ``host:port`` as verl gives it.
            model: the model's name, see above.
            settings: of `Judge`. The key is ``none`` and the price 0 unless given.
        """
        router = {"api_key": "none", "structured": True, "prompt_price": 0.0, "completion_price": 0.0}
        return cls(f"http://{address}/v1", model=model, **{**router, **settings})

    def __repr__(self) -> str:
        return f"Judge(base_url={self.base_url!r}, model={self.model!r})"

    @property
    def cost_usd(self) -> float:
        """Dollars spent by this judge so far, as far as the endpoint counted tokens; 0 without known prices."""
        return self._tariff.cost_usd(self.usage)

    async def score(self, prediction: str, reference: str, *, task: str, question: str | None = None) -> Judgement:
        """Judge how close ``prediction`` is to ``reference``.

        A prediction without a visible character is not sent: it gets 1 in every dimension. ``usage`` of the judgement
        is what this call spent: nothing where the verdict was known or another caller's.

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
        if find_attack(prediction):
            self._count({"attacks": 1})
        candidate = clean(prediction)[: self.max_candidate_chars]
        if not candidate:
            self._count({"judgements": 1, "blank": 1})
            return Judgement.lowest(self.name, Usage())
        texts = {"candidate": candidate, "reference": reference, "task": task, "question": question}
        if isinstance(self.store, RayStore):
            outcome = await self._asked_of_the_owner(self.store, texts)
        else:
            outcome = await self.verdict(texts)
        how = {outcome.how: 1} if outcome.how else {}
        if isinstance(outcome.result, JudgeError):
            self._count({f"failed/{type(outcome.result).__name__}": 1, **how})
            raise outcome.result
        self._count({"judgements": 1, **how})
        return Judgement(**outcome.result, judge=self.name, usage=outcome.usage)

    async def verdict(self, texts: Mapping[str, Any]) -> Outcome:
        """The outcome for cleaned texts (``candidate``, ``reference``, ``task``, ``question``) in the store's owner.

        Only what is asked of the endpoint is counted. No JudgeError is raised.
        """
        if not self._cache:
            return await self._attempts.ask(self._own_store, dict(texts))
        key = self._key_of(texts)
        if (kept := self._kept(key)) is not None:
            return kept
        while True:
            (outcome, judge), begun = await self._own_store.flights.share(key, lambda: self._kept_or_asked(key, texts))
            if not begun:
                return outcome
            if not isinstance(outcome.result, JudgeError):
                return Outcome(outcome.result, Usage(), outcome.how or SHARED)
            if judge is self:
                # Each caller raises an error of its own, and only the first one's tells what was spent.
                return Outcome(type(outcome.result)(str(outcome.result)), Usage(), SHARED)
            # Another judge failed, which may have less patience or another endpoint.

    @property
    def _own_store(self) -> Store:
        """The store, where this process owns it. Elsewhere the owner's judge looks verdicts up and asks."""
        assert not isinstance(self.store, RayStore)
        return self.store

    def _kept(self, key: str) -> Outcome | None:
        try:
            kept = self._own_store.get(key)
            if kept is None:
                return None
            outcome = Outcome(_checked(kept), Usage(), CACHED)
            self._attempts.answered = True
            return outcome
        except JudgeError as error:  # the store's own
            return Outcome(error, Usage())

    async def _kept_or_asked(self, key: str, texts: Mapping[str, Any]) -> tuple[Outcome, Judge]:
        if (kept := self._kept(key)) is not None:  # by another thread, meanwhile
            return kept, self
        outcome = await self._attempts.ask(self._own_store, dict(texts))
        if not isinstance(outcome.result, JudgeError):
            # A verdict that was paid for counts, kept or not: with a store that is broken nothing more is admitted.
            with contextlib.suppress(JudgeError):
                about = {"model": self.model, "prompt": self._prompt.version, "task": texts["task"]}
                self._own_store.put(key, outcome.result, about)
        return outcome, self

    async def _asked_of_the_owner(self, store: RayStore, texts: Mapping[str, Any]) -> Outcome:
        try:
            outcome = await store.verdict(Judge, self._settings, texts)
        except JudgeError as error:
            return Outcome(error, error.usage)
        usage = outcome.usage
        with self._lock:  # the store has counted it already
            self.counters += Counter(requests=usage.requests, retries=max(0, usage.requests - 1))
            self.usage += usage
        return outcome

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the judge stays usable."""
        await self._endpoint.aclose()

    def _key_of(self, texts: Mapping[str, Any]) -> str:
        question = clean(texts["question"] or "")
        asked = [*self.asks, texts["task"], question, texts["reference"], texts["candidate"]]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _count(self, counts: Mapping[str, int], usage: Usage | None = None, answered: bool | None = None) -> None:
        with self._lock:
            for name, number in counts.items():
                if number and not name.endswith("_tokens"):
                    self.counters[LOCAL_NAMES.get(name, name.removeprefix("failed/"))] += number
            if usage:
                self.usage += usage
        self.store.count(self.model, counts, *[] if answered is None else [answered])


def _checked(verdict: Mapping[str, Any]) -> dict[str, int]:
    """The scores of a kept verdict; JudgeUnavailable for one that we would not have kept."""
    scores = {name: verdict.get(name, 0) for name in DIMENSIONS}
    if not all(type(score) is int and LOWEST <= score <= HIGHEST for score in scores.values()):
        raise JudgeUnavailable("judge: the store holds a verdict that is none of ours")
    return scores


def _more_than_0(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise JudgeSettingsError(f"judge: {name} is {value!r}: expected more than 0")


def _prices(model: str, prompt: float | None, completion: float | None) -> tuple[float, float] | None:
    if prompt is None and completion is None:
        return price_of(model)
    prices = []
    for name, price in (("prompt_price", prompt), ("completion_price", completion)):
        if price is None or not price >= 0:
            raise JudgeSettingsError(
                f"judge: {name} is {price!r}: expected dollars per million tokens, as of the other"
            )
        prices.append(float(price))
    return prices[0], prices[1]
