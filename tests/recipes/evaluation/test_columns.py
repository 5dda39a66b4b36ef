# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The leaderboard's columns as functions of weights, held against `reward_score.leaderboard`, and their intervals."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.leaderboard import score_leaderboard
from reward_score.bootstrap import draw, interval
from reward_score.errors import EmbeddingUnavailable
from reward_score.leaderboard import COLUMNS
from reward_score.leaderboard import columns as official_columns
from reward_score.leaderboard.contributions import read_parts
from reward_score.leaderboard.figures import Figures, columns_of, record_numbers

PARITY = Path(__file__).resolve().parents[4] / "shared/parity/vectors_public.json"
ASPECTS = ("R2", "R3", "R8", "R5", "R4")


def record(qa_type, answer, struc_info=(), gnd="", source="AVOS", question=""):
    """A record in the merged format, one frame a second."""
    return {
        "metadata": {"video_id": "v1", "fps": 1.0},
        "qa_type": qa_type,
        "struc_info": list(struc_info),
        "question": question,
        "gnd": gnd,
        "answer": answer,
        "data_source": source,
    }


def tal(answer, *spans, **more):
    return record("tal", answer, [{"spans": [{"start": a, "end": b} for a, b in spans]}], **more)


def stg(answer, boxes, **more):
    return record("stg", answer, [{"bbox_dict": boxes}], **more)


def dvc(answer, *events, **more):
    return record("dense_captioning", answer, [{"start": a, "end": b, "caption": c} for a, b, c in events], **more)


def cvs(answer, scores, **more):
    return record("cvs_assessment", answer, [{"cvs_scores": scores}], **more)


def skill(answer, scores, **more):
    return record("skill_assessment", answer, [{"skill_level": "N", "skill_scores": scores}], **more)


def nap(answer, gold, **more):
    return record("next_action", answer, gnd=gold, **more)


def a_file():
    """Records of every column, with an answer that counts nowhere in each task that has such answers."""
    return [
        tal("0-10", (0, 10)),
        tal("0-4, 20-30", (0, 10), (20, 30), source="CoPESD"),
        tal("no span", (0, 10)),
        stg("1.0 seconds: [0, 0, 10, 10]", {"1.0": [0, 0, 10, 5]}),
        stg("nothing", {"1.0": [0, 0, 10, 10]}, source="CoPESD"),
        stg("1.0 seconds: [0, 0, 10, 10]", {}),
        dvc("0-10 seconds: cut", (0, 10, "cut the duct"), (20, 30, "clip")),
        dvc("nothing", (0, 10, "cut the duct")),
        dvc("0-8 seconds: cut\n20-29 seconds: clip it", (0, 10, "cut"), (20, 30, "clip"), source="CoPESD"),
        cvs("two structures: 1, cystic plate: 0", {"two_structures": 1, "cystic_plate": 2}, source="A"),
        cvs("cystic plate: 2", {"two_structures": 1, "cystic_plate": 2}, source="A"),
        cvs("nothing", {"two_structures": 1}, source="B"),
        skill("Respect for tissue: 3/5, Time and motion: 2/5", {"Respect for tissue": 3, "Time and motion": 4}),
        skill("Respect for tissue: 1/5", {"Respect for tissue": 3}, source="JIGSAWS"),
        skill("no score", {"Respect for tissue": 3}, source="JIGSAWS"),
        nap("cutting", "cutting"),
        nap("tying", "cutting"),
        nap("to cut", "cutting"),
        nap("cutting", "no action of the list"),
        record("video_summary", "a summary", gnd="the summary"),
        record("video_summary", "", gnd="the summary"),
        record("region_caption", "a region", gnd="the region"),
    ]


def words(texts):
    """A stand-in encoder: counts of letters, in a slot by checksum."""
    vectors = np.zeros((len(texts), 64))
    for row, text in zip(vectors, texts, strict=True):
        for letter in text.lower():
            row[zlib.crc32(letter.encode("utf-8", "replace")) % 64] += 1
    return vectors + 1e-3


