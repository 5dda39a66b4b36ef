# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sample a checkpoint on the rows of a parquet file and score the answers: the base of calibrate and evaluate.

One JSON line per answer: row, pair, video, sample, text, truncated, and everything that the reward computes from it.
A run that was interrupted goes on after the last complete batch. Answers that are there already are scored again when
the reward has changed since, without being sampled again.

`--engine transformers` samples in this process, on one device. `--engine rollout` starts the rollout servers that
training samples with (`servers.py`). Answers for the official tools are `generate`'s.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

if shutil.which("nvidia-smi") is None:
    # As the scripts say it: without a GPU, torchvision may only be importable through the CPU platform.
    os.environ.setdefault("VERL_PLATFORM", "cpu")

import recipes.medgrpo.plugin  # noqa: F401  isort: skip

import numpy as np

from recipes.medgrpo.data.positions import enabled
from recipes.medgrpo.data.schedule import choose_rows
from recipes.medgrpo.files import (
    code_fingerprint,
    data_fingerprint,
    model_fingerprint,
    read_json_lines,
    write_json_lines,
)
from recipes.medgrpo.reward_options import defining
from recipes.medgrpo.rollout.standalone import RolloutServers
from recipes.medgrpo.terminal import progress
from reward_score.medgrpo import score_many

ANSWER_KEYS = ("sample", "answer", "truncated")
"""What of a record is the model's, whatever the reward makes of it."""


def row_seed(seed: int, index: int, sample: int, file: str | None = None) -> int:
    """The seed of one answer: the same row and sample number draw the same numbers from any checkpoint.

    `file` is the annotation file that `index` counts in: two files number their rows alike.
    """
    words = [seed, index, sample]
    if file:
        words.append(int.from_bytes(hashlib.blake2b(file.encode(), digest_size=8).digest(), "big"))
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _batches(jobs: list, size: int) -> Iterator[list]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


def former_answers(output: Path, header: dict) -> tuple[list[dict], bool, bool]:
    """(records that a former run left for this model, data and sampling, all of them?, scored by this reward?)."""
    for file in (output, partial_of(output)):
        lines = read_json_lines(file)
        said = lines[0].get("header") if lines else None
        if isinstance(said, dict) and all(said.get(key) == header[key] for key in ("model", "data", "settings")):
            same = all(said.get(key) == header[key] for key in ("scoring", "code"))
            return lines[1:], file is output, same
    return [], False, True


def partial_of(output: Path) -> Path:
    """Where the answers of an unfinished run are."""
    return output.with_name(output.name + ".partial")


