# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The best constant answer to the rows of one task: candidates in, the one that truly scores best out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.blind_candidates import (
    Piece,
    Settings,
    box_candidates,
    draw,
    equal_grid,
    event_lists,
    span_lists,
)
from recipes.medgrpo.evaluation.training_rows import TrainingRow, asked_times
from reward_score.answers import (
    ASPECTS,
    CVS_COMPONENTS,
    MAX_CHARS,
    Event,
    render_cvs,
    render_dvc,
    render_sa,
    render_stg,
    render_tal,
)
from reward_score.leaderboard import score_record
from reward_score.leaderboard.actions import Encoder, classes_of, needs_peers, restructure
from reward_score.leaderboard.spans import THRESHOLDS
from reward_score.medgrpo import score_many
from reward_score.vocabularies import fold_label

SURE = "event"
"""The caption of events while their times are being chosen; no score of times looks at it."""


@dataclass(frozen=True)
class Plan:
    """A constant answer: a text, pieces of the clip (with a caption: events), or a box."""

    text: str = ""
    pieces: tuple[Piece, ...] = ()
    caption: str = ""
    box: tuple[float, ...] = ()

    def answer(self, mode: str, seconds: float, times: Sequence[float]) -> str:
        """The answer's text for a clip of that length, boxes at those times."""
        if self.box:
            # The leaderboard looks times up rounded to one decimal.
            asked = [round(time, 1) for time in times] if mode == "leaderboard" else times
            return render_stg(dict.fromkeys(asked or [0.0], self.box))
        if not self.pieces:
            return self.text
        spans = [piece.at(seconds) for piece in self.pieces]
        if not self.caption:
            return render_tal(spans)
        return render_dvc(Event(*span, self.caption) for span in spans)

    def describe(self) -> dict[str, Any]:
        """What it says, as JSON."""
        found: dict[str, Any] = {"text": self.text, "caption": self.caption, "box": list(self.box)}
        found["spans"] = [
            {"start": p.start, "end": p.end, "of": "the clip's length" if p.of_clip else "seconds"} for p in self.pieces
        ]
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True)
class Learnt:
    """What was learnt of a pair.

    `seconds` is the median clip length of its rows, for clips whose length is not known. `score` is the mean on the
    training rows, in the mode's own terms (tal on the leaderboard: mean of both columns; captions: mean cosine to the
    others); the choice was made there, so it flatters a little. `others` are scores of other answers, by name.
    """

    plan: Plan
    rows: int
    seconds: float
    score: float
    others: Mapping[str, float] = field(default_factory=dict)


def learn_pair(rows: Sequence[TrainingRow], mode: str, settings: Settings, encoder: Encoder | None) -> Learnt:
    """The best constant answer to rows of one task."""
    task, count = rows[0].task, len(rows)
    seconds = median([row.seconds for row in rows if row.seconds] or [60.0])
    sample = draw(rows, settings.rows, settings.seed)
    others: dict[str, float] = {}
    if task in ("vs", "rc"):
        text, score = _medoid([row.ground["text"] for row in rows], settings, encoder)
        return Learnt(Plan(text=text), count, seconds, score)
    if task == "nap":
        label, share = _commonest_label(rows, mode)
        return Learnt(Plan(text=label), count, seconds, share)
    if task in ("cvs", "sa"):
        plans = [Plan(text=_commonest_scores(rows, task))]
    elif task == "stg":
        plans = [Plan(box=box) for box in box_candidates(rows, settings)]
    elif task == "tal":
        plans = [Plan(pieces=pieces) for pieces in span_lists(sample, seconds, mode, settings)]
        single = _best([plan for plan in plans if len(plan.pieces) == 1], sample, mode, seconds, settings)
        others["one_span"] = single[1]
        if mode == "leaderboard":
            others["flood_of_spans"] = _mean_score(Plan(pieces=tuple(equal_grid(20))), sample, mode, seconds)
    else:
        plans = [Plan(pieces=pieces, caption=SURE) for pieces in event_lists(rows, settings)]
    plan, score = _best(plans, sample, mode, seconds, settings)
    if task == "dvc":
        captions = [event["caption"] for row in rows for event in row.ground["events"]]
        plan = Plan(pieces=plan.pieces, caption=_medoid(captions, settings, encoder)[0])
    return Learnt(plan, count, seconds, score, others)


