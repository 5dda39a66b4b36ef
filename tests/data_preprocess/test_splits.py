# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Splits by surgery, and a balanced subset."""

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.splits import choose_subset, choose_validation, even_shares, group_of, is_unknown

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


def test_a_share_of_15_percent_is_the_default():
    counts = {(("AVOS", f"v{i}"), "p"): 10 for i in range(100)}
    assert len(choose_validation(counts)) == 15


def test_groups_may_have_any_name():
    counts = {(f"AVOS/v{i}", pair): 4 for i in range(10) for pair in PAIRS}
    assert len(choose_validation(counts, 0.2, seed=0)) == 2


@pytest.mark.parametrize(
    ("source", "video_id", "surgery"),
    [
        ("CholecT50", "VID01", ("Cholec80", "1")),
        ("CholecTrack20", "VID1", ("Cholec80", "1")),
        ("Cholec80_CVS", "video01", ("Cholec80", "1")),
        ("Cholec80_CVS", "video_01", ("Cholec80", "1")),
        ("Cholec80_CVS", "Video-001", ("Cholec80", "1")),
        ("CholecT50", "01", ("Cholec80", "1")),
        ("CholecT50", "VID110", ("Cholec80", "110")),
        ("EgoSurgery", "10_1", ("EgoSurgery", "10")),
        ("EgoSurgery", "10_2", ("EgoSurgery", "10")),
        ("EgoSurgery", "01_1_part0", ("EgoSurgery", "1")),
        ("EgoSurgery", "01", ("EgoSurgery", "1")),
        # What cannot be read stands for itself, and so does every other source's video.
        ("CholecT50", "VID", ("CholecT50", "VID")),
        ("CholecT50", "VID01_cut", ("CholecT50", "VID01_cut")),
        ("CholecT50", "VID\u0661", ("CholecT50", "VID\u0661")),
        ("EgoSurgery", "a_1", ("EgoSurgery", "a_1")),
        ("AVOS", "VID01", ("AVOS", "VID01")),
        ("NurViD", "10_1", ("NurViD", "10_1")),
        ("JIGSAWS", "", ("JIGSAWS", "")),
        # One video under several names.
        ("AVOS", " x ", ("AVOS", "x")),
        ("AVOS", "Vide\u0301o", ("AVOS", "Vid\u00e9o")),
        ("AVOS", "x.mp4", ("AVOS", "x")),
        ("AVOS", ".mp4", ("AVOS", ".mp4")),
        ("AVOS", "AVOS", ("AVOS", "AVOS")),
        ("NurViD", "x_part2", ("NurViD", "x")),
        ("CholecT50", "VID01.MP4", ("Cholec80", "1")),
        ("CholecT50", "VID01_part2", ("Cholec80", "1")),
        ("CholecT50", "VID01_part2.mp4", ("Cholec80", "1")),
        ("CholecT50", "CholecT50/VID01", ("Cholec80", "1")),
        ("Cholec80_CVS", "Cholec80-CVS_video01", ("Cholec80", "1")),
        ("EgoSurgery", "EgoSurgery_01_1", ("EgoSurgery", "1")),
        ("JIGSAWS", "Suturing_B001", ("JIGSAWS", "Suturing_B001")),
        ("JIGSAWS", "Suturing_B001_capture1", ("JIGSAWS", "Suturing_B001")),
        ("JIGSAWS", "Suturing_B001_capture2.avi", ("JIGSAWS", "Suturing_B001")),
        ("JIGSAWS", "Knot_Tying_C003 camera 2", ("JIGSAWS", "Knot_Tying_C003")),
    ],
)
def test_which_surgery_a_video_shows(source, video_id, surgery):
    assert group_of(source, video_id) == surgery


def test_ids_that_follow_no_rule_are_known_as_such():
    unknown = [("CholecT50", "VID"), ("EgoSurgery", "a_1"), ("JIGSAWS", "trial 7"), ("Cholec80_CVS", "")]
    assert all(is_unknown(*each) for each in unknown)
    known = [("CholecT50", "VID01.mp4"), ("EgoSurgery", "01_1"), ("JIGSAWS", "Suturing_B001_capture1"), ("AVOS", "?")]
    assert not any(is_unknown(*each) for each in known)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["VID07", "Vide\u0301o", "01_2", "Suturing_C002", "dQw4w9WgXcQ", "case 3"]),
    source=st.sampled_from(["CholecT50", "AVOS", "EgoSurgery", "JIGSAWS", "NurViD"]),
    before=st.sampled_from(["", " ", "{}_", "{}/", "{}-"]),
    behind=st.sampled_from(["", " ", "_part1", "_part2", ".mp4", ".AVI", "_capture2", "_cam1.mp4", " part 3", "\n"]),
)
def test_what_stands_around_a_name_parts_no_video(name, source, before, behind):
    assert group_of(source, before.format(source) + name + behind) == group_of(
        source, unicodedata.normalize("NFC", name)
    )


