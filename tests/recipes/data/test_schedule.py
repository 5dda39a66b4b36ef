# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.medgrpo.data.schedule import LearntOrder, ScheduleError, balanced_order, choose_rows, quotas

PAIRS = ("medvidbench/AVOS/tal", "medvidbench/CoPESD/tal", "medvidbench/CoPESD/vs", "medvidbench/JIGSAWS/sa")


def test_every_pair_gets_the_same_share():
    assert quotas(PAIRS, 8) == dict.fromkeys(PAIRS, 2)


def test_what_does_not_divide_goes_to_the_first_in_alphabetical_order():
    assert quotas(reversed(PAIRS), 6) == dict(zip(PAIRS, (2, 2, 1, 1), strict=True))


def test_tasks_get_the_same_share_split_over_their_pairs():
    assert quotas(PAIRS, 12, mix="tasks") == dict(zip(PAIRS, (2, 2, 4, 4), strict=True))


def test_a_task_gets_its_share_of_what_is_asked_for_and_an_unknown_one_the_mean():
    assert quotas(PAIRS, 16, mix={"tal": 3.0, "vs": 1.0}) == dict(zip(PAIRS, (4, 4, 3, 5), strict=True))
    # However little is asked for, every pair stays in every batch.
    assert quotas(PAIRS, 16, mix={"tal": 1.0, "vs": 1e-9, "sa": 1e-9})["medvidbench/CoPESD/vs"] == 1


def test_a_batch_too_small_for_all_pairs_is_refused():
    with pytest.raises(ScheduleError, match="at least 4"):
        quotas(PAIRS, 3)


def test_an_unknown_mix_is_refused():
    with pytest.raises(ScheduleError, match="'pairs', 'tasks' or 'learnt'"):
        quotas(PAIRS, 4, mix="rows")


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)
case = {"sizes": sizes, "extra": st.integers(0, 6), "batches": st.integers(1, 6), "seed": st.integers(0, 9)}


def rows_of(sizes) -> list[str]:
    """Row pairs, interleaved, so that a pair's rows do not lie side by side."""
    rows = [(k, pair) for pair, size in zip(PAIRS, sizes, strict=False) for k in range(size)]
    return [pair for _, pair in sorted(rows)]


@settings(max_examples=60, deadline=None)
@given(**case, mix=st.sampled_from(["pairs", "tasks"]))
def test_every_batch_holds_the_same_number_of_each_pair(sizes, extra, batches, seed, mix):
    rows = rows_of(sizes)
    size = len(sizes) + extra
    expected = quotas(rows, size, mix)
    assert sum(expected.values()) == size and min(expected.values()) >= 1
    order = balanced_order(rows, size, batches, seed, mix)
    assert order.shape == (batches * size,)
    for batch in order.reshape(batches, size):
        assert Counter(rows[row] for row in batch) == expected


@settings(max_examples=60, deadline=None)
@given(**case)
def test_a_pair_repeats_no_row_before_all_were_used(sizes, extra, batches, seed):
    rows = rows_of(sizes)
    size = len(sizes) + extra
    counts = quotas(rows, size)
    order = balanced_order(rows, size, batches, seed).reshape(batches, size)
    for pair, quota in counts.items():
        mine = [row for row, name in enumerate(rows) if name == pair]
        for done in range(1, batches + 1):
            # After any number of batches, no row was used more than once more often than another.
            used = Counter(row for row in order[:done].ravel() if rows[row] == pair)
            times = [used[row] for row in mine]
            assert sum(times) == quota * done and max(times) - min(times) <= 1


@settings(max_examples=40, deadline=None)
@given(**case)
def test_a_longer_schedule_begins_like_a_shorter_one(sizes, extra, batches, seed):
    rows = rows_of(sizes)
    size = len(sizes) + extra
    short, long = balanced_order(rows, size, batches, seed), balanced_order(rows, size, batches + 3, seed)
    assert np.array_equal(long[: len(short)], short)


@settings(max_examples=40, deadline=None)
@given(**case)
def test_where_no_row_is_rare_the_order_is_what_it_is_without_rates(sizes, extra, batches, seed):
    rows = rows_of(sizes)
    same = balanced_order(rows, len(sizes) + extra, batches, seed, rates=np.full(len(rows), 0.5))
    assert np.array_equal(same, balanced_order(rows, len(sizes) + extra, batches, seed))


def test_a_rare_row_is_drawn_in_its_share_of_the_passes():
    rows = rows_of([8, 8])
    rates = np.ones(len(rows))
    rare = [row for row, pair in enumerate(rows) if pair == PAIRS[0]][:4]
    rates[rare] = 0.25
    # 5 draws of the first pair in a pass: four rows always, four in a quarter of the passes.
    used = Counter(balanced_order(rows, 2, 400, rates=rates).tolist())
    assert all(18 <= used[row] <= 22 for row in rare)
    assert all(76 <= used[row] <= 84 for row, pair in enumerate(rows) if pair == PAIRS[0] and row not in rare)
    assert {used[row] for row, pair in enumerate(rows) if pair == PAIRS[1]} == {50}
    # And never twice before four passes are over.
    firsts = balanced_order(rows, 2, 40, rates=rates).tolist()
    assert max(Counter(firsts)[row] for row in rare) <= 3


