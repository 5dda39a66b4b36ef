# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The frame store."""

import os

import numpy as np
import pytest
from PIL import Image

from data_preprocess import frames
from data_preprocess.frames import BOX_COLOUR, FrameError, FrameRoot, FrameStore, render

LISTED = "/root/data/EgoSurgery/images/01/01_1_0001.jpg"


def picture(path, size=(96, 54), colour=(200, 30, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    picture(tmp_path / "data/EgoSurgery/images/01/01_1_0001.jpg")
    return FrameRoot(tmp_path / "data")


@pytest.mark.parametrize("prefix", ["/root/data/", "valdata/", "testdata/", "", "/root/data/valdata/"])
def test_a_frame_is_found_whatever_its_path_once_began_with(root, prefix):
    path, _ = root.find(prefix + "EgoSurgery/images/01/01_1_0001.jpg")
    assert os.path.samefile(path, os.path.join(root.root, "EgoSurgery/images/01/01_1_0001.jpg"))
    assert root.size(LISTED) == (96, 54)


def test_a_release_unpacked_with_its_top_folder_is_found(tmp_path):
    picture(tmp_path / "valdata/AVOS/1.jpg")
    assert FrameRoot(tmp_path).find("/root/data/AVOS/1.jpg")[0].endswith("valdata/AVOS/1.jpg")


def test_escapes_are_refused(tmp_path):
    picture(tmp_path / "secret/1.jpg")
    (tmp_path / "data/AVOS").mkdir(parents=True)
    (tmp_path / "data/linked").symlink_to(tmp_path / "secret")
    (tmp_path / "data/AVOS/1.jpg").symlink_to(tmp_path / "secret/1.jpg")
    root = FrameRoot(tmp_path / "data")
    with pytest.raises(FrameError, match=r"\.\. is refused"):
        root.find("AVOS/../../secret/1.jpg")
    with pytest.raises(FrameError, match="leads out"):
        root.find("linked/1.jpg")
    with pytest.raises(FrameError, match="leads out"):
        root.find("AVOS/1.jpg")


def test_missing_empty_and_broken_frames_are_named(root):
    folder = os.path.dirname(root.find(LISTED)[0])
    open(os.path.join(folder, "empty.jpg"), "w").close()
    with open(os.path.join(folder, "text.jpg"), "w") as handle:
        handle.write("no picture")
    with pytest.raises(FrameError, match="no such file"):
        root.find("EgoSurgery/images/01/none.jpg")
    with pytest.raises(FrameError, match="empty"):
        root.find("EgoSurgery/images/01/empty.jpg")
    with pytest.raises(FrameError, match="not a readable picture"):
        root.size("EgoSurgery/images/01/text.jpg")
    with pytest.raises(FrameError, match="a.json: row 7: frame x: bad"):
        raise FrameError("x", "bad").at("a.json", 7)


def test_a_frame_is_stored_once_and_reused_until_its_file_changes(root, tmp_path):
    with FrameStore(root, tmp_path / "store") as store:
        first = store.request(LISTED, (56, 28))
        assert store.request(LISTED, (56, 28)) == first
        assert store.request("testdata" + LISTED.removeprefix("/root/data"), (56, 28)) == first
        assert store.flush() == {}
        assert store.made == 1
    with Image.open(first) as image:
        assert image.size == (56, 28) and image.mode == "RGB"
    assert os.listdir(tmp_path / "store") == [os.path.basename(first)]
    with FrameStore(root, tmp_path / "store") as store:
        assert store.request(LISTED, (56, 28)) == first
        assert (store.flush(), store.made, store.reused) == ({}, 0, 1)
    path = root.find(LISTED)[0]
    Image.new("RGB", (96, 54), (0, 0, 255)).save(path)
    os.utime(path, ns=(1, 1))
    with FrameStore(root, tmp_path / "store") as store:
        assert store.request(LISTED, (56, 28)) == first
        assert (store.flush(), store.made) == ({}, 1)
    with Image.open(first) as image:
        assert image.getpixel((5, 5))[2] > 240


def test_a_truncated_frame_is_an_error_of_its_own_and_leaves_nothing(root, tmp_path):
    path = root.find(LISTED)[0]
    noise = np.random.default_rng(0).integers(0, 256, (54, 96, 3), dtype=np.uint8)
    good = os.path.join(os.path.dirname(path), "good.jpg")
    Image.fromarray(noise).save(good)
    with open(good, "rb") as handle:
        half = handle.read()[:1500]
    with open(path, "wb") as handle:
        handle.write(half)
    with FrameStore(root, tmp_path / "store") as store:
        broken = store.request(LISTED, (56, 28))
        fine = store.request(LISTED.replace("01_1_0001", "good"), (56, 28))
        errors = store.flush()
    assert list(errors) == [broken] and errors[broken].frame == LISTED
    assert os.listdir(tmp_path / "store") == [os.path.basename(fine)]


def test_a_region_box_is_drawn_in_canvas_coordinates_before_the_resize(tmp_path):
    """The file is a tenth of the 1920x1080 canvas, the processed frame 112x56."""
    path = picture(tmp_path / "f.png", size=(192, 108), colour=(90, 0, 90))
    image = np.asarray(render(str(path), (112, 56), (480, 270, 1440, 810), (1920, 1080))).astype(int)
    green = image[..., 1] - image[..., 0] > 60
    rows, columns = np.nonzero(green)
    assert (columns.min(), columns.max()) == (pytest.approx(28, abs=1), pytest.approx(83, abs=1))
    assert (rows.min(), rows.max()) == (pytest.approx(14, abs=1), pytest.approx(41, abs=1))
    assert not green[20:36, 34:78].any(), "the box is an outline"
    assert tuple(image[0, 0]) == (90, 0, 90) and BOX_COLOUR == (0, 255, 0)


def test_a_boxed_frame_is_another_entry_than_the_plain_one(root, tmp_path):
    with FrameStore(root, tmp_path / "store") as store:
        plain = store.request(LISTED, (56, 28), None, (1920, 1080))
        boxed = store.request(LISTED, (56, 28), (100.0, 100.0, 900.0, 900.0), (1920, 1080))
        nothing = store.request(LISTED, (56, 28), (900.0, 100.0, 100.0, 900.0), (1920, 1080))
        errors = store.flush()
    assert plain != boxed and list(errors) == [nothing]
    assert "covers nothing" in str(errors[nothing])


def test_sixteen_bit_pictures_are_refused_and_cmyk_is_read(tmp_path):
    Image.fromarray(np.zeros((54, 96), dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="8 bits"):
        render(str(tmp_path / "deep.png"), (56, 28))
    Image.new("CMYK", (96, 54)).save(tmp_path / "print.jpg")
    assert render(str(tmp_path / "print.jpg"), (56, 28)).mode == "RGB"


def test_two_processes_store_what_one_stores(root, tmp_path, monkeypatch):
    folder = os.path.dirname(root.find(LISTED)[0])
    names = [f"f{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (96, 54), (40 * i, 0, 0)).save(os.path.join(folder, name))
    contents = []
    for place, least in (("one", 1000), ("two", 1)):
        monkeypatch.setattr(frames, "_POOL_FROM", least)
        with FrameStore(root, tmp_path / place) as store:
            targets = [store.request(f"EgoSurgery/images/01/{name}", (56, 28)) for name in names]
            assert store.flush() == {}
        contents.append([open(target, "rb").read() for target in targets])
    assert contents[0] == contents[1]
