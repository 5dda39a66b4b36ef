# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The command `report`: a folder or a file that holds everything, and nothing that it should not."""

import json
import re

import pytest
from made_run import Maker, made_run

from recipes.medgrpo.__main__ import main
from recipes.medgrpo.files import write_json
from recipes.medgrpo.reporting import write
from recipes.medgrpo.reporting.configuration import HIDDEN, Configuration

HOSTILE = (
    "</script><script>alert(1)</script><!-- \u2028 \u202eright to left\u202c <img src=x onerror=alert(2)> & \"'`${x}"
)


@pytest.fixture(scope="module")
def data(synthetic_data):
    return synthetic_data["qwen2_5_vl"]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "made", data)


def report(run, data, output, *more):
    return main(
        [
            "report",
            *([str(run)] if not isinstance(run, list) else map(str, run)),
            "--data",
            str(data),
            "--output",
            str(output),
            *more,
        ]
    )


def piece(folder, name):
    """A piece of data as the page gets it."""
    found = re.fullmatch(r'medgrpo\.put\("([\w-]+)",(.*)\);\n', (folder / f"data/{name}.js").read_text(), re.DOTALL)
    assert found[1] == name
    return json.loads(found[2])


def test_a_report_holds_everything_that_its_index_names(run, data, tmp_path, capsys):
    assert report(run, data, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}/out/index.html: ") and said.count("\n") == 1
    index = piece(tmp_path / "out", "index")
    (shown,) = index["runs"]
    assert index["title"] == shown["name"] == "made" and not index["live"] and shown["status"] == "complete"
    assert "put" in (tmp_path / "out/page/core.js").read_text() and "<html" in (tmp_path / "out/index.html").read_text()
    for step, name in piece(tmp_path / "out", "rollouts_r0")["texts"].items():
        columns = piece(tmp_path / "out", "rollouts_r0")["columns"]
        assert len(piece(tmp_path / "out", name)["answers"]) == columns["step"].count(int(step))
    rows = piece(tmp_path / "out", "rows_r0_0")["rows"]
    assert len(rows) == shown["rows"]
    thumbs = [frame["thumb"] for row in rows for frame in row["frames"]]
    assert thumbs and all((tmp_path / "out" / thumb).stat().st_size > 100 for thumb in thumbs)
    assert {"curves_r0", "distributions_r0", "evaluation_r0"} < {
        file.stem for file in (tmp_path / "out/data").iterdir()
    }


def test_a_single_file_needs_no_other(run, data, tmp_path):
    assert report(run, data, tmp_path / "out", "--single-file") == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["index.html"]
    text = (tmp_path / "out/index.html").read_text()
    assert "data:image/jpeg;base64," in text and '"single":true' in text


def test_a_single_file_that_would_be_too_large_is_refused(run, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(write, "SINGLE_MB", 0.01)
    assert report(run, data, tmp_path / "out", "--single-file") == 2
    assert "--single-file: more than 0.01 MB of data; expected less" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_replaced_and_anything_else_is_left_alone(run, data, tmp_path, capsys):
    assert report(run, data, tmp_path / "out") == 0
    (tmp_path / "out/data/rows_r7_0.js").write_text("of another run")
    assert report(run, data, tmp_path / "out") == 0
    assert not (tmp_path / "out/data/rows_r7_0.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    assert report(run, data, tmp_path / "mine") == 2
    assert f"{tmp_path}/mine: holds something that is no report" in capsys.readouterr().err
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "out"]


def test_several_runs_stand_beside_each_other(run, data, tmp_path):
    other = made_run(tmp_path / "elsewhere/made", data, steps=1, tasks=["tal"], seed=1)
    assert report([run, other], data, tmp_path / "out") == 0
    index = piece(tmp_path / "out", "index")
    assert [(shown["id"], shown["steps"]) for shown in index["runs"]] == [("r0", 3), ("r1", 1)]
    # One name for two folders would tell nothing.
    assert [shown["name"] for shown in index["runs"]] == [f"{run.parent.name}/made", "elsewhere/made"]
    assert piece(tmp_path / "out", "curves_r1")["step"] == [1]
    assert report([run, run], data, tmp_path / "out") == 2


def test_what_an_answer_holds_is_text_and_nothing_else(data, tmp_path):
    maker = Maker(tmp_path / "run", data, tasks=["rc"], say=lambda answer, draw: HOSTILE + "x" * 60_000)
    maker.step(1)
    assert report(tmp_path / "run", data, tmp_path / "out") == 0
    content = (tmp_path / "out/data/answers_r0_000001.js").read_text()
    assert not set("<>&\u2028") & set(content)
    assert {one["text"] for one in piece(tmp_path / "out", "answers_r0_000001")["answers"]} == {HOSTILE + "x" * 60_000}
    assert report(tmp_path / "run", data, tmp_path / "one", "--single-file") == 0
    assert "<script>alert" not in (tmp_path / "one/index.html").read_text()


def hydra(run, config, name="medgrpo_cpu"):
    folder = run / "outputs/2026-01-01/00-00-00/.hydra"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / "hydra.yaml").write_text(f"hydra: {{job: {{config_name: {name}}}}}\n")