def test_one_surgery_under_three_names_is_on_one_side():
    names = {"CholecT50": "VID{:02}", "CholecTrack20": "VID{}", "Cholec80_CVS": "video_{:02}"}
    counts = {}
    for source, name in names.items():
        for number in range(1, 21):
            counts[group_of(source, name.format(number)), f"medvidbench/{source}/task"] = 5
    chosen = choose_validation(counts)
    assert len(chosen) == 3
    for source, name in names.items():
        assert sum(group_of(source, name.format(number)) in chosen for number in range(1, 21)) == 3


ROWS = {
    "medvidbench/AVOS/tal": range(0, 500),
    "medvidbench/NurViD/tal": range(1000, 1010),
    "medvidbench/CoPESD/stg": range(2000, 2300),
    "medvidbench/JIGSAWS/sa": range(3000, 3020),
}


def sizes_of(subset):
    return {pair.removeprefix("medvidbench/"): len(keys) for pair, keys in subset.items()}


def test_tasks_share_a_subset_evenly_and_so_do_the_pairs_of_a_task():
    assert sizes_of(choose_subset(ROWS, 30)) == {"AVOS/tal": 5, "NurViD/tal": 5, "CoPESD/stg": 10, "JIGSAWS/sa": 10}
    # The 20 rows of skill are all there is; NurViD's 10 leave the rest of the task's share to AVOS.
    assert sizes_of(choose_subset(ROWS, 220)) == {"AVOS/tal": 90, "NurViD/tal": 10, "CoPESD/stg": 100, "JIGSAWS/sa": 20}


def test_a_subset_of_more_rows_than_there_are_is_all_of_them():
    everything = choose_subset(ROWS, 10_000)
    assert {pair: sorted(keys) for pair, keys in everything.items()} == {
        pair: list(keys) for pair, keys in ROWS.items()
    }
    assert choose_subset(ROWS, 830) == everything
    assert sum(sizes_of(choose_subset(ROWS, 0)).values()) == 0
    assert choose_subset({}, 5) == {}


def test_which_rows_depends_on_the_seed_and_not_on_their_order():
    items = [(pair, list(keys)) for pair, keys in ROWS.items()]
    random.Random(1).shuffle(items)
    for _, keys in items:
        random.Random(2).shuffle(keys)
    assert choose_subset(dict(items), 50, seed=4) == choose_subset(ROWS, 50, seed=4)
    assert len({tuple(choose_subset(ROWS, 50, seed=seed)["medvidbench/CoPESD/stg"]) for seed in range(5)}) == 5


def test_a_draw_favours_no_place_in_the_file():
    """A quarter of 300 rows: the first half gives about half of it (37.5, standard deviation 3.8 without return)."""
    halves = [
        sum(key < 2150 for key in choose_subset({"x/stg": range(2000, 2300)}, 75, seed)["x/stg"]) for seed in range(20)
    ]
    assert all(20 < half < 55 for half in halves) and 33 < sum(halves) / 20 < 42


counts_of_pairs = st.dictionaries(
    st.tuples(st.sampled_from("ABCD"), st.sampled_from(("tal", "stg", "dvc"))), st.integers(0, 40), max_size=8
)


@settings(max_examples=80, deadline=None)
@given(counts=counts_of_pairs, n=st.integers(0, 200), seed=st.integers(0, 3))
def test_a_subset_is_exact_balanced_and_grows(counts, n, seed):
    rows = {
        f"m/{source}/{task}": range(at * 1000, at * 1000 + k) for at, ((source, task), k) in enumerate(counts.items())
    }
    subset = choose_subset(rows, n, seed)
    assert subset.keys() == rows.keys()
    for pair, keys in subset.items():
        assert len(set(keys)) == len(keys) and set(keys) <= set(rows[pair])
    total = sum(map(len, rows.values()))
    assert sum(map(len, subset.values())) == min(n, total)

    def by_task(pairs):
        sums = {}
        for pair, keys in pairs.items():
            task = pair.rsplit("/", 1)[1]
            sums[task] = sums.get(task, 0) + len(keys)
        return sums

    given_, there = by_task(subset), by_task(rows)
    # Whoever has rows left is at most one behind anybody else.
    assert all(given_[a] >= max(given_.values()) - 1 for a in given_ if given_[a] < there[a])
    for task in there:
        pairs = [pair for pair in rows if pair.endswith("/" + task)]
        most = max(len(subset[pair]) for pair in pairs)
        assert all(len(subset[pair]) >= most - 1 for pair in pairs if len(subset[pair]) < len(rows[pair]))
    larger = choose_subset(rows, n + 1, seed)
    assert all(set(keys) <= set(larger[pair]) for pair, keys in subset.items())


def test_even_shares():
    assert even_shares({"a": 2, "b": 10, "c": 10}, 11) == {"a": 2, "b": 4, "c": 5}
    assert even_shares({"a": 2, "b": 1}, 9) == {"a": 2, "b": 1}
    assert even_shares({"a": 2}, -1) == {"a": 0}
