# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Space truth: a gold box is the same region as an annotation, in a target answer, in the picture that the model sees,
and to the reward; for every source with boxes and every model family.
"""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from parquet_rows import given_out
from PIL import Image, ImageDraw

from data_preprocess.geometry import CANVASES, MAX_PIXELS, MIN_PIXELS, NATIVE_SIZES, processed_size, rescale
from recipes.medgrpo.answers.box_text import boxes_on_canvas
from recipes.medgrpo.data.families import FAMILIES
from reward_score.answers import parse_stg, render_stg
from reward_score.boxes import iou, to_canvas, to_model
from reward_score.conventions import CONVENTIONS
from reward_score.medgrpo import compute_score

ROOT = Path(__file__).resolve().parents[3]
NAMES = tuple(FAMILIES)
# A family that writes boxes in another space.
OTHER = {
    name: next(other for other in NAMES if CONVENTIONS[other].box_side != CONVENTIONS[name].box_side) for name in NAMES
}
ENOUGH = 0.98

# Bounds in pixels of the released checkpoints' processors: of a frame (Qwen2.5-VL), of a clip (the others).
RELEASED = {"qwen2_5_vl": (3136, 12845056), "qwen3_vl": (4096, 25165824), "qwen3_5": (4096, 25165824)}


def command(script: str, *arguments) -> None:
    words = [sys.executable, str(ROOT / "data_preprocess" / script), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def rows_of(folder: Path, task: str) -> list[dict]:
    rows = [row for split in ("train", "val") for row in given_out(folder / f"{split}.parquet")]
    return [row for row in rows if row["ability"] == task]


def gold_of(row: dict) -> dict[float, list[float]]:
    boxes = json.loads(row["reward_model"]["ground_truth"])["boxes"]
    return {float(time): box for time, box in boxes.items()}


def frame_of(row: dict) -> tuple:
    """(canvas, processed size, model family): what takes a box from one space to the other."""
    extra = row["extra_info"]
    return extra["canvas"], extra["processed_size"], extra["model_family"]


def reward(row: dict, answer: str, **changes) -> float:
    """The strict score of an answer, by verl's own entry point."""
    extra = {**row["extra_info"], **changes}
    return asyncio.run(compute_score(row["data_source"], answer, row["reward_model"]["ground_truth"], extra))["acc"]