CONFIG = """
algorithm: {norm_adv_by_std_in_grpo: false, use_kl_in_reward: false}
data: {train_files: "${oc.env:NOWHERE}/train.parquet", medgrpo: {tasks: [tal]}}
reward:
  custom_reward_function:
    reward_kwargs:
      statistics: ${oc.env:NOWHERE}
      normalizer: logistic
      rewarded_tasks: ${data.medgrpo.tasks}
      dvc_captions: true
      judge: openai
      judge_settings: {model: m, base_url: "https://me:hunter2@judge.example/v1", api_key: sk-secret}
actor_rollout_ref: {rollout: {n: 4, router_config_path: /home/me/checkout/recipes/medgrpo/config/router.yaml}}
"""


def test_settings_that_differ_from_the_recipes_are_marked(run, tmp_path):
    write_json(tmp_path / "plan.json", {"model": "qwen3_vl", "seed": 3})
    hydra(tmp_path, CONFIG)
    rows = {name: (value, default, mark) for name, value, default, mark in Configuration.of(tmp_path).rows()}
    assert rows["model"] == ("qwen3_vl", None, "changed") and rows["seed"] == ("3", None, "changed")
    assert rows["algorithm.norm_adv_by_std_in_grpo"] == ("false", "true", "changed")
    assert rows["algorithm.use_kl_in_reward"] == ("false", "false", "")
    assert rows["actor_rollout_ref.rollout.n"] == ("4", "8", "changed")
    # The same file, given with the folder of this machine.
    assert rows["actor_rollout_ref.rollout.router_config_path"][2] == ""


def test_no_secret_and_no_folder_of_the_machine_is_shown(data, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    Maker(tmp_path / "run", data, tasks=["tal"]).step(1)
    hydra(tmp_path / "run", CONFIG, "medgrpo_gpu")
    assert report(tmp_path / "run", data, tmp_path / "out") == 0
    settings = {name: value for name, value, *_ in piece(tmp_path / "out", "index")["runs"][0]["settings"]}
    name = "reward.custom_reward_function.reward_kwargs.judge_settings."
    assert settings[f"{name}base_url"] == "https://judge.example/v1" and settings[f"{name}model"] == "m"
    whole = "".join(file.read_text() for file in (tmp_path / "out/data").iterdir())
    for secret in ("hunter2", "sk-secret", "sk-from-the-environment", "/home/me", str(tmp_path)):
        assert secret not in whole
    assert HIDDEN not in settings.values()  # what is no setting of the recipe's files is not listed at all


def test_a_run_that_is_none_is_one_line(tmp_path, capsys):
    assert report(tmp_path / "nowhere", tmp_path, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said == f"report: error: {tmp_path}/nowhere: no such folder, expected a run's\n"
    assert not (tmp_path / "out").exists()
