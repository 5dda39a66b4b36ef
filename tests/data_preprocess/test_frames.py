# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Frame files: found, checked, drawn."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_preprocess import frames
from data_preprocess.frames import BOX_COLOUR, UNREADABLE, FrameError, FrameRoot, render, why_unreadable

FOLDER = "EgoSurgery/images/01"
LISTED = f"/root/data/{FOLDER}/01_1_0001.jpg"


def picture(path, size=(96, 54), colour=(200, 30, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def noise(size=(96, 54), mode="RGB"):
    shape = (size[1], size[0], 4 if mode == "CMYK" else 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode)


@pytest.fixture
def data(tmp_path):
    picture(tmp_path / "data" / FOLDER / "01_1_0001.jpg")
    picture(tmp_path / "data" / FOLDER / "01_1_0002.jpg")
    return tmp_path / "data"


@pytest.mark.parametrize("verify", frames.VERIFY)
@pytest.mark.parametrize(
    "prefix", ["/root/data/", "valdata/", "testdata/", "", "./", "/root/data/valdata/", "/mnt/any/where//"]
)
def test_a_frame_is_found_whatever_its_path_once_began_with(data, prefix, verify):
    root = FrameRoot(data, verify)
    names = ["01_1_0002.jpg", "01_1_0001.jpg", "01_1_0002.jpg"]
    found = root.clip([f"{prefix}{FOLDER}/{name}" for name in names])
    assert found == [str(data / FOLDER / name) for name in names]
    assert root.size(found[0]) == (96, 54)


@pytest.mark.parametrize("below", ["", "EgoSurgery", "EgoSurgery/images"])
def test_the_root_may_be_any_folder_above_the_frames(data, below):
    assert FrameRoot(data / below).clip([LISTED]) == [str(data / FOLDER / "01_1_0001.jpg")]


@pytest.mark.parametrize("top", ["valdata", "testdata"])
def test_a_release_unpacked_with_its_top_folder_is_found(tmp_path, top):
    path = picture(tmp_path / top / "AVOS/1.jpg")
    assert FrameRoot(tmp_path).clip(["/root/data/AVOS/1.jpg"]) == [str(path)]


def test_the_longest_tail_wins(data):
    picture(data / "images/01/01_1_0001.jpg")
    assert FrameRoot(data).clip([LISTED]) == [str(data / FOLDER / "01_1_0001.jpg")]


def test_a_short_tail_of_another_source_is_refused(tmp_path):
    picture(tmp_path / "CholecT50/videos/VID01/000001.png")
    root = FrameRoot(tmp_path / "CholecT50")
    assert root.clip(["/root/data/CAMMA_data/CholecT50/videos/VID01/000001.png"])
    with pytest.raises(FrameError, match="is of CholecT50, not of Cholec80_CVS"):
        root.clip(["/root/data/Cholec80-CVS/videos/VID01/000001.png"])


@pytest.mark.parametrize("listed", ["x.png", "/x.png"])
def test_a_bare_name_lies_in_the_root_itself(tmp_path, listed):
    picture(tmp_path / "x.png")
    assert FrameRoot(tmp_path).clip([listed]) == [str(tmp_path / "x.png")]


def test_a_missing_folder_is_not_taken_for_the_root(tmp_path):
    picture(tmp_path / "1.jpg")
    with pytest.raises(FrameError, match="no folder .*AVOS"):
        FrameRoot(tmp_path).clip(["/root/data/AVOS/1.jpg"])


def test_a_clip_may_lie_in_several_folders(data):
    picture(data / "AVOS/a/1.jpg")
    listed = [LISTED, "testdata/AVOS/a/1.jpg", f"{FOLDER}/01_1_0002.jpg"]
    found = FrameRoot(data).clip(listed)
    assert found == [
        str(data / name) for name in (f"{FOLDER}/01_1_0001.jpg", "AVOS/a/1.jpg", f"{FOLDER}/01_1_0002.jpg")
    ]
    assert FrameRoot(data).clip([]) == []


def test_unchecked_frames_cost_no_look_at_the_disk_but_for_their_folder(tmp_path):
    nowhere = FrameRoot(tmp_path / "nowhere", "none")
    assert nowhere.clip([LISTED]) == [str(tmp_path / "nowhere" / FOLDER / "01_1_0001.jpg")]
    (tmp_path / "data" / FOLDER).mkdir(parents=True)
    assert FrameRoot(tmp_path / "data", "none").clip([LISTED]) == [str(tmp_path / "data" / FOLDER / "01_1_0001.jpg")]
    for verify in ("exists", "decode"):
        with pytest.raises(FrameError, match="expected a folder of frames"):
            FrameRoot(tmp_path / "nowhere", verify)
    with pytest.raises(ValueError, match="expected one of none, exists, decode"):
        FrameRoot(tmp_path, "all")


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(NAMES, st.sampled_from(["1.jpg", "2.jpg", "a\nb", "\n", "bilder-ä/", "x/1.jpg"]))))
def test_one_folder_at_once_is_one_frame_at_a_time(names):
    root = FrameRoot("/nowhere/at all", "none")
    listed = [f"valdata/AVOS/frames_15fps/{name}" for name in names if not name.endswith("/")]
    assert root.clip(listed) == [f"/nowhere/at all/{path.removeprefix('valdata/')}" for path in listed]


