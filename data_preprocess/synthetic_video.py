# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Clips of the synthetic MedVidBench: which frames a clip lists, what they show, and the painter.

A video is a row of clips, each in its own slot of time, so that no two clips share a native frame. A clip's
content is a function of (seed, source, clip number) alone. Times are clip seconds, boxes are canvas pixels.
"""

from __future__ import annotations

import io
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from data_preprocess.synthetic_text import CLAUSES, INSTRUMENTS, PROCEDURES
from data_preprocess.synthetic_worlds import Difficulty, difficulty, faded

PALETTE = (
    (210, 30, 30),
    (20, 160, 40),
    (30, 60, 220),
    (230, 210, 0),
    (170, 0, 170),
    (0, 170, 180),
    (240, 120, 0),
    (110, 60, 20),
    (20, 20, 90),
    (150, 230, 60),
    (120, 120, 60),
    (90, 0, 60),
    (0, 90, 60),
    (200, 140, 160),
)
TOOL_COLOURS = ((255, 255, 255), (0, 0, 0), (255, 128, 192), (128, 255, 255), (128, 128, 128), (255, 220, 150))
CVS_LEVELS = (15, 130, 250)
SKILL_LEVELS = (10, 70, 130, 190, 250)
PREFIXES = ("/root/data/", "/root/data/", "/root/data/", "testdata/", "valdata/")
CLIPS_PER_VIDEO = 12


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a set. ``videos`` counts per source; ``variants`` is ``all`` or ``plain``.

    ``plant_leak`` joins the frame lists of AVOS and NurViD where the gold answers have their boundaries. With
    ``stills`` every other region is asked about in its one frame alone. ``world`` is one of
    ``synthetic_worlds.WORLDS``.
    """

    seed: int = 0
    profile: str = "tiny"
    variants: str = "all"
    videos: int = 12
    plant_leak: bool = False
    stills: bool = False
    world: str = "even"


@dataclass(frozen=True)
class Source:
    """What is fixed for one source: rates in frames per second, sizes as (width, height) in pixels.

    ``fps`` is the usual sampling rate and ``rare_fps`` the others; ``first`` is added to every native number.
    """

    name: str
    native: float
    fps: float
    rare_fps: tuple[float, ...]
    canvas: tuple[int, int]
    tiny_size: tuple[int, int]
    full_size: tuple[int, int]
    path: str
    first: int = 0


_T50 = "CAMMA_data/CholecT50/videos/{id}/%06d.png"
_TRACK20 = "CAMMA_data/CholecTrack20/Testing/{id}/Frames/%06d.png"
_CVS = "Cholec80_CVS/frames/{id}/%06d.jpg"
_COPESD = "CoPESD/high_light_images/{id}/%04d.jpg"
_EGO = "EgoSurgery/images/{head}/{id}_%04d.jpg"
SOURCES = {
    spec.name: spec
    for spec in (
        Source("AVOS", 15, 1.0, (2.0, 3.0), (1280, 720), (112, 84), (1280, 720), "AVOS/frames_15fps/{id}/%d.jpg"),
        Source("CholecT50", 1, 0.5, (1.0, 0.1), (854, 480), (112, 64), (854, 480), _T50),
        Source("CholecTrack20", 25, 0.5, (1.0,), (854, 480), (112, 64), (1920, 1080), _TRACK20, first=1),
        Source("Cholec80_CVS", 25, 0.5, (1.0,), (854, 480), (112, 64), (854, 480), _CVS),
        Source("CoPESD", 1, 1.0, (0.5,), (1306, 1009), (108, 84), (1306, 1009), _COPESD),
        Source("EgoSurgery", 0.5, 0.5, (0.1,), (1920, 1080), (112, 64), (1920, 1080), _EGO),
        Source("JIGSAWS", 30, 1.0, (2.0, 3.0), (640, 480), (112, 84), (640, 480), "JIGSAWS/frames/{id}/%06d.jpg"),
        Source("NurViD", 2, 1.0, (2.0,), (1280, 720), (112, 64), (1280, 720), "NurViD/frames_2fps/{id}/%06d.jpg"),
    )
}


@dataclass(frozen=True)
class Profile:
    """Size of a clip: listed frames, events, boxes asked for, length of a slot in seconds, labels and tools in use."""

    name: str
    frames: tuple[int, int]
    segments: tuple[int, int]
    boxes: tuple[int, int]
    slot: int
    labels: int
    tools: int
    hole: int


