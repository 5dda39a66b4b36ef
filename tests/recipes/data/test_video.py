# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from data_preprocess.frames import UNREADABLE, render
from recipes.medgrpo.data import video
from recipes.medgrpo.data.video import ClipCache, FrameReadError, clips_of, decode_clip


@pytest.fixture
def clip(tmp_path):
    """A row's video of three frames of 28 x 14 pixels; frame k is filled with 10 * (k + 1)."""
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for k, path in enumerate(paths):
        Image.fromarray(np.full((14, 28, 3), 10 * (k + 1), np.uint8)).save(path)
    return {"video": [str(path) for path in paths], "sample_fps": 0.5, "resized_width": 28, "resized_height": 14}


def test_a_clip_is_frames_and_what_is_needed_to_time_them(clip):
    frames, metadata = decode_clip({**clip, "video": clip["video"][:2]})
    assert tuple(frames.shape) == (2, 3, 14, 28)
    assert frames[:, 0, 0, 0].tolist() == [10, 20]
    assert metadata == {"fps": 0.5, "frames_indices": [0, 1], "total_num_frames": 2}


def test_an_odd_clip_shows_its_last_frame_twice(clip):
    frames, metadata = decode_clip(clip)
    assert frames[:, 0, 0, 0].tolist() == [10, 20, 30, 30]
    # transformers divides the two to find the rate: they have to count alike.
    assert metadata["total_num_frames"] == len(metadata["frames_indices"]) == 4


def test_the_copy_of_the_last_frame_has_its_time(clip):
    assert decode_clip(clip)[1]["frames_indices"] == [0, 1, 2, 2]


def test_frames_come_in_the_size_that_the_row_states(clip):
    frames, _ = decode_clip({**clip, "resized_width": 56, "resized_height": 42})
    assert tuple(frames.shape[2:]) == (42, 56)


def test_one_odd_frame_out_is_an_error_that_names_the_clip(clip, tmp_path):
    Image.new("RGB", (30, 14)).save(tmp_path / "1.png")
    with pytest.raises(FrameReadError, match=r"0\.png.*differ in size"):
        decode_clip({"video": clip["video"], "sample_fps": 1.0})


def test_a_missing_frame_is_named(clip, tmp_path):
    (tmp_path / "1.png").unlink()
    with pytest.raises(FrameReadError, match=r"1\.png"):
        decode_clip(clip)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def other_file(content: bytes) -> bytes:
    return b"not a picture"


def broken_chunk(content: bytes) -> bytes:
    """The PNG's pixels in two chunks, the second with an impossible name."""
    at = content.index(b"IDAT") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    data, rest = content[at + 8 : at + 8 + size], content[at + 12 + size :]

    def chunk(name: bytes, part: bytes) -> bytes:
        return len(part).to_bytes(4, "big") + name + part + zlib.crc32(name + part).to_bytes(4, "big")

    return content[:at] + chunk(b"IDAT", data[: size // 2]) + chunk(b"I\x00AT", data[size // 2 :]) + rest


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        other_file,
        broken_chunk,
    ],
)
def test_a_broken_frame_is_named(clip, tmp_path, damage):
    path = tmp_path / "2.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FrameReadError, match=r"2\.png"):
        decode_clip(clip)


def test_bare_pixels_of_the_frame_store_are_read_as_pil_reads_them(clip, tmp_path):
    shown = np.random.default_rng(0).integers(0, 256, (3, 14, 28, 3), dtype=np.uint8)
    shown[0, 0, 0] = shown[-1, -1, -1] = ord("\n")
    stored = {**clip, "video": [str(tmp_path / f"{k}.ppm") for k in range(3)]}
    for path, pixels in zip(stored["video"], shown, strict=True):
        Image.fromarray(pixels).save(path)
    frames, _ = decode_clip(stored)
    assert np.array_equal(frames[:3].permute(0, 2, 3, 1).numpy(), shown)
    resized, _ = decode_clip({**stored, "resized_width": 56, "resized_height": 42})
    assert tuple(resized.shape[2:]) == (42, 56)
    with open(stored["video"][1], "rb") as handle:
        content = handle.read()
    # A comment in the header is another writer's.
    (tmp_path / "1.ppm").write_bytes(content.replace(b"P6\n", b"P6\n# by hand\n", 1))
    assert np.array_equal(decode_clip(stored)[0].numpy(), frames.numpy())
    for damaged in (content[:-1], content + b"x", content[:20], b""):
        (tmp_path / "1.ppm").write_bytes(damaged)
        with pytest.raises(FrameReadError, match=r"1\.ppm"):
            decode_clip(stored)


