# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The best answer that can be given without looking at a frame: what a column is worth before anything was seen.

For each dataset-task pair one constant answer is learnt on the training rows. A task has a short list of candidates
(`CANDIDATES`), the mode's own scoring of their text on a sample of the rows decides among them, and the best is kept:

==========  ===========================================================================================
tal         the whole clip, the spans most like the others, lists of such spans, equal parts of the clip
stg         the boxes most like the others, and boxes of their quantiles, at the times that are asked for
dvc         equal parts of the clip, and training answers
nap         the commonest labels
cvs, sa     the commonest score of each component
vs, rc      the caption most like the others; so is the caption of each event of dvc
==========  ===========================================================================================

Spans are in clip seconds or in fractions of the clip, whose length stands in the row's metadata. Leaderboard mode does
not punish surplus spans, so there the best tal answer is a list.

    blind = learn(train, "strict")
    evaluation = score_strict(blind.answered(inputs.graded), scoring=...)
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.training_rows import TrainingRow, asked_times, clip_seconds, read_training_rows
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
from reward_score.leaderboard.actions import Encoder, classes_of, needs_peers, real_encoder, restructure
from reward_score.leaderboard.spans import THRESHOLDS
from reward_score.medgrpo import score_many

MODES = ("leaderboard", "strict")
SAMPLE = 200
"""Training rows of a pair on which candidates are scored; labels on all of them."""
TRIAL = 30
"""Rows on which many candidates are thinned out to `FINALISTS`."""
FINALISTS = 8
LOOKED_AT = 400
"""Spans, boxes or captions of a pair among which those most like the others are found."""
MOST_SPANS = 8
"""Spans of a tal answer. So many fit into the 128 tokens that an answer of this task gets."""
MOST_EVENTS = 20
TRAINING_ANSWERS = 50
"""dvc answers that are tried as they are, in fractions of the clip."""


@dataclass(frozen=True)
class Piece:
    """A span: clip seconds, or fractions of the clip's length where `of_clip`."""

    start: float
    end: float
    of_clip: bool = True

    def at(self, seconds: float) -> tuple[float, float]:
        """The span in seconds of a clip of that length."""
        return (self.start * seconds, self.end * seconds) if self.of_clip else (self.start, self.end)


@dataclass(frozen=True)
class Constant:
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


