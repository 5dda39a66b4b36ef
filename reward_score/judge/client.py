# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A judge behind an OpenAI-compatible endpoint: a hosted model, a local one under ``vllm serve``, or verl's own.

Every pair is judged once: the store keeps what was judged, and who asks for what is being judged waits for it. A
failure is never kept. The owner of a store asks the endpoint for all who share it.

One `Judge` may be used from several event loops and threads. The key appears in no ``repr``, message, log, store or
exception of ours: exceptions of the client library, which hold the request, are not chained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..errors import BadGroundTruth
from .attempts import Attempts, Outcome
from .bribery import find_attack
from .errors import JudgeError, JudgeSettingsError, JudgeUnavailable
from .judgement import DIMENSIONS, HIGHEST, LOWEST, Judgement, Usage
from .options import Options
from .prompting import clean, load_prompt
from .store import MAX_MB, RayStore, Store, open_store

CACHED, SHARED = "cache_hits", "shared"
"""Counters of verdicts that were kept before, and that somebody else was about to give."""
LOCAL_NAMES = {"calls": "requests"}
"""Counters of the store whose names in `Judge.counters` are others."""


class Judge:
    """Comparative five-dimension judge on an OpenAI-compatible chat endpoint.

    Args:
        base_url, api_key, model: see `Options`.
        store: a folder for verdicts, budget and counters, which one process at a time has; all tasks and actors of a
            Ray cluster share it, and its limits. None: nothing is shared or kept.
        max_mb: megabytes of verdicts in the store; above, those go that were not used for longest.
        options: of `Options`.

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
        store: str | None = None,
        max_mb: float = MAX_MB,
        **options: Any,
    ) -> None:
        self._options = Options(base_url=base_url or "", api_key=api_key, model=model or "", **options)
        try:
            self._prompt = load_prompt(self._options.prompt)
        except (ValueError, OSError) as error:
            raise JudgeSettingsError(f"judge: prompt: {error}") from None
        self._attempts = Attempts(self._options, self._prompt, self._count)
        self.base_url, self.model = self._options.base_url, self._options.model
        self.name = f"{self.model}/{self._prompt.version}"
        self.price_known = self._options.prices is not None
        # What decides about a verdict besides the texts. The endpoint's address does not: the same model may move.
        how = [self._options.temperature, self._options.max_tokens, dict(self._options.extra_body or {})]
        self.asks = [self.model, self._prompt.version, self._prompt.digest, *how]
        self.counters: Counter[str] = Counter()
        self.usage = Usage()
        self._lock = threading.Lock()
        self.store = open_store(store, max_mb)

    @classmethod
    def for_router(cls, address: str, model: str | None = None, **settings: Any) -> Judge:
        """A judge at verl's reward-model servers, which share the cluster with the policy.

        verl 0.9.1 (``reward.reward_model.enable=True``) starts OpenAI-compatible servers behind a small router and
        hands the router's address to the reward function as ``reward_router_address``. docs/judge.md says what the
        router does with names, errors and timeouts. A JSON schema is asked for outright and not tried
        (``structured=True``), because a rejected one would come as an error 500; vLLM and SGLang both know it.

        Args:
            address: ``host:port`` as verl gives it.
            model: the path that the servers were started with, ``reward.reward_model.model_path``.
            settings: of `Judge`. The key is ``none`` and the price 0 unless given.
        """
        router = {"api_key": "none", "structured": True, "prompt_price": 0.0, "completion_price": 0.0}
        return cls(f"http://{address}/v1", model=model, **{**router, **settings})

    def __repr__(self) -> str:
        return f"Judge(base_url={self.base_url!r}, model={self.model!r})"

    @property
    def cost_usd(self) -> float:
        """Dollars spent by this judge so far, as far as the endpoint counted tokens; 0 without known prices."""
        return self._options.cost_usd(self.usage)

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
        candidate = clean(prediction)[: self._options.max_candidate_chars]
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
        store = self.store
        assert isinstance(store, Store)
        if not self._options.cache:
            return await self._attempts.ask(store, dict(texts))
        key = self._key_of(texts)
        while (kept := self._kept(store, key)) is None:
            (outcome, judge), begun = await store.flights.share(key, lambda: self._kept_or_asked(store, key, texts))
            if not begun:
                return outcome
            if not isinstance(outcome.result, JudgeError):
                return Outcome(outcome.result, Usage(), outcome.how or SHARED)
            if judge is self:
                # Each caller raises an error of its own, and only the first one's tells what was spent.
                return Outcome(type(outcome.result)(str(outcome.result)), Usage(), SHARED)
            # Another judge failed, which may have less patience or another endpoint.
        return kept

    def _kept(self, store: Store, key: str) -> Outcome | None:
        try:
            kept = store.get(key)
        except JudgeError as error:
            return Outcome(error, Usage())
        if kept is None:
            return None
        scores: dict[str, Any] = {name: kept.get(name) for name in DIMENSIONS}
        if not all(type(score) is int and LOWEST <= score <= HIGHEST for score in scores.values()):
            return Outcome(JudgeUnavailable("judge: the store holds a verdict that is none of ours"), Usage())
        self._attempts.answered = True
        return Outcome(scores, Usage(), CACHED)

    async def _kept_or_asked(self, store: Store, key: str, texts: Mapping[str, Any]) -> tuple[Outcome, Judge]:
        if (kept := self._kept(store, key)) is not None:  # by another thread, meanwhile
            return kept, self
        outcome = await self._attempts.ask(store, dict(texts))
        if not isinstance(outcome.result, JudgeError):
            # A verdict that was paid for counts, kept or not: with a store that is broken nothing more is admitted.
            with contextlib.suppress(JudgeError):
                about = {"model": self.model, "prompt": self._prompt.version, "task": texts["task"]}
                store.put(key, outcome.result, about)
        return outcome, self

    async def _asked_of_the_owner(self, store: RayStore, texts: Mapping[str, Any]) -> Outcome:
        try:
            outcome = await store.verdict(Judge, asdict(self._options), texts)
        except JudgeError as error:
            return Outcome(error, error.usage)
        usage = outcome.usage
        with self._lock:  # the store has counted it already
            self.counters += Counter(requests=usage.requests, retries=max(0, usage.requests - 1))
            self.usage += usage
        return outcome

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the judge stays usable."""
        await self._attempts.endpoint.aclose()

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