@pytest.mark.parametrize("verify", frames.VERIFY)
@pytest.mark.parametrize(
    "bad, reason",
    [
        ("AVOS/../../secret/1.jpg", r"\.\. is refused"),
        ("/root/data/../AVOS/1.jpg", r"\.\. is refused"),
        ("AVOS/..", "name of a file"),
        ("AVOS/.", "name of a file"),
        ("AVOS/", "name of a file"),
        ("", "name of a file"),
        ("AVOS/a\0b.jpg", "name of a file"),
        ("AVOS/\ud800.jpg", "not valid Unicode"),
        ("AVOS/\ud800/1.jpg", "not valid Unicode"),
        ("linked/1.jpg", "leads out"),
    ],
)
def test_escapes_and_impossible_names_are_refused(tmp_path, verify, bad, reason):
    picture(tmp_path / "secret/1.jpg")
    picture(tmp_path / "data/AVOS/2.jpg")
    (tmp_path / "data/linked").symlink_to(tmp_path / "secret")
    for listed in ([bad], ["AVOS/2.jpg", bad], [bad, "AVOS/2.jpg"], [bad, bad]):
        with pytest.raises(FrameError, match=reason):
            FrameRoot(tmp_path / "data", verify).clip(listed)


@pytest.mark.parametrize("verify", ["exists", "decode"])
def test_links_may_lead_around_below_the_root_and_not_out_of_it(tmp_path, verify):
    picture(tmp_path / "secret/1.jpg")
    picture(tmp_path / "data/AVOS/1.jpg")
    (tmp_path / "data/AVOS/2.jpg").symlink_to(tmp_path / "data/AVOS/1.jpg")
    (tmp_path / "data/AVOS/3.jpg").symlink_to(tmp_path / "secret/1.jpg")
    (tmp_path / "data/AVOS/4.jpg").symlink_to("nothing.jpg")
    (tmp_path / "data/AVOS/5.jpg").symlink_to("5.jpg")
    root = FrameRoot(tmp_path / "data", verify)
    assert len(root.clip(["AVOS/1.jpg", "AVOS/2.jpg"])) == 2
    for name, reason in (("3.jpg", "leads out"), ("4.jpg", "no such file"), ("5.jpg", "no such file")):
        with pytest.raises(FrameError, match=reason):
            root.clip(["AVOS/1.jpg", f"AVOS/{name}"])


def test_the_root_itself_may_be_a_link(data, tmp_path):
    (tmp_path / "link").symlink_to(data)
    assert FrameRoot(tmp_path / "link").clip([LISTED]) == [str(data / FOLDER / "01_1_0001.jpg")]


