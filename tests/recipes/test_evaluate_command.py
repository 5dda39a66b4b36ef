# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The command `evaluate` as it is called: a file scored in both modes, two files compared, and what it refuses."""

import copy
import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_preprocess import medvidbench, synthetic
from data_preprocess.synthetic_rows import PAIRS, Settings
from recipes.medgrpo.evaluate import main
from reward_score.leaderboard import columns

ROOT = Path(__file__).resolve().parents[2]
COUNT = 3 * len(PAIRS)
RULES = {"tag_miou_03", "tag_miou_05", "stg_miou", "nap_acc", "dvc_f1", "cvs_acc", "sa_acc"}
CAPTIONS = ("dense_captioning", "video_summary", "region_caption")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Synthetic annotations, the parquet made from them, and as answer to a row the reference of the row before it in
    its pair: some right, some wrong, all readable, and each a label of the lists, so that no model is asked."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.generate(folder / "set", Settings(variants="plain"), COUNT, 0, frames=False)
    annotations = folder / "set/train_annotations.json"
    arguments = ["--annotations", annotations, "--frames-root", folder, "--output", folder / "parquet"]
    settings = ["--verify", "none", "--val-fraction", "0", "--workers", "1"]
    assert medvidbench.main([*map(str, arguments), *settings]) == 0
    rows = json.loads(annotations.read_text())
    released, last = {}, {}
    for number, row in enumerate(rows):
        key, gold = (row["data_source"], row["qa_type"]), row["conversations"][1]["value"]
        released[str(number)] = {
            "metadata": row["metadata"],
            "qa_type": row["qa_type"],
            "struc_info": None,
            "question": row["conversations"][0]["value"].replace("<video>\n", ""),
            "answer": last.get(key, gold),
            "data_source": row["data_source"],
        }
        last[key] = gold
    return SimpleNamespace(
        annotations=annotations, parquet=folder / "parquet/train.parquet", rows=rows, released=released
    )


def rules(place):
    """The answers to the tasks that need no text model."""
    return {key: record for key, record in place.released.items() if not record["qa_type"].startswith(CAPTIONS)}


RULE_TASKS = ("--tasks", "tal", "stg", "nap", "cvs", "sa")


@pytest.fixture
def run(place, tmp_path, capsys):
    """Calls the command: file contents become files, and the ground truth is the annotations unless `truth` says
    otherwise. Returns the exit status, what was printed to each stream, and what the output's JSON files hold."""

    def file(content):
        if isinstance(content, Path):
            return content
        path = tmp_path / f"results{len(list(tmp_path.glob('results*')))}"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def command(use, *contents, options=(), truth="annotations"):
        ground = {"annotations": place.annotations, "parquet": place.parquet, "none": None}.get(truth, truth)
        flag = ["--results"] if use == "score" and contents else []
        arguments = [use, *flag, *map(file, contents), *(["--ground-truth", file(ground)] if ground else [])]
        arguments += ["--output", tmp_path / "out", "--resamples", "50", *options]
        try:
            status = main([*map(str, arguments)])
        except SystemExit as exit:
            status = exit.code
        said = capsys.readouterr()
        written = {path.name: path for path in (tmp_path / "out").glob("*.json*")} if status == 0 else {}
        content = {name: json.loads(path.read_text()) for name, path in written.items() if path.suffix == ".json"}
        return SimpleNamespace(status=status, out=said.out, err=said.err, files=written, **without_suffix(content))

    return command


def without_suffix(content):
    return {name.removesuffix(".json"): value for name, value in content.items()}


LEADERBOARD = ("--mode", "leaderboard")


# Scoring


def test_the_leaderboards_columns_are_those_of_the_official_records(place, run):
    found = run("score", place.released, options=[*LEADERBOARD, "--per-record"])
    records = [
        {
            **{key: record[key] for key in ("metadata", "qa_type", "answer", "data_source")},
            "struc_info": row.get("struc_info"),
            "question": row["conversations"][0]["value"].replace("<video>", "").strip(),
            "gnd": row["conversations"][1]["value"],
        }
        for row, record in zip(place.rows, place.released.values(), strict=True)
    ]
    expected = columns(records)
    assert found.status == 0 and expected.keys() == RULES
    overall = found.report["scores"]["overall"]["all"]
    assert {name: entry["value"] for name, entry in overall.items()} == pytest.approx(expected, abs=1e-12)
    assert {entry["official"] for entry in overall.values()} == {"same"}
    assert "dvc_llm, vs_llm, rc_llm: judged columns, left out without --judge" in found.report["notes"]
    assert len(found.files["records.jsonl"].read_text().splitlines()) == COUNT


