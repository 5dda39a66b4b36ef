# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a page draws of answers and references."""

import json

import pytest

from recipes.medgrpo.reporting.said import answered, reference

STG = "medvidbench/AVOS/stg"
EXTRA = {"canvas": [112, 84], "processed_size": [84, 56], "model_family": "qwen2_5_vl"}


def test_boxes_are_on_the_canvas():
    said, error = answered(STG, "2.0 seconds: [21, 14, 63, 42]", EXTRA)
    assert error is None
    assert said == {"boxes": [{"time": 2.0, "box": [28.0, 21.0, 84.0, 63.0]}]}
    # Where the row is not known, they stay in the space of the answer.
    assert answered(STG, "2.0 seconds: [21, 14, 63, 42]", None)[0]["boxes"][0]["box"] == [21, 14, 63, 42]
    gold = {"text": "x", "boxes": {"2.0": [28, 21, 84, 63]}, "stride": 2}
    assert reference(STG, json.dumps(gold)) == said


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        ("tal", "1.0-2.5 seconds.", {"spans": [[1.0, 2.5]]}),
        ("nap", "tying", {"label": "tying"}),
        ("rc", "A hook.", {"text": "A hook."}),
        ("qa", "A hook.", {"text": "A hook."}),
        ("dvc", "0.0-8.0 seconds: it cuts", {"events": [{"start": 0.0, "end": 8.0, "caption": "it cuts"}]}),
        (
            "cvs",
            "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0",
            {"scores": {"two_structures": 2, "cystic_plate": 1, "hepatocystic_triangle": 0}},
        ),
    ],
)
def test_answers_of_each_kind(task, text, said):
    assert answered(f"medvidbench/CoPESD/{task}", text, {}) == (said, None)


def test_what_is_wrong_with_an_answer_is_said():
    assert answered("medvidbench/AVOS/tal", "nobody knows", {}) == ({}, "no answer to tal can be read in this text")
    said, error = answered("medvidbench/AVOS/tal", "from 1 to 2 seconds", {})
    assert said == {"spans": [[1.0, 2.0]]} and error == "it can be read, but deviates from the grammar of tal"
    assert reference("medvidbench/AVOS/tal", "{}") == {}
