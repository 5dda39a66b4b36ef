# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Strict mode: the training's signals, pairs counted alike, and answers that are hardly answers."""

import json

import numpy as np
import pytest

from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.strict import parts_of, score_strict
from recipes.medgrpo.reward_options import signal_settings
from reward_score.bootstrap import Bootstrap
from reward_score.errors import EmbeddingUnavailable
from reward_score.leaderboard.figures import Figures
from reward_score.medgrpo import score_many

SCORING = signal_settings()
RULES = signal_settings() | {"dvc_captions": False}


def row(index, pair, answer, gold, video=None):
    truth = None if gold is None else json.dumps(gold)
    name = f"medvidbench/{pair}"
    return Graded(index, "test.json", name, video or f"{pair.split('/')[0]}/{index}", answer, {}, truth, {})


def tal(index, answer, source="AVOS", **more):
    return row(index, f"{source}/tal", answer, {"spans": [[0, 10]], "text": "0-10"}, **more)


def sa(index, answer):
    return row(index, "JIGSAWS/sa", answer, {"scores": {"Respect for tissue": 3}, "text": "x"})


def value(found, figure):
    return found[figure].value


def test_a_pair_counts_once_however_many_rows_it_has():
    rows = [tal(n, "0.0-10.0 seconds.") for n in range(3)]
    rows += [tal(3, "no span", source="CoPESD"), sa(4, "Respect for tissue: 3/5")]
    scores = score_strict(rows, scoring=RULES, resamples=50).scores
    assert value(scores["pairs"]["medvidbench/AVOS/tal"], "acc") == 1
    assert value(scores["pairs"]["medvidbench/CoPESD/tal"], "acc") == 0
    assert value(scores["tasks"]["tal"], "acc") == 0.5
    assert value(scores["tasks"]["tal"], "raw_iou") == 0.5
    assert value(scores["sources"]["JIGSAWS"], "raw_exact") == 1
    assert value(scores["overall"]["all"], "acc") == pytest.approx(2 / 3)
    assert value(scores["overall"]["all"], "raw_iou") == 0.5  # of the pairs that have the signal
    assert scores["overall"]["all"]["acc"].rows == 5
    assert "score" not in scores["overall"]["all"]


def test_the_numbers_are_the_scorers_own():
    rows = [tal(0, "0.0-7.0 seconds."), sa(1, "Respect for tissue: 2/5"), tal(2, "about 0-7")]
    own = score_many([(r.data_source, r.answer, r.ground_truth, r.extra) for r in rows], **RULES)
    evaluation = score_strict(rows, scoring=RULES, resamples=10)
    assert evaluation.records == [{name: x for name, x in numbers.items() if name != "score"} for numbers in own]


def test_the_judges_marks_are_no_figures():
    rows = [row(0, "AVOS/rc", "A grasper lifts the liver.", {"text": "A grasper lifts the gallbladder."})]
    found = score_strict(rows, scoring=SCORING, resamples=10).scores["overall"]["all"]
    assert set(found) == {"acc", "format", "raw_similarity", "raw_judge", "attack"}


@pytest.mark.parametrize("answer", [None, ["0-10"], 7, {"a": 1}, b"0-10 seconds", "", "\ud800", "x" * 1_000_000])
def test_what_is_no_answer_is_a_wrong_one(answer):
    found = score_strict([tal(0, answer), tal(1, "0.0-10.0 seconds.")], scoring=RULES, resamples=10)
    assert found.records[0] == {"acc": 0.0, "format": 0.0, "raw_iou": 0.0}
    assert value(found.overall, "acc") == 0.5
    assert found.parts.losses == []


@pytest.mark.parametrize("answer", [None, "", "  ", 3])
def test_a_blank_caption_is_a_wrong_one(answer):
    rows = [row(0, "AVOS/vs", answer, {"text": "The surgeon cuts the duct."})]
    found = score_strict(rows, scoring=SCORING, resamples=10)
    assert (value(found.overall, "acc"), value(found.overall, "format")) == (0, 0)


def test_a_caption_with_half_a_surrogate_pair_is_scored():
    rows = [row(0, "AVOS/vs", "cut \ud800 duct", {"text": "The surgeon cuts the duct."})]
    assert 0 <= value(score_strict(rows, scoring=SCORING, resamples=10).overall, "acc") < 1


def test_a_row_without_a_reference_is_left_out_with_the_reason():
    rows = [tal(0, "0.0-10.0 seconds."), row(1, "AVOS/tal", "0-10", None), row(2, "AVOS/tal", "0-10", {"spans": []})]
    rows.append(row(3, "AVOS/riddle", "?", {"text": "?"}))
    found = score_strict(rows, scoring=RULES, resamples=10)
    assert value(found.overall, "acc") == 1
    assert [loss.row for loss in found.parts.losses] == [1, 2, 3]
    assert [found.records[n] for n in (1, 2, 3)] == [{}, {}, {}]
    assert "no reference" in found.parts.losses[0].reason
    assert "non-empty list" in found.parts.losses[1].reason
    assert "riddle" in found.parts.losses[2].reason


def test_a_failure_of_the_scoring_is_no_score(tmp_path):
    rows = [row(0, "AVOS/vs", "cuts", {"text": "The surgeon cuts the duct."})]
    with pytest.raises(EmbeddingUnavailable):
        score_strict(rows, scoring=SCORING | {"encoder": str(tmp_path)})


def test_the_interval_is_the_bootstrap_written_out():
    """Two pairs, five videos: the vectorised resamples against a loop over them."""
    rng = np.random.default_rng(3)
    pairs = ["a/tal", "a/tal", "a/vs", "a/vs", "a/tal", "a/vs", "a/tal"]
    videos = ["a/1", "a/2", "a/2", "a/3", "a/4", "a/5", "a/5"]
    acc = rng.random(7)
    figures = Figures(parts_of(pairs, [{"acc": x} for x in acc]))
    bootstrap = Bootstrap(videos, 200, seed=5)
    fast = figures.values(bootstrap.drawn @ bootstrap.sums(figures.cells, videos))[:, 0]
    numbers = [sorted(set(videos)).index(video) for video in videos]
    for line, got in zip(bootstrap.drawn, fast, strict=True):
        means = []
        for pair in ("a/tal", "a/vs"):
            chosen = [x for n, x in enumerate(acc) if pairs[n] == pair for _ in range(int(line[numbers[n]]))]
            means += [np.mean(chosen)] if chosen else []
        assert got == pytest.approx(np.mean(means))


def test_no_rows_at_all():
    assert score_strict([], scoring=RULES).overall == {}
