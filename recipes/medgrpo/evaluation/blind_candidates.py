# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a blind answer may be made of: spans, event lists and boxes that may score best on training rows.

These are proposals by fast approximations (arrays, no text); `blind_learning` scores the last of them truly.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from recipes.medgrpo.evaluation.training_rows import TrainingRow
from reward_score.leaderboard.spans import THRESHOLDS
from reward_score.temporal import widen

_SPANS_LOOKED_AT = 30
"""Reference spans of a row that the proposals look at; rows have 1.8 on average."""


@dataclass(frozen=True)
class Settings:
    """What bounds the search. Every draw follows from `seed`.

    Attributes:
        seed: of all samples of rows and candidates.
        rows: training rows of a pair on which the last candidates are scored.
        trial_rows: rows on which many candidates are thinned out to `finalists`.
        finalists: candidates that are scored on all of `rows`.
        candidates: spans or boxes that are taken from a pair's training answers.
        event_lists: whole dvc answers that are taken from there.
        captions: texts of a pair among which the one most like the others is found; each is embedded once.
        max_spans: spans of a tal answer. 8 fit into the 128 tokens that an answer of this task gets.
        max_events: events of a dvc answer that are tried as equal parts of the clip.
    """

    seed: int = 0
    rows: int = 200
    trial_rows: int = 30
    finalists: int = 8
    candidates: int = 150
    event_lists: int = 50
    captions: int = 100
    max_spans: int = 8
    max_events: int = 20


@dataclass(frozen=True)
class Piece:
    """A span: clip seconds, or fractions of the clip's length where `of_clip`."""

    start: float
    end: float
    of_clip: bool = True

    def at(self, seconds: float) -> tuple[float, float]:
        """The span in seconds of a clip of that length."""
        return (self.start * seconds, self.end * seconds) if self.of_clip else (self.start, self.end)


def _of_clip(start: float, end: float, seconds: float) -> Piece:
    return Piece(round(start / seconds, 4), round(end / seconds, 4))


def draw(items: Sequence[Any], most: int, seed: int) -> list[Any]:
    """At most so many of the items, in random order."""
    return random.Random(seed).sample(items, min(most, len(items)))


def parts(count: int) -> tuple[Piece, ...]:
    """The clip in equal parts."""
    return tuple(Piece(k / count, (k + 1) / count) for k in range(count))


def equal_grid(steps: int) -> list[Piece]:
    """Every span between two of the marks that cut the clip into equal steps."""
    return [Piece(a / steps, b / steps) for a, b in combinations(range(steps + 1), 2)]


