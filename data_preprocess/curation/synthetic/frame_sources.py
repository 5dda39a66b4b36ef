# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Native files of the synthetic sources whose annotators labelled single frames: CholecT50, CholecTrack20, CoPESD,
EgoSurgery."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from data_preprocess.curation.model import Boxed, Video
from data_preprocess.curation.sources import cholec, copesd
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.frame_truths import EGO_HANDS, EGO_OTHERS, EGO_TOOLS, TRIPLETS
from data_preprocess.geometry import CANVASES

_INSTRUCTIONS = {
    "adjust camera": "Move the camera closer.",
    "position flap with forceps and knife": "Position the flap.",
    "dissect flap tissue with knife": "Dissect below the flap.",
    "position flap with forceps only": "Place the flap.",
    "retract flap edge with forceps only": "Retract the edge.",
    "retract flap edge with forceps and knife": "Pull the edge back.",
    "lift flap with forceps": "Lift the flap.",
    "stabilize flap with forceps": "Hold the flap still.",
}


def put(file: Path, content: bytes | str | list[Any] | dict[str, Any]) -> None:
    """Writes a file and the folders above it; lists and objects become JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list | dict):
        content = orjson.dumps(content)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def lines_of(rows: Sequence[Sequence[Any]], ending: str = "\n", delimiter: str = ",") -> str:
    """Rows as the text of a table."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=ending).writerows(rows)
    return text.getvalue()


def _at(video: Video, kind: str, second: float) -> list[str]:
    return [run.label for run in video.of_kind(kind) if run.start <= second <= run.end]


def _boxes_at(video: Video) -> dict[float, list[Boxed]]:
    found: dict[float, list[Boxed]] = defaultdict(list)
    for boxed in video.boxes:
        found[boxed.time].append(boxed)
    return found


