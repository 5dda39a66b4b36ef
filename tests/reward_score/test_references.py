# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""References that no answer can satisfy are an error, and a written target is read back whole."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.answers import ASPECTS, CVS_COMPONENTS, Event, render_dvc, render_stg, render_tal
from reward_score.boxes import to_model
from reward_score.errors import BadGroundTruth
from reward_score.medgrpo import compute_score
from reward_score.tasks import check_reference, check_target

UNSATISFIABLE = [
    ("tal", "spans", {"spans": [[7.0, 3.0]]}),
    ("tal", "spans", {"spans": [[1.0, 2.0], [9.0, 8.9]]}),
    ("tal", "spans", {"spans": [[-0.5, 3.0]]}),
    ("tal", "spans", {"spans": [[0.0, float("nan")]]}),
    ("tal", "spans", {"spans": [[0.0, 1e9]]}),
    ("tal", "spans", {"spans": [[0.0, 1.0]] * 201}),
    ("stg", "boxes: 3.0", {"boxes": {"3.0": [100, 50, 100, 200]}}),
    ("stg", "boxes: 3.0", {"boxes": {"3.0": [100, 50, 300, 50]}}),
    ("stg", "boxes: 3.0", {"boxes": {"3.0": [300, 200, 100, 50]}}),
    ("stg", "boxes", {"boxes": {"nan": [1, 2, 3, 4]}}),
    ("stg", "boxes", {"boxes": {"-1.0": [1, 2, 3, 4]}}),
    ("stg", "boxes", {"boxes": {"1.0": [1, 2, 3, 4], "1.00": [1, 2, 3, 4]}}),
    ("stg", "stride", {"boxes": {"1.0": [1, 2, 3, 4]}, "stride": float("nan")}),
    ("stg", "stride", {"boxes": {"1.0": [1, 2, 3, 4]}, "stride": [1]}),
    ("dvc", "events", {"events": [{"start": 5.0, "end": 1.0, "caption": "cut"}]}),
    ("dvc", "events", {"events": [{"start": 1.0, "end": 5.0, "caption": "..."}]}),
    ("dvc", "events", {"events": [{"start": 1.0, "end": 5.0, "caption": "cut 7.0-9.0 seconds: tie"}]}),
    ("dvc", "events", {"events": [{"start": 1.0, "end": 5.0, "caption": "cut <think> tie"}]}),
    ("nap", "label", {"label": "tying\nsuturing"}),
    ("nap", "label", {"label": "Action is paused"}),
    ("nap", "label", {"label": "x" * 300}),
    ("vs", "text", {"text": "3"}),
    ("rc", "text", {"text": "...!"}),
    ("cvs", "scores", {"scores": {"Two structures": 2}}),
    ("cvs", "scores", {"scores": {"two_structures": 2, "bleeding": 1}}),
    ("cvs", "scores: two_structures", {"scores": {"two_structures": 2.0}}),
    ("sa", "scores", {"scores": {"respect for tissue": 2}}),
]


@pytest.mark.parametrize(("task", "field", "truth"), UNSATISFIABLE)
def test_a_reference_that_nobody_can_satisfy_names_its_field(task, field, truth):
    with pytest.raises(BadGroundTruth, match=f"^ground_truth: {field}"):
        check_reference(task, truth)
    with pytest.raises(BadGroundTruth, match=f"ground_truth: {field}"):
        asyncio.run(compute_score(f"medvidbench/AVOS/{task}", "7.0-3.0 seconds.", json.dumps(truth)))


@pytest.mark.parametrize("interval", [float("nan"), float("inf"), [2.0], "2", 0, -1.0, True])
@pytest.mark.parametrize("task", ["tal", "dvc"])
def test_an_interval_that_is_no_time_is_an_error(task, interval):
    truth = {"spans": [[1.0, 2.0]], "events": [{"start": 1.0, "end": 2.0, "caption": "cut"}]}
    answer = "1.0-2.0 seconds." if task == "tal" else "1.0-2.0 seconds: cut"
    with pytest.raises(BadGroundTruth, match="sample_interval"):
        asyncio.run(compute_score(f"medvidbench/AVOS/{task}", answer, json.dumps(truth), {"sample_interval": interval}))


