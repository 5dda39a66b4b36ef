# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The public leaderboard's ten columns, computed as its evaluator computes them, surprises included.

A local file of results so gets the numbers that the leaderboard would show. These rules are for comparison only: the
reward and the strict metrics follow none of them, because many of them pay for an omission (an answer that cannot be
read leaves the mean, an unsure component can be left out, a blank caption is not judged). Each module's docstring
names the surprises of its columns.

``score_record`` gives the numbers of one record, ``columns`` those of a file. Nothing else of ``reward_score`` imports
this package.

    >>> record = {"metadata": {"video_id": "v", "fps": 1.0}, "qa_type": "tal", "data_source": "AVOS",
    ...           "question": "When?", "struc_info": [{"spans": [{"start": 0, "end": 10}]}], "gnd": "0-10",
    ...           "answer": "0-5 seconds, 90-99 seconds"}
    >>> score_record(record)["meanIoU@0.5"]  # the second span costs nothing
    0.5
    >>> columns([record])
    {'tag_miou_03': 0.5, 'tag_miou_05': 0.5}
"""

from .figures import columns
from .scoring import COLUMNS, LeaderboardError, score_record

__all__ = ["COLUMNS", "LeaderboardError", "columns", "score_record"]
