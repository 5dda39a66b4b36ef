# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Spans and events in time."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.answers import Event, parse_tal
from reward_score.errors import BadGroundTruth
from reward_score.leaderboard import score_record
from reward_score.temporal import (
    assign,
    gold_nearness,
    matched_events,
    span_distance,
    span_iou,
    tal_iou,
    tal_wasserstein,
    temporal_f1,
)

TENTHS = st.integers(0, 600).map(lambda n: n / 10)
SPAN = st.tuples(TENTHS, TENTHS).map(lambda pair: (min(pair), max(pair)))
SPANS = st.lists(SPAN, min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [((0, 10), (0, 10), 1), ((0, 10), (5, 15), 1 / 3), ((0, 10), (10, 20), 0), ((10, 0), (10, 0), 0)],
)
def test_span_iou(a, b, value):
    assert span_iou(a, b) == pytest.approx(value)


@pytest.mark.parametrize(
    ("predicted", "gold", "value"),
    [
        ([(0, 10)], [(0, 10)], 1),
        ([(0, 5)], [(0, 10)], 0.5),
        ([(0, 10)], [(0, 10), (20, 30)], 0.5),
        ([(0, 10), (20, 30)], [(0, 10)], 0.5),
        ([(0, 10)] * 2, [(0, 10)], 0.5),
        ([(10, 0)], [(0, 10)], 0),
        ([(66, 66)], [(66, 66)], 1),
        ([(65, 67)], [(66, 66)], 1),
        ([(66, 66)], [(69, 69)], 0),
        ([], [(0, 10)], 0),
    ],
)
def test_tal_iou(predicted, gold, value):
    assert tal_iou(predicted, gold, interval=2.0) == pytest.approx(value)


@pytest.mark.parametrize(
    ("predicted", "gold", "value"),
    [
        ((5, 5), (4, 6), 0),
        ((5, 5.1), (4, 6), 0.05),
        ((5, 5), (5, 5), 1),
        ((4.9, 5.1), (5, 5), 1),
        ((4.5, 5.5), (5, 5), 1),
        ((5.5, 5.5), (5, 5), 1.5 / 2.5),
        ((3, 7), (5, 5), 0.5),
        ((7, 7), (5, 5), 0),
        ((5.1, 4.9), (5, 5), 0),
    ],
)
def test_only_a_reference_without_length_is_widened(predicted, gold, value):
    assert tal_iou([predicted], [gold], interval=2.0) == pytest.approx(value)
    assert temporal_f1(events(predicted), events(gold), 2.0) == pytest.approx(
        sum(value >= threshold for threshold in (0.3, 0.5, 0.7)) / 3
    )


LENGTH = st.tuples(TENTHS, st.integers(1, 300).map(lambda n: n / 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))
INTERVALS = st.sampled_from([0.2, 0.5, 1.0, 2.0, 8.0, 60.0])


@settings(max_examples=200, deadline=None)
@given(LENGTH, st.lists(st.floats(0, 1), min_size=4, max_size=4).map(sorted), INTERVALS)
def test_a_prediction_that_grows_inside_its_reference_never_loses(gold, shares, interval):
    start, end = gold
    a, b, c, d = (start + (end - start) * share for share in shares)
    outer, inner, nothing = (a, d), (b, c), (b, b)
    far = (900.0, 901.0)
    for score in (
        lambda span: tal_iou([span], [gold], interval),
        lambda span: tal_iou([span, far], [gold, (950.0, 960.0)], interval),
        lambda span: temporal_f1(events(span), events(gold), interval),
    ):
        assert score(nothing) == 0
        assert score(nothing) <= score(inner) <= score(outer) + 1e-12
        assert score(outer) <= score(gold) + 1e-12


@settings(max_examples=200, deadline=None)
@given(st.lists(SPAN, min_size=1, max_size=3), st.lists(LENGTH, min_size=1, max_size=3, unique=True), INTERVALS)
def test_strict_never_pays_for_what_overlaps_nothing_on_the_leaderboard(said, gold, interval):
    shared = [min(b, d) - max(a, c) for a, b in said for c, d in gold]
    if max(shared) <= 0 or all(a == b for a, b in said):
        assert tal_iou(said, gold, interval) == 0
        assert temporal_f1(events(*said), events(*gold), interval) == 0
        assert matched_events(events(*said), events(*gold), interval) == []


