# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The image's entry point, for real on the CPU: a test file and a tiny model in, a checked submission out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_test_file_becomes_a_checked_submission(family, tmp_path):
    folder, output = tmp_path / "input", tmp_path / "out"
    made = [sys.executable, str(ROOT / "data_preprocess/synthetic.py"), "--output", str(tmp_path / "synthetic")]
    subprocess.run([*made, "--videos-per-source", "1", "--rows-per-pair", "1", "--test-rows"], check=True)
    folder.mkdir()
    (tmp_path / "synthetic/frames").rename(folder / "frames")
    rows = json.loads((tmp_path / "synthetic/test_annotations.json").read_text())
    (folder / "test.json").write_text(json.dumps(rows))
    env = os.environ | {
        "MODEL_PATH": str(family.path),
        "TEST_FILE": str(folder / "test.json"),
        "FRAMES_ROOT": str(folder / "frames"),
        "OUTPUT_DIR": str(output),
        "ENGINE": "transformers",
        # A random model does not end its answers.
        "MAX_TRUNCATED": "1",
        "VERL_PLATFORM": "cpu",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["bash", str(ROOT / "examples/docker/entrypoint.sh"), "--max-new-tokens", "24"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith(f"run_submission: the submission is {output}/submission.json")
    entries = json.loads((output / "submission.json").read_text())
    assert len(entries) == len(rows)
    assert [entry["qa_type"] for entry in entries] == [row["qa_type"] for row in rows]
    assert all(isinstance(entry["prediction"], str) for entry in entries)
