# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A run's folder holds one run: its plan is written once, and other settings are refused by name."""

import json

import pytest

from recipes.medgrpo.training.run_plan import main


def test_a_plan_holds_numbers_and_texts_as_they_are(tmp_path):
    given = ["model=qwen3_vl", "seed=3", 'judge_model=a "quoted" \\ name=x', "judge_prompt=", "tasks=vs rc"]
    assert main(["--run", str(tmp_path), *given]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan == {"model": "qwen3_vl", "seed": 3, "judge_model": 'a "quoted" \\ name=x', "tasks": "vs rc"}


def test_the_same_run_goes_on_and_another_is_refused_by_what_differs(tmp_path, capsys):
    folder = ["--run", str(tmp_path)]
    # As version 0.1 wrote it, in one line and in another order.
    (tmp_path / "plan.json").write_text('{"seed": 0, "model": "qwen2_5_vl"}\n')
    assert main([*folder, "model=qwen2_5_vl", "seed=0"]) == 0
    assert main([*folder, "model=qwen2_5_vl", "seed=1", "tasks=tal"]) == 2
    said = capsys.readouterr().err
    assert "holds another run, with seed 0 and not 1, tasks unset and not tal" in said and said.count("\n") == 1
    assert json.loads((tmp_path / "plan.json").read_text()) == {"seed": 0, "model": "qwen2_5_vl"}


def test_a_run_goes_on_with_more_steps_and_not_with_fewer(tmp_path, capsys):
    folder = ["--run", str(tmp_path), "seed=0"]
    assert main([*folder, "steps=2"]) == 0
    (tmp_path / "summary.json").write_text("{}")
    assert main([*folder, "steps=3"]) == 0
    assert json.loads((tmp_path / "plan.json").read_text()) == {"seed": 0, "steps": 3}
    assert not (tmp_path / "summary.json").exists()
    assert main([*folder, "steps=2"]) == 2
    assert "steps 3 and not 2" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1]", "{", '"x"'])
def test_a_plan_that_is_none_is_one_line(tmp_path, capsys, content):
    (tmp_path / "plan.json").write_text(content)
    assert main(["--run", str(tmp_path), "seed=0"]) == 2
    said = capsys.readouterr().err
    assert "plan.json" in said and said.count("\n") == 1


@pytest.mark.parametrize("wrong", ["seed", "=3", "Seed=3"])
def test_a_setting_without_a_name_is_refused(tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        main(["--run", str(tmp_path), wrong])
    assert stopped.value.code == 2 and "expected NAME=VALUE" in capsys.readouterr().err