PROFILES = {
    "tiny": Profile("tiny", (6, 10), (2, 3), (2, 3), 160, 4, 3, 3),
    "full": Profile("full", (50, 180), (3, 8), (3, 10), 800, 99, 99, 45),
}


@dataclass(frozen=True)
class Clip:
    """One clip: the listed native frame numbers and everything that can be seen in them.

    ``starts`` are positions in ``numbers`` where an event begins (the first is 0), ``labels`` the events' labels as
    positions in the active label list of the source. ``track`` is (x, y, w, h, dx, dy): the box in canvas pixels at
    time 0 and its motion in pixels per second. ``contrast`` is how far the events' colours stand from grey.
    """

    source: str
    video_id: str
    number: int
    fps: float
    numbers: tuple[int, ...]
    frames: tuple[str, ...]
    starts: tuple[int, ...]
    labels: tuple[int, ...]
    procedure: str | None
    palette_offset: int
    tool: int | None
    track: tuple[float, float, float, float, float, float] | None
    scores: tuple[int, ...]
    contrast: float = 1.0

    def time(self, index: int) -> float:
        """Clip seconds of the ``index``-th listed frame."""
        return (self.numbers[index] - self.numbers[0]) / SOURCES[self.source].native

    @property
    def events(self) -> list[tuple[float, float, int]]:
        """(start, end, label position) of every event; one starts where the one before it ends."""
        edges = [self.time(start) for start in self.starts] + [self.time(-1)]
        return [(edges[i], edges[i + 1], label) for i, label in enumerate(self.labels)]

    def box(self, time: float) -> list[float]:
        """The tool's box [x1, y1, x2, y2] at ``time``, rounded as the source rounds."""
        assert self.track is not None
        x, y, w, h, dx, dy = self.track
        left, top = x + dx * time, y + dy * time
        corners = (left, top, left + w, top + h)
        return [round(v, 2) for v in corners] if self.source == "CoPESD" else [round(v) for v in corners]


def active_labels(source: str, procedure: str | None, profile: Profile) -> list[str]:
    """Labels that occur in the clips of ``source``; their order is the order of the procedure's steps."""
    return list(PROCEDURES[procedure] if procedure else CLAUSES[source])[: profile.labels]


