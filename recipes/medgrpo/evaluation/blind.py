# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The best answer that can be given without looking at a frame: what a column is worth before anything was seen.

For each dataset-task pair one constant answer is learnt on the training rows, for the scoring mode that it is held
against: the commonest label (nap), the commonest score of each component (cvs, sa), the spans that score best (tal),
the box that scores best at the times asked for (stg), the events that score best (dvc), the caption most like the
others (vs, rc, and each event of dvc). Spans are in clip seconds or in fractions of the clip: its length stands in
the row's metadata. Candidates come from fast approximations; what decides among the last of them is the mode's own
scoring of the answer's very text, over a sample of the training rows.

`blind_candidates` proposes, `blind_learning` scores.

Leaderboard mode does not punish surplus spans, so there the best tal answer is a list; `Settings.max_spans` bounds it
by what an answer has room for. `describe` says beside it what one span alone scores, and what a grid of 210 spans
would, for which no answer has room.

    blind = learn(train, "strict")
    evaluation = score_strict(blind.answered(inputs.graded), scoring=...)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipes.medgrpo.evaluation.blind_candidates import Settings
from recipes.medgrpo.evaluation.blind_learning import Learnt, learn_pair
from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.training_rows import TrainingRow, asked_times, clip_seconds, read_training_rows
from reward_score.leaderboard.actions import Encoder, real_encoder

MODES = ("leaderboard", "strict")


@dataclass
class Blind:
    """The blind answers of a training set, for one mode. Made by `learn`."""

    mode: str
    train: str
    rows: list[TrainingRow]
    skipped: Counter[str]
    pairs: dict[str, Learnt]
    settings: Settings
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
        return learnt.plan.answer(self.mode, clip_seconds(source, metadata) or learnt.seconds, times)

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
            self.fallbacks[task] = learn_pair(rows, self.mode, self.settings, self.encoder)
        return self.fallbacks.get(task)

    def describe(self) -> dict[str, Any]:
        """What was learnt, as JSON: by pair the answer, its score on the training rows and their number."""

        def entry(learnt: Learnt) -> dict[str, Any]:
            found = {"answer": learnt.plan.describe(), "score_on_training": learnt.score, "rows": learnt.rows}
            return found | {"others_on_training": dict(learnt.others)} if learnt.others else found

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
            "pairs": {pair: entry(learnt) for pair, learnt in sorted(self.pairs.items())},
            "fallbacks": {task: entry(learnt) for task, learnt in sorted(self.fallbacks.items())},
            "notes": notes,
        }


def _stated(graded: Graded) -> Mapping[str, Any] | None:
    """Where the reference says what an stg question asks for: the annotation's structure, else the ground truth."""
    items = graded.record.get("struc_info")
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, Mapping) and "stride" in item:
            return item
    return json.loads(graded.ground_truth) if graded.ground_truth else None


def learn(
    train: Path,
    mode: str,
    *,
    captions: bool = True,
    encoder: Encoder | None = None,
    settings: Settings | None = None,
) -> Blind:
    """The blind answers of a training file.

    Args:
        train: annotation JSON with answers, or the preprocessor's parquet.
        mode: one of `MODES`.
        captions: whether captions will be compared. If not (the leaderboard's columns without a judge), the commonest
            caption serves, and no model is needed.
        encoder: texts to vectors, for captions; None is the real model, loaded if there are captions.
        settings: bounds of the search.

    Raises:
        InputError: nothing can be learnt from the file.
        EmbeddingUnavailable: there are captions, and the model is not installed.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: expected one of {', '.join(MODES)}")
    settings = settings or Settings()
    encoder = (encoder or (lambda texts: real_encoder()(texts))) if captions else None
    rows, skipped = read_training_rows(train)
    groups: dict[str, list[TrainingRow]] = {}
    for row in rows:
        groups.setdefault(row.data_source, []).append(row)
    pairs = {pair: learn_pair(members, mode, settings, encoder) for pair, members in sorted(groups.items())}
    return Blind(mode, Path(train).name, rows, skipped, pairs, settings, encoder)


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