def test_a_judge_that_is_named_fills_the_judged_columns_as_not_the_leaderboards(place, run):
    found = run("score", place.released, options=[*LEADERBOARD, "--judge", "offline"])
    overall = found.report["scores"]["overall"]["all"]
    assert overall.keys() == RULES | {"dvc_llm", "vs_llm", "rc_llm"}
    assert all(1 <= overall[name]["value"] <= 5 for name in ("dvc_llm", "vs_llm", "rc_llm"))
    assert overall["vs_llm"]["official"] == "inexact" and overall["vs_llm"]["leaderboard"] is None
    assert found.report["about"]["judge"] == "offline-lexical"
    reason = "judged by offline-lexical, which is not the leaderboard's judge"
    assert {f"{name}: {reason}" for name in ("dvc_llm", "vs_llm", "rc_llm")} <= set(found.report["notes"])


def test_strictly_a_missing_answer_is_a_wrong_one(place, run):
    whole = run("score", rules(place), options=RULE_TASKS)
    half = run("score", {k: v for k, v in rules(place).items() if int(k) % 2}, options=RULE_TASKS)
    acc = [found.report["scores"]["overall"]["all"]["acc"] for found in (whole, half)]
    assert acc[0]["rows"] == acc[1]["rows"] and acc[1]["value"] < acc[0]["value"]
    assert any("each counts as an empty answer" in note for note in half.report["notes"])
    assert whole.report["about"]["judge"] == "offline-lexical"


def test_the_blind_baseline_stands_beside_and_says_what_it_was_learnt_on(place, run):
    for options in (LEADERBOARD, RULE_TASKS):
        found = run("score", rules(place), options=[*options, "--blind-baseline", place.parquet])
        assert found.status == 0, found.err
        assert all("blind" in entry for entry in found.report["scores"]["overall"]["all"].values())
        assert any("it is too good there" in note for note in found.report["notes"])
        assert found.blind_baseline["rows"] == COUNT


def test_published_rows_stand_beside_on_request(place, run):
    found = run("score", rules(place), options=[*LEADERBOARD, "--published", "gpt-4.1"])
    assert list(found.report["published"]) == ["GPT-4.1"]
    assert run("score", rules(place), options=["--published"]).status == 2
    unknown = run("score", rules(place), options=[*LEADERBOARD, "--published", "nobody"])
    assert unknown.status == 2 and "no model 'nobody': expected some of GPT-4.1" in unknown.err


def test_an_option_may_be_joined_to_its_value(place, run, tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rules(place)))
    found = run("score", options=[f"--results={path}", *LEADERBOARD, "--per-record"])
    assert found.status == 0 and "records.jsonl" in found.files


def test_zipped_results_are_read(place, run):
    found = run("score", gzip.compress(json.dumps(rules(place)).encode()), options=LEADERBOARD)
    assert found.status == 0 and found.report["rows"] == len(rules(place))


# Bad answers, which cost themselves


@pytest.mark.parametrize(
    "answer", [None, ["0-1"], 7, float("nan"), {"a": 1}, "1-" * 500_000, "cut\ud800", "\x00\u202e", ""]
)
@pytest.mark.parametrize("mode", [LEADERBOARD, RULE_TASKS])
def test_one_bad_answer_costs_that_answer(place, run, answer, mode):
    results = copy.deepcopy(rules(place))
    bad = next(key for key, record in results.items() if record["qa_type"] == "tal")
    results[bad]["answer"] = answer
    found = run("score", results, options=mode)
    good = run("score", {key: v for key, v in results.items() if key != bad}, options=mode)
    assert found.status == good.status == 0
    pairs = [one.report["scores"]["pairs"] for one in (found, good)]
    wrong = "medvidbench/" + results[bad]["data_source"] + "/tal"
    assert {k: v for k, v in pairs[0].items() if k != wrong} == {k: v for k, v in pairs[1].items() if k != wrong}
    if mode == LEADERBOARD and not isinstance(answer, str):
        lost = found.report["scores"]["overall"]["all"]["tag_miou_05"]
        assert (lost["official"], lost["leaderboard"]) == ("lost", 0.0)
        assert any(int(bad) in group["rows"] for group in found.report["left_out"])