def _some(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, in random order, always the same ones."""
    return random.Random(0).sample(items, min(most, len(items)))


def _commonest(values: Iterable[Any], most: int) -> list[Any]:
    """The commonest values, of equally common ones the first in order."""
    counts = Counter(values)
    return sorted(counts, key=lambda value: (-counts[value], value))[:most]


def _most_alike(candidates: np.ndarray, pieces: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Candidates ordered by their mean IoU with the pieces, greatest first.

    Args:
        candidates, pieces: spans (n, 2) or boxes (n, 4), the lower bounds before the upper ones.
        weights: of each piece in the mean; None: all alike.
    """
    half = pieces.shape[1] // 2
    sizes, others = ((given[:, half:] - given[:, :half]).prod(axis=1) for given in (candidates, pieces))
    sides = np.minimum(candidates[:, None, half:], pieces[:, half:]) - np.maximum(
        candidates[:, None, :half], pieces[:, :half]
    )
    shared = np.maximum(sides, 0.0).prod(axis=2)
    ious = shared / np.maximum(sizes[:, None] + others - shared, 1e-9)
    return candidates[np.argsort(-np.average(ious, axis=1, weights=weights), kind="stable")]


def _parts(count: int) -> tuple[Piece, ...]:
    """The clip in equal parts."""
    return tuple(Piece(k / count, (k + 1) / count) for k in range(count))


def _spans(rows: Sequence[TrainingRow]) -> list[Constant]:
    """Single spans first, then lists: training spans in groups of like place or length, of each group one."""
    given = _some(
        [(row.seconds, *span) for row in rows for span in row.ground["spans"] if span[1] > span[0]], LOOKED_AT
    )
    fractions = [(start / seconds, end / seconds) for seconds, start, end in given if seconds]
    singles, lists = [_parts(1)], [_parts(count) for count in range(2, MOST_SPANS + 1)]
    for of_clip, bounds in ((True, fractions), (False, [span[1:] for span in given])):
        spans = np.array(bounds).reshape(-1, 2).round(4)
        orders = [spans[np.argsort(key, kind="stable")] for key in (spans.sum(axis=1), spans[:, 1] - spans[:, 0])]
        for count in range(1, MOST_SPANS + 1) if len(spans) else ():
            for ordered in orders:
                groups = [_most_alike(group, group) for group in np.array_split(ordered, count) if len(group)]
                pieces = dict.fromkeys(Piece(*group[0].tolist(), of_clip) for group in groups)
                singles += [(piece,) for piece in pieces]
                lists.append(tuple(pieces))
    return [Constant(pieces=pieces) for pieces in dict.fromkeys([*singles, *lists])]


def _boxes(rows: Sequence[TrainingRow]) -> list[Constant]:
    given = [(1 / len(row.ground["boxes"]), *box) for row in rows for box in row.ground["boxes"].values()]
    weights, boxes = np.split(np.array(_some(given, LOOKED_AT)), [1], axis=1)
    quantiles = np.array(list(product(*np.quantile(boxes, [0.1, 0.3, 0.5, 0.7, 0.9], axis=0).T)))
    best = _most_alike(np.concatenate([boxes, quantiles]).round(2), boxes, weights[:, 0])
    return [Constant(box=box) for box in list(dict.fromkeys(map(tuple, best.tolist())))[:FINALISTS]]


def _events(rows: Sequence[TrainingRow]) -> list[Constant]:
    lists = [_parts(count) for count in range(1, MOST_EVENTS + 1)]
    for row in _some([row for row in rows if row.seconds], TRAINING_ANSWERS):
        bounds = [(event["start"], event["end"]) for event in row.ground["events"][:MOST_EVENTS]]
        lists.append(tuple(Piece(*(round(bound / row.seconds, 4) for bound in pair)) for pair in bounds))
    # No score of times looks at the caption.
    return [Constant(pieces=pieces, caption="event") for pieces in dict.fromkeys(lists)]


def _scores(rows: Sequence[TrainingRow]) -> list[Constant]:
    names, render = (CVS_COMPONENTS, render_cvs) if rows[0].task == "cvs" else (ASPECTS, render_sa)
    return [Constant(render({name: _commonest((row.ground["scores"][name] for row in rows), 1)[0] for name in names}))]


def _labels(rows: Sequence[TrainingRow]) -> list[Constant]:
    return [Constant(text) for text in _commonest((row.ground["label"].strip() for row in rows), FINALISTS)]


CANDIDATES: dict[str, Callable[[Sequence[TrainingRow]], list[Constant]]] = {
    "tal": _spans,
    "stg": _boxes,
    "dvc": _events,
    "cvs": _scores,
    "sa": _scores,
    "nap": _labels,
}
"""By task: the constants that may score best, of equally good ones the first."""


def _caption(texts: Sequence[str], encoder: Encoder | None) -> tuple[str, float]:
    """The text with the greatest mean cosine to the others of a sample, and that mean.

    The mean of a text's cosines is its product with the mean vector: linear in the number of texts. Without an encoder
    the commonest text and its share.
    """
    # Sorted first: the sample then depends on the texts and not on the order of the file.
    texts = sorted(" ".join(text.split())[:MAX_CHARS] for text in texts)
    if encoder is None:
        text = _commonest(texts, 1)[0]
        return text, texts.count(text) / len(texts)
    texts = _some(texts, LOOKED_AT // 4)
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


def _learn_pair(rows: Sequence[TrainingRow], mode: str, encoder: Encoder | None) -> Learnt:
    """The best constant answer to rows of one task."""
    task, seconds = rows[0].task, median([row.seconds for row in rows if row.seconds] or [60.0])
    if task in ("vs", "rc"):
        text, score = _caption([row.ground["text"] for row in rows], encoder)
        return Learnt(Constant(text), len(rows), seconds, score)
    constants = CANDIDATES[task](rows)
    sample = rows if task == "nap" else _some(rows, SAMPLE)  # labels are quick to compare

    def scored(constant: Constant, rows: Sequence[TrainingRow]) -> float:
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


def _mean_score(constant: Constant, rows: Sequence[TrainingRow], mode: str, seconds: float) -> float:
    """Mean score of a constant's answers to training rows, by the mode's own scoring of their text."""
    answers = [
        constant.answer(
            mode, row.seconds or seconds, asked_times(row.extra["question"], row.ground) if constant.box else ()
        )
        for row in rows
    ]
    if mode == "leaderboard":
        values = [_official(row, answer) for row, answer in zip(rows, answers, strict=True)]
        return fmean([value for value in values if value is not None] or [0.0])
    scored = score_many(
        [(row.data_source, answer, row.ground_truth, row.extra) for row, answer in zip(rows, answers, strict=True)],
        judge=None,
    )
    return fmean(result["acc"] for result in scored)


def _official(row: TrainingRow, answer: str) -> float | None:
    """What a record adds to its column, None where it is left out."""
    record = {**row.record, "answer": answer}
    if row.task == "nap":
        question = restructure(record)
        # Where the classes come from the file, every label is one; elsewhere other labels leave the column.
        counts = needs_peers(question) or question.gold in classes_of(question, ())
        return float(question.answer == question.gold) if counts else None
    numbers = score_record(record)
    if row.task in ("cvs", "sa"):
        return fmean(numbers["per_component" if row.task == "cvs" else "per_aspect"].values() or [0])
    names = {"tal": [f"meanIoU@{threshold}" for threshold in THRESHOLDS], "stg": ["mean_iou"], "dvc": ["F1_Score"]}
    values = [numbers[name] for name in names[row.task]]
    return None if None in values else fmean(values)


@dataclass
class Blind:
    """The blind answers of a training set, for one mode. Made by `learn`."""

    mode: str
    train: str
    rows: list[TrainingRow]
    skipped: Counter[str]
    pairs: dict[str, Learnt]
    encoder: Encoder | None
    fallbacks: dict[str, Learnt] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)

    def answer(self, data_source: str, question: Any, metadata: Any, stated: Any = None) -> str | None:
        """The blind answer to a row; None where no training row has its task.

        Args:
            data_source: ``medvidbench/<source>/<task>``. A pair without training rows gets its task's best answer over
                all pairs, which `describe` says.
            question: the row's question; stg answers at the times that it asks for.
            metadata: of the row: the clip's bounds.
            stated: `start`, `end` and `stride` of an stg question, for one whose words do not say them. Nothing else
                of it is looked at.
        """
        learnt = self.pairs.get(data_source) or self._fallback(data_source)
        if learnt is None:
            return None
        _, source, task = data_source.split("/")
        times = asked_times(question, stated) if task == "stg" else []
        return learnt.constant.answer(self.mode, clip_seconds(source, metadata) or learnt.seconds, times)

    def answer_to(self, graded: Graded) -> str | None:
        """The blind answer to an evaluated row."""
        record = graded.record
        stated = _stated(graded) if graded.data_source.endswith("/stg") else None
        return self.answer(graded.data_source, record.get("question"), record.get("metadata"), stated)

    def answered(self, rows: Iterable[Graded]) -> list[Graded]:
        """The evaluated rows with the blind answers in place of theirs, to be scored as those are.

        Rows whose task has no training row are left out.
        """
        pairs = [(row, self.answer_to(row)) for row in rows]
        return [
            replace(row, answer=answer, record={**row.record, "answer": answer})
            for row, answer in pairs
            if answer is not None
        ]

    def _fallback(self, data_source: str) -> Learnt | None:
        task = data_source.split("/")[-1]
        self.unknown[data_source] += 1
        if task not in self.fallbacks and (rows := [row for row in self.rows if row.task == task]):
            self.fallbacks[task] = _learn_pair(rows, self.mode, self.encoder)
        return self.fallbacks.get(task)

    def describe(self) -> dict[str, Any]:
        """What was learnt, as JSON: by pair the answer, its score on the training rows and their number."""

        def entries(learnt: Mapping[str, Learnt]) -> dict[str, Any]:
            return {
                name: {"answer": one.constant.describe(), "score_on_training": one.score, "rows": one.rows}
                for name, one in sorted(learnt.items())
            }

        notes = [
            f"{pair}: no training row; {count} rows got the best answer of {task} over all pairs"
            if (task := pair.split("/")[-1]) in self.fallbacks
            else f"{pair}: no training row of the task; {count} rows have no blind answer"
            for pair, count in sorted(self.unknown.items())
        ]
        return {
            "mode": self.mode,
            "train": self.train,
            "rows": len(self.rows),
            "skipped": dict(self.skipped),
            "pairs": entries(self.pairs),
            "fallbacks": entries(self.fallbacks),
            "notes": notes,
        }


def _stated(graded: Graded) -> Mapping[str, Any] | None:
    """Where the reference says what an stg question asks for: the annotation's structure, else the ground truth."""
    items = graded.record.get("struc_info")
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, Mapping) and "stride" in item:
            return item
    return json.loads(graded.ground_truth) if graded.ground_truth else None


