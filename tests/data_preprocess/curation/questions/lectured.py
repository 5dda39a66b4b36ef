# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Excerpts of synthetic lectures, models at a stand-in, and what the tests of questions share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "captions"))
from captioned import serving

from data_preprocess.curation.questions.excerpts import Excerpt, ExcerptSettings, excerpts
from data_preprocess.curation.questions.models import Extractor, Writer
from data_preprocess.curation.questions.stand_in import Lecturer
from data_preprocess.curation.stand_in_server import app
from data_preprocess.curation.synthetic import TRUTHS
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.lectures import SOURCES, write_lectures

NAME = "stand-in-c"


def excerpts_of(folder: Path, videos: int = 2) -> list[Excerpt]:
    """The excerpts of a few videos of each source of web videos; their transcripts are written to the folder."""
    scale, found = Scale(videos=videos, seconds=90), []
    for source in SOURCES:
        made = list(TRUTHS[source](scale))
        write_lectures(made, folder, scale)
        found += [one for video in made for one in excerpts(video, folder, ExcerptSettings())]
    return found


@contextmanager
def lecturer(mistakes: float = 0.0, log: Path | None = None) -> Iterator[dict[str, Any]]:
    """Options of a model at a stand-in."""
    with serving(app(Lecturer(NAME, mistakes), log)) as url:
        shared = {"api_key": "none", "backoff_s": 0.001, "prompt_price": 0.0, "completion_price": 0.0}
        yield {"base_url": url, "model": NAME, **shared}


def models(extractor: dict[str, Any], writer: dict[str, Any], store: Path | None = None) -> tuple[Extractor, Writer]:
    kept = store and str(store)
    return Extractor(store=kept, **extractor), Writer(store=kept, **writer)
