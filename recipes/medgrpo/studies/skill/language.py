# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a language model says of the same trials, from the answers that `generate --one-shot` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recipes.medgrpo.files import InputError, read_json_lines
from recipes.medgrpo.studies.skill.figures import Answers
from recipes.medgrpo.studies.skill.items import Trial
from reward_score.answers import ASPECTS, parse_sa


def read_answers(file: Path) -> dict[str, str]:
    """The answers of a file by the name of the features of the row that they answer.

    Raises:
        InputError: no answers, or lines that `generate` did not write.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_json_lines(file), 1):
        if "header" in line:
            continue
        if not {"place", "answer"} <= set(line):
            raise InputError(f"{file}: line {number}: expected place and answer, as generate writes them")
        found.setdefault(f"row{line['place']:06d}.npy", str(line["answer"]))
    if not found:
        raise InputError(f"{file}: expected answers that generate wrote, found none")
    return found


def said_of(trials: Sequence[Trial], said: Mapping[str, str], cuts: Sequence[int], file: Path) -> Answers:
    """The answers about a domain's trials: the class of the total of the six marks, the mean over a trial's recordings.

    An answer without all six marks names no class, and is below every other in order.

    Raises:
        InputError: a recording without an answer.
    """
    found = Answers(trials, len(cuts) + 1)
    classes = np.zeros((len(trials), len(cuts) + 1))
    totals = np.zeros(len(trials))
    for at, trial in enumerate(trials):
        for recording in trial.files:
            if recording not in said:
                raise InputError(f"{file}: no answer to {recording.removesuffix('.npy')} ({trial.name})")
            marks = parse_sa(said[recording]).value
            if len(marks) == len(ASPECTS):
                total = sum(marks.values())
                classes[at, sum(total >= cut for cut in cuts)] += 1 / len(trial.files)
                totals[at] += total / len(trial.files)
    # A class is likelier the nearer the total is to it; only the order counts.
    centres = np.convolve([6, *cuts, 30], [0.5, 0.5], "valid")
    scores = -np.abs(totals[:, None] - centres) if len(cuts) > 1 else np.stack([-totals, totals], axis=1)
    found.record(np.arange(len(trials)), classes[None], scores[None])
    return found
