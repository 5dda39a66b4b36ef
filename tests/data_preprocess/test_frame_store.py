# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The frame store: made once, reused, whole or absent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_preprocess import frame_store
from data_preprocess.frame_store import SUFFIXES, FrameStore, encode
from data_preprocess.frames import FrameError, render

SIZE = (56, 28)


def picture(path, size=(96, 54), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


def entries(folder):
    """All files of a store, half-made ones included."""
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


def test_a_frame_is_stored_once_and_reused_until_its_file_changes(tmp_path):
    path = picture(tmp_path / "a.png")
    with FrameStore(tmp_path / "store") as store:
        first = store.request(path, SIZE)
        assert store.request(path, SIZE) == first
        assert (store.flush(), store.made, store.reused) == ({}, 1, 0)
        assert store.flush() == {}
    assert entries(tmp_path / "store") == [first]
    with FrameStore(tmp_path / "store") as store:
        assert store.request(path, SIZE) == first
        assert (store.flush(), store.made, store.reused) == ({}, 0, 1)
    old = Path(first).read_bytes()
    picture(tmp_path / "a.png", seed=1)
    os.utime(path, ns=(1, 1))
    with FrameStore(tmp_path / "store") as store:
        assert store.request(path, SIZE) == first
        assert (store.flush(), store.made) == ({}, 1)
    assert Path(first).read_bytes() != old


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_kind_of_stored_frame_is_the_frame_that_was_drawn(tmp_path, suffix):
    Image.new("RGB", (96, 54), (200, 30, 60)).save(tmp_path / "a.png")
    with FrameStore(tmp_path / "store", suffix) as store:
        target = store.request(str(tmp_path / "a.png"), SIZE)
        assert store.flush() == {}
    with Image.open(target) as image:
        assert (image.size, image.mode) == (SIZE, "RGB")
        shown = np.asarray(image).astype(int)
    worst = np.abs(shown - np.asarray(render(str(tmp_path / "a.png"), SIZE))).max()
    assert worst <= (3 if suffix == ".jpg" else 0)
    with pytest.raises(ValueError, match="expected one of .ppm, .png, .jpg"):
        FrameStore(tmp_path / "store", ".webp")


def test_whatever_changes_the_picture_makes_another_entry(tmp_path):
    path = picture(tmp_path / "a.png")
    with FrameStore(tmp_path / "store", ".png") as store, FrameStore(tmp_path / "store", ".png", draft=True) as draft:
        box = (10.0, 10.0, 40.0, 40.0)
        names = [
            store.request(path, SIZE),
            store.request(path, (28, 28)),
            store.request(path, SIZE, box, (96, 54)),
            store.request(path, SIZE, box, (192, 108)),
            store.request(path, SIZE, source_size=(96, 54)),
            draft.request(path, SIZE),
        ]
        assert len(set(names)) == len(names)
        # A canvas says nothing without a box, whole numbers are numbers, and a boxed frame is never drafted.
        assert store.request(path, SIZE, None, (96, 54)) == names[0]
        assert store.request(path, SIZE, (10, 10, 40, 40), (96, 54)) == names[2]
        assert draft.request(path, SIZE, box, (96, 54)) == names[2]
        assert store.flush() == {} and draft.flush() == {}
        assert (store.made, draft.made, draft.reused) == (5, 1, 1)
    assert entries(tmp_path / "store") == sorted(names)


def test_below_a_frames_root_entries_outlive_a_move(tmp_path):
    picture(tmp_path / "here/AVOS/1.png")
    with FrameStore(tmp_path / "store", root=tmp_path / "here") as store:
        first = store.request(str(tmp_path / "here/AVOS/1.png"), SIZE)
        store.flush()
    (tmp_path / "here").rename(tmp_path / "there")
    with FrameStore(tmp_path / "store", root=tmp_path / "there") as store:
        assert store.request(str(tmp_path / "there/AVOS/1.png"), SIZE) == first
        assert store.reused == 1


def test_unusable_frames_are_errors_of_their_own_and_leave_nothing(tmp_path):
    good = picture(tmp_path / "good.jpg")
    half = picture(tmp_path / "half.jpg")
    os.truncate(half, 1500)
    Image.fromarray(np.zeros((54, 96), np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (96, 54)).save(tmp_path / "print.jpg")
    (tmp_path / "empty.jpg").touch()
    tall = picture(tmp_path / "tall.jpg", (54, 96))
    bad = {
        half: "truncated",
        str(tmp_path / "deep.png"): "expected 8-bit",
        str(tmp_path / "print.jpg"): "CMYK",
        str(tmp_path / "empty.jpg"): "not a readable picture",
        tall: "mixed sizes in one clip: 54x96, expected 96x54",
        str(tmp_path): "not a readable picture",
    }
    with FrameStore(tmp_path / "store") as store:
        fine = store.request(good, SIZE, source_size=(96, 54))
        targets = {store.request(path, SIZE, source_size=(96, 54)): path for path in bad}
        nothing = store.request(good, SIZE, (90.0, 10.0, 10.0, 90.0), (96, 54))
        for _ in range(2):  # asked for again, an unusable frame is an error again
            errors = store.flush()
            assert set(errors) == {*targets, nothing}
            for target, path in targets.items():
                assert errors[target].frame == path and bad[path] in errors[target].reason
                assert store.request(path, SIZE, source_size=(96, 54)) == target
            assert "covers nothing" in errors[nothing].reason
            store.request(good, SIZE, (90.0, 10.0, 10.0, 90.0), (96, 54))
        assert store.made == 1
        with pytest.raises(FrameError, match="no such file"):
            store.request(str(tmp_path / "none.jpg"), SIZE)
    assert entries(tmp_path / "store") == [fine]


def test_a_frame_stored_for_one_clip_is_still_refused_by_a_clip_of_another_size(tmp_path):
    path = picture(tmp_path / "a.png", (96, 54))
    for _ in range(2):
        with FrameStore(tmp_path / "store") as store:
            fits = store.request(path, SIZE, source_size=(96, 54))
            other = store.request(path, SIZE, source_size=(192, 108))
            assert set(store.flush()) == {other} and fits != other


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_stores_the_same(tmp_path, threads):
    paths = [picture(tmp_path / f"{seed}.png", seed=seed) for seed in range(40)]
    os.truncate(paths[7], 100)
    with FrameStore(tmp_path / "store", threads=threads) as store:
        targets = [store.request(path, SIZE) for path in paths]
        assert list(store.flush()) == [targets[7]]
    assert store.made == 39
    del targets[7], paths[7]
    expected = [encode(render(path, SIZE), ".ppm") for path in paths]
    assert [Path(target).read_bytes() for target in targets] == expected


def test_what_is_remembered_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_store, "_REMEMBERED", 8)
    paths = [picture(tmp_path / f"{seed}.png", (8, 8)) for seed in range(30)]
    with FrameStore(tmp_path / "store") as store:
        for path in paths:
            store.request(path, SIZE)
            store.flush()
            assert len(store._seen) <= 8
        first = [store.request(path, SIZE) for path in paths]
        assert store.flush() == {} and store.made == 30
    assert entries(tmp_path / "store") == sorted(first)


def test_half_made_entries_of_killed_runs_go_and_those_of_running_ones_stay(tmp_path, monkeypatch):
    FrameStore(tmp_path / "store")
    leftover = tmp_path / "store" / frame_store._PARTIAL / "0123"
    leftover.write_bytes(b"half")
    FrameStore(tmp_path / "store")
    assert leftover.exists()
    monkeypatch.setattr(frame_store, "_STALE_S", -1)
    FrameStore(tmp_path / "store")
    assert not leftover.exists()


# What follows runs in processes of its own: it kills them, or starts several at a time.

FILL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from data_preprocess.frame_store import FrameStore
folder, limit, paths = sys.argv[2], int(sys.argv[3]), sys.argv[4:]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
store = FrameStore(folder, ".ppm")
for path in paths:
    store.request(path, (56, 28))
try:
    errors = store.flush()
except OSError as error:
    print("OSError", error.errno)
    sys.exit(3)
print(len(errors), store.made, store.reused)
"""


def fill(folder, paths, limit=0):
    command = [sys.executable, "-c", FILL, str(Path(frame_store.__file__).parent.parent), str(folder), str(limit)]
    return subprocess.Popen([*command, *paths], stdout=subprocess.PIPE, text=True)


def expect_all(folder, paths):
    """Every entry is whole, under its final name, and as one process makes it."""
    with FrameStore(folder, ".ppm") as store:
        targets = [store.request(path, SIZE) for path in paths]
        assert store.flush() == {} and store.made == 0 and store.reused == len(paths)
    for path, target in zip(paths, targets, strict=True):
        assert Path(target).read_bytes() == encode(render(path, SIZE), ".ppm")


def test_several_processes_may_fill_one_folder(tmp_path):
    paths = [picture(tmp_path / f"{seed}.png", (320, 180), seed) for seed in range(60)]
    runs = [fill(tmp_path / "store", order) for order in (paths, paths[::-1], paths[30:] + paths[:30])]
    counts = [tuple(map(int, run.communicate()[0].split())) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert all((errors, made + reused) == (0, 60) for errors, made, reused in counts)
    assert sum(made for _, made, _ in counts) >= 60
    expect_all(tmp_path / "store", paths)
    assert len(entries(tmp_path / "store")) == 60


def test_a_killed_run_leaves_whole_entries_which_the_next_one_reuses(tmp_path):
    # Large ones, so that there is time for a shot.
    paths = [picture(tmp_path / "0.png", (1280, 720)), *(str(tmp_path / f"{link}.png") for link in range(1, 60))]
    for path in paths[1:]:
        os.link(paths[0], path)
    run = fill(tmp_path / "store", paths)
    while run.poll() is None and not list((tmp_path / "store").glob("[0-9a-f]*/*")):
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.stdout.close()
    whole = list((tmp_path / "store").glob("[0-9a-f]*/*"))
    assert 0 < len(whole) < 60
    for path in whole:
        assert path.stat().st_size == len(b"P6\n56 28\n255\n") + 3 * 56 * 28
    again = fill(tmp_path / "store", paths)
    assert again.communicate()[0].split() == ["0", str(60 - len(whole)), str(len(whole))]
    expect_all(tmp_path / "store", paths)


def test_a_full_disk_stops_the_run_and_leaves_no_half_entry(tmp_path):
    """A limit on the size of files stands for it: the write fails in the middle."""
    paths = [picture(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    run = fill(tmp_path / "store", paths, limit=2000)
    assert run.communicate()[0].startswith("OSError") and run.returncode == 3
    assert entries(tmp_path / "store") == []
    assert fill(tmp_path / "store", paths).communicate()[0].split() == ["0", "3", "0"]


def test_after_a_failed_flush_the_frames_can_be_asked_for_again(tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png")
    with FrameStore(tmp_path / "store") as store:
        target = store.request(path, SIZE)
        with monkeypatch.context() as full:
            full.setattr(frame_store, "encode", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(OSError, match="No space"):
                store.flush()
        assert store.request(path, SIZE) == target
        assert (store.flush(), store.made) == ({}, 1)
