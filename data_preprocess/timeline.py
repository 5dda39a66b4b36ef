# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Native frame numbers to clip seconds, and the frame list that the model is shown.

A listed frame stands at (its native number - the first) / native rate, in seconds of the clip. `metadata.fps` is the
rate at which frames were sampled, not where they stand: lists have holes, joints and repeats. A model that has one
interval for a whole clip needs a list without them, which `uniform` makes; `exact` is for a model that can be told
every frame's own time; `thin` shortens either.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

NATIVE_RATES = {
    "AVOS": 15.0,
    "CholecT50": 1.0,
    "CoPESD": 1.0,
    "EgoSurgery": 0.5,
    "NurViD": 2.0,
    "CholecTrack20": 25.0,
}
"""Native frames a second of the sources whose rate is known."""

CLOCKS = ("native", "index", "declared")
"""Where a frame stands: by its native number, by its place in the list, or by number over the declared length."""

THINNING = ("uniform", "ends")

_DIRECTORY = re.compile(r"(?:^|/)frames_([0-9]{1,3}(?:\.[0-9]{1,3})?)fps/")
# Answers give times with one decimal: a bound may lie half of that beyond a clip's end and still be inside.
_ROUNDING = 0.05
_FUZZ = 1e-9
# A step between listed frames, as a share of what the stated rate says: joints and rounding stay within.
_USUAL = (0.5 - _FUZZ, 1.9)


