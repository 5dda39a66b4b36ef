# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The whole pipeline of Qwen3-VL in miniature, as a real process, and what it says when it cannot go on."""

import json
import shutil

import pytest
from small_pipeline import PAIRS, check_whole, finish, start

pytestmark = pytest.mark.slow


def test_qwen3_vl_goes_through_every_stage_and_says_why_it_cannot_go_on(tmp_path):
    run, log, settings = tmp_path / "run", tmp_path / "log", {"MODEL": "qwen3_vl", "STEPS": "2"}
    finish(start(run, log, **settings), log)
    summary = check_whole(run, 2)
    assert summary["resumed_from"] is None
    statistics = json.loads((run / "statistics.json").read_text())
    assert len(statistics["pairs"]) == PAIRS

    # The schedule made two steps one epoch, at whose end the loader stands.
    settings["STEPS"] = "3"
    finish(start(run, log, **settings), log)
    assert check_whole(run, 3)["resumed_from"] == 2

    # Frames that vanish under a finished preparation: every rollout fails, and the run must end instead of waiting.
    shutil.rmtree(run / "grpo")
    # The preprocessor would make them again, so its stage is taken for another run's.
    (run / "shared").write_text("the run before")
    for frame in (run / "data/frames").rglob("*.ppm"):
        frame.unlink()
    (run / "summary.json").unlink()
    process = start(run, log, **settings)
    assert process.wait(timeout=300) != 0
    tail = log.read_text()[-3000:]
    assert "every rollout failed" in tail and "cannot read this frame" in tail, tail