# Every source at its real size, as text: many boxes, no picture.


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[dict]]:
    """stg rows of a synthetic set with real canvases and clip lengths, by family."""
    root = tmp_path_factory.mktemp("said")
    command("synthetic.py", "--output", root / "raw", "--rows", 161, "--no-frames")
    for name in NAMES:
        command(
            "medvidbench.py",
            *("--annotations", root / "raw/train_annotations.json", "--frames-root", root, "--verify", "none"),
            *("--output", root / name, "--model-family", name, "--tasks", "stg", "--val-fraction", 0.3),
        )
    return {name: rows_of(root / name, "stg") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_target_answer_is_right_to_the_reward(said, name):
    sources = {row["extra_info"]["source"] for row in said[name]}
    assert sources == set(CANVASES)
    for row in said[name]:
        answer, gold = row["extra_info"]["answer"], gold_of(row)
        parsed = parse_stg(answer)
        assert parsed.format == 1 and parsed.value.keys() == gold.keys()
        overlaps = [iou(to_canvas(box, *frame_of(row)), gold[time]) for time, box in parsed.value.items()]
        assert min(overlaps) > ENOUGH
        assert reward(row, answer) == pytest.approx(np.mean(overlaps)) and reward(row, answer) > ENOUGH


@pytest.mark.parametrize("name", NAMES)
def test_unrounded_nothing_is_lost(said, name):
    for row in said[name]:
        for box in gold_of(row).values():
            back = to_canvas(to_model(box, *frame_of(row)), *frame_of(row))
            assert iou(back, box) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_in_the_other_familys_space_is_wrong(said, name):
    for row in said[name]:
        assert reward(row, row["extra_info"]["answer"], model_family=OTHER[name]) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_submission_has_the_boxes_on_the_canvas(said, name):
    for row in said[name]:
        text, broken = boxes_on_canvas(row["extra_info"]["answer"], frame_of(row))
        gold = gold_of(row)
        assert broken == 0
        assert min(iou(box, gold[time]) for time, box in parse_stg(text).value.items()) > ENOUGH


# With one decimal, a square box of this side in the model's own space keeps 0.98 wherever it lies, and a smaller one
# may not: with every edge off by 0.05, about 1 - 0.2 / side is left.
SIDE = 10.0
# That side in pixels of the canvas, (width, height), at the released pixel bounds.
SMALLEST = {
    "qwen2_5_vl": {"CholecTrack20": (34, 35), "CoPESD": (67, 61), "EgoSurgery": (77, 78)},
    "qwen3_vl": {"CholecTrack20": (9, 5), "CoPESD": (14, 11), "EgoSurgery": (20, 11)},
    "qwen3_5": {"CholecTrack20": (9, 5), "CoPESD": (14, 11), "EgoSurgery": (20, 11)},
}


@pytest.mark.parametrize("source", sorted(CANVASES))
@pytest.mark.parametrize("name", NAMES)
def test_how_small_a_box_may_be(source, name):
    canvas = CANVASES[source]
    space = (canvas, processed_size(NATIVE_SIZES[source], name), name)

    def worst(side: float) -> float:
        """The least that is left of a square box of this side, wherever it lies."""
        kept = []
        # From just below to just above half a tenth is where rounding moves an edge farthest.
        for place in (20.0, 20.02, 20.0499, 20.0501, 20.08):
            box = to_canvas((place, place, place + side, place + side), *space)
            written = parse_stg(render_stg({0.0: to_model(box, *space)}, decimals=1)).value[0.0]
            kept.append(iou(to_canvas(written, *space), box))
        return min(kept)

    assert min(map(worst, np.arange(SIDE, SIDE + 2, 0.01))) > ENOUGH
    assert worst(SIDE - 0.2) < ENOUGH
    width, height = to_canvas((0, 0, SIDE, SIDE), *space)[2:]
    assert (int(np.ceil(width)), int(np.ceil(height))) == SMALLEST[name][source]


# Every source at its real size, as pictures: what the model sees at the box is what was there.


@dataclass(frozen=True)
class Case:
    """A source whose frames have a size on disk. `box` is the region at time 0, `step` its way from frame to frame."""

    source: str
    video: str
    listed: str
    disk: tuple[int, int]
    fps: float
    numbers: tuple[int, ...]
    box: tuple[float, float, float, float]
    step: tuple[float, float] = (9, 6)

    @property
    def canvas(self) -> tuple[int, int]:
        return CANVASES[self.source]

    def boxes(self) -> dict[float, tuple]:
        """Gold boxes by clip second, one a frame."""
        x1, y1, x2, y2 = self.box
        return {
            at / self.fps: (
                x1 + at * self.step[0],
                y1 + at * self.step[1],
                x2 + at * self.step[0],
                y2 + at * self.step[1],
            )
            for at in range(len(self.numbers))
        }

    def files(self) -> list[str]:
        return [self.listed % number for number in self.numbers]

    def __str__(self) -> str:
        return f"{self.source}-{self.disk[0]}"


_TRACK20 = "CAMMA_data/CholecTrack20/Testing/{}/Frames/%06d.png"
CASES = (
    Case("CholecTrack20", "VID01", _TRACK20.format("VID01"), (854, 480), 1.0, (1, 26, 51, 76), (301, 104, 512, 287)),
    Case("CholecTrack20", "VID02", _TRACK20.format("VID02"), (1920, 1080), 1.0, (1, 26, 51, 76), (301, 104, 512, 287)),
    Case(
        *("CoPESD", "000001", "CoPESD/high_light_images/000001/%04d.png", (1306, 1009), 1.0, (5, 6, 7, 8)),
        (417.54, 339.56, 726.88, 785.62),
    ),
    Case(
        "EgoSurgery",
        "01_1",
        "EgoSurgery/images/01/01_1_%04d.png",
        (1920, 1080),
        0.5,
        (1, 2, 3, 4),
        (801, 412, 1211, 766),
    ),
)


def annotation(case: Case, task: str) -> dict:
    """A row in the official format that asks about the white region; the clips for rc are all black."""
    files = [f"/root/data/{task}/{name}" for name in case.files()]
    times = [f"{time:g}" for time in case.boxes()]
    row = {
        "id": f"{case.video}_{task}",
        "data_source": case.source,
        "dataset_name": case.source,
        "video": files,
        "sampled_video_frames": list(case.numbers),
        "metadata": {
            "video_id": case.video,
            "fps": str(case.fps),
            "input_video_start_frame": str(case.numbers[0]),
            "input_video_end_frame": str(case.numbers[-1]),
        },
        "is_RC": task == "rc",
        "RC_info": None,
    }
    if task == "rc":
        region = {"start_frame": files[0], "start_frame_bbox": list(case.box)}
        asked, told = "Describe the region inside the bounding box at 0.0 seconds.", "A white region moves."
        struc = [{"question": asked, "struc_info": {"start": 0.0, "end": 1.0, "object": "region", "start_frame": 1}}]
        return {
            **row,
            "qa_type": "region_caption_gpt",
            "RC_info": region,
            "conversations": [{"from": "human", "value": f"<video>\n{asked}"}, {"from": "gpt", "value": told}],
            "struc_info": struc,
        }
    stride = round(1 / case.fps)
    item = {
        "start": 0,
        "end": int(times[-1]),
        "stride": stride,
        "object": "region",
        "bbox_dict": {time: list(box) for time, box in zip(times, case.boxes().values(), strict=True)},
    }
    asked = f"Where is the region from 0.0 to {times[-1]}.0 seconds, every {stride} seconds?"
    told = render_stg(case.boxes())
    return {
        **row,
        "qa_type": "stg",
        "conversations": [{"from": "human", "value": f"<video>\n{asked}"}, {"from": "gpt", "value": told}],
        "struc_info": [item],
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> tuple[Path, dict[tuple, dict]]:
    """The listed frames, of the real sizes and showing the regions, and the rows by (family, task, case)."""
    root = tmp_path_factory.mktemp("seen")
    for case in CASES:
        for name, box in zip(case.files(), case.boxes().values(), strict=True):
            for task in ("stg", "rc"):
                frame = Image.new("RGB", case.disk)
                if task == "stg":
                    x1, y1, x2, y2 = (round(edge) for edge in rescale(box, case.canvas, case.disk))
                    ImageDraw.Draw(frame).rectangle((x1, y1, x2 - 1, y2 - 1), fill="white")
                path = root / "frames" / task / name
                path.parent.mkdir(parents=True, exist_ok=True)
                frame.save(path, compress_level=1)
    (root / "rows.json").write_text(json.dumps([annotation(case, task) for task in ("stg", "rc") for case in CASES]))
    made = {}
    for name in NAMES:
        command(
            "medvidbench.py",
            *("--annotations", root / "rows.json", "--frames-root", root / "frames"),
            *("--output", root / name, "--model-family", name, "--val-fraction", 0.3),
        )
        for task in ("stg", "rc"):
            rows = sorted(rows_of(root / name, task), key=lambda row: row["extra_info"]["index"])
            made.update({(name, task, case): row for case, row in zip(CASES, rows, strict=True)})
    return root / "frames", made


def real_processor(name: str, low: int, high: int):
    """The family's own video processor with these bounds in pixels."""
    size = {"shortest_edge": low, "longest_edge": high}
    family = FAMILIES[name]
    return family.from_transformers("video_processor")(size=size, patch_size=family.convention.patch_size)


def shown(name: str, frames, low: int, high: int) -> np.ndarray:
    """What the video processor makes of frames (T, 3, H, W): pictures (T, H', W', 3) put together from its patches."""
    processor = real_processor(name, low, high)
    out = processor(videos=[frames], do_sample_frames=False, return_tensors="pt")
    t, rows, columns = out["video_grid_thw"][0].tolist()
    m, p, pair = processor.merge_size, processor.patch_size, processor.temporal_patch_size
    patches = out["pixel_values_videos"].reshape(t, rows // m, columns // m, m, m, 3, pair, p, p)
    return patches.permute(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(t * pair, rows * p, columns * p, 3).numpy()


def edges(line: np.ndarray) -> tuple[float, float]:
    """Where a bright run on a dark line begins and ends, to a fraction of a pixel: by its mass and its centre."""
    line = (line - line.min()) / (line.max() - line.min())
    centre = float(((np.arange(len(line)) + 0.5) * line).sum() / line.sum())
    return centre - line.sum() / 2, centre + line.sum() / 2


def filled(picture: np.ndarray) -> tuple[float, float, float, float]:
    """The white region of a black picture, in pixels."""
    green = picture[..., 1]
    (x1, x2), (y1, y2) = edges(green.mean(0)), edges(green.mean(1))
    return x1, y1, x2, y2


def outlined(picture: np.ndarray) -> tuple[float, float, float, float]:
    """The outside of the green outline on a black picture, in pixels."""
    green = picture[..., 1]
    spots = np.argwhere(green > (green.min() + green.max()) / 2)
    middle = (spots.min(0) + spots.max(0)) // 2
    column, row = green[:, middle[1]], green[middle[0]]
    x1, y1 = edges(row[: middle[1]])[0], edges(column[: middle[0]])[0]
    return x1, y1, middle[1] + edges(row[middle[1] :])[1], middle[0] + edges(column[middle[0] :])[1]


def in_pixels(box, row: dict, size: tuple[int, int]) -> tuple:
    """A box as the model says it, in pixels of the picture of `size` that it sees."""
    side = CONVENTIONS[row["extra_info"]["model_family"]].box_side
    return box if side is None else rescale(box, (side, side), size)


each = pytest.mark.parametrize(
    "name, case", [pytest.param(name, case, id=f"{name}-{case}") for name in NAMES for case in CASES]
)


@each
def test_the_size_is_the_one_that_boxes_are_said_in(plugged, seen, name, case):
    """From the frame store, from the listed frames, and by the processor's own rule from frames as they are."""
    from recipes.medgrpo.data.video import decode_clip

    listed, rows = seen
    row = rows[name, "stg", case]
    video, expected = row["videos"][0], tuple(row["extra_info"]["processed_size"])
    originals = [str(listed / "stg" / file) for file in case.files()]
    for files in (video["video"], originals):
        frames, _ = decode_clip({**video, "video": files})
        assert shown(name, frames, *RELEASED[name]).shape[2:0:-1] == expected
    frames, _ = decode_clip({**video, "video": originals[:2], "resized_width": None, "resized_height": None})
    assert tuple(frames.shape[:1:-1]) == case.disk
    # The preprocessor's bounds are those of a frame; the later processor counts the pixels of the clip.
    times = 1 if name == "qwen2_5_vl" else len(frames)
    assert shown(name, frames, MIN_PIXELS * times, MAX_PIXELS * times).shape[2:0:-1] == expected


@each
def test_the_object_is_where_the_target_answer_says(plugged, seen, name, case):
    from recipes.medgrpo.data.video import decode_clip

    row = seen[1][name, "stg", case]
    pictures = shown(name, decode_clip(row["videos"][0])[0], *RELEASED[name])
    size = pictures.shape[2:0:-1]
    answer = parse_stg(row["extra_info"]["answer"]).value
    assert len(answer) == len(pictures) == len(case.numbers)
    for picture, (time, box) in zip(pictures, sorted(answer.items()), strict=True):
        found = filled(picture)
        assert iou(in_pixels(box, row, size), found) > ENOUGH
        assert iou(rescale(found, size, case.canvas), case.boxes()[time]) > ENOUGH
    # The region moves: the box of another time is another box.
    assert iou(in_pixels(answer[min(answer)], row, size), filled(pictures[-1])) < 0.9


@each
def test_the_region_of_a_caption_is_drawn_where_it_is(plugged, seen, name, case):
    """The question has no coordinates: the box is in the picture."""
    from recipes.medgrpo.data.video import decode_clip

    row = seen[1][name, "rc", case]
    picture = shown(name, decode_clip(row["videos"][0])[0], *RELEASED[name])[0]
    found = outlined(picture)
    assert iou(rescale(found, picture.shape[1::-1], case.canvas), case.box) > ENOUGH
    if case.disk != case.canvas:  # drawn as if on the file's own pixels, it would be elsewhere
        assert iou(rescale(found, picture.shape[1::-1], case.disk), case.box) < 0.5


@each
def test_the_answer_to_a_real_frame_is_right_to_the_reward(seen, name, case):
    row = seen[1][name, "stg", case]
    assert reward(row, row["extra_info"]["answer"]) > ENOUGH
    assert reward(row, row["extra_info"]["answer"], model_family=OTHER[name]) < 0.3
