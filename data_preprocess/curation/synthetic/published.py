# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Videos as many and as long as the published ones, with drawn labels: for a plan before the sources are at hand.

Numbers of videos and hours are what the sources state, and labels last about as long as theirs. Lengths that no source
states (AVOS, CoPESD's folders, JIGSAWS) are guesses, and marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from data_preprocess.curation.model import Video
from data_preprocess.curation.synthetic import TRUTHS
from data_preprocess.curation.synthetic.drawing import Scale


class Size(NamedTuple):
    """Videos of a source, seconds of each, and from how many to how many seconds a label lasts."""

    videos: int
    seconds: int
    shortest: int
    longest: int


SIZES: dict[str, Size] = {
    "AVOS": Size(1997, 300, 5, 60),  # seconds: guessed
    "CholecT50": Size(50, 2017, 60, 600),  # 100,863 frames at one a second
    "CholecTrack20": Size(18, 1842, 20, 200),  # 35,009 frames of 19 videos, less the two that are left out
    "Cholec80_CVS": Size(80, 2300, 20, 60),  # seconds: guessed; rows of the sheet last about half a minute
    "CoPESD": Size(20, 884, 5, 40),  # 17,679 images; folders: guessed
    "EgoSurgery": Size(46, 1174, 60, 600),  # 15 hours
    "JIGSAWS": Size(103, 100, 3, 12),  # seconds: guessed
    "NurViD": Size(1538, 338, 30, 150),  # 144.4 hours, 5,615 segments
}


def published_videos(source: str, seed: int = 0) -> Iterator[Video]:
    """Videos of a source at its published size."""
    size = SIZES[source]
    # Frames of EgoSurgery are two seconds apart, those of the other sources' labels one.
    step = 2 if source == "EgoSurgery" else 1
    lengths = (size.shortest // step, size.longest // step)
    return TRUTHS[source](Scale(seed, size.videos, size.seconds, lengths=lengths))
