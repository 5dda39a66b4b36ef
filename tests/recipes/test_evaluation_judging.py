# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import pytest

from recipes.medgrpo.evaluation.columns import score_leaderboard
from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.judging import Judged, pairs_of
from reward_score.judge import JudgeRefused, JudgeUnavailable, OfflineJudge

LIFTS = "The grasper lifts the gallbladder."


def graded(index, task, qa_type, answer, gnd, structure=None):
    record = {
        "qa_type": qa_type,
        "answer": answer,
        "gnd": gnd,
        "struc_info": structure,
        "question": "What happens?",
        "metadata": {"video_id": f"v{index}", "fps": "1.0"},
        "data_source": "CholecT50",
    }
    return Graded(index, "f.json", f"medvidbench/CholecT50/{task}", f"CholecT50/v{index}", answer, record, None, {})


def captions():
    events = [{"start": 0, "end": 10, "caption": LIFTS}]
    return [
        graded(0, "vs", "video_summary_gpt", LIFTS, LIFTS),
        graded(1, "vs", "video_summary_gpt", LIFTS, LIFTS),
        graded(2, "rc", "region_caption_gpt", "The hook cuts.", LIFTS),
        graded(3, "dvc", "dense_captioning_gpt", f"0-10 seconds: {LIFTS}", "", [events]),
        graded(4, "tal", "tal", "0.0-1.0 seconds.", "", [{"spans": [{"start": 0, "end": 1}]}]),
    ]


def test_the_judged_columns_by_a_judge_of_ours():
    pairs = pairs_of(captions())
    # Each text once, though three rows say the first.
    assert pairs == {(LIFTS, LIFTS): "vs", ("The hook cuts.", LIFTS): "rc"}
    judge = Judged(OfflineJudge(), pairs)
    columns = {name: found.value for name, found in score_leaderboard(captions(), judge=judge).overall.items()}
    # Said word for word, and said of something else.
    assert columns["vs_llm"] == columns["dvc_llm"] == 5
    assert 1 <= columns["rc_llm"] < 2.5
    assert judge.notes() == []


class Refusing:
    """A judge that refuses one text, or is down."""

    def __init__(self, error):
        self.error, self.inner = error, OfflineJudge()

    async def score(self, prediction, reference, *, task, question=None):
        if "hook" in prediction:
            raise self.error
        return await self.inner.score(prediction, reference, task=task)


def test_a_refused_text_is_left_out_and_counted():
    judge = Judged(Refusing(JudgeRefused("not a word about that")), pairs_of(captions()))
    found = score_leaderboard(captions(), judge=judge)
    assert found.overall["vs_llm"].value == 5 and found.official["rc_llm"] == "unjudged"
    assert judge.notes() == ["captions without a judgement: 1 of 2 (JudgeRefused 1)"]


def test_a_judge_that_is_down_gives_no_column():
    with pytest.raises(JudgeUnavailable):
        Judged(Refusing(JudgeUnavailable("connection refused")), pairs_of(captions()))
