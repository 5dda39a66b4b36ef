# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Test whether frame lists give answers away: compare marks in the lists with the boundaries of the gold answers.

    python data_preprocess/medvidbench.py leaks trainval.json [more.json] [--json report.json]

A *mark* is a place of a frame list that looks unlike the rest: a repeated frame, a joint (a step below half the usual
one), the two edges of a hole, a change of stride. Marks closer than one sampling interval to the first of them are
one. A *boundary* is a distinct start or end of a gold span (tal) or event (dvc). Marks and boundaries within one
sampling interval of the clip's first or last frame count neither way: lists and answers both end where clips do.

Three measures, per source, over the rows that have marks:

- the share of boundaries within one sampling interval of a mark, against the same share for chance: the boundary moved
  to every other listed frame of its clip, its offset to the nearest listed frame kept;
- in tal, a guesser that knows nothing but the marks and proposes the spans between them: the mean over gold spans of
  the best proposal's IoU, and the share of gold spans where it is at least 0.5;
- in dvc, the same guesser's F1: precision is the share of its spans that overlap some event with an IoU of at least
  0.5, recall the share of events that some span overlaps so.

The guesser is compared with itself on as many marks at random listed frames. All is measured twice: on the lists as
given, and on the uniform lists that the preprocessor writes, where all that can be seen is two neighbouring ticks
that show the same frame, or frames less than half a step apart. Intervals are 95 %, from a bootstrap over videos.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tqdm import tqdm

from data_preprocess.annotations import RecordError, Sample, parse_record
from data_preprocess.atomic import written_whole
from data_preprocess.json_stream import read_rows
from data_preprocess.parts import PipelineError
from data_preprocess.timeline import CLOCKS, Clock, Timeline, frame_seconds, native_clock, uniform
from data_preprocess.wording import Parser, status_of
from reward_score.bootstrap import draw, interval, ratio

TASKS = ("tal", "dvc")
LISTS = ("listed", "emitted")
OVERLAP = 0.5
DRAWS = 16
"""Random sets of marks that a guesser is compared with, per row."""
MIN_VIDEOS = 5
"""A bootstrap over fewer videos says nothing; no verdict then."""
MAX_BAD = 0.01
_FUZZ = 1e-6
MEASURES = {
    "boundaries": ("near", "chance", "boundaries", "boundaries near marks"),
    "tal_iou": ("iou", "iou_random", "tal", "tal IoU"),
    "tal_share": ("share", "share_random", "tal", "tal IoU >= 0.5"),
    "dvc_f1": ("f1", "f1_random", "dvc", "dvc F1"),
}
"""By name: which sums are compared, that of what they are shared over, and the column's title."""
# What is summed per video; the second group exists in tal rows only, the third in dvc rows.
_SUMS = ("boundaries", "near", "chance", "tal", "iou", "iou_random", "share", "share_random", "dvc", "f1", "f1_random")


@dataclass(frozen=True)
class Marks:
    """Places of a list that look unlike the rest, in clip seconds, their kinds, and what counts as near to one."""

    places: np.ndarray
    kinds: tuple[str, ...]
    reach: float


@dataclass
class _Source:
    """What is known of one source: rows, and for each kind of list the marks by kind and the sums by video."""

    rows: int = 0
    videos: set[str] = field(default_factory=set)
    rows_with_marks: Counter[str] = field(default_factory=Counter)
    marks: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in LISTS})
    sums: dict[str, dict[str, np.ndarray]] = field(default_factory=lambda: {name: {} for name in LISTS})


