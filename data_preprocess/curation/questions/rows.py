# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From an excerpt and a question about it to a row of the official format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from data_preprocess.curation.official import official_row
from data_preprocess.curation.questions.checks import Fact
from data_preprocess.curation.questions.excerpts import Excerpt
from data_preprocess.curation.rows.wordings import Wordings

QA_TYPE = "question_answering"


def question_row(excerpt: Excerpt, fact: Fact, asked: Mapping[str, Any], words: Wordings) -> dict[str, Any]:
    """The row of a question. `struc_info` says what kind of fact it is about, and when that is said (clip seconds)."""
    assert fact.place is not None
    video = excerpt.clip.video
    told = f"{excerpt.key}/{asked['question']}"
    drawn = int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")
    question = words.about(asked["question"], video.source, drawn, procedure=video.procedure)
    start, end = excerpt.seconds(*fact.place)
    structure = [{"kind": fact.kind, "start": start, "end": end}]
    return official_row(excerpt.clip, QA_TYPE, question, asked["answer"], structure)


def asked_of(row: Mapping[str, Any]) -> str:
    """The question as the row asks it, without the clip."""
    return row["conversations"][0]["value"].removeprefix("<video>\n")