@pytest.mark.parametrize("canvas", [[0, 10], [float("nan"), 10], "wide", [10], [None, 3], 7])
def test_a_canvas_that_is_no_size_is_an_error(canvas):
    extra = {"model_family": "qwen2_5_vl", "canvas": canvas, "processed_size": [100, 100]}
    with pytest.raises(BadGroundTruth, match="canvas"):
        asyncio.run(
            compute_score(
                "medvidbench/CoPESD/stg", "1.0 seconds: [1, 2, 3, 4]", '{"boxes": {"1.0": [1, 2, 3, 4]}}', extra
            )
        )


TRUTHS = {
    "tal": ("1.0-2.5, 7.0-7.0 seconds.", {"spans": [[1.04, 2.46], [7.0, 7.0]]}),
    "dvc": ("1.0-2.5 seconds: cut  it", {"events": [{"start": 1.0, "end": 2.46, "caption": "cut it"}]}),
    "nap": ("tying", {"label": "tying"}),
    "vs": ("The surgeon ties.", {"text": "The surgeon ties."}),
    "rc": ("The surgeon ties.", {"text": " The surgeon ties. "}),
    "cvs": (
        "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0",
        {"scores": dict(zip(CVS_COMPONENTS, (2, 1, 0), strict=True))},
    ),
    "sa": (", ".join(f"{name}: 3/5" for name in ASPECTS), {"scores": dict.fromkeys(ASPECTS, 3)}),
}


@pytest.mark.parametrize("task", TRUTHS)
def test_a_target_is_read_back_whole(task):
    target, truth = TRUTHS[task]
    name = f"medvidbench/AVOS/{task}"
    check_target(name, target, truth)
    other = {"tal": "3.0-4.0", "dvc": "cut", "nap": "suturing", "vs": "A nurse.", "rc": "A nurse."}.get(task, ": 9")
    for wrong in (f"<answer>{target}</answer>", other, "", "x" * 70_000):
        with pytest.raises(BadGroundTruth, match="^target:"):
            check_target(name, wrong, truth)


def test_a_target_of_boxes_is_read_back_in_the_space_of_the_model():
    boxes = {3.0: (100.0, 50.0, 300.0, 200.0), 7.5: (0.0, 0.0, 854.0, 480.0)}
    truth = {"boxes": {str(time): list(box) for time, box in boxes.items()}}
    for family, size in (("qwen2_5_vl", (448, 252)), ("qwen3_vl", (1000, 1000))):
        extra = {"canvas": [854, 480], "processed_size": size, "model_family": family}
        said = {time: to_model(box, (854, 480), size, family) for time, box in boxes.items()}
        for decimals in (0, 1, 2):
            check_target("medvidbench/CoPESD/stg", render_stg(said, decimals), truth, extra)
        with pytest.raises(BadGroundTruth, match="^target:"):
            check_target("medvidbench/CoPESD/stg", render_stg(boxes), truth, extra)


HUNDREDTHS = st.integers(0, 100_000).map(lambda n: n / 100)
SPANS = st.lists(st.tuples(HUNDREDTHS, HUNDREDTHS).map(lambda pair: tuple(sorted(pair))), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(SPANS)
def test_what_is_written_of_a_reference_is_read_back(spans):
    check_target("medvidbench/AVOS/tal", render_tal(spans), {"spans": [list(span) for span in spans]})
    events = [Event(start, end, "cut the duct") for start, end in spans]
    check_target("medvidbench/AVOS/dvc", render_dvc(events), {"events": [vars(event) for event in events]})


def test_a_short_span_keeps_its_length_when_it_is_written():
    assert render_tal([(5.01, 5.04), (5.0, 5.0)]) == "5.01-5.04, 5.0-5.0 seconds."
    assert render_dvc([Event(5.001, 5.004, "cut")]) == "5.001-5.004 seconds: cut"
