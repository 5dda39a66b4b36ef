# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The best answer that can be given without looking at a frame: what a column is worth before anything was seen.

For each dataset-task pair one constant answer is learnt on the training rows. `constant_answers` lists a few candidates
a task, the mode's own scoring of their text on a sample of the rows decides among them, and the best
is kept. Where an answer is one text, and for the events of dense captioning, it is the text most like the others.
Leaderboard mode does not punish surplus spans, so there the best tal answer is a list.

    blind = learn(train, "strict")
    evaluation = score_strict(blind.answered(inputs.graded), scoring=...)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from recipes.medgrpo.answers.questions import problem
from recipes.medgrpo.evaluation.constant_answers import (
    CANDIDATES,
    FINALISTS,
    Constant,
    answer_texts,
    asked_times,
    commonest,
    some,
)
from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.strict import unscorable
from recipes.medgrpo.evaluation.truths import Truth, clip_seconds, each_truth
from reward_score.answers import MAX_CHARS
from reward_score.leaderboard.actions import Encoder, classes_of, real_encoder, restructure
from reward_score.leaderboard.contributions import read_parts
from reward_score.leaderboard.figures import columns_of
from reward_score.medgrpo import score_many
from reward_score.tasks import TASKS

SAMPLE = 200
"""Training rows of a pair on which candidates are scored; labels on all of them."""
TRIAL = 30
"""Rows on which many candidates are thinned out to `FINALISTS`."""
CAPTIONS = 100
"""Captions of a pair among which the one most like the others is found; each is embedded once."""


