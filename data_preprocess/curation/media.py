# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A source's own videos and folders of frames: which frames there are, and the listed ones under MedVidBench's names.

Videos are decoded with PyAV: it is one wheel with FFmpeg in it, pinned already, and tells every frame's own time. (The
other candidate, torchcodec, needs FFmpeg's libraries on the machine and a build for the exact torch.) Each video is
decoded once, from its beginning to its last listed frame; a frame is found by its time, never by counting.
"""

from __future__ import annotations

import os
import shutil
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_preprocess.atomic import written_whole
from data_preprocess.curation.model import Video
from data_preprocess.curation.sources.reading import Notes, SourceError
from data_preprocess.curation.workers import Workers

VIDEO_ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v")
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Media:
    """Where a video's pictures are: a file to decode, or a folder of frames. Both None where neither is there."""

    file: Path | None = None
    folder: Path | None = None


def media_of(video: Video, root: Path) -> Media:
    """The pictures of a video below its source's root; of several, frames before a video to decode."""
    place = root / video.media
    name = video.path.rpartition("/")[2]
    for folder in (place, place / "Frames", place.with_suffix("")):
        if folder.is_dir():
            there = {entry.name for entry in os.scandir(folder)}
            if any(name % number in there for number in video.numbers):
                return Media(folder=folder)
    names = [place.with_suffix(ending) for ending in VIDEO_ENDINGS]
    names += [place / f"{place.name}{ending}" for ending in VIDEO_ENDINGS]
    return Media(file=next((name for name in names if name.is_file()), None))


def as_it_is(video: Video, root: Path, notes: Notes) -> Video | None:
    """The video with the frames that are there; None, and a note, where none is.

    Raises:
        SourceError: a file that is no video.
    """
    media = media_of(video, root)
    if media.folder is not None:
        name = video.path.rpartition("/")[2]
        there = {entry.name for entry in os.scandir(media.folder)}
        numbers: Sequence[int] = [number for number in video.numbers if name % number in there]
    elif media.file is not None:
        # The last frame's time, plus what rounding of a duration may take.
        last = video.first + (duration_of(media.file) + 0.001) * video.rate
        numbers = video.numbers[: bisect_right(video.numbers, last)]
    else:
        notes.lacks(str(root / video.media))
        return None
    if (gone := len(video.numbers) - len(numbers)) > 0:
        notes.odd("labelled frames that the pictures do not have are left out", video.video_id, gone)
    return replace(video, numbers=numbers) if numbers else None


def duration_of(file: Path) -> float:
    """Seconds from the first to the end of the last frame of a video's picture.

    Raises:
        SourceError: no video, or one that does not tell its length.
    """
    with _opened(file) as (container, stream):
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if container.duration is not None:
            return container.duration / 1_000_000
    raise SourceError(file, "", "a video that tells its length", "none; remux it (ffmpeg -c copy)")


def pictured(videos: Sequence[Video], roots: Mapping[str, Path], notes: Mapping[str, Notes]) -> list[Video]:
    """The videos that have pictures, with the frames that are there; those that cannot be opened are rejected.

    Args:
        videos: of any sources.
        roots, notes: of each source; notes get what is missing, odd and rejected.

    Raises:
        SourceError: no video has pictures.
    """
    found = []
    for video in tqdm(videos, unit=" videos", desc="pictures", disable=None, mininterval=1.0):
        try:
            there = as_it_is(video, roots[video.source], notes[video.source])
        except SourceError as error:
            reject(video, error, roots, notes)
            continue
        if there is not None:
            found.append(there)
    if not found and not any(noted.rejected for noted in notes.values()):
        missing = next((place for noted in notes.values() for place in noted.missing), "--root")
        raise SourceError(missing, "", "a video or a folder of its frames", "neither, and none of another video")
    return found


def reject(video: Video, error: SourceError, roots: Mapping[str, Path], notes: Mapping[str, Notes]) -> None:
    """Notes that a video is left out, and says so at once."""
    notes[video.source].rejects(video.video_id, error, roots[video.source])
    print(f"curate: rejected: {video.source}: {notes[video.source].rejected[video.video_id]}", file=sys.stderr)


def refuse_rejects(notes: Mapping[str, Notes], videos: int, share: float) -> None:
    """Ends a run that had to reject too much.

    Args:
        notes: of each source.
        videos: how many have pictures and are not rejected.
        share: how many may be rejected, of all that have pictures.

    Raises:
        SourceError: more, or all.
    """
    rejected = sum(len(noted.rejected) for noted in notes.values())
    if rejected > share * (videos + rejected) or (rejected and not videos):
        expected = f"at most {share:g} of them unusable (--max-rejects)"
        raise SourceError("videos", "", expected, f"{rejected} of {videos + rejected}")


