# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""CVS_acc and SA_acc: scores of named components.

Surprises: a component that the answer leaves out, or names with another spelling, leaves the denominator, so one sure
component and silence score 1; answers are cut at commas only; the level or rating that the scores add up to reaches
no column.
"""

from __future__ import annotations

import re
from typing import Any

from .records import START, VOCABULARY, Record, dataset

_OUT_OF_FIVE = re.compile(rf"{START}(\d++)/5")
_SCORE = re.compile(r"\s*+(\d++)/5")
_COMPONENTS = {
    key: (name.lower(), re.compile(re.escape(name.lower()) + r":\s*+(\d++)"))
    for key, name in VOCABULARY["cvs_components"].items()
}


def _first_item(record: Record) -> Any:
    items = record.get("struc_info")
    return items[0] if items else {}


def parse_cvs(text: str) -> dict[str, int]:
    """Scores by component of the critical view of safety; a component named twice keeps the later score."""
    scores = {}
    for part in text.split(","):
        part = part.lower().strip()
        for key, (name, pattern) in _COMPONENTS.items():
            if name in part:
                if match := pattern.search(part):
                    scores[key] = int(match[1])
                break
    return scores


def _band(value: float, bands: list[tuple[str, float]]) -> str:
    """The first band (name, most) that holds a value, the last one for what is beyond all."""
    return next((name for name, most in bands if value <= most), bands[-1][0])


def _rating(scores: dict[str, Any]) -> str:
    return _band(sum(scores[key] for key in _COMPONENTS if key in scores), VOCABULARY["cvs_ratings"])


def score_cvs(record: Record) -> dict[str, Any]:
    """Per component that was answered and has a reference: right or not, and the distance."""
    hash(dataset("cvs_assessment", record))
    predicted = parse_cvs(record["answer"])
    gold = _first_item(record).get("cvs_scores") or parse_cvs(record["gnd"])
    rating = _rating(gold)
    shared = [key for key in _COMPONENTS if key in predicted and key in gold]
    return {
        "pred": predicted,
        "per_component": {key: int(predicted[key] == gold[key]) for key in shared},
        "abs_error": {key: float(abs(predicted[key] - gold[key])) for key in shared},
        "rating_correct": int(_rating(predicted) == rating),
        "gold_rating": rating,
    }


def parse_aspects(text: str) -> dict[str, int]:
    """Scores by aspect as the text spells it, from ``name: X/5``; an aspect named twice keeps the later score."""
    scores = {}
    for part in text.split(","):
        pieces = part.split(":")
        for name, rest in zip(pieces, pieces[1:], strict=False):
            if name and (match := _SCORE.match(rest)):
                scores[name.strip()] = int(match[1])
                break
    return scores


def _average(text: str) -> float | None:
    scores = [int(score) for score in _OUT_OF_FIVE.findall(text)]
    return sum(scores) / len(scores) if scores else None


def _level_of(average: float | None) -> str | None:
    return None if average is None else _band(average, VOCABULARY["skill_levels"])


def _gold_level(record: Record) -> str | None:
    level = _first_item(record).get("skill_level")
    if level is not None:
        level = level.lower().strip()
        words = dict(VOCABULARY["skill_words"])
        if level in words:
            return words[level]
        for word, meaning in words.items():
            if word in level:
                return meaning
    return _level_of(_average(record["gnd"]))


def score_skill(record: Record) -> dict[str, Any]:
    """Per aspect that was answered under the reference's very name: right or not, and the distance.

    ``skipped`` where the answer holds no ``X/5`` or the reference no level: the record then counts nowhere.
    """
    hash(dataset("skill_assessment", record))
    predicted, average = parse_aspects(record["answer"]), _average(record["answer"])
    gold_level = _gold_level(record)
    skipped = average is None or gold_level is None
    gold = _first_item(record).get("skill_scores") or parse_aspects(record["gnd"])
    shared = [] if skipped else [name for name in predicted if name in gold]
    level = _level_of(average)
    return {
        "pred_aspects": predicted,
        "pred_average": average,
        "pred_level": level,
        "skipped": skipped,
        "gold_level": None if skipped else gold_level,
        "level_correct": None if skipped else int(level == gold_level),
        "per_aspect": {name: int(predicted[name] == gold[name]) for name in shared},
        "abs_error": {name: float(abs(predicted[name] - gold[name])) for name in shared},
    }
