# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Transcribe what is said in lectures with faster-whisper, and say which clips they can be cut into.

    python data_preprocess/curate.py transcribe VIDEO [VIDEO ...] --model FOLDER --output DIR [--language en]

FOLDER holds a Whisper model in CTranslate2's form; nothing is downloaded. Each video or sound file NAME becomes
`DIR/NAME.json`, in WhisperX's form with times of words; `DIR/NAME.shots.csv` with the times at which its picture
changes to another shot; and `DIR/NAME.clips.csv` with the clips of 15 to 30 seconds that pauses and shots leave. A
transcript and shots that are there are not made again, so that the same command goes on after an interruption; a
`DIR/NAME.srt` or `.vtt` of another recogniser serves as well, and then no model is needed. Clips are cut anew each
time. A file that cannot be read is named and left out. The extra `speech` has the packages.
"""

from __future__ import annotations

import csv
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_preprocess.atomic import write_csv, write_text
from data_preprocess.curation.settings import in_order, open_choice, settings_help, with_settings
from data_preprocess.curation.shots import ShotError, shots_of
from data_preprocess.curation.transcripts import (
    Segment,
    TranscriptError,
    Word,
    cut_lecture,
    read_transcript,
    to_json,
    transcript_of,
)
from data_preprocess.curation.workers import add_reject_argument, check_reject_argument
from data_preprocess.wording import Parser, status_of

Transcriber = Callable[[Path], list[Segment]]
"""From a media file to what is said in it."""


@dataclass(frozen=True)
class LectureSettings:
    """How a lecture is cut."""

    shortest_s: float = open_choice(15.0, "seconds of a lecture's shortest clip, as published", least=0.1)
    longest_s: float = open_choice(30.0, "seconds of its longest clip, as published", least=0.1)
    pause_s: float = open_choice(2.0, "seconds of silence that no clip goes over: not published")

    def __post_init__(self) -> None:
        """Raises `ValueError` where no clip fits."""
        in_order(self, ("shortest_s", "longest_s"))


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
        from ctranslate2 import set_random_seed
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise TranscriberError(f"faster-whisper cannot be imported ({error}): install the extra 'speech'") from None
    # Where a first hearing repeats itself, Whisper draws another.
    set_random_seed(0)
    try:
        how = {"device": "cpu", "compute_type": "int8", "cpu_threads": threads, "local_files_only": True}
        recogniser = WhisperModel(str(model), **how)
    except Exception as error:  # whatever CTranslate2 raises for files that are no model
        raise TranscriberError(f"{model}: {' '.join(str(error).split())}") from None

    def transcribe(path: Path) -> list[Segment]:
        try:
            found, _ = recogniser.transcribe(str(path), language=language, word_timestamps=True, vad_filter=True)
            return [_segment(one) for one in found]
        except IndexError:  # what the package says of a video without sound
            raise TranscriberError(f"{path}: expected sound, found none") from None
        except (OSError, ValueError, RuntimeError) as error:  # no media file at all, or a language there is not
            raise TranscriberError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from None

    return transcribe


def _segment(found: Any) -> Segment:
    words = tuple(Word(round(w.start, 3), round(w.end, 3), w.word.strip()) for w in found.words or ())
    return Segment(round(found.start, 3), round(found.end, 3), " ".join(found.text.split()), words)


def transcribe_all(
    files: Sequence[Path], output: Path, transcriber: Callable[[], Transcriber], settings: LectureSettings
) -> tuple[int, int, list[Exception]]:
    """Transcribe what is not there yet, and cut everything. A file that cannot be read does not stop the others.

    Args:
        files: videos or sound files; their names without endings tell them apart.
        output: a folder, made when it is missing.
        transcriber: makes one; called at need, once.
        settings: of the clips.

    Returns:
        How many files were transcribed now, how many clips there are of all of them, and the errors of those that
        cannot be read.

    Raises:
        TranscriberError: there is no recogniser.
    """
    output.mkdir(parents=True, exist_ok=True)
    ready: Transcriber | None = None
    new = clips = 0
    rejected: list[Exception] = []
    for file in tqdm(files, unit=" files", disable=None, mininterval=1.0):
        missing = transcript_of(output, file.stem) is None
        if missing:
            ready = ready or transcriber()
        try:
            if missing and ready is not None:
                write_text(output / f"{file.stem}.json", to_json(ready(file)))
                new += 1
            cut = cut_lecture(read_transcript(_there(output, file)), _shots(file, output), **asdict(settings))
        except (TranscriberError, ShotError, TranscriptError) as error:
            rejected.append(error)
            continue
        write_csv(output / f"{file.stem}.clips.csv", ("start", "end"), cut)
        clips += len(cut)
    return new, clips, rejected


def _there(output: Path, file: Path) -> Path:
    found = transcript_of(output, file.stem)
    assert found is not None
    return found


def _shots(file: Path, output: Path) -> list[float]:
    """When new shots begin, looked for once."""
    kept = output / f"{file.stem}.shots.csv"
    if not kept.exists():
        write_csv(kept, ("start",), ([shot] for shot in shots_of(file)))
    try:
        return [float(row["start"]) for row in csv.DictReader(kept.read_text(encoding="utf-8").splitlines())]
    except (ValueError, KeyError, TypeError):
        raise ShotError(f"{kept}: expected a column 'start' of seconds; remove it and it is made again") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = Parser("curate transcribe", f"{__doc__}\nSettings of --set:\n{settings_help(LectureSettings)}")
    parser.add_argument("media", nargs="+", type=Path, metavar="FILE", help="videos or sound files")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a Whisper model for CTranslate2")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--language", metavar="CODE", help="language that is spoken (default: recognised)")
    threads = min(4, os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=threads, metavar="N", help="of the recogniser (up to 4)")
    add_reject_argument(parser, "files that cannot be read")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting named below")
    options = parser.parse_args(arguments)
    names = [file.stem for file in options.media]
    if twice := next((name for name in names if names.count(name) > 1), None):
        parser.error(f"{twice}: two files of this name, whose transcripts would be one")
    check_reject_argument(options, parser)
    if options.threads < 1:
        parser.error("--threads: expected a number from 1")
    try:
        (settings,) = with_settings(options.set, LectureSettings)
    except ValueError as error:
        parser.error(str(error))
    return status_of("curate", lambda: _run(options, settings), (TranscriberError, ShotError, TranscriptError))


def _run(options: Namespace, settings: LectureSettings) -> int:
    if missing := next((file for file in options.media if not file.is_file()), None):
        raise TranscriberError(f"{missing}: no such file")

    def transcriber() -> Transcriber:
        if options.model is None:
            raise TranscriberError("--model is missing: not every file has a transcript")
        return faster_whisper(options.model, options.language, options.threads)

    new, clips, rejected = transcribe_all(options.media, options.output, transcriber, settings)
    for error in rejected:
        print(f"curate: rejected: {error}", file=sys.stderr)
    if len(rejected) > options.max_rejects * len(options.media) or len(rejected) == len(options.media):
        told = f"{len(rejected)} of {len(options.media)} files cannot be read; --max-rejects is {options.max_rejects:g}"
        raise TranscriberError(f"{rejected[0]} ({told})")
    there = len(options.media) - len(rejected)
    print(f"{there} transcripts in {options.output}, {new} of them new; {clips} clips can be cut at pauses and shots")
    return 0
