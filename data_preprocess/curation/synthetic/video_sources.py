# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Native files of the synthetic sources with labelled stretches of time: Cholec80-CVS, AVOS, JIGSAWS, NurViD."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_preprocess.curation.model import Video
from data_preprocess.curation.sources.cholec import PHASES
from data_preprocess.curation.sources.jigsaws import GESTURES, RATE, TASKS
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.frame_sources import lines_of, put
from data_preprocess.curation.synthetic.video_truths import NURVID_PROCEDURES
from reward_score.answers import ASPECTS, CVS_COMPONENTS
from reward_score.vocabularies import label_lists

_CHOLEC80 = ("Preparation", "CalotTriangleDissection", "ClippingCutting")


def write_workbook(file: Path, rows: Sequence[Sequence[Any]]) -> None:
    """A workbook of one sheet.

    Raises:
        SourceError: the library that writes it is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError:
        raise SourceError(file, "", "openpyxl, to write it (pip install openpyxl)", "no such module") from None
    book = Workbook(write_only=True)
    page = book.create_sheet()
    for row in rows:
        page.append(list(row))
    file.parent.mkdir(parents=True, exist_ok=True)
    book.save(file)


def write_cholec80_cvs(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """The workbook and the phase tables; with errata columns are spelled apart, a row ends before it starts and rows
    pass the first frame of clipping."""
    spelled = ["video", "initial_minute", "initial_second", "final_minute", "final_second", *CVS_COMPONENTS]
    header = [name.replace("_", " ").title() if scale.errata else name for name in spelled]
    rows: list[list[Any]] = [[*header, "critical_view", "total"]]
    for video in videos:
        number = int(video.video_id.removeprefix("video"))
        clipping = next(run.start for run in video.of_kind("phase") if run.label == PHASES[2])
        for scores in video.scores:
            points = [scores.values[name] for name in CVS_COMPONENTS]
            if not sum(points):
                continue
            end = scores.end + 7 if scale.errata and scores.end == clipping else scores.end
            start, end = int(scores.start), int(end)
            rows.append([number, *divmod(start, 60), *divmod(end, 60), *points, int(sum(points) >= 5), sum(points)])
        if scale.errata:
            rows.append([number, 1, 30, 1, 10, 2, 2, 2, 1, 6])
        names = dict(zip(PHASES, _CHOLEC80, strict=False))
        lines = [["Frame", "Phase"]]
        for run in video.of_kind("phase"):
            first, last = round(run.start * 25), round(run.end * 25)
            lines += [[str(frame), names[run.label]] for frame in range(first, last + 1)]
        put(root / "phase_annotations" / f"{video.video_id}-phase.txt", lines_of(lines, delimiter="\t"))
    write_workbook(root / "cholec80-CVS.xlsx", rows)


def write_avos(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """The tables; frame numbers count 30 a second. With errata there is time without an action, an action without
    length, and one that overlaps the one before it."""
    actions: list[list[Any]] = []
    boxes: list[list[Any]] = []
    for video in videos:
        for run in video.of_kind("action"):
            actions.append([video.video_id, run.start, run.end, run.start * 30, run.end * 30, run.label])
        end = video.duration
        actions.append([video.video_id, end - 1, end, (end - 1) * 30, end * 30, "background"])
        if scale.errata:
            actions.append([video.video_id, 2.0, 2.0, 60, 60, "tying"])
            actions.append([video.video_id, 0.0, 1.0, 0, 30, "abstain"])
        for boxed in video.boxes:
            boxes.append([f"{video.video_id}-{round(boxed.time * 30)}.jpg", *boxed.box, boxed.label])
    header = ["", "video_id", "start_seconds", "end_seconds", "start_frame", "end_frame", "label"]
    numbered = [[at, *row] for at, row in enumerate(actions)]
    put(root / "open_surgery_temporal_annotations_Jan16.csv", lines_of([header, *numbered]))
    header = ["image_name", "x1", "y1", "x2", "y2", "class"]
    put(root / "open_surgery_bboxes_Jan16.csv", lines_of([header, *boxes]))
    for split in ("train", "test"):
        listed = [[video.video_id] for video in videos if video.split == split]
        put(root / f"{split}.csv", lines_of([["video_id"], *listed]))


def write_jigsaws(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """Meta files, gestures, kinematics; with errata lines end with CR LF, columns are empty, and one trial has no
    kinematics."""
    gestures = {name: gesture for gesture, name in GESTURES.items()}
    ending = "\r\n" if scale.errata else "\n"
    meta: dict[str, list[str]] = defaultdict(list)
    # Two cameras see one trial.
    trials = {video.video_id.rpartition("_capture")[0]: video for video in videos}
    for trial, video in trials.items():
        task = trial.rpartition("_")[0]
        (scores,) = video.scores
        points = [scores.values[aspect] for aspect in ASPECTS]
        between = "\t\t" if scale.errata else "\t"
        meta[task].append(between.join(map(str, [trial, scores.level, sum(points), *points])))
        lines = [
            f"{round(run.start * RATE) + 1} {round(run.end * RATE) + 1} {gestures[run.label]} "
            for run in video.of_kind("gesture")
        ]
        put(root / task / "transcriptions" / f"{trial}.txt", "\n".join(lines) + "\n")
        row = "  ".join(["0.1"] * 76)
        moved = "" if scale.errata and trial == "Knot_Tying_H002" else f"{row}\n" * len(video.numbers)
        put(root / task / "kinematics" / "AllGestures" / f"{trial}.txt", moved)
    for task in TASKS:
        blank = [""] if scale.errata else []
        put(root / task / f"meta_file_{task}.txt", ending.join([*meta[task], *blank, ""]))


def write_nurvid(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """The JSON, the workbook of names and the split lists; with errata segments are out of order, without length,
    beyond the end, or overlap, and a list of segments lies beside the lists of videos."""
    actions = sorted({name for procedure in NURVID_PROCEDURES for name in label_lists()[f"NurViD: {procedure}"]})
    rows: list[list[Any]] = [[None] * 9, ["Procedure_ID", "", "Procedure", "", "", "", "Action_ID", "", "Action"]]
    rows[0][0], rows[0][6] = "Procedures", "Actions"
    for at in range(max(len(actions), len(NURVID_PROCEDURES))):
        one: list[Any] = [None] * 9
        if at < len(NURVID_PROCEDURES):
            one[0], one[2], one[4] = at, NURVID_PROCEDURES[at], "Many"
        if at < len(actions):
            one[6], one[8] = at, actions[at]
        rows.append(one)
    write_workbook(root / "annotations" / "Procedure&Action_ID.xlsx", rows)
    entries: dict[str, Any] = {}
    for video in videos:
        end = video.duration
        segments = [
            # What ends with the video was labelled beyond it.
            {"actionID": actions.index(run.label) + 1, "segment": [run.start, run.end + 2.5 * (run.end == end)]}
            for run in video.of_kind("action")
        ]
        if scale.errata:
            segments.reverse()
            segments.append({"actionID": 1, "segment": [5.0, 5.0]})
            segments.append({"actionID": 1, "segment": [end + 1, end + 9]})
        entries[video.video_id] = {
            "operationID": NURVID_PROCEDURES.index(video.procedure) + 1,
            "annotations": segments,
            "duration": int(end),
            "resolution": "{}x{}".format(*video.size),
            "fps": 29,
            "subset": None,
            "url": f"https://example.org/{video.video_id}",
        }
    put(root / "annotations" / "NurViD_annotations.json", entries)
    for split in ("train", "val", "test"):
        listed = [[f"/video_path/{video.video_id}.mp4 {at}"] for at, video in enumerate(videos) if video.split == split]
        put(root / "annotations" / f"task1&3_{split}.csv", lines_of([["path-label"], *listed], "\r\n"))
    if scale.errata:
        listed = [[f"/video_path/{videos[0].video_id}_1.mp4 0"]]
        put(root / "annotations" / "task2_test.csv", lines_of([["path-label"], *listed], "\r\n"))
