# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Answers beside their ground truth: every form that results come in, and everything that can be wrong with them."""

import gzip
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_preprocess import medvidbench, synthetic
from data_preprocess.synthetic_rows import PAIRS, Settings
from recipes.medgrpo.answers.complete import read_results
from recipes.medgrpo.answers.questions import InputError, read_test
from recipes.medgrpo.evaluation.inputs import read_graded
from recipes.medgrpo.submission import build
from reward_score.answers import parse_stg
from reward_score.boxes import iou, to_model
from reward_score.leaderboard import score_record
from reward_score.medgrpo import score_many

COUNT = 3 * len(PAIRS)


@dataclass(frozen=True)
class Place:
    """A synthetic set: its annotations, the parquet made from them, and an answer to each row."""

    annotations: Path
    parquet: Path
    rows: list[dict]
    texts: list[str]

    def released(self, texts=None):
        """What the paper's inference code writes."""
        return {
            str(number): {
                "metadata": row["metadata"],
                "qa_type": row["qa_type"],
                "struc_info": None,
                "question": row["conversations"][0]["value"].replace("<video>\n", ""),
                "answer": text,
                "data_source": row["data_source"],
            }
            for number, (row, text) in enumerate(zip(self.rows, texts or self.texts, strict=True))
        }

    def submission(self):
        """The list that goes to the leaderboard."""
        keys = ("input_video_start_frame", "start_frame"), ("input_video_end_frame", "end_frame")
        entries = []
        for row, text in zip(self.rows, self.texts, strict=True):
            known = row["metadata"]
            bounds = [next((known[key] for key in side if key in known), "") for side in keys]
            name = "&&".join([known["video_id"], *bounds, known["fps"]])
            entries.append({"id": name, "qa_type": row["qa_type"], "prediction": text})
        return entries

    def merged(self):
        """What the official evaluator makes of a submission and its ground truth."""
        return [
            {
                "metadata": row["metadata"],
                "qa_type": row["qa_type"],
                "struc_info": row.get("struc_info"),
                "question": row["conversations"][0]["value"].replace("<video>", "").strip(),
                "gnd": row["conversations"][1]["value"],
                "answer": text,
                "data_source": row["data_source"],
            }
            for row, text in zip(self.rows, self.texts, strict=True)
        ]

    def rollouts(self, samples=1, box_space=True):
        """What `generate` writes: boxes in the model's own space."""
        records = [{"header": {"model": "abc"}}]
        for extra in pq.read_table(self.parquet)["extra_info"].to_pylist():
            text = self.texts[extra["index"]]
            record = {
                "file": extra["file"],
                "index": extra["index"],
                "data_source": f"medvidbench/{extra['source']}/{extra['task']}",
                "video": f"{extra['source']}/{extra['video_id']}",
            }
            if extra["task"] == "stg":
                space = {key: extra[key] for key in ("canvas", "processed_size", "model_family")}
                boxes = {t: to_model(box, *space.values()) for t, box in parse_stg(text).value.items()}
                text = " ".join(f"{t} seconds: [{', '.join(f'{v:.4f}' for v in box)}]" for t, box in boxes.items())
                record |= {"box_space": space} if box_space else {}
            for sample in range(samples):
                said = text if sample == 0 else f"{text} ({sample})"
                records.append({**record, "sample": sample, "answer": said, "truncated": False, "score": 0.0})
        return records


def preprocess(annotations: Path, output: Path, *options: str) -> None:
    arguments = ["--annotations", annotations, "--frames-root", annotations.parent, "--output", output]
    settings = ["--verify", "none", "--val-fraction", "0", "--workers", "1", *options]
    assert medvidbench.main([*map(str, arguments), *settings]) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    folder = tmp_path_factory.mktemp("data")
    synthetic.generate(folder / "set", Settings(variants="plain"), COUNT, 0, frames=False)
    annotations = folder / "set/train_annotations.json"
    preprocess(annotations, folder / "parquet")
    rows = json.loads(annotations.read_text())
    # Each row is answered with the reference of the row before it in its pair: some wrong, some right, all readable.
    texts, last = [], {}
    for row in rows:
        key = row["data_source"], row["qa_type"]
        texts.append(last.get(key, row["conversations"][1]["value"]))
        last[key] = row["conversations"][1]["value"]
    return Place(annotations, folder / "parquet/train.parquet", rows, texts)


