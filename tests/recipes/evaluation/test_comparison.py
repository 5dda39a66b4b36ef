# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Two evaluations of the same rows: differences, intervals, exchange test, effect size, and rows that do not match."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.medgrpo.evaluation.comparison import ComparisonError, compare, holm
from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.leaderboard import score_leaderboard
from recipes.medgrpo.evaluation.strict import score_strict
from recipes.medgrpo.reward_options import signal_settings

RULES = signal_settings() | {"dvc_captions": False}


def row(index, end, source="AVOS", video=None, file="test.json"):
    """Temporal grounding whose IoU is `end` (0.5 to 1) of a second; both modes can score it."""
    answer = end if end is None else f"0.0-{end} seconds."
    record = {
        "metadata": {"video_id": "v", "fps": 1.0},
        "qa_type": "tal",
        "struc_info": [{"spans": [{"start": 0, "end": 1}]}],
        "question": "",
        "gnd": "0-1",
        "answer": answer,
        "data_source": source,
    }
    truth = json.dumps({"spans": [[0, 1]], "text": "0-1"})
    name = f"medvidbench/{source}/tal"
    return Graded(index, file, name, video or f"{source}/{index}", answer, record, truth, {"sample_interval": 0.01})


def leaderboard(rows):
    return score_leaderboard(rows, resamples=10)


def strict(rows):
    return score_strict(rows, scoring=RULES, resamples=10)


def drawn(count, seed, low=0.6, high=1.0):
    return np.round(np.random.default_rng(seed).uniform(low, high, count), 3)


def overall(found):
    return found.scores["overall"]["all"]


@pytest.mark.parametrize(("measure", "figure"), [(leaderboard, "tag_miou_05"), (strict, "acc")])
def test_a_mean_difference_by_hand(measure, figure):
    before, after = drawn(8, 0), drawn(8, 1)
    first = measure([row(n, end) for n, end in enumerate(before)])
    second = measure([row(n, end) for n, end in enumerate(after)])
    found = overall(compare(first, second))[figure]
    change = after - before
    assert (found.first, found.second) == pytest.approx((before.mean(), after.mean()))
    assert found.difference == pytest.approx(change.mean())
    assert found.effect == pytest.approx(change.mean() / change.std(ddof=1))
    # The sign-flip test, all 256 signs written out.
    flipped = [abs(np.mean(change * signs)) for signs in product((1, -1), repeat=8)]
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.array(flipped) >= abs(change.mean()) - 1e-9))
    assert (found.rows, found.videos) == (8, 8)


def test_the_answers_of_a_video_change_sides_together():
    """Three videos of four rows each: eight exchanges, so no p below 2/8, however large the change."""
    videos = [f"AVOS/{n // 4}" for n in range(12)]
    first = strict([row(n, 0.6, video=video) for n, video in enumerate(videos)])
    second = strict([row(n, 0.9, video=video) for n, video in enumerate(videos)])
    found = overall(compare(first, second))["acc"]
    assert (found.p, found.exact, found.videos, found.rows) == (0.25, True, 3, 12)


def test_with_many_videos_exchanges_are_drawn_and_chance_is_told_from_a_change():
    before = drawn(60, 0)
    noise = np.random.default_rng(1).normal(0, 0.02, 60)

    def measured(shift):
        ends = np.clip(np.round(before - shift + noise, 3), 0.51, 1)
        return overall(
            compare(strict([row(n, e) for n, e in enumerate(before)]), strict([row(n, e) for n, e in enumerate(ends)]))
        )["acc"]

    changed, same = measured(0.05), measured(0.0)
    assert not changed.exact
    assert changed.p == pytest.approx(1 / 10_001)
    assert changed.high < 0 and changed.effect < -1
    assert same.p > 0.05 and same.low < 0 < same.high


def test_p_is_uniform_where_the_models_are_alike():
    p = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sides = np.round(rng.uniform(0.6, 1, (2, 9)), 3)
        first, second = (leaderboard([row(n, end) for n, end in enumerate(side)]) for side in sides)
        p.append(overall(compare(first, second, resamples=10))["tag_miou_05"].p)
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) < 0.1) < 0.25


def test_equal_evaluations_differ_in_nothing():
    rows = [row(n, end) for n, end in enumerate(drawn(20, 0))]
    found = overall(compare(leaderboard(rows), leaderboard(rows)))["tag_miou_05"]
    assert (found.difference, found.low, found.high, found.p, found.effect) == (0, 0, 0, 1, None)


def test_the_other_way_round_only_the_sign_changes():
    first = leaderboard([row(n, end) for n, end in enumerate(drawn(30, 0))])
    second = leaderboard([row(n, end) for n, end in enumerate(drawn(30, 1))])
    there, back = overall(compare(first, second))["tag_miou_05"], overall(compare(second, first))["tag_miou_05"]
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == pytest.approx(back.p, abs=0.02)  # other exchanges are drawn
    assert there.effect == pytest.approx(-back.effect)