@settings(max_examples=30, deadline=None)
@given(**case)
def test_a_longer_schedule_with_rates_begins_like_a_shorter_one(sizes, extra, batches, seed):
    rows = rows_of(sizes)
    rates = np.random.default_rng(seed).choice([0.1, 1.0], len(rows))
    short, long = (balanced_order(rows, len(sizes) + extra, n, seed, rates=rates) for n in (batches, batches + 3))
    assert np.array_equal(long[: len(short)], short)


def test_the_seed_decides_the_order():
    rows = rows_of([9, 9, 9])
    first, again, other = (balanced_order(rows, 6, 4, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_pairs_are_mixed_inside_a_batch():
    rows = rows_of([9, 9, 9])
    batches = balanced_order(rows, 9, 6).reshape(6, 9)
    orders = {tuple(rows[row] for row in batch) for batch in batches}
    assert len(orders) > 1 and all(list(order) != sorted(order) for order in orders)


def test_a_subset_takes_so_many_rows_of_every_pair_in_file_order():
    rows = rows_of([9, 2, 5])
    chosen = choose_rows(rows, 3, seed=1)
    assert chosen == sorted(set(chosen))
    assert Counter(rows[row] for row in chosen) == dict(zip(PAIRS, (3, 2, 3), strict=False))
    assert choose_rows(rows, 3, seed=1) == chosen != choose_rows(rows, 3, seed=2)
    assert choose_rows(rows, None) == list(range(len(rows)))


# ---- an order that the training decides --------------------------------------------------------------------------

ROWS = [pair for pair in PAIRS for _ in range(5)]


def state(folder, step, mix, prompts=16):
    (folder / f"step_{step}.json").write_text(json.dumps({"step": step, "mix": mix, "prompts": prompts}))


def drawn(order, step, batch=16):
    return [order[at] for at in range((step - 1) * batch, step * batch)]


def test_a_step_is_drawn_by_what_the_step_before_has_learnt(tmp_path):
    order = LearntOrder(ROWS, 16, 5, 0, tmp_path)
    assert len(order) == 80
    first = drawn(order, 1)
    assert Counter(ROWS[row] for row in first) == quotas(PAIRS, 16, "tasks")
    state(tmp_path, 1, mix := {"tal": 0.1, "vs": 0.3, "sa": 0.6})
    second = drawn(order, 2)
    assert Counter(ROWS[row] for row in second) == quotas(PAIRS, 16, mix)
    # Rows of a pair repeat only where it has too few.
    assert len({row for row in second if ROWS[row].endswith("vs")}) == quotas(PAIRS, 16, mix)["medvidbench/CoPESD/vs"]
    # A resumed run draws what it drew, whatever came after.
    state(tmp_path, 2, {"tal": 0.8, "vs": 0.1, "sa": 0.1})
    again = LearntOrder(ROWS, 16, 5, 0, tmp_path)
    assert drawn(again, 2) == second and drawn(again, 3) != second
    assert drawn(LearntOrder(ROWS, 16, 5, 1, tmp_path), 2) != second


def test_a_rare_row_is_drawn_less_often_there_too(tmp_path):
    for step in range(1, 200):
        state(tmp_path, step, {"tal": 1.0, "vs": 1.0, "sa": 1.0}, prompts=8)
    rates = np.where(np.arange(len(ROWS)) % 5 == 0, 0.1, 1.0)
    order = LearntOrder(ROWS, 8, 200, 0, tmp_path, rates)
    counts = Counter(order[at] for at in range(len(order)))
    assert 0 < counts[0] < counts[1] / 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file .*expected a trainer that draws one step after the other"),
        ("{", "expected a trainer that draws one step after the other"),
        ('{"prompts": 16, "mix": null}', "got None and 16: data.medgrpo.mix=learnt needs the advantage mt_grpo"),
        # Resumed with another batch size, a place in the order is that of another step.
        ('{"prompts": 32, "mix": {"tal": 1.0}}', "expected the shares of the tasks and 16 prompts, got .* and 32"),
    ],
)
def test_a_step_without_shares_before_it_says_what_it_needs(tmp_path, content, words):
    if content is not None:
        (tmp_path / "step_1.json").write_text(content)
    with pytest.raises(ScheduleError, match=f"step_1.json: .*{words}"):
        LearntOrder(ROWS, 16, 5, 0, tmp_path)[16]


def test_a_batch_that_has_room_for_one_of_each_pair_cannot_follow(tmp_path):
    with pytest.raises(ScheduleError, match="a batch of 4 rows is one of each of the 4 dataset-task pairs"):
        LearntOrder(ROWS, 4, 5, 0, tmp_path)
