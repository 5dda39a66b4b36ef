# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Which rows a record may answer, by what it says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from recipes.medgrpo.answers.formats import stray
from recipes.medgrpo.answers.questions import Row, folded_question


class RowSearch:
    """The rows that a record may answer, found without comparing it with all of them."""

    def __init__(self, rows: Sequence[Row]):
        self.rows = rows
        self.by: dict[tuple[str, str], list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            for key in {
                ("video", row.video_id),
                ("name", row.name),
                ("question", row.question),
                ("qa_type", row.qa_type),
            }:
                self.by[key].append(position)

    def first_two(self, record: dict) -> list[int]:
        """Positions of the first two rows that the record says nothing against."""
        found = (position for position in self._near(record) if stray(record, self.rows[position]) is None)
        return [position for position, _ in zip(found, range(2), strict=False)]

    def _near(self, record: dict) -> Sequence[int]:
        for key in self._keys(record):
            if all(isinstance(part, str) for part in key):
                return self.by.get(key, ())
        return range(len(self.rows))

    def _keys(self, record: dict) -> Iterator[tuple[str, Any]]:
        metadata, video, name = record.get("metadata"), record.get("video"), record.get("id")
        if isinstance(metadata, dict) and "video_id" in metadata:
            yield "video", metadata["video_id"]
        if isinstance(video, str):
            yield "video", video.partition("/")[2]
        if isinstance(name, str) and name and "prediction" in record:
            yield ("name", name) if ("name", name) in self.by else ("video", name.rsplit("&&", 3)[0])
        if isinstance(record.get("question"), str):
            yield "question", folded_question(record["question"])
        yield "qa_type", record.get("qa_type")
