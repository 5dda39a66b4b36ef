# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Getting the answers that are missing, batch by batch, in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.medgrpo.data.dataset import chat_of
from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.inference.answer_log import Key
from recipes.medgrpo.inference.budgets import budget_of
from recipes.medgrpo.inference.jobs import Engine, Failure, InferenceError, Job, Reply
from recipes.medgrpo.inference.one_shot import Examples
from recipes.medgrpo.inference.scored_samples import about_row, row_seed
from recipes.medgrpo.terminal import progress


@dataclass(frozen=True)
class Work:
    """What of a command line makes the prompts: the rows, the budgets by task, the seed, and the solved examples."""

    rows: Rows
    budgets: dict[str, int]
    seed: int
    examples: Examples | None = None

    def job(self, row: dict, key: Key) -> Job:
        """The job of a row and a sample. Raises `DataError` where the row has no prompt."""
        place, sample = key
        extra = row["extra_info"]
        return Job(
            place,
            sample,
            chat_of(row) if self.examples is None else self.examples.messages(row),
            budget_of(row, self.budgets),
            row_seed(self.seed, extra["index"], sample, extra.get("file")),
            row["ability"],
            extra.get("model_family") or "",
        )


def record_of(row: dict, key: Key, reply: Reply) -> dict[str, Any]:
    """The line of an answer."""
    record = {"place": key[0], **about_row(row), "sample": key[1], "answer": reply.text, "truncated": reply.truncated}
    more = {"tokens": reply.tokens, "images": reply.images}
    return record | {name: value for name, value in more.items() if value is not None}


def answer(
    engine: Engine,
    work: Work,
    keys: Sequence[Key],
    part: Path,
    header: dict,
    *,
    batch: int | None = None,
    label: str = "",
    go_on: Callable[[], bool] = lambda: True,
) -> list[tuple[Key, str]]:
    """Asks for the answers `keys`, writes each to `part` behind `header`, and returns what failed, with the reason.

    `go_on` is asked before `part` is opened and before every batch.

    Raises:
        InferenceError: the engine cannot start or go on, or a whole batch failed, and not of the rows themselves.
    """
    size = batch or engine.batch
    failed: list[tuple[Key, str]] = []
    if not go_on():
        # What is in `part` may be another run's by now.
        return failed
    with (
        open(part, "w", encoding="utf-8") as file,
        progress(len(keys), "answer", label) as bar,
        engine,
    ):
        file.write(json.dumps({"header": header}) + "\n")
        for start in range(0, len(keys), size):
            if not go_on():
                break
            asked = keys[start : start + size]
            rows = {place: work.rows.row(place) for place in {place for place, _ in asked}}
            replies = engine.answers([work.job(rows[key[0]], key) for key in asked])
            for key, reply in zip(asked, replies, strict=True):
                if isinstance(reply, Failure):
                    failed.append((key, reply.reason))
                else:
                    file.write(json.dumps(record_of(rows[key[0]], key, reply), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            bar.update(len(asked))
            if len(replies) > 1 and all(isinstance(reply, Failure) and not reply.of_row for reply in replies):
                raise InferenceError(f"a whole batch without an answer, the last: {replies[-1].reason}")
    for note in engine.notes():
        print(f"{label}: {note}")
    return failed