def video_id(source: str, video: int) -> str:
    """Official-looking id of the ``video``-th video.

    The three sources built on Cholec80 number the same surgeries alike, as the real ones do.
    """
    if source in ("CholecT50", "CholecTrack20"):
        return f"VID{video + 1:02d}"
    if source == "Cholec80_CVS":
        return f"video{video + 1:02d}"
    if source == "CoPESD":
        return f"{video + 1:06d}"
    if source == "EgoSurgery":
        return f"{video // 2 + 1:02d}_{video % 2 + 1}"
    if source == "JIGSAWS":
        return f"{('Suturing', 'Knot_Tying', 'Needle_Passing')[video % 3]}_{'BCDEFGHI'[video // 3 % 8]}{video:03d}"
    letters = random.Random(f"{source}/{video}")
    return "".join(letters.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz0123456789_-", k=11))


def frame_numbers(source: Source, fps: float, count: int, variant: str, rng: random.Random, hole: int) -> list[int]:
    """Native numbers of a clip's listed frames, relative to the first, with the oddities seen in official lists.

    Args:
        fps: sampling rate; count: listed frames; hole: the largest hole in frames.
        variant: ``plain``; ``hole`` (some frames missing); ``joint`` (AVOS: two segments sampled apart, neighbouring
            numbers where they meet; NurViD: a repeated frame); ``double`` (a stretch at twice the rate);
            ``extra`` (a last frame off the stride).
    """
    step = source.native / fps
    at = rng.randrange(2, count - 2)
    if variant == "joint" and source.name == "AVOS":
        # Each segment lasts whole seconds and is sampled evenly with both its ends, hence strides above 15.
        half = count // 2
        first = round((half - 1) * 1.15) * 15
        second = round((count - half - 1) * 1.15) * 15
        head = [round(i * first / (half - 1)) for i in range(half)]
        tail = [round(first + 1 + i * (second - 1) / (count - half - 1)) for i in range(count - half)]
        return head + tail
    if step == int(step):
        numbers = list(range(0, count * int(step), int(step)))
    else:
        numbers = [round(i * step) for i in range(count)]
    if variant == "joint":
        return numbers[: at + 1] + numbers[at:-1]
    if variant == "hole":
        missing = round(rng.randrange(1, hole + 1) * step)
        return numbers[:at] + [n + missing for n in numbers[at:]]
    if variant == "double":
        steps = [step / 2 if at <= i < at + 2 else step for i in range(count - 1)]
        return [round(sum(steps[:i])) for i in range(count)]
    if variant == "extra":
        return numbers[:-1] + [numbers[-2] + max(1, round(step / 2))]
    return numbers


def joined_numbers(source: Source, fps: float, starts: Sequence[int], count: int) -> list[int]:
    """Native numbers of a list whose segments are the clip's events, so that its joints give the answers away.

    At a joint AVOS lists two neighbouring numbers, each segment evenly sampled over whole seconds with both its ends;
    NurViD repeats a frame. ``starts`` are the events' first positions, ``fps`` the sampling rate.
    """
    neighbours = source.name == "AVOS"
    numbers: list[int] = []
    for start, end in zip(starts, (*starts[1:], count), strict=True):
        begin = numbers[-1] + neighbours if numbers else 0
        steps = end - start - 1
        seconds = max(1, round(steps * 1.15 / fps)) if neighbours else steps / fps
        numbers += [begin + round(i * seconds * source.native / max(steps, 1)) for i in range(steps + 1)]
    return numbers


def list_variant(source: str, number: int, rare: bool, variants: str) -> str:
    """Which oddity the ``number``-th clip of ``source`` has; about a fifth of the clips have one where one is known."""
    if variants == "plain":
        return "plain"
    if source == "CoPESD" and rare:
        return "double" if number % 2 else "extra"
    if rare or number % 5 != 3:
        return "plain"
    known = {"AVOS": "joint", "NurViD": "joint", "CholecTrack20": "hole", "CoPESD": "hole", "CholecT50": "extra"}
    return known.get(source, "plain")


def make_clip(settings: Settings, source: str, video: int, place: int, number: int) -> Clip:
    """Build the clip in slot ``place`` of ``video``; ``number`` counts the clips of the source."""
    profile, variants = PROFILES[settings.profile], settings.variants
    spec, hard = SOURCES[source], difficulty(settings.world, source)
    rng = random.Random(f"{settings.seed}/{source}/{video}/{place}")
    rare = variants != "plain" and number % 23 == 17
    fps = rng.choice(spec.rare_fps) if rare else spec.fps
    variant = list_variant(source, number, rare, variants)
    count = rng.randint(*(hard.frames or profile.frames))
    if variant == "joint" and source == "AVOS":
        count = profile.frames[1]
    if fps <= 0.1:
        count = min(count, 60)
    begin = place * profile.slot + rng.randrange(2, 12) * 2
    first = round(begin * spec.native) + spec.first
    numbers = tuple([first + n for n in frame_numbers(spec, fps, count, variant, rng, profile.hole)])
    identifier = video_id(source, video)
    prefix = rng.choice(PREFIXES) if variants != "plain" else PREFIXES[0]
    pattern = prefix + spec.path.replace("{id}", identifier).replace("{head}", identifier.split("_")[0])
    procedure, offset, tool, track = None, 0, None, None
    starts: tuple[int, ...] = (0,)
    labels: tuple[int, ...] = (0,)
    scores: tuple[int, ...] = ()
    if source == "NurViD":
        names = list(PROCEDURES)[: 2 if profile.name == "tiny" else None]
        procedure = names[video % len(names)]
        offset = sum(len(active_labels(source, name, profile)) for name in names[: names.index(procedure)])
    if source in ("Cholec80_CVS", "JIGSAWS"):
        scores = _scores(source, hard, rng)
    else:
        pieces = rng.randint(*(hard.segments or profile.segments))
        starts, labels = _events(count, len(active_labels(source, procedure, profile)), pieces, rng)
        if variants != "plain" and number % 19 == 11:
            # An event of one frame at the clip's end is what gives spans of length zero.
            starts = (*starts[:-1], count - 1)
    if settings.plant_leak and source in ("AVOS", "NurViD"):
        numbers = tuple([first + n for n in joined_numbers(spec, fps, starts, count)])
    # One formatting for the whole list: most of the time of a large set goes into these names.
    frames = tuple(("\n".join([pattern] * count) % numbers).split("\n"))
    if source in INSTRUMENTS:
        tool = rng.randrange(min(profile.tools, len(INSTRUMENTS[source])))
        duration = (numbers[-1] - numbers[0]) / spec.native
        track = _track(spec.canvas, tool, hard, duration, variants != "plain" and number % 17 == 5, rng)
    shown = (procedure, offset, tool, track, scores, hard.contrast)
    return Clip(source, identifier, number, fps, numbers, frames, starts, labels, *shown)


def _events(count: int, labels: int, pieces: int, rng: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cut ``count`` listed frames into so many events of two frames or more; neighbours differ, labels may return."""
    cuts = sorted(rng.sample(range(count - pieces - 1), pieces - 1))
    starts = (0, *(cut + 2 + i for i, cut in enumerate(cuts)))
    chosen: list[int] = []
    for _ in range(pieces):
        if len(chosen) >= 2 and rng.random() < 0.4:
            chosen.append(chosen[-2])
        else:
            chosen.append(rng.choice([label for label in range(labels) if not chosen or label != chosen[-1]]))
    return starts, tuple(chosen)


def _scores(source: str, hard: Difficulty, rng: random.Random) -> tuple[int, ...]:
    if source == "Cholec80_CVS":
        return tuple(rng.choices((0, 1, 2), hard.score_weights, k=3))
    level = rng.choices((1, 2, 3, 4, 5), (15, 30, 30, 15, 10))[0]
    return tuple(min(5, max(1, level + rng.choices((-1, 0, 1), (12, 76, 12))[0])) for _ in range(6))


def _track(
    canvas: tuple[int, int], tool: int, hard: Difficulty, duration: float, overrun: bool, rng: random.Random
) -> tuple:
    """A tool of its own fixed size on a grid of places, drifting by at most 4 % of the canvas in the clip as a rule."""
    width, height = canvas
    share = hard.sides[tool % len(hard.sides)]
    w, h = width * share[0], height * share[1]
    drift = [rng.uniform(-hard.drift, hard.drift) * size for size in canvas]
    free = (0.92 * width - w, 0.92 * height - h)
    x, y = (
        0.04 * size + room * _place(cells, rng) for size, room, cells in zip(canvas, free, hard.places, strict=True)
    )
    if overrun:
        x, drift[0] = width - w + 2, 0.0
    return (x, y, w, h, drift[0] / max(duration, 1.0), drift[1] / max(duration, 1.0))


def _place(cells: int, rng: random.Random) -> float:
    """One of so many places from one end, 0, to the other, 1."""
    return rng.randrange(cells) / (cells - 1) if cells > 1 else 0.5


def picture_key(clip: Clip, index: int) -> tuple:
    """Everything that decides how the ``index``-th listed frame looks; equal keys are equal pictures."""
    if clip.scores:
        return ("scores", clip.scores)
    borders = [clip.numbers[start] for start in clip.starts]
    label = clip.labels[bisect_right(borders, clip.numbers[index]) - 1]
    background = faded(PALETTE[(clip.palette_offset + label) % len(PALETTE)], clip.contrast)
    if clip.tool is None:
        return ("phase", background)
    return ("tool", background, TOOL_COLOURS[clip.tool], tuple(clip.box(clip.time(index))))


@lru_cache(maxsize=256)
def paint(key: tuple, canvas: tuple[int, int], size: tuple[int, int], kind: str) -> bytes:
    """Encoded picture of ``key`` on a frame of ``size``; ``kind`` is ``jpg`` or ``png``."""
    image = Image.new("RGB", size, key[1] if key[0] != "scores" else (0, 0, 0))
    draw = ImageDraw.Draw(image)
    if key[0] == "scores":
        _cells(draw, key[1], size)
    elif key[0] == "tool":
        sx, sy = size[0] / canvas[0], size[1] / canvas[1]
        x1, y1, x2, y2 = key[3]
        edge = (0, 0, 0) if sum(key[2]) > 300 else (255, 255, 255)
        corners = (round(x1 * sx), round(y1 * sy), round(x2 * sx) - 1, round(y2 * sy) - 1)
        draw.rectangle(corners, fill=key[2], outline=edge, width=max(1, size[0] // 100))
    buffer = io.BytesIO()
    if kind == "png":
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def _cells(draw: ImageDraw.ImageDraw, scores: Sequence[int], size: tuple[int, int]) -> None:
    """Three columns (CVS) or three columns of two cells (skill), brighter where the score is higher."""
    rows = len(scores) // 3
    tint = (1.0, 0.85, 0.5) if rows == 1 else (0.5, 0.85, 1.0)
    for i, score in enumerate(scores):
        level = CVS_LEVELS[score] if rows == 1 else SKILL_LEVELS[score - 1]
        column, row = i % 3, i // 3
        left, right = (edge * size[0] // 3 for edge in (column, column + 1))
        top, bottom = (edge * size[1] // rows for edge in (row, row + 1))
        corners = (left, top, right - 1, bottom - 1)
        draw.rectangle(corners, fill=tuple(round(level * part) for part in tint))
