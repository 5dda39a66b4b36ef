# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What sources and paper leave open about reading annotations: each a setting with a default and a reason."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _open(default: Any, why: str, among: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"why": why, "among": among})


@dataclass(frozen=True)
class ReadSettings:
    """Settings of the readers; `settings_help` prints them with their reasons."""

    hole: float = _open(
        10.0,
        "seconds without a frame over which a run of one label goes on: EgoSurgery lacks up to 4 frames in a "
        "row (8 s), a hole of CholecTrack20 of 31 s or more is another scene",
    )
    cholectrack20_track: str = _open(
        "intraoperative",
        "which of the three tracks tells instruments apart: the one that lasts through the operation",
        ("intraoperative", "intracorporeal", "visibility"),
    )
    cholectrack20_skip: str = _open(
        "VID30,VID31",
        "videos left out: VID31's file carries VID30's frame numbers, and the maintainers advise to ignore both",
    )
    cvs_unscored: str = _open(
        "zero",
        "time that no row of the sheet covers: `zero` as the official labels have it, or `skip`",
        ("zero", "skip"),
    )
    cvs_until_clipping: str = _open(
        "yes",
        "rows end where clipping and cutting begins, as the official code has it; needs phase_annotations",
        ("yes", "no"),
    )
    copesd_rate: float = _open(1.0, "frames a second: public adapters assume 1, the true rate is not published")
    copesd_actions: str = _open(
        "",
        "a TOML file with a table [actions], instruction = action, in place of the built-in rules: how the "
        "benchmark maps 24 instructions to 8 actions is not published",
    )
    avos_rate: float = _open(15.0, "frames a second that MedVidBench's folders of frames state")
    egosurgery_rate: float = _open(0.5, "frames a second: numbers rise by 1 for 2 s of the video")
    egosurgery_boxes: str = _open(
        "auto",
        "which box files: `all` (38 classes), `tool`, `hand`; `auto` takes all if it is there, else tool and "
        "hand, since captions of the benchmark name things of the 38",
        ("auto", "all", "tool", "hand"),
    )
    egosurgery_split: str = _open(
        "phase", "the phase files and the box files split the videos differently: whose split holds", ("phase", "tool")
    )
    jigsaws_cameras: str = _open(
        "1,2", "cameras that become videos of their own: 103 trials are fewer than the benchmark's 310 rows"
    )
    nurvid_rate: float = _open(2.0, "frames a second that MedVidBench's folders of frames state")


def settings_help() -> str:
    """One line for each setting: name, default, reason."""
    return "\n".join(f"  {item.name}={item.default}  {item.metadata['why']}" for item in fields(ReadSettings))


def with_settings(given: list[str]) -> ReadSettings:
    """The settings with `name=value` texts applied.

    Raises:
        ValueError: an unknown name, or a value that it cannot take.
    """
    known = {item.name: item for item in fields(ReadSettings)}
    values: dict[str, Any] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in known:
            raise ValueError(f"--set {text}: expected NAME=VALUE with one of {', '.join(known)}")
        among = known[name].metadata["among"]
        if among and value not in among:
            raise ValueError(f"--set {text}: expected one of {', '.join(among)}")
        if isinstance(known[name].default, float):
            try:
                values[name] = float(value)
            except ValueError:
                raise ValueError(f"--set {text}: expected a number") from None
            if not 0 < values[name] < float("inf"):
                raise ValueError(f"--set {text}: expected a number above 0")
        else:
            values[name] = value
    return ReadSettings(**values)
