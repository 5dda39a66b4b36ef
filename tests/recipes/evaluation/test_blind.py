# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The best answer without looking at a frame: what is learnt from small training sets whose best answer is known."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_preprocess import medvidbench
from recipes.medgrpo.answers.questions import InputError
from recipes.medgrpo.evaluation.blind import learn, overlap, read_training_rows
from recipes.medgrpo.evaluation.constant_answers import asked_times
from recipes.medgrpo.evaluation.inputs import Graded
from recipes.medgrpo.evaluation.truths import NO_ANSWER, clip_seconds
from reward_score.answers import ASPECTS, parse_stg, parse_tal, render_sa
from reward_score.leaderboard import LeaderboardError, columns, score_record
from reward_score.medgrpo import score_many

MODES = ("leaderboard", "strict")
BOX = [100.0, 200.0, 500.0, 600.0]


def row(source, qa_type, answer, structure=None, *, seconds=100, video="v1", question="What is it?"):
    """A training row of a clip with one frame a second; CholecT50, CoPESD: bounds are frames, one a second."""
    numbers = list(range(10, 11 + seconds))
    return {
        "id": "any",
        "qa_type": qa_type,
        "data_source": source,
        "conversations": [{"from": "human", "value": f"<video>\n{question}"}, {"from": "gpt", "value": answer}],
        "video": [f"/root/data/{source}/{video}/{number:06}.jpg" for number in numbers],
        "sampled_video_frames": numbers,
        "metadata": {
            "video_id": video,
            "fps": "1.0",
            "input_video_start_frame": str(numbers[0]),
            "input_video_end_frame": str(numbers[-1]),
        },
        "struc_info": structure,
    }


def tal(*spans, source="CholecT50", **rest):
    text = ", ".join(f"{start:.1f}-{end:.1f}" for start, end in spans) + " seconds."
    listed = [{"start": start, "end": end} for start, end in spans]
    return row(source, "tal", text, [{"action": "cut", "spans": listed}], **rest)


def stg(boxes, asked="from 8.0 to 16.0 seconds, every 4 seconds", **rest):
    text = " ".join(f"{time:.1f} seconds: {box}" for time, box in boxes.items())
    item = {"start": 8, "end": 16, "stride": 4, "object": "knife", "bbox_dict": {str(t): b for t, b in boxes.items()}}
    return row("CoPESD", "stg", text, [item], question=f"Give the box of the knife {asked}.", **rest)


def cvs(*scores):
    names = ("Two structures", "Cystic plate", "Hepatocystic triangle")
    return row("Cholec80_CVS", "cvs_assessment", ", ".join(f"{n}: {s}" for n, s in zip(names, scores, strict=True)))


def bag_of_words(texts):
    """Counts of each letter: texts of the same letters point the same way."""
    return np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])


@pytest.fixture
def train(tmp_path):
    """Learns from rows: (rows, mode) to the blind answers."""

    def learnt(rows, mode):
        file = tmp_path / "train.json"
        file.write_text(json.dumps(rows))
        return learn(file, mode, encoder=bag_of_words)

    return learnt


def answered(blind, given, task=None, **changes):
    """The blind answer to an annotation row as an evaluated record, `changes` made to its answer side."""
    task = task or {"next_action": "nap", "cvs_assessment": "cvs", "skill_assessment": "sa"}.get(given["qa_type"])
    source = given["data_source"]
    record = {
        "metadata": given["metadata"],
        "qa_type": given["qa_type"],
        "data_source": source,
        "question": given["conversations"][0]["value"],
        "struc_info": given["struc_info"],
        "gnd": given["conversations"][1]["value"],
        **changes,
    }
    pair = f"medvidbench/{source}/{task or given['qa_type']}"
    return blind.answer_to(SimpleNamespace(data_source=pair, record=record, ground_truth=None))