def span_lists(rows: Sequence[TrainingRow], seconds: float, mode: str, settings: Settings) -> list[tuple[Piece, ...]]:
    """Span lists that may score best: single ones first, then lists that grow by the span that adds most."""
    given = [(row, span) for row in rows for span in row.ground["spans"] if span[1] > span[0]]
    pieces = [Piece(0.0, 1.0), *equal_grid(10)]
    for row, (start, end) in draw(given, settings.candidates, settings.seed):
        pieces.append(Piece(start, end, of_clip=False))
        if row.seconds:
            pieces.append(_of_clip(start, end, row.seconds))
    pieces = list(dict.fromkeys(pieces))
    ious, counts = _span_ious(pieces, rows, seconds, mode)
    covered = np.zeros(ious.shape[1:])
    chosen: list[int] = []
    lists: list[tuple[Piece, ...]] = []
    for size in range(1, settings.max_spans + 1):
        worth = _worth(np.maximum(ious, covered), counts, size, mode)
        order = np.argsort(-worth, kind="stable")
        if size == 1:
            lists += [(pieces[at],) for at in order[: settings.finalists // 2]]
        chosen.append(int(order[0]))
        covered = np.maximum(covered, ious[chosen[-1]])
        if size > 1:
            lists += [tuple(pieces[at] for at in chosen), parts(size)]
    return lists


def _span_ious(
    pieces: Sequence[Piece], rows: Sequence[TrainingRow], seconds: float, mode: str
) -> tuple[np.ndarray, np.ndarray]:
    """IoU of each piece with each reference span of each row (pieces, rows, most spans), and the spans by row."""
    golds = [[tuple(span) for span in row.ground["spans"][:_SPANS_LOOKED_AT]] for row in rows]
    counts = np.array([len(spans) for spans in golds])
    # Spans that a row does not have stay empty, and overlap nothing.
    gold = np.zeros((len(rows), counts.max(), 2))
    for at, (row, spans) in enumerate(zip(rows, golds, strict=True)):
        gold[at, : len(spans)] = [widen(span, row.interval) for span in spans] if mode == "strict" else spans
    lengths = np.array([row.seconds or seconds for row in rows])
    unit = np.where([piece.of_clip for piece in pieces], 1.0, 0.0)[:, None]
    scale = unit * lengths + (1 - unit)
    start = (np.array([piece.start for piece in pieces])[:, None] * scale)[:, :, None]
    end = (np.array([piece.end for piece in pieces])[:, None] * scale)[:, :, None]
    shared = np.maximum(np.minimum(end, gold[..., 1]) - np.maximum(start, gold[..., 0]), 0.0)
    union = (end - start) + (gold[..., 1] - gold[..., 0]) - shared
    return shared / np.maximum(union, 1e-9), counts


def _worth(reach: np.ndarray, counts: np.ndarray, size: int, mode: str) -> np.ndarray:
    """About what a list of `size` spans scores, for each span that it may end with: mean over rows.

    `reach` (pieces, rows, spans) is the greatest IoU of each reference span with the list. One span may serve several
    references here, which the true scoring does not allow: this only proposes.
    """
    if mode == "strict":
        best = -np.sort(-reach, axis=2)[:, :, :size]
        return (best.sum(axis=2) / np.maximum(counts, size)).mean(axis=1)
    found = [np.where(reach >= threshold, reach, 0.0) for threshold in THRESHOLDS]
    return sum((f.sum(axis=2) / np.maximum((f > 0).sum(axis=2), 1)).mean(axis=1) for f in found) / len(found)


def event_lists(rows: Sequence[TrainingRow], settings: Settings) -> list[tuple[Piece, ...]]:
    """Event lists that may score best: equal parts of the clip, and training answers in fractions of theirs."""
    lists = [parts(count) for count in range(1, settings.max_events + 1)]
    for row in draw([row for row in rows if row.seconds], settings.event_lists, settings.seed):
        events = row.ground["events"][: settings.max_events]
        lists.append(tuple(_of_clip(event["start"], event["end"], row.seconds) for event in events))
    return list(dict.fromkeys(lists))


def box_candidates(rows: Sequence[TrainingRow], settings: Settings) -> list[tuple[float, ...]]:
    """The boxes with the greatest mean IoU: among training boxes, their median, and combinations of their quantiles."""
    boxes = [box for row in rows for box in row.ground["boxes"].values()]
    weights = [1 / len(row.ground["boxes"]) for row in rows for _ in row.ground["boxes"]]
    kept = draw(range(len(boxes)), 20 * settings.rows, settings.seed)
    gold, share = np.array([boxes[at] for at in kept]), np.array([weights[at] for at in kept])
    levels = np.quantile(gold, [0.1, 0.3, 0.5, 0.7, 0.9], axis=0)
    own = gold[: settings.candidates]
    candidates = np.concatenate([np.median(gold, axis=0)[None], own, np.array(list(product(*levels.T)))]).round(2)
    worth = np.array([_box_ious(box, gold) @ share for box in candidates])
    order = np.argsort(-worth, kind="stable")
    return list(dict.fromkeys(tuple(candidates[at].tolist()) for at in order[: settings.finalists]))


def _box_ious(box: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """IoU of one box with n boxes (n, 4); 0 for a box without area."""
    sides = np.minimum(box[2:], gold[:, 2:]) - np.maximum(box[:2], gold[:, :2])
    shared = np.maximum(sides, 0.0).prod(axis=1)
    sizes = (gold[:, 2:] - gold[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return shared / np.maximum(sizes - shared, 1e-9)
