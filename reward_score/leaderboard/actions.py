# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NAP_acc: the next action as one of a list of classes.

Surprises: labels are compared case and all, and a record whose reference is not spelt as in the list is left out; an
answer outside the list becomes its nearest class by sentence embedding, even an empty answer; where no list exists
the classes are the references of the very file that is evaluated; the first procedure of the dictionary whose name
occurs in the question is taken, so a longer name with the same beginning never is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import EmbeddingUnavailable
from ..similarity import SentenceEncoder, packaged_model
from .records import VOCABULARY, Record, dataset

Encoder = Callable[[Sequence[str]], np.ndarray]
"""n texts to a float array (n, d)."""

BATCH = 512
"""Texts per call of the encoder."""

ALL_PROCEDURES = tuple(sorted({action for actions in VOCABULARY["procedures"].values() for action in actions}))


@dataclass(frozen=True)
class Question:
    """One record as the evaluator restructures it; labels stripped, aliases resolved."""

    dataset: Any
    procedure: str | None
    gold: str
    answer: str


def _procedure(question: str) -> str | None:
    asked = question.lower()
    return next((name for name in VOCABULARY["procedures"] if name.lower() in asked), None)


def restructure(record: Record) -> Question:
    """What of a record matters here.

    Raises:
        Exception: answer or reference is no text, or the dataset cannot be told.
    """
    source = dataset("next_action", record)
    gold, answer = record["gnd"].strip(), record["answer"].strip()
    aliases = VOCABULARY["aliases"].get(source, {})
    procedure = _procedure(record.get("question", "")) if source == "NurViD" else None
    return Question(source, procedure, aliases.get(gold, gold), aliases.get(answer, answer))


def classes_of(question: Question, peers: Iterable[Question]) -> Sequence[str]:
    """The classes that a record's answer is one of; ``peers`` are all records of its file, itself included."""
    if question.dataset == "NurViD":
        return VOCABULARY["procedures"][question.procedure] if question.procedure else ALL_PROCEDURES
    if question.dataset in VOCABULARY["actions"]:
        return VOCABULARY["actions"][question.dataset]
    return sorted({peer.gold for peer in peers if peer.dataset == question.dataset and peer.gold})


def path_of(question: Question, classes: Sequence[str]) -> str:
    """``skipped`` (the reference is no class), ``exact`` (the answer is one), or ``semantic``.

    Raises:
        UnicodeEncodeError: the answer would have to be embedded, and it or a class is no valid text.
    """
    if question.gold not in classes:
        return "skipped"
    if question.answer in classes:
        return "exact"
    "".join((question.answer, *classes)).encode("utf-8")
    return "semantic"


@lru_cache(maxsize=1)
def real_encoder() -> Encoder:
    """The leaderboard's own model, all-MiniLM-L6-v2, loaded once per process.

    Raises:
        EmbeddingUnavailable: the model is not installed; the message says what to install.
    """
    return SentenceEncoder(packaged_model())


def _unit_vectors(texts: Sequence[str], encoder: Encoder) -> dict[str, np.ndarray]:
    vectors: dict[str, np.ndarray] = {}
    unique = list(dict.fromkeys(texts))
    for start in range(0, len(unique), BATCH):
        batch = unique[start : start + BATCH]
        rows = np.asarray(encoder(batch), dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(batch) or not np.isfinite(rows).all():
            raise EmbeddingUnavailable("the encoder gave no finite array of one vector per text")
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        vectors.update(zip(batch, rows, strict=True))
    return vectors


def nearest(asked: Sequence[tuple[str, Sequence[str]]], encoder: Encoder | None) -> list[tuple[str, float]]:
    """For each (answer, classes) the class of the highest cosine, the first of equals, and its lead over the second.

    Cosines are in float32, as the evaluator's are, so that ties fall alike.

    Raises:
        EmbeddingUnavailable: the model is not there, or gave no usable vectors.
    """
    if not asked:
        return []
    encoder = real_encoder() if encoder is None else encoder
    vectors = _unit_vectors([text for answer, classes in asked for text in (answer, *classes)], encoder)
    result = []
    for answer, classes in asked:
        cosines = np.stack([vectors[name] for name in classes]) @ vectors[answer]
        best = int(np.argmax(cosines))
        rest = np.delete(cosines, best)
        result.append((classes[best], float(cosines[best]) - (float(rest.max()) if len(rest) else 0.0)))
    return result
