# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The engines that training samples with: transformers in this process, and verl's rollout servers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.medgrpo.data.dataset import check_shown
from recipes.medgrpo.files import model_fingerprint
from recipes.medgrpo.inference.jobs import Failure, InferenceError, Job, Reply
from recipes.medgrpo.inference.ordinal import Marks
from recipes.medgrpo.rollout.standalone import RolloutError, RolloutServers
from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings, TransformersEngine


class LocalEngine:
    """What the engines that run a checkpoint on this machine share.

    Args:
        marks: where given, what puts expectations in the place of the marks of ordinal answers.
    """

    described: dict[str, Any]

    def __init__(self, model: str, temperature: float, marks: Marks | None = None):
        self.model, self.temperature, self.marks = model, temperature, marks

    def describe(self, **engine: Any) -> None:
        """Sets `described`; answers with other marks are other answers."""
        self.described = engine | ({"ordinal": "expectation"} if self.marks else {})

    @property
    def identity(self) -> str:
        """sha256 of the checkpoint. Raises `InferenceError` where there is none."""
        try:
            return model_fingerprint(Path(self.model))
        except OSError as error:
            raise InferenceError(f"--model: {error}") from None

    def notes(self) -> list[str]:
        return self.marks.notes() if self.marks else []

    def marks_of(self, job: Job) -> Marks | None:
        """The marks that a job's answer is made of, where expectations are wanted of it."""
        return self.marks if self.marks and self.marks.concerns(job.row["ability"]) else None

    def reply(self, job: Job, tokenizer: Any, ids: Sequence[int], cut: bool, watched: Sequence[Mapping]) -> Reply:
        """The answer in some token ids; `watched` has the log-probabilities by mark at each of their places."""
        text = tokenizer.decode(ids, skip_special_tokens=True)
        reply = Reply(text, cut, len(ids))
        if (marks := self.marks_of(job)) is None:
            return reply
        pieces = [tokenizer.decode([token], skip_special_tokens=True) for token in ids]
        return marks.settle(job.row["ability"], reply, pieces, watched)


class _Requests(LocalEngine):
    """Jobs as requests of `recipes.medgrpo.rollout.transformers_engine`, put to an engine that answers those."""

    engine: Any
    truncation: dict[str, Any] = {}

    def __exit__(self, *_: object) -> None:
        self.engine = None

    def answers(self, jobs: Sequence[Job]) -> list[Reply | Failure]:
        for job in jobs:
            check_shown(job.row, self.engine.processor)
        ids: dict[tuple[int, str], list[int]] = {}
        marks = self.marks.ids(self.engine.processor.tokenizer) if self.marks else {}
        # An engine's call has one budget.
        by_budget: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for number, job in enumerate(jobs):
            by_budget[job.budget, self.marks_of(job) is not None].append(number)
            if (job.place, job.prefix) not in ids:
                given = self.engine.processor.tokenizer.encode(job.prefix, add_special_tokens=False)
                ids[job.place, job.prefix] = self.engine.prompt_ids(job.messages, job.clips) + given
        found: dict[int, Reply] = {}
        for (budget, watches), numbers in by_budget.items():
            watched = tuple(marks) if watches else ()
            settings = SamplingSettings(budget, self.temperature, **self.truncation, watched=watched)
            asked = [jobs[number] for number in numbers]
            requests = [
                # Requests with one key share a prefill: every character of what is given counts.
                Request(
                    ids[job.place, job.prefix],
                    job.clips,
                    job.seed,
                    key=f"{job.place} {job.prefix!r}" if job.prefix else str(job.place),
                )
                for job in asked
            ]
            for number, answer in zip(numbers, self.engine.generate(requests, settings), strict=True):
                seen = [dict(zip(marks.values(), values, strict=True)) for values in answer.watched]
                tokenizer = self.engine.processor.tokenizer
                found[number] = self.reply(jobs[number], tokenizer, answer.token_ids, answer.truncated, seen)
        return [found[number] for number in range(len(jobs))]


class InProcess(_Requests):
    """A transformers model in this process, on one device; float32 on CPU, bfloat16 elsewhere."""

    batch = 8

    def __init__(self, model: str, device: str, temperature: float, marks: Marks | None = None):
        super().__init__(model, temperature, marks)
        self.device = device
        self.describe(name="transformers", dtype="float32" if device == "cpu" else "bfloat16")

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
        self.describe(name="rollout", **servers.described)

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