@dataclass(frozen=True)
class Clock:
    """Native frames a second, and the rule it comes from: `table`, `directory`, `declared`, `stride` or `single`."""

    rate: float
    rule: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames that are shown, and when.

    `picks` are positions in the listed frames, `times` the clip seconds that the model is told for each of them: in a
    uniform list i / sample_fps, in an exact one the frame's own. `duration` is the clip's length in seconds, first to
    last listed frame. `moved` counts ticks whose frame stands further away than the tolerance, `repeated` ticks that
    show the same frame as the tick before, `left_out` listed frames (repeats apart) that no tick shows; `divisor` is by
    how much a uniform list's rate was lowered because of holes, 1 for not at all. `listed` are the clip seconds of all
    listed frames, and `own_times` says that the list is an exact one.
    """

    picks: tuple[int, ...]
    times: tuple[float, ...]
    sample_fps: float
    duration: float
    moved: int
    repeated: int
    left_out: int
    divisor: int
    listed: tuple[float, ...] = field(default=(), repr=False, compare=False)
    own_times: bool = False


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


def frame_seconds(
    numbers: Sequence[int], clock: Clock, fps: float, declared: float | None = None, mode: str = "native"
) -> list[float]:
    """Clip seconds of each listed frame; the first stands at 0.

    Args:
        numbers: native frame numbers, never decreasing.
        clock: the clip's native rate.
        fps: the sampling rate of the list, frames a second.
        declared: length of the clip in seconds where the row states it.
        mode: one of `CLOCKS`. `declared` falls back to `native` where no positive length is declared or all frames are
            the same one.

    Raises:
        ValueError: unknown mode.
    """
    if mode not in CLOCKS:
        raise ValueError(f"clock: expected one of {', '.join(CLOCKS)}, found {mode!r}")
    if mode == "index":
        return list(_grid(len(numbers), fps))
    first, span = numbers[0], numbers[-1] - numbers[0]
    if mode == "declared" and declared and declared > 0 and span > 0:
        return [(number - first) / span * declared for number in numbers]
    return [(number - first) / clock.rate for number in numbers]


def rate_disagrees(times: Sequence[float], fps: float) -> bool:
    """Whether the usual step between listed frames is some twice what the stated rate says, half of it, or further off.

    Args:
        times: clip seconds of the listed frames, never decreasing.
        fps: the sampling rate that the row states, frames a second.
    """
    steps = [b - a for a, b in zip(times, times[1:], strict=False) if b > a]
    return len(steps) > 1 and not _USUAL[0] < statistics.median_low(steps) * fps < _USUAL[1]


def uniform(times: Sequence[float], fps: float, max_growth: float = 2.0, tolerance: float = 0.25) -> Timeline:
    """The listed frame nearest to each tick of a grid with step 1 / fps, the last listed frame at its end.

    A hole is filled with the nearest frame, repeated. Where that would make the list longer than `max_growth` times
    the given one, the rate is divided by the smallest whole number that avoids it.

    Args:
        times: clip seconds of the listed frames, from 0, never decreasing.
        fps: sampling rate of the list, frames a second.
        max_growth: at least 1.
        tolerance: share of a step within which a frame counts as standing where it is shown.

    Raises:
        ValueError: a `max_growth` below 1.
    """
    if max_growth < 1:
        raise ValueError(f"max_growth: expected at least 1, found {max_growth}")
    listed = tuple(times)
    count = len(listed)
    if listed == _grid(count, fps):
        return Timeline(tuple(range(count)), listed, fps, listed[-1], 0, 0, 0, 1, listed)
    duration, limit = listed[-1], max(max_growth * count, 2)
    divisor = _divisor(duration, fps, limit)
    rate = fps / divisor
    return _on_grid(listed, rate, _ticks(duration, rate), divisor, tolerance)


def exact(times: Sequence[float], fps: float) -> Timeline:
    """Every listed frame at its own time; for models that are told each frame's seconds.

    Args:
        times: clip seconds of the listed frames, from 0, never decreasing.
        fps: sampling rate of the list, frames a second.
    """
    listed = tuple(times)
    repeated = len(listed) - len(set(listed))
    return Timeline(tuple(range(len(listed))), listed, fps, listed[-1], 0, repeated, 0, 1, listed, own_times=True)


def thin(line: Timeline, frames: int, policy: str, tolerance: float = 0.25) -> Timeline:
    """The same clip in at most `frames` frames; a line that is short enough comes back as it is.

    A uniform list stays uniform. Policy `uniform` divides its rate by the smallest whole number that suffices, so that
    every k-th tick stays where it was; `ends` spreads exactly `frames` ticks from the first to the last listed frame,
    whatever rate that takes. Both show the listed frame nearest to each tick, and the last one at the end. Of an exact
    list, `uniform` keeps every k-th frame and the last, `ends` evenly spaced places with both ends; times stay the
    frames' own.

    Args:
        line: what `uniform` or `exact` made.
        frames: at least 1.
        policy: one of `THINNING`.
        tolerance: as for `uniform`.

    Raises:
        ValueError: no frames asked for, unknown policy.
    """
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    if policy not in THINNING:
        raise ValueError(f"policy: expected one of {', '.join(THINNING)}, found {policy!r}")
    if len(line.picks) <= frames:
        return line
    if line.own_times:
        return _fewer_of_exact(line, frames, policy)
    if policy == "ends" and frames > 1:
        return _on_grid(line.listed, (frames - 1) / line.duration, frames, line.divisor, tolerance)
    rate = line.sample_fps / max(2, _divisor(line.duration, line.sample_fps, frames))
    return _on_grid(line.listed, rate, _ticks(line.duration, rate), line.divisor, tolerance)


def clock_report(
    numbers: Sequence[int], clock: Clock, fps: float, declared: float | None, bounds: Iterable[float] = ()
) -> dict[str, int]:
    """Counts for one row, to add up per source: do its clocks disagree, and which keep the gold bounds in the clip?

    `rows_declared` is 1 where the row states its length in seconds, `rows_disagreeing` where that length and the
    native span differ by more than max(0.5 s, 1 / fps). Only for disagreeing rows with gold bounds there follow
    `disagreeing_with_gold`, 1, and for each of `CLOCKS` `gold_inside_<clock>`: 1 where all bounds lie between 0 and the
    clip's length by that clock (the last listed frame's time; for `declared`, the length as stated), rounding to one
    decimal granted. Without a declared length the report is empty.

    Args:
        numbers: native frame numbers, never decreasing.
        clock: the clip's native rate.
        fps: the sampling rate of the list, frames a second.
        declared: length of the clip in seconds where the row states it.
        bounds: starts, ends and times of the gold answer, in clip seconds.
    """
    if declared is None:
        return {}
    native = (numbers[-1] - numbers[0]) / clock.rate
    disagrees = abs(declared - native) > max(0.5, 1 / fps) + _FUZZ
    report = {"rows_declared": 1, "rows_disagreeing": int(disagrees)}
    edges = list(bounds) if disagrees else []
    if edges:
        low, high = min(edges), max(edges)
        report["disagreeing_with_gold"] = 1
        for name, length in (("native", native), ("index", (len(numbers) - 1) / fps), ("declared", declared)):
            report[f"gold_inside_{name}"] = int(-_ROUNDING <= low and high <= length + _ROUNDING)
    return report


@lru_cache(maxsize=1024)
def _grid(count: int, rate: float) -> tuple[float, ...]:
    return tuple([tick / rate for tick in range(count)])


def _ticks(duration: float, rate: float) -> int:
    """Ticks from 0 to the one nearest to the end; half a step counts up, so that an extra last frame is kept."""
    return math.floor(duration * rate + 0.5 + _FUZZ) + 1


def _divisor(duration: float, rate: float, limit: float) -> int:
    """The smallest whole number by which `rate` is divided so that there are at most `limit` ticks (2 or more)."""
    # Computed, not searched for: a hole may be of any size. What is left to search are errors of rounding.
    divisor = max(1, math.floor(duration * rate / (math.floor(limit) - 0.5)))
    while _ticks(duration, rate / divisor) > limit:
        divisor += 1
    return divisor


def _on_grid(listed: tuple[float, ...], rate: float, ticks: int, divisor: int, tolerance: float) -> Timeline:
    """The listed frame nearest to each of `ticks` ticks, of two equally near ones the earlier; the last at the end."""
    times = np.array(listed)
    shown = _grid(ticks, rate)
    grid = np.array(shown)
    after = np.minimum(times.searchsorted(grid), len(listed) - 1)
    before = np.maximum(after - 1, 0)
    picks = np.where(times[after] - grid < grid - times[before], after, before)
    picks[-1] = len(listed) - 1
    seen = times[picks]
    moved = int(np.count_nonzero(np.abs(seen - grid) > tolerance / rate + _FUZZ))
    changes = int(np.count_nonzero(seen[1:] != seen[:-1]))
    distinct = int(np.count_nonzero(times[1:] != times[:-1])) + 1
    repeated, left_out = ticks - 1 - changes, distinct - changes - 1
    return Timeline(tuple(picks.tolist()), shown, rate, listed[-1], moved, repeated, left_out, divisor, listed)


def _fewer_of_exact(line: Timeline, frames: int, policy: str) -> Timeline:
    count = len(line.picks)
    if policy == "ends" and frames > 1:
        keep = [round(place * (count - 1) / (frames - 1)) for place in range(frames)]
    else:
        keep = list(range(0, count, math.ceil(count / frames)))
        if keep[-1] != count - 1:
            if len(keep) < frames:
                keep.append(count - 1)
            elif frames > 1:
                keep[-1] = count - 1
    times = tuple([line.times[place] for place in keep])
    return replace(
        line,
        picks=tuple([line.picks[place] for place in keep]),
        times=times,
        sample_fps=line.sample_fps * len(keep) / count,
        repeated=len(times) - len(set(times)),
        left_out=len(set(line.listed)) - len(set(times)),
    )
