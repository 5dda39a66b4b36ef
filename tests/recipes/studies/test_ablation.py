# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The ablation's rows against the paper's description, and its table from small runs that are really scored."""

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from data_preprocess import medvidbench, synthetic
from data_preprocess.synthetic_rows import PAIRS, Settings
from recipes.medgrpo.evaluate import main as evaluate
from recipes.medgrpo.files import InputError
from recipes.medgrpo.inference.released import released_record
from recipes.medgrpo.reward_options import signal_settings
from recipes.medgrpo.studies.ablation import command as ablation
from recipes.medgrpo.studies.ablation.text import markdown
from recipes.medgrpo.studies.ablation.variants import ROWS, published_lines, read_rows
from reward_score.leaderboard import COLUMNS
from reward_score.settings import Settings as RewardSettings
from reward_score.tasks import TASKS

PAPERS = ("tal", "stg", "vs", "rc")


# ---- the rows ----------------------------------------------------------------------------------------------------


def test_rows_are_the_papers():
    assert (ROWS["A"].tasks, ROWS["A"].normalizer, ROWS["A"].advantage, ROWS["A"].judged) == (
        PAPERS,
        "logistic",
        "grpo",
        True,
    )
    changed = {
        name: {
            key: getattr(ROWS[name], key)
            for key in ("tasks", "normalizer", "advantage", "judged")
            if getattr(ROWS[name], key) != getattr(ROWS["A"], key)
        }
        for name in "BCDEF"
    }
    assert changed == {
        "B": {"normalizer": "none"},
        "C": {"tasks": ("tal", "stg")},
        "D": {"tasks": ("vs", "rc")},
        "E": {"tasks": ("vs", "rc"), "judged": False},
        "F": {"tasks": None},
    }


@pytest.mark.parametrize("name", ["zscore", "percentile_rank", "minmax", "adaptive"])
def test_a_normaliser_rival_is_row_a_with_another_normaliser(name):
    rival = ROWS[name]
    assert (rival.tasks, rival.normalizer, rival.advantage, rival.judged) == (PAPERS, name, "grpo", True)


def test_an_advantage_rival_that_normalises_by_itself_gets_rewards_as_they_are():
    own = ("per_task", "drpo", "gdpo", "ema_grpo", "mt_grpo", "g2rpo")
    assert {name: (ROWS[name].normalizer, ROWS[name].advantage) for name in ("dr_grpo", *own)} == {
        "dr_grpo": ("logistic", "dr_grpo"),
        **{name: ("none", name) for name in own},
    }
    assert (ROWS["B_dr_grpo"].normalizer, ROWS["B_dr_grpo"].advantage) == ("none", "dr_grpo")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("tal_wasserstein", ("++reward.custom_reward_function.reward_kwargs.tal_wasserstein=true",)),
        ("settled_by", ("data.medgrpo.settled_by=RAW_SIGNALS",)),
    ],
)
def test_a_row_with_overrides_is_row_a_with_them(name, overrides):
    assert ROWS[name] == replace(ROWS["A"], what=ROWS[name].what, overrides=overrides)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_is_one_that_reward_and_sampler_know(row):
    from recipes.medgrpo.training.advantages import make_advantage

    RewardSettings(normalizer=row.normalizer, rewarded_tasks=row.tasks, judge="offline" if row.judged else None)
    assert make_advantage(row.advantage)


@pytest.mark.parametrize(
    "line", ["A | tal | logistic | grpo | yes", "A|all|none|grpo|maybe|x", "A|all|none|grpo|yes|x\n" * 2]
)
def test_a_line_that_is_no_row_is_named(line):
    with pytest.raises(ValueError, match=r"line [12]: expected a new row's six or seven cells"):
        read_rows(line)


def test_published_rows_are_of_the_models_recipe():
    qwen2_5, qwen3 = published_lines("qwen2_5_vl"), published_lines("qwen3_vl")
    assert list(qwen2_5) == ["SFT", "A", "B", "C", "D", "E"] and list(qwen3) == ["SFT", "A"]
    assert (qwen2_5["A"]["rc_llm"], qwen3["A"]["rc_llm"]) == (3.442, 3.861)
    assert qwen2_5["B"] == {"cvs_acc": 0.020, "stg_miou": 0.010, "tag_miou_03": 0.004}
    assert (qwen2_5["D"]["rc_llm"], qwen2_5["E"]["rc_llm"]) == (3.235, 2.984)


# ---- the table ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The parquet of a synthetic set with three rows of every pair."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.generate(folder / "set", Settings(variants="plain"), 3 * len(PAIRS), 0, frames=False)
    arguments = ["--annotations", folder / "set/train_annotations.json", "--frames-root", folder]
    options = ["--output", folder / "parquet", "--verify", "none", "--val-fraction", "0", "--workers", "1"]
    assert medvidbench.main([*map(str, arguments), *map(str, options)]) == 0
    return folder / "parquet/train.parquet"


