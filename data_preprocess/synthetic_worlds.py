# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How hard the sources of a synthetic set are: the worlds of docs/collapse.md.

What makes a source hard or easy can be seen in its frames: how large the instrument is, in how many places it stands,
how far it wanders, how many events a clip has, how strong their colours are. Answers always say what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

SIDES = ((0.26, 0.42), (0.32, 0.36), (0.22, 0.48))


@dataclass(frozen=True)
class Difficulty:
    """How a source's clips are drawn.

    Attributes:
        sides: of the box of each of three instruments, (width, height) as shares of the canvas.
        places: columns and rows of the grid that an instrument stands on; 1 is the middle.
        drift: the farthest that it moves in a clip, as a share of the canvas, on either axis.
        segments: events of a clip, (least, most), None for those of the profile.
        frames: listed frames of a clip, (least, most), None for those of the profile.
        contrast: how far colours stand from grey, 1 for the palette's own.
        score_weights: how often a criterion of the critical view of safety is 0, 1 or 2.
    """

    sides: tuple[tuple[float, float], ...] = SIDES
    places: tuple[int, int] = (4, 3)
    drift: float = 0.04
    segments: tuple[int, int] | None = None
    frames: tuple[int, int] | None = None
    contrast: float = 1.0
    score_weights: tuple[int, int, int] = (50, 30, 20)


def _scaled(factor: float) -> tuple[tuple[float, float], ...]:
    return tuple([(width * factor, height * factor) for width, height in SIDES])


EVEN = Difficulty()
WORLDS: dict[str, dict[str, Difficulty]] = {
    "even": {},
    "heterogeneous": {
        # An endoscope looks at its knife: one size, always in the middle. What is hard is the times.
        "CoPESD": Difficulty(sides=((0.62, 0.7),) * 3, places=(1, 1), drift=0.0),
        # A head camera is near the hands: the instrument is large, and anywhere.
        "EgoSurgery": Difficulty(sides=_scaled(1.9)),
        # Short events in colours that are nearly alike.
        "NurViD": Difficulty(segments=(4, 4), frames=(8, 10), contrast=0.25),
        # Hardly ever anything but nothing.
        "Cholec80_CVS": Difficulty(score_weights=(92, 5, 3)),
    },
}
"""By world the sources that differ from `EVEN`, the set as it always was."""


def difficulty(world: str, source: str) -> Difficulty:
    """Of a source in a world of `WORLDS`."""
    return WORLDS[world].get(source, EVEN)


def faded(colour: tuple[int, int, int], contrast: float) -> tuple[int, int, int]:
    """A colour moved towards grey; itself with a contrast of 1."""
    red, green, blue = (round(128 + (part - 128) * contrast) for part in colour)
    return red, green, blue
