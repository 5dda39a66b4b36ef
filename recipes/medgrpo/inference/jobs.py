# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What engines are asked and what they say, and the protocol that they share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

if shutil.which("nvidia-smi") is None:
    # As the scripts say it: without a GPU, torchvision may only be importable through the CPU platform.
    os.environ.setdefault("VERL_PLATFORM", "cpu")

import recipes.medgrpo.plugin  # noqa: F401  isort: skip  before anything imports transformers

from recipes.medgrpo.data.video import ClipCache, FrameReadError, Shown, clips_of
from recipes.medgrpo.files import RecipeError

WHOLE = ("stop", "length")
"""How an answer ends, in OpenAI's and vLLM's words: of itself, or at the token budget. All else is no answer."""


class InferenceError(RecipeError, RuntimeError):
    """A run that cannot start or go on; one line that says why."""


@dataclass(frozen=True)
class Job:
    """One answer to get.

    `place` is the row's number in its parquet, `row` the row, `messages` its chat in parts (`dataset.split_content`),
    `budget` the most tokens that the answer may take, `clips` what the chat shows, in order, see `with_clips`.
    `prefix` is how the answer begins: the reply is what comes after it. An endpoint cannot be given one.
    """

    place: int
    sample: int
    row: Mapping[str, Any]
    messages: list[dict]
    budget: int
    seed: int
    clips: Sequence[Shown] = ()
    prefix: str = ""


@dataclass(frozen=True)
class Reply:
    """An answer. `truncated`: the token budget cut it off. `images`: how many frames were shown, where not all were.

    With `--ordinal expectation` (`inference.ordinal`), `expected` has the expectation of each mark, and `sampled` the
    answer that the model wrote.
    """

    text: str
    truncated: bool
    tokens: int | None = None
    images: int | None = None
    sampled: str | None = None
    expected: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Failure:
    """No answer, and why, in one line. The row stays open. `of_row`: it tells nothing of how other rows will fare."""

    reason: str
    of_row: bool = False


class Engine(Protocol):
    """What `answers` is asked of, between `with` and its end.

    `batch` is how many jobs it likes at once, `temperature` that of sampling (0: greedy), `identity` names the model
    (JSON), `described` what else of the engine the answers depend on (JSON).
    """

    batch: int
    temperature: float
    described: dict[str, Any]

    @property
    def identity(self) -> Any: ...

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...

    def answers(self, jobs: Sequence[Job]) -> list[Reply | Failure]:
        """One for each job, in their order; each has its clips. Raises `InferenceError` for what concerns them all."""

    def notes(self) -> list[str]:
        """What is worth knowing at the end, a line each."""


def with_clips(jobs: Sequence[Job], threads: int = 8) -> list[Job | Failure]:
    """The jobs with their clips, each decoded once; a `Failure` in place of a job whose frames cannot be read."""
    cache = ClipCache(capacity=2 * len(jobs) + 1)

    def read(job: Job) -> Job | Failure:
        try:
            return replace(job, clips=clips_of(job.messages, cache))
        except FrameReadError as error:
            return Failure(str(error))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(read, jobs))