def answers(data, right, samples=2):
    """Our rollouts: the reference where `right(task, row number, sample)`, else a text that nothing can be made of."""
    lines = [{"header": {"settings": {"samples": samples}}}]
    for number, row in enumerate(pq.read_table(data).to_pylist()):
        extra = row["extra_info"]
        for sample in range(samples):
            said = extra["answer"] if right(row["ability"], number, sample) else "no idea"
            about = {"file": extra["file"], "index": extra["index"], "data_source": row["data_source"]}
            about |= {"video": f"{extra['source']}/{extra['video_id']}", "sample": sample}
            if row["ability"] == "stg":
                about["box_space"] = {key: extra[key] for key in ("canvas", "processed_size", "model_family")}
            lines.append(about | {"answer": said, "truncated": False})
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of which SFT answers every second question, A everything, B nothing of tal, and C is not finished."""
    folder = tmp_path_factory.mktemp("runs") / "seed0"
    said = {
        "eval/sft": lambda task, number, sample: number % 2 == 0,
        "rows/A/eval/medgrpo": lambda task, number, sample: True,
        "rows/B/eval/medgrpo": lambda task, number, sample: task != "tal",
        "rows/C/eval/medgrpo": lambda task, number, sample: True,
    }
    for place, right in said.items():
        (folder / place).mkdir(parents=True)
        (folder / place / "answers.jsonl").write_text(answers(data, right))
    for row, status in (("A", "complete"), ("B", "complete"), ("C", "incomplete")):
        (folder / "rows" / row / "summary.json").write_text(json.dumps({"status": status}))
        (folder / "rows" / row / "plan.json").write_text(json.dumps(plan(row)))
    (folder / "data").mkdir()
    shutil.copy(data, folder / "data/val.parquet")
    return folder


def plan(name):
    row = ROWS[name]
    about = {"model": "qwen2_5_vl", "steps": 20, "normalizer": row.normalizer, "advantage": row.advantage}
    about |= {} if row.tasks is None else {"tasks": " ".join(row.tasks)}
    return about | ({} if row.judged else {"training_judge": "none"})


@pytest.fixture(scope="module")
def table(run):
    return ablation.build([run], signal_settings(), judge="offline-lexical", resamples=200)


def test_lines_are_sft_and_the_rows_that_are_done(table):
    assert list(table["rows"]) == ["SFT", "A", "B"]
    assert set(table["missing"]) == {"C", "D", "E", "F"}
    assert (table["steps"], table["family"]) == ([20], "qwen2_5_vl")
    full = table["rows"]["A"]
    # The default synthetic set asks no question of the ninth task.
    assert set(full["columns"]) == set(COLUMNS) and set(full["strict_tasks"]) == set(TASKS) - {"qa"}
    assert full["answers"] == 2 * 3 * len(PAIRS)
    # Spans are whole seconds in the leaderboard's reading, so a perfect answer can stay a little below 1 there.
    assert full["columns"]["tag_miou_05"]["value"] > 0.9 and full["strict"]["acc"]["value"] > 0.95


def test_figures_are_those_of_the_evaluate_command(run, table, tmp_path):
    results = [
        "score",
        "--results",
        str(run / "eval/sft/answers.jsonl"),
        "--ground-truth",
        str(run / "data/val.parquet"),
    ]
    for mode in ("leaderboard", "strict"):
        options = ["--mode", mode, "--judge", "offline", "--resamples", "20", "--output", str(tmp_path / mode)]
        assert evaluate([*results, *options]) == 0
    strict, columns = (
        json.loads((tmp_path / mode / "report.json").read_text())["scores"]["overall"]["all"]
        for mode in ("strict", "leaderboard")
    )
    ours = table["rows"]["SFT"]
    # Both samples are alike here, so the first one, which the command takes, has the figures of both.
    assert ours["strict"]["acc"]["value"] == pytest.approx(strict["acc"]["value"])
    assert {name: entry["value"] for name, entry in ours["columns"].items()} == pytest.approx(
        {name: entry["value"] for name, entry in columns.items()}
    )


def test_differences_are_paired_with_row_a(table):
    against = table["rows"]["B"]["against_A"]
    # B fails tal alone: everything else is exactly A's.
    untouched = {name: entry for name, entry in against["columns"].items() if not name.startswith("tag_")}
    assert all((entry["difference"], entry["low"], entry["high"]) == (0, 0, 0) for entry in untouched.values())
    lost = against["strict_tasks"]["tal"]
    assert lost["difference"] == pytest.approx(-table["rows"]["A"]["strict_tasks"]["tal"]["value"])
    assert lost["high"] < 0
    rows = table["rows"]
    for name in ("SFT", "B"):
        change = rows[name]["against_A"]["strict"]["acc"]
        expected = rows[name]["strict"]["acc"]["value"] - rows["A"]["strict"]["acc"]["value"]
        assert change["difference"] == pytest.approx(expected) and change["low"] <= expected <= change["high"]
    assert "against_A" not in rows["A"]


def test_b_against_a_is_one_sentence_with_the_figures(table):
    said = table["B_against_A"]
    change = table["rows"]["B"]["against_A"]["strict"]["acc"]
    assert f"{change['second']:.3f} against {change['first']:.3f}" in said
    assert f"{change['difference']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]" in said
    assert ", a difference; of the 10 columns 2 differ" in said
    assert "cvs_acc 0.020 against 0.896" in said
    assert said.count(". ") == 0 and "\n" not in said


def test_markdown_shows_published_rows_beside_and_names_what_is_missing(table):
    text = markdown(table)
    assert "| B, published | 0.004 | - | 0.010 |" in " ".join(text.split())
    assert "Not done: C, D, E, F." in text
    lines = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert {"strict tal", "strict mean", "dvc_llm", "SFT, published"} <= lines


def test_seeds_are_pooled_and_their_videos_are_their_own(run, data, tmp_path):
    other = tmp_path / "seed1"
    shutil.copytree(run, other)
    (other / "rows/B/eval/medgrpo/answers.jsonl").write_text(answers(data, lambda task, number, sample: True))
    shutil.rmtree(other / "rows/C")
    pooled = ablation.build([run, other], signal_settings(), judge="offline-lexical", resamples=50)
    assert pooled["rows"]["A"]["answers"] == 2 * 2 * 3 * len(PAIRS)
    one = len({row["extra_info"]["source"] + row["extra_info"]["video_id"] for row in pq.read_table(data).to_pylist()})
    assert pooled["rows"]["A"]["videos"] == 2 * one
    full, half = (pooled["rows"][name]["strict_tasks"]["tal"]["value"] for name in "AB")
    assert half == pytest.approx(full / 2)
    assert pooled["missing"]["C"] == [str(run), str(other)]


def test_answers_in_the_released_form_make_the_same_table(run, data, tmp_path):
    """Runs on GPUs leave `answers.json`, one answer a row, and no plan."""
    gpu = tmp_path / "gpu"
    for place in ("eval/sft", "rows/A/eval/medgrpo"):
        (gpu / place).mkdir(parents=True)
        released = {}
        for number, row in enumerate(pq.read_table(data).to_pylist()):
            right = place != "eval/sft" or number % 2 == 0
            said = {"answer": row["extra_info"]["answer"] if right else "no idea", "truncated": False}
            released[str(row["extra_info"]["index"])] = released_record(row, said)
        (gpu / place / "answers.json").write_text(json.dumps(released))
    found = ablation.build(
        [gpu], signal_settings(), ground_truth=data, family="qwen3_vl", judge="offline-lexical", resamples=20
    )
    assert list(found["rows"]) == ["SFT", "A"] and found["B_against_A"] is None
    assert found["rows"]["A"]["published"]["stg_miou"] == 0.176
    assert found["rows"]["A"]["strict"]["acc"]["value"] > 0.95


def test_a_run_of_another_row_is_refused(run, tmp_path, capsys):
    other = tmp_path / "seed0"
    shutil.copytree(run, other)
    (other / "rows/B/plan.json").write_text(json.dumps(plan("A")))
    assert ablation.main(["--runs", str(other), "--output", str(tmp_path / "out"), "--resamples", "10"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("plan.json: normalizer: expected 'none' for row B, got 'logistic'")
    assert not (tmp_path / "out").exists()


def test_a_row_that_was_made_without_its_overrides_is_refused(tmp_path):
    file = tmp_path / "rows/settled_by/plan.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(plan("settled_by") | {"overrides": "data.medgrpo.settled_by='a run/raw_signals.jsonl'"}))
    assert ablation.check_plan(tmp_path, "settled_by")["normalizer"] == "logistic"
    file.write_text(json.dumps(plan("A")))
    with pytest.raises(InputError, match="overrides: expected data.medgrpo.settled_by=RAW_SIGNALS for row settled_by"):
        ablation.check_plan(tmp_path, "settled_by")


def test_without_a_row_or_without_sft_there_is_no_table(run, tmp_path, capsys):
    empty = tmp_path / "empty"
    (empty / "eval").mkdir(parents=True)
    output = ["--output", str(tmp_path / "out"), "--resamples", "10"]
    assert ablation.main(["--runs", str(empty), *output]) == 2
    assert "eval/sft: no answers of the SFT model" in capsys.readouterr().err
    shutil.copytree(run / "eval", empty / "eval", dirs_exist_ok=True)
    shutil.copytree(run / "data", empty / "data")
    assert ablation.main(["--runs", str(empty), *output]) == 2
    assert "no row is done" in capsys.readouterr().err
    assert ablation.main(["--runs", str(run), str(run), *output]) == 2
    assert "the same one twice" in capsys.readouterr().err
