# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Splits by video."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.splits import choose_validation

PAIRS = ("medvidbench/AVOS/tal", "medvidbench/AVOS/dvc", "medvidbench/AVOS/nap")


def shares(counts, chosen):
    total, inside = {}, {}
    for (video, pair), rows in counts.items():
        total[pair] = total.get(pair, 0) + rows
        inside[pair] = inside.get(pair, 0) + rows * (video in chosen)
    return {pair: inside[pair] / total[pair] for pair in total}


def test_a_fifth_of_ten_equal_videos_is_two():
    counts = {(("AVOS", f"v{i}"), pair): 4 for i in range(10) for pair in PAIRS}
    chosen = choose_validation(counts, 0.2, seed=0)
    assert len(chosen) == 2
    assert all(share == 0.2 for share in shares(counts, chosen).values())


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    counts = {(("AVOS", f"v{i}"), pair): 1 + i % 3 for i in range(20) for pair in PAIRS}
    items = list(counts.items())
    random.Random(3).shuffle(items)
    assert choose_validation(dict(items), 0.2, seed=5) == choose_validation(counts, 0.2, seed=5)
    assert len({frozenset(choose_validation(counts, 0.2, seed=seed)) for seed in range(5)}) > 1


def test_equal_ids_of_two_sources_are_two_videos():
    counts = {((source, "VID01"), f"medvidbench/{source}/tal"): 5 for source in ("AVOS", "CholecT50")}
    counts[("AVOS", "VID02"), "medvidbench/AVOS/tal"] = 5
    assert ("CholecT50", "VID01") not in choose_validation(counts, 0.5)
    assert len(choose_validation(counts, 0.5)) == 1


def test_a_pair_with_one_video_stays_in_training():
    assert choose_validation({(("JIGSAWS", "a"), "p"): 100}, 0.2) == set()


def test_a_pair_with_two_videos_is_on_both_sides_even_at_a_small_fraction():
    counts = {(("JIGSAWS", video), "p"): 100 for video in "ab"}
    assert len(choose_validation(counts, 0.01)) == 1


def test_no_validation_when_none_is_wanted():
    assert choose_validation({(("JIGSAWS", video), "p"): 100 for video in "abc"}, 0.0) == set()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3), min_size=2, max_size=30),
    fraction=st.sampled_from([0.05, 0.2, 0.5]),
    seed=st.integers(0, 9),
)
def test_every_pair_is_on_both_sides_where_every_video_has_every_pair(rows, fraction, seed):
    counts = {(("AVOS", str(i)), pair): n for i, video in enumerate(rows) for pair, n in zip(PAIRS, video, strict=True)}
    chosen = choose_validation(counts, fraction, seed)
    assert all(0 < share < 1 for share in shares(counts, chosen).values())
