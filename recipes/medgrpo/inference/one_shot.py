# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One solved example before the question: a training row of the same pair, about another surgery.

The example's clip, question and reference answer become an earlier turn of the chat. It stands after the system
message, if the row has one, and before the row's question. Boxes in the answer are in the model's space, as in SFT.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from data_preprocess.splits import group_of
from recipes.medgrpo.data.dataset import chat_of
from recipes.medgrpo.data.rows import DataError, Rows, read_columns


class Examples:
    """The rows of a training parquet by pair, of which `draw` takes one.

    Raises:
        DataError: no parquet of the preprocessor.
    """

    def __init__(self, file: str, seed: int):
        self.file, self.seed = file, seed
        self.rows = Rows.open([file])
        self._pairs: dict[str, list[int]] = defaultdict(list)
        self._groups: list[tuple[str, str]] = []
        said = read_columns(file, "data_source", "extra_info.source", "extra_info.video_id")
        for pair, source, video in zip(*(column.to_pylist() for column in said.columns), strict=True):
            self._pairs[pair].append(len(self._groups))
            self._groups.append(group_of(source, str(video)))

    def draw(self, row: Mapping) -> int:
        """The place of a row's example: the same whenever it is asked for.

        Raises:
            DataError: no row of the same pair is about another surgery.
        """
        extra = row["extra_info"]
        own = group_of(extra["source"], str(extra["video_id"]))
        fit = [place for place in self._pairs[row["data_source"]] if self._groups[place] != own]
        if not fit:
            raise DataError(
                f"{self.file}: expected a row of {row['data_source']} about another video than row {extra['index']}'s "
                f"({extra['video_id']}), found none"
            )
        file = int.from_bytes(str(extra.get("file") or "").encode()[:16], "big")
        return fit[int(np.random.default_rng([self.seed, extra["index"], file]).integers(len(fit)))]

    def messages(self, row: Mapping) -> list[dict]:
        """The row's chat in parts, with the example as an earlier turn."""
        place = self.draw(row)
        example = self.rows.row(place)
        family = row["extra_info"].get("model_family")
        if (found := example["extra_info"].get("model_family")) != family:
            raise DataError(f"{self.file}: row {place}: extra_info.model_family: expected {family}, found {found}")
        if not (answer := example["extra_info"].get("answer")):
            raise DataError(f"{self.file}: row {place}: extra_info.answer: expected a reference answer, found none")
        *ahead, question = chat_of(row)
        said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        return [*ahead, chat_of(example)[-1], said, question]
