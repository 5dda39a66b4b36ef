# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a conversion did, in counts that add up: one `Audit` a block of rows, merged in the order of the blocks."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from data_preprocess.annotations import RecordError, Sample
from data_preprocess.box_spaces import BoxCounts
from data_preprocess.frames import FrameError
from data_preprocess.splits import is_unknown

EXAMPLES = 3
"""Examples kept of every reason for a reject."""

ROWS = ("read", "written", "rejected", "other_tasks", "not_in_subset")
QUANTITIES = ("frames", "duration", "fps", "answer_words", "vision_tokens", "prompt_tokens", "answer_tokens")
"""Numbers kept of every written row, to report their spread per dataset-task pair."""


class Audit:
    """Counts of what was read, changed, odd and rejected.

    `flags` are per pair; `time_rules`, `timeline`, `clocks`, `rounding`, `boxes`, `own_groups` per source. `rounding`
    holds the IoU of each gold box and the box that the target says; `boxes` tells what the boxes count; `own_groups`
    holds the videos whose ids follow no rule, so that each is a group of its own. `digests` identify rows by id and by
    (id, qa_type, question), 8 bytes each, so that duplicates can be counted over all blocks. `frames` counts what the
    frame store made and reused.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.values: defaultdict[str, dict[str, array[float]]] = defaultdict(
            lambda: {name: array("d") for name in QUANTITIES}
        )
        self.videos: defaultdict[str, set[str]] = defaultdict(set)
        self.flags: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.time_rules: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.timeline: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.clocks: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.frames: Counter[str] = Counter()
        self.rounding: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self.own_groups: defaultdict[str, set[str]] = defaultdict(set)
        self.boxes: defaultdict[str, BoxCounts] = defaultdict(BoxCounts)
        self.digests = {"id": array("Q"), "id_qa_type_question": array("Q")}

    def reject(self, error: RecordError | FrameError) -> None:
        """Counts a row that cannot be written."""
        reason = reason_of(error)
        self.rows["rejected"] += 1
        self.rejects[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(str(error))

    def identity(self, sample: Sample) -> None:
        """Notes the row's id and question, so that duplicates can be counted."""
        digest = hashlib.blake2b(sample.row_id.encode(errors="surrogatepass"), digest_size=8)
        self.digests["id"].append(int.from_bytes(digest.digest(), "big"))
        digest.update(f"\0{sample.qa_type}\0{sample.question}".encode(errors="surrogatepass"))
        self.digests["id_qa_type_question"].append(int.from_bytes(digest.digest(), "big"))

    def written(self, pair: str, video: str, flags: Iterable[str], quantities: Sequence[float | None]) -> None:
        """Counts a row that is written; `quantities` in the order of `QUANTITIES`, None where the row has none."""
        self.rows["written"] += 1
        self.videos[pair].add(video)
        source = pair.split("/")[1]
        if is_unknown(source, video):
            self.own_groups[source].add(video)
        if flags:
            self.flags[pair].update(flags)
        for numbers, value in zip(self.values[pair].values(), quantities, strict=True):
            if value is not None:
                numbers.append(value)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Adds the counts of a later block, as `to_json` gave them."""
        for reason, shown in other["examples"].items():
            mine = self.examples.setdefault(reason, [])
            mine.extend(shown[: EXAMPLES - len(mine)])
        for name, counts in other.items():
            if name != "examples":
                _add(getattr(self, name), counts)

    def to_json(self) -> bytes:
        """Everything, as a JSON object; arrays and sets become lists."""
        return orjson.dumps(vars(self), default=list)

    @classmethod
    def from_json(cls, state: bytes) -> Audit:
        """The audit that `to_json` described."""
        audit = cls()
        audit.merge(orjson.loads(state))
        return audit

    @property
    def frame_rejects(self) -> int:
        """Rows rejected for their frames, which may be there the next time."""
        return sum(count for reason, count in self.rejects.items() if reason.startswith("frame: "))

    def reasons(self) -> list[dict[str, Any]]:
        """Why rows were rejected, the most frequent reason first."""
        return [
            {"reason": reason, "rows": count, "examples": self.examples[reason]}
            for reason, count in self.rejects.most_common()
        ]

    def report(self, per_split: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """The counts as `audit.json` shows them; `per_split` are the rows of each split and pair.

        Videos, spreads, flags and times are those of all converted rows, a subset's or not.
        """
        pairs = {}
        for pair in sorted(self.values):
            splits = {split: counts.get(pair, 0) for split, counts in per_split.items()}
            converted = len(self.values[pair]["frames"])
            spreads = {name: spread(numbers) for name, numbers in self.values[pair].items() if numbers}
            counts = {"rows": sum(splits.values()), "converted": converted, "videos": len(self.videos[pair])}
            pairs[pair] = {**counts, **splits, **spreads}
        rows = {name: self.rows[name] for name in ROWS}
        if per_split:
            rows["written"] = sum(sum(counts.values()) for counts in per_split.values())
            rows["not_in_subset"] = self.rows["written"] - rows["written"]
        return {
            "rows": rows,
            "rejected": self.reasons(),
            "splits": {split: sum(counts.values()) for split, counts in per_split.items()},
            "pairs": pairs,
            "flags": _plain(self.flags),
            "own_groups": {source: sorted(names) for source, names in sorted(self.own_groups.items())},
            "duplicates": {name: _repeats(numbers) for name, numbers in self.digests.items()},
            "time_rules": _plain(self.time_rules),
            "timeline": _plain(self.timeline),
            "clocks": _plain(self.clocks),
            "frames": {name: self.frames[name] for name in ("made", "reused")},
            "boxes": {
                source: {**vars(counts), "finding": counts.finding()[0]}
                for source, counts in sorted(self.boxes.items())
            },
            "stg_rounding_iou": {
                source: {"mean": float(np.mean(numbers)), "min": float(np.min(numbers)), "boxes": len(numbers)}
                for source, numbers in sorted(self.rounding.items())
            },
        }


def _add(total: Any, more: Any) -> None:
    """Adds counts to those of earlier blocks, in place."""
    if isinstance(total, array):
        total.extend(more)
    elif isinstance(total, Counter | set | BoxCounts):
        total.update(more)
    else:
        for key, counts in more.items():
            _add(total[key], counts)


def reason_of(error: RecordError | FrameError) -> str:
    """What kind of reject this is: the message without what differs from row to row."""
    if isinstance(error, FrameError):
        return "frame: " + re.split(r"[:(]| /", error.reason)[0].strip()
    key, expected = (re.sub(r"\d[\d.]*", "*", text) for text in (error.key, error.expected))
    return f"{key}: expected {expected}" if key else f"expected {expected}"


def spread(numbers: array) -> dict[str, float]:
    """Least, median, mean, 99th percentile and greatest of some numbers."""
    values = np.frombuffer(numbers, dtype=np.float64)
    low, middle, high = np.percentile(values, (0, 50, 99))
    return {
        "min": float(low),
        "p50": float(middle),
        "mean": float(values.mean()),
        "p99": float(high),
        "max": float(values.max()),
    }


def _plain(counters: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {key: dict(sorted(counts.items())) for key, counts in sorted(counters.items()) if counts}


def _repeats(digests: array) -> int:
    """Rows that say the same as an earlier row."""
    return len(digests) - len(np.unique(np.frombuffer(digests, dtype=np.uint64))) if digests else 0
