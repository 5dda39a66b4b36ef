# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Rows that the SFT model had settled before RL are found by their calibration answers, and drawn less often."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.medgrpo.data.difficulty import draw_rates, extremes
from recipes.medgrpo.data.rows import DataError, Rows
from recipes.medgrpo.files import InputError

TAL = "medvidbench/AVOS/tal"


def table(path, indices, file="train.json") -> Rows:
    """A parquet file with what choosing rows takes, one row for each index."""
    rows = [
        {
            "data_source": TAL,
            "ability": "tal",
            "extra_info": {"split": "train", "prompt_tokens": 10, "file": file, "index": index},
        }
        for index in indices
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return Rows.open([str(path)])


def recorded(path, answers) -> str:
    """A raw_signals.jsonl with the `acc` of the answers to each row."""
    lines = [{"header": {"model": "m"}}]
    lines += [
        {"data_source": TAL, "file": "train.json", "index": index, "sample": sample, "acc": acc, "format": 1.0}
        for index, accs in answers.items()
        for sample, acc in enumerate(accs)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


ANSWERS = {0: [0.0, 0.02, 0.0], 1: [1.0, 0.96, 1.0], 2: [0.0, 0.4, 0.0], 3: [1.0, 1.0, 0.5]}


def test_only_rows_whose_answers_all_succeed_or_all_fail_are_rare(tmp_path):
    rows = table(tmp_path / "train.parquet", [3, 1, 0, 2, 9])  # 9 was not calibrated
    options = {"settled_by": recorded(tmp_path / "raw_signals.jsonl", ANSWERS)}
    assert draw_rates(rows, options).tolist() == [1.0, 0.25, 0.25, 1.0, 1.0]
    assert draw_rates(rows, options | {"settled_share": 0.1}).tolist() == [1.0, 0.1, 0.1, 1.0, 1.0]
    # Bounds that let no answer but 0 fail and no answer but 1 succeed.
    assert draw_rates(rows, options | {"settled_bounds": [0.0, 1.0]}).tolist() == [1.0] * 5
    assert draw_rates(rows, options | {"settled_bounds": [0.4, 1.0]}).tolist() == [1.0, 1.0, 0.25, 0.25, 1.0]


def test_a_choice_of_rows_keeps_its_rates(tmp_path):
    rows = table(tmp_path / "train.parquet", [3, 1, 0, 2]).take([2, 0])
    options = {"settled_by": recorded(tmp_path / "raw_signals.jsonl", ANSWERS)}
    assert draw_rates(rows, options).tolist() == [0.25, 1.0]


def test_without_the_setting_nothing_is_read(tmp_path):
    assert draw_rates(table(tmp_path / "train.parquet", [1]), {"settled_share": 0.1}) is None


def test_the_file_is_part_of_a_rows_name(tmp_path):
    rows = table(tmp_path / "train.parquet", [0, 1], file="other.json")
    with pytest.raises(DataError, match="none of the training rows is in it"):
        draw_rates(rows, {"settled_by": recorded(tmp_path / "raw_signals.jsonl", ANSWERS)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settled_share": 0}, "settled_share is 0, expected a number above 0, at most 1"),
        ({"settled_share": "rarely"}, "settled_share is 'rarely'"),
        ({"settled_bounds": [0.5, 0.5]}, r"settled_bounds is \[0.5, 0.5\], expected \[low, high\]"),
        ({"settled_by": "gone.jsonl"}, "settled_by: gone.jsonl: expected the raw_signals.jsonl of a calibration"),
    ],
)
def test_a_bad_setting_is_named(tmp_path, options, message):
    rows = table(tmp_path / "train.parquet", [0])
    given = {"settled_by": recorded(tmp_path / "raw_signals.jsonl", ANSWERS)} | options
    with pytest.raises(InputError, match=message):
        draw_rates(rows, given)


@pytest.mark.parametrize("line", ['{"index": 1}', '{"index": 1, "acc": 1.5}', '{"acc": 1.0}', "[]"])
def test_a_line_that_is_no_scored_answer_is_named(tmp_path, line):
    file = tmp_path / "raw_signals.jsonl"
    file.write_text(f'{{"header": {{}}}}\n{line}\n')
    with pytest.raises(InputError, match="raw_signals.jsonl: line 2: index and acc: expected a scored answer"):
        extremes(file)
