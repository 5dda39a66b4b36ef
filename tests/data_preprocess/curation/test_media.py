# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Frames of the sources' own videos and folders: the right ones by time, once each, and no row without its frames."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from data_preprocess import curate, medvidbench
from data_preprocess.curation.media import as_it_is, duration_of, frames_at, media_of, write_frames
from data_preprocess.curation.model import Run, Video
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.synthetic import TRUTHS
from data_preprocess.curation.synthetic.drawing import Scale
from data_preprocess.curation.synthetic.pictures import NO_LABEL, Painter, write_media
from data_preprocess.curation.workers import Workers
from data_preprocess.synthetic_video import PALETTE, TOOL_COLOURS

ROOT = Path(__file__).resolve().parents[3]
# MPEG-4 and JPEG lose a little of a colour; the palette's colours are further apart.
LOST = 24


def alike(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= LOST


def files_in(folder: Path) -> dict[Path, bytes]:
    """The bytes of all files but those that a kill left half written."""
    found = (file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(".tmp"))
    return {file.relative_to(folder): file.read_bytes() for file in found}


def coloured(tmp_path: Path, *runs: tuple[float, float, str], seconds: int = 20) -> Video:
    """A video of AVOS, written below `tmp_path`, whose ground shows its actions."""
    labels = ("cutting", "tying", "suturing")
    found = tuple(Run(start, end, label, "action") for start, end, label in runs)
    numbers, path = range(seconds * 15 + 1), "AVOS/frames_15fps/x/%d.jpg"
    named = {"runs": found, "labels": {"action": labels}, "media": "videos/x.mp4"}
    video = Video("AVOS", "x", 15.0, 0, numbers, path, (854, 480), **named)
    write_media([video], tmp_path)
    return video


def test_a_frame_is_found_by_its_time(tmp_path):
    video = coloured(tmp_path, (2, 5.9, "cutting"), (6, 9.9, "tying"))
    times = [0.0, 3.0, 5.7, 6.1, 8.5, 12.0, 19.9]
    shown = [image.getpixel((5, 5)) for image in frames_at(tmp_path / video.media, times)]
    wanted = [NO_LABEL, PALETTE[0], PALETTE[0], PALETTE[1], PALETTE[1], NO_LABEL, NO_LABEL]
    assert all(alike(got, colour) for got, colour in zip(shown, wanted, strict=True)), shown
    assert [Painter(video).ground(time) for time in times] == wanted
    assert duration_of(tmp_path / video.media) == pytest.approx(20.2)


def test_of_two_frames_the_nearer_one_is_taken(tmp_path):
    # Five frames a second: 4.0 s shows the next label, and 3.89 s stands nearer to 3.8 s than to 4.0 s.
    video = coloured(tmp_path, (0, 3.99, "cutting"), (4, 8, "tying"))
    shown = [image.getpixel((5, 5)) for image in frames_at(tmp_path / video.media, [3.89, 3.91])]
    assert alike(shown[0], PALETTE[0]) and alike(shown[1], PALETTE[1])


def test_written_frames_show_the_truth_and_are_written_once(tmp_path):
    sources = ["NurViD", "CholecTrack20", "Cholec80_CVS"]
    arguments = ["--output", str(tmp_path), "--sources", *sources, "--videos", "1", "--seconds", "60"]
    assert curate.main(["synthetic", *arguments]) == 0
    command = [*sources, "--root", str(tmp_path), "--output", str(tmp_path / "rows"), "--frames"]
    assert curate.main(command) == 0
    frames = tmp_path / "rows" / "frames"
    (nursing,) = TRUTHS["NurViD"](Scale(videos=1, seconds=60))
    painter, looked = Painter(nursing), 0
    for file in sorted((frames / nursing.path).parent.iterdir()):
        moment = nursing.seconds(int(file.stem))
        # Near a change of labels the nearest frame of a video may stand on its other side.
        if painter.ground(moment - 0.2) == painter.ground(moment + 0.2):
            assert alike(Image.open(file).getpixel((3, 3)), painter.ground(moment)), file
            looked += 1
    assert looked > 20
    (tracked,) = TRUTHS["CholecTrack20"](Scale(videos=1, seconds=60))
    for boxed in tracked.boxes:
        file = frames / (tracked.path % round(boxed.time * 25 + 1))
        if file.exists():
            x1, y1, x2, y2 = boxed.box
            scale = 112 / 854
            colour = TOOL_COLOURS[tracked.labels["instrument"].index(boxed.label) % len(TOOL_COLOURS)]
            assert Image.open(file).getpixel((int((x1 + x2) / 2 * scale), int((y1 + y2) / 2 * scale))) == colour
    written = {file: file.stat().st_mtime_ns for file in frames.rglob("*.*")}
    before = (tmp_path / "rows" / "curation.json").read_bytes()
    assert curate.main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in frames.rglob("*.*")} == written
    assert (tmp_path / "rows" / "curation.json").read_bytes() == before
    options = ["--frames-root", str(frames), "--output", str(tmp_path / "data"), "--strict", "--workers", "1"]
    assert medvidbench.main(["--annotations", str(tmp_path / "rows" / "annotations.json"), *options]) == 0
    audit = json.loads((tmp_path / "data" / "audit.json").read_text(encoding="utf-8"))
    assert audit["rows"]["rejected"] == 0 and audit["rows"]["written"] == json.loads(before)["rows"]


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    arguments = ["--output", str(tmp_path), "--sources", "NurViD", "--videos", "3", "--seconds", "120"]
    assert curate.main(["synthetic", *arguments]) == 0
    command = ["NurViD", "--root", str(tmp_path / "NurViD"), "--frames", "--threads", "1"]
    assert curate.main([*command, "--output", str(tmp_path / "whole")]) == 0
    killed = tmp_path / "killed"
    run = [sys.executable, "data_preprocess/curate.py", *command, "--output", str(killed)]
    process = subprocess.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(killed.rglob("*.jpg"))) < 5:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (killed / "curation.json").exists(), "killed before its end"
    assert curate.main([*command, "--output", str(killed)]) == 0
    assert files_in(killed) == files_in(tmp_path / "whole")