def _best(
    plans: Sequence[Plan], rows: Sequence[TrainingRow], mode: str, seconds: float, settings: Settings
) -> tuple[Plan, float]:
    """The plan that scores best on the rows, the first of equals; many are first thinned out on a part of the rows."""
    if len(plans) > settings.finalists:
        trial = rows[: settings.trial_rows]
        scores = [_mean_score(plan, trial, mode, seconds) for plan in plans]
        order = sorted(range(len(plans)), key=lambda i: -scores[i])[: settings.finalists]
        plans = [plans[i] for i in sorted(order)]
    scores = [_mean_score(plan, rows, mode, seconds) for plan in plans]
    at = max(range(len(plans)), key=scores.__getitem__)
    return plans[at], scores[at]


def _mean_score(plan: Plan, rows: Sequence[TrainingRow], mode: str, seconds: float) -> float:
    """Mean score of a plan's answers to training rows, by the mode's own scoring of their text."""
    answers = [
        plan.answer(mode, row.seconds or seconds, asked_times(row.question, row.ground) if plan.box else ())
        for row in rows
    ]
    if mode == "leaderboard":
        values = [_official(row, answer) for row, answer in zip(rows, answers, strict=True)]
        return fmean([value for value in values if value is not None] or [0.0])
    scored = score_many(
        (
            (row.data_source, answer, row.ground_truth, {"sample_interval": row.interval})
            for row, answer in zip(rows, answers, strict=True)
        ),
        judge=None,
    )
    return fmean(result["acc"] for result in scored)


_COLUMN_OF: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "tal": lambda numbers: fmean(numbers[f"meanIoU@{threshold}"] for threshold in THRESHOLDS),
    "stg": lambda numbers: numbers["mean_iou"],
    "dvc": lambda numbers: numbers["F1_Score"],
    "cvs": lambda numbers: fmean(numbers["per_component"].values() or [0]),
    "sa": lambda numbers: fmean(numbers["per_aspect"].values() or [0]),
}


def _official(row: TrainingRow, answer: str) -> float | None:
    """What a record adds to its column, None where it is left out."""
    return _COLUMN_OF[row.task](score_record(row.record(answer)))


def _commonest(values: Iterable[Any]) -> Any:
    """The commonest value, of equally common ones the first in order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _commonest_label(rows: Sequence[TrainingRow], mode: str) -> tuple[str, float]:
    """The commonest label in the mode's sense of the same label, and its share of the rows that count."""
    if mode == "strict":
        spelt = {}
        for row in rows:
            spelt.setdefault(fold_label(row.ground["label"], row.source), []).append(row.ground["label"].strip())
        folded = _commonest(fold_label(row.ground["label"], row.source) for row in rows)
        return _commonest(spelt[folded]), len(spelt[folded]) / len(rows)
    questions = [restructure(row.record("")) for row in rows]
    # Where the classes come from the file, every label is one; elsewhere other labels leave the column.
    golds = [q.gold for q in questions if (q.gold if needs_peers(q) else q.gold in classes_of(q, ()))]
    golds = golds or [q.gold for q in questions]
    label = _commonest(golds)
    return label, golds.count(label) / len(golds)


def _commonest_scores(rows: Sequence[TrainingRow], task: str) -> str:
    names, render = (CVS_COMPONENTS, render_cvs) if task == "cvs" else (ASPECTS, render_sa)
    return render({name: _commonest(row.ground["scores"][name] for row in rows) for name in names})


def _medoid(texts: Sequence[str], settings: Settings, encoder: Encoder | None) -> tuple[str, float]:
    """The text with the greatest mean cosine to the others of a sample, and that mean.

    The mean of a text's cosines is its product with the mean vector: linear in the number of texts. Without an encoder
    the commonest text and its share.
    """
    # Sorted first: the sample then depends on the texts and not on the order of the file.
    texts = sorted(" ".join(text.split())[:MAX_CHARS] for text in texts)
    if encoder is None:
        text = _commonest(texts)
        return text, texts.count(text) / len(texts)
    texts = draw(texts, settings.captions, settings.seed)
    if len(texts) == 1:
        return texts[0], 1.0
    vectors = np.asarray(encoder(texts), dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    means = (vectors @ vectors.sum(axis=0) - 1) / (len(texts) - 1)
    at = int(means.argmax())
    return texts[at], float(min(max(means[at], 0.0), 1.0))
