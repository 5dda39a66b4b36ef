# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the sources' videos to one annotation file: everything that can be asked, what is chosen of it, and the rows.

What can be asked is listed twice: once to choose among it by its keys, once to write what was chosen. A list of keys is
small, so that memory does not grow with the rows. Each step works on one video at a time, whoever does it (`workers`).
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
from tqdm import tqdm

from data_preprocess.atomic import write_json, write_json_list
from data_preprocess.curation import media
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.model import Video
from data_preprocess.curation.rows import drafts, row_of
from data_preprocess.curation.rows.drafts import Draft, RowSettings
from data_preprocess.curation.rows.wordings import wordings
from data_preprocess.curation.sources import READERS, read
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.curation.workers import HERE, MAX_REJECTS, Workers
from data_preprocess.provenance import sha256
from data_preprocess.splits import choose_subset, group_of

Wanted = Mapping[str, frozenset[int]]
"""By pair, the keys of the rows of a video that are to be written."""
Made = TypeVar("Made")

ANNOTATIONS, MANIFEST = "annotations.json", "curation.json"
FORMAT = 1
"""Of the manifest."""
# Files of annotations that are hashed; everything else below a root is pictures and videos.
_ANNOTATED = (".csv", ".json", ".txt", ".xlsx", ".toml")


@dataclass(frozen=True)
class Recipe:
    """Everything that the rows depend on beside the annotations.

    `rows_per_pair` and `subset` are 0 for all rows; `words` is a user's file of wordings, or empty. `without_test`
    leaves out every operation that one of the sources has in its own test split.
    """

    reading: ReadSettings = ReadSettings()
    clips: ClipSettings = ClipSettings()
    rows: RowSettings = RowSettings()
    seed: int = 0
    rows_per_pair: int = 0
    subset: int = 0
    words: str = ""
    without_test: bool = False


def roots_of(sources: Sequence[str], root: Path) -> dict[str, Path]:
    """The folder of each source: of one alone, `root` itself; of several or `all`, the folder of its name in `root`."""
    if "all" in sources:
        sources = list(READERS)
    elif len(sources) == 1:
        return {sources[0]: root}
    return {source: root / source for source in sources}


def read_all(roots: Mapping[str, Path], recipe: Recipe) -> tuple[list[Video], dict[str, Notes]]:
    """The videos of some sources, and what was noted about each.

    Raises:
        SourceError: a file that cannot be read, or a source without a video.
    """
    videos: list[Video] = []
    notes = {source: Notes() for source in roots}
    with tqdm(unit=" videos", desc="reading", disable=None, mininterval=1.0) as bar:
        for source, root in roots.items():
            before = len(videos)
            for video in read(source, root, recipe.reading, notes[source]):
                videos.append(video)
                bar.update()
            if len(videos) == before:
                raise SourceError(root, "", f"a video of {source}", "none")
    if recipe.without_test:
        test = {group_of(video.source, video.video_id) for video in videos if video.split == "test"}
        videos = [video for video in videos if group_of(video.source, video.video_id) not in test]
    return videos, notes


def keys_of(video: Video, recipe: Recipe) -> dict[str, array[int]]:
    """By pair, the keys of everything that can be asked of a video."""
    keys: dict[str, array[int]] = {}
    for draft in drafts(video, recipe.clips, recipe.rows, recipe.seed):
        keys.setdefault(draft.pair, array("Q")).append(draft.key)
    return keys


def chosen(keys: Sequence[Mapping[str, Sequence[int]]], recipe: Recipe) -> list[Wanted]:
    """Of each video by pair, the keys of the rows to write: at most `rows_per_pair` of each pair, then a task-balanced
    `subset`.

    Args:
        keys: of each video, as `keys_of` lists them.
        recipe: says how many.

    Raises:
        SourceError: two questions of a pair have one key.
    """
    pooled: dict[str, array[int]] = {}
    for of_video in keys:
        for pair, listed in of_video.items():
            pooled.setdefault(pair, array("Q")).extend(listed)
    taken: dict[str, Sequence[int]] = dict(pooled)
    for pair, listed in pooled.items():
        if len(set(listed)) < len(listed):
            raise SourceError(pair, "", "one key for each question", "a key twice; choose another --seed")
        if recipe.rows_per_pair:
            taken |= choose_subset({pair: listed}, recipe.rows_per_pair, recipe.seed)
    if recipe.subset:
        taken = dict(choose_subset(taken, recipe.subset, recipe.seed))
    kept = {pair: frozenset(listed) for pair, listed in taken.items()}
    return [{pair: kept[pair].intersection(listed) for pair, listed in of_video.items()} for of_video in keys]


