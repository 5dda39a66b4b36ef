# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which frames of a clip are shown, and at what size."""

import io

import pytest
from PIL import Image

from recipes.medgrpo.reporting.thumbnails import WIDTH, Thumbnails, chosen_frames, thumbnail_size


def test_of_a_short_clip_all_frames_are_shown():
    assert chosen_frames([0.0, 1.0, 2.0], [], 16) == [0, 1, 2]


def test_of_a_long_clip_the_ends_and_the_frames_with_boxes_are_shown():
    times = [float(at) for at in range(100)]
    shown = chosen_frames(times, [41.2, 43.0], 8)
    assert len(shown) == 8 and shown == sorted(shown)
    assert {0, 41, 43, 99} <= set(shown)
    # More boxes than room: still some of the whole clip.
    crowded = chosen_frames(times, [float(at) for at in range(40, 60)], 8)
    assert len(crowded) == 8 and crowded[0] == 0 and sum(40 <= at < 60 for at in crowded) >= 4


@pytest.mark.parametrize(("size", "small"), [((84, 56), (84, 56)), ((1600, 900), (160, 90)), ((4000, 3), (160, 1))])
def test_a_thumbnail_is_at_most_so_wide(size, small):
    assert thumbnail_size(size) == small


@pytest.mark.parametrize("kind", ["ppm", "png"])
def test_a_picture_of_a_frame(tmp_path, kind):
    Image.new("RGB", (320, 200), (200, 30, 30)).save(tmp_path / f"frame.{kind}")
    thumbs = Thumbnails()
    name = thumbs.name(str(tmp_path / f"frame.{kind}"))
    with Image.open(io.BytesIO(thumbs.picture(name))) as picture:
        assert picture.format == "JPEG" and picture.size == (WIDTH, 100)
        assert picture.getpixel((80, 50)) == pytest.approx((200, 30, 30), abs=4)


def test_no_frame_no_picture(tmp_path):
    thumbs = Thumbnails()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert thumbs.name(str(tmp_path / "gone.ppm")) is None
    assert thumbs.picture(thumbs.name(str(tmp_path / "broken.png"))) is None
    assert thumbs.picture("thumbs/../../etc/passwd") is None
