# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From the sources' videos to one annotation file: everything that can be asked, what is chosen of it, and the rows.

What can be asked is listed twice: once to choose among it by its keys, once to write what was chosen. A list of keys is
small, so that memory does not grow with the rows.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from data_preprocess.atomic import write_json, write_json_list
from data_preprocess.curation.clips import ClipSettings
from data_preprocess.curation.media import as_it_is, write_frames
from data_preprocess.curation.model import Video
from data_preprocess.curation.rows import drafts, row_of
from data_preprocess.curation.rows.drafts import RowSettings
from data_preprocess.curation.rows.wordings import wordings
from data_preprocess.curation.sources import READERS, read
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.sources.settings import ReadSettings
from data_preprocess.splits import choose_subset, group_of

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


def keys_of(videos: Sequence[Video], recipe: Recipe) -> dict[str, array[int]]:
    """By pair, the keys of everything that can be asked."""
    keys: dict[str, array[int]] = {}
    for video in tqdm(videos, unit=" videos", desc="asking", disable=None, mininterval=1.0):
        for draft in drafts(video, recipe.clips, recipe.rows, recipe.seed):
            keys.setdefault(draft.pair, array("Q")).append(draft.key)
    return keys


def chosen(keys: Mapping[str, Sequence[int]], recipe: Recipe) -> dict[str, frozenset[int]]:
    """By pair, the keys of the rows to write: at most `rows_per_pair` of each, then a task-balanced `subset`.

    Raises:
        SourceError: two questions of a pair have one key.
    """
    taken: dict[str, Sequence[int]] = dict(keys)
    for pair, listed in keys.items():
        if len(set(listed)) < len(listed):
            raise SourceError(pair, "", "one key for each question", "a key twice; choose another --seed")
        if recipe.rows_per_pair:
            taken |= choose_subset({pair: listed}, recipe.rows_per_pair, recipe.seed)
    if recipe.subset:
        taken = dict(choose_subset(taken, recipe.subset, recipe.seed))
    return {pair: frozenset(listed) for pair, listed in taken.items()}


def rows(
    videos: Sequence[Video], recipe: Recipe, wanted: Mapping[str, frozenset[int]] | None = None
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The pair, the video's `path` and the row of everything that is wanted in order, of all without `wanted`."""
    words = wordings(recipe.words)
    for video in videos:
        for draft in drafts(video, recipe.clips, recipe.rows, recipe.seed):
            if wanted is None or draft.key in wanted.get(draft.pair, ()):
                yield draft.pair, video.path, row_of(draft, words)


def curate(roots: Mapping[str, Path], output: Path, recipe: Recipe, threads: int = 0) -> dict[str, Any]:
    """Writes `annotations.json` and the manifest `curation.json`; returns the manifest.

    Args:
        roots: the folder of each source's annotations.
        output: made when it is missing.
        recipe: equal ones give equal bytes.
        threads: videos decoded at a time; with 0 no frame is looked for or written.

    Raises:
        SourceError: a file that cannot be read, or nothing to write.
    """
    words = wordings(recipe.words)
    videos, notes = read_all(roots, recipe)
    if threads:
        found = (as_it_is(video, roots[video.source], notes[video.source]) for video in videos)
        videos = [video for video in found if video is not None]
        if not videos:
            missing = next((place for noted in notes.values() for place in noted.missing), "--root")
            raise SourceError(missing, "", "a video or a folder of its frames", "neither, and none of another video")
    wanted = None
    if recipe.rows_per_pair or recipe.subset:
        wanted = chosen(keys_of(videos, recipe), recipe)
    counts: Counter[str] = Counter()
    shown: dict[str, set[str]] = {}
    listed: dict[str, set[int]] = {}

    def encoded() -> Iterator[bytes]:
        total = sum(map(len, wanted.values())) if wanted is not None else None
        bar = tqdm(total=total, unit=" rows", desc="rows", disable=None, mininterval=1.0)
        for pair, path, row in rows(videos, recipe, wanted):
            bar.update()
            counts[pair] += 1
            shown.setdefault(pair, set()).add(row["metadata"]["video_id"])
            if threads:
                listed.setdefault(path, set()).update(row["sampled_video_frames"])
            yield orjson.dumps(row)
        bar.close()
        if not counts:
            raise SourceError(output, "", "a question about the videos", "none; they may be too short for clips")

    output.mkdir(parents=True, exist_ok=True)
    write_json_list(output / ANNOTATIONS, encoded())
    if threads:
        write_frames(listed, videos, roots, output / "frames", threads)
    manifest = {
        "format": FORMAT,
        "rows": sum(counts.values()),
        "pairs": {pair: {"rows": counts[pair], "videos": len(shown[pair])} for pair in sorted(counts)},
        "sources": {source: _said(notes[source], root) for source, root in roots.items()},
        "settings": {**asdict(recipe), "words": words.digest},
        "frames": sum(map(len, listed.values())),
        "sha256": _sha256(output / ANNOTATIONS),
    }
    write_json(output / MANIFEST, manifest)
    return manifest


def _said(notes: Notes, root: Path) -> dict[str, Any]:
    """What the manifest says of a source: what was read, what was odd, and the hash of its annotation files."""
    digest, files = hashlib.sha256(), 0
    for file in sorted(path for path in root.rglob("*") if path.suffix.lower() in _ANNOTATED and path.is_file()):
        # Paths below the root: where the copy lies is no part of what it holds.
        digest.update(f"{file.relative_to(root).as_posix()}\0{_sha256(file)}\0".encode())
        files += 1
    return {"there": dict(notes.there), "odd": dict(notes.oddities), "files": files, "sha256": digest.hexdigest()}


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
