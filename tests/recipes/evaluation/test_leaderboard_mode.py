# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from mock_judge_server import MockJudge, Reply, honest  # noqa: E402

from recipes.medgrpo.evaluate import note_judged_columns, origin, parse, score
from recipes.medgrpo.evaluation.inputs import Graded, Inputs
from recipes.medgrpo.evaluation.leaderboard import judged, pairs_of, score_leaderboard
from reward_score.judge import JudgeRefused, JudgeUnavailable, OfflineJudge
from reward_score.judge.prompting import load_prompt

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
    assert {pair: asked.task for pair, asked in pairs.items()} == {
        (LIFTS, LIFTS): "vs",
        ("The hook cuts.", LIFTS): "rc",
    }
    judge, notes = judged(OfflineJudge(), captions())
    columns = {name: found.value for name, found in score_leaderboard(captions(), judge=judge).overall.items()}
    # Said word for word, and said of something else.
    assert columns["vs_llm"] == columns["dvc_llm"] == 5
    assert 1 <= columns["rc_llm"] < 2.5
    assert notes == []


class Refusing:
    """A judge that refuses one text, or is down."""

    def __init__(self, error):
        self.error, self.inner = error, OfflineJudge()

    async def score(self, prediction, reference, *, task, question=None):
        if "hook" in prediction:
            raise self.error
        return await self.inner.score(prediction, reference, task=task)

    async def aclose(self):
        await self.inner.aclose()


def test_a_refused_text_is_left_out_and_counted():
    judge, notes = judged(Refusing(JudgeRefused("not a word about that")), captions())
    found = score_leaderboard(captions(), judge=judge)
    assert found.overall["vs_llm"].value == 5 and found.parts.official["rc_llm"] == "unjudged"
    assert notes == ["captions without a judgement: 1 of 2 (JudgeRefused 1)"]


def test_a_judge_that_is_down_gives_no_column():
    with pytest.raises(JudgeUnavailable):
        judged(Refusing(JudgeUnavailable("connection refused")), captions())


@pytest.mark.parametrize(
    ("mode", "more", "prompt", "label"),
    [
        ("leaderboard", (), "rubric", "openai:m/rubric-v1"),
        ("leaderboard", ("--judge-prompt", "comparative"), "comparative", "openai:m"),
        ("strict", (), "comparative", "openai:m"),
    ],
)
def test_a_model_is_asked_as_the_mode_asks(tmp_path, monkeypatch, mode, more, prompt, label):
    monkeypatch.setenv("MEDGRPO_JUDGE_API_KEY", "any")
    with MockJudge(lambda request: Reply(content=honest(request, score=4))) as server:
        asked = ("--judge", "openai", "--judge-model", "m", "--judge-base-url", server.base_url)
        store = ("--judge-store", str(tmp_path / "judge"))
        args = parse(
            ["score", "--results", "r", "--output", "o", "--mode", mode, "--resamples", "10", *asked, *store, *more]
        )
        rows = [replace(row, ground_truth=json.dumps({"text": LIFTS})) for row in captions()[:3]]
        for _ in range(2):  # the second time from the store
            found = score(args, rows, [])
        system = {request.body["messages"][0]["content"][:200] for request in server.requests}
    assert system == {load_prompt(prompt).system[:200]}
    assert len(server.requests) == 2  # of three rows two say the same
    if mode == "leaderboard":
        assert found.overall["vs_llm"].value == found.overall["rc_llm"].value == 4
    inputs = Inputs(rows)
    note_judged_columns(args, inputs)
    assert origin(args)["judge"] == label
    if mode == "leaderboard":
        assert inputs.inexact["rc_llm"] == f"judged by {label}, which is not the leaderboard's judge"
