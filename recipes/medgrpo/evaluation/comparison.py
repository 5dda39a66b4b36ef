# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two evaluations of the same rows: what differs, by how much, and whether chance would do the same.

For each figure the difference second - first, on the rows that both have:

- its 95 % interval, by bootstrap over videos, both evaluations resampled alike;
- p: the two answers of a video are exchangeable if the two models are alike, so all answers of a video change sides
  together, at random; p is the share of such exchanges with at least the observed difference. For a mean this is the
  sign-flip test; it is as valid for a column that is no mean. With at most `EXACT` videos all exchanges are tried;
- d: mean over videos of the difference within a video, by its standard deviation (paired Cohen's d);
- Holm's correction of p over the figures that are read together: the columns; in strict mode, of one figure, the
  tasks, the pairs, and overall the figures.

`compare` takes two evaluations with all of their figures, `paired_difference` one number of sampled answers, of one run
or of several together. `by_video` has the statistic of the registered trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from recipes.medgrpo.evaluation.intervals import Evaluation, groups_of
from recipes.medgrpo.evaluation.strict import parts_of
from recipes.medgrpo.files import InputError
from reward_score.bootstrap import RESAMPLES, Bootstrap, finite, interval
from reward_score.leaderboard.figures import Figures, layout_of
from reward_score.statistics import is_finite

FLIPS = 10_000
"""Exchanges that are drawn where there are more than `EXACT` videos."""
EXACT = 12
NOISE = 1e-12
"""Exchanges that differ from the observed difference by rounding alone count as equal to it."""
AT_ONCE = 2_000
"""Exchanges per block, which bounds the memory."""


class ComparisonError(InputError):
    """Two evaluations do not answer the same questions."""


@dataclass(frozen=True)
class Difference:
    """One figure of two evaluations.

    Attributes:
        first, second, difference: None where a figure is undefined on the shared rows.
        low, high: of the difference; None below two videos.
        p, p_holm: two-sided; `exact` says whether all exchanges were tried.
        effect: paired Cohen's d over videos, None where the videos do not vary.
        rows, videos: how many stand behind it.
        undefined: resamples left out because a figure was undefined in them.
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    exact: bool
    effect: float | None
    rows: int
    videos: int
    undefined: int


@dataclass(frozen=True)
class Comparison:
    """Differences by level and group as in `Evaluation.scores`, and the rows that were not compared.

    Attributes:
        only_first, only_second: rows that the other evaluation lacks; left_out: rows that one of them could not score.
        Each a list of "file: row" texts.
    """

    mode: str
    rows: int
    videos: int
    scores: dict[str, dict[str, dict[str, Difference]]]
    only_first: list[str]
    only_second: list[str]
    left_out: list[str]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def _keys(evaluation: Evaluation, with_file: bool) -> dict[tuple, int]:
    keys: dict[tuple, int] = {}
    for number, row in enumerate(evaluation.rows):
        key = (row.file if with_file else "", row.index, row.data_source)
        if key in keys:
            raise ComparisonError(f"{row.file}: row {row.index} ({row.data_source}) is there twice in one evaluation")
        keys[key] = number
    return keys


def _named(evaluation: Evaluation, positions: Sequence[int]) -> list[str]:
    return [f"{evaluation.rows[number].file}: row {evaluation.rows[number].index}" for number in positions]


def _match(first: Evaluation, second: Evaluation) -> tuple[np.ndarray, np.ndarray, Comparison]:
    """Positions of the shared rows in both, and a comparison that names the others."""
    if first.mode != second.mode:
        raise ComparisonError(f"one evaluation is {first.mode}, the other {second.mode}: the same mode is needed")
    # One file each: it may have another name.
    with_file = max(len({row.file for row in side.rows}) for side in (first, second)) > 1
    keys = _keys(first, with_file), _keys(second, with_file)
    shared = [key for key in keys[0] if key in keys[1]]
    if not shared:
        raise ComparisonError("the two evaluations share no row (file, index, pair)")
    unscored = [{loss.row for loss in side.parts.losses} for side in (first, second)]
    kept: list[tuple[int, int]] = []
    left_out: list[tuple[int, int]] = []
    for key in shared:
        here, there = keys[0][key], keys[1][key]
        if _gold(first, here) != _gold(second, there):
            row = first.rows[here]
            raise ComparisonError(f"{row.file}: row {row.index}: the two evaluations hold different references for it")
        (left_out if here in unscored[0] or there in unscored[1] else kept).append((here, there))
    at = np.array(kept, dtype=int).reshape(-1, 2)
    named = Comparison(
        first.mode,
        len(kept),
        len({first.rows[here].video for here in at[:, 0]}),
        {},
        _named(first, [number for key, number in keys[0].items() if key not in keys[1]]),
        _named(second, [number for key, number in keys[1].items() if key not in keys[0]]),
        _named(first, [here for here, _ in left_out]),
    )
    return at[:, 0], at[:, 1], named


def _gold(evaluation: Evaluation, position: int) -> str | None:
    """A row's reference, such that equal ones are equal though they hold nan."""
    row = evaluation.rows[position]
    if evaluation.mode == "strict":
        return row.ground_truth
    return repr((row.record.get("gnd"), row.record.get("struc_info")))


def exchanges(videos: int, seed: int) -> tuple[np.ndarray, bool]:
    """Which videos change sides, array (exchanges, videos), and whether these are all there are."""
    if videos <= EXACT:
        return (np.arange(2**videos)[:, None] >> np.arange(videos) & 1).astype(float), True
    return np.random.default_rng(seed).integers(0, 2, (FLIPS, videos)).astype(float), False


def exchange_p(reached: Any, tried: Any, exact: bool) -> Any:
    """The share of exchanges that reach the observed difference.

    The observed sides are one of the possible exchanges: among all of them, or beside those that were drawn.
    """
    extra = 0 if exact else 1
    return (reached + extra) / np.maximum(tried + extra, 1)


def _p_values(
    figures: Figures, first: np.ndarray, second: np.ndarray, observed: np.ndarray, seed: int
) -> tuple[np.ndarray, bool]:
    """p of every figure; `first` and `second` are cells by video."""
    change = second - first
    moved = change.any(axis=1)  # a video with the same numbers on both sides changes nothing
    tries, exact = exchanges(int(moved.sum()), seed)
    before, after = first.sum(0), second.sum(0)
    reached, tried = np.zeros(len(observed)), np.zeros(len(observed))
    for start in range(0, len(tries), AT_ONCE):
        shift = tries[start : start + AT_ONCE] @ change[moved]
        found = figures.values(after - shift) - figures.values(before + shift)
        tried += (~np.isnan(found)).sum(0)
        reached += (np.abs(found) >= np.abs(observed) - NOISE).sum(0)
    return exchange_p(reached, tried, exact), exact


def _differences(
    figures: Figures, first: np.ndarray, second: np.ndarray, drawn: np.ndarray, seed: int
) -> dict[str, Difference]:
    """Every figure with rows behind it; `first` and `second` are cells by video, array (videos, cells)."""
    behind = np.minimum(figures.support(first), figures.support(second))
    used = first.any(axis=1) | second.any(axis=1)
    first, second, behind, drawn = first[used], second[used], behind[used], drawn[:, used]
    totals = figures.values(first.sum(0)), figures.values(second.sum(0))
    observed = totals[1] - totals[0]
    resampled = figures.values(drawn @ second) - figures.values(drawn @ first)
    p, exact = _p_values(figures, first, second, observed, seed)
    changes = pd.DataFrame(figures.values(second) - figures.values(first))  # nan where a video has no figure
    effects = changes.mean() / changes.std().where(lambda spread: spread > NOISE)
    found = {}
    for column, name in enumerate(figures.names):
        rows, videos = round(behind[:, column].sum()), int((behind[:, column] > 0).sum())
        if not rows:
            continue
        low, high, undefined = interval(resampled[:, column], videos)
        known = not np.isnan(observed[column])
        found[name] = Difference(
            first=finite(totals[0][column]),
            second=finite(totals[1][column]),
            difference=finite(observed[column]),
            low=low,
            high=high,
            p=float(p[column]) if known else None,
            p_holm=None,
            exact=exact,
            effect=finite(effects[column]),
            rows=rows,
            videos=videos,
            undefined=undefined,
        )
    return found


def _corrected(families: Iterable[Sequence[tuple[dict[str, Difference], str]]]) -> None:
    """Fill in Holm's p within each family of (group's figures, figure)."""
    for family in families:
        found = [(group, name, group[name].p) for group, name in family if name in group]
        tested = [(group, name, p) for group, name, p in found if p is not None]
        for (group, name, _), p in zip(tested, holm([p for *_, p in tested]), strict=True):
            group[name] = replace(group[name], p_holm=p)


def compare(first: Evaluation, second: Evaluation, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Paired differences, second - first: per column, in strict mode overall, per task and per pair.

    Args:
        first, second: of the same mode and the same rows; a row that only one of them has is named and left out, and
            so is a row that one of them could not score.
        resamples, seed: of the bootstrap; the seed is the test's too.

    Raises:
        ComparisonError: no shared row, a row twice, or different references for a row.
    """
    here, there, named = _match(first, second)
    layouts = layout_of(first.parts, second.parts)
    sides = [Figures(side.parts, layouts) for side in (first, second)]
    cells = sides[0].cells[here], sides[1].cells[there]
    rows = [first.rows[number] for number in here]
    videos = np.array([row.video for row in rows], dtype=object)
    bootstrap = Bootstrap(videos, resamples, seed)
    levels = ("overall", "tasks", "pairs") if first.mode == "strict" else ("overall",)
    groups = groups_of(rows)
    scores: dict[str, dict[str, dict[str, Difference]]] = {}
    for level in levels:
        scores[level] = {}
        for group, mask in groups[level].items():
            before, after = [bootstrap.sums(side[mask], videos[mask]) for side in cells]
            scores[level][group] = _differences(sides[0], before, after, bootstrap.drawn, seed)
        by_group = [[(group, name) for name in sides[0].names] for group in scores[level].values()]
        _corrected(by_group if level == "overall" else zip(*by_group, strict=True))
    return replace(named, scores=scores)


Records = Sequence[Mapping[str, Any]]
"""Answers as `evaluate` samples and scores them."""


def matched(before: Records, after: Records, measure: str) -> list[tuple[Mapping[str, Any], float]]:
    """The answers of two models to the same draws, by pair, file, row and sample: (that before, the change to after).

    Args:
        measure: the number that is compared: `acc`, `format`, `tokens`, a `raw_` signal.

    Raises:
        ComparisonError: other rows or samples, a row and sample twice, or an answer without the number.
    """

    def keyed(records: Records) -> dict[tuple, Mapping[str, Any]]:
        # Two annotation files number their rows alike.
        return {(r["data_source"], r.get("file") or "", r["index"], r["sample"]): r for r in records}

    first, second = keyed(before), keyed(after)
    if len(first) != len(before) or len(second) != len(after):
        raise ComparisonError("an evaluation holds the same row (pair, file, index) and sample twice")
    if first.keys() != second.keys():
        raise ComparisonError(
            f"the two evaluations share {len(first.keys() & second.keys())} of {len(first)} and {len(second)} answers: "
            "same data, seed and samples are needed"
        )
    for pair, file, index, sample in first:
        for side in (first, second):
            if not is_finite(found := side[pair, file, index, sample].get(measure)):
                raise ComparisonError(f"{file}: row {index} ({pair}): {measure}: expected a number, found {found!r}")
    return [(first[key], second[key][measure] - first[key][measure]) for key in sorted(first)]


def _changes(before: Records, after: Records, measure: str) -> tuple[Figures, list[str]]:
    """The figure of every answer's change, and the answers' videos."""
    pairs = matched(before, after, measure)
    parts = parts_of([record["data_source"] for record, _ in pairs], [{measure: change} for _, change in pairs])
    return Figures(parts), [record["video"] for record, _ in pairs]


def paired_difference(
    runs: Sequence[tuple[Records, Records]],
    *,
    measure: str = "acc",
    resamples: int = 4000,
    seed: int = 0,
) -> dict[str, Any]:
    """Mean over pairs of the change in a number, averaged over runs, with a 95 % bootstrap interval over videos.

    Whole videos are drawn, the same ones for every run, so that runs on the same videos are no more evidence about
    other videos than one of them. They are not drawn within sources: with a few videos each, that would understate
    the spread.

    Args:
        runs: (records before, records after) of one or several runs.
        measure: the number, see `matched`.
        resamples, seed: of the bootstrap.

    Returns:
        ``<measure>_change``, ``low`` and ``high`` (None with a single video), ``runs``, and ``videos``,
        each counted once.

    Raises:
        ComparisonError: see `matched`.
    """
    changed = [_changes(before, after, measure) for before, after in runs]
    bootstrap = Bootstrap([video for _, videos in changed for video in videos], resamples, seed)
    by_video = [(figures, bootstrap.sums(figures.cells, videos)) for figures, videos in changed]
    change, drawn = (
        np.mean([figures.values(weights @ cells)[..., 0] for figures, cells in by_video], axis=0)
        for weights in (np.ones(bootstrap.drawn.shape[1]), bootstrap.drawn)
    )
    videos = bootstrap.drawn.shape[1]
    low, high, _ = interval(drawn, videos)
    return {f"{measure}_change": float(change), "low": low, "high": high, "runs": len(runs), "videos": videos}