def former_name(file: Path) -> Path:
    """Where to put a file aside, a name that is free."""
    names = (file.with_name(f"{file.stem}.former{number or ''}{file.suffix}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def set_aside(file: Path) -> None:
    """Answers of another model, of other data or sampling cost hours too: they are renamed, not overwritten."""
    if len(read_json_lines(file)) > 1:
        former = former_name(file)
        file.replace(former)
        print(f"{file}: answers of another model, data or sampling, now in {former.name}")


def scored(table: Any, numbers: Sequence[int], answers: Sequence[dict], scoring: dict) -> list[dict]:
    """Records of answers (`sample`, `answer`, `truncated`) to the rows `numbers` of a table, with their scores."""
    rows = {number: table.row(number) for number in set(numbers)}
    scores = score_many(
        [
            (row["data_source"], answer["answer"], row["reward_model"]["ground_truth"], row["extra_info"])
            for row, answer in zip((rows[number] for number in numbers), answers, strict=True)
        ],
        **scoring,
    )
    return [
        {**about_row(rows[number]), **answer, **score}
        for number, answer, score in zip(numbers, answers, scores, strict=True)
    ]


def about_row(row: dict) -> dict:
    """What a record says of the row that it answers."""
    extra = row["extra_info"]
    about = {"file": extra["file"]} if extra.get("file") else {}
    about |= {
        "index": extra["index"],
        "data_source": row["data_source"],
        "video": f"{extra['source']}/{extra.get('video_id')}",
    }
    if row["ability"] == "stg" and extra.get("model_family"):
        # With this the boxes can be brought back to the canvas without the parquet.
        about["box_space"] = {key: extra[key] for key in ("canvas", "processed_size", "model_family")}
    return about


def sample_and_score(
    model: str,
    data: str,
    output: Path,
    *,
    samples: int,
    rows_per_pair: int | None = None,
    temperature: float = 1.0,
    max_new_tokens: int = 96,
    batch_size: int = 192,
    seed: int = 0,
    device: str = "cpu",
    tasks: list[str] | None = None,
    servers: RolloutServers | None = None,
    scoring: dict,
) -> list[dict]:
    """Answers with scores, in row order, written to `output`.

    What a former run left in `output` is kept: the answers when model, data and sampling are the same, their scores
    when the reward's code and settings are the same too. `scoring` is what `scoring.signal_settings` returns.
    With `servers` (of the same model, not running) the answers are theirs, and `device` is the servers' affair.
    """
    from recipes.medgrpo.data.dataset import chat_of, check_shown, read_rows
    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.inference.local_engines import loaded
    from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings

    # The first line of the file says what its answers are answers to, and what scored them.
    header = {
        "model": model_fingerprint(Path(model)),
        "data": data_fingerprint(Path(data)),
        "settings": {
            "samples": samples,
            "rows_per_pair": rows_per_pair,
            "temperature": temperature,
            "max_new_tokens": max_new_tokens,
            "seed": seed,
            "tasks": tasks,
            # Answers of this process's transformers are headed as they always were.
            **({} if servers is None else {"engine": servers.described}),
            **({} if enabled() else {"time_fix": False}),
        },
        "scoring": defining(scoring),
        "code": code_fingerprint(),
    }
    done, whole, same_reward = former_answers(output, header)
    if whole and same_reward:
        return done
    table = read_rows(data, tasks)
    jobs = [(row, k) for row in choose_rows(table.column("data_source"), rows_per_pair, seed) for k in range(samples)]
    partial = partial_of(output)
    if not same_reward:
        print(f"{output}: scored by another version of the reward; its {len(done)} answers are scored again")
        answers = [{key: record[key] for key in ANSWER_KEYS} for record in done]
        done = scored(table, [row for row, _ in jobs[: len(done)]], answers, scoring)
    partial.parent.mkdir(parents=True, exist_ok=True)
    if not done:
        set_aside(partial)
    write_json_lines(output if whole else partial, [{"header": header}, *done])
    if whole:
        return done
    settings = SamplingSettings(max_new_tokens, temperature, **({} if servers is None else servers.truncation))
    for line in [] if servers is None else servers.differences(settings):
        print(f"{output}: {line}")
    with (
        nullcontext(loaded(model, device)) if servers is None else servers as engine,
        open(partial, "a", encoding="utf-8") as file,
        progress(len(jobs), "answer", output.stem, done=len(done)) as bar,
    ):
        for batch in _batches(jobs[len(done) :], batch_size):
            prompts, seeds = {}, {}
            for number in {row for row, _ in batch}:
                row = table.row(number)
                messages = chat_of(row)
                check_shown(row, engine.processor)
                clips = clips_of(messages)
                prompts[number] = (engine.prompt_ids(messages, clips), clips)
                seeds[number] = row["extra_info"]["index"], row["extra_info"].get("file")
            requests = [Request(*prompts[n], row_seed(seed, seeds[n][0], k, seeds[n][1]), key=str(n)) for n, k in batch]
            decode = engine.processor.tokenizer.decode
            answers = [
                {"sample": k, "answer": decode(a.token_ids, skip_special_tokens=True), "truncated": a.truncated}
                for (_, k), a in zip(batch, engine.generate(requests, settings), strict=True)
            ]
            records = scored(table, [number for number, _ in batch], answers, scoring)
            file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)
            file.flush()
            done += records
            bar.update(len(batch))
    set_aside(output)
    partial.replace(output)
    return done
