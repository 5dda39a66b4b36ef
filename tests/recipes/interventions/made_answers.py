# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Rows with a reference of each task that has elements, without frames."""

import json

TARGETS = {
    "tal": ("1.0-3.0, 5.0-9.0, 12.0-14.0 seconds.", {"spans": [[1, 3], [5, 9], [12, 14]]}),
    "stg": (
        "0.0 seconds: [0, 0, 10, 10] 4.0 seconds: [20, 0, 30, 10] 8.0 seconds: [40, 0, 50, 10]",
        {"boxes": {"0.0": [0, 0, 10, 10], "4.0": [20, 0, 30, 10], "8.0": [40, 0, 50, 10]}},
    ),
    "dvc": (
        "0.0-4.0 seconds: The hook dissects the liver.\n4.0-8.0 seconds: The grasper lifts it.\n"
        "8.0-9.0 seconds: The bag is closed.",
        {
            "events": [
                {"start": 0, "end": 4, "caption": "The hook dissects the liver."},
                {"start": 4, "end": 8, "caption": "The grasper lifts it."},
                {"start": 8, "end": 9, "caption": "The bag is closed."},
            ]
        },
    ),
    "cvs": (
        "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0",
        {"scores": {"two_structures": 2, "cystic_plate": 1, "hepatocystic_triangle": 0}},
    ),
    "vs": (
        "The hook is seen. It dissects the gallbladder. The field is dry.",
        {"text": "The hook is seen. It dissects the gallbladder. The field is dry."},
    ),
}
SOURCES = {"stg": "CholecTrack20", "cvs": "Cholec80_CVS", "vs": "CholecT50"}


def row(task, target=None, truth=None):
    """A row of the parquet with the task's reference, or another."""
    known, content = TARGETS[task]
    return {
        "data_source": f"medvidbench/{SOURCES.get(task, 'AVOS')}/{task}",
        "ability": task,
        "reward_model": {"ground_truth": json.dumps({"text": target or known, **(truth or content)})},
        "extra_info": {"answer": target or known, "sample_interval": 1.0, "index": 0, "frames": 12, "question": "?"},
    }
