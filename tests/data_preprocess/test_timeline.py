# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Clip seconds of listed frames; uniform, exact and thinned lists; clocks that disagree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.timeline import (
    CLOCKS,
    Clock,
    clock_report,
    exact,
    frame_seconds,
    native_clock,
    thin,
    uniform,
)

ANY = ("/root/data/somewhere/1.jpg",)
NURVID = Clock(2.0, "table")
GAPS = st.lists(st.sampled_from([0, 1, 1, 2, 15, 15, 15, 16, 30, 900]), max_size=40)
RATES = st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0])


def at(gaps: list[int]) -> list[float]:
    """Clip seconds of frames with these native steps at 15 frames a second."""
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap / 15)
    return times


def test_the_rate_comes_from_the_table_first():
    clock = native_clock("CholecTrack20", ("x/frames_15fps/v/1.png",), [26, 76], fps=1.0, declared=7.0)
    assert clock == Clock(25.0, "table")


def test_then_from_the_directory_then_the_declared_length_then_the_strides():
    assert native_clock("JIGSAWS", ("J/frames_15fps/v/1.jpg",), [0, 30], 1.0, 2.0) == Clock(15.0, "directory")
    assert native_clock("JIGSAWS", ANY, [100, 160], 1.0, 2.0) == Clock(30.0, "declared")
    assert native_clock("JIGSAWS", ANY, [0, 60, 60, 120, 400], 0.5) == Clock(30.0, "stride")
    assert native_clock("JIGSAWS", ANY, [7], 0.5) == Clock(0.5, "single")


def test_a_hole_stays_in_the_clock():
    """CholecTrack20: frame numbers 25k + 1; after a hole of 91 s, index / fps would be wrong by 90 s."""
    numbers = [1, 26, 51, 51 + 91 * 25, 76 + 91 * 25]
    assert frame_seconds(numbers, Clock(25.0, "table"), fps=1.0) == [0.0, 1.0, 2.0, 93.0, 94.0]


def test_a_regular_list_is_left_as_it_is():
    line = uniform([0.0, 2.0, 4.0, 6.0], fps=0.5)
    assert (line.picks, line.sample_fps, line.duration) == ((0, 1, 2, 3), 0.5, 6.0)
    assert (line.moved, line.repeated, line.left_out, line.divisor) == (0, 0, 0, 1)


def test_a_small_hole_is_filled_with_the_nearest_frame():
    line = uniform([0.0, 1.0, 4.0, 5.0], fps=1.0)
    assert line.picks == (0, 1, 1, 2, 2, 3)
    assert (line.moved, line.repeated, line.left_out) == (2, 2, 0)


def test_a_huge_hole_lowers_the_rate_instead():
    times = [float(t) for t in range(30)] + [120.0 + t for t in range(30)]
    line = uniform(times, fps=1.0)
    assert line.divisor == 2 and line.sample_fps == 0.5
    assert line.picks[-1] == len(times) - 1
    assert len(line.picks) == 76 <= 2 * len(times)
    assert line.times[-1] == 150.0 and len(line.times) == 76


def test_joints_repeats_and_doubled_rates_do_not_show():
    """NurViD repeats a frame at a joint, CoPESD doubles its rate for a while."""
    assert uniform([0.0, 1.0, 1.0, 2.0], fps=1.0).picks == (0, 1, 3)
    line = uniform([0.0, 1.0, 1.5, 2.0, 3.0], fps=1.0)
    assert line.picks == (0, 1, 3, 4) and line.left_out == 1


def test_an_extra_last_frame_half_a_step_off_is_kept():
    line = uniform([0.0, 2.0, 4.0, 5.0], fps=0.5)
    assert line.picks == (0, 1, 2, 3)
    assert line.moved == 1


def test_one_frame_is_a_list():
    assert uniform([0.0], fps=0.5).picks == (0,)
    assert uniform([0.0, 0.0], fps=0.5).picks == (1,)


