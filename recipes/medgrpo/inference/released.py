# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Our records in the format of the released inference code, which the official tools read.

The file is a dict by row number of `metadata`, `qa_type`, `struc_info`, `question`, `answer`, `data_source`, as the
paper's `vllm_infer.py` writes it for test rows. We add `truncated` and, for boxes, `box_space`. The official tools
compare boxes with pixels of the annotation canvas, so boxes are converted to the canvas; the JSON lines beside the file
keep the answer as the model said it. Reference answers are left out (`struc_info` is null).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipes.medgrpo.answers.box_text import boxes_on_canvas
from recipes.medgrpo.answers.questions import TIMED_SOURCE, parquet_row
from recipes.medgrpo.data.rows import DataError, read_columns


def check_one_file(parquet: str) -> None:
    """Raises `DataError` for the rows of several annotation files: they number their rows alike."""
    files = sorted(map(str, read_columns(parquet, "extra_info.file")["file"].unique().to_pylist()))
    if len(files) > 1:
        raise DataError(f"{parquet}: rows of {', '.join(files)}: expected those of one file, or a .jsonl output")


def released_record(row: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the released format for a row of the parquet and our record of its answer."""
    extra = row["extra_info"]
    described = parquet_row(extra)
    answer, said = record["answer"], {}
    # The parquet keeps one pair of bounds, whatever key the annotations have them under.
    unit = "time" if described.source == TIMED_SOURCE else "frame"
    if row["ability"] == "stg":
        answer = boxes_on_canvas(answer, described.space)[0]
        said["box_space"] = "canvas"
    return {
        "metadata": {
            "video_id": described.video_id,
            "fps": described.fps,
            **{
                f"input_video_{side}_{unit}": extra[f"clip_{side}"]
                for side in ("start", "end")
                if extra[f"clip_{side}"]
            },
        },
        "qa_type": described.qa_type,
        "struc_info": None,
        "question": extra["question"],
        "answer": answer,
        "data_source": described.source,
        "truncated": record["truncated"],
        **said,
    }
