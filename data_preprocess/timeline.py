# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Native frame numbers to clip seconds, and the uniform frame list that the model is shown.

A listed frame stands at (its native number - the first) / native rate, in seconds of the clip. `metadata.fps` is the
rate at which frames were sampled, not where they stand: lists have holes, joints and repeats. A model that has one
interval for a whole clip needs a list without them, which `uniform` makes.
"""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

NATIVE_RATES = {
    "AVOS": 15.0,
    "CholecT50": 1.0,
    "CoPESD": 1.0,
    "EgoSurgery": 0.5,
    "NurViD": 2.0,
    "CholecTrack20": 25.0,
}
"""Native frames a second of the sources whose rate is known."""

MAX_GROWTH = 2
"""A uniform list longer than this many times the given one is made at a lower rate."""

_DIRECTORY = re.compile(r"(?:^|/)frames_([0-9]{1,3}(?:\.[0-9]{1,3})?)fps/")


@dataclass(frozen=True)
class Clock:
    """Native frames a second, and the rule it comes from: `table`, `directory`, `declared`, `stride` or `single`."""

    rate: float
    rule: str


@dataclass(frozen=True)
class Timeline:
    """A uniform frame list: frame i is shown at i / sample_fps seconds.

    `picks` are positions in the listed frames. `duration` is the clip's length in seconds on the native clock (first
    to last listed frame). `moved` counts ticks whose frame stands more than a quarter of a step away, `repeated`
    ticks that show the same frame as the tick before, `left_out` listed frames (repeats apart) that no tick shows;
    `divisor` is by how much the rate was lowered, 1 for not at all.
    """

    picks: tuple[int, ...]
    sample_fps: float
    duration: float
    moved: int
    repeated: int
    left_out: int
    divisor: int


def native_clock(
    source: str, paths: Sequence[str], numbers: Sequence[int], fps: float, declared: float | None = None
) -> Clock:
    """The native rate of a clip: the table, else the directory's name, the declared length, or the median stride.

    Args:
        source: name of the source data set.
        paths: the listed frame files.
        numbers: their native frame numbers, never decreasing.
        fps: the sampling rate of the list, frames a second.
        declared: length of the clip in seconds where the row states it.
    """
    if source in NATIVE_RATES:
        return Clock(NATIVE_RATES[source], "table")
    named = _DIRECTORY.search(paths[0])
    if named and float(named[1]) > 0:
        return Clock(float(named[1]), "directory")
    span = numbers[-1] - numbers[0]
    if declared and declared > 0 and span > 0:
        return Clock(span / declared, "declared")
    strides = [b - a for a, b in zip(numbers, numbers[1:], strict=False) if b > a]
    if strides:
        return Clock(statistics.median(strides) * fps, "stride")
    return Clock(fps, "single")


def clip_seconds(numbers: Sequence[int], clock: Clock) -> list[float]:
    """Clip seconds of each listed frame; the first stands at 0."""
    return [(number - numbers[0]) / clock.rate for number in numbers]


def uniform(times: Sequence[float], fps: float) -> Timeline:
    """The listed frame nearest to each tick of a grid with step 1 / fps, the last listed frame at its end.

    A hole is filled with the nearest frame, repeated. Where that would make the list longer than `MAX_GROWTH` times
    the given one, the rate is divided by the smallest whole number that avoids it.

    Args:
        times: clip seconds of the listed frames, from 0, never decreasing.
        fps: sampling rate of the list, frames a second.
    """
    duration = times[-1]
    divisor = 1
    while _ticks(duration, fps / divisor) > max(MAX_GROWTH * len(times), 2):
        # The next candidate is at least the ratio asked for, so that a huge hole does not cost a long search.
        divisor = max(divisor + 1, math.floor(duration * fps / (MAX_GROWTH * len(times))))
    rate = fps / divisor
    count = _ticks(duration, rate)
    picks = [_nearest(times, tick / rate) for tick in range(count)]
    picks[-1] = len(times) - 1
    moved = sum(abs(times[pick] - tick / rate) > 0.25 / rate for tick, pick in enumerate(picks))
    repeated = sum(times[a] == times[b] for a, b in zip(picks, picks[1:], strict=False))
    left_out = len(set(times)) - len({times[pick] for pick in picks})
    return Timeline(tuple(picks), rate, duration, moved, repeated, left_out, divisor)


def _ticks(duration: float, rate: float) -> int:
    """Ticks from 0 to the one nearest to the end; half a step counts up, so that an extra last frame is kept."""
    return math.floor(duration * rate + 0.5 + 1e-9) + 1


def _nearest(times: Sequence[float], tick: float) -> int:
    after = bisect_left(times, tick)
    if after == 0:
        return 0
    if after == len(times):
        return len(times) - 1
    return after if times[after] - tick < tick - times[after - 1] else after - 1
