# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Turn lectures into questions: facts from what is said, questions from the facts, and rows of the task qa.

    python data_preprocess/curate.py questions AVOS NurViD --root DIR --transcripts DIR --output OUT --frames
        --extractor base_url=URL model=NAME [key_variable=VAR ...] --writer base_url=URL model=NAME [...]
        [--blind base_url=URL model=NAME ...]

A video of any source with a transcript (DIR/SOURCE/VIDEO.json, as `curate.py transcribe` writes it, .srt or .vtt) is
cut into excerpts of 15 to 30 seconds. The extractor reads what is said in one, and lists observations, reasons, plans
and deductions, each with a quote. The writer gets those that pass the checks, and no word of the lecture beside them.
With --blind a third model answers the questions without a frame; what it gets right is dropped. Each is any
OpenAI-compatible endpoint for text; NAME=VALUE arguments are the settings of a paid call, as of `curate.py caption`.

`OUT/questions.json` is what `medvidbench.py` reads, `OUT/curation.json` says what it was made of: prompts, models,
counts by reason, dollars. The tables beside it keep every step: started again, the command asks for what is missing
alone, and with another --set duplicate=... it asks for nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from data_preprocess.atomic import write_json, write_json_list
from data_preprocess.curation.asking import Asked, spent
from data_preprocess.curation.captions.arguments import HIDDEN, WRONG, endpoint_options
from data_preprocess.curation.media import pictured, refuse_rejects, write_frames
from data_preprocess.curation.model import Video
from data_preprocess.curation.produce import FORMAT, MANIFEST, Recipe, read_all, read_from, roots_of
from data_preprocess.curation.questions.checks import RULES, KeepSettings
from data_preprocess.curation.questions.excerpts import Excerpt, ExcerptSettings, excerpts
from data_preprocess.curation.questions.models import Extractor, Guesser, TextModel, TextOptions, Writer
from data_preprocess.curation.questions.pipeline import Asking, Folder, Found, guessed, judged, questions_of, record
from data_preprocess.curation.questions.stand_in import found_out
from data_preprocess.curation.rows.wordings import wordings
from data_preprocess.curation.settings import settings_help, with_settings
from data_preprocess.curation.sources import READERS
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.transcripts import transcript_of
from data_preprocess.curation.workers import add_media_arguments, workers_of
from data_preprocess.provenance import sha256
from data_preprocess.wording import Parser, status_of
from reward_score.similarity import load_similarity

ROWS, STORE = "questions.json", "calls"
BROKEN = "video_broken"
"""Why a question is dropped whose video cannot be decoded."""
SETTINGS = (ReadSettings, ExcerptSettings, KeepSettings)
MODELS: dict[str, type[TextModel]] = {"extractor": Extractor, "writer": Writer, "blind": Guesser}


def parser() -> Parser:
    """The arguments."""
    made = Parser("curate questions", f"{__doc__}\nSettings of --set:\n{settings_help(*SETTINGS)}")
    names = (*READERS, "all")
    made.add_argument("sources", nargs="+", choices=names, metavar="SOURCE", help=f"some of {', '.join(names)}")
    made.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the annotations")
    made.add_argument("--transcripts", type=Path, required=True, metavar="DIR", help="of DIR/SOURCE/VIDEO.json")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    made.add_argument(
        "--frames", nargs="?", type=Path, const=Path(), metavar="DIR", help="write the frames, too: OUT/frames, or DIR"
    )
    add_media_arguments(made)
    for name in MODELS:
        made.add_argument(f"--{name}", nargs="+", required=name != "blind", metavar="NAME=VALUE", help="see above")
    made.add_argument("--at-once", type=int, default=48, metavar="N", help="excerpts under way at once (default 48)")
    made.add_argument("--leave-open", type=int, default=0, metavar="N", help="replies that may be lacking")
    made.add_argument("--wordings", default="", metavar="FILE", help="roles and sources in other words, as of ours")
    made.add_argument("--encoder", help="sentence encoder, as the reward's setting (default: the packaged MiniLM)")
    made.add_argument("--mistakes", nargs="+", type=Path, metavar="LOG", help="of stand-ins: say what was found")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting named above")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    made = parser()
    options = made.parse_args(arguments)
    options.workers = workers_of(options, made)
    if options.at_once < 1:
        made.error("--at-once: expected a number from 1")
    try:
        settings = with_settings(options.set, *SETTINGS)
    except ValueError as error:
        made.error(str(error))
    given = {
        name: endpoint_options(made, f"--{name}", values, TextOptions)
        for name in MODELS
        if (values := getattr(options, name)) is not None
    }
    return status_of("curate", lambda: _run(made, options, settings, given), WRONG)


