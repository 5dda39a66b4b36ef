# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the synthetic truths are drawn from: stretches of frames, orders of labels, moving boxes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from data_preprocess.curation.model import Boxed, Run
from reward_score.boxes import Box


@dataclass(frozen=True)
class Scale:
    """How much is made: videos of a source, seconds of a video, and whether the known errata are in the files.

    `lengths` are the fewest and the most frames over which a label goes on.
    """

    seed: int = 0
    videos: int = 4
    seconds: int = 120
    errata: bool = False
    lengths: tuple[int, int] = (6, 30)

    def dice(self, source: str, video: int) -> random.Random:
        """The dice of one video: it depends on nothing else."""
        return random.Random(f"{self.seed}/{source}/{video}")


def stretches(count: int, rng: random.Random, shortest: int, longest: int) -> list[tuple[int, int]]:
    """Cuts frames 0 to `count` - 1 into neighbouring stretches: (first, last) of each."""
    found, first = [], 0
    while first < count:
        last = first + rng.randint(shortest, longest) - 1
        if count - 1 - last < shortest:
            last = count - 1
        found.append((first, last))
        first = last + 1
    return found


def label_runs(
    labels: Sequence[str],
    count: int,
    rate: float,
    kind: str,
    rng: random.Random,
    lengths: tuple[int, int],
    share: float = 1.0,
) -> list[Run]:
    """Runs over `count` frames at `rate` frames a second; neighbours differ, and `share` of the stretches has a label.

    Labels rise in their order and now and then go back, as phases do. There is at least one run.
    """
    runs: list[Run] = []
    at = 0
    for first, last in stretches(count, rng, *lengths):
        if rng.random() < share or (not runs and last == count - 1):
            runs.append(Run(first / rate, last / rate, labels[at % len(labels)], kind))
        at += -1 if at and rng.random() < 0.25 else 1
    return runs


def moving_box(canvas: tuple[int, int], rng: random.Random) -> Box:
    """A box of a fifth to a third of the canvas that leaves room to move by `drift`."""
    width, height = canvas
    w, h = rng.randint(width // 5, width // 3), rng.randint(height // 5, height // 3)
    x, y = rng.randint(0, width - w - width // 10), rng.randint(0, height - h - height // 10)
    return x, y, x + w, y + h


def drifted(box: Box, step: int, steps: int, canvas: tuple[int, int]) -> Box:
    """The box at a step of its way: by the end it has moved a tenth of the canvas to the right and down."""
    dx, dy = (side / 10 * step / max(steps, 1) for side in canvas)
    x1, y1, x2, y2 = (round(value) for value in (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy))
    return x1, y1, x2, y2


def first_numbers(first: Sequence[int], count: int) -> list[int]:
    """`count` numbers of videos: the given ones, then those that are left."""
    rest = (number for number in range(1, count + len(first) + 1) if number not in first)
    return [*first, *rest][:count]


def boxes_of_runs(
    runs: Sequence[Run], rate: float, canvas: tuple[int, int], rng: random.Random, rounded: bool = True
) -> list[Boxed]:
    """A box for every frame of every run; those of a run move."""
    boxes = []
    for run in runs:
        begin = moving_box(canvas, rng)
        steps = round((run.end - run.start) * rate)
        for step in range(steps + 1):
            boxes.append(Boxed(run.start + step / rate, drifted(begin, step, steps, canvas), run.label))
    return sorted(boxes, key=lambda box: box.time)