def listed_marks(numbers: Sequence[int], times: Sequence[float], clock: Clock, fps: float) -> Marks:
    """Repeats, joints, holes and stride changes of a frame list.

    Args:
        numbers: native frame numbers, never decreasing.
        times: clip seconds of the listed frames.
        clock: the clip's native rate.
        fps: the sampling rate of the list, frames a second.
    """
    steps = np.diff(np.array(numbers, dtype=np.float64))
    if len(steps) < 2 or not steps.any():
        return Marks(np.empty(0), (), 1 / fps)
    usual = float(np.median(steps[steps > 0]))
    stride = clock.rate / fps
    # An even sampling is rounded to whole frames, so that steps differ by one; where the stride is a small whole number
    # there is nothing to round, and one frame is half a step.
    slack = 0 if usual <= 2 and abs(stride - round(stride)) < _FUZZ else 1
    short = steps < usual / 2
    odd = (np.abs(np.diff(steps)) > slack) | short[1:] | short[:-1]
    found = []
    for frame in (np.flatnonzero(odd) + 1).tolist():
        around = steps[frame - 1 : frame + 1]
        if around.min() == 0:
            kind = "repeat"
        elif around.min() < usual / 2:
            kind = "joint"
        else:
            kind = "hole" if around.max() > 1.5 * usual else "change"
        found.append((times[frame], kind))
    return _merged(found, 1 / fps, times[-1])


def emitted_marks(line: Timeline, native: Sequence[float]) -> Marks:
    """What can be seen in a list that is shown at even times: frames that stay, or nearly stay, from tick to tick.

    A run of such ticks longer than one step is marked at both its ends. `native` are the listed frames' seconds on the
    native clock, whatever clock the list was made by: pictures are alike that lie close together in the video.
    """
    step = 1 / line.sample_fps
    seen = np.array(native)[list(line.picks)]
    still = np.concatenate(([False], np.diff(seen) <= step / 2, [False]))
    turns = np.flatnonzero(still[1:] != still[:-1])
    found = []
    for first, last in zip(turns[::2], turns[1::2], strict=True):
        places = (first * step, last * step) if last - first > 1 else ((first + last) / 2 * step,)
        found += [(float(place), "repeat") for place in places]
    return _merged(found, step, line.duration)


def _merged(found: Sequence[tuple[float, str]], reach: float, duration: float) -> Marks:
    """Marks in their order, those within `reach` of the first of a group as one, at the group's middle."""
    groups: list[list[tuple[float, str]]] = []
    for place, kind in found:
        if groups and place - groups[-1][0][0] <= reach + _FUZZ:
            groups[-1].append((place, kind))
        else:
            groups.append([(place, kind)])
    order = ("repeat", "joint", "hole", "change")
    merged = [((group[0][0] + group[-1][0]) / 2, min((k for _, k in group), key=order.index)) for group in groups]
    kept = [(place, kind) for place, kind in merged if _inside(place, reach, duration)]
    return Marks(np.array([place for place, _ in kept]), tuple(kind for _, kind in kept), reach)


def _inside(places: Any, reach: float, duration: float) -> Any:
    return (places > reach + _FUZZ) & (places < duration - reach - _FUZZ)


def gold_spans(sample: Sample) -> list[tuple[float, float]]:
    """(start, end) in clip seconds of a tal or dvc row's gold answer."""
    ground = sample.ground or {}
    if sample.task == "tal":
        return [(start, end) for start, end in ground["spans"]]
    return [(event["start"], event["end"]) for event in ground["events"]]


def boundaries(spans: Sequence[tuple[float, float]], reach: float, duration: float) -> np.ndarray:
    """Distinct starts and ends further than `reach` from the clip's ends."""
    edges = np.unique(np.array(spans, dtype=np.float64))
    return edges[_inside(edges, reach, duration)]


def near(places: np.ndarray, marks: Marks) -> np.ndarray:
    """Which places lie within one sampling interval of a mark."""
    lows, highs = _near_marks(marks)
    # Neighbouring stretches may overlap; each is as long as the others, so that their order is one for both ends.
    return np.searchsorted(lows, places, "right") > np.searchsorted(highs, places)


def _near_marks(marks: Marks) -> tuple[np.ndarray, np.ndarray]:
    """First and last place near each mark, in order."""
    places = np.sort(marks.places)
    return places - marks.reach - _FUZZ, places + marks.reach + _FUZZ


