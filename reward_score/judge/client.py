# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A judge behind an OpenAI-compatible endpoint: a hosted model, a local one under ``vllm serve``, or verl's own.

What is common to all paid calls is in `reward_score.paid_call`: every pair is judged once, within limits that hold for
all who share a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import BadGroundTruth
from ..paid_call import Caller, CallError, Chat, Usage
from ..paid_call.store import MAX_MB
from .bribery import find_attack
from .errors import JudgeError, JudgeSettingsError, judges_failures, of_judge
from .judgement import DIMENSIONS, HIGHEST, LOWEST, Judgement
from .options import Options
from .prompting import clean, load_prompt, messages, new_nonce, response_format
from .verdict import parse_verdict


class Judge(Caller):
    """Comparative five-dimension judge on an OpenAI-compatible chat endpoint.

    Args:
        base_url, api_key, model: see `Options`.
        store, max_mb: as in `Caller`.
        options: of `Options`.

    Attributes:
        name: model and prompt version, as in every `Judgement`.
        counters: those of `Caller`, with ``judgements`` (verdicts given), ``blank`` and ``attacks``.

    Raises:
        JudgeSettingsError: no key, no model, or a setting out of range.
    """

    GIVEN = "judgements"

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
        with judges_failures():
            given = Options(base_url=base_url or "", api_key=api_key, model=model or "", **options)
            try:
                self._prompt = load_prompt(given.prompt)
            except (ValueError, OSError) as error:
                raise JudgeSettingsError(f"judge: prompt: {error}") from None
            self._max_chars = given.max_candidate_chars
            self.name = f"{given.model}/{self._prompt.version}"
            how = [given.temperature, given.max_tokens, dict(given.extra_body or {})]
            asks = [given.model, self._prompt.version, self._prompt.digest, *how]
            super().__init__(given, asks=asks, schema=response_format(), store=store, max_mb=max_mb)

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
        candidate = clean(prediction)[: self._max_chars]
        if not candidate:
            self._count({self.GIVEN: 1, "blank": 1})
            return Judgement.lowest(self.name, Usage())
        texts = {"candidate": candidate, "reference": reference, "task": task, "question": question}
        scores, usage = await self.ask(texts)
        return Judgement(**scores, judge=self.name, usage=usage)

    def compose(self, question: Mapping[str, Any]) -> tuple[Chat, Callable[[str], dict[str, Any]]]:
        nonce = new_nonce()
        return messages(self._prompt, nonce=nonce, **question), partial(parse_verdict, nonce=nonce)

    def key_of(self, question: Mapping[str, Any]) -> list[Any]:
        return [question["task"], clean(question["question"] or ""), question["reference"], question["candidate"]]

    def topic(self, question: Mapping[str, Any]) -> dict[str, str]:
        return {"prompt": self._prompt.version, "task": question["task"]}

    def kept(self, reply: dict[str, Any]) -> dict[str, Any] | None:
        scores = {name: reply.get(name) for name in DIMENSIONS}
        return scores if all(type(score) is int and LOWEST <= score <= HIGHEST for score in scores.values()) else None

    def is_long(self, question: Mapping[str, Any]) -> bool:
        return len(question["candidate"]) > len(question["reference"])

    def failure(self, error: CallError) -> JudgeError:
        return of_judge(error)