def test_a_clip_without_frames_is_an_error(clip):
    with pytest.raises(FrameReadError, match="without frames"):
        decode_clip({**clip, "video": []})


def test_all_rollouts_of_a_prompt_share_one_decoding(clip, monkeypatch):
    reads, start = [], threading.Barrier(8)
    read = video._read_frame
    monkeypatch.setattr(video, "_read_frame", lambda path, size: (reads.append(path), read(path, size))[1])
    cache = ClipCache()

    def rollout(_):
        start.wait()
        return cache.get(clip)[0]

    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(rollout, range(8)))
    assert sorted(reads) == clip["video"] and cache.decodes == 1
    assert all(one is frames[0] for one in frames)


def test_what_a_caller_does_to_its_metadata_stays_with_it(clip):
    cache = ClipCache()
    cache.get(clip)[1]["fps"] = 99.0
    assert cache.get(clip)[1]["fps"] == 0.5


def test_the_same_frames_at_another_rate_are_another_clip(clip):
    cache = ClipCache()
    assert cache.get(clip)[1]["fps"] == 0.5
    assert cache.get({**clip, "sample_fps": 2.0})[1]["fps"] == 2.0


def test_the_least_recently_used_clip_goes(clip):
    cache = ClipCache(capacity=2)
    first, second, third = ({**clip, "sample_fps": rate} for rate in (1.0, 2.0, 3.0))
    for asked in (first, second, first, third, first):
        cache.get(asked)
    assert cache.decodes == 3
    cache.get(second)
    assert cache.decodes == 4


def test_a_clip_that_failed_is_tried_again(clip, tmp_path):
    cache = ClipCache()
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").unlink()
    with pytest.raises(FrameReadError):
        cache.get(clip)
    (tmp_path / "1.png").write_bytes(content)
    assert len(cache.get(clip)[0]) == 4


def test_a_chats_clips_come_in_order(clip):
    short = {**clip, "video": clip["video"][:2]}
    chat = [
        {"role": "system", "content": "Watch."},
        {"role": "user", "content": [{"type": "video", **clip}, {"type": "text", "text": "and"}]},
        {"role": "user", "content": [{"type": "video", **short}]},
    ]
    assert [len(frames) for frames, _ in clips_of(chat, ClipCache())] == [4, 2]


def picture(kind, shade=200):
    """A picture of 28 x 14 pixels and of one kind."""
    if kind == "16-bit grey":
        return Image.fromarray(np.full((14, 28), shade << 4, np.uint16))
    mode, colour = {
        "CMYK": ("CMYK", (0, shade, 0, 0)),
        "RGBA": ("RGBA", (255, 0, 0, 0)),
        "grey": ("L", shade),
        "grey with alpha": ("LA", (0, 0)),
        "palette": ("P", 3),
        "float": ("F", 0.5),
        "large": ("RGB", (shade, 0, 0)),
    }[kind]
    return Image.new(mode, (56, 28) if kind == "large" else (28, 14), colour)


@pytest.mark.parametrize(
    "kind", ["16-bit grey", "CMYK", "RGBA", "grey", "grey with alpha", "palette", "float", "large"]
)
def test_training_reads_a_picture_by_the_rules_of_the_frame_store(tmp_path, kind):
    """Both refuse it, or both show the same pixels."""
    path = tmp_path / ("a.jpg" if kind == "CMYK" else "a.tif" if kind == "float" else "a.png")
    picture(kind).save(path)
    try:
        stored = np.asarray(render(str(path), (28, 14)))
    except UNREADABLE as error:
        with pytest.raises(
            FrameReadError, match="a\\.(jpg|tif|png): cannot read this frame: picture of mode"
        ) as caught:
            decode_clip({"video": [str(path)], "sample_fps": 1.0, "resized_width": 28, "resized_height": 14})
        assert str(error) in str(caught.value) and kind in ("16-bit grey", "CMYK", "float")
        return
    frames, _ = decode_clip({"video": [str(path)], "sample_fps": 1.0, "resized_width": 28, "resized_height": 14})
    assert np.array_equal(frames[0].permute(1, 2, 0).numpy(), stored)


def test_files_of_two_sizes_are_not_stretched_to_one(clip, tmp_path):
    picture("large").save(tmp_path / "1.png")
    with pytest.raises(FrameReadError, match=r"differ in size: \[\(28, 14\), \(56, 28\)\]"):
        decode_clip(clip)
