# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The frame store: every needed frame decoded, drawn on and resized once, then reused by rows and by later runs.

A stored frame is named by what it shows and how it was made (path, size, region box, the size its file has to have),
and carries the modification time of the file it was made from: an entry whose time differs is made anew. Several
processes may fill one folder: an entry appears whole, by a rename, and two that make the same one write the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from data_preprocess.atomic import written_whole
from data_preprocess.frames import UNREADABLE, FrameError, render, why_unreadable
from data_preprocess.geometry import Box, Size

SUFFIXES = (".ppm", ".png", ".jpg")
"""Kinds of stored frames. `.ppm` is the bare pixels, read ten times as fast as `.png` and about twice as large;
both keep every pixel. `.jpg` (quality 95, full colour resolution) is the smallest and loses a little."""

# Part of every entry's name: raised when `render` or `encode` comes to make other pixels.
_RULE = 1
# Looked-up entries remembered; beyond that they are looked up on disk again.
_REMEMBERED = 1 << 17
_PARTIAL = ".partial"
_PPM_HEADER = b"P6\n%d %d\n255\n"
_STALE_S = 3600


def encode(frame: Image.Image, suffix: str) -> bytes:
    """An RGB frame as the content of a file of one of `SUFFIXES`."""
    if suffix == ".ppm":
        return _PPM_HEADER % frame.size + frame.tobytes()
    content = io.BytesIO()
    if suffix == ".png":
        frame.save(content, "PNG", compress_level=1)
    else:
        frame.save(content, "JPEG", quality=95, subsampling=0)
    return content.getvalue()


def is_whole(path: str, length: int, size: Size | None) -> bool:
    """Whether a stored frame of `length` bytes has its end; `size` is None for a file of another program.

    The length of bare pixels follows from their size. The other kinds end with a mark.
    """
    if size is None or not path.endswith(SUFFIXES):
        return length > 0
    if path.endswith(".ppm"):
        return length == len(_PPM_HEADER % size) + 3 * size[0] * size[1]
    mark = b"IEND\xaeB`\x82" if path.endswith(".png") else b"\xff\xd9"
    with open(path, "rb") as handle:
        handle.seek(max(0, length - len(mark)))
        return handle.read() == mark


def is_current(target: str, mtime_ns: int, size: Size) -> bool:
    """Whether `target` is a whole frame of this size, made from a file of this modification time."""
    try:
        found = os.stat(target)
        return found.st_mtime_ns == mtime_ns and is_whole(target, found.st_size, size)
    except OSError:
        return False


class Shown(NamedTuple):
    """What a stored frame shows: the arguments of `render`."""

    path: str
    size: Size
    box: Box | None
    canvas: Size | None
    source_size: Size | None
    draft: bool


def store_frame(shown: Shown, target: str, mtime_ns: int, folder: str) -> tuple[bool, str | None]:
    """Makes one stored frame: (made by this call, the reason in words when the picture cannot be used).

    Raises:
        OSError: the store's disk is full or failing.
    """
    if is_current(target, mtime_ns, shown.size):  # another process was faster
        return False, None
    try:
        frame = render(*shown)
    except UNREADABLE as error:
        return False, why_unreadable(error)
    content = encode(frame, os.path.splitext(target)[1])
    # No fsync here: one a frame takes longer than the frame itself.
    with written_whole(Path(target), sync=False, folder=Path(folder, _PARTIAL)) as partial:
        partial.write_bytes(content)
        os.utime(partial, ns=(mtime_ns, mtime_ns))
    return True, None


def identify(folder: str | os.PathLike[str]) -> str:
    """The store's own name, made with its folder: another one tells that the frames of earlier runs are gone."""
    path = Path(folder, ".id")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with written_whole(path, sync=False) as partial:
            partial.write_text(secrets.token_hex(16), encoding="ascii")
    return path.read_text(encoding="ascii")


