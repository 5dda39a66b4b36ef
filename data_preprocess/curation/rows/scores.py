# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows that score a stretch of time: the critical view of safety (cvs), and skill (sa)."""

from __future__ import annotations

from collections.abc import Iterator

from data_preprocess.curation.clips import Cutter, dice
from data_preprocess.curation.rows.drafts import Content, Draft
from reward_score.answers import ASPECTS, CVS_COMPONENTS, render_cvs, render_sa

# From this total on, the view counts as reached.
_REACHED = 5


def scored(cutter: Cutter, task: str) -> Iterator[Draft]:
    """A question for each scored stretch, `passes` times; a stretch longer than a clip may be becomes several clips.

    A trial of skill is shown whole: its scores are of all of it.
    """
    video, settings = cutter.video, cutter.settings
    for scores in video.scores:
        for number in range(settings.passes):
            rng = dice(cutter.seed, video.source, video.video_id, "scores", scores.start, number)
            start = scores.start
            # The frame at the end of a stretch may belong to the next one already.
            last = scores.end - (1 / video.rate if task == "cvs" else 0)
            while last - start >= min(settings.shortest, 1.0 if task == "sa" else settings.shortest):
                rate, seconds = cutter.draw(rng, last - start if task == "sa" else None)
                end = min(last, start + seconds)
                clip = cutter.cut(start, end, rate)
                if clip is not None:
                    yield Draft(task, clip, "", scores)
                start = end


def critical_view(draft: Draft) -> Content:
    """The scores of the critical view of safety."""
    values = {name: draft.truth.values[name] for name in CVS_COMPONENTS}
    total = sum(values.values())
    entry = {**values, "total": total, "critical_view_achieved": int(total >= _REACHED)}
    return Content({}, render_cvs(values), [{"cvs_scores": entry}])


def skill(draft: Draft) -> Content:
    """The scores of a trial's skill."""
    values = {aspect: draft.truth.values[aspect] for aspect in ASPECTS}
    entry = {"skill_level": draft.truth.level, "skill_scores": values}
    return Content({"labels": ", ".join(aspect.lower() for aspect in ASPECTS)}, render_sa(values), [entry])