def asked(pair, question):
    """An evaluated row that says nothing of its clip."""
    record = {"question": question, "metadata": {}}
    return SimpleNamespace(data_source=f"medvidbench/{pair}", record=record, ground_truth=None)


@pytest.mark.parametrize("mode", MODES)
def test_the_next_action_is_the_commonest_label(train, mode):
    rows = [row("AVOS", "next_action", label) for label in ("tying", "suturing", "tying", "cutting")]
    blind = train(rows, mode)
    assert answered(blind, rows[1]) == "tying"
    assert blind.describe()["pairs"]["medvidbench/AVOS/nap"]["score_on_training"] == 0.5


def test_each_mode_has_its_own_idea_of_the_same_label(train):
    labels = ["Tying", "TYING", "tying", "suturing", "suturing"]
    rows = [row("AVOS", "next_action", label) for label in labels]
    # Strict folds three spellings into one label; the leaderboard leaves all but its own spelling out of the column.
    strict, official = train(rows, "strict"), train(rows, "leaderboard")
    assert answered(strict, rows[3]).lower().startswith("tying")
    assert strict.describe()["pairs"]["medvidbench/AVOS/nap"]["score_on_training"] == pytest.approx(3 / 5)
    assert answered(official, rows[0]) == "suturing"
    assert official.describe()["pairs"]["medvidbench/AVOS/nap"]["score_on_training"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("mode", MODES)
def test_each_component_gets_its_own_commonest_score(train, mode):
    # No row has all three: the constant is made of components, not one row's answer.
    rows = [cvs(2, 0, 0), cvs(2, 1, 1), cvs(0, 1, 0), cvs(1, 1, 2)]
    blind = train(rows, mode)
    assert answered(blind, rows[0]) == "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0"
    assert blind.describe()["pairs"]["medvidbench/Cholec80_CVS/cvs"]["score_on_training"] == pytest.approx(7 / 12)


@pytest.mark.parametrize("mode", MODES)
def test_skill_is_the_commonest_score_of_each_aspect(train, mode):
    given = [dict(zip(ASPECTS, scores, strict=True)) for scores in ((1, 2, 3, 4, 5, 1), (1, 2, 3, 4, 5, 2))]
    rows = [row("JIGSAWS", "skill_assessment", render_sa(scores)) for scores in (*given, given[1])]
    assert answered(train(rows, mode), rows[0]) == render_sa(given[1])


@pytest.mark.parametrize("mode", MODES)
def test_the_whole_clip_where_that_is_the_answer_however_long_the_clip(train, mode):
    rows = [tal((0.0, seconds), seconds=seconds) for seconds in (40, 80, 120, 160)]
    blind = train(rows, mode)
    assert answered(blind, tal((3.0, 4.0), seconds=200)) == "0.0-200.0 seconds."
    assert blind.describe()["pairs"]["medvidbench/CholecT50/tal"]["score_on_training"] == 1.0


@pytest.mark.parametrize("mode", MODES)
def test_a_middle_span_as_a_share_of_the_clip(train, mode):
    rows = [tal((0.25 * seconds, 0.75 * seconds), seconds=seconds) for seconds in (40, 80, 120, 160)]
    assert answered(train(rows, mode), tal((0.0, 1.0), seconds=200)) == "50.0-150.0 seconds."


@pytest.mark.parametrize("mode", MODES)
def test_a_span_in_seconds_where_clips_differ_and_the_times_do_not(train, mode):
    rows = [tal((10.0, 20.0), seconds=seconds) for seconds in (40, 80, 120, 160)]
    assert answered(train(rows, mode), tal((0.0, 1.0), seconds=200)) == "10.0-20.0 seconds."


def test_many_spans_pay_on_the_leaderboard_and_nowhere_else(train):
    """One of two places, never both: a list of both is right for the leaderboard and half right in truth."""
    rows = [tal((10.0, 20.0)), tal((70.0, 90.0))] * 10
    official = parse_tal(answered(train(rows, "leaderboard"), rows[0], "tal")).value
    assert {(10.0, 20.0), (70.0, 90.0)} <= set(official)
    strict = parse_tal(answered(train(rows, "strict"), rows[0], "tal")).value
    assert len(strict) == 1
    assert train(rows, "leaderboard").describe()["pairs"]["medvidbench/CholecT50/tal"]["score_on_training"] == 1.0


def test_a_list_where_every_row_has_several_spans(train):
    rows = [tal((0.0, 0.3 * seconds), (0.6 * seconds, seconds), seconds=seconds) for seconds in (40, 80, 120)]
    spans = parse_tal(answered(train(rows, "strict"), tal((0.0, 1.0), seconds=100), "tal")).value
    assert sorted(spans) == [(0.0, 30.0), (60.0, 100.0)]


def test_an_unknown_clip_length_is_taken_as_the_median(train):
    rows = [tal((0.0, seconds), seconds=seconds) for seconds in (40, 80, 160)]
    unknown = tal((0.0, 1.0)) | {"metadata": {"video_id": "v1", "fps": "1.0"}}
    assert answered(train(rows, "strict"), unknown) == "0.0-80.0 seconds."


@pytest.mark.parametrize("mode", MODES)
def test_one_box_at_all_times_that_the_question_asks_for(train, mode):
    rows = [stg({8: BOX, 12: BOX, 16: BOX})] * 3 + [stg({8: [0, 0, 50, 50], 12: BOX, 16: BOX})]
    blind = train(rows, mode)
    said = answered(blind, stg({24: BOX}, asked="between 20 and 29.9 seconds, every 4 seconds"), "stg")
    assert parse_stg(said).value == {time: tuple(BOX) for time in (20.0, 24.0, 28.0)}
    assert blind.describe()["pairs"]["medvidbench/CoPESD/stg"]["score_on_training"] == pytest.approx(11 / 12)


def test_a_question_that_names_no_times_is_described_by_its_ground_truth(train):
    given = stg({8: BOX, 12: BOX, 16: BOX}, asked="at the usual times")
    blind = train([given], "strict")
    rebuilt = record_of(given) | {"struc_info": [{"bbox_dict": {"12": BOX}}]}
    truth = json.dumps({"boxes": {"12": BOX}, "start": 8.0, "end": 13.0, "stride": 4.0})
    for record, times in ((record_of(given), (8.0, 12.0, 16.0)), (rebuilt, (8.0, 12.0))):
        graded = Graded(0, "f", "medvidbench/CoPESD/stg", "v", "x", record, truth, {})
        assert parse_stg(blind.answer_to(graded)).value == dict.fromkeys(times, tuple(BOX))


def test_a_box_that_no_mix_of_coordinates_gives(train):
    """Three rows share a box; the others' lie apart, below it and above it in every coordinate."""
    small = [[float(at), float(at), at + 2.0, at + 2.0] for at in (0, 10, 20, *range(700, 1000, 22))]
    rows = [stg({8: box, 12: box, 16: box}) for box in (BOX, BOX, BOX, *small)]
    assert parse_stg(answered(train(rows, "strict"), rows[5], "stg")).value[8.0] == tuple(BOX)


def test_carrying_forward_makes_one_box_enough_on_the_leaderboard_only(train):
    rows = [stg({8: BOX, 12: BOX, 16: BOX})] * 2
    texts = {mode: answered(train(rows, mode), rows[0], "stg") for mode in MODES}
    first = {mode: text[: text.index("]") + 1] for mode, text in texts.items()}

    def official(text):
        return score_record({**record_of(rows[0]), "answer": text})["mean_iou"]

    def strict(text):
        ground = json.dumps({"text": "", "boxes": {"8": BOX, "12": BOX, "16": BOX}, "stride": 4})
        return score_many([("medvidbench/CoPESD/stg", text, ground, {})])[0]["acc"]

    assert official(texts["leaderboard"]) == official(first["leaderboard"]) == 1.0
    assert strict(texts["strict"]) == 1.0
    assert strict(first["strict"]) == pytest.approx(1 / 3)


def record_of(given):
    turns = given["conversations"]
    return {**given, "question": turns[0]["value"], "gnd": turns[1]["value"]}


@pytest.mark.parametrize("mode", MODES)
def test_times_with_two_decimals_are_spelt_so_that_the_mode_finds_them(train, mode):
    boxes = {8.25: BOX, 12.25: BOX, 16.25: BOX}
    blind = train([stg(boxes, asked="from 8.25 to 16.25 seconds, every 4 seconds")] * 2, mode)
    assert blind.describe()["pairs"]["medvidbench/CoPESD/stg"]["score_on_training"] == 1.0


@pytest.mark.parametrize("mode", MODES)
def test_events_are_parts_of_the_clip_and_carry_the_caption_most_like_the_others(train, mode):
    captions = ("aaab", "aaaa", "aabb")  # by letters, the first lies between the other two

    def dvc(seconds):
        bounds = ((0.0, seconds / 4), (seconds / 4, seconds / 2), (seconds / 2, float(seconds)))
        events = [{"start": a, "end": b, "caption": c} for (a, b), c in zip(bounds, captions, strict=True)]
        text = "\n".join(f"{e['start']:.1f}-{e['end']:.1f} seconds: {e['caption']}" for e in events)
        return row("CoPESD", "dense_captioning_gpt", text, events, seconds=seconds)

    rows = [dvc(seconds) for seconds in (40, 80, 120)]
    said = answered(train(rows, mode), dvc(200), "dvc")
    assert said == "0.0-50.0 seconds: aaab\n50.0-100.0 seconds: aaab\n100.0-200.0 seconds: aaab"


@pytest.mark.parametrize(
    ("qa_type", "task"), [("video_summary_gpt", "vs"), ("region_caption_b", "rc"), ("question_answering", "qa")]
)
def test_the_caption_is_the_one_most_like_the_others(train, qa_type, task):
    rows = [row("CoPESD", qa_type, text) for text in ("aaab", "aaaa", "aabb")]
    for given in rows:
        given["RC_info"] = {"start_frame": given["video"][0], "start_frame_bbox": BOX}
    blind = train(rows, "strict")
    assert answered(blind, rows[2], task) == "aaab"
    share = blind.describe()["pairs"][f"medvidbench/CoPESD/{task}"]["score_on_training"]
    assert share == pytest.approx((3 / 10**0.5 + 8 / 80**0.5) / 2)


@pytest.mark.parametrize("mode", MODES)
def test_answers_to_questions_are_in_no_column_of_the_leaderboard(train, mode):
    """They are learnt, strict evaluation scores them, and the leaderboard's columns are those without them."""
    summary, answer = row("CoPESD", "video_summary_a", "aaab"), row("CoPESD", "question_answering", "aaab")
    said = train([summary, answer], mode).describe()["pairs"]
    assert {pair: one["answer"] for pair, one in said.items()} == {
        "medvidbench/CoPESD/qa": {"text": "aaab"},
        "medvidbench/CoPESD/vs": {"text": "aaab"},
    }
    records = [record_of(one) | {"answer": "aaab"} for one in (cvs(2, 1, 0), answer)]
    assert columns(records) == columns(records[:1])
    with pytest.raises(LeaderboardError, match="question_answering"):
        score_record(records[1])


def test_without_a_model_captions_are_the_commonest(tmp_path):
    file = tmp_path / "train.json"
    file.write_text(json.dumps([row("CoPESD", "video_summary_gpt", text) for text in ("zz", "aaab", "zz", "aabb")]))
    blind = learn(file, "leaderboard", captions=False)
    assert blind.answer_to(asked("CoPESD/vs", "Sum it up.")) == "zz"


@pytest.mark.parametrize("mode", MODES)
def test_the_answer_stays_when_the_evaluated_rows_reference_changes(train, mode):
    rows = [tal((10.0, 20.0)), stg({8: BOX, 12: BOX, 16: BOX}), cvs(2, 1, 0), row("AVOS", "next_action", "tying")]
    blind = train(rows, mode)
    other = {
        "tal": {"gnd": "1.0-2.0 seconds.", "struc_info": [{"spans": [{"start": 1, "end": 2}]}]},
        "stg": {"gnd": "12.0 seconds: [1, 2, 3, 4]", "struc_info": [{"bbox_dict": {"12": [1, 2, 3, 4]}}]},
        "cvs": {"gnd": "Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0", "struc_info": None},
        "nap": {"gnd": "cutting", "struc_info": None},
    }
    for given, (task, changes) in zip(rows, other.items(), strict=True):
        assert answered(blind, given, task) == answered(blind, given, task, **changes)


def test_rows_of_a_pair_without_training_rows_have_no_blind_answer_and_are_counted(train):
    blind = train([cvs(2, 1, 0), tal((10.0, 20.0), source="CoPESD"), tal((10.0, 20.0), source="EgoSurgery")], "strict")
    assert not blind.describe()["notes"]
    assert blind.answer_to(asked("CoPESD/tal", "When?")) == "10.0-20.0 seconds." and not blind.unknown
    assert blind.answer_to(asked("AVOS/tal", "When?")) is None
    assert blind.answer_to(asked("AVOS/nap", "What?")) is None
    assert json.loads(json.dumps(blind.describe()))["notes"] == [
        "medvidbench/AVOS/nap: no training row; 1 rows have no blind answer",
        "medvidbench/AVOS/tal: no training row; 1 rows have no blind answer",
    ]


def test_rows_about_videos_that_were_learnt_from_are_counted(train):
    blind = train([cvs(2, 1, 0), tal((10.0, 20.0), video="v7")], "strict")
    graded = [
        SimpleNamespace(file="train.json", index=1, video="CholecT50/v7"),
        SimpleNamespace(file="test.json", index=1, video="CholecT50/v7"),
        SimpleNamespace(file="test.json", index=2, video="CoPESD/v7"),
    ]
    assert overlap(blind.rows, graded) == 2


def test_the_parquet_teaches_what_its_annotations_do(tmp_path):
    rows = [
        tal((10.0, 20.0), (50.0, 60.0)),
        stg({8: BOX, 12: BOX, 16: BOX}),
        cvs(2, 1, 0),
        row("AVOS", "next_action", "tying"),
        tal((0.0, 30.0), source="NurViD", seconds=60),
    ]
    rows[-1]["metadata"] = {"video_id": "n1", "fps": "2.0", "input_video_start_time": "5", "input_video_end_time": "35"}
    file, folder = tmp_path / "train.json", tmp_path / "out"
    file.write_text(json.dumps(rows))
    options = ["--annotations", file, "--frames-root", tmp_path, "--output", folder, "--verify", "none"]
    assert medvidbench.main([*map(str, options), "--val-fraction", "0"]) == 0
    from_annotations, _ = read_training_rows(file)
    from_parquet, _ = read_training_rows(folder / "train.parquet")

    def known(rows):
        return sorted((r.row.index, r.row.file, r.data_source, r.video, r.seconds, r.ground, r.extra) for r in rows)

    assert known(from_parquet) == known(from_annotations)


def test_a_row_that_cannot_be_read_is_counted_and_a_file_of_them_refused(tmp_path):
    file = tmp_path / "train.json"
    broken = tal((10.0, 20.0)) | {"struc_info": [{"spans": []}]}
    unanswered = tal((10.0, 20.0))
    del unanswered["conversations"][1], unanswered["struc_info"]
    file.write_text(json.dumps([broken, unanswered, tal((10.0, 20.0))]))
    rows, skipped = read_training_rows(file)
    assert [row.row.index for row in rows] == [2]
    assert skipped.total() == 2 and skipped[NO_ANSWER] == 1
    file.write_text(json.dumps([unanswered]))
    with pytest.raises(InputError, match="expected training rows with answers, found 1 rows: no reference answer"):
        read_training_rows(file)
    with pytest.raises(InputError, match="expected a readable file"):
        read_training_rows(Path(tmp_path / "missing.json"))


@pytest.mark.parametrize(
    ("question", "times"),
    [
        ("Locate it between 66.0 and 81.0 seconds, every 8 seconds.", [66.0, 74.0]),
        ("Give boxes from 3s to 11s, one every 4s.", [3.0, 7.0, 11.0]),
        ("Boxes for 0.5-1.5 seconds, every 0.5 seconds", [0.5, 1.0, 1.5]),
        ("from 0 to 0.3 seconds, every 0.1 seconds", [0.0, 0.1, 0.2, 0.3]),
        ("Where is it?", [1.0, 3.0]),
        ("From 9 to 4 seconds, every 2 seconds", [1.0, 3.0]),
        (None, [1.0, 3.0]),
    ],
)
def test_times_are_read_from_the_question_else_from_its_description(question, times):
    assert asked_times(question, {"start": 1, "end": 4, "stride": 2, "bbox_dict": {"3": BOX}}) == times


def test_no_times_where_nothing_says_them():
    assert asked_times("Where is it?", None) == []
    assert asked_times("Where is it?", {"start": 1, "end": float("nan"), "stride": 2}) == []
    assert len(asked_times("from 0 to 999999 seconds, every 1 seconds")) == 200


def test_the_clips_length_by_its_bounds():
    assert clip_seconds("NurViD", {"input_video_start_time": "5.5", "input_video_end_time": "35"}) == 29.5
    assert clip_seconds("AVOS", {"input_video_start_frame": "30", "input_video_end_frame": "60"}) == 2.0
    assert clip_seconds("JIGSAWS", {"start_frame": "30", "end_frame": "60"}) is None  # the native rate is not known
    assert clip_seconds("AVOS", {"start_frame": "60", "end_frame": "60"}) is None
    assert clip_seconds("AVOS", None) is None


def test_rows_come_back_with_blind_answers_in_place_of_theirs(train):
    rows = [cvs(2, 1, 0), row("AVOS", "next_action", "tying")]
    blind = train(rows[:1], "strict")
    graded = [
        Graded(at, "f", f"medvidbench/{pair}", "v", "x", record_of(given) | {"answer": "x"}, None, {"question": "?"})
        for at, (pair, given) in enumerate(zip(("Cholec80_CVS/cvs", "AVOS/nap"), rows, strict=True))
    ]
    (only,) = blind.answered(graded)
    assert only.answer == only.record["answer"] == "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0"
    assert (only.index, only.extra, graded[0].record["answer"]) == (0, {"question": "?"}, "x")


def test_blind_answers_score_on_the_leaderboard_what_was_said_of_them(train):
    """On the training rows themselves, all in the sample: the column is the promised score."""
    rows = [cvs(2, 0, 0), cvs(2, 1, 1), cvs(0, 1, 0), *[stg({8: BOX, 12: BOX, 16: [0, 0, 9, 9]})] * 3]
    blind = train(rows, "leaderboard")
    tasks = ["cvs"] * 3 + ["stg"] * 3
    records = [record_of(r) | {"answer": answered(blind, r, t)} for r, t in zip(rows, tasks, strict=True)]
    found, said = columns(records), blind.describe()["pairs"]
    assert found["cvs_acc"] == pytest.approx(said["medvidbench/Cholec80_CVS/cvs"]["score_on_training"])
    assert found["stg_miou"] == pytest.approx(said["medvidbench/CoPESD/stg"]["score_on_training"])
