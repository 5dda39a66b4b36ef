# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rows that a run's answers are about: question, reference, and the clip's frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from recipes.medgrpo.data.rows import DataError, Rows, read_columns
from recipes.medgrpo.reporting.said import Said, reference
from recipes.medgrpo.reporting.thumbnails import Thumbnails, chosen_frames, thumbnail_size

SPLITS = ("train", "val", "test")
CHUNK = 200
"""Rows that a page loads at a time."""
FRAMES = 16
"""Most thumbnails of a clip."""
Key = tuple[str, int]
"""(annotation file, number in it)."""


class RowBook:
    """Numbers for rows in the order in which they are asked for, and what a page shows of each.

    Args:
        thumbs: gives out the thumbnails' names.
        per_pair: of this many rows of a pair thumbnails are shown.
    """

    def __init__(self, thumbs: Thumbnails, per_pair: int):
        self._rows: Rows | None = None
        self._places: dict[Key, int] = {}
        self._thumbs, self._per_pair = thumbs, per_pair
        self._pictured: Counter[str] = Counter()
        self._numbers: dict[Key, int] = {}
        self._known: list[tuple[Key, str, bool]] = []
        self._row = lru_cache(maxsize=256)(self._read)

    def open(self, data: Path) -> bool:
        """Take up the rows in a folder of the preprocessor's parquet files; whether it has any. Once.

        Raises:
            DataError: a parquet file that is none of ours.
        """
        files = [str(file) for name in SPLITS if (file := data / f"{name}.parquet").exists()]
        if not files:
            return False
        places: dict[Key, int] = {}
        for name in files:
            table = read_columns(name, "extra_info.file", "extra_info.index")
            keys = zip(table["file"].to_pylist(), table["index"].to_pylist(), strict=True)
            start = len(places)
            places |= {key: start + at for at, key in enumerate(keys)}
            if len(places) != start + table.num_rows:
                raise DataError(f"{name}: a row (extra_info.file, extra_info.index) is there twice")
        self._rows, self._places = Rows.open(files), places
        self._row.cache_clear()
        return True

    def __len__(self) -> int:
        return len(self._known)

    @property
    def chunks(self) -> int:
        """How many pieces of `CHUNK` rows there are; the last one may be shorter."""
        return -(-len(self) // CHUNK)

    def number(self, key: Key, data_source: str) -> int:
        """The row's number, the next one for a row that has none yet."""
        if key not in self._numbers:
            pictured = self._pictured[data_source] < self._per_pair
            self._pictured[data_source] += pictured
            self._numbers[key] = len(self._known)
            self._known.append((key, data_source, pictured))
        return self._numbers[key]

    def extra(self, number: int) -> Mapping[str, Any] | None:
        """The row's `extra_info`; None where no parquet file has the row."""
        row = self._row(self._known[number][0]) if number >= 0 else None
        return None if row is None else row["extra_info"]

    def chunk(self, number: int) -> dict[str, Any]:
        """The rows `CHUNK` x number and the following ones."""
        first = number * CHUNK
        return {"first": first, "rows": [self._shown(*known) for known in self._known[first : first + CHUNK]]}

    def _read(self, key: Key) -> dict | None:
        place = self._places.get(key)
        return None if place is None or self._rows is None else self._rows.row(place)

    def _shown(self, key: Key, data_source: str, pictured: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {"pair": data_source, "file": key[0], "index": key[1], "frames": []}
        row = self._row(key)
        if row is None:
            return shown
        extra, canvas, truth = row["extra_info"], row["extra_info"]["canvas"], row["reward_model"]["ground_truth"]
        gold, asked = reference(data_source, truth), _asked(extra)
        return shown | {
            "split": extra["split"],
            "question": extra["question"],
            "gold_text": extra["answer"],
            "gold": gold,
            "asked": asked,
            "duration": extra["duration"],
            "width": canvas and canvas[0],
            "height": canvas and canvas[1],
            "fps": extra["fps"],
            "frames": self._frames(row, [*gold.get("boxes", ()), *asked.get("boxes", ())]) if pictured else [],
        }

    def _frames(self, row: Mapping[str, Any], boxes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        clip = row["videos"][0] if row["videos"] else {"video": []}
        times = clip.get("frame_seconds") or [at / clip["sample_fps"] for at in range(len(clip["video"]))]
        width, height = thumbnail_size(tuple(row["extra_info"]["processed_size"]))
        frames = []
        for at in chosen_frames(times, [box["time"] for box in boxes], FRAMES):
            thumb = self._thumbs.name(clip["video"][at])
            frames.append({"time": times[at], "thumb": thumb, "w": width, "h": height})
        return frames


def _asked(extra: Mapping[str, Any]) -> Said:
    """The region that a question is about, as boxes at the times of the frames that bear it; nothing without one.

    Rows that were preprocessed before this field was there do not say it.
    """
    region = extra.get("region")
    return {"boxes": [{"time": time, "box": region["box"]} for time in region["seconds"]]} if region else {}
