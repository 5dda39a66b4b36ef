# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What reaches the trackers: a step's numbers through verl's own loggers, and a picture of a rollout with its boxes."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.medgrpo.training.curves import Rollout, pair_curves
from recipes.medgrpo.training.tracker_pictures import ANSWER, GOLD, TAG, WIDTH, boxes_shown, picture, send

ROOT = Path(__file__).resolve().parents[3]
STG = "medvidbench/AVOS/stg"


@pytest.fixture
def frames(tmp_path):
    """Five black frames of 80 x 40 pixels, a second apart."""
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for file in files:
        Image.new("RGB", (80, 40)).save(file)
    return list(map(str, files))


def near(image, place, colour):
    return np.abs(np.asarray(image, dtype=int)[place[1], place[0]] - colour).max() <= 2


def test_boxes_lie_where_they_are_on_the_canvas(frames):
    # The canvas is twice the frame, the picture twice the canvas.
    image = picture(frames, [0, 1, 2, 3, 4], {2.1: (20, 10, 60, 70)}, {2.0: (80, 10, 140, 70)}, (160, 80))
    assert image.size == (WIDTH, 160)
    assert near(image, (40, 80), GOLD) and near(image, (120, 80), GOLD) and near(image, (80, 20), GOLD)
    column = np.asarray(image, dtype=int)[20:141, 160]
    broken = np.abs(column - ANSWER).max(axis=1) <= 2
    # The answer's line has gaps, the reference's has none.
    assert 0.3 < broken.mean() < 0.8
    assert (np.abs(np.asarray(image, dtype=int)[20:141, 40] - GOLD).max(axis=1) <= 2).all()


def test_each_box_is_on_the_frame_of_its_time(frames):
    image = picture(frames, [0, 1, 2, 3, 4], {0: (20, 10, 60, 70), 4: (20, 10, 60, 70)}, {}, (160, 80))
    assert image.size == (2 * WIDTH, 160) and near(image, (40, 80), GOLD) and near(image, (WIDTH + 40, 80), GOLD)
    crowded = picture(frames, [0, 1, 2, 3, 4], {t: (20, 10, 60, 70) for t in range(5)}, {}, (160, 80))
    assert crowded.size == (4 * WIDTH, 160)


def test_an_answer_is_read_as_the_reward_reads_it(frames):
    clip = {"type": "video", "video": frames, "sample_fps": 1.0, "frame_seconds": None}
    prompt = [{"role": "user", "content": [clip, {"type": "text", "text": "Where?"}]}]
    extra = {"canvas": [160, 80], "processed_size": [80, 40], "model_family": "qwen2_5_vl"}
    gold = json.dumps({"text": "x", "boxes": {"2.0": [20, 10, 60, 70]}, "stride": 1})
    image = boxes_shown(prompt, STG, "2.0 seconds: [40, 5, 70, 35]", gold, extra)
    expected = picture(frames, [0, 1, 2, 3, 4], {2.0: (20, 10, 60, 70)}, {2.0: (80, 10, 140, 70)}, (160, 80))
    assert np.array_equal(image, expected)


def test_a_picture_that_fails_costs_no_training(caplog):
    def make():
        raise FileNotFoundError("no such frame")

    with caplog.at_level(logging.WARNING):
        send(["console", "tensorboard"], make, 7)
    assert [record.message for record in caplog.records] == ["step 7: no picture of a rollout: no such frame"]


def test_without_a_tracker_for_pictures_none_is_made():
    send(["console", "file", "mlflow"], lambda: pytest.fail("made"), 1)


def metrics():
    """A step's metrics as the sampler makes them."""
    rollouts = [
        Rollout("a", STG, 5, reward, {"acc": reward, "format": 1.0, "raw_iou": reward}) for reward in (0.25, 0.75)
    ]
    return pair_curves((one.data_source, one.reward, one.parts) for one in rollouts)


TRACKED = """
import json, sys
import numpy as np
from PIL import Image
from verl.utils.tracking import Tracking
from recipes.medgrpo.training.tracker_pictures import send
loggers, metrics = json.loads(sys.argv[1]), json.loads(sys.argv[2])
tracking = Tracking("medgrpo", "grpo", loggers, {"trainer": {}})
for step in (1, 2):
    send(loggers, lambda: (Image.new("RGB", (64, 32), (10, 200, 30)), "a caption"), step)
    tracking.log(metrics, step)
tracking.finish()
"""


def tracked(folder, *loggers, **env):
    """verl's tracking in a process of its own, as a training has it."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", TRACKED, json.dumps(["console", "file", *loggers]), json.dumps(metrics())],
        cwd=folder,
        env=os.environ | {"VERL_FILE_LOGGER_PATH": str(folder / "steps.jsonl"), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # What the scripts and the summary read stays.
    assert "step:2 - " in done.stdout
    assert [json.loads(line)["step"] for line in (folder / "steps.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.slow
def test_numbers_and_pictures_reach_tensorboard(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    tracked(tmp_path, "tensorboard", TENSORBOARD_DIR=str(tmp_path / "board"))
    found = reading.EventAccumulator(str(tmp_path / "board"), {reading.SCALARS: 0, reading.IMAGES: 0})
    found.Reload()
    values = {name: [event.value for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert values == {name: pytest.approx([value, value]) for name, value in metrics().items()}
    assert [(event.step, event.width, event.height) for event in found.Images(TAG)] == [(1, 64, 32), (2, 64, 32)]


def logged_pieces(content):
    """The pieces of a file in LevelDB's log format, which wandb writes behind a head of 7 bytes.

    Blocks of 32 KiB hold parts: 4 bytes of checksum, 2 of length, 1 of kind (whole, first, middle, last), the part.
    """
    place, piece = 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        piece += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield piece
            piece = b""


@pytest.mark.slow
def test_numbers_and_pictures_reach_wandb_without_a_network(tmp_path):
    pytest.importorskip("wandb", reason="needs wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    tracked(tmp_path, "wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path), WANDB_SILENT="true")
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    steps = []
    for content in logged_pieces(file.read_bytes()):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            steps.append({"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items})
    assert [step["_step"] for step in steps] == [1, 2]
    for step in steps:
        assert {name: step[name] for name in metrics()} == pytest.approx(metrics())
        shown = {name: step[f"{TAG}/{name}"] for name in ("_type", "width", "height", "caption")}
        assert shown == {"_type": "image-file", "width": 64, "height": 32, "caption": "a caption"}, sorted(step)
