# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The exact model's world: for each dataset-task pair one question, all answers that its policy can give, their scores.

An answer is a content (how right it is) in a style (how it is written). The texts go through the reward function that
trains models; nothing here scores. How often the starting policy gives each content is written down in `PAIRS`, so
that the medians are those that are published: 0.5 for CoPESD's spatio-temporal grounding, 0.12 for EgoSurgery's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_score.answers import (
    ASPECTS,
    CVS_COMPONENTS,
    Event,
    render_cvs,
    render_dvc,
    render_sa,
    render_stg,
    render_tal,
)
from reward_score.medgrpo import score_many
from reward_score.statistics import FORMAT, Statistics, summarize

STYLES = ("clean", "wrapped", "prose", "cut")
"""Styles, which all pairs share: the grammar alone; inside an element; talk; ended early. Talk follows a caption and
stands in the place of any other answer."""
DRAWN = 4096
"""Answers of a pair that the starting policy's statistics are made of."""
CAPTIONS = ("vs", "rc")

_TALK = "Overall, the video shows a surgical procedure in which instruments are used on tissue with care."
_DETAIL = "The assistant retracts the fundus with a grasper, and the field stays dry."
"""What captions' references end with where captions want talk and other tasks do not."""
_CHARS_A_TOKEN = 4


@dataclass(frozen=True)
class Question:
    """A pair's question.

    Attributes:
        truth: its ground truth. contents: how right: the answer in the task's grammar, best first.
        shares: how often the starting policy gives each content; sums to 1.
    """

    truth: Mapping[str, Any]
    contents: Sequence[str]
    shares: Sequence[float]


def _tal(shares: Sequence[float]) -> Question:
    spans = [(20.0, 40.0), (22.0, 44.0), (26.0, 48.0), (36.0, 60.0), (0.0, 100.0), (60.0, 80.0)]
    return Question({"spans": [[20.0, 40.0]]}, [render_tal([span]) for span in spans], shares)


def _stg(shares: Sequence[float]) -> Question:
    # Boxes of 200 x 200 moved to the right: IoU (200 - d) / (200 + d).
    boxes = [(100.0 + d, 100.0, 300.0 + d, 300.0) for d in (0, 22, 67, 157, 300)] + [(0.0, 0.0, 1280.0, 720.0)]
    times = (10.0, 14.0, 18.0)
    truth = {"boxes": {str(time): list(boxes[0]) for time in times}, "stride": 4}
    return Question(truth, [render_stg(dict.fromkeys(times, box)) for box in boxes], shares)


def _dvc(shares: Sequence[float]) -> Question:
    events = [Event(0.0, 30.0, "the hook cuts the duct"), Event(40.0, 60.0, "a clip is placed")]
    said = [
        events,
        [events[0], Event(44.0, 66.0, "a clip is placed")],
        events[:1],
        [Event(0.0, 60.0, "the hook cuts the duct")],
        [Event(70.0, 90.0, "a clip is placed")],
    ]
    return Question({"events": [vars(event) for event in events]}, [render_dvc(one) for one in said], shares)


def _nap(shares: Sequence[float]) -> Question:
    return Question({"label": "cutting"}, ["cutting", "tying", "suturing"], shares)


def _cvs(shares: Sequence[float]) -> Question:
    scores = [(2, 1, 0), (2, 1, 1), (1, 1, 1), (0, 0, 2)]
    said = [dict(zip(CVS_COMPONENTS, one, strict=True)) for one in scores]
    return Question({"scores": said[0]}, [render_cvs(one) for one in said], shares)


def _sa(shares: Sequence[float]) -> Question:
    scores = [(2, 1, 1, 2, 1, 3), (2, 1, 2, 2, 1, 3), (2, 2, 2, 2, 2, 2), (3, 3, 3, 3, 3, 3), (5, 5, 5, 5, 5, 5)]
    said = [dict(zip(ASPECTS, one, strict=True)) for one in scores]
    return Question({"scores": said[0]}, [render_sa(one) for one in said], shares)


def _caption(shares: Sequence[float]) -> Question:
    said = [
        "The surgeon dissects the gallbladder from the liver bed with a hook.",
        "The surgeon dissects the gallbladder from the liver with an instrument.",
        "A hook is used on the gallbladder.",
        "The surgeon operates on tissue with an instrument.",
        "A nurse counts swabs on the table.",
    ]
    return Question({"text": said[0]}, said, shares)


PAIRS: dict[str, Question] = {
    "medvidbench/AVOS/tal": _tal((0.10, 0.25, 0.25, 0.20, 0.05, 0.15)),
    "medvidbench/NurViD/tal": _tal((0.02, 0.04, 0.08, 0.16, 0.20, 0.50)),
    "medvidbench/CoPESD/stg": _stg((0.10, 0.25, 0.30, 0.20, 0.10, 0.05)),
    "medvidbench/EgoSurgery/stg": _stg((0.03, 0.07, 0.15, 0.40, 0.25, 0.10)),
    "medvidbench/AVOS/dvc": _dvc((0.10, 0.20, 0.30, 0.20, 0.20)),
    "medvidbench/AVOS/nap": _nap((0.44, 0.36, 0.20)),
    "medvidbench/AVOS/vs": _caption((0.10, 0.30, 0.30, 0.25, 0.05)),
    "medvidbench/AVOS/rc": _caption((0.05, 0.20, 0.30, 0.35, 0.10)),
    "medvidbench/JIGSAWS/sa": _sa((0.10, 0.20, 0.40, 0.25, 0.05)),
    "medvidbench/Cholec80_CVS/cvs": _cvs((0.89, 0.05, 0.04, 0.02)),
}
"""One question of every kind, two of each kind of grounding: an easy pair and a hard one."""


