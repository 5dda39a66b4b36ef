# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Annotation rows of the synthetic MedVidBench, in the official format with its variants.

``rows`` is a generator: one row at a time, whatever their number. A row depends on (seed, source, task, its number)
alone, so any part of a set can be made again by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from data_preprocess import synthetic_text as words
from data_preprocess.annotations import QA_TYPES
from data_preprocess.synthetic_video import CLIPS_PER_VIDEO, PROFILES, SOURCES, Clip, Settings, active_labels, make_clip

PAIRS: tuple[tuple[str, str], ...] = (
    *((source, task) for source in ("AVOS", "CholecT50", "CoPESD", "EgoSurgery", "NurViD") for task in ("tal", "dvc")),
    *((source, "stg") for source in ("CholecTrack20", "CoPESD", "EgoSurgery")),
    *((source, "nap") for source in ("AVOS", "CholecT50", "CoPESD", "EgoSurgery")),
    *((source, "vs") for source in ("CholecT50", "CoPESD")),
    *((source, "rc") for source in ("CholecTrack20", "EgoSurgery")),
    ("Cholec80_CVS", "cvs"),
    ("JIGSAWS", "sa"),
)
QUESTION_PAIRS: tuple[tuple[str, str], ...] = (("AVOS", "qa"),)
"""Pairs of the task that is not published; a set has them on request."""
# The variants below go by remainders with divisors that share no factor with the usual numbers of videos, so that no
# variant is bound to certain videos.
_QA_TYPES = {task: name for name, task in QA_TYPES.items() if name != "dc"}


@dataclass
class Content:
    """What a task adds to a row: question, answer, ``struc_info`` and, for region captions, ``RC_info``."""

    question: str
    answer: str
    struc: Any
    region: dict[str, Any] | None = None


@dataclass(slots=True)
class Draw:
    """What a task builder works with: the clip, its label names, the row's own dice and its number in the pair."""

    clip: Clip
    labels: list[str]
    clauses: dict[str, str]
    rng: random.Random
    number: int
    plain: bool
    profile: str
    pick: list[int]
    still: bool = False

    def ask(self, task: str, **fields: object) -> str:
        """The human turn of ``task`` in this row's wording."""
        return words.question(task, self.clip.source, self.pick, **fields)

    def clause(self, label: int) -> str:
        """What is being done in the event with label position ``label``."""
        return self.clauses[self.labels[label]]


def _tal(draw: Draw) -> Content:
    clip = draw.clip
    late = not draw.plain and draw.number % 23 == 7
    target = clip.labels[-1] if late else draw.rng.choice(clip.labels)
    spans = [[round(start, 1), round(end, 1)] for start, end, label in clip.events if label == target]
    if late:
        # Official spans were seen to end slightly past the clip.
        spans[-1][1] = round(spans[-1][1] + 0.4, 1)
    name = draw.labels[target]
    listed = [{"start": start, "end": end} for start, end in spans]
    if clip.procedure:
        item = {"procedure": clip.procedure, "action_list": list(draw.clauses), "action": name, "spans": listed}
    else:
        item = {"phase" if clip.source in ("CholecT50", "EgoSurgery") else "action": name, "spans": listed}
    struc = item if not draw.plain and draw.number % 29 == 19 else [item]
    asked = draw.ask("tal", labels=", ".join(draw.clauses), target=name)
    return Content(asked, words.spans_text(spans), struc)


