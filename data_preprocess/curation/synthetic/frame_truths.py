# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The truths of the synthetic sources whose annotators labelled single frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_preprocess.curation.model import Boxed, Run, Video
from data_preprocess.curation.sources import cholec, copesd, egosurgery
from data_preprocess.curation.sources.cholect50 import split_of
from data_preprocess.curation.synthetic.drawing import Scale, boxes_of_runs, first_numbers, label_runs
from data_preprocess.geometry import CANVASES
from reward_score.boxes import Box
from reward_score.vocabularies import label_lists

TRIPLETS = (
    "grasper,retract,gallbladder",
    "hook,dissect,cystic_plate",
    "bipolar,coagulate,liver",
    "clipper,clip,cystic_duct",
    "scissors,cut,cystic_artery",
    "irrigator,aspirate,fluid",
)
"""The triplets that occur, by id."""
TRACK20 = {"train": ("Training", (2, 4, 11)), "val": ("Validation", (110, 130)), "test": ("Testing", (1, 6, 7))}
"""Folder and numbers of the videos of a split; VID30 and VID31 are left to the errata."""
EGO_TOOLS = (
    "Bipolar Forceps",
    "Electric Cautery",
    "Forceps",
    "Gauze",
    "Hook",
    "Mouth Gag",
    "Needle Holders",
    "Raspatory",
    "Retractor",
    "Scalpel",
    "Scissors",
    "Skewer",
    "Suction Cannula",
    "Syringe",
    "Tweezers",
)
EGO_HANDS = ("Own hands left", "Own hands right", "Other hands left", "Other hands right")
EGO_OTHERS = tuple(f"Other thing {number}" for number in range(19))
"""Classes of EgoSurgery's box files: tools, hands, and what only the file with all 38 has."""


def cholect50_truth(scale: Scale) -> Iterator[Video]:
    """Operations at one frame a second: phases, instruments and what they do."""
    for number in first_numbers((1, 8, 6), scale.videos):
        rng = scale.dice("CholecT50", number)
        count, name = scale.seconds, f"VID{number:02d}"
        done = label_runs(TRIPLETS, count, 1.0, "triplet", rng, scale.lengths, 0.8)
        used = [Run(run.start, run.end, run.label.split(",")[0], "instrument") for run in done]
        runs = [*label_runs(cholec.PHASES, count, 1.0, "phase", rng, scale.lengths), *used, *done]
        boxes = [] if scale.errata else boxes_of_runs(used, 1.0, cholec.CANVAS, rng, rounded=False)
        yield Video(
            source="CholecT50",
            video_id=name,
            rate=1.0,
            first=0,
            numbers=list(range(count)),
            path=f"CAMMA_data/CholecT50/videos/{name}/%06d.png",
            size=cholec.CANVAS,
            split=split_of(number),
            procedure=cholec.PROCEDURE,
            runs=tuple(runs),
            boxes=tuple(boxes),
            labels={"phase": cholec.PHASES, "instrument": cholec.INSTRUMENTS[:6]},
            media=f"videos/{name}",
        )