def chance(edges: np.ndarray, times: np.ndarray, marks: Marks) -> float:
    """How many of the boundaries would lie near a mark if each stood at any listed frame of the clip.

    A boundary keeps its offset (up to half an interval) to the listed frame nearest to it, so that rounding and whole
    seconds fall alike in both counts.
    """
    after = np.clip(np.searchsorted(times, edges), 1, len(times) - 1) if len(times) > 1 else np.zeros(len(edges), int)
    before = np.maximum(after - 1, 0)
    closest = np.where(times[after] - edges < edges - times[before], times[after], times[before])
    offsets = np.clip(edges - closest, -marks.reach / 2, marks.reach / 2)
    first, last = marks.reach + _FUZZ, times[-1] - marks.reach - _FUZZ
    if first >= last:
        return 0.0
    # The stretches near marks, without overlap and within the clip.
    lows, highs = _near_marks(marks)
    lows, highs = np.maximum(lows, first), np.minimum(highs, last)
    highs[:-1] = np.minimum(highs[:-1], np.maximum(lows[1:], lows[:-1]))
    kept = lows < highs
    hits = _below(times, highs[kept], offsets, marks.reach / 2) - _below(times, lows[kept], offsets, marks.reach / 2)
    allowed = np.searchsorted(times, last - offsets, "right") - np.searchsorted(times, first - offsets, "right")
    return float((hits / np.maximum(allowed, 1)).sum())


def _below(times: np.ndarray, bounds: np.ndarray, offsets: np.ndarray, most: float) -> np.ndarray:
    """For each offset (at most `most`), the sum over the bounds of how many times are at most the bound, moved by it.

    Only the times within `most` of a bound change sides with the offset, and each is near few bounds: so the memory is
    linear in all three arrays.
    """
    first = np.searchsorted(times, bounds - most)
    counts = np.searchsorted(times, bounds + most, "right") - first
    starts = np.cumsum(counts) - counts
    places = np.arange(counts.sum()) + np.repeat(first - starts, counts)
    gaps = np.sort(np.repeat(bounds, counts) - times[places])
    return first.sum() + len(gaps) - np.searchsorted(gaps, offsets)


def overlaps(spans: Sequence[tuple[float, float]], places: np.ndarray, duration: float) -> list[tuple[int, np.ndarray]]:
    """The spans between neighbouring marks or clip ends that may share time with each gold span.

    Returns:
        For each gold span the number of the first such span, and the IoU of this one and of those that follow it.
    """
    edges = np.concatenate(([0.0], np.sort(places), [duration]))
    last = len(edges) - 2
    found = []
    for start, end in spans:
        first = min(max(int(np.searchsorted(edges, start, "right")) - 1, 0), last)
        final = min(max(int(np.searchsorted(edges, end)) - 1, first), last)
        lows, highs = edges[first : final + 1], edges[first + 1 : final + 2]
        shared = np.minimum(end, highs) - np.maximum(start, lows)
        whole = np.maximum(end, highs) - np.minimum(start, lows)
        found.append((first, np.where(shared > 0, shared / np.maximum(whole, _FUZZ), 0.0)))
    return found


def guess(task: str, spans: Sequence[tuple[float, float]], places: np.ndarray, duration: float) -> tuple[float, ...]:
    """Score of the spans between the marks: in tal (mean best IoU, share of at least 0.5), in dvc (F1,)."""
    found = overlaps(spans, places, duration)
    best = np.array([ious.max() for _, ious in found])
    if task == "tal":
        return float(best.mean()), float((best >= OVERLAP).mean())
    hit = {first + int(place) for first, ious in found for place in np.flatnonzero(ious >= OVERLAP)}
    recall, precision = float((best >= OVERLAP).mean()), len(hit) / (len(places) + 1)
    return (2 * precision * recall / (precision + recall) if hit else 0.0,)


