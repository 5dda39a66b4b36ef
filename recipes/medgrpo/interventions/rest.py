# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What comes after an element: of the reference, and of what a model goes on to say. Only this is scored."""

from __future__ import annotations

from typing import Any

from recipes.medgrpo.interventions.location import ELEMENTS, Asked, Mistake
from reward_score.pieces import PIECES


def what_is_left(asked: Asked, mistake: Mistake) -> dict[str, Any]:
    """The ground truth of what comes after a correction: the reference without what is there by then."""
    field = ELEMENTS[asked.task].field
    held, target = asked.ground_truth[field], PIECES[asked.task](asked.target)
    left: Any
    if isinstance(held, str):
        left = " ".join(target[number].value for number in mistake.left)
    elif isinstance(held, list):
        left = [held[number] for number in mistake.left]
    elif field == "boxes":
        times = sorted(held, key=float)
        # The least gap between all times, which is what the reward goes by, and not between those that are left.
        return {**asked.ground_truth, "boxes": {times[n]: held[times[n]] for n in mistake.left}, "stride": asked.stride}
    else:
        left = {name: held[name] for name, _ in (target[number].value for number in mistake.left)}
    return {**asked.ground_truth, field: left}


def what_comes_after(asked: Asked, mistake: Mistake, said: str, *, corrected: bool) -> list[str]:
    """What a continuation says beyond the element, as answers that can be scored against `what_is_left`.

    Without the correction the right element may still come. Beside the whole there is then a second reading without
    it, and the better one counts: it is neither rewarded nor punished, as an answer that recovers needs no correction.
    """
    text = said.lstrip(" ,\n")
    if corrected:
        return [text]
    right, gold = ELEMENTS[asked.task].right, PIECES[asked.task](asked.target)[mistake.gold].value
    pieces = PIECES[asked.task](text)
    for at, piece in enumerate(pieces):
        if right(piece.value, gold, asked):
            if len(pieces) == 1:
                return [text, ""]
            if at == 0:
                return [text, text[pieces[1].start :]]
            return [text, text[: pieces[at - 1].end] + text[piece.end :]]
    return [text]