def assessed(index, answer, source):
    """Critical view of safety: a column that is no mean over records."""
    record = row(index, 0.6, source).record | {
        "qa_type": "cvs_assessment",
        "struc_info": [{"cvs_scores": {"two_structures": 1, "cystic_plate": 2}}],
        "answer": answer,
    }
    return replace(row(index, 0.6, source), data_source=f"medvidbench/{source}/cvs", record=record)


def test_a_column_that_is_no_mean_over_records():
    answers = ["two structures: 1", "cystic plate: 0", "two structures: 1, cystic plate: 2", "nothing"]
    sources = ["A", "A", "B", "B"]
    first = leaderboard([assessed(n, a, s) for n, (a, s) in enumerate(zip(answers, sources, strict=True))])
    better = ["two structures: 1", "cystic plate: 2", "two structures: 1", "nothing"]
    second = leaderboard([assessed(n, a, s) for n, (a, s) in enumerate(zip(better, sources, strict=True))])
    found = overall(compare(first, second))["cvs_acc"]
    assert (found.first, found.second, found.difference) == pytest.approx((0.75, 1, 0.25))
    # Two videos moved, so four exchanges; only that of record 1 moves the column: two of the four reach 0.25.
    # Without it the sides are 1 and 0.75, or 0.75 and 1: all four are as far apart.
    assert found.p == 1


# --- which rows ------------------------------------------------------------------------------------------------------


def test_rows_that_only_one_has_are_named_and_left_out():
    first = strict([row(n, 0.6) for n in range(4)])
    second = strict([row(n, 0.8) for n in (3, 2, 5)])
    found = compare(first, second)
    assert (found.rows, found.videos) == (2, 2)
    assert found.only_first == ["test.json: row 0", "test.json: row 1"]
    assert found.only_second == ["test.json: row 5"]
    assert overall(found)["acc"].difference == pytest.approx(0.2)


def test_a_row_that_one_could_not_score_is_compared_in_neither():
    first = leaderboard([row(0, 0.6), row(1, None), row(2, 0.6)])
    second = leaderboard([row(0, 0.8), row(1, 1.0), row(2, 0.8)])
    found = compare(first, second)
    assert found.left_out == ["test.json: row 1"]
    assert overall(found)["tag_miou_05"].second == pytest.approx(0.8)


def test_one_file_under_two_names_is_one_file_but_two_files_are_two():
    def in_files(*names):
        return strict([row(n // 2, 0.6, file=names[n % len(names)], video=f"v/{n}") for n in range(2)])

    assert compare(strict([row(0, 0.6, file="a")]), strict([row(0, 0.6, file="b")])).rows == 1
    assert compare(in_files("a", "b"), in_files("b", "a")).rows == 2
    assert compare(in_files("a", "b"), in_files("a", "c")).only_second == ["c: row 0"]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([row(0, 0.6), row(0, 0.7)], [row(0, 0.6)], "row 0 .* twice"),
        ([row(0, 0.6)], [row(1, 0.6)], "share no row"),
        ([row(0, 0.6)], [replace(row(0, 0.6), ground_truth='{"spans": [[0, 2]]}')], "row 0: .* different references"),
    ],
)
def test_what_is_no_comparison(first, second, words):
    with pytest.raises(ComparisonError, match=words):
        compare(strict(first), strict(second))


def test_both_have_to_be_of_one_mode():
    with pytest.raises(ComparisonError, match="one evaluation is strict, the other leaderboard"):
        compare(strict([row(0, 0.6)]), leaderboard([row(0, 0.6)]))


# --- levels and Holm -------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=50, deadline=None)
def test_holm_raises_p_keeps_its_order_and_stays_below_bonferroni(p):
    found = holm(p)
    assert all(min(1, x) <= y + 1e-12 and y <= min(1, len(p) * x) + 1e-12 for x, y in zip(p, found, strict=True))
    assert [found[n] for n in np.argsort(p, kind="stable")] == sorted(found)


def test_pairs_and_tasks_are_compared_and_corrected_as_families():
    def rows(shift):
        return [row(n, round(0.6 + 0.01 * n + shift * (n % 2), 3), source=("AVOS", "CoPESD")[n % 2]) for n in range(20)]

    found = compare(strict(rows(0)), strict(rows(0.1)))
    pairs = found.scores["pairs"]
    assert pairs["medvidbench/AVOS/tal"]["acc"].difference == 0
    changed = pairs["medvidbench/CoPESD/tal"]["acc"]
    assert changed.difference == pytest.approx(0.1)
    assert (changed.p, changed.p_holm, changed.videos) == (2 / 2**10, 4 / 2**10, 10)
    assert set(found.scores["tasks"]) == {"tal"}
    assert overall(found)["acc"].difference == pytest.approx(0.05)