_WRITE: dict[str, Callable[[str], str]] = {
    "clean": lambda text: text,
    "wrapped": lambda text: f"<answer>{text}</answer>",
    "prose": lambda text: _TALK,
    "cut": lambda text: text[: max(3, len(text) // 3)].rstrip(),
}


def _asked(question: Question, task: str, conflict: bool) -> tuple[str, list[str]]:
    """(ground truth as JSON, the texts of all answers: each content in each style)."""
    truth, write = dict(question.truth), dict(_WRITE)
    if task in CAPTIONS:
        said = _DETAIL if conflict else _TALK
        write["prose"] = lambda text: f"{text} {said}"
        truth["text"] = write["prose"](truth["text"]) if conflict else truth["text"]
    return json.dumps(truth), [write[style](text) for text in question.contents for style in STYLES]


@dataclass(frozen=True)
class World:
    """P pairs with K answers each; a pair with fewer fills up with answers that are never given.

    Attributes:
        pairs: (P,) names. style: (P, K) place in `STYLES`. start: (P, K) the starting policy, 0 where there is none.
        format, acc, tokens: (P, K), of the answer. raw: by pair, by signal: (K,).
        texts: by pair, the answers.
    """

    pairs: list[str]
    style: np.ndarray
    start: np.ndarray
    format: np.ndarray
    acc: np.ndarray
    tokens: np.ndarray
    raw: dict[str, dict[str, np.ndarray]]
    texts: dict[str, list[str]]

    @property
    def tasks(self) -> list[str]:
        """(P,) short task names."""
        return [pair.rpartition("/")[2] for pair in self.pairs]

    def statistics(self) -> Statistics:
        """Of the starting policy's answers, as calibration would find them with `DRAWN` answers a pair."""
        rows = {}
        for at, pair in enumerate(self.pairs):
            counts = np.floor(np.cumsum(self.start[at]) * DRAWN + 0.5).astype(int)
            counts = np.diff(counts, prepend=0)
            rows[pair] = {name: summarize(np.repeat(values, counts)) for name, values in self.raw[pair].items()}
        return Statistics.from_dict({"format": FORMAT, "pairs": rows}, "the exact model's starting policy")


def make_world(
    conflict: bool = False,
    styles: Sequence[float] = (0.80, 0.10, 0.05, 0.05),
    tasks: Sequence[str] | None = None,
) -> World:
    """The world of the pairs above.

    Args:
        conflict: captions are better with what follows in the style prose, which is no answer to any other task.
            Without, the style clean is best for all tasks.
        styles: how often the starting policy writes in each of `STYLES`; the same for every content and pair.
        tasks: short names of the tasks to have, None for all.
    """
    weights = np.asarray(styles, dtype=float)
    if weights.shape != (len(STYLES),) or not (weights > 0).all() or abs(weights.sum() - 1) > 1e-9:
        raise ValueError(f"styles {tuple(styles)}: expected {len(STYLES)} numbers above 0 that sum to 1")
    chosen = {pair: one for pair, one in PAIRS.items() if tasks is None or pair.rpartition("/")[2] in tasks}
    if not chosen:
        raise ValueError(f"tasks {tasks}: expected some of {', '.join(sorted({p.rpartition('/')[2] for p in PAIRS}))}")
    most = max(len(one.contents) for one in chosen.values()) * len(STYLES)
    shape = (len(chosen), most)
    style, start, form, acc, tokens = np.zeros(shape, dtype=int), *(np.zeros(shape) for _ in range(4))
    raw, texts = {}, {}
    for at, (pair, one) in enumerate(chosen.items()):
        truth, said = _asked(one, pair.rpartition("/")[2], conflict)
        results = score_many([(pair, text, truth, None) for text in said])
        size = len(said)
        style[at, :size] = np.tile(np.arange(len(STYLES)), len(one.contents))
        start[at, :size] = np.outer(one.shares, weights).ravel()
        form[at, :size] = [result["format"] for result in results]
        acc[at, :size] = [result["acc"] for result in results]
        tokens[at, :size] = [1 + len(text) / _CHARS_A_TOKEN for text in said]
        signals = [name.removeprefix("raw_") for name in results[0] if name.startswith("raw_")]
        raw[pair] = {
            name: np.array([result[f"raw_{name}"] for result in results] + [0.0] * (most - size)) for name in signals
        }
        texts[pair] = said
    return World(list(chosen), style, start, form, acc, tokens, raw, texts)
