# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the commands around captioners have in common: their arguments, and the contexts that these describe."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from data_preprocess.curation.captions.captioner import Captioner, CaptionerOptions
from data_preprocess.curation.captions.context import PAIRS, Context, ShowSettings, contexts
from data_preprocess.curation.captions.tables import TableError
from data_preprocess.curation.clips import ClipSettings, Cutter
from data_preprocess.curation.media import pictured, refuse_rejects, write_frames
from data_preprocess.curation.model import Video
from data_preprocess.curation.produce import Recipe, read_all, read_from
from data_preprocess.curation.prompts import PromptError
from data_preprocess.curation.settings import settings_help, with_settings
from data_preprocess.curation.sources.reading import SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.transcripts import Segment, TranscriptError, read_transcript, transcript_of
from data_preprocess.curation.workers import add_media_arguments, workers_of
from data_preprocess.frames import FrameError
from data_preprocess.parts import PipelineError
from data_preprocess.splits import choose_subset
from data_preprocess.wording import Parser, short
from reward_score.errors import BadSetting, EmbeddingUnavailable
from reward_score.paid_call import CallError

SOURCES = tuple(sorted({source for sources in PAIRS.values() for source in sources}))
WRONG = (
    *(SourceError, FrameError, TranscriptError, TableError, PromptError, BadSetting),
    *(CallError, EmbeddingUnavailable, PipelineError),
)
"""What ends a command with one line and status 2."""
HIDDEN = ("api_key", "plain")
NUMBERS = (int, float, int | None, float | None)


@dataclass(frozen=True)
class Contexts:
    """The contexts of some videos, made anew each time they are gone through; always the same ones.

    Attributes:
        videos, clips, show, seed: what is cut and shown.
        speech: what is said in a video.
        wanted: keys of those contexts that are taken; None: all.
        about: what a manifest says of the sources and of the settings.
    """

    videos: Sequence[Video]
    clips: ClipSettings
    show: ShowSettings
    seed: int
    speech: Callable[[Video], Sequence[Segment]] = lambda video: ()
    wanted: frozenset[str] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Context]:
        for context in self.all():
            if self.wanted is None or context.key in self.wanted:
                yield context

    def all(self, expert: bool = True) -> Iterator[Context]:
        """The contexts without the choice; ``expert`` as in `contexts`."""
        for video in self.videos:
            if not video.numbers:
                continue
            speech = self.speech(video)
            for clip in Cutter(video, self.clips, self.seed).all():
                yield from contexts(clip, self.show, speech, expert)


def pair_of(context: Context) -> str:
    """`<source>/<task>`."""
    return f"{context.clip.video.source}/{context.task}"


def chosen(asked: Contexts, per_pair: int) -> frozenset[str]:
    """Keys of at most so many contexts of each pair, drawn by the seed whatever their order."""
    by_pair: dict[str, dict[int, str]] = {}
    for context in asked:
        by_pair.setdefault(pair_of(context), {})[int(context.key[:15], 16)] = context.key
    taken = (choose_subset({pair: list(keys)}, per_pair, asked.seed)[pair] for pair, keys in by_pair.items())
    return frozenset(by_pair[pair][key] for pair, keys in zip(by_pair, taken, strict=True) for key in keys)


def parser(name: str, description: str, *kinds: type) -> Parser:
    """The arguments of a command: sources, folders, and the settings of ``kinds``."""
    known = (ReadSettings, ClipSettings, ShowSettings, *kinds)
    made = Parser(f"curate {name}", f"{description}\nSettings of --set:\n{settings_help(*known)}")
    names = (*SOURCES, "all")
    made.add_argument("sources", nargs="+", choices=names, metavar="SOURCE", help=f"some of {', '.join(names)}")
    made.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the annotations")
    made.add_argument("--frames-root", type=Path, required=True, metavar="DIR", help="folder of the frames")
    made.add_argument("--transcripts", type=Path, metavar="DIR", help="of DIR/SOURCE/VIDEO.srt, .vtt or .json")
    made.add_argument("--per-pair", type=int, default=0, metavar="N", help="contexts of a pair, up to (default: all)")
    made.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default 0)")
    add_media_arguments(made)
    made.add_argument("--at-once", type=int, default=48, metavar="N", help="contexts under way at once (default 48)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting named below")
    return made


