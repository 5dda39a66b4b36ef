# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What a record of answers says of the row that it answers, held against a row."""

from __future__ import annotations

from typing import Any

from recipes.medgrpo.answers.questions import Row, clip_bound, folded_question

CLAIMS = {"qa_type", "question", "metadata", "id", "data_source", "video"}
"""Keys by which a record says which row it answers."""


def stray(record: dict, row: Row) -> tuple[str, Any, Any] | None:
    """(field, expected, found) where a record says that it answers another row; what it does not say is not held."""
    claims = {
        "file": row.file,
        "qa_type": row.qa_type,
        "video": f"{row.source}/{row.video_id}",
        "question": row.question,
    }
    for key, expected in claims.items():
        found = record.get(key)
        if isinstance(found, str) and (folded_question(found) if key == "question" else found) != expected:
            return key, expected, found
    source = record.get("data_source")
    pair = f"medvidbench/{row.source}/{row.task}"
    if source and str(source).replace("-", "_") not in (row.source, pair):
        return "data_source", pair if "/" in str(source) else row.source, source
    metadata = record.get("metadata")
    if isinstance(metadata, dict):
        bounds = clip_bound(metadata, "start"), clip_bound(metadata, "end")
        found = "&&".join(map(str, (metadata.get("video_id", ""), *bounds, metadata.get("fps"))))
        if not same_id(found, row):
            return "metadata", row.id, found
    if "id" in record and "prediction" in record and not same_id(record["id"], row):
        return "id", row.id, record["id"]
    return None


def same_id(found: Any, row: Row) -> bool:
    """Whether an id names the row's clip: in the submission's form, a blank bound naming any, or as the row's own."""
    if not isinstance(found, str) or not found:
        return False
    if found in (row.id, row.name):
        return True
    pieces = found.rsplit("&&", 3)
    if len(pieces) != 4 or pieces[0] != row.video_id:
        return False
    bounds = all(
        said in ("", known) or known == "" for said, known in zip(pieces[1:3], (row.start, row.end), strict=True)
    )
    try:
        return bounds and float(pieces[3]) == float(row.fps)
    except ValueError:
        return False
