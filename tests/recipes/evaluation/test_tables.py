# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a report says: values, intervals, the official evaluator, blind and published numbers, and who is missing."""

import json

import pytest

from recipes.medgrpo.evaluation import tables as report
from recipes.medgrpo.evaluation.comparison import compare
from recipes.medgrpo.evaluation.inputs import Dropped, Graded
from recipes.medgrpo.evaluation.leaderboard import score_leaderboard
from recipes.medgrpo.evaluation.published import published
from recipes.medgrpo.evaluation.strict import score_strict
from recipes.medgrpo.files import InputError
from recipes.medgrpo.reward_options import signal_settings
from reward_score.leaderboard import COLUMNS

RULES = signal_settings() | {"dvc_captions": False}


def tal(index, answer, source="AVOS"):
    record = {
        "metadata": {"video_id": "v", "fps": 1.0},
        "qa_type": "tal",
        "struc_info": [{"spans": [{"start": 0, "end": 10}]}],
        "question": "",
        "gnd": "0-10",
        "answer": answer,
        "data_source": source,
    }
    truth = json.dumps({"spans": [[0, 10]], "text": "0-10"})
    return Graded(index, "test.json", f"medvidbench/{source}/tal", f"{source}/{index}", answer, record, truth, {})


ROWS = [tal(4, "0.0-10.0 seconds."), tal(5, "0.0-6.0 seconds."), tal(7, "0.0-8.0 seconds.", "CoPESD"), tal(9, None)]


def leaderboard(rows=ROWS):
    return score_leaderboard(rows, resamples=50)


def entries(found):
    return found["scores"]["overall"]["all"]


def line(text, start):
    """The cells of the first line of a table that starts with a word."""
    found = next(line for line in text.splitlines() if line.lstrip("| ").startswith(f"{start} "))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_report_in_leaderboard_mode():
    found = report.build(
        leaderboard(),
        dropped=[Dropped(1, "no answer in the results"), Dropped(2, "no answer in the results")],
        notes=["read as a submission"],
        blind=leaderboard([tal(4, "0.0-5.0 seconds."), tal(5, "no span")]),
        published=published(["qwen3-vl-4b medgrpo"]),
        about={"results": "answers.json"},
    )
    entry = entries(found)["tag_miou_05"]
    assert entry["value"] == pytest.approx(0.8)
    assert (entry["official"], entry["leaderboard"], entry["blind"], entry["rows"]) == ("lost", 0.0, 0.25, 3)
    assert found["left_out"][0] == {"reason": "no answer in the results", "count": 2, "rows": [1, 2]}
    assert found["left_out"][1]["rows"] == [9]  # once, though it costs two columns
    text = report.markdown(found)
    cells = line(text, "tag_miou_05")
    assert cells[1] == "0.800" and cells[2].startswith("[0.")
    assert cells[3:] == ["3", "3", "0.250", "0.000", "lost: shows 0", "0.441"]
    assert line(text, "medvidbench/CoPESD/tal")[1:3] == ["tag_miou_03", "0.800"]
    assert line(text, "CoPESD")[3] == "-"  # one video, no interval
    assert line(text, "2")[1:] == ["1, 2", "no answer in the results"]
    assert "- read as a submission" in text and "- results: answers.json" in text


def test_a_report_in_strict_mode():
    evaluation = score_strict(ROWS, scoring=RULES, resamples=50)
    blind = score_strict([tal(row.index, "0.0-5.0 seconds.", row.video.split("/")[0]) for row in ROWS], scoring=RULES)
    found = report.build(evaluation, blind=blind)
    text = report.markdown(found)
    assert list(entries(found)) == ["acc", "format", "raw_iou"]
    assert line(text, "acc")[1] == f"{(1.6 / 3 + 0.8) / 2:.3f}"
    assert line(text, "medvidbench/AVOS/tal")[1:4] == ["3", "3", "0.533"]
    assert line(text, "medvidbench/AVOS/tal")[5:] == ["0.500", "0.667", "iou 0.533"]
    assert line(text, "tal")[1] == "4"
    assert "official" not in entries(found)["acc"]


def test_a_column_whose_records_are_all_lost_is_named_all_the_same():
    found = report.build(leaderboard([tal(0, None)]))
    assert entries(found)["tag_miou_05"]["value"] is None
    assert line(report.markdown(found), "tag_miou_05")[1:3] == ["-", "-"]


