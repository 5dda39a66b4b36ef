# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Small trees of every source in its native format, and the truth beside them: input for tests and for the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from data_preprocess.atomic import write_json_list
from data_preprocess.curation.model import Video
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.frame_sources import (
    write_cholect50,
    write_cholectrack20,
    write_copesd,
    write_egosurgery,
)
from data_preprocess.curation.synthetic.frame_truths import (
    cholect50_truth,
    cholectrack20_truth,
    copesd_truth,
    egosurgery_truth,
)
from data_preprocess.curation.synthetic.video_sources import (
    write_avos,
    write_cholec80_cvs,
    write_jigsaws,
    write_nurvid,
)
from data_preprocess.curation.synthetic.video_truths import avos_truth, cholec80_cvs_truth, jigsaws_truth, nurvid_truth

TRUTHS: Mapping[str, Callable[[Scale], Iterator[Video]]] = {
    "AVOS": avos_truth,
    "CholecT50": cholect50_truth,
    "CholecTrack20": cholectrack20_truth,
    "Cholec80_CVS": cholec80_cvs_truth,
    "CoPESD": copesd_truth,
    "EgoSurgery": egosurgery_truth,
    "JIGSAWS": jigsaws_truth,
    "NurViD": nurvid_truth,
}
"""By source, its videos."""

WRITERS: Mapping[str, Callable[[Sequence[Video], Path, Scale], None]] = {
    "AVOS": write_avos,
    "CholecT50": write_cholect50,
    "CholecTrack20": write_cholectrack20,
    "Cholec80_CVS": write_cholec80_cvs,
    "CoPESD": write_copesd,
    "EgoSurgery": write_egosurgery,
    "JIGSAWS": write_jigsaws,
    "NurViD": write_nurvid,
}
"""By source, what writes its native files."""


def write_source(source: str, root: Path, scale: Scale) -> list[Video]:
    """Writes the native files of a source below `root`; returns their truth."""
    videos = list(TRUTHS[source](scale))
    WRITERS[source](videos, root, scale)
    return videos


def write_truth(file: Path, videos: Sequence[Video]) -> None:
    """Writes videos as a JSON list, each on a line of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json_list(file, (orjson.dumps(_plain(video)) for video in videos))


def _plain(video: Video) -> dict[str, object]:
    numbers = video.numbers
    said = {"first": numbers[0], "last": numbers[-1]} if isinstance(numbers, range) else list(numbers)
    return {**asdict(video), "numbers": said}
