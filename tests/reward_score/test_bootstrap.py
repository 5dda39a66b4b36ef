# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_score import bootstrap
from reward_score.bootstrap import Bootstrap, draw, finite, interval, quantiles, ratio

ROWS = ["a", "a", "b", "c", "c", "c"]
VALUES = np.array([0.0, 1.0, 2.0, -1.0, 4.0, 0.5])


def test_every_resample_has_as_many_clusters_as_there_are():
    drawn = draw(7, 100)
    assert drawn.shape == (100, 7) and set(drawn.sum(1)) == {7.0}
    assert draw(0, 5).shape == (5, 0)


def test_the_seed_decides_the_resamples():
    assert (draw(5, 50, seed=1) == draw(5, 50, seed=1)).all()
    assert (draw(5, 50, seed=1) != draw(5, 50, seed=2)).any()
    # A generator goes on where it is, so that several strata have draws of their own.
    rng = np.random.default_rng(1)
    assert (draw(5, 50, rng) == draw(5, 50, seed=1)).all() and (draw(5, 50, rng) != draw(5, 50, seed=1)).any()


def test_a_mean_with_its_interval_written_out():
    """Every resample as a list of rows, its mean by numpy, and the percentiles of those."""
    videos = Bootstrap(ROWS, 300, seed=4)
    found = ratio(videos.drawn @ videos.sums(VALUES, ROWS), videos.drawn @ videos.sums(np.ones(6), ROWS))
    rows = {"a": VALUES[:2], "b": VALUES[2:3], "c": VALUES[3:]}
    means = [
        np.concatenate([rows[name] for name, times in zip("abc", line, strict=True) for _ in range(int(times))]).mean()
        for line in np.random.default_rng(4).multinomial(3, [1 / 3] * 3, 300)
    ]
    assert found == pytest.approx(np.array(means))
    assert interval(found, 3) == pytest.approx((*np.percentile(means, [2.5, 97.5]), 0))


def test_clusters_of_one_row_each_are_the_ordinary_bootstrap():
    scipy_stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(size=80)
    videos = Bootstrap(range(80), 4000, seed=0)
    low, high, undefined = interval(videos.drawn @ values / 80, 80)
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    # Two bounds of other draws: a few hundredths of the interval's width apart.
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * (high - low)) and undefined == 0


def test_rows_of_one_cluster_are_no_independent_evidence():
    clusters = [f"v{number}" for number in range(9)]
    values = np.linspace(0, 1, 9)

    def bounds(copies: int):
        rows, many = np.repeat(clusters, copies), np.repeat(values, copies)
        videos = Bootstrap(rows)
        drawn = videos.resample(lambda weights: {"mean": weights @ many / weights.sum(1)}, rows)
        return interval(drawn["mean"], 9)

    assert bounds(10)[:2] == pytest.approx(bounds(1)[:2])


def test_both_sides_of_a_paired_difference_are_resampled_alike():
    before, after = VALUES, VALUES + 0.25
    videos = Bootstrap(ROWS)
    first, second, count = (videos.drawn @ videos.sums(side, ROWS) for side in (before, after, np.ones(6)))
    low, high, _ = interval(ratio(second, count) - ratio(first, count), 3)
    assert low == pytest.approx(0.25) and high == pytest.approx(0.25)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-5, 5)), min_size=2, max_size=12), st.integers(0, 9))
def test_a_run_pooled_with_itself_has_its_own_interval(rows, seed):
    """Runs that share clusters have them drawn together, so that the same run twice tells nothing new."""
    clusters, values = [name for name, _ in rows], np.array([value for _, value in rows])

    def pooled(runs: int):
        videos = Bootstrap(clusters * runs, 100, seed)
        means = [
            ratio(
                videos.drawn @ videos.sums(values, clusters), videos.drawn @ videos.sums(np.ones(len(rows)), clusters)
            )
            for _ in range(runs)
        ]
        return interval(np.mean(means, axis=0), len(set(clusters)))

    assert pooled(2) == pooled(1)


@given(
    st.lists(
        st.tuples(st.floats(-3, 3) | st.sampled_from([0.0, 1.0]), st.integers(0, 3)), min_size=1, max_size=20
    ).filter(lambda rows: any(times for _, times in rows))
)
def test_a_weight_is_a_repeated_value(rows):
    values, weights = np.array([value for value, _ in rows]), np.array([[times for _, times in rows]])
    shares = (0, 0.1, 0.25, 0.5, 0.99, 1)
    expected = np.quantile(np.repeat(values, weights[0]), shares)
    assert quantiles(values, weights, shares)[0] == pytest.approx(expected, abs=1e-12)


def test_figures_do_not_depend_on_how_many_resamples_are_held_at_once(monkeypatch):
    def middle(weights):
        return {"p50": quantiles(VALUES, weights, (0.5,))[:, 0]}

    whole = Bootstrap(ROWS, 50).resample(middle, ROWS)["p50"]
    monkeypatch.setattr(bootstrap, "MOST_WEIGHTS", 7)
    assert (Bootstrap(ROWS, 50).resample(middle, ROWS)["p50"] == whole).all()


def test_what_is_undefined_is_none():
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0, 1)
    assert interval(np.full(3, np.nan)) == (None, None, 3)
    assert interval(np.array([1.0, 2.0]), clusters=1) == (None, None, 0)
    assert finite(np.nan) is None and finite(np.float64(0.5)) == 0.5
    assert np.isnan(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))).tolist() == [False, True]