def write_cholect50(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """`labels/VIDnn.json`; with errata all boxes are -1, as in the public release."""
    verbs, targets = cholec.VERBS, cholec.TARGETS
    names = {
        "instrument": cholec.INSTRUMENTS[:6],
        "verb": verbs,
        "target": targets,
        "phase": cholec.PHASES,
        "triplet": TRIPLETS,
    }
    categories = {kind: {str(at): name for at, name in enumerate(listed)} for kind, listed in names.items()}
    width, height = cholec.CANVAS
    for video in videos:
        boxes = _boxes_at(video)
        frames: dict[str, list[list[float]]] = {}
        for number in video.numbers:
            second = video.seconds(number)
            phase = cholec.PHASES.index(_at(video, "phase", second)[0])
            vectors: list[list[float]] = []
            for triplet in _at(video, "triplet", second):
                tool, verb, target = triplet.split(",")
                sides = [-1.0] * 4
                for boxed in boxes[second]:
                    if boxed.label == tool:
                        x1, y1, x2, y2 = boxed.box
                        sides = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
                ids = (TRIPLETS.index(triplet), cholec.INSTRUMENTS.index(tool))
                vectors.append([*ids, 1, *sides, verbs.index(verb), targets.index(target), *[-1] * 5, phase])
            frames[str(number)] = vectors or [[*[-1] * 14, phase]]
        content = {"video": int(video.video_id[3:]), "fps": 1, "num_frames": len(frames), "categories": categories}
        put(root / "labels" / f"{video.video_id}.json", {**content, "annotations": frames})


def write_cholectrack20(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """`<folder>/VIDnn/vidNN.json`; with errata one file holds pixels, and VID30 and VID31 share frame numbers."""
    width, height = cholec.CANVAS
    operators = ("NULL", "MSLH", "ASRH", "MSRH")
    categories = {
        "tools": [{"id": at, "name": name} for at, name in enumerate(cholec.INSTRUMENTS)],
        "operators": [{"id": at, "name": name} for at, name in enumerate(operators)],
    }

    def write(video: Video, name: str, folder: Path, pixels: bool) -> None:
        boxes = _boxes_at(video)
        frames: dict[str, list[dict[str, Any]]] = {}
        for number in video.numbers:
            second = video.seconds(number)
            phase = cholec.PHASES.index(_at(video, "phase", second)[0])
            frames[str(number)] = []
            for boxed in boxes[second]:
                x1, y1, x2, y2 = boxed.box
                sides = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
                frames[str(number)].append(
                    {
                        "tool_bbox": [x1, y1, x2 - x1, y2 - y1] if pixels else sides,
                        "instrument": cholec.INSTRUMENTS.index(boxed.label),
                        "operator": operators.index(boxed.details["operator"]),
                        "phase": phase,
                        **dict.fromkeys(("verb", "target", "triplet"), -1),
                        "intraoperative_track": int(boxed.track),
                        "intracorporeal_track": int(boxed.track) + 10,
                        "visibility_track": int(boxed.track) + 20,
                        **{"score": 1.0, "iscrowd": 0, "area": (x2 - x1) * (y2 - y1), "visible": 1, "smoke": 0},
                    }
                )
        described = {"name": name, "split": video.split, "width": width, "height": height, "num_frames": len(frames)}
        content = {"info": {}, "video": described, "categories": categories, "annotations": frames}
        put(folder / f"vid{name[3:]}.json", content)

    for at, video in enumerate(videos):
        write(video, video.video_id, root / video.media, scale.errata and at == 1)
    if scale.errata:
        for name, folder in (("VID30", "Validation"), ("VID31", "Training")):
            write(videos[0], name, root / folder / name, False)


def write_copesd(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """`smllm_<split>.json`; with errata a folder holds left, top, width and height, and some answers hold no box."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for at, video in enumerate(videos):
        boxes = _boxes_at(video)
        sides = scale.errata and at == 1
        for number in video.numbers:
            second = video.seconds(number)
            (action,) = _at(video, "action", second) or [""]
            said = []
            for boxed in boxes[second]:
                a, b, c, d = (round(value / copesd.LONG_SIDE, 2) for value in boxed.box)
                numbers = (a, b, c - a, d - b) if sides else (a, b, c, d)
                said.append(f"{boxed.label.capitalize()}[{', '.join(f'{value:.2f}' for value in numbers)}] move")
            answer = f"{', '.join(said)}." if said else "The surgery is finished."
            turns = [("human", _INSTRUCTIONS.get(action, "What is done?")), ("gpt", answer)]
            path = f"D:/data/high_light_images/{video.video_id}/{number:04d}.jpg"
            conversations = [{"from": who, "value": value} for who, value in turns]
            rows[video.split].append(
                {"conversations": conversations, "image": path.replace("/", "\\") if sides else path}
            )
    for split, listed in rows.items():
        put(root / "annotations" / f"smllm_{split}.json", listed)


def write_egosurgery(videos: Sequence[Video], root: Path, scale: Scale) -> None:
    """Phase tables and COCO files; with errata a third COCO file holds all classes again, under other ids."""
    width, height = CANVASES["EgoSurgery"]
    for video in videos:
        stem = video.video_id
        rows = [
            [f"{stem}_{number:04d}", phase]
            for number in video.numbers
            for phase in _at(video, "phase", video.seconds(number))
        ]
        put(root / "annotations" / "phase" / f"{stem}.csv", lines_of([["Frame", "Phase"], *rows]))
    folder = root / "annotations" / "coco_format" / "bbox"
    wanted = {"by_split/tool/train": EGO_TOOLS, "by_split/hand/train": EGO_HANDS}
    if scale.errata:
        wanted["all"] = EGO_TOOLS + EGO_HANDS + EGO_OTHERS
    for name, classes in wanted.items():
        first = 1 if name == "all" else 0
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for video in videos:
            boxes = _boxes_at(video)
            for number in video.numbers:
                stem = f"{video.video_id}_{number:04d}"
                path = f"train/{stem[:2]}/{stem}.jpg"
                images.append({"id": len(images) + 1, "width": width, "height": height, "file_name": path})
                for boxed in boxes[video.seconds(number)]:
                    if boxed.label in classes:
                        x1, y1, x2, y2 = boxed.box
                        sides = [x1, y1, x2 - x1, y2 - y1]
                        annotations.append(
                            {
                                "id": len(annotations) + 1,
                                "image_id": len(images),
                                "category_id": classes.index(boxed.label) + first,
                                "bbox": sides,
                                "area": sides[2] * sides[3],
                                "iscrowd": 0,
                                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                            }
                        )
        listed = [{"id": at, "name": label} for at, label in enumerate(classes, first)]
        put(folder / f"{name}.json", {"categories": listed, "images": images, "annotations": annotations})
