# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The frame store: every needed frame found, decoded, drawn on and resized once, then reused.

A stored frame is named by what it shows (path below the frames root, size, region box), and carries the modification
time of the file it was made from: an entry whose time differs is made anew.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from PIL import Image, ImageDraw

Size = tuple[int, int]
Box = tuple[float, float, float, float]

PREFIXES = ("root/data/", "valdata/", "testdata/")
"""Leading parts of listed paths that say where the frames once lay."""

BOX_COLOUR = (0, 255, 0)
"""Region boxes: green, the colour that surgical pictures have least of."""
BOX_LINE = 2
"""Width of a region box's line in pixels of the processed frame."""

# Below this many frames, starting processes costs more than it saves.
_POOL_FROM = 400
_MODES = {"RGB", "L", "P", "RGBA", "LA", "CMYK", "YCbCr", "1"}
_STALE_S = 3600


class FrameError(ValueError):
    """A frame file that is missing, outside the frames root, or not a readable picture."""

    def __init__(self, frame: str, reason: str, file: str = "", row: int | None = None):
        super().__init__(frame, reason, file, row)
        self.frame, self.reason, self.file, self.row = frame, reason, file, row

    def __str__(self) -> str:
        where = f"{self.file}: row {self.row}: " if self.file else ""
        return f"{where}frame {self.frame}: {self.reason}"

    def at(self, file: str, row: int) -> FrameError:
        """The same error, with the row that lists the frame."""
        return FrameError(self.frame, self.reason, file, row)


class FrameRoot:
    """Finds listed frames below one folder, whatever machine their paths were written on."""

    def __init__(self, root: str | Path):
        self.root = os.path.realpath(root)
        if not os.path.isdir(self.root):
            raise FrameError(str(root), "expected a folder of frames (--frames-root)")
        self._folders: dict[str, str] = {}
        self._sizes: dict[str, Size] = {}

    def find(self, listed: str) -> tuple[str, os.stat_result]:
        """The real path of a listed frame, and its stat.

        Raises:
            FrameError: no such file, an empty one, or one outside the root (`..`, a link that leads out).
        """
        folder, _, name = listed.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self._folder(folder, listed)
        path = os.path.join(real, name)
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                path = os.path.realpath(path)
                self._inside(path, listed)
                found = os.stat(path)
        except FrameError:
            raise
        except (OSError, ValueError):
            raise FrameError(listed, f"no such file ({path})") from None
        if not stat.S_ISREG(found.st_mode) or name in ("", ".", ".."):
            raise FrameError(listed, f"not a file ({path})")
        if found.st_size == 0:
            raise FrameError(listed, f"the file is empty ({path})")
        return path, found

    def size(self, listed: str) -> Size:
        """(width, height) of a frame on disk, from its header."""
        path, _ = self.find(listed)
        if path not in self._sizes:
            try:
                with Image.open(path) as image:
                    self._sizes[path] = image.size
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise FrameError(listed, f"not a readable picture: {error}") from None
        return self._sizes[path]

    def _folder(self, folder: str, listed: str) -> str:
        if ".." in folder.split("/"):
            raise FrameError(listed, "a path with .. is refused")
        rest = folder.lstrip("/") + "/"
        for prefix in PREFIXES:
            rest = rest.removeprefix(prefix)
        # A release may have been unpacked with its own top folder.
        for top in ("", *PREFIXES[1:]):
            real = os.path.realpath(os.path.join(self.root, top + rest))
            if os.path.isdir(real):
                self._inside(real, listed)
                return real
        raise FrameError(listed, f"no folder {rest} below {self.root}")

    def _inside(self, path: str, listed: str) -> None:
        if os.path.commonpath([path, self.root]) != self.root:
            raise FrameError(listed, f"a link leads out of the frames root, to {path}")


@dataclass(frozen=True)
class Job:
    """One frame to store: resize `path` to `size`; draw `box` first, given in pixels of `canvas`."""

    listed: str
    path: str
    target: str
    size: Size
    mtime_ns: int
    box: Box | None = None
    canvas: Size | None = None


def render(path: str, size: Size, box: Box | None = None, canvas: Size | None = None) -> Image.Image:
    """A frame as the model sees it: RGB, box drawn at full size, one bicubic resize."""
    with Image.open(path) as image:
        if image.mode not in _MODES:
            raise ValueError(f"picture mode {image.mode}, expected 8 bits a channel")
        frame = image.convert("RGB")
    if box is not None:
        draw_box(frame, box, canvas or frame.size, size)
    return frame if frame.size == size else frame.resize(size, Image.Resampling.BICUBIC)


