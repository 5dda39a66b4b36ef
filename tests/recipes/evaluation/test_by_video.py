# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The registered statistic: what is averaged over what, its exchange test, and which evaluations it refuses."""

import numpy as np
import pytest

from recipes.medgrpo.evaluation.by_video import seed_difference, video_changes
from recipes.medgrpo.evaluation.comparison import ComparisonError, paired_difference


def answer(video, index, sample, tokens, task="tal", **more):
    pair = f"medvidbench/AVOS/{task}"
    return {"data_source": pair, "file": "a", "index": index, "sample": sample, "video": video, "tokens": tokens} | more


def test_answers_of_a_row_rows_of_a_video_and_videos_of_a_seed_count_alike():
    before = [answer("v1", 0, 0, 10), answer("v1", 0, 1, 10), answer("v1", 1, 0, 10), answer("v2", 2, 0, 10)]
    after = [answer("v1", 0, 0, 12), answer("v1", 0, 1, 16), answer("v1", 1, 0, 12), answer("v2", 2, 0, 11)]
    changes = video_changes(before, after[::-1], "tokens", ("tal", "stg"))
    assert changes == {"v1": pytest.approx((4 + 2) / 2), "v2": 1}
    found = seed_difference([changes, {"v9": -1.0}])
    assert found.by_seed == [2, -1] and found.difference == 0.5 and found.videos == 3
    assert (found.low, found.high) == (None, None)  # a seed with one video says nothing about others


def test_other_tasks_are_left_out_and_none_is_an_error():
    before, after = (
        [answer("v", 0, 0, 1), answer("v", 1, 0, 1, "vs")],
        [answer("v", 0, 0, 2), answer("v", 1, 0, 9, "vs")],
    )
    assert video_changes(before, after, "tokens", ("tal",)) == {"v": 1}
    with pytest.raises(ComparisonError, match="no answer of the tasks nap"):
        video_changes(before, after, "tokens", ("nap",))


def test_an_answer_without_the_number_is_named():
    with pytest.raises(
        ComparisonError, match=r"a: row 0 \(medvidbench/AVOS/tal\): format: expected a number, found None"
    ):
        video_changes([answer("v", 0, 0, 1, format=1.0)], [answer("v", 0, 0, 1)], "format", ("tal",))
    with pytest.raises(ComparisonError, match="share 0 of 1 and 1 answers"):
        video_changes([answer("v", 0, 0, 1)], [answer("v", 0, 1, 1)], "tokens", ("tal",))


def test_a_run_against_itself_is_no_difference():
    found = seed_difference([{"a": 0.0, "b": 0.0}] * 3)
    assert (found.difference, found.low, found.high, found.p, found.exact) == (0, 0, 0, 1, True)


def test_all_exchanges_of_few_videos_by_hand():
    """Six videos that all rise: only all or none exchanged is as far from 0."""
    found = seed_difference([{"a": 1.0, "b": 2.0, "c": 1.0}, {"d": 3.0, "e": 1.0, "f": 1.0}])
    assert found.exact and found.p == 2 / 2**6
    assert found.difference == pytest.approx((4 / 3 + 5 / 3) / 2)


def test_p_is_uniform_where_the_two_are_alike():
    """Below any level at most that share of the p-values, and in the mean a half; many videos and few."""
    rng = np.random.default_rng(0)
    for videos in (3, 5):
        seeds = [[{str(v): rng.normal() for v in range(videos)} for _ in range(3)] for _ in range(120)]
        p = np.array([seed_difference(one, resamples=2).p for one in seeds])
        assert abs(p.mean() - 0.5) < 0.09
        for level in (0.05, 0.1, 0.25, 0.5, 0.75):
            assert abs((p <= level).mean() - level) < 0.09


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        found = seed_difference([{str(v): 0.3 + rng.normal() for v in range(30)} for _ in range(3)], resamples=400)
        held += found.low <= 0.3 <= found.high
    assert 0.89 <= held / 100 <= 0.99


def test_a_paired_difference_is_of_any_number():
    before, after = [answer("v1", 0, 0, 10), answer("v2", 1, 0, 10)], [answer("v1", 0, 0, 14), answer("v2", 1, 0, 12)]
    assert paired_difference([(before, after)], measure="tokens")["tokens_change"] == 3
    with pytest.raises(ComparisonError, match="acc: expected a number"):
        paired_difference([(before, after)])
