# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import argparse
import dataclasses
import inspect
import re

import pytest

from recipes.medgrpo.reward_options import (
    add_judge_arguments,
    defining,
    judge_label,
    label_of,
    label_of_args,
    signal_settings,
    signal_settings_of,
)
from reward_score.judge import Judge
from reward_score.judge.options import Options
from reward_score.judge.prompting import PROMPT_FOLDER, load_prompt
from reward_score.settings import JUDGES, SCORING_JUDGES, Settings


def parsed(*arguments: str, judges=SCORING_JUDGES) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_judge_arguments(parser, judges)
    return parser.parse_args(arguments)


def test_settings_are_what_they_were_where_nothing_else_is_said():
    assert signal_settings() == signal_settings_of(parsed()) == {"judge": "offline", "dvc_captions": True}
    asked = parsed("--judge", "openai", "--judge-base-url", "http://a", "--judge-model", "m")
    settings = {"base_url": "http://a", "model": "m"}
    assert signal_settings_of(asked) == {"judge": "openai", "dvc_captions": True, "judge_settings": settings}
    assert label_of_args(asked) == judge_label("openai", "m") == "openai:m"
    assert judge_label("offline", "m", "rubric") == "offline-lexical"


ALL = [
    *("--judge", "openai", "--judge-base-url", "http://a/v1", "--judge-model", "m", "--judge-prompt", "rubric"),
    *("--judge-store", "s", "--judge-budget-usd", "2.5", "--judge-requests-per-min", "600"),
    *("--judge-tokens-per-min", "1e5", "--judge-in-flight", "9"),
    *("--judge-prompt-price", "0", "--judge-completion-price", "0.5"),
]


def test_a_second_judge_is_averaged_with_the_first_and_named():
    asked = parsed(*ALL, "--judge-second-model", "n", "--judge-second-key-variable", "SECOND_KEY")
    settings = signal_settings_of(asked)
    assert settings["judge_settings"]["second"] == {"model": "n", "key_variable": "SECOND_KEY"}
    assert label_of_args(asked) == label_of(settings) == "mean(openai:m/rubric-v1, openai:n/rubric-v1)"
    # Which variable holds a key changes no verdict.
    assert defining(settings)["judge_settings"]["second"] == {"model": "n"}


def test_every_argument_is_a_setting_of_the_judge():
    settings = signal_settings_of(parsed(*ALL))
    assert settings["judge_settings"] == {
        **{"base_url": "http://a/v1", "model": "m", "prompt": "rubric", "store": "s", "budget_usd": 2.5},
        **{"requests_per_min": 600.0, "tokens_per_min": 1e5, "max_in_flight": 9},
        **{"prompt_price": 0.0, "completion_price": 0.5},
    }
    known = {*inspect.signature(Judge).parameters, *(item.name for item in dataclasses.fields(Options))}
    assert set(settings["judge_settings"]) <= known - {"options"}
    assert set(settings) <= {item.name for item in dataclasses.fields(Settings)}
    # A key itself is no argument; the name of its variable may be.
    assert [name for name in vars(parsed(*ALL)) if "key" in name] == ["judge_second_key_variable"]


def test_the_head_of_a_file_holds_what_defines_a_verdict():
    slow = signal_settings_of(parsed(*ALL))
    fast = signal_settings_of(parsed(*ALL, "--judge-budget-usd", "99", "--judge-store", "t", "--judge-in-flight", "1"))
    assert slow != fast and defining(slow) == defining(fast)
    assert defining(slow)["judge_settings"] == {
        **{"base_url": "http://a/v1", "model": "m", "prompt": "rubric"},
        "prompt_sha256": load_prompt("rubric").digest,
    }
    plain = defining(signal_settings_of(parsed(*ALL, "--judge-prompt", "comparative")))
    assert plain["judge_settings"]["prompt_sha256"] == load_prompt().digest
    assert defining(signal_settings()) == signal_settings()


def test_a_label_names_the_prompt_unless_it_is_the_default(tmp_path):
    rubric = load_prompt("rubric").version
    assert judge_label("openai", "m", "comparative") == "openai:m"
    assert judge_label("openai", "m", "rubric") == label_of(signal_settings_of(parsed(*ALL))) == f"openai:m/{rubric}"
    assert label_of(defining(signal_settings_of(parsed(*ALL)))) == f"openai:m/{rubric}"
    own = tmp_path / "mine.txt"
    own.write_text((PROMPT_FOLDER / "rubric.txt").read_text())
    assert re.fullmatch(rf"openai:m/{rubric}\+[0-9a-f]{{12}}", judge_label("openai", "m", str(own)))


def test_verls_servers_and_an_endpoint_with_the_same_model_are_one_judge():
    router = parsed("--judge", "router", "--judge-model", "m", judges=JUDGES)
    assert label_of_args(router) == "openai:m"
    assert signal_settings_of(router)["judge_settings"] == {"model": "m"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--judge-budget-usd", "0"),
        ("--judge-requests-per-min", "many"),
        ("--judge-in-flight", "1.5"),
        ("--judge-prompt", "no-such-prompt"),
        ("--judge-completion-price", "-1"),
        ("--judge", "router"),
    ],
)
def test_what_is_no_setting_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        parsed(*arguments)
    assert f"argument {arguments[0]}" in capsys.readouterr().err