def draw_box(frame: Image.Image, box: Box, canvas: Size, size: Size) -> None:
    """Draws a canvas box on a frame in place, so wide that its line is `BOX_LINE` pixels once resized to `size`."""
    scale = (frame.width / canvas[0], frame.height / canvas[1])
    x1, x2 = (min(max(round(x * scale[0]), 0), frame.width - 1) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y * scale[1]), 0), frame.height - 1) for y in (box[1], box[3]))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"region box {list(box)} covers nothing of a {canvas[0]}x{canvas[1]} canvas")
    line = max(1, round(BOX_LINE * max(frame.width / size[0], frame.height / size[1])))
    ImageDraw.Draw(frame).rectangle((x1, y1, x2, y2), outline=BOX_COLOUR, width=line)


def store_frame(job: Job) -> str | None:
    """Makes one stored frame; the reason in words when the picture cannot be read. A failing disk raises OSError."""
    try:
        frame = render(job.path, job.size, job.box, job.canvas)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"not a readable picture: {error}"
    folder, name = os.path.split(job.target)
    partial = os.path.join(folder, f".{os.getpid()}.{name}")
    try:
        # No fsync here: one a frame takes longer than the frame itself, and a lost entry is found by its time.
        frame.save(partial, **({"quality": 95, "subsampling": 0} if name.endswith(".jpg") else {"compress_level": 1}))
        os.utime(partial, ns=(job.mtime_ns, job.mtime_ns))
        os.replace(partial, job.target)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise
    return None


def _leave_with_parent() -> None:
    """Ends this worker when the command dies, so that a killed run leaves no process behind."""
    parent = parent_process()
    if parent is not None:
        watch = threading.Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True)
        watch.start()


class FrameStore:
    """Stored frames in one folder. `request` names them, `flush` makes those that are not there yet."""

    def __init__(self, root: FrameRoot, folder: str | Path, suffix: str = ".png", workers: int = 2):
        self.root, self.folder, self.suffix, self.workers = root, os.path.abspath(folder), suffix, workers
        self.made = self.reused = 0
        self._pending: list[Job] = []
        self._seen: dict[tuple, str] = {}
        self._pool: ProcessPoolExecutor | None = None
        os.makedirs(self.folder, exist_ok=True)
        for entry in os.scandir(self.folder):
            # What a killed run left; a younger one may be another process's work in progress.
            if entry.name.startswith(".") and entry.stat().st_ctime < time.time() - _STALE_S:
                os.unlink(entry.path)

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def request(self, listed: str, size: Size, box: Box | None = None, canvas: Size | None = None) -> str:
        """The absolute path where this frame will lie after the next `flush`.

        Raises:
            FrameError: the file cannot be found.
        """
        key = (listed, size, box, canvas)
        target = self._seen.get(key)
        if target is None:
            path, found = self.root.find(listed)
            shown = (os.path.relpath(path, self.root.root), size, box, canvas if box else None)
            name = hashlib.sha256(repr(shown).encode()).hexdigest()[:24] + self.suffix
            target = self._seen[key] = os.path.join(self.folder, name)
            if self._is_current(target, found.st_mtime_ns):
                self.reused += 1
            else:
                self._pending.append(Job(listed, path, target, size, found.st_mtime_ns, box, canvas))
        return target

    def flush(self) -> dict[str, FrameError]:
        """Makes all requested frames; the errors by target path of those that cannot be read."""
        jobs = list({job.target: job for job in self._pending}.values())
        self._pending.clear()
        reasons = self._run(jobs)
        errors = {
            job.target: FrameError(job.listed, reason) for job, reason in zip(jobs, reasons, strict=True) if reason
        }
        self._seen = {key: target for key, target in self._seen.items() if target not in errors}
        self.made += len(jobs) - len(errors)
        return errors

    def _run(self, jobs: Sequence[Job]) -> list[str | None]:
        if self._pool is None and self.workers > 1 and len(jobs) >= _POOL_FROM:
            # Spawned, not forked: Arrow's threads do not survive a fork.
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_leave_with_parent)
        if self._pool is None:
            return [store_frame(job) for job in jobs]
        return list(self._pool.map(store_frame, jobs, chunksize=32))

    @staticmethod
    def _is_current(target: str, mtime_ns: int) -> bool:
        try:
            found = os.stat(target)
        except OSError:
            return False
        return found.st_size > 0 and found.st_mtime_ns == mtime_ns
