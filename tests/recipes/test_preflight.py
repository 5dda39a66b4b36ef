# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recipes.medgrpo.checkpoints import TRACKER
from recipes.medgrpo.preflight import main

ROW = {"n": 8, "p25": 0.1, "p50": 0.2, "p75": 0.4, "iqr": 0.30000000000000004}


@pytest.fixture
def run(tmp_path):
    """A run that could start: rows of two pairs and statistics for both."""
    rows = [
        {
            "data_source": f"medvidbench/{source}/{task}",
            "ability": task,
            "extra_info": {"model_family": "qwen2_5_vl", "index": 0},
        }
        for source, task in (("AVOS", "tal"), ("JIGSAWS", "sa"))
    ]
    for split in ("train", "val"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    pairs = {"medvidbench/AVOS/tal": {"iou": ROW}, "medvidbench/JIGSAWS/sa": {"exact": ROW, "closeness": ROW}}
    (tmp_path / "statistics.json").write_text(json.dumps({"format": 1, "judge": "offline-lexical", "pairs": pairs}))
    return tmp_path


def preflight(run, *more: str) -> int:
    return main(
        ["--data", str(run), "--statistics", str(run / "statistics.json"), "--checkpoints", str(run / "grpo"), *more]
    )


def test_all_is_well(run, capsys):
    assert preflight(run) == 0
    assert capsys.readouterr().out.strip() == "0"


def test_a_pair_without_statistics_is_named_before_the_run(run, capsys):
    statistics = json.loads((run / "statistics.json").read_text())
    del statistics["pairs"]["medvidbench/JIGSAWS/sa"]["closeness"]
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run) == 2
    assert "medvidbench/JIGSAWS/sa: closeness" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("--advantage", "drpo"), "step_5.json: missing, and the advantage drpo cannot go on without"),
        (("--normalizer", "adaptive"), "step_5.json: missing, and the normalizer adaptive cannot go on without"),
        (("--advantage", "per_task"), None),
    ],
)
def test_what_learns_needs_its_state_to_resume(run, capsys, settings, words):
    actor = run / "grpo/global_step_5/actor"
    actor.mkdir(parents=True)
    for kind in ("model", "optim", "extra_state"):
        (actor / f"{kind}_world_size_1_rank_0.pt").write_text("x")
    (run / "grpo/global_step_5/data.pt").write_text("x")
    (run / "grpo" / TRACKER).write_text("5")
    assert preflight(run, *settings) == (0 if words is None else 2)
    assert (words or "") in capsys.readouterr().err
    (run / "grpo/sampler").mkdir()
    (run / "grpo/sampler/step_5.json").write_text("{}")
    assert preflight(run, *settings) == 0


def test_tasks_that_are_not_trained_need_no_statistics(run):
    statistics = json.loads((run / "statistics.json").read_text())
    del statistics["pairs"]["medvidbench/JIGSAWS/sa"]
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--tasks", "tal") == 0


def test_statistics_of_another_judge_are_refused(run, capsys):
    assert preflight(run, "--judge", "openai", "--judge-model", "some-model") == 2
    error = capsys.readouterr().err
    assert "calibrated with the judge 'offline-lexical'" in error and "openai:some-model" in error


def test_data_made_for_the_other_family_are_refused(run, capsys):
    assert preflight(run, "--model-family", "qwen2_5_vl") == 0
    assert preflight(run, "--model-family", "qwen3_vl") == 2
    assert "made for qwen2_5_vl, the model is qwen3_vl" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["statistics.json", "train.parquet"])
def test_a_broken_file_is_one_line_with_its_name(run, capsys, broken):
    (run / broken).write_text("{")
    assert preflight(run) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and broken in lines[0]


def test_a_full_disk_is_found_before_the_first_checkpoint(run, capsys):
    assert preflight(run, "--free-gib", "1e9") == 2
    assert "GiB needed" in capsys.readouterr().err


def test_a_broken_tracker_is_repaired(run, capsys):
    (run / "grpo").mkdir()
    (run / "grpo" / TRACKER).write_text("")
    assert preflight(run) == 0
    assert not (run / "grpo" / TRACKER).exists()
    assert "starting from the first step" in capsys.readouterr().err


FULL_ROW = ROW | {"mean": 0.3, "std": 0.1, "min": 0.0, "max": 1.0, "quantiles": [0.2] * 101}


@pytest.mark.parametrize("normalizer", ["logistic", "none", "zscore", "percentile_rank", "minmax", "adaptive"])
def test_statistics_with_every_field_serve_every_normalizer(run, normalizer):
    statistics = json.loads((run / "statistics.json").read_text())
    for signals in statistics["pairs"].values():
        signals |= dict.fromkeys(signals, FULL_ROW)
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--normalizer", normalizer) == 0


def test_every_field_that_the_normalizer_needs_is_named(run, capsys):
    assert preflight(run, "--normalizer", "adaptive") == 0
    assert preflight(run, "--normalizer", "zscore") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 6
    assert all("the normalizer zscore needs it" in line for line in lines)
    assert "medvidbench/JIGSAWS/sa: closeness: std" in lines[-1]


def test_a_row_of_another_pair_breaks_the_reward_too(run, capsys):
    statistics = json.loads((run / "statistics.json").read_text())
    for signals in statistics["pairs"].values():
        signals |= dict.fromkeys(signals, FULL_ROW)
    statistics["pairs"]["medvidbench/Elsewhere/nap"] = {"exact": ROW}
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run, "--normalizer", "minmax") == 2
    assert "medvidbench/Elsewhere/nap: exact: min" in capsys.readouterr().err


def test_tasks_that_earn_no_reward_or_raw_rewards_need_no_statistics(run, capsys):
    statistics = json.loads((run / "statistics.json").read_text())
    del statistics["pairs"]["medvidbench/JIGSAWS/sa"]
    (run / "statistics.json").write_text(json.dumps(statistics))
    assert preflight(run) == 2
    assert preflight(run, "--rewarded-tasks", "tal", "stg") == 0
    assert preflight(run, "--normalizer", "none") == 0