def test_frames_of_a_folder_are_linked_and_missing_ones_are_not_listed(tmp_path):
    (video,) = TRUTHS["CholecTrack20"](Scale(videos=1, seconds=60))
    write_media([video], tmp_path)
    folder = media_of(video, tmp_path).folder
    assert folder == tmp_path / video.media / "Frames"
    (folder / "000026.png").unlink()
    notes = Notes()
    there = as_it_is(video, tmp_path, notes)
    assert there is not None and list(there.numbers) == [1, *range(51, 60 * 25, 25)]
    assert notes.oddities == {"labelled frames that the pictures do not have are left out": 1}
    roots, noted = {"CholecTrack20": tmp_path}, {"CholecTrack20": notes}
    counts, broken = write_frames({video.path: [1, 51]}, [there], roots, noted, tmp_path / "out", Workers(1))
    assert counts == {"linked": 2} and not broken
    assert os.path.samefile(tmp_path / "out" / (video.path % 51), folder / "000051.png")


def test_a_video_that_ends_before_its_labels_gives_the_frames_that_it_has(tmp_path):
    video = coloured(tmp_path, (2, 9, "cutting"), seconds=10)
    longer = replace(video, numbers=range(30 * 15))
    notes = Notes()
    there = as_it_is(longer, tmp_path, notes)
    assert there is not None and 10 * 15 <= there.numbers[-1] <= 10.3 * 15
    assert notes.oddities["labelled frames that the pictures do not have are left out"] > 280
    with pytest.raises(SourceError, match="expected a frame at 29.0 s, found its end at 10.0 s"):
        list(frames_at(tmp_path / video.media, [1.0, 29.0]))


def test_videos_without_pictures_are_left_out_and_named(tmp_path):
    (video,) = TRUTHS["NurViD"](Scale(videos=1))
    notes = Notes()
    assert as_it_is(video, tmp_path, notes) is None
    assert notes.missing == [str(tmp_path / video.media)]


def test_a_source_without_any_picture_says_where_one_was_looked_for(tmp_path, capsys):
    assert curate.main(["synthetic", "--no-media", "--output", str(tmp_path), "--sources", "NurViD"]) == 0
    root = ["--root", str(tmp_path / "NurViD"), "--output", str(tmp_path / "rows")]
    assert curate.main(["NurViD", *root, "--frames"]) == 2
    said = capsys.readouterr().err
    assert "NurViD/videos/" in said and "expected a video or a folder of its frames, found neither" in said
    assert not (tmp_path / "rows").exists()