@pytest.fixture
def read(place, tmp_path):
    """Reads results, given as what is in their file; `truth` is "annotations", "parquet", "none" or rows."""

    def command(results, truth="annotations", **options):
        path = tmp_path / "results"
        lines = isinstance(results, list) and results and isinstance(results[0], dict) and "header" in results[0]
        if isinstance(results, bytes):
            path.write_bytes(results)
        else:
            path.write_text("".join(json.dumps(r) + "\n" for r in results) if lines else json.dumps(results))
        if isinstance(truth, list):
            (tmp_path / place.annotations.name).write_text(json.dumps(truth))
            ground = tmp_path / place.annotations.name
        else:
            ground = {"annotations": place.annotations, "parquet": place.parquet, "none": None}[truth]
        return read_graded(path, ground, **options)

    return command


def task(row):
    return row.data_source.rpartition("/")[2]


def told(inputs):
    return [(drop.index, drop.what) for drop in inputs.dropped]


# The forms


def test_an_answer_comes_with_what_both_scorers_take(place, read):
    row = read(place.released()).graded[0]
    given = place.rows[0]
    assert (row.index, row.file, row.answer) == (0, "train_annotations.json", place.texts[0])
    assert row.video == f"{given['data_source']}/{given['metadata']['video_id']}"
    assert row.record == place.merged()[0]
    (strict,) = score_many([(row.data_source, row.answer, row.ground_truth, row.extra)])
    assert strict["acc"] == 1.0 and score_record(row.record)


@pytest.mark.parametrize("form", ["submission", "merged", "rollouts"])
def test_every_form_gives_the_same_answers_as_released_output(place, read, form):
    wanted = read(place.released())
    results = getattr(place, form)()
    found = read(results, "none") if form == "merged" else read(results)
    assert len(found.graded) == COUNT and not found.dropped
    for a, b in zip(found.graded, wanted.graded, strict=True):
        assert (a.index, a.data_source, a.video) == (b.index, b.data_source, b.video)
        assert json.loads(a.ground_truth) == json.loads(b.ground_truth)
        assert a.record | {"answer": ""} == b.record | {"answer": ""}
        if form == "rollouts" and task(a) == "stg":
            boxes, wanted_boxes = parse_stg(a.answer).value, parse_stg(b.answer).value
            assert boxes.keys() == wanted_boxes.keys()
            assert all(iou(boxes[time], wanted_boxes[time]) > 0.999 for time in boxes)
        else:
            assert a.answer == b.answer == a.record["answer"]


def test_a_dict_of_merged_records_is_what_the_official_evaluator_takes(place, read):
    by_row = dict(enumerate(place.merged()))
    found = read({str(number): record for number, record in by_row.items()}, "none")
    assert [row.record for row in found.graded] == list(by_row.values()) and not found.notes
    (note,) = read(place.merged(), "none").notes
    assert "would lose every column" in note


def test_the_parquet_gives_the_same_numbers_as_the_annotations(place, read):
    annotated, rebuilt = read(place.released()), read(place.released(), "parquet")
    for a, b in zip(annotated.graded, rebuilt.graded, strict=True):
        assert (a.index, a.file, a.data_source, a.video, a.extra) == (b.index, b.file, b.data_source, b.video, b.extra)
        assert json.loads(a.ground_truth) == json.loads(b.ground_truth)
        if task(a) != "nap":
            assert score_record(a.record) == score_record(b.record)
        else:
            assert a.record | {"metadata": 0, "struc_info": 0} == b.record | {"metadata": 0, "struc_info": 0}
    assert rebuilt.inexact.keys() == {"dvc_llm"} and not annotated.inexact


def test_ground_truth_may_be_zipped_lines(place, read, tmp_path):
    path = tmp_path / "truth.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in place.rows).encode()))
    (tmp_path / "released").write_text(json.dumps(place.released()))
    zipped = read_graded(tmp_path / "released", path)
    assert [row.record for row in zipped.graded] == [row.record for row in read(place.released()).graded]


def test_a_file_of_merged_records_is_ground_truth_too(place, read, tmp_path):
    records = [{key: value for key, value in record.items() if key != "answer"} for record in place.merged()]
    found = read(place.submission(), records)
    assert [row.record for row in found.graded] == place.merged()


def test_boxes_without_a_stated_space_come_back_by_the_parquet(place, read):
    rollouts = place.rollouts(box_space=False)
    stated, by_parquet = read(place.rollouts()), read(rollouts, "parquet")
    assert [row.answer for row in stated.graded] == [row.answer for row in by_parquet.graded]
    with pytest.raises(InputError, match="box_space: expected boxes in canvas pixels, .* give the parquet"):
        read(rollouts)
    assert len(read(rollouts, tasks=["tal"]).graded) == 15
    said = next(row.answer for row in read(rollouts, box_space="canvas").graded if task(row) == "stg")
    assert said in {record.get("answer") for record in rollouts}


@pytest.mark.parametrize(
    "space", ["screen", 7, None, {"canvas": [854, 480]}, {"canvas": [0, 1], "processed_size": [1, 1]}]
)
def test_a_record_whose_space_cannot_be_told_costs_itself(place, read, space):
    records = place.rollouts()
    number = next(number for number, record in enumerate(records) if "box_space" in record)
    records[number] = records[number] | {"box_space": space}
    ((index, reason),) = told(read(records))
    assert index == records[number]["index"] and reason.startswith("box_space: expected model or canvas, or canvas, ")


def test_a_record_that_describes_its_space_makes_the_same_submission(place, tmp_path):
    (tmp_path / "results").write_text("".join(json.dumps(record) + "\n" for record in place.rollouts()))
    rows = read_test(place.parquet)
    answers = read_results(tmp_path / "results", rows)
    entries, _ = build(tmp_path / "results", rows, answers)
    for entry, row in zip(entries, read_graded(tmp_path / "results", place.annotations).graded, strict=True):
        assert entry["prediction"] == row.answer
    records = place.rollouts()
    at = next(number for number, record in enumerate(records) if "box_space" in record)
    records[at]["box_space"]["processed_size"] = [28, 28]
    (tmp_path / "results").write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(InputError, match="box_space: expected what the test file says"):
        read_results(tmp_path / "results", rows)


def test_of_several_samples_the_first_or_the_named_one_is_taken(place, read):
    rollouts = place.rollouts(samples=3)
    found = read([rollouts[0], *rollouts[:0:-1]])
    assert [row.answer for row in found.graded] == [row.answer for row in read(place.rollouts()).graded]
    assert f"rows with several samples: {COUNT};" in found.notes[0]
    assert all(row.answer.endswith("(2)") for row in read(rollouts, sample=2).graded)
    fewer = [record for record in rollouts if record.get("index") != 4 or record["sample"] < 2]
    assert told(read(fewer, sample=2)) == [(4, "no sample number 2")]


def test_only_the_named_tasks_are_read(place, read):
    found = read(place.released(), tasks=["sa", "cvs"])
    assert {task(row) for row in found.graded} == {"sa", "cvs"} and len(found.graded) == 6
    with pytest.raises(InputError, match="tasks: expected some of tal, .* found skill"):
        read(place.released(), tasks=["skill"])


# Odd answers


@pytest.mark.parametrize("answer", [None, ["cut"], 7, 0.5, True, {"a": 1}, "", "x" * 10**6, "cut\ud800", "\x00‮"])
def test_any_answer_survives_as_it_is(place, read, answer):
    found = read(place.released([answer, *place.texts[1:]]))
    row = found.graded[0]
    assert len(found.graded) == COUNT and not found.dropped
    assert row.answer == row.record["answer"] == answer and type(row.answer) is type(answer)
    (strict,) = score_many([(row.data_source, row.answer, row.ground_truth, row.extra)])
    assert strict["acc"] == 0.0


def test_odd_answers_are_counted(place, read):
    found = read(place.released([None, ["cut"], None, "cut\udfff", *place.texts[4:]]))
    assert found.notes == [
        "answers that are no text: 3 (null 2, list 1), the first to row 0",
        "answers that hold half a surrogate pair or bytes that are no UTF-8: 1, the first to row 3",
    ]


def test_bytes_that_are_no_text_cost_their_answer_not_the_file(place, read):
    raw = json.dumps(place.released(["BYTES", *place.texts[1:]])).encode().replace(b"BYTES", b"cut\xff\xfe")
    found = read(raw)
    assert found.graded[0].answer == "cut\udcff\udcfe" and len(found.graded) == COUNT
    assert "answers that hold half a surrogate pair" in found.notes[0]


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (None, "expected a record, found None"),
        ("22.0-25.0 seconds.", "expected a record, found 22.0-25.0 seconds."),
        ({"qa_type": "stg"}, "the answer is to another row: qa_type: expected "),
        ({"question": "Why?"}, "the answer is to another row: question: expected "),
        ({"said": "cut"}, "no answer in the record, only said"),
    ],
)
def test_a_bad_record_costs_itself(place, read, record, what):
    results = place.released() | {"0": record}
    if isinstance(record, dict) and "said" not in record:
        results["0"] = place.released()["0"] | record
    lenient, strict = read(results), read(results, strict=True)
    ((index, reason),) = told(lenient)
    assert index == 0 and reason.startswith(what)
    assert [row.index for row in lenient.graded] == list(range(1, COUNT))
    assert len(strict.graded) == COUNT and strict.graded[0].answer == ""


@pytest.mark.parametrize(
    ("edit", "dropped"),
    [
        ({"index": "4"}, (None, "record 5: expected a whole number as index and as sample")),
        ({"index": COUNT}, (COUNT, "answers a row that train_annotations.json does not have")),
        ({"file": "other.json"}, (4, "answers a row of other.json, expected one of train_annotations.json")),
        ({"video": "AVOS/elsewhere"}, (4, "the answer is to another row: video: expected ")),
        ({"index": 5}, (5, "the answer is to another row: ")),
    ],
)
def test_a_rollout_that_fits_no_row_costs_itself(place, read, edit, dropped):
    records = place.rollouts()
    records[5] = records[5] | edit
    found = read(records)
    index, reason = next(drop for drop in told(found) if drop[0] == dropped[0])
    assert reason.startswith(dropped[1])
    assert 4 not in {row.index for row in found.graded} and len(found.graded) == COUNT - 1


def test_a_rollout_that_is_there_twice_counts_once(place, read):
    records = place.rollouts()
    found = read([*records, records[5] | {"answer": "again"}])
    assert told(found) == [(4, "a second answer with sample number 0")]
    assert found.graded[4].answer == records[5]["answer"]


# Missing, extra and shuffled rows


def test_missing_rows_are_named_and_wrong_in_the_strict_scores_alone(place, read):
    results = {key: record for key, record in place.released().items() if key not in ("3", "8")}
    lenient, strict = read(results), read(results, strict=True)
    assert told(lenient) == [(3, "no answer in the results"), (8, "no answer in the results")]
    assert len(lenient.graded) == COUNT - 2 and "refuses a file that is not as long" in lenient.notes[-1]
    assert [row.answer for row in strict.graded if row.index in (3, 8)] == ["", ""] and not strict.dropped
    assert strict.notes == [
        "rows without an answer: 2, the first is row 3; each counts as an empty answer, which is wrong"
    ]


def test_extra_rows_are_named_and_left_out(place, read):
    results = place.released() | {str(COUNT + 5): place.released()["0"], "first": {}}
    found = read(results)
    assert len(found.graded) == COUNT
    assert told(found) == [
        (COUNT + 5, "answers a row that train_annotations.json does not have"),
        (None, "the results' key first is no row number"),
    ]


def test_a_list_with_holes_is_placed_by_what_the_records_say(place, read):
    records = list(place.released().values())
    found = read(records[:3] + records[5:40] + records[41:])
    assert [row.answer for row in found.graded] == [t for n, t in enumerate(place.texts) if n not in (3, 4, 40)]
    assert [index for index, _ in told(found)] == [3, 4, 40]
    assert f"{COUNT - 3} records for {COUNT} rows, not in their order: each is placed by" in found.notes[0]


def test_of_two_rows_that_look_alike_a_missing_one_leaves_both_open(place, read):
    rows = [*place.rows[:2], place.rows[1], *place.rows[2:]]
    records = [*place.released().values()]
    with pytest.raises(InputError, match="record 1, which may answer row 1 as well as row 2"):
        read(records, rows)
    # In the order of the rows their places tell them apart.
    found = read([*records[:2], records[1], *records[2:]], rows)
    assert [row.index for row in found.graded] == list(range(COUNT + 1)) and not found.dropped


def test_a_foreign_record_in_a_list_is_found(place, read):
    records = [*place.released().values()]
    stranger = records[0] | {"question": "What is this?"}
    found = read([*records[:7], stranger, *records[7:]])
    assert [row.answer for row in found.graded] == place.texts
    assert told(found) == [(None, "record 7 answers a row that train_annotations.json does not have")]


def test_a_bare_list_must_be_as_long_as_the_ground_truth(place, read):
    bare = [{"answer": text} for text in place.texts]
    found = read(bare)
    assert [row.answer for row in found.graded] == place.texts
    assert found.notes == [f"answers that nothing but their place ties to a row: {COUNT}"]
    for other in (bare[1:], [*bare, bare[0]]):
        with pytest.raises(InputError, match=f"expected {COUNT} records, .* nothing in them says which row"):
            read(other)


def test_shuffled_records_that_name_their_rows_are_put_in_order(place, read):
    records = [*place.released().values()]
    random.Random(0).shuffle(records)
    for results in (records, {str(number): record for number, record in enumerate(records)}):
        found = read(results)
        assert [row.answer for row in found.graded] == place.texts and not found.dropped
        assert f"{COUNT} records for {COUNT} rows, not in their order: each is placed by" in found.notes[0]


def test_shuffled_records_that_may_answer_two_rows_are_refused(place, read):
    # An entry of a submission names its clip and the kind of question; ask the same clip once more.
    rows = [*place.rows, place.rows[0]]
    entries = [*place.submission(), place.submission()[0]]
    assert len(read(entries, rows).graded) == COUNT + 1
    message = "found another order, and record [0-9]+, which may answer row 0 as well as"
    with pytest.raises(InputError, match=message):
        read(entries[::-1], rows)


def test_a_few_records_out_of_place_are_left_out(place, read):
    results = place.released()
    results["3"], results["9"] = results["9"], results["3"]
    for given, wrong in ((results, [3, 9]), (place.released() | {"9": place.released()["3"]}, [9])):
        found = read(given)
        assert [row.index for row in found.graded] == [n for n in range(COUNT) if n not in wrong]
        assert [row.answer for row in found.graded] == [text for n, text in enumerate(place.texts) if n not in wrong]
        assert [index for index, _ in told(found)] == wrong
        assert all(reason.startswith("the answer is to another row: ") for _, reason in told(found))


def test_a_record_that_says_nothing_of_its_row_is_left_out_where_records_have_moved(place, read):
    records = [*place.released().values()]
    records[7] = {"answer": "cut"}
    found = read(records[1:])
    assert told(found)[-1] == (None, "record 6 says nothing of the row that it answers")
    assert [row.index for row in found.graded] == [n for n in range(1, COUNT) if n != 7]


def test_a_part_of_the_rows_is_evaluated_by_their_own_numbers(place, read, tmp_path):
    table = pq.read_table(place.parquet)
    some = [5, 3, 40, 66]
    pq.write_table(table.take(some), tmp_path / "some.parquet")
    (tmp_path / "results").write_text(json.dumps(place.released()))
    found = read_graded(tmp_path / "results", tmp_path / "some.parquet")
    assert [(row.index, row.answer) for row in found.graded] == [(n, place.texts[n]) for n in sorted(some)]
    assert len(found.dropped) == COUNT - len(some)
    bare = {str(number): {"answer": text} for number, text in enumerate(place.texts)}
    (tmp_path / "results").write_text(json.dumps(bare))
    assert [row.index for row in read_graded(tmp_path / "results", tmp_path / "some.parquet").graded] == sorted(some)
    (tmp_path / "results").write_text(json.dumps({"0": bare["0"]}))
    with pytest.raises(InputError, match="row 0: expected answers to rows of the ground truth, found none"):
        read_graded(tmp_path / "results", tmp_path / "some.parquet")


def test_merged_parts_are_put_in_order(place, read):
    kinds = {}
    for number, row in enumerate(place.rows):
        kinds.setdefault(row["qa_type"], []).append(number)
    order = [number for part in range(3) for members in kinds.values() for number in members[part::3]]
    bare = {str(at): {"answer": place.texts[number]} for at, number in enumerate(order)}
    found = read(bare, merged_parts=3)
    assert [row.answer for row in found.graded] == place.texts


@pytest.mark.parametrize("form", ["released", "submission", "rollouts"])
def test_ground_truth_of_another_split_is_refused(place, read, form):
    other = [
        {**row, "metadata": {**row["metadata"], "video_id": f"other{number}"}} for number, row in enumerate(place.rows)
    ]
    with pytest.raises(InputError) as caught:
        read(getattr(place, form)(), other)
    assert "ground truth of another split?" in str(caught.value) and "\n" not in str(caught.value)


def test_rollouts_of_another_file_are_refused(place, read, tmp_path):
    (tmp_path / "results").write_text("".join(json.dumps(record) + "\n" for record in place.rollouts()))
    (tmp_path / "test.json").write_text(json.dumps(place.rows))
    with pytest.raises(InputError, match="answers a row of train_annotations.json, expected one of test.json"):
        read_graded(tmp_path / "results", tmp_path / "test.json")


# Ground truth


def test_a_reference_that_cannot_be_read_strictly_costs_its_row_there_alone(place, read):
    number = next(n for n, row in enumerate(place.rows) if row["qa_type"] == "tal")
    rows = [{**row} for row in place.rows]
    rows[number]["struc_info"] = [{"spans": "none"}]
    lenient, strict = read(place.released(), rows), read(place.released(), rows, strict=True)
    assert not lenient.dropped and lenient.graded[number].ground_truth is None
    ((index, reason),) = told(strict)
    assert index == number and reason.startswith("ground truth: struc_info.0.spans: expected")
    assert number not in {row.index for row in strict.graded}


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        ({"qa_type": "quiz"}, "qa_type: expected one of tal, .* found quiz"),
        ({"metadata": None}, "not an annotation row: TypeError"),
        ({"conversations": [{"from": "human", "value": "<video>\nWhy?"}]}, "no reference answer in the ground truth"),
    ],
)
def test_an_unusable_row_of_the_ground_truth_costs_itself(place, read, edit, what):
    rows = [place.rows[0] | edit, *place.rows[1:]]
    for strict in (False, True):
        for results in (place.rollouts(), place.submission()):
            found = read(results, rows, strict=strict)
            assert [row.index for row in found.graded] == list(range(1, COUNT))
            ((index, reason),) = told(found)
            assert index == 0 and re.match(what, reason)


def test_test_rows_are_no_ground_truth(place, read):
    rows = [{**row, "conversations": row["conversations"][:1]} for row in place.rows]
    with pytest.raises(InputError, match="row 0: expected a row with its reference answer, found no reference"):
        read(place.released(), rows)


def test_results_without_references_need_a_ground_truth(place, read):
    # The released code writes the keys for test rows too.
    blank = {key: {**record, "gnd": "", "struc_info": []} for key, record in place.released().items()}
    for results in (place.released(), place.submission(), blank):
        with pytest.raises(InputError, match="row 0: .*a ground truth beside"):
            read(results, "none")
    with pytest.raises(InputError, match="expected a ground truth for our rollouts"):
        read(place.rollouts(), "none")


def test_merged_records_with_holes_are_kept_for_the_official_numbers(place, read):
    records = place.merged()
    number = next(n for n, record in enumerate(records) if record["qa_type"] == "tal")
    del records[number]["data_source"], records[number]["metadata"]
    lenient, strict = read(records, "none"), read(records, "none", strict=True)
    assert lenient.graded[number].record == records[number]
    assert lenient.graded[number].data_source == "medvidbench/Unknown/tal"
    assert told(strict) == [(number, strict.dropped[0].what)] and "data_source: expected one of" in told(strict)[0][1]


def test_the_parquet_says_where_it_cannot_give_the_official_number(place, read):
    number = next(n for n, row in enumerate(place.rows) if row["qa_type"] == "stg")
    texts = [*place.texts]
    texts[number] = "[[10, 20, 30, 40]]"
    ((index, reason),) = told(read(place.released(texts), "parquet"))
    assert index == number and "boxes without times" in reason
    for truth, strict in (("parquet", True), ("annotations", False)):
        assert not read(place.released(texts), truth, strict=strict).dropped


def test_rows_without_structure_are_the_same_from_the_parquet(place, tmp_path):
    rows = [{key: value for key, value in row.items() if key != "struc_info"} for row in place.rows]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "results").write_text(json.dumps(place.released()))
    preprocess(tmp_path / "rows.json", tmp_path / "parquet")
    annotated = read_graded(tmp_path / "results", tmp_path / "rows.json").graded
    rebuilt = read_graded(tmp_path / "results", tmp_path / "parquet/train.parquet").graded
    for a, b in zip(annotated, rebuilt, strict=True):
        assert a.ground_truth == b.ground_truth
        assert task(a) == "nap" or score_record(a.record) == score_record(b.record)


def test_a_parquet_of_the_texts_is_not_what_the_leaderboard_goes_by(place, tmp_path):
    rows = json.loads(json.dumps(place.rows))
    tal = next(number for number, row in enumerate(rows) if row["qa_type"] == "tal")
    skill = next(number for number, row in enumerate(rows) if row["qa_type"] == "skill_assessment")
    rows[tal]["conversations"][1]["value"] = "1.0-2.0 seconds."
    rows[skill]["conversations"][1]["value"] = "A novice."
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "results").write_text(json.dumps(place.released()))
    for truth, wanted in (("text", {tal, skill}), ("structure", {skill})):
        preprocess(tmp_path / "rows.json", tmp_path / truth, "--truth", truth)
        parquet = tmp_path / truth / "train.parquet"
        found = read_graded(tmp_path / "results", parquet)
        assert {index for index, _ in told(found)} == wanted
        assert len(read_graded(tmp_path / "results", parquet, strict=True).graded) == COUNT


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "expected JSON or JSON lines in UTF-8"),
        (b"[1, 2", "expected JSON or JSON lines in UTF-8"),
        (b"7", "expected a dict by row number, a list, or JSON lines, found 7"),
        (b"[]", "expected answers, found none"),
        (b"[1, 2]", "row 0: expected a record, found 1"),
        (b'{"a": {}}', "expected row numbers as keys, found a"),
        (b'{"header": {}}\n{"index": 1, "sam\n{"index": 2}\n', "line 2 is not JSON"),
        (b'{"header": {}}\n', "expected an answer to a row of the ground truth, found none"),
    ],
)
def test_a_file_of_another_shape_is_refused_in_one_line(read, content, line):
    with pytest.raises(InputError, match=line) as caught:
        read(content)
    assert "\n" not in str(caught.value) and "results: " in str(caught.value)


def test_a_last_line_that_a_kill_cut_short_is_a_missing_answer(place, read):
    lines = "".join(json.dumps(record) + "\n" for record in place.rollouts())
    found = read(lines[:-9].encode())
    assert told(found) == [(COUNT - 1, "no answer in the results")]
