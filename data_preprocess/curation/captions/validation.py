# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whether a description may become a row: what it says against the labels, its words, its times. Pure.

The published check is one: the two descriptions' sentence similarity is at least 0.3. It cannot see one word that
turns a sentence, such as another instrument's name, so the others are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_preprocess.curation.captions.context import Context, Labelled
from data_preprocess.curation.captions.words import (
    CLASSES,
    FORBIDDEN,
    contradicted,
    named,
    named_once,
    word_count,
)
from data_preprocess.curation.settings import in_order, open_choice

SIMILARITY, FLAGGED = "similarity", "flag:"
"""A reason for both descriptions of a pair; the prefix of what is noted and rejects nothing."""
RULES = "rules-v1"
"""Part of a decision's key: other rules are other decisions."""


@dataclass(frozen=True)
class KeepSettings:
    """When a description is kept. Only `similarity` is published; published answers have 1 to 1,170 words."""

    similarity: float = open_choice(0.3, "least similarity of the two descriptions, as published")
    event_words_least: int = open_choice(4, "words of an event's caption, from")
    event_words_most: int = open_choice(80, "words of an event's caption, up to")
    summary_words_least: int = open_choice(15, "words of a summary, from")
    summary_words_most: int = open_choice(300, "words of a summary, up to")
    region_words_least: int = open_choice(5, "words of a region's caption, from")
    region_words_most: int = open_choice(120, "words of a region's caption, up to")
    time_tolerance: float = open_choice(1.0, "seconds by which an event's times may differ from its label's")
    unknown_instrument: str = open_choice("drop", "an instrument that no label of the source knows", ("drop", "flag"))

    def __post_init__(self) -> None:
        """Raises `ValueError` where nothing can be kept."""
        if self.similarity > 1:
            raise ValueError(f"--set similarity={self.similarity:g}: expected a number from 0 to 1")
        in_order(self, *((f"{kind}_words_least", f"{kind}_words_most") for kind in ("event", "summary", "region")))

    def words(self, task: str) -> tuple[int, int]:
        """The least and the most words of a caption."""
        kind = {"dvc": "event", "vs": "summary", "rc": "region"}[task]
        return getattr(self, f"{kind}_words_least"), getattr(self, f"{kind}_words_most")


def captions_of(description: Mapping[str, Any]) -> list[str]:
    """The captions of a description, in order."""
    events = description.get("events")
    return [description["caption"]] if events is None else [event["caption"] for event in events]


def text_of(description: Mapping[str, Any]) -> str:
    """The description as one text, for the similarity."""
    return " ".join(captions_of(description))


def reasons(context: Context, description: Mapping[str, Any], settings: KeepSettings) -> list[str]:
    """Why a description is rejected, and what is flagged; empty for a good one. `SIMILARITY` is not looked at here."""
    found: list[str] = []
    if context.task == "dvc":
        pairs = _matched(description["events"], context.events, settings.time_tolerance)
        if pairs is None:
            return [_times(description["events"], context, settings.time_tolerance)]
        for event, label in pairs:
            found += _said(context, [event["caption"]], (label.start, label.end), settings)
    else:
        region = context.region
        span = (region.start, region.end) if region else (0.0, context.clip.duration)
        found += _said(context, [description["caption"]], span, settings)
    return list(dict.fromkeys(found))


def _matched(
    events: Sequence[Mapping[str, Any]], labels: Sequence[Labelled], most_s: float
) -> list[tuple[Mapping[str, Any], Labelled]] | None:
    """Events beside their labels, or None where they are not the same stretches."""
    given = sorted(events, key=lambda event: (event["start"], event["end"]))
    wanted = sorted(labels, key=lambda label: (label.start, label.end))
    if len(given) != len(wanted):
        return None
    pairs = list(zip(given, wanted, strict=True))
    near = all(abs(e["start"] - w.start) <= most_s and abs(e["end"] - w.end) <= most_s for e, w in pairs)
    return pairs if near else None


def _times(events: Iterable[Mapping[str, Any]], context: Context, most_s: float) -> str:
    longest = context.clip.duration + most_s
    inside = all(event["start"] <= event["end"] <= longest for event in events)
    return "times_not_of_the_labels" if inside else "times_outside_the_clip"


def _said(context: Context, texts: list[str], span: tuple[float, float], settings: KeepSettings) -> list[str]:
    found = [f"forbidden_{name}" for name in sorted(named(FORBIDDEN, texts))]
    least, most = settings.words(context.task)
    if not least <= sum(map(word_count, texts)) <= most:
        found.append("length")
    labels = _told(context, span)
    if context.region is not None and not _names_region(texts, context.region.label):
        found.append("region_not_named")
    for kind in CLASSES:
        said = named(kind, texts)
        known = frozenset().union(*(named_once(kind, label) for label in context.known))
        told = frozenset().union(*(named_once(kind, label) for label in labels))
        if kind == "instruments" and (strange := said - known - told):
            found.append(("" if settings.unknown_instrument == "drop" and known else FLAGGED) + "unknown_instrument")
            said -= strange
        if contradicted(said & known, told):
            found.append(f"conflict_{kind}")
    return found


def _told(context: Context, span: tuple[float, float]) -> list[str]:
    """The labels' words of a stretch, with the things that boxes show in it and the procedure's own."""
    found = [one.text for one in context.labels if one.start <= span[1] and one.end >= span[0]]
    for frame in context.shown:
        if span[0] <= frame.time <= span[1]:
            found += [mark.label for mark in frame.marks]
    if context.region is not None:
        found += [context.region.label, *(text for _, text in context.region.details)]
    return [text.replace(",", " ") for text in found] + [one.text for one in context.speech]


def _names_region(texts: list[str], label: str) -> bool:
    """Whether a region's caption names what the region is, as far as the word lists know it."""
    wanted = {kind: names for kind in CLASSES if (names := named_once(kind, label))}
    return not wanted or any(names & named(kind, texts) for kind, names in wanted.items())
