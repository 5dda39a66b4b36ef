# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Labels of single frames to runs: stretches of time with one label."""

from __future__ import annotations

from collections.abc import Iterable

from data_preprocess.curation.model import Run


def runs_of(labelled: Iterable[tuple[float, str]], kind: str, hole: float) -> list[Run]:
    """Runs of equal labels, from the first frame's time to the last one's.

    A frame may have several labels, and then is in several runs. A run ends where its label is missing from a frame
    that is there, or where no frame is there for more than `hole` seconds.

    Args:
        labelled: (video seconds, label) of each frame in order of time; an empty label is none.
        kind: the runs' kind.
        hole: seconds between neighbouring frames up to which a run goes on.
    """
    runs: list[Run] = []
    going: dict[str, tuple[float, float]] = {}
    now: float | None = None
    before: float | None = None

    def end(labels: Iterable[str]) -> None:
        runs.extend(Run(*going.pop(label), label, kind) for label in labels)

    for time, label in labelled:
        if time != now:
            end([name for name, (_, last) in going.items() if last != now])
            before, now = now, time
            if before is not None and time - before > hole:
                end(list(going))
        if label:
            going[label] = (going.get(label, (time, time))[0], time)
    end([name for name, (_, last) in going.items() if last != now])
    end(list(going))
    return sorted(runs, key=lambda run: (run.start, run.end, run.label))