def test_a_number_of_ten_thousand_digits_costs_its_record(place, run):
    text = json.dumps(rules(place)).encode()
    results = text[:-1] + b', "100000": {"answer": ' + b"9" * 10_000 + b"}}"
    found = run("score", results, options=LEADERBOARD)
    assert found.status == 0 and 100000 in [row for group in found.report["left_out"] for row in group["rows"]]


def test_all_rows_that_are_left_out_stand_in_the_report(place, run):
    some = {key: record for key, record in rules(place).items() if int(key) % 2}
    found = run("score", some, options=LEADERBOARD)
    named = [row for group in found.report["left_out"] for row in group["rows"]]
    assert sorted(named) == [n for n in range(COUNT) if str(n) not in some] and len(named) > 10
    note = "what the leaderboard shows is said of a file that holds the rows evaluated here and no others"
    assert note in found.report["notes"]


# Comparing


def test_a_file_compared_with_itself_and_with_worse_answers(place, run):
    worse = {key: {**record, "answer": "I do not know."} for key, record in rules(place).items()}
    for mode, figure in ((LEADERBOARD, "tag_miou_05"), (RULE_TASKS, "acc")):
        same = run("compare", rules(place), rules(place), options=mode).comparison["scores"]["overall"]["all"]
        assert (same[figure]["difference"], same[figure]["p"]) == (0, 1)
        found = run("compare", rules(place), worse, options=mode).comparison["scores"]["overall"]["all"][figure]
        assert found["difference"] < 0 and found["high"] < 0 and found["p"] < 0.05


def test_rows_that_neither_file_answers_are_not_compared(place, run):
    some = {key: record for key, record in rules(place).items() if int(key) % 2}
    blank = {key: {**record, "answer": ""} for key, record in some.items()}
    found = run("compare", some, blank, options=RULE_TASKS)
    assert found.comparison["rows"] == len(some)
    assert f"rows that neither file answers: {len(rules(place)) - len(some)}, left out" in found.out


@pytest.mark.parametrize("mode", [LEADERBOARD, RULE_TASKS])
def test_files_that_answer_different_rows_cannot_be_compared(place, run, mode):
    halves = [{key: r for key, r in rules(place).items() if int(key) % 2 == side} for side in (0, 1)]
    found = run("compare", *halves, options=mode)
    assert found.status == 2 and "row" in found.err and found.err.count("\n") == 1


# What is refused, in one line


def damaged_parquet(place, path, **columns):
    """The parquet with some of its columns replaced; None: left out."""
    table = pq.read_table(place.parquet)
    for name, value in columns.items():
        at = table.schema.get_field_index(name)
        table = table.remove_column(at)
        if value is not None:
            table = table.append_column(name, pa.array([value] * len(table)))
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "found no data"),
        (b" \n", "found no data"),
        (b"\x1f\x8b\x08 is no gzip", "expected "),
        (gzip.compress(b"{}" * 9999, mtime=0)[:20], "expected valid gzip, found "),
        (b"[" * 200_000, "found maximum recursion depth exceeded"),
        (b"null", "expected a dict by row number, a list, or JSON lines, found None"),
        (b"{}", "expected answers, found none"),
        (b"PAR1", "expected JSON or JSON lines in UTF-8"),
    ],
)
def test_results_of_another_kind(run, content, line):
    found = run("score", content, options=LEADERBOARD)
    assert found.status == 2 and found.err.startswith("evaluate: error: ") and found.err.count("\n") == 1
    assert line in found.err


@pytest.mark.parametrize("option", ["--ground-truth", "--blind-baseline"])
@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"extra_info": None}, "with a column extra_info"),
        ({"extra_info": "x"}, "extra_info: expected fields by name"),
        ({"reward_model": "x"}, "reward_model: expected fields by name"),
        ({"reward_model": {"ground_truth": "{"}}, "found "),
        ({"reward_model": {"ground_truth": "[1]"}}, "found "),
        ({"extra_info": {"index": 0}}, "found "),
    ],
)
def test_a_parquet_that_is_not_the_preprocessors(place, run, tmp_path, option, columns, line):
    path = damaged_parquet(place, tmp_path / "damaged.parquet", **columns)
    truth = {"truth": path} if option == "--ground-truth" else {}
    options = [*LEADERBOARD, *([] if truth else [option, path])]
    found = run("score", rules(place), options=options, **truth)
    assert found.status == 2 and found.err.startswith(f"evaluate: error: {path}: ") and found.err.count("\n") == 1
    assert line in found.err