def _caption(texts: Sequence[str], encoder: Encoder | None) -> tuple[str, float]:
    """The text with the greatest mean cosine to the others of a sample, and that mean.

    The mean of a text's cosines is its product with the mean vector: linear in the number of texts. Without an encoder
    the commonest text and its share.
    """
    # Sorted first: the sample then depends on the texts and not on the order of the file.
    texts = sorted(" ".join(text.split())[:MAX_CHARS] for text in texts)
    if encoder is None:
        text = commonest(texts, 1)[0]
        return text, texts.count(text) / len(texts)
    texts = some(texts, CAPTIONS)
    if len(texts) == 1:
        return texts[0], 1.0
    vectors = np.asarray(encoder(texts), dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    means = (vectors @ vectors.sum(axis=0) - 1) / (len(texts) - 1)
    at = int(means.argmax())
    return texts[at], float(min(max(means[at], 0.0), 1.0))


@dataclass(frozen=True)
class Learnt:
    """What was learnt of a pair.

    `seconds` is the median clip length of its rows, for clips whose length is not known. `score` is the mean on the
    training rows, in the mode's own terms (tal on the leaderboard: mean of both columns; captions: mean cosine to the
    others). The choice was made there, so it flatters a little.
    """

    constant: Constant
    rows: int
    seconds: float
    score: float


def _learn_pair(rows: Sequence[Truth], mode: str, encoder: Encoder | None) -> Learnt:
    """The best constant answer to rows of one task."""
    task, seconds = rows[0].row.task, median([row.seconds for row in rows if row.seconds] or [60.0])
    if TASKS[task].text_alone:
        text, score = _caption([row.ground["text"] for row in rows], encoder)
        return Learnt(Constant(text), len(rows), seconds, score)
    constants = CANDIDATES.get(task, answer_texts)(rows)
    sample = rows if task == "nap" else some(rows, SAMPLE)  # labels are quick to compare

    def scored(constant: Constant, rows: Sequence[Truth]) -> float:
        return _mean_score(constant, rows, mode, seconds)

    if len(constants) > FINALISTS:
        first = sorted(constants, key=lambda constant: -scored(constant, sample[:TRIAL]))[:FINALISTS]
        constants = [constant for constant in constants if constant in first]
    scores = [scored(constant, sample) for constant in constants]
    best = max(range(len(constants)), key=scores.__getitem__)
    constant = constants[best]
    if task == "dvc":
        captions = [event["caption"] for row in rows for event in row.ground["events"]]
        constant = replace(constant, caption=_caption(captions, encoder)[0])
    return Learnt(constant, len(rows), seconds, scores[best])


def _mean_score(constant: Constant, rows: Sequence[Truth], mode: str, seconds: float) -> float:
    """Mean score of a constant's answers to training rows, by the mode's own scoring of their text."""
    answers = [
        constant.answer(
            mode, row.seconds or seconds, asked_times(row.extra["question"], row.ground) if constant.box else ()
        )
        for row in rows
    ]
    if mode == "leaderboard":
        records = [{**row.record, "answer": answer} for row, answer in zip(rows, answers, strict=True)]
        found = _same_labels(records) if rows[0].row.task == "nap" else columns_of(read_parts(records)).values()
        return fmean(found or [0.0])
    scored = score_many(
        [(row.data_source, answer, row.ground_truth, row.extra) for row, answer in zip(rows, answers, strict=True)],
        judge=None,
    )
    return fmean(result["acc"] for result in scored)


def _same_labels(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of each next action that the leaderboard counts, whether the answer is its label. No model is asked."""
    questions = [restructure(record) for record in records]
    # Where the classes come from the file, every label is one; elsewhere other labels leave the column.
    return [float(q.answer == q.gold) for q in questions if q.gold in classes_of(q, [q])]


@dataclass
class Blind:
    """The blind answers of a training set, for one mode. Made by `learn`."""

    mode: str
    train: str
    rows: list[Truth]
    skipped: Counter[str]
    pairs: dict[str, Learnt]
    unknown: Counter[str] = field(default_factory=Counter)

    def answer_to(self, graded: Graded) -> str | None:
        """The blind answer to an evaluated row; None where no training row has its pair.

        Of the row it looks at the clip's bounds, and for stg at the times that its question asks for.
        """
        learnt = self.pairs.get(graded.data_source)
        if learnt is None:
            self.unknown[graded.data_source] += 1
            return None
        _, source, task = graded.data_source.split("/")
        times = asked_times(graded.record.get("question"), _stated(graded)) if task == "stg" else []
        seconds = clip_seconds(source, graded.record.get("metadata")) or learnt.seconds
        return learnt.constant.answer(self.mode, seconds, times)

    def answered(self, rows: Iterable[Graded]) -> list[Graded]:
        """The evaluated rows with the blind answers in place of theirs, to be scored as those are.

        Rows whose pair has no training row are left out.
        """
        pairs = [(row, self.answer_to(row)) for row in rows]
        return [
            replace(row, answer=answer, record={**row.record, "answer": answer})
            for row, answer in pairs
            if answer is not None
        ]

    def describe(self) -> dict[str, Any]:
        """What was learnt, as JSON: by pair the answer, its score on the training rows and their number."""
        return {
            "mode": self.mode,
            "train": self.train,
            "rows": len(self.rows),
            "skipped": dict(self.skipped),
            "pairs": {
                name: {"answer": one.constant.describe(), "score_on_training": one.score, "rows": one.rows}
                for name, one in sorted(self.pairs.items())
            },
            "notes": [
                f"{pair}: no training row; {count} rows have no blind answer"
                for pair, count in sorted(self.unknown.items())
            ],
        }


def _stated(graded: Graded) -> Mapping[str, Any] | None:
    """Where the reference says what an stg question asks for: the annotation's structure, else the ground truth.

    Nothing but `start`, `end` and `stride` of it is looked at.
    """
    items = graded.record.get("struc_info")
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, Mapping) and "stride" in item:
            return item
    return json.loads(graded.ground_truth) if graded.ground_truth else None


def read_training_rows(path: Path) -> tuple[list[Truth], Counter[str]]:
    """The rows of a file that have a readable answer, and how many have none, by reason.

    Args:
        path: annotation JSON (list or lines, zipped or not), or the preprocessor's parquet.

    Raises:
        InputError: the file is unreadable, or no row of it has an answer.
    """
    skipped: Counter[str] = Counter()
    rows: list[Truth] = []
    for _, truth in each_truth(Path(path)):
        reason = truth if isinstance(truth, str) else truth.unscored or unscorable(truth)
        if isinstance(truth, Truth) and not reason:
            rows.append(truth)
        else:
            skipped[str(reason)[:120]] += 1
    if not rows:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in skipped.most_common(3)) or "no row"
        raise problem(path, None, "", "training rows with answers", reasons)
    return rows, skipped


def learn(train: Path, mode: str, *, captions: bool = True, encoder: Encoder | None = None) -> Blind:
    """The blind answers of a training file.

    Args:
        train: annotation JSON with answers, or the preprocessor's parquet.
        mode: ``leaderboard`` or ``strict``.
        captions: whether captions will be compared. If not (the leaderboard's columns without a judge), the commonest
            caption serves, and no model is needed.
        encoder: texts to vectors, for captions; None is the real model, loaded if there are captions.

    Raises:
        InputError: nothing can be learnt from the file.
        EmbeddingUnavailable: there are captions, and the model is not installed.
    """
    encoder = (encoder or (lambda texts: real_encoder()(texts))) if captions else None
    rows, skipped = read_training_rows(train)
    groups: dict[str, list[Truth]] = {}
    for row in rows:
        groups.setdefault(row.data_source, []).append(row)
    pairs = {pair: _learn_pair(members, mode, encoder) for pair, members in sorted(groups.items())}
    return Blind(mode, Path(train).name, rows, skipped, pairs)


def overlap(rows: Iterable[Truth], graded: Iterable[Graded]) -> int:
    """How many evaluated rows are about a video that a baseline has learnt from: such a baseline is too good."""
    videos = {row.video for row in rows}
    return sum(item.video in videos for item in graded)