@settings(max_examples=200, deadline=None)
@given(SPAN, LENGTH, INTERVALS)
def test_one_span_is_worth_on_the_leaderboard_what_it_is_worth_here(said, gold, interval):
    answer = f"{said[0]:.1f}-{said[1]:.1f} seconds."
    spans = [{"spans": [{"start": gold[0], "end": gold[1]}]}]
    record = {"metadata": {"video_id": "v", "fps": 1.0}, "qa_type": "tal", "data_source": "AVOS", "question": "When?"}
    column = score_record(record | {"struc_info": spans, "gnd": "", "answer": answer})
    strict = tal_iou(parse_tal(answer).value, [gold], interval)
    for threshold in (0.3, 0.5):
        if abs(strict - threshold) > 1e-6:
            assert column[f"meanIoU@{threshold}"] == pytest.approx(strict if strict > threshold else 0)


def test_of_two_copies_the_better_one_stays():
    assert tal_iou([(0, 9.6), (0, 10)], [(0, 10.3)]) == pytest.approx(10 / 10.3 / 2)
    assert tal_iou([(0, 10), (0, 9.6)], [(0, 10.3)]) == pytest.approx(10 / 10.3 / 2)


def test_the_matching_is_the_best_one_not_the_first():
    predicted = [(0, 10), (8, 18)]
    gold = [(4, 14), (0, 6)]
    assert tal_iou(predicted, gold) == pytest.approx((6 / 10 + 6 / 14) / 2)


@pytest.mark.parametrize(
    "again",
    [(2.5, 12.5), (2.50001, 12.5), (2.1, 12.9)],
    ids=["the same", "another number", "the same frames"],
)
def test_a_copy_matches_nothing(again):
    gold = [(0, 10), (5, 15)]
    once = tal_iou([(2.5, 12.5)], gold)
    assert once == pytest.approx(0.6 / 2)
    assert tal_iou([(2.5, 12.5), again], gold) == pytest.approx(once, abs=0.02)
    assert tal_iou([(2.5, 12.5), again, again], gold) == pytest.approx(once * 2 / 3, abs=0.02)


def test_another_span_is_no_copy():
    gold = [(0, 10), (5, 15)]
    assert tal_iou([(2.5, 12.5), (3.5, 12.5)], gold) == pytest.approx((7.5 / 12.5 + 7.5 / 11.5) / 2)
    assert tal_iou([(2.5, 12.5), (12.5, 2.5)], gold) == pytest.approx(0.3)


def test_as_many_copies_as_the_gold_holds():
    gold = [(0, 10), (0, 10), (66, 66)]
    assert tal_iou(gold, gold) == 1
    assert tal_iou([(0, 10), (0, 10), (65.5, 66.5)], gold) == 1
    assert tal_iou([(0, 10), (66, 66)], gold) == pytest.approx(2 / 3)
    assert tal_iou([*gold, (0, 10)], gold) == pytest.approx(3 / 4)


def test_fifty_junk_spans_cost():
    junk = [(float(i), i + 1.0) for i in range(200, 250)]
    assert tal_iou([(0, 10), *junk], [(0, 10)]) == pytest.approx(1 / 51)


@settings(max_examples=60, deadline=None)
@given(SPANS, SPANS, st.randoms())
def test_order_does_not_matter(predicted, gold, random):
    shuffled_predicted, shuffled_gold = predicted[:], gold[:]
    random.shuffle(shuffled_predicted)
    random.shuffle(shuffled_gold)
    assert tal_iou(shuffled_predicted, shuffled_gold) == pytest.approx(tal_iou(predicted, gold))


@settings(max_examples=60, deadline=None)
@given(SPANS, SPANS)
def test_bounded_and_one_only_when_right(predicted, gold):
    value = tal_iou(predicted, gold)
    assert 0 <= value <= 1
    if value > 1 - 1e-12:
        # A zero-length reference and the interval around it are the same span.
        assert len(predicted) == len(gold)
    assert tal_iou(gold, gold) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(st.lists(SPAN, min_size=1, max_size=5, unique=True), st.data())
