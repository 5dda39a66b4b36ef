# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What may be pasted into a public issue: figures and settings, no name and no text of the data."""

import json

from hypothesis import given
from hypothesis import strategies as st

from recipes.medgrpo.redaction import redacted, run_in_numbers
from recipes.medgrpo.summary import main

SECRETS = ("VID01", "video_01", "The hook dissects the cystic duct.", "/data/frames/VID01/0001.jpg")


def test_settings_and_figures_stay():
    summary = {"status": "complete", "steps": 20, "reward_first5": 0.49, "resumed_from": None, "judge": "openai:m"}
    assert redacted(summary) == summary | {"judge": "(text of 8 characters)"}
    pairs = {"medvidbench/AVOS/tal": {"rows": 12, "frames": {"p50": 7.5}}}
    assert redacted(pairs) == pairs
    assert redacted({"tasks": ["tal", "vs"], "model": "qwen2_5_vl"}) == {"tasks": ["tal", "vs"], "model": "qwen2_5_vl"}


def test_names_and_texts_go_wherever_they_stand():
    for secret in SECRETS:
        audit = {
            "rejected": [{"file": secret, "row": 3, "found": secret}],
            "groups": {secret: {"rows": 2}},
            "model": f"/models/{secret}",
            "medvidbench/AVOS/" + secret: 1,
        }
        said = json.dumps(redacted(audit))
        assert secret not in said and "VID01" not in said
        assert redacted(audit)["rejected"][0]["row"] == 3


@given(st.recursive(st.text("abcXYZ019 .é") | st.integers(), lambda inner: st.dictionaries(st.text("aZ0_"), inner)))
def test_no_text_of_any_value_is_kept(value):
    def texts(one):
        if isinstance(one, dict):
            return [text for inner in one.values() for text in texts(inner)]
        return [one] if isinstance(one, str) else []

    assert all(text.startswith("(text of ") for text in texts(redacted(value)))


def test_a_run_without_files_still_says_its_versions(tmp_path):
    found = run_in_numbers(tmp_path)
    assert found["versions"]["verl"] == "0.9.1" and found["versions"]["python"]
    assert (found["plan"], found["summary"], found["audit"]) == (None, None, None)
    (tmp_path / "plan.json").write_text(json.dumps({"model": "qwen3_vl", "seed": 1}))
    assert run_in_numbers(tmp_path)["plan"] == {"model": "qwen3_vl", "seed": 1}


def test_the_command_prints_what_an_issue_asks_for(tmp_path, capsys):
    (tmp_path / "plan.json").write_text(json.dumps({"model": "qwen3_vl", "judge_model": "a private name"}))
    assert main(["--redact", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["plan"]["model"] == "qwen3_vl" and "private" not in said
    (tmp_path / "plan.json").write_text("{")
    assert main(["--redact", str(tmp_path)]) == 2 and "plan.json: the file is not JSON" in capsys.readouterr().err