def measure(task: str, spans: list, times: np.ndarray, marks: Marks, rng: np.random.Generator) -> np.ndarray:
    """One row's share in the sums `_SUMS` of its video."""
    duration = float(times[-1])
    edges = boundaries(spans, marks.reach, duration)
    sums = dict.fromkeys(_SUMS, 0.0)
    if len(edges):
        sums["boundaries"] = len(edges)
        sums["near"] = float(near(edges, marks).sum())
        sums["chance"] = chance(edges, times, marks)
    sums[task] = 1.0
    inner = np.unique(times[_inside(times, marks.reach, duration)])
    count = min(len(marks.places), len(inner))
    draws = [rng.choice(inner, count, replace=False) for _ in range(DRAWS)]
    names = ("iou", "share") if task == "tal" else ("f1",)
    real = guess(task, spans, marks.places, duration)
    random = np.mean([guess(task, spans, draw, duration) for draw in draws], axis=0)
    for name, value, other in zip(names, real, random, strict=True):
        sums[name], sums[f"{name}_random"] = value, float(other)
    return np.array([sums[name] for name in _SUMS])


def add_sample(source: _Source, sample: Sample, mode: str, rng: np.random.Generator) -> None:
    """Measures one row with an answer, on its list as given and on the uniform one."""
    clock = native_clock(sample.source, sample.frames, sample.numbers, sample.fps, sample.declared)
    times = frame_seconds(sample.numbers, clock, sample.fps, sample.declared, mode)
    spans = gold_spans(sample)
    source.rows += 1
    source.videos.add(sample.video_id)
    both = (
        listed_marks(sample.numbers, times, clock, sample.fps),
        emitted_marks(uniform(times, sample.fps), frame_seconds(sample.numbers, clock, sample.fps)),
    )
    for name, marks in zip(LISTS, both, strict=True):
        if not len(marks.places) or not spans:
            continue
        source.rows_with_marks[name] += 1
        source.marks[name].update(marks.kinds)
        sums = measure(sample.task, spans, np.array(times), marks, rng)
        known = source.sums[name].get(sample.video_id)
        source.sums[name][sample.video_id] = sums if known is None else known + sums


def difference(table: np.ndarray, value: str, other: str, count: str, rng: np.random.Generator) -> dict[str, Any]:
    """(sum of `value` - sum of `other`) / sum of `count`, with a 95 % bootstrap interval over the videos.

    `table` has a row for each video and a column for each of `_SUMS`. `found` says whether the interval lies above 0;
    it is None, as the interval is, where too few videos have anything to count.
    """
    a, b, n = (table[:, _SUMS.index(name)] for name in (value, other, count))
    a, b, n = a[n > 0], b[n > 0], n[n > 0]
    if not len(n):
        return {"count": 0, "videos": 0}
    result: dict[str, Any] = {
        "count": int(n.sum()),
        "videos": len(n),
        "value": float(a.sum() / n.sum()),
        "chance": float(b.sum() / n.sum()),
        "difference": float((a - b).sum() / n.sum()),
        "interval": None,
        "found": None,
    }
    if len(n) >= MIN_VIDEOS:
        drawn = draw(len(n), seed=rng)
        low, high, _ = interval(ratio(drawn @ (a - b), drawn @ n))
        result |= {"interval": [low, high], "found": low is not None and low > 0}
    return result


def _summary(source: _Source, name: str, rng: np.random.Generator) -> dict[str, Any]:
    table = np.array(list(source.sums[name].values())).reshape(-1, len(_SUMS))
    return {
        "rows_with_marks": source.rows_with_marks[name],
        "marks": dict(sorted(source.marks[name].items())),
        **{name: difference(table, value, other, n, rng) for name, (value, other, n, _) in MEASURES.items()},
    }