def asked(video: Video, wanted: Wanted | None, recipe: Recipe) -> Iterator[Draft]:
    """What is asked of a video: what is wanted of it in order, all without `wanted`."""
    if wanted is not None and not any(wanted.values()):
        return
    for draft in drafts(video, recipe.clips, recipe.rows, recipe.seed):
        if wanted is None or draft.key in wanted.get(draft.pair, ()):
            yield draft


def rows_of(job: tuple[Video, Wanted | None], recipe: Recipe) -> list[tuple[str, bytes]]:
    """The pair and the encoded row of everything that is asked of a video."""
    words = wordings(recipe.words)
    return [(draft.pair, orjson.dumps(row_of(draft, words))) for draft in asked(*job, recipe)]


def frames_of(
    job: tuple[Video, Wanted | None], recipe: Recipe, roots: Mapping[str, Path], target: Path
) -> Counter[str] | SourceError:
    """Writes the frames of everything that is asked of a video; as `media.frames_of`."""
    numbers = {number for draft in asked(*job, recipe) for number in draft.clip.numbers}
    return media.frames_of((job[0], sorted(numbers)), roots, target)


def curate(
    roots: Mapping[str, Path],
    output: Path,
    recipe: Recipe,
    workers: Workers = HERE,
    frames: bool = False,
    max_rejects: float = MAX_REJECTS,
) -> dict[str, Any]:
    """Writes `annotations.json` and the manifest `curation.json`; returns the manifest.

    Args:
        roots: the folder of each source's annotations.
        output: made when it is missing.
        recipe: equal ones give equal bytes.
        workers: who does it; no matter who, the bytes are the same.
        frames: whether frames are looked for and written. A video that cannot be opened or decoded is rejected, and
            none of its rows is written.
        max_rejects: share of the videos that may be rejected.

    Raises:
        SourceError: a file of annotations that cannot be read, too many rejected videos, or nothing to write.
        PipelineError: of Ray.
    """
    words = wordings(recipe.words)
    videos, notes = read_all(roots, recipe)
    if frames:
        videos = media.pictured(videos, roots, notes)
        media.refuse_rejects(notes, len(videos), max_rejects)
    wanted: list[Wanted | None] = [None] * len(videos)
    if recipe.rows_per_pair or recipe.subset:
        wanted = [
            *chosen(list(_shown(workers.compute(partial(keys_of, recipe=recipe), videos), videos, "asking")), recipe)
        ]
    jobs = list(zip(videos, wanted, strict=True))
    written = Counter[str]()
    if frames:
        work = partial(frames_of, recipe=recipe, roots=roots, target=output / "frames")
        written, broken = media.framed(workers.handle(work, jobs), videos, roots, notes)
        jobs = [job for job in jobs if job[0].path not in broken]
        media.refuse_rejects(notes, len(jobs), max_rejects)
    counts: Counter[str] = Counter()
    shown: dict[str, set[str]] = {}

    def encoded() -> Iterator[bytes]:
        made = workers.compute(partial(rows_of, recipe=recipe), jobs)
        for (video, _), rows in zip(jobs, _shown(made, jobs, "rows"), strict=True):
            for pair, row in rows:
                counts[pair] += 1
                shown.setdefault(pair, set()).add(video.video_id)
                yield row
        if not counts:
            raise SourceError(output, "", "a question about the videos", "none; they may be too short for clips")

    output.mkdir(parents=True, exist_ok=True)
    write_json_list(output / ANNOTATIONS, encoded())
    manifest = {
        "format": FORMAT,
        "rows": counts.total(),
        "pairs": {pair: {"rows": counts[pair], "videos": len(shown[pair])} for pair in sorted(counts)},
        "sources": read_from(roots, notes),
        "settings": {**asdict(recipe), "words": words.digest},
        "frames": written.total(),
        "sha256": sha256(output / ANNOTATIONS),
    }
    write_json(output / MANIFEST, manifest)
    return manifest


def _shown(made: Iterable[Made], things: Sequence[Any], doing: str) -> Iterator[Made]:
    """The same with a bar of the videos that are done."""
    yield from tqdm(made, total=len(things), unit=" videos", desc=doing, disable=None, mininterval=1.0)


def read_from(roots: Mapping[str, Path], notes: Mapping[str, Notes]) -> dict[str, Any]:
    """What a manifest says of each source: what was read, odd and rejected, and the hash of its annotation files."""
    found = {}
    for source, root in roots.items():
        digest, files = hashlib.sha256(), 0
        for file in sorted(path for path in root.rglob("*") if path.suffix.lower() in _ANNOTATED and path.is_file()):
            # Paths below the root: where the copy lies is no part of what it holds.
            digest.update(f"{file.relative_to(root).as_posix()}\0{sha256(file)}\0".encode())
            files += 1
        noted = notes[source]
        about = {"there": dict(noted.there), "odd": dict(noted.oddities), "rejected": noted.rejected}
        found[source] = {**about, "files": files, "sha256": digest.hexdigest()}
    return found