def asked_for(
    options: argparse.Namespace, made: Parser, *kinds: type, frames: bool = False
) -> tuple[Contexts, list[Any]]:
    """The contexts that a command line names, and an object of each of ``kinds``.

    Args:
        options, made: the command line and its parser.
        kinds: dataclasses of settings.
        frames: whether to write the contexts' frames that are not there, from the sources' videos.

    Raises:
        SourceError, TranscriptError: what cannot be read, or too many videos without usable pictures.
    """
    workers = workers_of(options, made)
    if options.at_once < 1:
        made.error("--at-once: expected a number from 1")
    if options.per_pair < 0:
        made.error("--per-pair: expected a number from 0")
    if options.transcripts is not None and not options.transcripts.is_dir():
        made.error(f"--transcripts: expected a folder, found {options.transcripts}")
    try:
        reading, clips, show, *others = with_settings(options.set, ReadSettings, ClipSettings, ShowSettings, *kinds)
    except ValueError as error:
        made.error(str(error))
    names = list(SOURCES) if "all" in options.sources else options.sources
    roots = {source: options.root / source if len(names) > 1 else options.root for source in names}
    if workers.engine == "ray":
        roots = {source: root.absolute() for source, root in roots.items()}
    read, notes = read_all(roots, Recipe(reading=reading, clips=clips, seed=options.seed))
    videos: Sequence[Video] = read
    if frames:
        videos = pictured(read, roots, notes)
        refuse_rejects(notes, len(videos), options.max_rejects)
    asked = Contexts(videos, clips, show, options.seed, _speech(options.transcripts))
    if options.per_pair:
        asked = replace(asked, wanted=chosen(asked, options.per_pair))
    if frames:
        listed: dict[str, set[int]] = {}
        for context in asked:
            listed.setdefault(context.clip.video.path, set()).update(context.clip.numbers)
        target = options.frames_root.absolute()
        target.mkdir(parents=True, exist_ok=True)
        _, broken = write_frames(listed, videos, roots, notes, target, workers)
        refuse_rejects(notes, len(videos) - len(broken), options.max_rejects)
        asked = replace(asked, videos=[one for one in videos if one.path not in broken])
    settings = {**asdict(reading), **asdict(clips), **asdict(show), "seed": options.seed}
    return replace(asked, about={"sources": read_from(roots, notes), "settings": settings}), others


def _speech(folder: Path | None) -> Callable[[Video], Sequence[Segment]]:
    """Reads the transcript of a video, if one is there."""

    def read(video: Video) -> Sequence[Segment]:
        file = None if folder is None else transcript_of(folder / video.source, video.video_id)
        return () if file is None else read_transcript(file)

    return read


def endpoint_options(made: Parser, flag: str, given: Sequence[str], kind: type) -> dict[str, Any]:
    """Fields of the options of a paid call, a dataclass, from NAME=VALUE texts. A key is not one: others see command
    lines."""
    known = {item.name for item in fields(kind)} - set(HIDDEN)
    found: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if name == "api_key":
            made.error(f"{flag}: api_key would be seen by others: set OPENAI_API_KEY or name a key_variable")
        if not mark or name not in known:
            made.error(f"{flag} {name}: expected NAME=VALUE with one of {', '.join(sorted(known))}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    if lacking := [name for name in ("base_url", "model") if name not in found]:
        made.error(f"{flag}: {lacking[0]}=VALUE is missing")
    found["model"] = str(found["model"])
    kinds = get_type_hints(kind)
    for name, value in found.items():
        if kinds[name] in NUMBERS:
            try:
                TypeAdapter(kinds[name]).validate_python(value)
            except ValidationError:
                made.error(f"{flag} {name}: expected a number, found {short(value)}")
    return found


def captioner_options(made: Parser, flag: str, given: Sequence[str]) -> dict[str, Any]:
    """Fields of `CaptionerOptions` from NAME=VALUE texts."""
    found = endpoint_options(made, flag, given, CaptionerOptions)
    if folder := found.get("prompts"):
        if lacking := [f"{task}.txt" for task in PAIRS if not (Path(folder) / f"{task}.txt").is_file()]:
            made.error(f"{flag} prompts: expected a folder with {lacking[0]}, found {folder}")
    return found


def make_captioner(made: Parser, options: Mapping[str, Any], store: Path) -> Captioner:
    """A captioner. A wrong setting ends the command."""
    try:
        return Captioner(store=str(store), **options)
    except TypeError as error:
        made.error(f"captioner: {error}")
