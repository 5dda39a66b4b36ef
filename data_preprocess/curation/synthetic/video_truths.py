# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The truths of the synthetic sources whose annotators labelled stretches of time."""

from __future__ import annotations

import random
from collections.abc import Iterator

from data_preprocess.curation.model import Run, Scores, Video
from data_preprocess.curation.sources import avos, cholec, jigsaws
from data_preprocess.curation.sources.cholec80_cvs import split_of
from data_preprocess.curation.synthetic.drawing import Scale, boxes_of_runs, first_numbers, label_runs, stretches
from data_preprocess.geometry import NATIVE_SIZES, assumed_size
from reward_score.answers import ASPECTS, CVS_COMPONENTS
from reward_score.vocabularies import label_lists

NURVID_PROCEDURES = ("Bed Shampoo", "Blood Glucose Monitoring", "Closed Intravenous infusion", "Defibrillation")


def cholec80_cvs_truth(scale: Scale) -> Iterator[Video]:
    """Operations with scored stretches up to clipping and cutting; what nobody scored is zero."""
    for number in first_numbers((3, 1, 5), scale.videos):
        rng = scale.dice("Cholec80_CVS", number)
        # Phases are labelled 25 times a second, scores are told in whole seconds.
        clipping = scale.seconds * 2 // 3
        edges = [(0, clipping // 3), (clipping // 3, clipping), (clipping, scale.seconds)]
        phases = [
            Run(start, end - 1 / 25, label, "phase") for (start, end), label in zip(edges, cholec.PHASES, strict=False)
        ]
        scored, reached = [], 0
        for start, end in stretches(clipping, rng, 20, 40):
            points = [rng.choice((0, 1, 2)) for _ in CVS_COMPONENTS]
            last = clipping if end == clipping - 1 else end
            if sum(points) and last - start > 1:
                if start - reached > 1:
                    scored.append(Scores(reached, start, dict.fromkeys(CVS_COMPONENTS, 0)))
                scored.append(Scores(start, last, dict(zip(CVS_COMPONENTS, points, strict=True))))
                reached = last
        if clipping - reached > 1:
            scored.append(Scores(reached, clipping, dict.fromkeys(CVS_COMPONENTS, 0)))
        yield Video(
            source="Cholec80_CVS",
            video_id=f"video{number:02d}",
            rate=25.0,
            first=0,
            numbers=range(scale.seconds * 25),
            path=f"Cholec80_CVS/frames/video{number:02d}/%06d.jpg",
            size=cholec.CANVAS,
            split=split_of(number),
            procedure=cholec.PROCEDURE,
            runs=tuple(phases),
            scores=tuple(scored),
            labels={"phase": cholec.PHASES},
            media=f"videos/video{number:02d}.mp4",
        )


def avos_truth(scale: Scale) -> Iterator[Video]:
    """Web videos with actions in half seconds, and a picture a second with hands and instruments."""
    for at in range(scale.videos):
        rng = scale.dice("AVOS", at)
        name = _web_id("AVOS", at, hyphen=at % 2 == 0)
        runs = label_runs(label_lists()["AVOS"], scale.seconds * 2, 2.0, "action", rng, scale.lengths, 0.7)
        last = max(run.end for run in runs)
        if scale.errata:
            runs.append(Run(last - 2.0, last, "suturing", "action"))
        seen = label_runs(("hand", "forceps"), int(last), 1.0, "instrument", rng, scale.lengths)
        yield Video(
            source="AVOS",
            video_id=name,
            rate=15.0,
            first=0,
            numbers=range(int(scale.seconds * 15) + 1),
            path=f"AVOS/frames_15fps/{name}/%d.jpg",
            size=assumed_size("AVOS"),
            split=("train", "test")[at % 2],
            procedure=avos.PROCEDURE,
            runs=tuple(runs),
            boxes=tuple(boxes_of_runs(seen, 1.0, assumed_size("AVOS"), rng)),
            labels={"action": tuple(label_lists()["AVOS"]), "instrument": ("hand", "bovie", "needledriver", "forceps")},
            media=f"videos/{name}.mp4",
        )


def jigsaws_truth(scale: Scale) -> Iterator[Video]:
    """Trials with gestures and scores, seen by two cameras."""
    for at in range(scale.videos):
        task = jigsaws.TASKS[at % 3]
        # The trial without kinematics of the release is among them.
        trial = f"{task}_{'HBCDEFGI'[at // 3 % 8]}{2 + at // 24:03d}"
        rng = scale.dice("JIGSAWS", at)
        count = scale.seconds * 30
        runs = label_runs(tuple(jigsaws.GESTURES.values()), count // 30, 1.0, "gesture", rng, scale.lengths)
        runs = [Run(run.start, run.end + 29 / 30, run.label, run.kind) for run in runs]
        level = rng.randint(1, 5)
        points = {aspect: min(5, max(1, level + rng.randint(-1, 1))) for aspect in ASPECTS}
        for camera in (1, 2):
            name = f"{trial}_capture{camera}"
            yield Video(
                source="JIGSAWS",
                video_id=name,
                rate=30.0,
                first=1,
                numbers=range(1, count + 1),
                path=f"JIGSAWS_frames/{name}/%06d.jpg",
                size=NATIVE_SIZES["JIGSAWS"],
                procedure=f"{task.replace('_', ' ').lower()} on a bench-top model with a surgical robot",
                runs=tuple(runs),
                scores=(Scores(0.0, (count - 1) / 30, points, jigsaws.LEVELS[(level - 1) // 2]),),
                labels={"gesture": tuple(jigsaws.GESTURES.values())},
                media=f"{task}/video/{name}.avi",
            )


def nurvid_truth(scale: Scale) -> Iterator[Video]:
    """Web videos of nursing procedures with actions in tenths of a second."""
    for at in range(scale.videos):
        rng = scale.dice("NurViD", at)
        name = _web_id("NurViD", at)
        procedure = NURVID_PROCEDURES[at % len(NURVID_PROCEDURES)]
        actions = tuple(label_lists()[f"NurViD: {procedure}"])
        runs = [
            Run(round(run.start + 0.2, 1), round(run.end - 0.3, 1), run.label, run.kind)
            for run in label_runs(actions, scale.seconds, 1.0, "action", rng, scale.lengths, 0.8)
        ]
        if scale.errata:
            runs.append(Run(scale.seconds - 8.0, float(scale.seconds), actions[-1], "action"))
        yield Video(
            source="NurViD",
            video_id=name,
            rate=2.0,
            first=0,
            numbers=range(scale.seconds * 2 + 1),
            path=f"NurViD/frames_2fps/{name}/%06d.jpg",
            size=(1280, 720),
            split=("train", "val", "test")[at % 3],
            procedure=procedure,
            runs=tuple(runs),
            labels={"action": actions},
            media=f"videos/{name}.mp4",
        )


def _web_id(source: str, at: int, hyphen: bool = False) -> str:
    letters = random.Random(f"{source}/{at}").choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", k=11)
    if hyphen:
        letters[2] = letters[6] = "-"
    return "".join(letters)