def _run(made: Parser, options: Namespace, settings: Sequence[Any], given: dict[str, dict[str, Any]]) -> int:
    reading, cutting, keep = settings
    roots = roots_of(options.sources, options.root)
    if options.engine == "ray":
        roots = {source: root.absolute() for source, root in roots.items()}
    videos, notes = _videos(options, roots, Recipe(reading=reading))
    found = [one for video in videos for one in excerpts(video, options.transcripts, cutting)]
    if not found:
        raise SourceError(
            options.transcripts, "", "SOURCE/VIDEO.json, .srt or .vtt of a video of these sources", "none"
        )
    words, similarity = wordings(options.wordings), load_similarity(options.encoder)
    try:
        models = {name: MODELS[name](store=str(options.output / STORE), **endpoint) for name, endpoint in given.items()}
    except TypeError as error:
        made.error(f"settings of an endpoint: {error}")
    extractor, writer, guesser = (models.get(name) for name in MODELS)
    assert isinstance(extractor, Extractor) and isinstance(writer, Writer)
    folder = Folder(options.output)
    try:
        asking = Asking(folder, extractor, writer, keep, options.at_once)
        with tqdm(total=len(found), unit=" excerpts", desc="asking", disable=None, mininterval=1.0) as bar:
            came = asyncio.run(asking.run(found, bar.update))
        if _too_many_open(came, options.leave_open):
            return 2
        decided = judged(folder, found, asking, keep, words, similarity)
        if isinstance(guesser, Guesser):
            came = asyncio.run(asking.guess(guesser, questions_of(decided)))
            if _too_many_open(came, options.leave_open):
                return 2
            decided = guessed(folder, decided, guesser, keep, similarity)
        frames, broken = _frames(options, decided, videos, roots, notes)
        decided = [replace(one, reasons=(BROKEN,)) if one.kept and _path(one) in broken else one for one in decided]
        record(folder, decided, keep)
        rows = [one.row for one in decided if one.kept and one.row is not None]
        write_json_list(options.output / ROWS, (orjson.dumps(row) for row in rows))
        manifest = _manifest(models, came, decided, found) | {
            "encoder": options.encoder or "all-MiniLM-L6-v2",
            "sources": read_from(roots, notes),
            "settings": {**asdict(reading), **asdict(cutting), **asdict(keep), "words": words.digest},
            "frames": frames,
            "sha256": sha256(options.output / ROWS),
        }
        write_json(options.output / MANIFEST, manifest)
        print("\n".join(_report(manifest)))
        if options.mistakes:
            print("\n".join(found_out((*folder.extracted, *folder.written), decided, options.mistakes)))
        print(f"{len(rows):,} rows written to {options.output / ROWS}")
        return 0
    finally:
        folder.close()


def _videos(options: Namespace, roots: dict[str, Path], recipe: Recipe) -> tuple[Sequence[Video], Mapping[str, Notes]]:
    """The videos with transcripts; where frames are to be written, those of them that have pictures."""
    videos, notes = read_all(roots, recipe)
    told = [video for video in videos if transcript_of(options.transcripts / video.source, video.video_id) is not None]
    if options.frames is None or not told:
        return told, notes
    seen = pictured(told, roots, notes)
    refuse_rejects(notes, len(seen), options.max_rejects)
    return seen, notes