def test_a_column_that_the_records_cannot_give_exactly_says_so():
    found = report.build(leaderboard(ROWS[:3]), inexact={"tag_miou_05": "times were rounded"})
    assert entries(found)["tag_miou_03"]["leaderboard"] == pytest.approx(0.8)
    assert (entries(found)["tag_miou_05"]["official"], entries(found)["tag_miou_05"]["leaderboard"]) == (
        "inexact",
        None,
    )
    assert found["notes"] == ["tag_miou_05: times were rounded"]


@pytest.mark.parametrize(("value", "printed"), [(0.44446, 0.445), (0.00049, 0.001), (0.00044, 0.0), (0.4444, 0.444)])
def test_the_leaderboard_rounds_twice(value, printed):
    """To four decimals, then to three: 0.44446 becomes 0.4445 and then 0.445."""
    assert report.shown(value) == printed


def test_reasons_that_differ_in_numbers_only_are_one():
    reasons = [(n, f"row {n} is beyond the file's 3") for n in range(4, 30)] + [(None, "the key 'x' is no number")]
    first, second = report.group_reasons(reasons)
    assert (first["reason"], first["count"], first["rows"]) == ("row 4 is beyond the file's 3", 26, list(range(4, 30)))
    assert (second["count"], second["rows"]) == (1, [])


def test_what_is_written_can_be_read_again(tmp_path):
    rows = [*ROWS, tal(11, "0-10 | \ud800", "Sur|gical\udfff")]
    evaluation = leaderboard(rows)
    found = report.build(evaluation, about={"note": "\ud800"})
    report.write(tmp_path, found, evaluation)
    assert json.loads((tmp_path / "report.json").read_text())["scores"] == found["scores"]
    assert "Sur\\|gical" in (tmp_path / "report.md").read_text()
    lines = [json.loads(text) for text in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [item["index"] for item in lines] == [4, 5, 7, 9, 11]
    assert lines[0] == {
        "file": "test.json",
        "index": 4,
        "data_source": "medvidbench/AVOS/tal",
        "video": "AVOS/4",
        "tag_miou_03": 1.0,
        "tag_miou_05": 1.0,
    }
    assert "TypeError" in lines[3]["left_out"][0] and "tag_miou_03" not in lines[3]


def test_without_per_record_there_is_no_file_of_records(tmp_path):
    report.write(tmp_path, report.build(leaderboard()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_every_line_of_a_table_has_the_same_width():
    text = report.table(["a", "column"], [["longer than that", "1"], ["b", "22"]])
    assert len({len(line) for line in text.splitlines()}) == 1


def test_a_comparison_as_text_and_json(tmp_path):
    first = score_strict(ROWS, scoring=RULES, resamples=10)
    second = score_strict([*ROWS[:3], tal(12, "0.0-10.0 seconds.")], scoring=RULES, resamples=10)
    found = compare(first, second)
    report.write_comparison(tmp_path, found, about={"first": "a", "second": "b"})
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["scores"]["overall"]["all"]["acc"]["difference"] == 0
    assert (content["only_second"], content["about"]["first"]) == (["test.json: row 12"], "a")
    text = (tmp_path / "comparison.md").read_text()
    assert line(text, "acc")[3] == "+0.000"
    assert line(text, "medvidbench/CoPESD/tal")[1] == "acc"
    assert "Only in the second: 1 (test.json: row 12)" in text


# --- published numbers -----------------------------------------------------------------------------------------------


def test_published_rows():
    table = published()
    assert len(table) == 14
    assert all(set(columns) == set(COLUMNS) for model, columns in table.items() if model != "RefineRank")
    assert table["RefineRank"] == {"stg_miou": 0.421}
    assert table["Qwen2.5-VL-7B MedGRPO"]["nap_acc"] == 0.405
    assert table["Qwen3-VL-4B MedGRPO"]["rc_llm"] == 3.861
    assert list(published(["gpt-4.1", "SPIRAL"])) == ["GPT-4.1", "SPIRAL"]
    with pytest.raises(InputError, match="no model 'GPT-9': expected some of GPT-4.1, "):
        published(["GPT-9"])