def test_no_edit_of_a_right_answer_raises_it(gold, data):
    index = data.draw(st.integers(0, len(gold) - 1))
    start, end = gold[index]
    others = gold[:index] + gold[index + 1 :]
    edits = {
        "remove": others,
        "repeat": [*gold, gold[index]],
        "reverse": [*others, (end + 1, start)],
        "pad": [*gold, (700.0, 710.0)],
    }
    for name, edited in edits.items():
        assert tal_iou(edited, gold) < 1 - 1e-9, name


@settings(max_examples=60, deadline=None)
@given(SPANS, SPANS)
def test_padding_with_junk_never_raises(predicted, gold):
    before = tal_iou(predicted, gold)
    assert tal_iou([*predicted, (700.0, 701.0)], gold) <= before + 1e-12
    assert tal_iou([*predicted, (5.0, 1.0)], gold) <= before + 1e-12


SECONDS = st.integers(0, 60).map(float)
LENGTHS = st.integers(1, 40).map(float)


@settings(max_examples=80, deadline=None)
@given(SECONDS, LENGTHS, SECONDS, LENGTHS)
def test_the_distance_is_the_mean_over_equal_shares_of_the_mass(start, length, other, width):
    """Wasserstein-1 in one dimension is the mean distance of quantiles: here of 2,000 of them."""
    shares = [(at + 0.5) / 2000 for at in range(2000)]
    expected = sum(abs(start + share * length - other - share * width) for share in shares) / 2000
    found = span_distance((start, start + length), (other, other + width))
    assert found == pytest.approx(expected, abs=0.01)
    assert found == span_distance((other, other + width), (start, start + length))


@pytest.mark.parametrize(
    ("predicted", "value"),
    [
        ((20, 40), 1.0),
        ((25, 45), 1 - 5 / 40),  # the IoU is 0.6
        ((40, 60), 0.5),  # touches it: nothing overlaps
        ((50, 70), 1 - 30 / 40),
        ((60, 80), 0.0),  # two lengths away
        ((25, 35), 0.5 * (1 - 2.5 / 40)),  # half the length, in its middle
        ((0, 100), 0.2 * (1 - (20**2 + 60**2) / (2 * 80) / 40)),
        ((30, 30), 0.0),
        ((40, 20), 0.0),
    ],
)
def test_nearness_by_hand(predicted, value):
    assert gold_nearness(predicted, (20, 40), 1.0) == pytest.approx(value)


@settings(max_examples=200, deadline=None)
@given(SECONDS, LENGTHS, SECONDS, LENGTHS)
def test_nearness_is_bounded_and_what_overlaps_nothing_is_worth_half_at_most(start, length, other, width):
    said, gold = (start, start + length), (other, other + width)
    found = gold_nearness(said, gold, 1.0)
    assert 0 <= found <= 1 and (found < 1 or said == gold)
    if span_iou(said, gold) == 0:
        assert found <= 0.5
    # A span around the whole reference is worth no more than by its IoU.
    if said[0] <= gold[0] and gold[1] <= said[1]:
        assert found <= span_iou(said, gold) + 1e-12


@settings(max_examples=100, deadline=None)
@given(LENGTHS, LENGTHS, st.lists(st.integers(0, 100), min_size=2, max_size=6))
def test_nearer_is_never_worth_less(length, width, shifts):
    gold = (100.0, 100.0 + length)
    middle = 100 + length / 2

    def at(shift, size):
        return gold_nearness((middle + shift - size / 2, middle + shift + size / 2), gold, 1.0)

    worth = [at(shift, width) for shift in sorted(shifts)]
    assert worth == sorted(worth, reverse=True)
    # Nor is a length that is more like the reference's, about the same middle.
    longer = [at(0.0, length + more) for more in sorted(shifts)]
    assert longer == sorted(longer, reverse=True)


def test_nearness_of_several_spans_counts_them_as_the_iou_does():
    gold = [(22.0, 78.0), (89.0, 94.0)]
    assert tal_wasserstein(gold, gold) == 1
    assert tal_wasserstein(gold[:1], gold) == 0.5
    assert tal_wasserstein([*gold, (200.0, 201.0)], gold) == pytest.approx(2 / 3)
    assert tal_wasserstein([gold[0], gold[0]], gold) == 0.5
    # The second span is beside its reference: no overlap, and yet better than none.
    assert tal_iou([gold[0], (95.0, 100.0)], gold) == 0.5
    assert tal_wasserstein([gold[0], (95.0, 100.0)], gold) == pytest.approx((1 + 0.4) / 2)