def judge(prediction, reference):
    """A stand-in judge: a number per aspect from the texts; it fails on what ends in "duct"."""
    if reference.endswith("duct"):
        return None
    seed = zlib.crc32(f"{prediction}|{reference}".encode())
    return {aspect: float(seed // 5**number % 5 + 1) for number, aspect in enumerate(ASPECTS)}


def columns(parts, weights=None):
    """The columns under weights, (records,) or (resamples, records): a number each, or an array (resamples,)."""
    if weights is None:
        return columns_of(parts)
    figures = Figures(parts)
    found = figures.values(weights @ figures.cells)
    if found.ndim == 1:
        return {name: value for name, value in zip(figures.names, found, strict=True) if not np.isnan(value)}
    return dict(zip(figures.names, found.T, strict=True))


def graded(records, videos=None):
    videos = [f"s/{n}" for n in range(len(records))] if videos is None else videos
    return [
        Graded(n, "test.json", f"medvidbench/{item['data_source']}/tal", video, item["answer"], item, None, {})
        for n, (item, video) in enumerate(zip(records, videos, strict=True))
    ]


def close(got, expected):
    """Equal to 1e-12, nan equal to nan; keys included."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


# --- the same numbers ----------------------------------------------------------------------------------------------


def test_a_file_with_every_column():
    found = columns(read_parts(a_file(), encoder=words, judge=judge))
    assert set(found) == set(COLUMNS)
    close(found, official_columns(a_file(), encoder=words, judge=judge))
    without = columns(read_parts(a_file(), encoder=words))
    assert set(COLUMNS) - set(without) == {"dvc_llm", "vs_llm", "rc_llm"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=len(a_file()), max_size=len(a_file())).filter(any))
def test_a_weight_is_a_repeated_record(weights):
    items = a_file()
    drawn = [item for item, count in zip(items, weights, strict=True) for _ in range(count)]
    parts = read_parts(items, encoder=words, judge=judge)
    close(columns(parts, np.array(weights)), official_columns(drawn, encoder=words, judge=judge))


def test_a_matrix_of_weights_gives_every_row_of_it():
    parts = read_parts(a_file(), encoder=words, judge=judge)
    weights = np.random.default_rng(0).integers(0, 3, (50, parts.count))
    together = columns(parts, weights)
    for number, line in enumerate(weights):
        alone = dict.fromkeys(together, math.nan) | columns(parts, line)
        close({name: values[number] for name, values in together.items()}, alone)


@pytest.mark.skipif(not PARITY.exists(), reason="the parity vectors are not here")
def test_the_parity_files():
    parity = json.loads(PARITY.read_text(encoding="utf-8"))
    by_id = {vector["id"]: vector["record"] for vector in parity["vectors"]}
    files = [[by_id[name] for name in suite["ids"]] for suite in parity["suites"]]
    files += [[special["record"], by_id[special["other_record"]]] for special in parity["special"]]
    for items in files:
        expected = official_columns(items, encoder=words, judge=judge)
        parts = read_parts(items, encoder=words, judge=judge)
        found, official = columns(parts), parts.official
        same = {name for name, state in official.items() if state == "same"}
        close({name: found[name] for name in same}, {name: expected[name] for name in same})
        for name, state in official.items():
            assert (name in expected) == (state in ("same", "nan")), (name, state)
            assert state != "nan" or math.isnan(expected[name])
        assert expected.keys() <= official.keys()


# --- one bad record costs that record -------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 3, ["0-10"], {"a": 1}, b"0-10"])
def test_an_answer_that_is_no_text_is_left_out_and_named(answer):
    items = [tal("0-5", (0, 10)), tal(answer, (0, 10)), nap("cutting", "cutting")]
    assert "tag_miou_05" not in official_columns(items)
    parts = read_parts(items)
    assert columns(parts) == pytest.approx({"tag_miou_03": 0.5, "tag_miou_05": 0.5, "nap_acc": 1.0})
    assert parts.official == {"tag_miou_03": "lost", "tag_miou_05": "lost", "nap_acc": "same"}
    [loss] = parts.losses
    assert (loss.row, loss.columns) == (1, ("tag_miou_03", "tag_miou_05"))
    assert "TypeError" in loss.reason or "AttributeError" in loss.reason


def test_each_task_survives_its_bad_record():
    broken = [
        item | {"answer": None} for item in a_file() if item["qa_type"] not in ("video_summary", "region_caption")
    ]
    parts = read_parts(a_file() + broken, encoder=words)
    close(columns(parts), official_columns(a_file(), encoder=words))
    assert set(parts.official.values()) == {"lost"}
    assert sorted(loss.row for loss in parts.losses) == list(range(len(a_file()), parts.count))


def test_a_score_that_is_no_number_costs_its_record_only():
    items = [
        stg("1.0 seconds: [nan, 0, 1, 1]", {"1.0": [0, 0, 1, 1]}),
        stg("1.0 seconds: [0, 0, 1, 1]", {"1.0": [0, 0, 1, 1]}),
    ]
    assert math.isnan(official_columns(items)["stg_miou"])
    parts = read_parts(items)
    assert columns(parts) == {"stg_miou": 1.0}
    assert parts.official == {"stg_miou": "nan"}


def test_reference_times_as_text_lose_the_captions_alone():
    items = [dvc("0-10 seconds: cut", (0, 10, "cut")), dvc("0-10 seconds: cut", ("0", "10", "cut"))]
    parts = read_parts(items, judge=judge)
    assert parts.official == {"dvc_f1": "same", "dvc_llm": "lost"}
    assert set(columns(parts)) == {"dvc_f1", "dvc_llm"}


def test_records_of_no_task_are_named():
    parts = read_parts([tal("0-5", (0, 10)), record("riddle", "?"), record(None, "?")])
    assert [(loss.row, loss.columns) for loss in parts.losses] == [(1, ()), (2, ())]
    assert parts.official == {"tag_miou_03": "same", "tag_miou_05": "same"}


def test_where_no_call_is_answered_the_column_is_another_measure():
    parts = read_parts([record("video_summary", "a", gnd="b")], judge=lambda prediction, reference: None)
    assert parts.official == {"vs_llm": "unjudged"}
    assert columns(parts) == {}


def test_the_failure_of_encoder_or_judge_goes_through():
    def judge_down(prediction, reference):
        raise ConnectionError("down")

    with pytest.raises(EmbeddingUnavailable):
        read_parts([nap("to cut", "cutting")], encoder=lambda texts: np.full((len(texts), 3), np.nan))
    with pytest.raises(ConnectionError):
        read_parts([record("video_summary", "a", gnd="b")], judge=judge_down)


# --- work once -----------------------------------------------------------------------------------------------------


def test_encoder_and_judge_are_asked_once():
    calls, asked = [], []

    def encoder(texts):
        calls.append(len(texts))
        return words(texts)

    def one(prediction, reference):
        asked.append((prediction, reference))
        return dict.fromkeys(ASPECTS, 3.0)

    read_parts(a_file() * 3, encoder=encoder, judge=one)
    assert len(calls) == 1
    assert len(asked) == len(set(asked))


def test_the_classes_of_next_actions_stay_those_of_the_whole_file():
    """Of a source without a list the classes are the references in the file; a resample does not change them."""
    items = [nap("cutX", "cut", source="Mystery"), nap("sew", "cutX", source="Mystery")]
    parts = read_parts(items, encoder=words)
    assert columns(parts, np.array([1, 0])) == {"nap_acc": 0.0}  # "cutX" is a class, if only for the other record
    assert official_columns(items[:1], encoder=words) == {"nap_acc": 1.0}


def test_the_numbers_of_single_records():
    found = record_numbers(read_parts(a_file(), encoder=words, judge=judge))
    for item, numbers in zip(a_file(), found, strict=True):
        alone = official_columns([item], encoder=words, judge=judge)
        own = {name: value for name, value in numbers.items() if "/" not in name}
        assert own == pytest.approx({name: alone[name] for name in own})
    assert found[9] == {"cvs_acc": 0.5, "cvs_acc/two_structures": 1.0, "cvs_acc/cystic_plate": 0.0}
    assert found[5] == found[7] == {}  # in no mean


# --- intervals -----------------------------------------------------------------------------------------------------


def spans(values, videos):
    """Temporal grounding that scores these values (each above 0.5), in these videos."""
    return graded([tal(f"0-{value}", (0, 1)) for value in values], videos)


def test_the_interval_of_a_mean_is_the_textbook_one():
    values = np.round(np.random.default_rng(1).uniform(0.6, 1, 400), 3)
    found = score_leaderboard(spans(values, [f"s/{n}" for n in range(400)])).overall["tag_miou_05"]
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert (found.rows, found.videos, found.undefined) == (400, 400, 0)


def test_rows_of_one_video_are_no_independent_evidence():
    values = np.round(np.random.default_rng(1).uniform(0.6, 1, 50), 3)
    videos = [f"s/{n}" for n in range(50)]
    once = score_leaderboard(spans(values, videos)).overall["tag_miou_05"]
    often = score_leaderboard(spans(np.repeat(values, 8), np.repeat(videos, 8))).overall["tag_miou_05"]
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert (often.rows, often.videos) == (400, 50)


def test_a_resample_without_the_column_is_left_out_and_counted():
    rows = graded([tal("0-6", (0, 10)), nap("cutting", "cutting"), tal("0-8", (0, 10))], ["s/1", "s/2", "s/1"])
    found = score_leaderboard(rows, resamples=400).overall
    missed = int((draw(2, 400)[:, 1] == 0).sum())
    assert found["nap_acc"].undefined == missed > 0
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0, 1)


def test_one_video_tells_no_spread():
    found = score_leaderboard(spans([0.6, 0.8], ["s/1", "s/1"])).overall["tag_miou_05"]
    assert found.value == pytest.approx(0.7)
    assert found.low is None and found.high is None


def test_breakdowns_hold_the_rows_of_a_group_alone():
    items = a_file()
    rows = [
        Graded(n, "f", f"medvidbench/{item['data_source']}/{item['qa_type']}", f"s/{n}", "", item, None, {})
        for n, item in enumerate(items)
    ]
    scores = score_leaderboard(rows, encoder=words, judge=judge, resamples=10).scores
    for source, figures in scores["sources"].items():
        alone = official_columns([item for item in items if item["data_source"] == source], encoder=words, judge=judge)
        close(
            {name: found.value for name, found in figures.items()}, alone | {n: None for n in figures if n not in alone}
        )
    assert set(scores["pairs"]["medvidbench/AVOS/tal"]) == {"tag_miou_03", "tag_miou_05"}
    assert scores["overall"]["all"]["cvs_acc"].value == pytest.approx(
        columns(read_parts(items, encoder=words))["cvs_acc"]
    )


def test_the_same_seed_gives_the_same_interval():
    rows = graded(a_file())
    first, again = (score_leaderboard(rows, encoder=words, resamples=100).overall for _ in range(2))
    assert first == again
    assert first != score_leaderboard(rows, encoder=words, resamples=100, seed=1).overall


def test_no_rows_at_all():
    assert score_leaderboard([]).overall == {}