class FrameStore:
    """Stored frames in one folder. `request` names them, `flush` makes those that are not there yet.

    Args:
        folder: made when it is missing; entries lie in 256 folders in it.
        suffix: one of `SUFFIXES`.
        threads: pictures worked on at a time; decoding and resizing leave Python's lock.
        draft: let the JPEG decoder scale down first (see `render`).
        root: frames root; entries are then named by paths below it, and outlive a move of the frames.

    Attributes:
        made: frames stored by this object.
        reused: frames that were there when they were asked for, or were made by another process meanwhile.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        suffix: str = ".ppm",
        threads: int = 2,
        draft: bool = False,
        root: str | os.PathLike[str] | None = None,
    ):
        if suffix not in SUFFIXES:
            raise ValueError(f"stored frames of kind {suffix!r}: expected one of {', '.join(SUFFIXES)}")
        self.folder, self.suffix, self.draft = os.path.abspath(folder), suffix, draft
        self.root = os.path.join(os.path.realpath(root), "") if root is not None else ""
        self.made = self.reused = 0
        self._pending: dict[str, tuple[Shown, str, int]] = {}
        self._seen: dict[Shown, str] = {}
        self._pool = ThreadPoolExecutor(threads, "frame-store")
        for name in (_PARTIAL, *(f"{shard:02x}" for shard in range(256))):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        self._sweep()

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def request(
        self,
        path: str,
        size: Size,
        box: Box | None = None,
        canvas: Size | None = None,
        source_size: Size | None = None,
    ) -> str:
        """The absolute path where this frame will lie after the next `flush`.

        Args:
            path: the picture, as `FrameRoot.clip` gives it.
            size: (width, height) to store.
            box: a region to outline, in pixels of `canvas`.
            canvas: annotation canvas; of no meaning without a box.
            source_size: the size on disk of the clip's frames; the frame is refused at `flush` when it has another.

        Raises:
            FrameError: no such file.
        """
        shown = Shown(path, size, box, canvas if box is not None else None, source_size, self.draft and box is None)
        target = self._seen.get(shown)
        if target is None:
            try:
                found = os.stat(path)
            except (OSError, ValueError) as error:
                raise FrameError(path, why_unreadable(error)) from None
            target = self._seen[shown] = self._target(shown, found.st_size)
            if is_current(target, found.st_mtime_ns, size):
                self.reused += 1
            else:
                self._pending[target] = (shown, target, found.st_mtime_ns)
        return target

    def flush(self) -> dict[str, FrameError]:
        """Makes all requested frames; the errors by target path of those that cannot be made.

        Raises:
            OSError: the store's disk is full or failing; what was asked for has to be asked for again.
        """
        jobs, self._pending = list(self._pending.values()), {}
        try:
            results = list(self._pool.map(lambda job: store_frame(job[0], job[1], job[2], self.folder), jobs))
        except BaseException:
            self._seen.clear()
            raise
        errors = {
            target: FrameError(shown.path, reason)
            for (shown, target, _), (_, reason) in zip(jobs, results, strict=True)
            if reason is not None
        }
        made = sum(made for made, _ in results)
        self.made += made
        self.reused += len(jobs) - len(errors) - made
        if len(self._seen) > _REMEMBERED:
            self._seen.clear()
        elif errors:
            self._seen = {key: target for key, target in self._seen.items() if target not in errors}
        return errors

    def _target(self, shown: Shown, length: int) -> str:
        path, size, box, *rest = shown
        # The length: two roots may hold other frames under one name and of one time, out of an archive.
        said = (_RULE, path.removeprefix(self.root), length, size, box and tuple(map(float, box)), *rest)
        name = hashlib.sha256(repr(said).encode("utf-8", "surrogateescape")).hexdigest()[:26]
        return f"{self.folder}/{name[:2]}/{name[2:]}{self.suffix}"

    def _sweep(self) -> None:
        """Takes away what killed runs left; a younger file may be another process's work in progress."""
        for entry in os.scandir(os.path.join(self.folder, _PARTIAL)):
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_ctime < time.time() - _STALE_S:
                    os.unlink(entry.path)