@settings(max_examples=120, deadline=None)
@given(gaps=GAPS, fps=RATES, growth=st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_every_tick_shows_the_nearest_frame(gaps, fps, growth):
    times = at(gaps)
    line = uniform(times, fps, max_growth=growth)
    assert list(line.picks) == sorted(line.picks) and 0 <= line.picks[0]
    assert line.picks[-1] == len(times) - 1
    assert len(line.picks) <= max(2, growth * len(times))
    assert line.sample_fps == pytest.approx(fps / line.divisor)
    assert line.times == tuple(tick / line.sample_fps for tick in range(len(line.picks)))
    assert abs(line.times[-1] - line.duration) <= 0.5 / line.sample_fps + 1e-6
    for tick, (shown, pick) in enumerate(zip(line.times, line.picks, strict=True)):
        if tick < len(line.picks) - 1:
            assert abs(times[pick] - shown) == pytest.approx(min(abs(time - shown) for time in times))
            widest = max((b - a for a, b in zip(times, times[1:], strict=False) if a <= shown <= b), default=0.0)
            assert abs(times[pick] - shown) <= widest / 2 + 1e-9


@settings(max_examples=80, deadline=None)
@given(gaps=GAPS, fps=RATES, tolerance=st.sampled_from([0.0, 0.25, 0.5]))
def test_the_counts_are_those_of_the_list(gaps, fps, tolerance):
    times = at(gaps)
    line = uniform(times, fps, tolerance=tolerance)
    seen = [times[pick] for pick in line.picks]
    off = [abs(a - b) * line.sample_fps for a, b in zip(seen, line.times, strict=True)]
    assert (
        sum(share > tolerance + 1e-6 for share in off) <= line.moved <= sum(share > tolerance - 1e-6 for share in off)
    )
    assert line.repeated == sum(a == b for a, b in zip(seen, seen[1:], strict=False))
    assert line.left_out == len(set(times) - set(seen))


def test_growth_and_tolerance_are_settings():
    times = [0.0, 1.0, 2.0, 7.0, 8.3]
    assert uniform(times, 1.0).divisor == 1 and len(uniform(times, 1.0).picks) == 9
    assert uniform(times, 1.0, max_growth=1.0).divisor == 2
    assert uniform(times, 1.0, tolerance=0.4).moved < uniform(times, 1.0, tolerance=0.25).moved
    with pytest.raises(ValueError, match="max_growth: expected at least 1, found 0.5"):
        uniform(times, 1.0, max_growth=0.5)


def test_a_nurvid_row_of_the_second_kind_has_three_clocks():
    """Ten frames declared as ten seconds, one of them twice: 8 s native, 9 s by place in the list."""
    numbers = (332, 334, 336, 338, 340, 340, 342, 344, 346, 348)
    seconds = {mode: frame_seconds(numbers, NURVID, 1.0, 10.0, mode) for mode in CLOCKS}
    assert seconds["native"] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert seconds["index"] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert seconds["declared"] == [0, 1.25, 2.5, 3.75, 5, 5, 6.25, 7.5, 8.75, 10]


def test_without_a_declared_length_or_a_span_the_declared_clock_is_the_native_one():
    for numbers, declared in (((4, 6, 9), None), ((4, 6, 9), 0.0), ((4, 4), 7.0)):
        assert frame_seconds(numbers, NURVID, 1.0, declared, "declared") == frame_seconds(numbers, NURVID, 1.0)


def test_an_unknown_clock_is_refused():
    with pytest.raises(ValueError, match="expected one of native, index, declared, found 'wall'"):
        frame_seconds((0, 1), NURVID, 1.0, None, "wall")


@settings(max_examples=60, deadline=None)
@given(gaps=GAPS, first=st.integers(0, 10**6), mode=st.sampled_from(CLOCKS), even=st.booleans())
def test_seconds_start_at_0_and_never_decrease(gaps, first, mode, even):
    numbers = [first]
    for gap in [15] * len(gaps) if even else gaps:
        numbers.append(numbers[-1] + gap)
    seconds = frame_seconds(numbers, Clock(15.0, "table"), 1.0, 33.0, mode)
    assert seconds[0] == 0 and seconds == sorted(seconds) and len(seconds) == len(numbers)
    if mode == "native":
        assert seconds == [(number - first) / 15.0 for number in numbers]


def test_an_exact_list_keeps_every_frame_and_its_time():
    line = exact([0.0, 1.0, 1.0, 4.5], fps=1.0)
    assert line.picks == (0, 1, 2, 3) and line.times == (0.0, 1.0, 1.0, 4.5)
    assert (line.duration, line.moved, line.repeated, line.left_out) == (4.5, 0, 1, 0)


def test_thinning_keeps_every_kth_tick_or_both_ends():
    line = uniform([float(t) for t in range(10)], fps=1.0)
    every = thin(line, 6, "uniform")
    assert every.picks == (0, 2, 4, 6, 8, 9)
    assert every.sample_fps == 0.5 and every.times == (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    assert thin(line, 5, "uniform").picks == (0, 3, 6, 9)
    ends = thin(line, 5, "ends")
    assert ends.picks == (0, 2, 4, 7, 9) and ends.times == pytest.approx((0.0, 2.25, 4.5, 6.75, 9.0))
    assert ends.sample_fps == pytest.approx(4 / 9)
    assert thin(line, 10, "ends") is line
    assert len(thin(line, 1, "uniform").picks) == len(thin(line, 1, "ends").picks) == 1


def test_an_exact_list_thins_to_frames_with_their_own_times():
    line = exact([0.0, 1.0, 1.5, 2.0, 40.0, 41.0], fps=1.0)
    assert thin(line, 3, "uniform").picks == (0, 2, 5)
    assert thin(line, 4, "uniform").picks == (0, 2, 4, 5)
    assert thin(line, 3, "ends").times == (0.0, 1.5, 41.0)
    assert thin(line, 3, "ends").left_out == 3


def test_thinning_refuses_what_it_does_not_know():
    line = uniform([0.0, 1.0, 2.0], fps=1.0)
    with pytest.raises(ValueError, match="policy: expected one of uniform, ends, found 'first'"):
        thin(line, 2, "first")
    with pytest.raises(ValueError, match="frames: expected at least 1, found 0"):
        thin(line, 0, "ends")


@settings(max_examples=150, deadline=None)
@given(gaps=GAPS, fps=RATES, frames=st.integers(2, 45), policy=st.sampled_from(["uniform", "ends"]), own=st.booleans())
def test_a_thinned_list_is_short_enough_and_its_times_are_right(gaps, fps, frames, policy, own):
    times = at(gaps)
    line = exact(times, fps) if own else uniform(times, fps)
    less = thin(line, frames, policy)
    assert 1 <= len(less.picks) == len(less.times) <= max(frames, 1)
    assert less.picks[-1] == len(times) - 1 and list(less.picks) == sorted(less.picks)
    assert less.times[0] == 0 and list(less.times) == sorted(less.times)
    assert less.duration == times[-1]
    for shown, pick in list(zip(less.times, less.picks, strict=True)):
        if own:
            assert shown == times[pick]
        else:
            widest = max((b - a for a, b in zip(times, times[1:], strict=False) if a <= shown <= b), default=0.0)
            assert abs(times[pick] - shown) <= max(0.5 / less.sample_fps, widest / 2) + 1e-6
    if not own and len(less.times) > 1:
        assert less.times == pytest.approx([tick / less.sample_fps for tick in range(len(less.times))])


def test_the_clock_report_names_the_clocks_that_keep_the_gold_bounds():
    numbers = [332 + 2 * i for i in range(9)] + [348, 348, 348]  # 8 s native, 11 s by index
    report = clock_report(numbers, NURVID, 1.0, declared=12.0, bounds=[0.0, 3.0, 11.5])
    assert report == {
        "rows_declared": 1,
        "rows_disagreeing": 1,
        "disagreeing_with_gold": 1,
        "gold_inside_native": 0,
        "gold_inside_index": 0,
        "gold_inside_declared": 1,
    }
    assert clock_report(numbers, NURVID, 1.0, 12.0, [0.0, 11.0])["gold_inside_index"] == 1
    assert clock_report(numbers, NURVID, 1.0, 12.0, [-0.2, 1.0])["gold_inside_declared"] == 0
    assert clock_report(numbers, NURVID, 1.0, 12.0) == {"rows_declared": 1, "rows_disagreeing": 1}


def test_clocks_agree_within_half_a_second_or_a_sampling_interval():
    numbers = [0, 2, 4, 6]
    assert clock_report(numbers, NURVID, 1.0, 4.0, [9.0]) == {"rows_declared": 1, "rows_disagreeing": 0}
    assert clock_report(numbers, NURVID, 1.0, 4.1)["rows_disagreeing"] == 1
    assert clock_report(numbers, NURVID, 4.0, 3.6)["rows_disagreeing"] == 1
    assert clock_report(numbers, NURVID, 1.0, None, [1.0]) == {}
