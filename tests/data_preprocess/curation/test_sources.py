# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Every reader finds the truth in its synthetic tree, with and without the known errata, and names what is wrong."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.curation.model import Run, Video
from data_preprocess.curation.settings import with_settings
from data_preprocess.curation.sources import READERS, read
from data_preprocess.curation.sources.copesd import action_of
from data_preprocess.curation.sources.reading import Notes, SourceError, sheet
from data_preprocess.curation.sources.runs import runs_of
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.synthetic import WRITERS, write_source
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.video_sources import write_workbook

ERRATA = {
    "AVOS": {"actions without length are left out", "rows of actions that overlap the row before"},
    "CholecT50": {"instruments without a box (all are -1 in the public release)"},
    "CholecTrack20": {
        "boxes in pixels instead of shares of the picture",
        "VID30 is left out, as cholectrack20_skip says",
        "VID31 is left out, as cholectrack20_skip says",
    },
    "Cholec80_CVS": {
        "rows that end before they start are left out",
        "rows that pass the first frame of clipping and cutting end there",
    },
    "CoPESD": {"folders with boxes as left, top, width, height", "pictures without a box"},
    "EgoSurgery": {
        "recordings with missing numbers",
        "recordings that begin after number 1",
        "recordings that the phase split and the box split place differently",
    },
    "JIGSAWS": {"empty kinematics; the trial ends with its last gesture"},
    "NurViD": {
        "lists of segments are left out: they share videos across splits",
        "lists of segments that are not in order of time",
        "segments that pass the video's end are cut there",
        "segments after the video's end are left out",
        "segments without length are left out",
        "segments that overlap the one before",
    },
}


def told(video: Video) -> dict:
    """All that a video says, times without the last digits of their floats, in an order that does not matter."""
    r = lambda value: round(float(value), 6)
    return {
        **{name: getattr(video, name) for name in ("source", "video_id", "rate", "first", "path", "size", "split")},
        **{name: getattr(video, name) for name in ("procedure", "media")},
        "numbers": list(video.numbers),
        "labels": {kind: list(labels) for kind, labels in video.labels.items()},
        "runs": sorted((run.kind, r(run.start), r(run.end), run.label) for run in video.runs),
        "boxes": sorted(
            (r(one.time), tuple(map(r, one.box)), one.label, one.track, sorted(one.details.items()))
            for one in video.boxes
        ),
        "scores": [(r(one.start), r(one.end), dict(one.values), one.level) for one in video.scores],
    }


@pytest.mark.parametrize("errata", [False, True])
@pytest.mark.parametrize("source", READERS)
def test_a_reader_finds_the_truth(source, errata, tmp_path):
    scale = Scale(seed=3, videos=7 if source == "JIGSAWS" else 4, errata=errata)
    truth = write_source(source, tmp_path, scale)
    notes = Notes()
    found = {video.video_id: video for video in read(source, tmp_path, notes=notes)}
    assert list(found) == sorted(found) or source in ("JIGSAWS", "NurViD")
    assert {name: told(video) for name, video in found.items()} == {video.video_id: told(video) for video in truth}
    if errata:
        assert set(notes.oddities) == ERRATA[source]
        assert all(notes.examples[what] for what in notes.oddities)


def test_every_source_has_a_reader_and_a_writer():
    assert set(READERS) == set(WRITERS)