def cholectrack20_truth(scale: Scale) -> Iterator[Video]:
    """Operations whose frame numbers count 25 a second and are labelled once a second; with errata there are holes."""
    for at in range(scale.videos):
        split = ("train", "test", "val")[at % 3]
        folder, numbers = TRACK20[split]
        number = numbers[at // 3] if at // 3 < len(numbers) else 200 + at
        name = f"VID{number:02d}"
        rng = scale.dice("CholecTrack20", number)
        seconds = list(range(scale.seconds))
        if scale.errata:
            # Longer than the seconds over which a run goes on.
            third = scale.seconds // 3
            seconds = [second if second < third else second + 91 for second in seconds]
        phases = _over_holes(label_runs(cholec.PHASES, scale.seconds, 1.0, "phase", rng, scale.lengths), seconds)
        used = _over_holes(
            label_runs(("grasper", "hook", "irrigator"), scale.seconds, 1.0, "instrument", rng, scale.lengths), seconds
        )
        boxes = []
        for track, run in enumerate(used):
            phase = {run.label: run.label for run in phases}
            for box in boxes_of_runs([run], 1.0, cholec.CANVAS, rng):
                if box.time not in seconds:
                    continue
                (now,) = [phase[p.label] for p in phases if p.start <= box.time <= p.end]
                boxes.append(Boxed(box.time, box.box, box.label, str(track), {"operator": "MSRH", "phase": now}))
        yield Video(
            source="CholecTrack20",
            video_id=name,
            rate=25.0,
            first=1,
            numbers=[25 * second + 1 for second in seconds],
            path=f"CAMMA_data/CholecTrack20/{folder}/{name}/Frames/%06d.png",
            size=cholec.CANVAS,
            split=split,
            procedure=cholec.PROCEDURE,
            runs=(*phases, *used),
            boxes=tuple(boxes),
            labels={"phase": cholec.PHASES, "instrument": cholec.INSTRUMENTS},
            media=f"{folder}/{name}",
        )


def copesd_truth(scale: Scale) -> Iterator[Video]:
    """Folders of pictures at one frame a second: an action and two instruments."""
    canvas = CANVASES["CoPESD"]
    actions = tuple(label_lists()["CoPESD"])
    for at in range(scale.videos):
        rng = scale.dice("CoPESD", at)
        name = f"{23000 + 101 * at:06d}"
        runs = label_runs(actions, scale.seconds, 1.0, "action", rng, scale.lengths, 0.9)
        tools = ("forceps", "knife")
        seen = [Run(run.start, run.end, tool, "instrument") for run in runs for tool in tools[: _tools_of(run.label)]]
        boxes = [Boxed(box.time, _in_hundredths(box.box), box.label) for box in boxes_of_runs(seen, 1.0, canvas, rng)]
        yield Video(
            source="CoPESD",
            video_id=name,
            rate=1.0,
            first=1,
            numbers=list(range(1, scale.seconds + 1)),
            path=f"CoPESD/high_light_images/{name}/%04d.jpg",
            size=canvas,
            split=("train", "test")[at % 2],
            procedure=copesd.PROCEDURE,
            runs=tuple(runs),
            boxes=tuple(boxes),
            labels={"action": actions, "instrument": tools},
            media=f"high_light_images/{name}",
        )


def egosurgery_truth(scale: Scale) -> Iterator[Video]:
    """Recordings at half a frame a second: phases, instruments and hands; with errata numbers are missing."""
    canvas, rate = CANVASES["EgoSurgery"], 0.5
    for at in range(scale.videos):
        surgery = (1, 5, 10, 4)[at] if at < 4 else 30 + at // 2
        recording = f"{surgery:02d}_{1 + at % 2}"
        rng = scale.dice("EgoSurgery", at)
        count = max(12, scale.seconds // 2)
        numbers = list(range(1, count + 1))
        if scale.errata:
            numbers = [number + 4 for number in numbers if number not in (6, 7, 8)]
        times = [(number - 1) / rate for number in numbers]
        phases = _over_holes(label_runs(egosurgery.PHASES, len(numbers), 1.0, "phase", rng, scale.lengths), times)
        things = ("Scalpel", "Own hands left", "Forceps", "Other hands right")
        seen = _over_holes(label_runs(things, len(numbers), 1.0, "instrument", rng, scale.lengths), times)
        boxes = [box for box in boxes_of_runs(seen, rate, canvas, rng) if box.time in times]
        yield Video(
            source="EgoSurgery",
            video_id=recording,
            rate=rate,
            first=1,
            numbers=numbers,
            path=f"EgoSurgery/images/{surgery:02d}/{recording}_%04d.jpg",
            size=canvas,
            split={1: "train", 5: "val", 10: "test", 4: "train"}.get(surgery, ""),
            procedure=egosurgery.PROCEDURE,
            runs=tuple(phases),
            boxes=tuple(boxes),
            labels={"phase": egosurgery.PHASES, "instrument": EGO_TOOLS + EGO_HANDS + EGO_OTHERS * scale.errata},
            media=f"images/{surgery:02d}",
        )


def _over_holes(runs: Sequence[Run], times: Sequence[float], longest: float = 10.0) -> list[Run]:
    """Runs over places 0, 1, 2, ... as runs over `times`; a longer step than `longest` cuts a run in two."""
    cut: list[Run] = []
    for run in runs:
        begin = int(run.start)
        for place in range(int(run.start), int(run.end) + 1):
            if place == int(run.end) or times[place + 1] - times[place] > longest:
                cut.append(Run(float(times[begin]), float(times[place]), run.label, run.kind))
                begin = place + 1
    return cut


def _tools_of(action: str) -> int:
    """1 where the forceps work alone, else 2."""
    return 2 if "knife" in action or "camera" in action else 1


def _in_hundredths(box: Box) -> Box:
    """A box at the nearest hundredths of the long side, in pixels with two decimals, as the source can say it."""
    x1, y1, x2, y2 = (round(round(value / copesd.LONG_SIDE, 2) * copesd.LONG_SIDE, 2) for value in box)
    return x1, y1, x2, y2
