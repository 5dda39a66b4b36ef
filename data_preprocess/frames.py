# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Frame files: found below one folder, checked, and drawn as the model sees them.

A frame is what its file holds: portrait frames stay portrait, and an EXIF orientation is not applied. Boxes were
annotated on the pixels as stored, and a frame that is turned alone breaks the stack of its clip.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

from data_preprocess.geometry import SOURCES, Box, Size, rescale
from data_preprocess.wording import is_text, short

PREFIXES = ("root/data/", "valdata/", "testdata/")
"""Leading parts of listed paths that say where the frames once lay."""

VERIFY = ("none", "exists", "decode")
"""How much of the frames is looked at: nothing, that each file is there and not empty, or its pixels too."""

BOX_COLOUR = (0, 255, 0)
"""Region boxes: green, the colour that surgical pictures have least of."""
BOX_LINE = 2
"""Width of a region box's line in pixels of the processed frame."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")
"""Kinds of pictures that are read: PIL would start another program for some of the rest."""

REDUCING_GAP = 2.0
"""A large frame is first averaged over whole blocks, to no less than this many times the wanted size, and then
resized: half the time of bicubic over every pixel, for a mean difference below half a grey level."""

# Folders and files remembered by a `FrameRoot`: enough for the rows of neighbouring clips, at some 25 MB.
_REMEMBERED = 1 << 17
_MODES = {"RGB", "L", "P", "RGBA", "LA", "1"}
# What the machine, not the picture, is to blame for.
_MACHINE = {getattr(errno, name) for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT", "ESTALE", "ETIMEDOUT")}


class FrameError(ValueError):
    """A frame file that is missing, outside the frames root, or not a usable picture."""

    def __init__(self, frame: str, reason: str, file: str = "", row: int | None = None):
        super().__init__(frame, reason, file, row)
        self.frame, self.reason, self.file, self.row = frame, reason, file, row

    def __str__(self) -> str:
        where = f"{short(self.file)}: row {self.row}: " if self.file else ""
        return f"{where}frame {short(self.frame, 200)}: {short(self.reason, 300)}"

    def at(self, file: str, row: int) -> FrameError:
        """The same error, with the row that lists the frame."""
        return FrameError(self.frame, self.reason, file, row)


class MixedSizes(ValueError):
    """A frame of another size than its clip's other frames."""


def why_unreadable(error: Exception) -> str:
    """The reason in words when a picture cannot be read; raises `error` itself when the machine is to blame."""
    if isinstance(error, OSError):
        if error.errno in _MACHINE:
            raise error
        if error.errno == errno.ENOENT:
            return "no such file"
    if isinstance(error, MixedSizes):
        return str(error)
    return f"not a readable picture: {' '.join(str(error).split())}"


UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What PIL raises for one broken picture or another."""


def open_picture(path: str) -> Image.Image:
    """An opened, not yet decoded picture: grey or RGB with 8 bits a channel.

    Raises:
        one of `UNREADABLE`: no picture, or one of another kind.
    """
    image = Image.open(path, formats=FORMATS)
    # PIL gives a 16-bit RGB file as 8-bit RGB, the upper bytes: black, where 12 bits were stored.
    deep = any("16" in str(tile[3]) for tile in image.tile)
    if image.mode not in _MODES or deep:
        image.close()
        raise ValueError(f"picture of mode {image.mode}{', 16 bits' if deep else ''}, expected 8-bit grey or RGB")
    return image


def _header_size(path: str) -> Size:
    try:
        with open_picture(path) as image:
            return image.size
    except UNREADABLE as error:
        raise FrameError(path, why_unreadable(error)) from None


def _refuse_bytes(listed: str) -> None:
    if not is_text(listed):
        raise FrameError(repr(listed), "the name is not valid Unicode")


def _sources_in(folders: Sequence[str]) -> set[str]:
    return {folder.replace("-", "_") for folder in folders} & set(SOURCES)


class FrameRoot:
    """Finds listed frames below one folder, whatever machine their paths were written on.

    Args:
        root: the folder. With `verify` "none" it need not exist.
        verify: one of `VERIFY`. "none" touches no frame file and so cannot see a link that leads out of `root`:
            whoever then opens the frames asks for "exists" at least.
        link_roots: further folders that links may lead into, such as the blobs of a hub's cache.
    """

    def __init__(self, root: str | os.PathLike[str], verify: str = "exists", link_roots: Sequence[str] = ()):
        if verify not in VERIFY:
            raise ValueError(f"verify {verify!r}: expected one of {', '.join(VERIFY)}")
        self.root, self.verify = os.path.realpath(root), verify
        self._allowed = (self.root, *map(os.path.realpath, link_roots))
        if verify != "none" and not os.path.isdir(self.root):
            raise FrameError(str(root), "expected a folder of frames (--frames-root)")
        self._named = _sources_in([*os.path.abspath(root).split("/"), *self.root.split("/")])
        self._folders: dict[str, str] = {}
        self._checked: dict[str, Size | None] = {}
        self._header_size = lru_cache(maxsize=_REMEMBERED)(_header_size)

    def clip(self, paths: Sequence[str]) -> list[str]:
        """The real paths of a clip's listed frames, in order, checked as `verify` says.

        The folder of a frame is the longest tail of its listed folder that exists below the root, or below the
        `valdata` or `testdata` folder in it.

        Raises:
            FrameError: a frame that cannot be found or used; `..`, or a link that leads out of the root; with
                "decode", frames of unlike sizes.
        """
        files = self._in_one_folder(paths) or [self._file(path) for path in paths]
        if self.verify != "none":
            self._check(files, paths)
        return files

    def size(self, path: str) -> Size:
        """(width, height) of a frame that `clip` has found, from the file's header."""
        return self._checked.get(path) or self._header_size(path)

    def _in_one_folder(self, paths: Sequence[str]) -> list[str] | None:
        """`[_file(path), ...]` for plain names in one folder, as nearly all clips have, without a loop over them."""
        if not paths:
            return []
        folder, slash, _ = paths[0].rpartition("/")
        start = folder + slash
        # A text that sorts between two texts with the same prefix has that prefix too.
        least, greatest = min(paths), max(paths)
        # A name that sorts below "0" may be empty, dots or another slash: `_file` looks at each of those.
        if not (slash and least.startswith(start) and greatest.startswith(start)) or least[len(start) :] < "0":
            return None
        at, real = len(start), self._folder(folder, paths[0]) + "/"
        files = [real + path[at:] for path in paths]
        shown = "".join(files)
        plain = shown.isascii() and "\0" not in shown and shown.count("/") == len(files) * real.count("/")
        return files if plain else None

    def _file(self, listed: str) -> str:
        folder, _, name = listed.rpartition("/")
        if name in ("", ".", "..") or "\0" in listed:
            raise FrameError(repr(listed), "expected the name of a file")
        _refuse_bytes(listed)
        return f"{self._folder(folder, listed)}/{name}"

    def _folder(self, folder: str, listed: str) -> str:
        real = self._folders.get(folder)
        if real is None:
            if len(self._folders) >= _REMEMBERED:
                self._folders.clear()
            real = self._folders[folder] = self._search(folder, listed)
        return real

    def _search(self, folder: str, listed: str) -> str:
        _refuse_bytes(folder)
        parts = [part for part in folder.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise FrameError(listed, "a path with .. is refused")
        for at in range(max(len(parts), 1)):
            for top in ("", *PREFIXES[1:]):
                place = os.path.join(self.root, top, *parts[at:])
                if os.path.isdir(place):
                    self._of_its_source(parts[:at], listed, place)
                    return self._inside(os.path.realpath(place), listed)
        rest = "/".join(parts) + "/"
        for prefix in PREFIXES:
            rest = rest.removeprefix(prefix)
        place = os.path.join(self.root, rest.rstrip("/")).rstrip("/")
        if self.verify != "none":
            raise FrameError(listed, f"no folder {place}, nor one of a shorter path below {self.root}")
        return place

    def _of_its_source(self, dropped: Sequence[str], listed: str, place: str) -> None:
        """Refuses a folder of another source: two sources may use the same folder names, such as `videos/VID01`."""
        lost = _sources_in(dropped)
        if lost and self._named and not lost & self._named:
            raise FrameError(listed, f"{place} is of {'/'.join(sorted(self._named))}, not of {'/'.join(sorted(lost))}")

    def _inside(self, path: str, listed: str) -> str:
        if not any(os.path.commonpath([path, root]) == root for root in self._allowed):
            raise FrameError(listed, f"a link leads out of the frames root, to {path} (--link-roots allows it)")
        return path

    def _check(self, files: Sequence[str], listed: Sequence[str]) -> None:
        checked = self._checked
        if len(checked) >= _REMEMBERED:
            checked.clear()
        for at in [at for at, file in enumerate(files) if file not in checked]:
            checked[files[at]] = self._checked_file(files[at], listed[at])
        if self.verify == "decode":
            first = checked[files[0]] if files else None
            for file, path in zip(files, listed, strict=True):
                if checked[file] != first:
                    sizes = " and ".join("{}x{}".format(*size) for size in (first, checked[file]) if size)
                    raise FrameError(path, f"mixed sizes in one clip: {sizes}")

    def _checked_file(self, file: str, listed: str) -> Size | None:
        try:
            found = os.lstat(file)
            if stat.S_ISLNK(found.st_mode):
                found = os.stat(self._inside(os.path.realpath(file), listed))
        except OSError as error:
            if error.errno in _MACHINE:
                raise
            raise FrameError(listed, f"no such file ({file})") from None
        if not stat.S_ISREG(found.st_mode):
            raise FrameError(listed, f"not a file ({file})")
        if found.st_size == 0:
            raise FrameError(listed, f"the file is empty ({file})")
        if self.verify != "decode":
            return None
        try:
            with open_picture(file) as image:
                size = image.size
                # At an eighth of its size a JPEG is read to its end all the same, in half the time.
                image.draft(None, (1, 1))
                image.load()
                return size
        except UNREADABLE as error:
            raise FrameError(listed, why_unreadable(error)) from None


def render(
    path: str,
    size: Size,
    box: Box | None = None,
    canvas: Size | None = None,
    source_size: Size | None = None,
    draft: bool = False,
) -> Image.Image:
    """A frame as the model sees it: RGB, the box drawn at full size, then one bicubic resize.

    Args:
        path: the picture.
        size: (width, height) wanted.
        box: a region to outline, in pixels of `canvas` (of the picture itself without one).
        source_size: the (width, height) that the file has to have.
        draft: let the JPEG decoder scale down to the last half, quarter or eighth above `size`: faster, and a little
            unlike the full decode. A picture with a box is always decoded in full, so that its line is whole.

    Raises:
        one of `UNREADABLE`: no picture, one of another size or kind, or a box that covers nothing of the canvas.
    """
    with open_picture(path) as image:
        if source_size is not None and image.size != tuple(source_size):
            expected = "{}x{}".format(*source_size)
            raise MixedSizes(f"mixed sizes in one clip: {image.width}x{image.height}, expected {expected}")
        if draft and box is None:
            image.draft(None, size)
        frame = rgb(image)
        if box is not None:
            draw_box(frame, box, canvas or frame.size, size)
        return resized(frame, size)


def rgb(image: Image.Image) -> Image.Image:
    """An opened picture's pixels as RGB."""
    if image.mode == "RGBA":
        # On white, as Qwen's own reader shows it.
        frame = Image.new("RGB", image.size, (255, 255, 255))
        frame.paste(image, mask=image.getchannel("A"))
        return frame
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def resized(frame: Image.Image, size: Size) -> Image.Image:
    """A frame at the size that the model sees it in."""
    return frame if frame.size == size else frame.resize(size, Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)


def draw_box(frame: Image.Image, box: Box, canvas: Size, size: Size) -> None:
    """Draws a canvas box on a frame in place, so wide that its line is `BOX_LINE` pixels once resized to `size`."""
    x1, y1, x2, y2 = (round(value) for value in rescale(box, canvas, frame.size))
    x1, x2 = (min(max(x, 0), frame.width - 1) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), frame.height - 1) for y in (y1, y2))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"region box {list(box)} covers nothing of a {canvas[0]}x{canvas[1]} canvas")
    line = max(1, round(BOX_LINE * max(frame.width / size[0], frame.height / size[1])))
    ImageDraw.Draw(frame).rectangle((x1, y1, x2, y2), outline=BOX_COLOUR, width=line)