def test_a_parquet_without_rows_and_a_folder(place, run, tmp_path):
    pq.write_table(pq.read_table(place.parquet).slice(0, 0), tmp_path / "none.parquet")
    found = run("score", rules(place), truth=tmp_path / "none.parquet")
    assert found.status == 2 and found.err.endswith("found no rows\n")
    for found in (run("score", tmp_path), run("score", rules(place), truth=tmp_path)):
        assert found.status == 2 and "expected a readable file, found Is a directory" in found.err


@pytest.mark.parametrize("split", [LEADERBOARD, RULE_TASKS])
def test_the_ground_truth_of_another_split(place, run, split):
    other = [{**row, "metadata": {**row["metadata"], "video_id": f"x{n}"}} for n, row in enumerate(place.rows)]
    found = run("score", rules(place), truth=json.dumps(other).encode(), options=split)
    assert found.status == 2 and "ground truth of another split?" in found.err and found.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--tasks", "skill"], "tasks: expected some of tal, stg"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0, got '-1'"),
        (["--resamples", "0"], "argument --resamples: expected a whole number from 1, got '0'"),
        (["--merged-parts", "0"], "argument --merged-parts: expected a whole number from 1, got '0'"),
        (["--sample", "1"], "sample: expected our rollouts, which number their samples"),
        ([*LEADERBOARD, "--judge", "openai"], "judge: base_url: expected http(s)"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_arguments_that_fit_nothing(place, run, options, line):
    found = run("score", rules(place), options=options)
    assert found.status == 2 and line in found.err and "Traceback" not in found.err


def test_a_sample_that_no_row_has_is_no_wrong_answer(place, run):
    lines = [{"header": {}}]
    for number, record in rules(place).items():
        lines.append({"index": int(number), "sample": 0, "answer": record["answer"], "box_space": "canvas"})
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert run("score", text, options=[*RULE_TASKS, "--sample", "0"]).status == 0
    found = run("score", text, options=[*RULE_TASKS, "--sample", "7"])
    assert found.status == 2 and "sample: expected number 7, found only 0" in found.err


def test_an_output_that_cannot_be_written_is_found_first(place, run, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        found = run("score", tmp_path / "absent", options=["--output", folder])
        assert found.status == 2 and f"{folder}: expected a folder to write to, found" in found.err


def test_the_help_tells_of_every_option_of_a_results_file(capsys):
    with pytest.raises(SystemExit) as left:
        main(["score", "--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and all(f"--{name}" in said for name in ("per-record", "blind-baseline", "published"))


def test_a_checkpoint_that_is_not_there_is_named(place, tmp_path, capsys):
    arguments = [
        "sample",
        f"--model={tmp_path}/absent",
        "--data",
        str(place.parquet),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"evaluate: error: --model: {tmp_path}/absent: no *.safetensors here, expected a checkpoint in HF format\n"
    )


def shell(*arguments):
    """The command as a process: what the tests above call is what a shell gets."""
    command = [sys.executable, "-m", "recipes.medgrpo.evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_half_a_surrogate_pair_in_a_name_can_be_printed(place, tmp_path):
    number, record = next((n, r) for n, r in place.released.items() if r["qa_type"] == "tal")
    row = place.rows[int(number)]
    merged = record | {"struc_info": row["struc_info"], "gnd": "", "data_source": "Sur\ud800gical"}
    (tmp_path / "merged.json").write_text(json.dumps({"0": merged}))
    done = shell("score", "--results", tmp_path / "merged.json", *LEADERBOARD, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "medvidbench/Sur\\ud800gical/tal" in done.stdout


def test_the_command_ends_with_status_2_and_one_line(tmp_path):
    done = shell("score", "--results", tmp_path / "absent", "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"evaluate: error: {tmp_path}/absent: expected a readable file, found No such file or directory\n"
    )
