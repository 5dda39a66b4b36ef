# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Two runs at once on one machine, each with a Ray of its own, and each gets the weights of its own actor."""

import os
import subprocess
from pathlib import Path

import pytest
from small_pipeline import NO_VLLM, ROOT, vllm_python

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.skipif(vllm_python() is None, reason=NO_VLLM)]
SCRIPT = Path(__file__).with_name("two_runs.py")


def test_two_runs_at_once_keep_their_weights(qwen2_5_vl, tmp_path):
    runs = [
        subprocess.Popen(
            [vllm_python(), str(SCRIPT), str(qwen2_5_vl.path), str(number), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in (1, 2)
    ]
    for number, run in enumerate(runs, 1):
        said, _ = run.communicate(timeout=600)
        received = [line.split()[1:] for line in said.splitlines() if line.startswith("RECEIVED")]
        assert received == [["8", f"{number}.0", f"{number}.0"]] * 3, said[-3000:]
