# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Clips of a video: which frames a row lists.

Which clips there are depends on the seed, the source and the video's id alone, so that any part of a set can be made
again by itself, in any order.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_preprocess.curation.model import Clip, Video
from data_preprocess.curation.settings import in_order, open_choice
from data_preprocess.timeline import NATIVE_RATES


@dataclass(frozen=True)
class ClipSettings:
    """How videos are cut; rates, bounds of durations and usual numbers of frames are published."""

    rates: str = open_choice(
        "0.5:63.3,1:22,2:7.5,0.1:3.6,3:3.6",
        "sampling rates (frames a second) and their shares in percent: three are published, the rest lies between "
        "0.1 and 3",
    )
    frames_least: int = open_choice(50, "frames of a clip, from: most published rows list 50 to 181", least=2)
    frames_most: int = open_choice(180, "frames of a clip, up to", least=2)
    shortest: float = open_choice(20.0, "seconds of the shortest clip, as published", least=1)
    longest: float = open_choice(1800.0, "seconds of the longest clip, as published", least=1)
    passes: int = open_choice(2, "how often a video is cut from its beginning to its end: not published", least=1)

    def __post_init__(self) -> None:
        """Raises `ValueError` where no clip fits."""
        shares_of(self.rates)
        in_order(self, ("frames_least", "frames_most"), ("shortest", "longest"))


def dice(seed: int, *names: object) -> random.Random:
    """Dice that depend on a seed and names, and on nothing else."""
    return random.Random("/".join(map(str, (seed, *names))))


@lru_cache(maxsize=64)
def shares_of(rates: str) -> Mapping[float, float]:
    """The rates of a setting and their shares.

    Raises:
        ValueError: a text of another form.
    """
    try:
        pairs = [(float(rate), float(share)) for rate, share in (part.split(":") for part in rates.split(","))]
    except ValueError:
        pairs = []
    if not pairs or not all(0 < value < math.inf for pair in pairs for value in pair):
        raise ValueError(f"rates={rates}: expected RATE:SHARE,RATE:SHARE with numbers above 0")
    return dict(pairs)


class Cutter:
    """Clips of one video.

    Args:
        video: with at least one frame.
        settings: of the clips.
        seed: of everything that is drawn.
    """

    def __init__(self, video: Video, settings: ClipSettings, seed: int):
        self.video, self.settings, self.seed = video, settings, seed
        numbers = video.numbers
        gaps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)} if not isinstance(numbers, range) else ()
        self.step = min(gaps, default=numbers.step if isinstance(numbers, range) else 1)
        self.there = numbers if isinstance(numbers, range) else frozenset(numbers)
        self.own_rate = video.rate / self.step
        self.shares = {rate: share for rate, share in shares_of(settings.rates).items() if self._possible(rate)}
        if not self.shares:
            # No rate is as low as the video's own.
            self.shares = {self.own_rate: 1.0}

    def _possible(self, rate: float) -> bool:
        """Whether the video has as many frames a second, and at even distances where its rate is read off them."""
        stride = self.own_rate / rate
        return stride >= 1 and (self.video.source in NATIVE_RATES or stride == int(stride))

    def all(self) -> Iterator[Clip]:
        """Clips that cover the video, `passes` times, each time cut otherwise."""
        for number in range(self.settings.passes):
            rng = dice(self.seed, self.video.source, self.video.video_id, "pass", number)
            start = 0.0
            while self.video.duration - start >= self.settings.shortest:
                rate, seconds = self.draw(rng)
                end = min(start + seconds, self.video.duration)
                if self.video.duration - end < self.settings.shortest and end - start < self.settings.longest:
                    # What is left would be too short for a clip.
                    end = min(self.video.duration, start + self.settings.longest)
                clip = self.cut(start, end, rate)
                if clip is not None:
                    yield clip
                start = end

    def draw(self, rng: random.Random, whole: float | None = None) -> tuple[float, float]:
        """A rate, and seconds of a clip, within the settings' bounds.

        With `whole` the seconds are given, and the rate is one at which they have no more than `frames_most` frames.
        """
        if whole is not None:
            most = self.settings.frames_most - 1
            fitting = {rate: share for rate, share in self.shares.items() if whole * rate <= most}
            if not fitting:
                return self.own_rate / math.ceil(whole * self.own_rate / most), whole
            return rng.choices(list(fitting), list(fitting.values()))[0], whole
        (rate,) = rng.choices(list(self.shares), list(self.shares.values()))
        frames = rng.randint(self.settings.frames_least, self.settings.frames_most)
        return rate, min(max(frames / rate, self.settings.shortest), self.settings.longest)

    def cut(self, start: float, end: float, rate: float) -> Clip | None:
        """The clip of the frames from `start` to `end` video seconds at a rate; None where fewer than two are there."""
        numbers, video = self.video.numbers, self.video
        low = bisect_left(numbers, video.first + start * video.rate - 1e-6)
        high = bisect_right(numbers, video.first + end * video.rate + 1e-6)
        if high - low < 2:
            return None
        first, last = numbers[low], numbers[high - 1]
        # In steps of the video, so that 25 numbers a second with one frame each stay on that frame.
        stride = self.own_rate / rate
        count = int((last - first) / self.step / stride + 1e-9) + 1
        listed: Sequence[int]
        if stride == int(stride):
            listed = range(first, first + count * int(stride) * self.step, int(stride) * self.step)
        else:
            listed = [first + round(place * stride) * self.step for place in range(count)]
        if not isinstance(self.there, range):
            listed = [number for number in listed if number in self.there]
        return Clip(video, rate, tuple(listed)) if len(listed) > 1 else None