def run(files: Sequence[str], clock: str = "native", seed: int = 0) -> dict[str, Any]:
    """Measures all rows of some annotation files; equal arguments give equal reports.

    Args:
        files: annotation files with answers.
        clock: which clock the frames stand by, one of `timeline.CLOCKS`.
        seed: of the random marks and of the bootstrap.

    Returns:
        `rows` (read, measured, without_answers, other_tasks, bad), `first_bad` (a line or None), and for each source
        `rows`, `videos` and, for `listed` and `emitted` lists, marks by kind and the measures: `count`, `videos`,
        `value`, `chance`, `difference`, `interval`, `found`.

    Raises:
        RecordError: a file that cannot be read to its end.
    """
    rng = np.random.default_rng(seed)
    rows: Counter[str] = Counter()
    first_bad: str | None = None
    sources: dict[str, _Source] = defaultdict(_Source)
    bar = tqdm(unit=" rows", desc="leaks", disable=None, mininterval=1.0)
    for file in files:
        for index, raw in read_rows(file):
            bar.update()
            rows["read"] += 1
            try:
                sample = parse_record(raw, str(file), index)
            except RecordError as error:
                rows["bad"] += 1
                first_bad = first_bad or str(error)
                continue
            if sample.task not in TASKS:
                rows["other_tasks"] += 1
            elif sample.ground is None:
                rows["without_answers"] += 1
            else:
                rows["measured"] += 1
                add_sample(sources[sample.source], sample, clock, rng)
    bar.close()
    return {
        "files": [os.path.basename(file) for file in files],
        "clock": clock,
        "seed": seed,
        "rows": {name: rows[name] for name in ("read", "measured", "other_tasks", "without_answers", "bad")},
        "first_bad": first_bad,
        "sources": {
            name: {"rows": source.rows, "videos": len(source.videos)}
            | {which: _summary(source, which, rng) for which in LISTS}
            for name, source in sorted(sources.items())
        },
    }


def _cell(measure: dict[str, Any]) -> str:
    if not measure["count"]:
        return "-"
    text = f"{measure['value']:.3f} / {measure['chance']:.3f}"
    return text if measure["interval"] is None else text + " [{:+.3f}, {:+.3f}]".format(*measure["interval"])


def verdict(measures: dict[str, Any]) -> str:
    """Whether one kind of list gives boundaries away, in a word or two."""
    if not measures["rows_with_marks"]:
        return "no, no marks"
    interval = measures["boundaries"].get("interval")
    if interval is None:
        return "too few videos"
    # Marks that keep away from boundaries tell where these are not, which is little, but something.
    return "YES" if interval[0] > 0 else "no, fewer than by chance" if interval[1] < 0 else "no"


def print_report(report: dict[str, Any]) -> None:
    """The report as text on standard output."""
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report["rows"].items())
    print(f"rows: {counts}; clock: {report['clock']}, seed {report['seed']}")
    if report["first_bad"]:
        print(f"first bad row: {report['first_bad']}")
    print("each cell: measured / by chance [95 % interval of the difference, over videos]")
    heads = ("source", "list", "rows with marks", *(title for *_, title in MEASURES.values()), "leak")
    lines = [heads]
    for source_name, source in report["sources"].items():
        for which in LISTS:
            part = source[which]
            cells = (_cell(part[name]) for name in MEASURES)
            lines.append((source_name, which, f"{part['rows_with_marks']}/{source['rows']}", *cells, verdict(part)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    for which, words in (
        ("listed", "frame lists as given lie about gold boundaries"),
        ("emitted", "uniform lists still carry it"),
    ):
        told = [name for name, source in report["sources"].items() if source[which]["boundaries"].get("found")]
        print(f"{words}: {'yes, ' + ', '.join(told) if told else 'no'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """`medvidbench.py leaks`: prints the report; returns the exit status."""
    parser = Parser("medvidbench leaks", (__doc__ or "").split("\n\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="annotation files with answers")
    parser.add_argument("--clock", choices=CLOCKS, default="native", help="clock of a frame's time (default native)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random marks and of the bootstrap (default 0)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the report to this file")
    options = parser.parse_args(arguments)

    def report() -> int:
        found = run(options.files, options.clock, options.seed)
        rows = found["rows"]
        if rows["bad"] > MAX_BAD * rows["read"]:
            raise PipelineError(f"{rows['bad']} of {rows['read']} rows are bad; the first: {found['first_bad']}")
        print_report(found)
        if options.json:
            with written_whole(options.json) as partial:
                partial.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        return 0

    return status_of("medvidbench leaks", report, (RecordError, PipelineError))
