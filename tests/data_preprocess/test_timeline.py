# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Clip seconds of listed frames, and uniform lists."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.timeline import MAX_GROWTH, Clock, clip_seconds, native_clock, uniform

ANY = ("/root/data/somewhere/1.jpg",)


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
    assert clip_seconds(numbers, Clock(25.0, "table")) == [0.0, 1.0, 2.0, 93.0, 94.0]


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
    assert len(line.picks) == 76 <= MAX_GROWTH * len(times)


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


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.sampled_from([0, 1, 1, 2, 15, 16, 30, 900]), max_size=40),
    fps=st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0]),
)
def test_every_tick_shows_the_nearest_frame(steps, fps):
    times = [0.0]
    for step in steps:
        times.append(times[-1] + step / 15)
    line = uniform(times, fps)
    assert list(line.picks) == sorted(line.picks)
    assert line.picks[-1] == len(times) - 1
    assert len(line.picks) <= max(2, MAX_GROWTH * len(times))
    assert line.sample_fps == pytest.approx(fps / line.divisor)
    assert abs((len(line.picks) - 1) / line.sample_fps - line.duration) <= 0.5 / line.sample_fps + 1e-6
    for tick, pick in list(enumerate(line.picks))[:-1]:
        nearest = min(abs(time - tick / line.sample_fps) for time in times)
        assert abs(times[pick] - tick / line.sample_fps) == pytest.approx(nearest)
