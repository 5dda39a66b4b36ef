# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Features of the rows that ask for skill (`sa`), by a checkpoint's frozen vision tower.

Domain, surgeon and trial come from the ids of JIGSAWS (`Suturing_B001`, `knot_tying_c004`, with or without a camera):
the exercise is the domain, the letter the surgeon. Rows of the same trial and the same first frame are recordings of
one trial. A trial's class is how many of the cuts its total of six marks (6 to 30) reaches. The published classes
(novice, intermediate, expert by hours of practice) belong to a surgeon and not to a trial: two of eight surgeons have
each of the upper ones, too few to be split.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import recipes.medgrpo.plugin  # noqa: F401  isort: skip  before anything imports transformers

from data_preprocess.splits import group_of
from recipes.medgrpo.data.dataset import chat_of, check_shown
from recipes.medgrpo.data.rows import Rows
from recipes.medgrpo.data.video import ClipCache, clips_of
from recipes.medgrpo.files import InputError, data_fingerprint, model_fingerprint, read_json, write_atomic, write_json
from recipes.medgrpo.rollout.transformers_engine import TransformersEngine
from recipes.medgrpo.studies.skill.world import ABOUT, write_table
from recipes.medgrpo.terminal import progress
from reward_score.tasks import read_gold

_ID = re.compile(r"(.+?)_?([A-Za-z])([0-9]{3})")


class Recording(NamedTuple):
    """A row of the parquet as a line of the table."""

    place: int
    file: str
    domain: str
    surgeon: str
    trial: str
    label: int


def class_of(total: float, cuts: Sequence[int]) -> int:
    """How many of the cuts a total of marks reaches."""
    return sum(total >= cut for cut in cuts)


def recordings(rows: Rows, cuts: Sequence[int]) -> list[Recording]:
    """The `sa` rows of a parquet. Raises `InputError` for an id that names no surgeon."""
    found = []
    for place in rows.within(["sa"], None).numbers:
        row = rows.row(place)
        extra = row["extra_info"]
        source, surgery = group_of(extra["source"], str(extra["video_id"]))
        match = _ID.fullmatch(surgery)
        if source != "JIGSAWS" or match is None:
            raise InputError(
                f"row {extra['index']}: video_id: expected an exercise of JIGSAWS, a surgeon and a trial as in "
                f"Suturing_B001, found {extra['video_id']} of {extra['source']}"
            )
        marks = read_gold("sa", row["reward_model"]["ground_truth"])
        domain, surgeon = match[1].replace("_", "").lower(), match[2].upper()
        trial = f"{domain}_{surgeon}{match[3]}@{extra['clip_start'] or 0}"
        file = f"row{place:06d}.npy"
        found.append(Recording(place, file, domain, surgeon, trial, class_of(sum(marks.values()), cuts)))
    return found


def write_features(model: str, data: str, folder: Path, cuts: Sequence[int], device: str) -> int:
    """The features of a parquet's `sa` rows in a folder, the table last; how many. Takes up what is there.

    Raises:
        InputError: rows or a model that cannot be used, or a folder with the features of others.
    """
    rows = Rows.open([data])
    lines = recordings(rows, cuts)
    about = {
        "what": "vision tower",
        "model": model_fingerprint(Path(model)),
        "data": data_fingerprint(Path(data)),
        "cuts": list(cuts),
    }
    place = folder / ABOUT
    if place.exists() and read_json(place) != about:
        raise InputError(f"{folder}: holds features of another model, of other data or with other cuts; name another")
    engine = TransformersEngine.load(model, device)
    write_json(place, about)
    with progress(len(lines), "clip", folder.name) as bar:
        for line in lines:
            if not (folder / line.file).exists():
                row = rows.row(line.place)
                check_shown(row, engine.processor)
                clips = clips_of(chat_of(row), ClipCache(capacity=1))
                buffer = io.BytesIO()
                np.save(buffer, engine.clip_features(clips)[0].numpy())
                write_atomic(folder / line.file, buffer.getvalue())
            bar.update()
    write_table(folder, [tuple(line[1:]) for line in lines])
    return len(lines)