def truncated(path):
    noise().save(path)
    path.write_bytes(path.read_bytes()[:1500])


BROKEN = {
    "missing": (lambda path: None, "no such file", "exists"),
    "a folder": (lambda path: path.mkdir(), "not a file", "exists"),
    "a pipe": (os.mkfifo, "not a file", "exists"),
    "empty": (lambda path: path.touch(), "the file is empty", "exists"),
    "a program for a printer": (
        lambda path: picture(path.with_suffix(".eps")).rename(path),
        "not a readable picture",
        "decode",
    ),
    "text": (lambda path: path.write_text("no picture"), "not a readable picture", "decode"),
    "truncated": (truncated, "not a readable picture", "decode"),
    "16-bit grey": (
        lambda path: Image.fromarray(np.zeros((54, 96), np.uint16)).save(path, "PNG"),
        "mode I;16.*8-bit grey or RGB",
        "decode",
    ),
    "CMYK": (lambda path: noise(mode="CMYK").save(path), "mode CMYK", "decode"),
    "of another size": (lambda path: picture(path, (54, 96)), "mixed sizes in one clip: 96x54 and 54x96", "decode"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_unusable_frame_is_named_with_the_reason(data, kind):
    make, reason, seen_by = BROKEN[kind]
    make(data / FOLDER / "bad.jpg")
    bad = f"testdata/{FOLDER}/bad.jpg"
    assert FrameRoot(data, "none").clip([LISTED, bad])
    if seen_by == "decode":
        assert FrameRoot(data, "exists").clip([LISTED, bad])
    for verify in {seen_by, "decode"}:
        root = FrameRoot(data, verify)
        for _ in range(2):  # and again, whatever is remembered
            with pytest.raises(FrameError, match=reason) as error:
                root.clip([LISTED, bad])
            assert error.value.frame == bad
        assert len(root.clip([LISTED, LISTED])) == 2


def test_sixteen_bits_of_colour_are_not_taken_for_eight(tmp_path):
    """PIL opens such a file as RGB, of the upper bytes."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.ppm")
    (tmp_path / "a.png").write_bytes(sixteen_bit_png())
    with pytest.raises(FrameError, match="16 bits"):
        FrameRoot(tmp_path).size(str(tmp_path / "a.png"))
    with pytest.raises(FrameError, match="16 bits"):
        FrameRoot(tmp_path, "decode").clip(["a.png"])
    with pytest.raises(ValueError, match="16 bits"):
        render(str(tmp_path / "a.png"), (28, 28))


def sixteen_bit_png():
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x0f\xff" * 12) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_unicode_and_odd_names_are_names(tmp_path):
    names = ["Bild ä.png", "画像.png", "-n.png", "a\\b.png", "new\nline.png", " .png", "%d.png"]
    for name in names:
        picture(tmp_path / "Vidéo" / name)
    listed = [f"/root/data/Vidéo/{name}" for name in names]
    assert FrameRoot(tmp_path, "decode").clip(listed) == [str(tmp_path / "Vidéo" / name) for name in names]


def test_an_error_tells_the_row_that_lists_the_frame():
    with pytest.raises(FrameError, match="a.json: row 7: frame x: bad"):
        raise FrameError("x", "bad").at("a.json", 7)


def test_a_machine_out_of_files_or_room_is_no_bad_picture():
    with pytest.raises(OSError, match="Too many open files"):
        why_unreadable(OSError(24, "Too many open files"))
    assert why_unreadable(FileNotFoundError(2, "no")) == "no such file"
    assert why_unreadable(OSError("image file\nis truncated")) == "not a readable picture: image file is truncated"


def test_what_is_remembered_does_not_grow_without_end(data, monkeypatch):
    monkeypatch.setattr(frames, "_REMEMBERED", 8)
    root = FrameRoot(data, "decode")
    for number in range(40):
        picture(data / f"AVOS/{number}/1.png", (8, 8))
        (path,) = root.clip([f"AVOS/{number}/1.png"])
        assert FrameRoot.size(root, path) == (8, 8)
        FrameRoot(data, "none").size(path)
        root._header_size(path)
    assert max(len(root._folders), len(root._checked), root._header_size.cache_info().currsize) <= 8


# Pixels.


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


def test_the_line_of_a_box_is_whole_on_a_large_frame_and_with_draft(tmp_path):
    """Drawn before the resize, the line has to be wide enough to survive it."""
    path = picture(tmp_path / "f.jpg", size=(1920, 1080), colour=(90, 0, 90))
    for draft in (False, True):
        image = np.asarray(render(str(path), (224, 112), (200, 200, 1500, 900), (1920, 1080), draft=draft)).astype(int)
        column = image[56, :, 1] - image[56, :, 0]
        assert (column > 60).sum() >= 2 and column.max() > 150


def test_a_box_off_the_canvas_is_an_error(tmp_path):
    path = picture(tmp_path / "f.png")
    with pytest.raises(ValueError, match="covers nothing of a 1920x1080 canvas"):
        render(str(path), (56, 28), (900, 100, 100, 900), (1920, 1080))


def test_portrait_frames_and_exif_orientation_are_left_as_they_are(tmp_path):
    tall = smooth((54, 96))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    tall.save(tmp_path / "tall.jpg", exif=orientation, quality=95)
    assert FrameRoot(tmp_path, "decode").size(str(tmp_path / "tall.jpg")) == (54, 96)
    shown = render(str(tmp_path / "tall.jpg"), (54, 96))
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(tall)).mean() < 5


def test_a_frame_of_another_size_than_its_clip_is_an_error(tmp_path):
    path = picture(tmp_path / "f.png", (96, 54))
    assert render(str(path), (56, 28), source_size=(96, 54)).size == (56, 28)
    with pytest.raises(ValueError, match="mixed sizes in one clip: 96x54, expected 54x96"):
        render(str(path), (56, 28), source_size=(54, 96))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_grey_and_palette_pictures_come_as_rgb(tmp_path, mode):
    Image.new("RGB", (96, 54), (255, 255, 255)).convert(mode).save(tmp_path / "f.png")
    shown = render(str(tmp_path / "f.png"), (56, 28))
    assert (shown.mode, shown.size, shown.getpixel((3, 3))) == ("RGB", (56, 28), (255, 255, 255))


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (96, 54), (0, 0, 0, 0)).save(tmp_path / "f.png")
    assert render(str(tmp_path / "f.png"), (56, 28)).getpixel((3, 3)) == (255, 255, 255)


def smooth(size):
    coarse = np.random.default_rng(3).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def test_one_resize_and_the_jpeg_decoders_own_scaling_show_the_same_picture(tmp_path):
    smooth((1280, 720)).save(tmp_path / "f.jpg", quality=92)
    with Image.open(tmp_path / "f.jpg") as image:
        slow = np.asarray(image.convert("RGB").resize((252, 140), Image.Resampling.BICUBIC)).astype(int)
    ours, draft = (np.asarray(render(str(tmp_path / "f.jpg"), (252, 140), draft=d)).astype(int) for d in (False, True))
    assert np.abs(ours - slow).mean() < 0.5
    assert 0 < np.abs(draft - slow).mean() < 1.5


@pytest.mark.parametrize("kind", ["text", "truncated", "16-bit grey", "CMYK", "missing", "empty", "a folder"])
def test_drawing_raises_only_what_is_told(tmp_path, kind):
    BROKEN[kind][0](tmp_path / "bad.jpg")
    with pytest.raises(UNREADABLE):
        render(str(tmp_path / "bad.jpg"), (56, 28))


def test_threads_may_draw_the_same_file_at_once(tmp_path):
    path = str(picture(tmp_path / "f.jpg", (640, 360)))
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(render(path, (56, 28)).tobytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and len(set(seen)) == 1
