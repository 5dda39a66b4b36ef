# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The engines that training samples with: transformers in this process, and verl's rollout servers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.data.dataset import check_shown
from recipes.medgrpo.files import model_fingerprint
from recipes.medgrpo.inference.jobs import Failure, InferenceError, Job, Reply
from recipes.medgrpo.rollout.standalone import RolloutError, RolloutServers
from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings, TransformersEngine


class LocalEngine:
    """What the engines that run a checkpoint on this machine share."""

    def __init__(self, model: str, temperature: float):
        self.model, self.temperature = model, temperature

    @property
    def identity(self) -> str:
        """sha256 of the checkpoint. Raises `InferenceError` where there is none."""
        try:
            return model_fingerprint(Path(self.model))
        except OSError as error:
            raise InferenceError(f"--model: {error}") from None

    def notes(self) -> list[str]:
        return []


class _Requests(LocalEngine):
    """Jobs as requests of `recipes.medgrpo.rollout.transformers_engine`, put to an engine that answers those."""

    engine: Any
    truncation: dict[str, Any] = {}

    def __exit__(self, *_: object) -> None:
        self.engine = None

    def answers(self, jobs: Sequence[Job]) -> list[Reply | Failure]:
        for job in jobs:
            check_shown(job.row, self.engine.processor)
        ids: dict[int, list[int]] = {}
        # An engine's call has one budget.
        by_budget: dict[int, list[int]] = defaultdict(list)
        for number, job in enumerate(jobs):
            by_budget[job.budget].append(number)
            if job.place not in ids:
                ids[job.place] = self.engine.prompt_ids(job.messages, job.clips)
        found: dict[int, Reply] = {}
        for budget, numbers in by_budget.items():
            settings = SamplingSettings(budget, self.temperature, **self.truncation)
            asked = [jobs[number] for number in numbers]
            requests = [Request(ids[job.place], job.clips, job.seed, key=str(job.place)) for job in asked]
            for number, answer in zip(numbers, self.engine.generate(requests, settings), strict=True):
                text = self.engine.processor.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
                found[number] = Reply(text, answer.truncated, len(answer.token_ids))
        return [found[number] for number in range(len(jobs))]


class InProcess(_Requests):
    """A transformers model in this process, on one device; float32 on CPU, bfloat16 elsewhere."""

    batch = 8

    def __init__(self, model: str, device: str, temperature: float):
        super().__init__(model, temperature)
        self.device = device
        self.described = {"name": "transformers", "dtype": "float32" if device == "cpu" else "bfloat16"}

    def __enter__(self) -> InProcess:
        try:
            self.engine = TransformersEngine.load(self.model, self.device)
        except (OSError, ValueError, RuntimeError) as error:
            raise InferenceError(f"--model {self.model}: {str(error).splitlines()[0]}") from error
        return self


class Rollout(_Requests):
    """The rollout servers of a training configuration (`recipes.medgrpo.rollout.standalone`)."""

    batch = 192

    def __init__(self, servers: RolloutServers, temperature: float):
        super().__init__(servers.model, temperature)
        self.servers, self.truncation = servers, servers.truncation
        self.described = {"name": "rollout", **servers.described}

    def __enter__(self) -> Rollout:
        self.engine = self.servers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__()
        self.servers.__exit__(*error)

    def answers(self, jobs: Sequence[Job]) -> list[Reply | Failure]:
        try:
            return super().answers(jobs)
        except RolloutError as error:
            raise InferenceError(str(error)) from error