def _stg(draw: Draw) -> Content:
    clip, rng = draw.clip, draw.rng
    assert clip.tool is not None
    tool = words.INSTRUMENTS[clip.source][clip.tool]
    limits = PROFILES[draw.profile].boxes
    duration = int(clip.time(-1))
    start = rng.choice([0, round(clip.time(1))]) if duration >= 8 else 0
    stride = rng.choice([k for k in (4, 8) if start + k * (limits[0] - 1) <= duration] or [4])
    most = min(limits[1], (duration - start) // stride + 1)
    count = rng.randint(min(limits[0], most), most)
    end = min(duration, start + stride * (count - 1) + rng.randrange(stride))
    times = list(range(start, end + 1, stride))
    boxes = [(time, clip.box(time)) for time in times]
    decimals = not draw.plain and draw.number % 5 == 2
    item = {
        "start": float(start) if decimals else start,
        "end": float(end) if decimals else end,
        "stride": stride,
        "object": tool,
        "bbox_dict": {f"{time:.1f}" if decimals else str(time): box for time, box in boxes},
    }
    asked = draw.ask("stg", target=tool, start=f"{start:.1f}", end=f"{end:.1f}", stride=stride)
    return Content(asked, words.boxes_text(boxes), [item])


def _dvc(draw: Draw) -> Content:
    clip = draw.clip
    wording = draw.rng.randrange(2)
    events = [
        (round(start, 1), round(end, 1), words.caption(clip.source, draw.labels[label], draw.clause(label), wording))
        for start, end, label in clip.events
        if end > start
    ]
    number = int if clip.source == "CholecT50" else float
    listed = [{"start": number(start), "end": number(end), "caption": text} for start, end, text in events]
    struc: Any = listed
    if clip.source == "CholecT50":
        struc = [listed]
    elif clip.source == "NurViD":
        struc = [{"dc_segments": listed}]
    return Content(draw.ask("dvc"), words.events_text(events), struc)


def _nap(draw: Draw) -> Content:
    """The next action is the step after the last one seen, the first after the last: a rule that can be learnt."""
    following = draw.labels[(draw.clip.labels[-1] + 1) % len(draw.labels)]
    struc = ([{"next_action": following}], [], None)[0 if draw.plain else draw.number % 5 % 3]
    return Content(draw.ask("nap", options=list(draw.clauses)), following, struc)


def _vs(draw: Draw) -> Content:
    text = words.summary(draw.clip.source, [draw.clause(label) for label in draw.clip.labels])
    return Content(draw.ask("vs"), text, [{"summary": text}] if draw.plain or draw.number % 5 % 2 else [])


def _rc(draw: Draw) -> Content:
    clip, rng = draw.clip, draw.rng
    assert clip.tool is not None
    tool = words.INSTRUMENTS[clip.source][clip.tool]
    index = rng.randrange(len(clip.numbers) - 1)
    start, end, label = next(event for event in reversed(clip.events) if event[0] <= clip.time(index))
    box = clip.box(clip.time(index))
    asked = draw.ask("rc", time=f"{clip.time(index):.1f}")
    info = {
        "start": round(start, 1),
        "end": round(end, 1),
        "object": tool,
        "start_frame": clip.numbers[index],
        "start_frame_bbox": box,
        "phase_info": {"phase": draw.labels[label]},
    }
    struc = [{"question": asked.removeprefix("<video>\n"), "struc_info": info}]
    region = {"start_frame": clip.frames[index], "start_frame_bbox": box}
    text = words.region(clip.source, tool, draw.clause(label))
    if draw.still:
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        text = words.still(tool, draw.clause(label), words.place(*middle, SOURCES[clip.source].canvas))
    return Content(asked, text, struc, region)


def _cvs(draw: Draw) -> Content:
    scores = draw.clip.scores
    fields: dict[str, int] = dict(zip(words.CVS_NAMES, scores, strict=True))
    if not draw.plain and draw.number % 5 == 1:
        fields["total"] = sum(scores)
    return Content(draw.ask("cvs"), words.cvs_text(scores), [{"cvs_scores": fields}])


def _sa(draw: Draw) -> Content:
    scores = draw.clip.scores
    mean = sum(scores) / len(scores)
    level = "N" if mean <= 2.0 else "I" if mean <= 3.5 else "E"
    aspects = ", ".join(aspect.lower() for aspect in words.SKILL_ASPECTS)
    struc = [{"skill_level": level, "skill_scores": dict(zip(words.SKILL_ASPECTS, scores, strict=True))}]
    return Content(draw.ask("sa", aspects=aspects), words.skill_text(scores), struc)


def _qa(draw: Draw) -> Content:
    when, label = draw.rng.choice((("first", draw.clip.labels[0]), ("last", draw.clip.labels[-1])))
    text = words.step(draw.clip.source, when, draw.clause(label))
    return Content(draw.ask("qa", when=when), text, [{"kind": "observation"}])


_BUILDERS: dict[str, Callable[[Draw], Content]] = {
    "tal": _tal,
    "stg": _stg,
    "dvc": _dvc,
    "nap": _nap,
    "vs": _vs,
    "rc": _rc,
    "cvs": _cvs,
    "sa": _sa,
    "qa": _qa,
}


def clip_of(settings: Settings, source: str, number: int, test: bool = False) -> Clip:
    """The clip behind the ``number``-th row of every pair of ``source``: pairs share clips, and so frames.

    Rows beyond the last clip use the clips again, with other questions, as official rows do. Test rows come from
    videos of their own.
    """
    videos = max(1, settings.videos // 4) if test else settings.videos
    return _clip(settings, source, number % (videos * CLIPS_PER_VIDEO), videos, settings.videos if test else 0)


# The bound holds all clips of the largest set (8 sources, 80 videos, 12 clips) in about 130 MB.
@lru_cache(maxsize=7680)
def _clip(settings: Settings, source: str, ordinal: int, videos: int, first_video: int) -> Clip:
    place, video = divmod(ordinal, videos)
    return make_clip(settings, source, first_video + video, place, ordinal)


def qa_type(task: str, number: int, plain: bool) -> str:
    """Official name of ``task``; captions carry the model that wrote them, or nothing, and ``dc`` occurs too."""
    name = _QA_TYPES[task]
    if task not in ("dvc", "vs", "rc"):
        return name
    if not plain and number % 17 in (9, 14):
        return "dc" if task == "dvc" and number % 17 == 14 else name
    return f"{name}_{'gemini' if number % 7 % 2 else 'gpt'}"


def row_id(clip: Clip, metadata: dict[str, str]) -> str:
    """The id as official rows spell it; not unique, since rows share clips."""
    if clip.source == "NurViD":
        start, end = (float(metadata[f"input_video_{edge}_time"]) for edge in ("start", "end"))
        return f"{clip.video_id}&&{start:.2f}&&{end:.2f}&&{clip.fps}"
    part = f"_part{clip.numbers[0] % 3}" if clip.source == "EgoSurgery" else ""
    return f"{clip.fps}${clip.video_id}{part}${clip.numbers[0]}${clip.numbers[-1]}"


def metadata_of(clip: Clip, plain: bool) -> dict[str, str]:
    """``metadata``: strings only, and one of three pairs of bounds.

    NurViD has two kinds of rows: real times of the source video, and 0.0 to the number of listed frames over fps.
    """
    shared = {"video_id": clip.video_id, "fps": str(clip.fps)}
    first, last = clip.numbers[0], clip.numbers[-1]
    if clip.source == "NurViD":
        bounds = (first / 2 - 0.2, last / 2 - 0.3)
        if not plain and first // 2 % 4 < 2:
            bounds = (0.0, len(clip.numbers) / clip.fps)
        return shared | {f"input_video_{e}_time": f"{t:.1f}" for e, t in zip(("start", "end"), bounds, strict=True)}
    stem = "{}_frame" if clip.source == "Cholec80_CVS" else "input_video_{}_frame"
    return shared | {stem.format("start"): str(first), stem.format("end"): str(last)}


def build_row(settings: Settings, source: str, task: str, number: int, test: bool = False) -> dict[str, Any]:
    """The ``number``-th row of the pair; a test row has neither the answer turn nor ``struc_info``."""
    clip = clip_of(settings, source, number, test)
    plain = settings.variants == "plain"
    rng = random.Random(f"{settings.seed}/{source}/{task}/{number}/{test}")
    draw = Draw(
        clip,
        active_labels(source, clip.procedure, PROFILES[settings.profile]) if not clip.scores else [],
        words.clauses_of(source, clip.procedure) if not clip.scores else {},
        rng,
        number,
        plain,
        settings.profile,
        rng.choices(range(12), k=3),
        settings.stills and task == "rc" and number % 2 == 1,
    )
    content = _BUILDERS[task](draw)
    spelled = "Cholec80-CVS" if source == "Cholec80_CVS" and not plain and number % 5 == 3 else source
    metadata = metadata_of(clip, plain)
    row: dict[str, Any] = {
        "id": row_id(clip, metadata),
        "qa_type": qa_type(task, number, plain),
        "data_source": spelled,
        "dataset_name": spelled,
        "conversations": [{"from": "human", "value": content.question}],
        "video": clip.frames,
        "sampled_video_frames": clip.numbers,
        "metadata": metadata,
        "is_RC": content.region is not None,
        "RC_info": content.region,
        "train": not test,
    }
    if draw.still and content.region is not None:
        at = clip.frames.index(content.region["start_frame"])
        row |= {"video": [clip.frames[at]], "sampled_video_frames": [clip.numbers[at]]}
    if not plain and number % 13 in (4, 10):
        del row["data_source" if number % 13 == 4 else "dataset_name"]
    if not test:
        row["conversations"].append({"from": "gpt", "value": content.answer})
        if content.struc is not None:
            row["struc_info"] = content.struc
    return row


def rows(
    settings: Settings, count: int, test: bool = False, pairs: Sequence[tuple[str, str]] = PAIRS
) -> Iterator[tuple[dict[str, Any], Clip]]:
    """The first ``count`` rows with their clips, one row of every pair in turn."""
    # Pairs of one source stand together, so that the clip they share is built once.
    by_source = sorted(pairs, key=lambda pair: pair[0])
    for i in range(count):
        number, pair = divmod(i, len(by_source))
        source, task = by_source[pair]
        yield build_row(settings, source, task, number, test), clip_of(settings, source, number, test)
