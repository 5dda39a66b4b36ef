# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run's metrics as curves."""

import numpy as np
import pytest

from recipes.medgrpo.reporting.curves import CurveBook, curve_of
from recipes.medgrpo.reporting.steps import Step

AVOS, COPESD = "medvidbench/AVOS/tal", "medvidbench/CoPESD/tal"


def logged(step, attempt=1, **more):
    return {"step": step, "attempt": attempt, "medgrpo/AVOS/tal/reward": step / 10, **more}


def shown(records, steps=None, pairs=()):
    book = CurveBook(pairs)
    book.update(records, steps or {})
    return book.shown()


@pytest.mark.parametrize(
    ("metric", "curve"),
    [
        ("medgrpo/AVOS/tal/reward", f"reward|pair|{AVOS}"),
        ("medgrpo/AVOS/tal/acc", f"accuracy|pair|{AVOS}"),
        ("medgrpo/AVOS/tal/saturated", f"saturation|pair|{AVOS}"),
        ("actor/pg_clipfrac", "clip_share|all|"),
        ("medgrpo/pairs_mean/reward", None),
        ("medgrpo/judge/latency_s/p50", None),
        ("perf/throughput", None),
    ],
)
def test_which_metrics_are_curves(metric, curve):
    assert curve_of(metric) == curve


def test_a_task_a_source_and_everything_are_means_over_pairs():
    records = [logged(1, **{"medgrpo/CoPESD/tal/reward": 0.5}), logged(2)]
    series = shown(records)["series"]
    assert series[f"reward|pair|{COPESD}"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    # In the second step one pair is there.
    assert series["reward|task|tal"].tolist() == pytest.approx([0.3, 0.2])
    assert series["reward|all|"].tolist() == pytest.approx([0.3, 0.2])
    assert series["reward|source|CoPESD"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)


def test_shares_of_the_gradient_add_up():
    shares = {"medgrpo/AVOS/tal/gradient_share": 0.75, "medgrpo/CoPESD/tal/gradient_share": 0.25}
    series = shown([logged(1, **shares)])["series"]
    assert series["gradient_share|task|tal"].tolist() == [1.0]
    assert "gradient_share|all|" not in series


def test_lengths_come_from_the_recorded_answers():
    series = shown([logged(1), logged(2)], {2: Step(tokens={0: 12.0})}, [AVOS])["series"]
    assert series[f"tokens|pair|{AVOS}"].tolist() == pytest.approx([np.nan, 12.0], nan_ok=True)


def test_curves_grow_as_if_they_were_read_at_once():
    draw = np.random.default_rng(0)
    records = [
        logged(
            step, **{f"medgrpo/{source}/tal/acc": draw.random() for source in ("AVOS", "CoPESD") if draw.random() < 0.7}
        )
        for step in range(1, 40)
    ]
    book = CurveBook([])
    for end in (0, 1, 5, 6, 20, 39):
        book.update(records[:end], {})
        assert_same(book.shown(), shown(records[:end]))
    # A resume: steps from 11 on are trained again.
    resumed = records[:10] + [logged(step, attempt=2) for step in range(11, 15)]
    book.update(resumed, {})
    assert_same(book.shown(), shown(resumed))


def assert_same(one, other):
    assert one["step"] == other["step"] and one["attempt"] == other["attempt"]
    assert one["series"].keys() == other["series"].keys()
    for name, values in one["series"].items():
        np.testing.assert_array_equal(values, other["series"][name])


def test_steps_of_a_long_run_share_points():
    content = shown([logged(step) for step in range(1, 3001)])
    assert len(content["step"]) == 1000 and content["steps_per_point"] == 3
    assert content["step"][0] == 3 and content["step"][-1] == 3000
    assert content["series"][f"reward|pair|{AVOS}"][0] == pytest.approx(0.2)