@pytest.mark.parametrize("source", READERS)
def test_a_folder_without_the_source_is_one_line(source, tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        list(read(source, tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="no such file"):
        list(read(source, tmp_path))


def damaged(source: str, root, file: str, change) -> str:
    """What the reader says of a tree in which `change` was made to a file's text."""
    write_source(source, root, Scale(errata=False))
    path = root / file
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SourceError) as error:
        list(read(source, root))
    said = str(error.value)
    assert "\n" not in said and str(path) in said
    return said.removeprefix(f"{path}: ")


def edited(change) -> object:
    """A change of a JSON file's content, made in place."""

    def apply(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return apply


CASES = [
    (
        "CholecT50",
        "labels/VID01.json",
        edited(lambda labels: labels["annotations"]["3"][0].pop()),
        "annotations.3.0: expected list should have at least 15 items",
    ),
    (
        "CholecT50",
        "labels/VID01.json",
        edited(lambda labels: labels.update(fps=25)),
        "fps: expected 1 frame a second, found 25.0",
    ),
    (
        "CholecT50",
        "labels/VID01.json",
        edited(lambda labels: labels["annotations"]["5"].append([*[-1] * 14, 9])),
        "annotations.5: expected one phase in all vectors of a frame",
    ),
    (
        "CholecT50",
        "labels/VID01.json",
        edited(lambda labels: labels["annotations"].update({"5": [[*[-1] * 14, 9]]})),
        "annotations.5: expected one of 0, 1, 2, 3, 4, 5, 6, found 9",
    ),
    ("CholecT50", "labels/VID01.json", lambda text: text[:-9], "line 1: expected valid JSON"),
    (
        "CholecTrack20",
        "Training/VID02/vid02.json",
        edited(lambda labels: labels["annotations"].update({"27": []})),
        "annotations.27: expected a frame number 25k + 1, found 27",
    ),
    (
        "CholecTrack20",
        "Training/VID02/vid02.json",
        edited(lambda labels: labels["annotations"]["26"][0].update(instrument=9)),
        "annotations.26.instrument: expected one of 0, 1, 2, 3, 4, 5, 6, found 9",
    ),
    (
        "CholecTrack20",
        "Training/VID02/vid02.json",
        edited(lambda labels: labels["annotations"]["26"][0].update(tool_bbox=[0.1, 0.1, 0, 0.2])),
        "annotations.26.tool_bbox: expected a box with a width and a height",
    ),
    (
        "Cholec80_CVS",
        "phase_annotations/video01-phase.txt",
        lambda text: text.replace("7\t", "8\t", 1),
        "line 9, Frame: expected every frame from 0, here 7, found 8",
    ),
    (
        "Cholec80_CVS",
        "phase_annotations/video01-phase.txt",
        lambda text: text.replace("Preparation", "Prep", 1),
        "line 2, Phase: expected one of Preparation, CalotTriangleDissection",
    ),
    (
        "CoPESD",
        "annotations/smllm_train.json",
        edited(lambda rows: rows[0].update(image="0001.jpg")),
        "0.image: expected a path that ends with 6 digits/4 digits.jpg, found 0001.jpg",
    ),
    (
        "CoPESD",
        "annotations/smllm_train.json",
        edited(lambda rows: rows[0]["conversations"][1].update(value="Forceps[0.1, 0.2, 0.3] lift.")),
        "0.conversations.1.value: expected four numbers in a box, found [0.1, 0.2, 0.3]",
    ),
    (
        "CoPESD",
        "annotations/smllm_train.json",
        edited(lambda rows: rows[0]["conversations"][1].update(value="Knife[0.6, 0.5, 0.3, 0.1]")),
        "expected boxes of folder",
    ),
    (
        "AVOS",
        "open_surgery_temporal_annotations_Jan16.csv",
        lambda text: text.replace("background", "walking", 1),
        "label: expected one of cutting, tying, suturing, background, none, abstain, found walking",
    ),
    (
        "AVOS",
        "open_surgery_temporal_annotations_Jan16.csv",
        lambda text: text.replace("end_seconds", "until", 1),
        "line 1: expected a column end_seconds",
    ),
    (
        "AVOS",
        "open_surgery_bboxes_Jan16.csv",
        lambda text: text + "nohyphen.jpg,1,2,3,4,hand\n",
        "image_name: expected <id>-<frame>.jpg, found nohyphen.jpg",
    ),
    (
        "EgoSurgery",
        "annotations/phase/01_1.csv",
        lambda text: text.replace("01_1_0003", "02_1_0003"),
        "line 4, Frame: expected a picture of 01_1, found 02_1_0003",
    ),
    (
        "EgoSurgery",
        "annotations/coco_format/bbox/by_split/tool/train.json",
        edited(lambda coco: coco["annotations"][2].update(category_id=99)),
        "annotations.2.category_id: expected an id of categories, found 99",
    ),
    (
        "EgoSurgery",
        "annotations/coco_format/bbox/by_split/tool/train.json",
        edited(lambda coco: coco["images"][0].update(width=640)),
        "images.0: expected a picture of 1920x1080, found [640, 1080]",
    ),
    (
        "JIGSAWS",
        "Suturing/meta_file_Suturing.txt",
        lambda text: text.replace("\t", "\t9", 3),
        "expected one of N, I, E",
    ),
    (
        "JIGSAWS",
        "Suturing/transcriptions/Suturing_H002.txt",
        lambda text: text.replace(" G", " X", 1),
        "line 1: expected one of G1, G2",
    ),
    (
        "NurViD",
        "annotations/NurViD_annotations.json",
        edited(lambda entries: next(iter(entries.values()))["annotations"][1].update(actionID=177)),
        "annotations.1.actionID: expected one of 1, 2",
    ),
    (
        "NurViD",
        "annotations/NurViD_annotations.json",
        edited(lambda entries: next(iter(entries.values()))["annotations"][0].update(segment=[9, 4])),
        "annotations.0.segment: expected an end at or after the start",
    ),
]


@pytest.mark.parametrize(("source", "file", "change", "said"), CASES, ids=[f"{case[0]}: {case[3]}" for case in CASES])
def test_an_error_names_file_place_and_field(source, file, change, said, tmp_path):
    assert said in damaged(source, tmp_path, file, change)


def test_a_score_out_of_range_names_the_row_of_the_sheet(tmp_path):
    header = ["video", "initial_minute", "initial_second", "final_minute", "final_second"]
    header += ["two_structures", "cystic_plate", "hepatocystic_triangle"]
    write_workbook(tmp_path / "cholec80-CVS.xlsx", [header, [3, 0, 5, 0, 40, 1, 0, 3]])
    with pytest.raises(SourceError, match="row 2, hepatocystic_triangle: expected a whole number from 0 to 2"):
        list(read("Cholec80_CVS", tmp_path))
    write_workbook(tmp_path / "cholec80-CVS.xlsx", [header[:-1], [3, 0, 5, 0, 40, 1, 0]])
    with pytest.raises(SourceError, match="row 1: expected a column hepatocystic_triangle"):
        list(read("Cholec80_CVS", tmp_path))


@pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
def test_a_workbook_that_broke_off_is_one_line(part, tmp_path):
    file = tmp_path / "cholec80-CVS.xlsx"
    write_workbook(file, [["video"], [3]])
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    with pytest.raises(SourceError, match="cholec80-CVS.xlsx: expected an Excel workbook, found "):
        list(read("Cholec80_CVS", tmp_path))


@given(st.integers(0, 2**31), st.binary(min_size=1, max_size=200))
@settings(max_examples=40)
def test_a_damaged_workbook_is_read_or_refused(seed, noise):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.xlsx"
        write_workbook(file, [["video", "score"], *([number, 1] for number in range(50))])
        content = bytearray(file.read_bytes())
        at = seed % len(content)
        content[at : at + len(noise)] = noise
        file.write_bytes(content)
        with suppress(SourceError):
            list(sheet(file))


def test_scores_of_the_sheet_become_stretches_and_the_rest_is_zero(tmp_path):
    header = ["Video", "Initial Minute", "Initial Second", "Final Minute", "Final Second"]
    header += ["two_structures", "cystic_plate", "hepatocystic_triangle"]
    write_workbook(tmp_path / "cholec80-CVS.xlsx", [header, [3, 1, 0, 1, 30, 1, 0, 2], [3, 1, 31, 2, 0, 2, 1, 2]])
    notes = Notes()
    (video,) = read("Cholec80_CVS", tmp_path, notes=notes)
    assert [(one.start, one.end, sum(one.values.values())) for one in video.scores] == [
        (0, 60, 0),
        (60, 90, 3),
        (91, 120, 5),
    ]
    assert notes.missing == [str(tmp_path / "phase_annotations" / "video03-phase.txt")]
    (video,) = read("Cholec80_CVS", tmp_path, ReadSettings(cvs_unscored="skip"))
    assert [one.start for one in video.scores] == [60, 91]


def test_vid31_with_the_frame_numbers_of_vid30_is_refused_by_name(tmp_path):
    write_source("CholecTrack20", tmp_path, Scale(errata=True))
    with pytest.raises(SourceError, match="expected frame numbers of its own in VID31, found those of VID30"):
        list(read("CholecTrack20", tmp_path, ReadSettings(cholectrack20_skip="")))


def test_the_kind_of_track_is_a_setting(tmp_path):
    write_source("CholecTrack20", tmp_path, Scale(videos=1))
    (intraoperative,) = read("CholecTrack20", tmp_path)
    (visible,) = read("CholecTrack20", tmp_path, ReadSettings(cholectrack20_track="visibility"))
    assert int(visible.boxes[0].track) == int(intraoperative.boxes[0].track) + 20


def test_copesd_folders_that_fit_both_forms_are_read_as_corners_and_noted(tmp_path):
    answer = "Forceps[0.10, 0.20, 0.35, 0.40] lift."
    turns = [{"from": "human", "value": "Lift the flap."}, {"from": "gpt", "value": answer}]
    rows = [{"conversations": turns, "image": "D:\\any\\high_light_images\\012345\\0001.jpg"}]
    (tmp_path / "smllm_test.json").write_text(json.dumps(rows), encoding="utf-8")
    notes = Notes()
    (video,) = read("CoPESD", tmp_path, notes=notes)
    assert video.boxes[0].box == (130.6, 261.2, 457.1, 522.4)
    assert "folders whose boxes may be corners or sides; read as corners" in notes.oddities


def test_copesd_instructions_become_the_benchmarks_actions(tmp_path):
    assert action_of("Lift the flap.", ["Forceps"]) == "lift flap with forceps"
    assert action_of("Retract the edge.", ["Forceps", "Knife"]) == "retract flap edge with forceps and knife"
    assert action_of("Hold flap with forceps.", ["Forceps"]) == "stabilize flap with forceps"
    assert action_of("Sing.", ["Forceps"]) == ""
    assert action_of("Lift the flap.", []) == "", "nothing is done in a picture without an instrument"
    assert action_of("Sing.", ["Forceps"], {"Sing.": "adjust camera"}) == "adjust camera"
    mapping = tmp_path / "actions.toml"
    mapping.write_text('[actions]\n"Sing." = "sing a song"\n', encoding="utf-8")
    write_source("CoPESD", tmp_path / "tree", Scale(videos=1))
    with pytest.raises(SourceError, match="actions.Sing.: expected one of adjust camera"):
        list(read("CoPESD", tmp_path / "tree", ReadSettings(copesd_actions=str(mapping))))


def test_an_ego_recording_is_read_from_the_file_that_the_setting_names(tmp_path):
    write_source("EgoSurgery", tmp_path, Scale(videos=2, errata=True))
    every, tools = (
        [
            box.label
            for video in read("EgoSurgery", tmp_path, ReadSettings(egosurgery_boxes=kind))
            for box in video.boxes
        ]
        for kind in ("auto", "tool")
    )
    assert 0 < len(tools) < len(every) and not any("hands" in label for label in tools)
    by_boxes = [video.split for video in read("EgoSurgery", tmp_path, ReadSettings(egosurgery_split="tool"))]
    assert by_boxes == ["train", "test"]
    assert [video.split for video in read("EgoSurgery", tmp_path)] == ["train", "val"]


def test_runs_end_where_the_label_is_missing_or_the_frames_are():
    labelled = [(0, "a"), (1, "a"), (1, "b"), (2, "b"), (3, ""), (4, "b"), (30, "b")]
    runs = [(run.label, run.start, run.end) for run in runs_of(labelled, "action", hole=10)]
    assert runs == [("a", 0, 1), ("b", 1, 2), ("b", 4, 4), ("b", 30, 30)]
    assert runs_of([(0, "a"), (8, "a")], "phase", hole=10) == [Run(0, 8, "a", "phase")]
    assert runs_of([], "phase", hole=10) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("speed=3", "expected NAME=VALUE with one of hole"),
        ("hole=fast", "expected a number from 0"),
        ("hole=-1", "expected a number from 0"),
        ("avos_rate=0", "expected a number from 0.001"),
        ("cvs_unscored=maybe", "expected one of zero, skip"),
    ],
)
def test_a_wrong_setting_is_one_line(given, said):
    with pytest.raises(ValueError, match=said):
        with_settings([given], ReadSettings)
