# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sample a checkpoint on the rows of a parquet file and score the answers: the base of calibrate and evaluate.

One JSON line per answer: which row it answers, the text, and everything that the reward computes from it. A run that
was interrupted goes on after the last complete batch. When only the reward has changed, the answers that are there are
scored again and not sampled again. Answers for the official tools are `generate`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.data.schedule import choose_rows
from recipes.medgrpo.files import code_fingerprint
from recipes.medgrpo.inference.answer_log import AnswerLog, Key, header_of
from recipes.medgrpo.inference.jobs import Engine, InferenceError
from recipes.medgrpo.inference.run import Work, answer
from recipes.medgrpo.judge_guard import check, count
from recipes.medgrpo.reward_options import defining
from reward_score.medgrpo import score_many
from reward_score.tasks import TASKS

ANSWERED = (
    *("place", "file", "index", "data_source", "video", "box_space"),
    *("sample", "answer", "truncated", "tokens", "images", "sampled", "expected"),
)
"""What of a record says which row it answers and what the model said. The rest is the reward's."""


FEWEST = 8
"""Fewer answers of a batch without a verdict are no reason to stop before the others are scored."""


def scored(rows: Mapping[int, dict], records: Sequence[Mapping], scoring: dict) -> list[dict]:
    """The records of some answers with their scores, in place of the scores that they had; `rows` by place.

    Raises:
        JudgeFailed: the judge refused or garbled too many.
    """
    answered = [(rows[record["place"]], record["answer"]) for record in records]
    scores = score_many(
        [(row["data_source"], said, row["reward_model"]["ground_truth"], row["extra_info"]) for row, said in answered],
        **scoring,
    )
    check(count(scores), fewest=FEWEST)
    kept = [{name: record[name] for name in ANSWERED if name in record} for record in records]
    return [record | score for record, score in zip(kept, scores, strict=True)]


def get_scored(
    engine: Engine,
    work: Work,
    keys: Sequence[Key],
    log: AnswerLog,
    score: Callable[[Mapping[int, dict], Sequence[Mapping]], list[dict]],
    batch: int | None = None,
) -> list[dict]:
    """The answers `keys` with their scores, from the log's file where they are there, else from the engine.

    `score` gets rows by place and records, and returns the records as they are written. Answers that were scored in
    another way, or not by their judge, are scored again and not sampled again.

    Raises:
        InferenceError: the engine cannot start or go on, or some rows got no answer; those that did are kept.
        JudgeFailed: the judge refused or garbled too many; the answers that were scored before are kept.
    """
    failed = []
    with log.locked():
        if log.partial.exists():  # of a run that its judge may have stopped
            log.other_scores |= {key for key, record in log.known.items() if record.get("unjudged")}
        if log.other_scores:
            print(
                f"{log.output}: scored by another version of the reward, or not by its judge; {len(log.other_scores)} "
                "answers are scored again"
            )
            old = [log.known[key] for key in sorted(log.other_scores)]
            again = {place: work.rows.row(place) for place, _ in log.other_scores}
            log.known |= zip(sorted(log.other_scores), score(again, old), strict=True)
        if log.missing(keys):
            log.begin()
            failed = answer(engine, work, keys, log, batch=batch, label=log.output.stem, score=score)
        if not failed:
            check(count(log.known.values()))
            log.finish()
    if failed:
        raise InferenceError(
            f"{log.output}: {len(failed)} of {len(keys)} answers are missing, the first: {failed[0][1]}"
        )
    return [log.known[key] for key in keys]


def sample_and_score(
    data: str,
    output: Path,
    *,
    engine: Engine,
    samples: int,
    rows_per_pair: int | None = None,
    max_new_tokens: int = 96,
    batch_size: int = 192,
    seed: int = 0,
    tasks: list[str] | None = None,
    scoring: dict,
) -> list[dict]:
    """Answers with scores, in row order, written to `output`.

    What a former run left in `output` is kept: the answers when model, data and sampling are the same, their scores
    when the reward's code and settings are the same too. `scoring` is what `reward_options.signal_settings` returns.

    Raises:
        InferenceError: the engine cannot start or go on, or some rows got no answer; those that did are kept.
        JudgeFailed: the judge refused or garbled too many; the answers that were scored before are kept.
    """
    named = {"samples": samples, "rows_per_pair": rows_per_pair, "max_new_tokens": max_new_tokens}
    header = header_of(engine, data, {**named, "seed": seed, "tasks": tasks})
    log = AnswerLog(output, {**header, "scoring": defining(scoring), "code": code_fingerprint()})
    rows = Rows.open([data])
    asked = rows.within(tasks, None)
    chosen = asked.take(choose_rows(asked.column("data_source"), rows_per_pair, seed))
    keys = [(place, sample) for place in chosen.numbers for sample in range(samples)]
    work = Work(rows, dict.fromkeys(TASKS, max_new_tokens), seed)
    return get_scored(engine, work, keys, log, lambda rows, records: scored(rows, records, scoring), batch_size)