def write_frames(
    wanted: Mapping[str, Iterable[int]],
    videos: Sequence[Video],
    roots: Mapping[str, Path],
    notes: Mapping[str, Notes],
    target: Path,
    workers: Workers,
) -> tuple[Counter[str], set[str]]:
    """Writes frames below `target` under the names that rows list; those that are there are kept.

    Args:
        wanted: native numbers by `path` of a video.
        videos: all that `wanted` speaks of.
        roots, notes: of each source; a video that cannot be decoded to its last listed frame is rejected.
        target: the frames root.
        workers: who decodes.

    Returns:
        How many frames were `decoded`, `linked` and `kept`, and the `path`s of the rejected videos.
    """
    jobs = [(video, sorted(set(wanted[video.path]))) for video in videos if video.path in wanted]
    # Without what is said of it, a video is small.
    slim = [(replace(video, runs=(), events=(), boxes=(), scores=(), labels={}), numbers) for video, numbers in jobs]
    done = workers.handle(partial(frames_of, roots=roots, target=target), slim)
    return framed(done, [video for video, _ in jobs], roots, notes)


def framed(
    done: Iterable[Counter[str] | SourceError],
    videos: Sequence[Video],
    roots: Mapping[str, Path],
    notes: Mapping[str, Notes],
) -> tuple[Counter[str], set[str]]:
    """What `frames_of` said of each video, summed up as `write_frames` returns it."""
    counts, broken = Counter[str](), set()
    bar = tqdm(done, total=len(videos), unit=" videos", desc="frames", disable=None, mininterval=1.0)
    for video, counted in zip(videos, bar, strict=True):
        if isinstance(counted, SourceError):
            reject(video, counted, roots, notes)
            broken.add(video.path)
        else:
            counts += counted
    return counts, broken


def frames_of(job: tuple[Video, Sequence[int]], roots: Mapping[str, Path], target: Path) -> Counter[str] | SourceError:
    """Writes the frames of one video, by their numbers, and counts them; the error, where it cannot be decoded."""
    video, numbers = job
    try:
        return _frames_of(video, numbers, roots[video.source], target)
    except SourceError as error:
        return error


def _frames_of(video: Video, numbers: Sequence[int], root: Path, target: Path) -> Counter[str]:
    missing = [number for number in numbers if not (target / (video.path % number)).exists()]
    counts = Counter(kept=len(numbers) - len(missing))
    if not missing:
        return counts
    (target / video.path).parent.mkdir(parents=True, exist_ok=True)
    media = media_of(video, root)
    if media.folder is not None:
        name = video.path.rpartition("/")[2]
        for number in missing:
            _link(media.folder / (name % number), target / (video.path % number))
        return counts + Counter(linked=len(missing))
    if media.file is None:
        raise SourceError(root / video.media, "", "the video or the frames of it", "neither")
    times = [video.seconds(number) for number in missing]
    for number, image in zip(missing, frames_at(media.file, times), strict=True):
        place = target / (video.path % number)
        with written_whole(place, sync=False) as partial_file:
            if place.suffix == ".png":
                image.save(partial_file, "PNG", compress_level=1)
            else:
                image.save(partial_file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return counts + Counter(decoded=len(missing))


def _link(file: Path, place: Path) -> None:
    """The same file under another name; a copy where the disk has no such links."""
    try:
        os.link(file, place)
    except FileExistsError:
        return
    except OSError:
        with written_whole(place, sync=False) as partial:
            shutil.copyfile(file, partial)
            shutil.copystat(file, partial)


def frames_at(file: Path, times: Sequence[float]) -> Iterator[Any]:
    """The picture that stands nearest to each time, as PIL images; of two equally near ones the earlier.

    Args:
        file: a video.
        times: seconds from its first frame, rising.

    Raises:
        SourceError: it cannot be decoded, or ends more than a second before a time.
    """
    with _opened(file) as (container, stream):
        import av

        before: tuple[float, Any] | None = None
        begin: float | None = None
        at = 0
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                begin = frame.time if begin is None else begin
                now = frame.time - begin
                while at < len(times) and now >= times[at]:
                    near = before if before is not None and times[at] - before[0] <= now - times[at] else (now, frame)
                    yield near[1].to_image()
                    at += 1
                if at == len(times):
                    return
                before = (now, frame)
        except av.FFmpegError as error:
            when = f"after {before[0] if before else 0:.1f} s"
            raise SourceError(file, when, "a video", error.strerror or str(error)) from None
        for time in times[at:]:
            if before is None or time - before[0] > 1:
                found = f"its end at {before[0]:.1f} s" if before else "no frame"
                raise SourceError(file, "", f"a frame at {time:.1f} s", found)
            yield before[1].to_image()


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, Any]]:
    import av

    try:
        container = av.open(str(file))
    except (av.FFmpegError, OSError) as error:
        raise SourceError(file, "", "a video", error.strerror or str(error)) from None
    with container:
        if not container.streams.video:
            raise SourceError(file, "", "a stream of pictures", "none")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream
