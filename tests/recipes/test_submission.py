# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The submission file: from rollouts or released output to the list that the server reads by place."""

import gzip
import json
import math
import re
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_preprocess import medvidbench
from recipes.medgrpo.answers.box_text import boxes_on_canvas
from recipes.medgrpo.answers.questions import read_test
from recipes.medgrpo.submission import main
from reward_score.answers import parse_stg
from reward_score.boxes import iou, to_canvas, to_model
from reward_score.conventions import CONVENTIONS

CANVAS_BOX = (480.0, 270.0, 1440.0, 810.0)
FAMILIES = tuple(CONVENTIONS)


def row(source, qa_type, question, video, bounds, fps="1.0"):
    """A test row, its clip's bounds under the keys that the source uses."""
    folder = {"NurViD": "NurViD/frames_2fps", "AVOS": "AVOS/frames_15fps"}.get(source, source)
    step = {"NurViD": 2, "AVOS": 15}.get(source, 1)
    numbers = [10 + step * k for k in range(30)]
    return {
        "id": f"own {video}",
        "qa_type": qa_type,
        "data_source": source,
        "conversations": [{"from": "human", "value": f"<video>\n{question}"}],
        "video": [f"/root/data/{folder}/{video}/{n:06}.jpg" for n in numbers],
        "sampled_video_frames": numbers,
        "metadata": {"video_id": video, "fps": fps, **bounds},
    }


def frames(start, end):
    return {"input_video_start_frame": start, "input_video_end_frame": end}


ROWS = [
    row("EgoSurgery", "stg", "Where is the hook?", "01_1", frames("1", "30"), "0.5"),
    row("NurViD", "tal", "When is the bed made?", "vR0", {"input_video_start_time": "5", "input_video_end_time": "34"}),
    row("Cholec80-CVS", "cvs_assessment", "Rate it.", "video7", {"start_frame": "100", "end_frame": "400"}),
    row("AVOS", "next_action", "What is next?", "kcOqlifSukA", frames("22425", "25124")),
    row("CholecT50", "video_summary_gpt", "Sum it up.", "VID01", frames("0", "29")),
    row("AVOS", "next_action", "What is next, then?", "kcOqlifSukA", frames("22425", "25124")),
    row("EgoSurgery", "stg", "Where is the knife?", "02_1", frames("1", "30"), "0.5"),
    row("AVOS", "next_action", "And after that?", "kcOqlifSukA", frames("22425", "25124")),
    row("AVOS", "tal", "When is it cut?", "kcOqlifSukA", frames("22425", "25124")),
]
BOX_TEXT = "4.0 seconds: [480.00, 270.00, 1440.00, 810.00]"
TEXTS = [
    BOX_TEXT,
    "22.0-25.0 seconds.",
    "Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0",
    "cutting",
    "The gallbladder is removed.",
    "tying",
    BOX_TEXT,
    "suturing",
    "3.0-4.0 seconds.",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `test.json` and, by model family, the parquet made from it."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "test.json").write_text(json.dumps(ROWS))
    for family in FAMILIES:
        preprocess(folder / "test.json", folder / family, family)
    return folder


def preprocess(annotations: Path, output: Path, family: str = "qwen2_5_vl", *options: str) -> None:
    arguments = ["--annotations", annotations, "--frames-root", annotations.parent, "--output", output]
    status = medvidbench.main([*map(str, arguments), "--model-family", family, "--verify", "none", *options])
    assert status == 0


@pytest.fixture
def run(place, tmp_path, capsys):
    """Runs the command on results, as JSON or as lines; (status, entries or None, what it said)."""

    def command(results, *options, test="qwen2_5_vl/test.parquet", check=False):
        path = tmp_path / "results"
        lines = isinstance(results, list) and results and "header" in results[0]
        path.write_text("".join(json.dumps(r) + "\n" for r in results) if lines else json.dumps(results))
        output = tmp_path / "submission.json"
        files = ["--check", path] if check else ["--results", path, "--output", output]
        status = main([*map(str, files), "--test", str(place / test), *options])
        said = capsys.readouterr()
        return status, json.loads(output.read_text()) if output.exists() else None, said.out + said.err

    return command


def released(texts=TEXTS):
    """What the paper's inference code writes for the test rows."""
    return {
        str(number): {
            "metadata": given["metadata"],
            "qa_type": given["qa_type"],
            "struc_info": None,
            "question": given["conversations"][0]["value"].replace("<video>\n", ""),
            "answer": text,
            "data_source": given["data_source"],
        }
        for number, (given, text) in enumerate(zip(ROWS, texts, strict=True))
    }


def rollouts(place, texts=None, family="qwen2_5_vl", samples=1):
    """What `generate` writes for the test rows: boxes as the model says them."""
    records = [{"header": {"model": "abc"}}]
    for number, extra in enumerate(pq.read_table(place / family / "test.parquet")["extra_info"].to_pylist()):
        text = TEXTS[number] if texts is None else texts[number]
        if texts is None and extra["task"] == "stg":
            box = to_model(CANVAS_BOX, extra["canvas"], extra["processed_size"], family)
            text = f"4.0 seconds: [{', '.join(f'{value:.1f}' for value in box)}]"
        for sample in range(samples):
            record = {
                "file": extra["file"],
                "index": extra["index"],
                "data_source": f"medvidbench/{extra['source']}/{extra['task']}",
                "video": f"{extra['source']}/{extra['video_id']}",
                "sample": sample,
                "answer": text if sample == 0 else f"{text} ({sample})",
                "truncated": False,
                "score": 0.0,
            }
            records.append(record)
    return records


def test_the_file_has_the_released_converters_ids_in_test_order(run):
    status, entries, said = run(released())
    assert status == 0, said
    assert entries == [
        {"id": name, "qa_type": given["qa_type"], "prediction": text}
        for name, given, text in zip(
            [
                "01_1&&1&&30&&0.5",
                "vR0&&&&&&1.0",  # NurViD's clips have times, no frames
                "video7&&100&&400&&1.0",
                "kcOqlifSukA&&22425&&25124&&1.0",
                "VID01&&0&&29&&1.0",
                "kcOqlifSukA&&22425&&25124&&1.0",
                "02_1&&1&&30&&0.5",
                "kcOqlifSukA&&22425&&25124&&1.0",
                "kcOqlifSukA&&22425&&25124&&1.0",
            ],
            ROWS,
            TEXTS,
            strict=True,
        )
    ]


def test_annotations_and_parquet_give_the_same_file(run):
    assert run(released(), test="test.json")[1] == run(released())[1]


def test_a_bare_list_is_taken_in_order_and_said_to_be(run):
    status, entries, said = run([{"answer": text} for text in TEXTS])
    assert status == 0 and entries == run(released())[1]
    assert "note: 9 answers that nothing but their place ties to a row" in said


def test_the_order_of_the_records_is_the_test_files(run, place):
    records = rollouts(place)
    assert run([records[0], *records[:0:-1]])[1] == run(records)[1]
    by_row = released()
    assert run(dict(reversed(by_row.items())))[1] == run(by_row)[1]


def test_a_parquets_rows_may_stand_in_any_order(run, place, tmp_path):
    table = pq.read_table(place / "qwen2_5_vl/test.parquet")
    pq.write_table(table.take(list(range(len(ROWS)))[::-1]), tmp_path / "reversed.parquet")
    assert run(released(), test=str(tmp_path / "reversed.parquet"))[1] == run(released())[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_of_our_rollouts_come_back_to_the_canvas(run, place, family):
    status, entries, said = run(rollouts(place, family=family), test=f"{family}/test.parquet")
    assert status == 0, said
    for number in (0, 6):
        (box,) = parse_stg(entries[number]["prediction"]).value.values()
        assert iou(box, CANVAS_BOX) > 0.99
    assert entries[1]["prediction"] == TEXTS[1]


def test_boxes_that_are_said_to_be_on_the_canvas_stay(run, place):
    records = rollouts(place, TEXTS)
    assert run(records, "--box-space", "canvas")[1][0]["prediction"] == BOX_TEXT
    told = [records[0], *({**record, "box_space": "canvas"} for record in records[1:])]
    assert run(told)[1][0]["prediction"] == BOX_TEXT
    status, _, said = run(told, "--box-space", "model")
    assert status == 2 and "row 0: box_space: expected model, found canvas" in said


def test_boxes_of_the_models_space_need_the_parquet(run, place):
    status, _, said = run(rollouts(place), test="test.json")
    assert status == 2 and "row 0: answer: expected boxes in canvas pixels" in said and "parquet" in said


SPACE = ([1920, 1080], [192, 108], "qwen2_5_vl")


@pytest.mark.parametrize(
    ("said", "submitted"),
    [
        ("1.0 seconds: [1, 2, 3.5, 4]", "1.0 seconds: [10.00, 20.00, 35.00, 40.00]"),
        # Nothing is mended: what the server cannot read, it shall not read.
        ("At 1s: [1,2,3,4]. 2s: [1,2,3]", "At 1s: [10.00, 20.00, 30.00, 40.00]. 2s: [1,2,3]"),
        ("1 seconds: [1, 2, 3, 4] 2 seconds: [1, 2", "1 seconds: [10.00, 20.00, 30.00, 40.00] 2 seconds: [1, 2"),
        ("[[1, 2, 3, 4]]", "[[10, 20, 30, 40]]"),
        ("5 seconds: [nan, 2, 3, 4]", "5 seconds: [1.0, 1.0, 1.0, 1.0]"),
        ("no box", "no box"),
    ],
)  # fmt: skip
def test_only_the_numbers_of_a_box_change(said, submitted):
    assert boxes_on_canvas(said, SPACE)[0] == submitted


def test_a_long_hostile_answer_is_read_in_linear_time():
    for text in ("[" * 10**6, "[ " * 10**6, "[1,2,3,4" * 10**5, "[" + " " * 10**6):
        assert boxes_on_canvas(text, SPACE) == (text, 0)


def test_a_nan_box_costs_its_answer_not_the_column(run):
    texts = ["4.0 seconds: [nan, 1, 2, 3]", *TEXTS[1:]]
    status, entries, said = run(released(texts))
    assert status == 0 and "box of NaN" in said
    (box,) = parse_stg(entries[0]["prediction"]).value.values()
    assert not any(map(math.isnan, box)) and box[0] == box[2]
    status, _, said = run(
        [{**entry, "prediction": text} for entry, text in zip(entries, texts, strict=True)], check=True
    )
    assert status == 2 and "row 0: prediction" in said and "NaN" in said


def test_of_several_samples_the_first_or_the_named_one_is_taken(run, place):
    records = rollouts(place, samples=3)
    assert run(records)[1][3]["prediction"] == "cutting"
    assert run([records[0], *records[:0:-1]])[1][3]["prediction"] == "cutting"
    assert run(records, "--sample", "2")[1][3]["prediction"] == "cutting (2)"
    status, _, said = run(records, "--sample", "3")
    assert status == 2 and "results: sample: expected number 3, found only 0, 1, 2" in said


def merged(parts):
    """Released output after the released scripts dealt the rows to GPUs and put the parts together again."""
    kinds, answers, numbers = defaultdict(list), released(), [[] for _ in range(parts)]
    for number, given in enumerate(ROWS):
        kinds[given["qa_type"]].append(number)
    for members in kinds.values():
        for at, number in enumerate(members):
            numbers[at % parts].append(number)
    flat = [number for part in numbers for number in part]
    return {str(place): answers[str(number)] for place, number in enumerate(flat)}


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_released_output_of_several_gpus_is_put_in_order_again(run, parts):
    assert list(merged(parts).values()) != list(released().values())
    status, _, said = run(merged(parts))
    assert status == 2 and "--merged-parts" in said
    assert run(merged(parts), "--merged-parts", str(parts))[1] == run(released())[1]
    status, _, said = run(merged(parts), "--merged-parts", str(parts + 1 if parts < 3 else 2))
    assert status == 2 and "expected" in said


OTHER = "the answer is to another row: "


def changed(number, **changes):
    records = released()
    records[str(number)] = {**records[str(number)], **changes}
    return records


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ({k: v for k, v in released().items() if k != "4"}, "row 4: answer: expected one for each of 9 rows"),
        ({**released(), "9": released()["8"]}, "row 9: answers a row that test.json does not have"),
        ({**released(), "first": {}}, "the results' key first is no row number"),
        (changed(3, answer=None), "row 3: answer: expected text .* found None"),
        (changed(3, answer=["cutting"]), "row 3: answer: expected text"),
        (changed(3, answer="cut\ud800"), "row 3: prediction: expected text that UTF-8 can hold"),
        (changed(3, qa_type="tal"), f"row 3: {OTHER}qa_type: expected next_action, found tal"),
        (changed(3, question="Another?"), f"row 3: {OTHER}question: expected What is next., found Another"),
        (changed(4, metadata={**ROWS[4]["metadata"], "video_id": "VID02"}), f"row 4: {OTHER}metadata: .*VID01.*VID02"),
        (changed(4, metadata={**ROWS[4]["metadata"], "fps": "2.0"}), f"row 4: {OTHER}metadata: .*1.0, found .*2.0"),
        (changed(2, data_source="JIGSAWS"), f"row 2: {OTHER}data_source: expected Cholec80_CVS, found JIGSAWS"),
        (changed(4, answer="  "), "row 4: prediction: expected an answer .* found none"),
        ({"0": 3, **{k: v for k, v in released().items() if k != "0"}}, "row 0: expected a record, found 3"),
        (7, "expected a dict by row number, a list, or JSON lines, found 7"),
    ],
)  # fmt: skip
def test_results_that_the_server_would_misread_are_refused_in_one_line(run, results, line):
    status, entries, said = run(results)
    assert (status, entries) == (2, None)
    assert said.startswith("submission: error: ") and said.count("\n") == 1
    assert re.search(f"results: {line}", said), said


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        ({"index": 99}, "row 99: answers a row that test.json does not have"),
        ({"index": 3}, f"row 3: {OTHER}video: expected AVOS/kcOqlifSukA"),
        ({"index": "4"}, "record 5: expected a whole number as index and as sample"),
        ({"file": "trainval.json"}, "row 4: answers a row of trainval.json, expected one of test.json"),
        (
            {"video": "CholecT50/VID02"},
            f"row 4: {OTHER}video: expected CholecT50/VID01, found CholecT50/VID02",
        ),
        (
            {"data_source": "medvidbench/CoPESD/vs"},
            f"row 4: {OTHER}data_source: expected medvidbench/CholecT50/vs",
        ),
        ({"answer": None}, "row 4: answer: expected text"),
        ({"truncated": True}, "row 4: truncated: expected at most 5% of the vs answers cut off .* found 1 of 1"),
    ],
)
def test_rollouts_that_do_not_fit_the_test_rows_are_refused(run, place, edit, line):
    records = rollouts(place)
    records[5] = {**records[5], **edit}
    status, entries, said = run(records)
    assert (status, entries) == (2, None)
    assert re.search(f"results: {line}", said), said


def test_a_row_that_is_answered_twice_is_refused(run, place):
    records = rollouts(place)
    status, entries, said = run([*records, records[5]])
    assert (status, entries) == (2, None) and "row 4: a second answer with sample number 0" in said


def test_blank_and_cut_off_answers_can_be_let_through_and_are_told(run, place):
    records = rollouts(place)
    records[4] |= {"answer": "", "truncated": True}
    status, entries, said = run(records, "--allow-blank", "--max-truncated", "0.5")
    assert status == 0 and entries[3]["prediction"] == ""
    assert "note: 1 blank answers, the first is row 3" in said
    assert "note: 1 of 3 nap answers cut off by the token budget, the first is row 3" in said


def test_answers_off_the_grammar_are_counted(run):
    texts = [*TEXTS[:1], "from 22 to 25 seconds", *TEXTS[2:8], "no idea"]
    _, entries, said = run(released(texts))
    assert entries[1]["prediction"] == texts[1]
    assert "note: 1 tal answers deviate from the task's grammar and can be read, the first is row 1" in said
    assert "note: 1 tal answers cannot be read, the first is row 8" in said


def test_a_refused_run_leaves_the_file_before_it_alone(run):
    _, entries, _ = run(released())
    status, after, _ = run(changed(3, answer=None))
    assert status == 2 and after == entries


@pytest.mark.parametrize("test", ["test.json", "qwen2_5_vl/test.parquet"])
def test_a_good_submission_passes_the_check(run, test):
    _, entries, _ = run(released())
    status, _, said = run(entries, check=True, test=test)
    assert status == 0 and "9 answers (stg 2, tal 2, cvs 1, nap 3, vs 1)" in said


def swapped(entries):
    entries[3], entries[4] = entries[4], entries[3]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda entries: entries.pop(), "expected 9 entries, one for each row of the test file, found 8"),
        (swapped, "row 3: qa_type: expected next_action, found video_summary_gpt"),
        (lambda entries: entries[6].update(id=entries[0]["id"]), "row 6: id: expected 02_1&&1&&30&&0.5, found 01_1"),
        (lambda entries: entries[6].update(id=""), "row 6: id: "),
        (lambda entries: entries[6].update(id="02_1&&2&&30&&0.5"), "row 6: id: "),
        (lambda entries: entries[2].update(prediction=None), "row 2: prediction: expected text"),
        (lambda entries: entries[2].update(prediction=" "), "row 2: prediction: expected an answer"),
        (lambda entries: entries[2].update(answer="x"), "row 2: expected an entry with id, qa_type, prediction"),
        (lambda entries: entries[2].pop("id"), "row 2: expected an entry with id, qa_type, prediction"),
    ],
)
def test_a_damaged_submission_is_refused(run, damage, line):
    _, entries, _ = run(released())
    damage(entries)
    status, _, said = run(entries, check=True)
    assert status == 2 and line in said


def test_a_merged_file_is_no_submission(run):
    status, _, said = run(released(), check=True)
    assert status == 2 and "expected a list of entries in the order of the test file" in said


@pytest.mark.parametrize(
    "written",
    [
        lambda text: gzip.compress(text.encode()),
        lambda text: text.encode("utf-8-sig"),
        lambda text: "\n".join(map(json.dumps, json.loads(text))).encode(),
        lambda text: text[:-1].encode(),
        lambda text: b"",
    ],
)
def test_what_the_server_cannot_read_is_no_submission(run, place, tmp_path, capsys, written):
    _, entries, _ = run(released())
    path = tmp_path / "submission"
    path.write_bytes(written(json.dumps(entries)))
    assert main(["--check", str(path), "--test", str(place / "test.json")]) == 2
    said = capsys.readouterr().err
    assert "expected one JSON list, not zipped, as the server reads it, found " in said and said.count("\n") == 1


@pytest.mark.parametrize("share", ["nan", "-0.1", "2"])
def test_the_share_of_answers_that_may_be_cut_off_is_a_share(run, share):
    with pytest.raises(SystemExit) as left:
        run(released(), "--max-truncated", share)
    assert left.value.code == 2


def test_a_clip_that_begins_with_the_number_0_has_that_bound(run, place, tmp_path):
    rows = [dict(given) for given in ROWS]
    rows[0] = {**rows[0], "metadata": {**rows[0]["metadata"], "input_video_start_frame": 0}}
    (tmp_path / "numbers.json").write_text(json.dumps(rows))
    first, *_ = read_test(tmp_path / "numbers.json")
    assert first.start == "0" and first.id.split("&&")[1] == "0"


def test_an_id_may_be_the_rows_own_or_leave_bounds_blank(run):
    _, entries, _ = run(released())
    entries[0]["id"], entries[3]["id"], entries[1]["id"] = "own 01_1", "kcOqlifSukA&&&&&&1", "vR0&&5&&34&&1.0"
    assert run(entries, check=True)[0] == 0


def many(box, count=10):
    """An answer of as many boxes."""
    return " ".join(f"{4.0 * k} seconds: [{', '.join(f'{v:.1f}' for v in box)}]" for k in range(count))


def test_boxes_left_in_the_models_space_are_noticed(run, place):
    space = read_test(place / "qwen2_5_vl/test.parquet")[0].space
    small = many(to_model(CANVAS_BOX, *space))
    texts = [small, *TEXTS[1:6], small, *TEXTS[7:]]
    status, _, said = run(released(texts))
    assert status == 2 and "row 0: box: expected boxes of EgoSurgery in canvas pixels, found all 20 within" in said
    assert run(released(texts), "--box-space", "canvas")[1][0]["prediction"] == small
    (box, *_) = parse_stg(run(released(texts), "--box-space", "model")[1][0]["prediction"]).value.values()
    assert iou(box, to_canvas(to_model(CANVAS_BOX, *space), *space)) > 0.98
    # The same boxes in the pixels of the canvas pass.
    assert run(released([many(CANVAS_BOX), *TEXTS[1:6], many(CANVAS_BOX), *TEXTS[7:]]))[0] == 0


def test_canvas_boxes_are_not_blown_up(run, place):
    large = many(CANVAS_BOX)
    status, _, said = run(rollouts(place, [large, *TEXTS[1:6], large, *TEXTS[7:]]))
    assert status == 2 and "row 0: box: expected boxes of EgoSurgery in the space of the model" in said


def test_a_parquet_that_lacks_test_rows_is_refused(run, place, tmp_path):
    rows = [dict(given) for given in ROWS]
    rows[3]["qa_type"] = "no such task"
    (tmp_path / "test.json").write_text(json.dumps(rows))
    preprocess(tmp_path / "test.json", tmp_path / "out", "qwen2_5_vl", "--max-rejects", "0.5")
    status, _, said = run(released(), test=str(tmp_path / "out/test.parquet"))
    assert status == 2 and "row 3: extra_info.index: expected every row of the test file once, found row 4" in said
    rows[3], rows[8] = ROWS[3], {**ROWS[8], "qa_type": "no such task"}
    (tmp_path / "test.json").write_text(json.dumps(rows))
    preprocess(tmp_path / "test.json", tmp_path / "out", "qwen2_5_vl", "--max-rejects", "0.5")
    status, _, said = run(released(), test=str(tmp_path / "out/test.parquet"))
    assert status == 2 and "expected all 9 rows of test.json, found 8" in said


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[]", "expected test rows, found none"),
        ("{", "row 0: expected valid JSON"),
        ('[{"qa_type": "tal"}]', "row 0: expected a row with qa_type, metadata"),
        (json.dumps([{**ROWS[0], "qa_type": "guess"}]), "row 0: qa_type: expected one of tal, stg"),
        ("PAR1", "expected the preprocessor's parquet"),
    ],
)
def test_a_test_file_of_another_kind_is_refused(run, tmp_path, content, line):
    (tmp_path / "other").write_text(content)
    status, _, said = run(released(), test=str(tmp_path / "other"))
    assert status == 2 and f"other: {line}" in said and said.count("\n") == 1


def test_missing_files_are_named(place, tmp_path, capsys):
    test, output = str(place / "test.json"), str(tmp_path / "submission.json")
    assert main(["--results", str(tmp_path / "absent"), "--test", test, "--output", output]) == 2
    assert main(["--check", str(place / "test.json"), "--test", str(tmp_path / "absent")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("absent: expected a readable file, found No such file" in line for line in lines)