def learn(train: Path, mode: str, *, captions: bool = True, encoder: Encoder | None = None) -> Blind:
    """The blind answers of a training file.

    Args:
        train: annotation JSON with answers, or the preprocessor's parquet.
        mode: one of `MODES`.
        captions: whether captions will be compared. If not (the leaderboard's columns without a judge), the commonest
            caption serves, and no model is needed.
        encoder: texts to vectors, for captions; None is the real model, loaded if there are captions.

    Raises:
        InputError: nothing can be learnt from the file.
        EmbeddingUnavailable: there are captions, and the model is not installed.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
    encoder = (encoder or (lambda texts: real_encoder()(texts))) if captions else None
    rows, skipped = read_training_rows(train)
    groups: dict[str, list[TrainingRow]] = {}
    for row in rows:
        groups.setdefault(row.data_source, []).append(row)
    pairs = {pair: _learn_pair(members, mode, encoder) for pair, members in sorted(groups.items())}
    return Blind(mode, Path(train).name, rows, skipped, pairs, encoder)


def overlap(rows: Iterable[TrainingRow], graded: Iterable[Graded]) -> dict[str, int]:
    """How many evaluated rows a baseline has learnt from: a baseline learnt on the test rows is a leak.

    Returns:
        ``rows``: evaluated rows that are training rows (file, number and video are the same); ``of_videos``: those
        whose video has a training row, the former included; ``videos``: how many videos that are; ``evaluated``: all.
    """
    keys, videos = set(), set()
    for row in rows:
        keys.add((row.file, row.index, row.video))
        videos.add(row.video)
    graded = list(graded)
    shared = [item for item in graded if item.video in videos]
    return {
        "rows": sum((item.file, item.index, item.video) in keys for item in graded),
        "of_videos": len(shared),
        "videos": len({item.video for item in shared}),
        "evaluated": len(graded),
    }
