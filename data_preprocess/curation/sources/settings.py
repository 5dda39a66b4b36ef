# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What sources and paper leave open about reading annotations: each a setting with a default and a reason."""

from __future__ import annotations

from dataclasses import dataclass

from data_preprocess.curation.settings import open_choice


@dataclass(frozen=True)
class ReadSettings:
    """Settings of the readers."""

    hole: float = open_choice(
        10.0,
        "seconds without a frame over which a run of one label goes on: EgoSurgery lacks up to 4 frames in a "
        "row (8 s), a hole of CholecTrack20 of 31 s or more is another scene",
    )
    cholectrack20_track: str = open_choice(
        "intraoperative",
        "which of the three tracks tells instruments apart: the one that lasts through the operation",
        ("intraoperative", "intracorporeal", "visibility"),
    )
    cholectrack20_skip: str = open_choice(
        "VID30,VID31",
        "videos left out: VID31's file carries VID30's frame numbers, and the maintainers advise to ignore both",
    )
    cvs_unscored: str = open_choice(
        "zero",
        "time that no row of the sheet covers: `zero` as the official labels have it, or `skip`",
        ("zero", "skip"),
    )
    cvs_until_clipping: str = open_choice(
        "yes",
        "rows end where clipping and cutting begins, as the official code has it; needs phase_annotations",
        ("yes", "no"),
    )
    copesd_rate: float = open_choice(
        1.0, "frames a second: public adapters assume 1, the true rate is not published", least=0.001
    )
    copesd_actions: str = open_choice(
        "",
        "a TOML file with a table [actions], instruction = action, in place of the built-in rules: how the "
        "benchmark maps 24 instructions to 8 actions is not published",
    )
    avos_rate: float = open_choice(15.0, "frames a second that MedVidBench's folders of frames state", least=0.001)
    egosurgery_rate: float = open_choice(0.5, "frames a second: numbers rise by 1 for 2 s of the video", least=0.001)
    egosurgery_boxes: str = open_choice(
        "auto",
        "which box files: `all` (38 classes), `tool`, `hand`; `auto` takes all if it is there, else tool and "
        "hand, since captions of the benchmark name things of the 38",
        ("auto", "all", "tool", "hand"),
    )
    egosurgery_split: str = open_choice(
        "phase", "the phase files and the box files split the videos differently: whose split holds", ("phase", "tool")
    )
    jigsaws_cameras: str = open_choice(
        "1,2", "cameras that become videos of their own: 103 trials are fewer than the benchmark's 310 rows"
    )
    nurvid_rate: float = open_choice(2.0, "frames a second that MedVidBench's folders of frames state", least=0.001)