def _path(found: Found) -> str:
    return found.excerpt.clip.video.path


def _frames(
    options: Namespace,
    decided: Sequence[Found],
    videos: Sequence[Video],
    roots: Mapping[str, Path],
    notes: Mapping[str, Notes],
) -> tuple[int, set[str]]:
    """Writes the frames of what is kept, if that is asked for; their number, and paths of videos that are broken."""
    if options.frames is None:
        return 0, set()
    listed: dict[str, set[int]] = {}
    for one in decided:
        if one.kept and one.row is not None:
            listed.setdefault(_path(one), set()).update(one.excerpt.clip.numbers)
    target = options.output / "frames" if options.frames == Path() else options.frames
    written, broken = write_frames(listed, videos, roots, notes, target.absolute(), options.workers)
    refuse_rejects(notes, len(videos) - len(broken), options.max_rejects)
    return written.total(), broken


def _too_many_open(came: Asked, most: int) -> bool:
    if came.open <= most:
        return False
    kinds = ", ".join(f"{kind} {count}" for kind, count in came.failures.most_common())
    print(
        f"curate: error: {came.open} replies are lacking ({kinds}); started again, they are asked for again. "
        "--leave-open writes the rows without them",
        file=sys.stderr,
    )
    return True


def _manifest(
    models: dict[str, TextModel], came: Asked, decided: Sequence[Found], read: Iterable[Excerpt]
) -> dict[str, Any]:
    facts = [one for one in decided if one.asked is None]
    questions = [one for one in decided if one.asked is not None]
    rows = Counter(f"{one.excerpt.clip.video.source}/qa" for one in questions if one.kept)
    asked = Counter(f"{one.excerpt.clip.video.source}/qa" for one in questions)
    heard, counted = hashlib.sha256(), Counter[str]()
    for excerpt in read:
        heard.update(excerpt.key.encode())
        counted[excerpt.clip.video.source] += 1
    return {
        "format": FORMAT,
        "rows": rows.total(),
        "pairs": {pair: {"asked": asked[pair], "kept": rows[pair]} for pair in sorted(asked)},
        "excerpts": dict(counted),
        "facts": {"found": len([one for one in facts if one.fact]), "kept": len([one for one in facts if one.kept])},
        "kinds": dict(sorted(Counter(one.fact.kind for one in questions if one.kept and one.fact).items())),
        "rejected": {
            "facts": dict(sorted(Counter(why for one in facts for why in one.reasons).items())),
            "questions": dict(sorted(Counter(why for one in questions for why in one.reasons).items())),
        },
        "models": {
            name: {
                **{what: value for what, value in one.settings().items() if what not in HIDDEN},
                "prompt_version": one.prompt.version,
                "prompt_digest": one.prompt.digest,
                "price_known": one.price_known,
            }
            for name, one in models.items()
        },
        "asked": {"new": came.new, "there": came.there, "failures": dict(came.failures)},
        "open": came.open,
        **spent(models["extractor"]),
        "rules": RULES,
        "excerpts_sha256": heard.hexdigest(),
    }


def _report(manifest: dict[str, Any]) -> Iterator[str]:
    facts = manifest["facts"]
    yield f"{sum(manifest['excerpts'].values()):,} excerpts, {facts['found']:,} facts, {facts['kept']:,} of them asked"
    yield f"{'pair':<28} {'questions':>10} {'kept':>8}"
    for pair, found in manifest["pairs"].items():
        yield f"{pair:<28} {found['asked']:>10,} {found['kept']:>8,}"
    for what, reasons in manifest["rejected"].items():
        yield from (f"rejected {what}: {reason}: {count:,}" for reason, count in reasons.items())
    for name, one in manifest["models"].items():
        cost = f"${manifest['cost_usd'].get(one['model'], 0.0):.4f}" if one["price_known"] else "its price is not known"
        yield f"{name}: {one['model']}: {cost}"
