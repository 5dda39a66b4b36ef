# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Rows about labels in time: when an action or phase takes place (tal), and which comes next (nap)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_preprocess.curation.clips import Cutter, dice
from data_preprocess.curation.model import Clip, Run
from data_preprocess.curation.rows.drafts import Content, Draft, RowSettings
from reward_score.answers import Span, render_tal
from reward_score.vocabularies import same_label

KINDS = {"AVOS": "action", "CholecT50": "phase", "CoPESD": "action", "EgoSurgery": "phase", "NurViD": "action"}
"""Which labels of a source are asked for."""

# Answers have one decimal.
_DECIMALS = 1


def groundings(clip: Clip, settings: RowSettings) -> Iterator[Draft]:
    """A question for each label that takes place in the clip."""
    spans: dict[str, list[Span]] = {}
    for run in clip.runs(KINDS[clip.video.source]):
        spans.setdefault(run.label, []).append((run.start, run.end))
    for label, found in spans.items():
        merged = merge(found, settings.merge)
        if any(end - start < settings.event_shortest for start, end in merged) or len(merged) > settings.spans_most:
            # Part of the answer could not be asked for, and an answer without it would be wrong.
            continue
        truth = [(round(start, _DECIMALS), round(end, _DECIMALS)) for start, end in merged]
        if settings.whole_clip == "leave_out" and truth[0][0] <= 0 and truth[0][1] >= round(clip.duration, _DECIMALS):
            continue
        yield Draft("tal", clip, label, truth)


def merge(spans: Sequence[Span], gap: float) -> list[Span]:
    """Spans in order, those that overlap, touch, or are at most `gap` seconds apart made one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def grounding(draft: Draft) -> Content:
    """The answer to a temporal grounding."""
    video, kind = draft.clip.video, KINDS[draft.clip.video.source]
    labels = video.labels[kind]
    spans = [{"start": start, "end": end} for start, end in draft.truth]
    entry: dict[str, object] = {"action" if kind == "action" else "phase": draft.target, "spans": spans}
    if video.source == "NurViD":
        entry = {"procedure": video.procedure, "action_list": labels, **entry}
    listed = ", ".join(labels if draft.target in labels else [*labels, draft.target])
    return Content({"labels": listed, "target": draft.target, "kind": kind}, render_tal(draft.truth), [entry])


def next_actions(cutter: Cutter, settings: RowSettings) -> Iterator[Draft]:
    """A question for each change of label, `passes` times: the clip ends before the next label begins."""
    video = cutter.video
    kind = KINDS[video.source]
    runs = video.of_kind(kind)
    for before, after in zip(runs, runs[1:], strict=False):
        if before.start >= after.start or not _known(after, video.labels[kind], video.source):
            # Two begin at once, so that neither is the next one.
            continue
        for number in range(cutter.settings.passes):
            rng = dice(cutter.seed, video.source, video.video_id, "next", after.start, number)
            rate, seconds = cutter.draw(rng)
            # The last frame shows nothing of what comes.
            end = after.start - max(1 / video.rate, rng.uniform(0, min(settings.next_within, after.start / 2)))
            start = max(0.0, end - seconds)
            clip = cutter.cut(start, end, rate) if end - start >= cutter.settings.shortest else None
            latest = after.start - settings.next_within - 1 / rate
            if clip is not None and max(before.start, latest) <= clip.end < after.start:
                yield Draft("nap", clip, after.label, None)


def _known(run: Run, labels: Sequence[str], source: str) -> bool:
    return any(same_label(run.label, label, source) for label in labels)


def next_action(draft: Draft) -> Content:
    """The answer to a question for the next action."""
    kind = KINDS[draft.clip.video.source]
    options = list(draft.clip.video.labels[kind])
    return Content({"options": options, "kind": kind}, draft.target, [{"next_action": draft.target}])
