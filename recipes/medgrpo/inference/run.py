# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Getting the answers that are missing, batch by batch, in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipes.medgrpo.data.dataset import chat_of
from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.inference.answer_log import AnswerLog, Key
from recipes.medgrpo.inference.budgets import budget_of
from recipes.medgrpo.inference.jobs import Engine, Failure, InferenceError, Job, Reply, with_clips
from recipes.medgrpo.inference.one_shot import Examples
from recipes.medgrpo.terminal import progress


def row_seed(seed: int, index: int, sample: int, file: str | None = None) -> int:
    """The seed of one answer: the same row and sample number draw the same numbers from any checkpoint.

    `file` is the annotation file that `index` counts in: two files number their rows alike.
    """
    words = [seed, index, sample]
    if file:
        words.append(int.from_bytes(hashlib.blake2b(file.encode(), digest_size=8).digest(), "big"))
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class Work:
    """What of a command line makes the prompts: the rows, the budgets by task, the seed, and the solved examples."""

    rows: Rows
    budgets: Mapping[str, int]
    seed: int
    examples: Examples | None = None

    def job(self, row: dict, key: Key) -> Job:
        """The job of a row and a sample. Raises `DataError` where the row has no prompt."""
        place, sample = key
        extra = row["extra_info"]
        return Job(
            place,
            sample,
            row,
            chat_of(row) if self.examples is None else self.examples.messages(row),
            budget_of(row, self.budgets),
            row_seed(self.seed, extra["index"], sample, extra.get("file")),
        )


def record_of(row: dict, key: Key, reply: Reply) -> dict[str, Any]:
    """The line of an answer: which row it answers, and what the model said."""
    extra = row["extra_info"]
    record = {"place": key[0], **({"file": extra["file"]} if extra.get("file") else {}), "index": extra["index"]}
    record |= {"data_source": row["data_source"], "video": f"{extra['source']}/{extra.get('video_id')}"}
    if row["ability"] == "stg" and extra.get("model_family"):
        # With this the boxes can be brought back to the canvas without the parquet.
        record["box_space"] = {name: extra[name] for name in ("canvas", "processed_size", "model_family")}
    record |= {"sample": key[1], "answer": reply.text, "truncated": reply.truncated}
    more = {name: getattr(reply, name) for name in ("tokens", "images", "sampled", "expected")}
    return record | {name: value for name, value in more.items() if value is not None}


def answer(
    engine: Engine,
    work: Work,
    keys: Sequence[Key],
    log: AnswerLog,
    *,
    batch: int | None = None,
    label: str = "",
    go_on: Callable[[], bool] = lambda: True,
    score: Callable[[Mapping[int, dict], list[dict]], list[dict]] = lambda rows, records: records,
) -> list[tuple[Key, str]]:
    """Asks for those of the answers `keys` that `log` lacks, adds each to it, and returns what failed, with the reason.

    `go_on` is asked before the file is opened and before every batch. `score` gets the rows of a batch by place and its
    records, and returns the records as they are to be written.

    Raises:
        InferenceError: the engine cannot start or go on, or a whole batch failed, and not of the rows themselves.
    """
    size = batch or engine.batch
    failed: list[tuple[Key, str]] = []
    # A worker whose run is gone must not touch the file, which may be another run's by now.
    if not go_on() or not (keys := log.missing(keys)):
        return failed
    with log.adding() as add, progress(len(keys), "answer", label) as bar, engine:
        for start in range(0, len(keys), size):
            if not go_on():
                break
            asked = keys[start : start + size]
            rows = {place: work.rows.row(place) for place in {place for place, _ in asked}}
            replies: list = with_clips([work.job(rows[key[0]], key) for key in asked])
            ready = [at for at, job in enumerate(replies) if isinstance(job, Job)]
            for at, reply in zip(ready, engine.answers([replies[at] for at in ready]) if ready else (), strict=True):
                replies[at] = reply
            found = list(zip(asked, replies, strict=True))
            failed += [(key, reply.reason) for key, reply in found if isinstance(reply, Failure)]
            add(score(rows, [record_of(rows[key[0]], key, reply) for key, reply in found if isinstance(reply, Reply)]))
            bar.update(len(asked))
            if len(replies) > 1 and all(isinstance(reply, Failure) and not reply.of_row for reply in replies):
                raise InferenceError(f"a whole batch without an answer, the last: {replies[-1].reason}")
    for note in engine.notes():
        print(f"{label}: {note}")
    return failed