def broken_off(video: Path) -> None:
    """Spoils the bytes of a video from its first third on."""
    whole = video.read_bytes()
    third = len(whole) // 3
    video.write_bytes(whole[:third] + bytes(range(256)) * (third // 256) + whole[third + third // 256 * 256 :])


def curated(folder: Path) -> dict:
    return json.loads((folder / "curation.json").read_text(encoding="utf-8"))


def test_broken_videos_are_rejected_with_their_reason_and_the_others_go_on(tmp_path, capsys):
    assert curate.main(["synthetic", "--output", str(tmp_path), "--sources", "NurViD", "--videos", "4"]) == 0
    early, late, *good = sorted((tmp_path / "NurViD" / "videos").iterdir())
    early.write_bytes(b"no video")
    whole = late.read_bytes()
    broken_off(late)
    command = ["NurViD", "--root", str(tmp_path / "NurViD"), "--frames", "--output"]
    assert curate.main([*command, str(tmp_path / "few")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "curate: error: videos: expected at most 0.2 of them unusable (--max-rejects), found 1 of 4"
    assert not (tmp_path / "few").exists()

    assert curate.main([*command, str(tmp_path / "rows"), "--max-rejects", "0.5"]) == 0
    manifest = curated(tmp_path / "rows")
    reasons = manifest["sources"]["NurViD"]["rejected"]
    assert re.fullmatch(rf"videos/{early.name}: expected a video, found .+", reasons[early.stem])
    assert re.fullmatch(rf"videos/{late.name}: after [0-9.]+ s: expected a video, found .+", reasons[late.stem])
    printed = capsys.readouterr()
    assert f"rejected: NurViD: {reasons[late.stem]}" in printed.out and reasons[early.stem] in printed.err
    rows = json.loads((tmp_path / "rows" / "annotations.json").read_bytes())
    assert {row["metadata"]["video_id"] for row in rows} == {video.stem for video in good} and len(reasons) == 2
    listed = {path for row in rows for path in row["video"]}
    assert manifest["frames"] == len(listed) and manifest["rows"] == len(rows)
    assert all((tmp_path / "rows" / "frames" / path).is_file() for path in listed)

    late.write_bytes(whole)
    assert curate.main([*command, str(tmp_path / "rows"), "--max-rejects", "0.5"]) == 0
    assert list(curated(tmp_path / "rows")["sources"]["NurViD"]["rejected"]) == [early.stem]


def test_a_run_of_broken_videos_alone_writes_nothing(tmp_path, capsys):
    assert curate.main(["synthetic", "--output", str(tmp_path), "--sources", "NurViD", "--videos", "1"]) == 0
    (video,) = (tmp_path / "NurViD" / "videos").iterdir()
    broken_off(video)
    command = ["NurViD", "--root", str(tmp_path / "NurViD"), "--output", str(tmp_path / "rows"), "--frames"]
    assert curate.main([*command, "--max-rejects", "1"]) == 2
    assert "unusable (--max-rejects), found 1 of 1" in capsys.readouterr().err
    assert not (tmp_path / "rows" / "annotations.json").exists()


def test_a_check_with_frames_names_videos_that_cannot_be_opened(tmp_path, capsys):
    assert curate.main(["synthetic", "--output", str(tmp_path), "--sources", "NurViD", "--videos", "3"]) == 0
    broken, lacking, _ = sorted((tmp_path / "NurViD" / "videos").iterdir())
    broken.write_bytes(b"no video")
    lacking.unlink()
    root = ["NurViD", "--root", str(tmp_path / "NurViD"), "--check"]
    assert curate.main(root) == 0
    assert curate.main([*root, "--frames"]) == 2
    said = capsys.readouterr().out
    assert f"{broken}: expected a video, found" in said and f"missing:\n  {lacking}" in said
    assert "videos with pictures: 1\n" in said


@pytest.mark.slow
def test_ray_writes_the_same_bytes_and_goes_on_after_a_kill(tmp_path):
    sources = ["NurViD", "CholecTrack20", "JIGSAWS"]
    made = ["--output", str(tmp_path), "--sources", *sources, "--videos", "2", "--seconds", "90"]
    assert curate.main(["synthetic", *made]) == 0
    broken_off(min((tmp_path / "NurViD" / "videos").iterdir()))
    command = [*sources, "--root", ".", "--frames", "--subset", "60", "--output"]
    run = [sys.executable, str(ROOT / "data_preprocess/curate.py"), *command, "ray", "--engine", "ray"]
    killed = subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and len(list((tmp_path / "ray").rglob("*.jpg"))) < 5:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "ray" / "annotations.json").exists(), "killed before its end"
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "rejected: NurViD: videos/" in done.stdout
    local = [sys.executable, str(ROOT / "data_preprocess/curate.py"), *command, "local"]
    assert subprocess.run(local, cwd=tmp_path, capture_output=True).returncode == 0
    assert files_in(tmp_path / "ray") == files_in(tmp_path / "local")


def test_a_file_that_is_no_video_is_one_line(tmp_path):
    file = tmp_path / "x.mp4"
    file.write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"x.mp4: expected a video, found"):
        duration_of(file)