def test_no_gold():
    with pytest.raises(BadGroundTruth):
        tal_iou([(0, 1)], [])
    with pytest.raises(ValueError):
        temporal_f1([], [])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_assign_is_optimal(rows, columns, data):
    matrix = [[data.draw(st.integers(0, 5)) / 5 for _ in range(columns)] for _ in range(rows)]
    pairs = assign(matrix)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    if rows > columns:
        matrix_t = [list(column) for column in zip(*matrix, strict=True)]
    else:
        matrix_t = matrix
    size, other = len(matrix_t), len(matrix_t[0])
    best = max(sum(matrix_t[i][j] for i, j in enumerate(p)) for p in itertools.permutations(range(other), size))
    assert sum(matrix[i][j] for i, j in pairs) == pytest.approx(best)


def events(*spans):
    return [Event(start, end, f"caption {number}") for number, (start, end) in enumerate(spans)]


@pytest.mark.parametrize(
    ("predicted", "gold", "value"),
    [
        (events((0, 10)), events((0, 10)), 1),
        (events((0, 6)), events((0, 10)), 2 / 3),
        (events((0, 3)), events((0, 10)), 1 / 3),
        (events((0, 10)), events((0, 10), (20, 30)), 2 / 3),
        (events((0, 30)), events((0, 10), (10, 20), (20, 30)), 2 / 4 / 3),
        (events((0, 10), (0, 10)), events((0, 10)), 2 / 3),
        (events(), events((0, 10)), 0),
    ],
)
def test_temporal_f1(predicted, gold, value):
    assert temporal_f1(predicted, gold) == pytest.approx(value)


@settings(max_examples=50, deadline=None)
@given(SPANS, SPANS, st.randoms())
def test_f1_is_bounded_and_knows_no_order(predicted, gold, random):
    value = temporal_f1(events(*predicted), events(*gold))
    assert 0 <= value <= 1
    shuffled = gold[:]
    random.shuffle(shuffled)
    assert temporal_f1(events(*predicted), events(*shuffled)) == pytest.approx(value)
    assert temporal_f1(events(*gold), events(*gold)) == pytest.approx(1)


def test_matched_events():
    predicted = [Event(0, 9, "a"), Event(1, 10, "b"), Event(50, 60, "c")]
    gold = [Event(50, 61, "C"), Event(0, 10, "A"), Event(80, 90, "D")]
    pairs = {(p.caption, g.caption) for p, g in matched_events(predicted, gold)}
    assert pairs in ({("a", "A"), ("c", "C")}, {("b", "A"), ("c", "C")})
    assert matched_events(predicted, gold) == matched_events(predicted[::-1], gold[::-1])
    assert matched_events([Event(0, 2.9, "a")], [Event(0, 10, "A")]) == []


def test_equal_captions_go_together_where_spans_tie():
    gold = [Event(0, 10, caption) for caption in ("cut", "tie", "sew")] + [Event(20, 30, "wash")]
    pairs = matched_events([gold[2], gold[3], gold[0], gold[1]], gold)
    assert len(pairs) == 4
    assert all(predicted == other for predicted, other in pairs)


def test_copies_and_blank_captions_find_nothing():
    gold = [Event(0, 10, "cut"), Event(5, 15, "tie")]
    one = Event(2, 12, "cut")
    assert len(matched_events([one, one, one], gold)) == 1
    assert temporal_f1([one], gold) == pytest.approx(2 / 3 * (1 / 3) * 2)
    assert temporal_f1([one, one], gold) == pytest.approx(2 / 4 * 2 / 3)
    blank = Event(0, 10, " ")
    assert matched_events([blank], gold) == []
    assert temporal_f1([blank, gold[1]], gold) == pytest.approx(0.5)


def test_near_gold_spans_are_no_copies_of_each_other_as_they_are_rendered():
    """1.75 is written as 1.8, and (0, 1) lies within half an interval of 2 s."""
    gold = [(0.0, 1.0), (0.0, 1.75)]
    assert tal_iou([(0.0, 1.0), (0.0, 1.8)], gold, 2.0) > 0.98
    # Copies beside them are still found.
    assert tal_iou([(0.0, 1.0), (0.0, 1.8), (0.0, 1.8)], gold, 2.0) < 0.7
