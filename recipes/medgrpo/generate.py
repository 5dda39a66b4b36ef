# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sample a checkpoint on the rows of a parquet file and score the answers; the base of calibrate and evaluate.

    python -m recipes.medgrpo.generate --model CHECKPOINT --data val.parquet --output answers.jsonl --samples 4

One JSON line per answer: row, pair, video, sample, text, truncated, and everything that the reward computes from it.
A run that was interrupted goes on after the last complete batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import recipes.medgrpo.plugin  # noqa: F401  isort: skip

import numpy as np
from tqdm import tqdm

from recipes.medgrpo.files import data_fingerprint, model_fingerprint, read_json_lines, write_json_lines
from recipes.medgrpo.schedule import choose_rows
from reward_score.medgrpo import score_many

# Whose opinion of a caption a file of scores or statistics holds: an answer is judged by one of these.
JUDGES = ("offline", "openai")


def signal_settings(judge: str = "offline", base_url: str | None = None, model: str | None = None) -> dict:
    """The reward settings that define a raw signal; calibration, evaluation and training must agree in them."""
    settings: dict = {"judge": judge, "dvc_captions": True}
    if judge == "openai":
        settings["judge_settings"] = {"base_url": base_url, "model": model}
    return settings


def judge_label(judge: str, model: str | None = None) -> str:
    """The judge's name in files: the lexical one says that it is no language model."""
    return "offline-lexical" if judge == "offline" else f"openai:{model}"


def row_seed(seed: int, index: int, sample: int, file: str | None = None) -> int:
    """The seed of one answer: the same row and sample number draw the same numbers from any checkpoint.

    `file` is the annotation file that `index` counts in: two files number their rows alike.
    """
    words = [seed, index, sample]
    if file:
        words.append(int.from_bytes(hashlib.blake2b(file.encode(), digest_size=8).digest(), "big"))
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _batches(jobs: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


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
    scoring: dict,
) -> list[dict]:
    """Answers with scores, in row order, written to `output`; what a former run left in `output` is kept.

    `scoring` is what `signal_settings` returns.
    """
    from recipes.medgrpo.dataset import chat_of, read_rows
    from recipes.medgrpo.engine import Request, SamplingSettings, TransformersEngine
    from recipes.medgrpo.video import clips_of

    # The first line of the file says what its answers are answers to.
    header = {
        "model": model_fingerprint(Path(model)),
        "data": data_fingerprint(Path(data)),
        "settings": [samples, rows_per_pair, temperature, max_new_tokens, seed, tasks, scoring],
    }
    done: list[dict] = []
    partial = output.with_name(output.name + ".partial")
    for file in (output, partial):
        lines = read_json_lines(file)
        if lines and lines[0].get("header") == header:
            done = lines[1:]
            if file is output:
                return done
            break
    table = read_rows(data, tasks)
    engine = TransformersEngine.load(model, device)
    jobs = [(row, k) for row in choose_rows(table.column("data_source"), rows_per_pair, seed) for k in range(samples)]
    settings = SamplingSettings(max_new_tokens, temperature)
    partial.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(partial, [{"header": header}, *done])
    with (
        open(partial, "a", encoding="utf-8") as file,
        tqdm(total=len(jobs), initial=len(done), unit="answer", desc=output.stem, mininterval=2) as progress,
    ):
        for batch in _batches(jobs[len(done) :], batch_size):
            rows = {number: table.row(number) for number in {row for row, _ in batch}}
            prompts = {}
            for number, row in rows.items():
                messages = chat_of(row)
                clips = clips_of(messages)
                prompts[number] = (engine.prompt_ids(messages, clips), clips)
            extra = {number: row["extra_info"] for number, row in rows.items()}
            requests = [
                Request(*prompts[n], row_seed(seed, extra[n]["index"], k, extra[n].get("file")), key=str(n))
                for n, k in batch
            ]
            answers = engine.generate(requests, settings)
            texts = [engine.processor.tokenizer.decode(a.token_ids, skip_special_tokens=True) for a in answers]
            scores = score_many(
                [
                    (row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])
                    for text, row in zip(texts, (rows[n] for n, _ in batch), strict=True)
                ],
                **scoring,
            )
            for (number, k), text, answer, score in zip(batch, texts, answers, scores, strict=True):
                row = rows[number]
                record = {
                    **({"file": row["extra_info"]["file"]} if row["extra_info"].get("file") else {}),
                    "index": row["extra_info"]["index"],
                    "data_source": row["data_source"],
                    "video": f"{row['extra_info']['source']}/{row['extra_info'].get('video_id')}",
                    "sample": k,
                    "answer": text,
                    "truncated": answer.truncated,
                    **score,
                }
                done.append(record)
                file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            progress.update(len(batch))
    partial.replace(output)
    return done


def add_arguments(parser: argparse.ArgumentParser, samples: int) -> None:
    parser.add_argument("--model", required=True, help="checkpoint folder in HF format")
    parser.add_argument("--data", required=True, help="parquet file of the preprocessor")
    parser.add_argument("--samples", type=int, default=samples, help="answers per row")
    parser.add_argument("--rows-per-pair", type=int, help="at most this many rows of every pair; default all")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=192)
    parser.add_argument("--tasks", nargs="+", help="only these tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--judge", choices=JUDGES, default="offline", help="of captions; the training's judge")
    parser.add_argument(
        "--judge-base-url", help="of the OpenAI-compatible endpoint; its key comes from the environment"
    )
    parser.add_argument("--judge-model", help="model name at that endpoint")


def options(args: argparse.Namespace) -> dict:
    names = ("samples", "rows_per_pair", "temperature", "max_new_tokens", "batch_size", "tasks", "seed", "device")
    scoring = signal_settings(args.judge, args.judge_base_url, args.judge_model)
    return {"scoring": scoring, **{name: getattr(args, name) for name in names}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, samples=1)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args(argv)
    records = sample_and_score(args.model, args.data, args.output, **options(args))
    print(f"{args.output}: {len(records)} answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
