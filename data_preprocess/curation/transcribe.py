# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Transcribe what is said in videos with faster-whisper, and say where a lecture may be cut.

    python data_preprocess/curate.py transcribe VIDEO [VIDEO ...] --model FOLDER --output DIR [--language en]

FOLDER holds a Whisper model in CTranslate2's form; nothing is downloaded. Each video or sound file becomes
`DIR/NAME.json`, in WhisperX's form with times of words, and `DIR/NAME.clips.csv` with the stretches of 15 to 30 seconds
that a lecture can be cut into, at pauses. A file that is there is not made again. The extra `speech` has the package.
"""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_preprocess.atomic import written_whole
from data_preprocess.curation.transcripts import Segment, Word, cut_lecture, to_json
from data_preprocess.wording import Parser, status_of

Transcriber = Callable[[Path], list[Segment]]
"""From a media file to what is said in it."""


class TranscriberError(RuntimeError):
    """The recogniser or its model cannot be had, or cannot read a file. The message is one line."""


def faster_whisper(model: Path, language: str | None, threads: int) -> Transcriber:
    """A transcriber with a Whisper model of a folder, on the CPU.

    Raises:
        TranscriberError: the package is missing, or there is no such model in the folder.
    """
    if not (model / "model.bin").is_file():
        raise TranscriberError(f"{model}: expected a folder with a Whisper model for CTranslate2 (model.bin)")
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise TranscriberError(f"faster-whisper cannot be imported ({error}): install the extra 'speech'") from None
    try:
        how = {"device": "cpu", "compute_type": "int8", "cpu_threads": threads, "local_files_only": True}
        recogniser = WhisperModel(str(model), **how)
    except Exception as error:  # whatever CTranslate2 raises for files that are no model
        raise TranscriberError(f"{model}: {' '.join(str(error).split())}") from None

    def transcribe(path: Path) -> list[Segment]:
        try:
            found, _ = recogniser.transcribe(str(path), language=language, word_timestamps=True, vad_filter=True)
            return [_segment(one) for one in found]
        except (OSError, ValueError, RuntimeError) as error:  # a file without sound, or no media file at all
            raise TranscriberError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from None

    return transcribe


def _segment(found: Any) -> Segment:
    words = tuple(Word(round(w.start, 3), round(w.end, 3), w.word.strip()) for w in found.words or ())
    return Segment(round(found.start, 3), round(found.end, 3), " ".join(found.text.split()), words)


def transcribe_all(files: Sequence[Path], output: Path, transcriber: Callable[[], Transcriber]) -> tuple[int, int]:
    """Transcribe what is not there yet: (how many were, how many there are); the transcriber is made at need."""
    output.mkdir(parents=True, exist_ok=True)
    todo = [file for file in files if not (output / f"{file.stem}.json").exists()]
    ready = transcriber() if todo else None
    for file in tqdm(todo, unit=" files", disable=None, mininterval=1.0):
        assert ready is not None
        segments = ready(file)
        clips = io.StringIO()
        csv.writer(clips, lineterminator="\n").writerows([("start", "end"), *cut_lecture(segments)])
        # The transcript comes last: it says that both are there.
        for name, text in ((f"{file.stem}.clips.csv", clips.getvalue()), (f"{file.stem}.json", to_json(segments))):
            with written_whole(output / name) as partial:
                partial.write_text(text, encoding="utf-8")
    return len(todo), len(files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = Parser("curate transcribe", __doc__)
    parser.add_argument("media", nargs="+", type=Path, metavar="FILE", help="videos or sound files")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="a Whisper model for CTranslate2")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--language", metavar="CODE", help="language that is spoken (default: recognised)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="threads of the recogniser (default 4)")
    options = parser.parse_args(arguments)
    names = [file.stem for file in options.media]
    if twice := next((name for name in names if names.count(name) > 1), None):
        parser.error(f"{twice}: two files of this name, whose transcripts would be one")
    return status_of("curate", lambda: _run(options), (TranscriberError,))


def _run(options: Namespace) -> int:
    if missing := next((file for file in options.media if not file.is_file()), None):
        raise TranscriberError(f"{missing}: no such file")
    new, there = transcribe_all(
        options.media, options.output, lambda: faster_whisper(options.model, options.language, options.threads)
    )
    print(f"{there} transcripts in {options.output}, {new} of them new")
    return 0
