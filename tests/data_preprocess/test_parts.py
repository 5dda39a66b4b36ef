# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Blocks, parts and splits: the same files whatever made them, and in however many attempts."""

import hashlib
import json
import pickle
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from data_preprocess import medvidbench, parts, pipeline
from data_preprocess.convert import Settings
from data_preprocess.json_stream import iter_blocks
from data_preprocess.medvidbench import main
from data_preprocess.parts import Part

COMMAND = Path(medvidbench.__file__)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """2,300 rows of all pairs, no frames: five blocks."""
    folder = tmp_path_factory.mktemp("set")
    maker = [sys.executable, str(COMMAND.parent / "synthetic.py"), "--output", str(folder), "--rows", "2300"]
    subprocess.run([*maker, "--no-frames", "--profile", "tiny"], check=True, capture_output=True)
    return folder / "train_annotations.json"


def arguments(annotations, output, *options):
    frames = annotations.parent / "frames"
    base = ["--annotations", str(annotations), "--frames-root", str(frames), "--verify", "none"]
    return [*base, "--output", str(output), *options]


def files(output):
    return {path.name: path.read_bytes() for path in sorted(output.glob("*.parquet"))}


@pytest.fixture(scope="module")
def wanted(annotations, tmp_path_factory):
    """What one process makes in one go."""
    output = tmp_path_factory.mktemp("one")
    assert main(arguments(annotations, output, "--workers", "1")) == 0
    assert set(files(output)) == {"train.parquet", "val.parquet"}
    return files(output)


def test_row_groups_have_one_size_and_rows_their_order(annotations, wanted, tmp_path):
    (tmp_path / "train.parquet").write_bytes(wanted["train.parquet"])
    file = pq.ParquetFile(tmp_path / "train.parquet")
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert set(sizes[:-1]) == {pipeline.ROW_GROUP} and sizes[-1] <= pipeline.ROW_GROUP
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    indices = [row["index"] for row in file.read(["extra_info"])["extra_info"].to_pylist()]
    assert indices == sorted(indices) and len(indices) == file.metadata.num_rows


def test_two_processes_write_the_same_bytes(annotations, wanted, tmp_path):
    assert main(arguments(annotations, tmp_path, "--workers", "2")) == 0
    assert files(tmp_path) == wanted


@pytest.mark.slow
def test_ray_writes_the_same_bytes(annotations, wanted, tmp_path):
    command = [sys.executable, str(COMMAND), *arguments(annotations, tmp_path, "--workers", "2", "--engine", "ray")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    assert files(tmp_path) == wanted


def test_a_killed_run_goes_on_with_the_parts_that_are_there(annotations, wanted, tmp_path):
    command = [sys.executable, str(COMMAND), *arguments(annotations, tmp_path, "--workers", "1")]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and len(list(tmp_path.glob(".medvidbench-*/part-*.arrow"))) < 2:
        time.sleep(0.002)
    killed.kill()
    killed.wait()
    assert not files(tmp_path)
    made = sorted(tmp_path.glob(".medvidbench-*/part-*.arrow"))
    assert len(made) >= 2
    # A part that the kill cut off has no final name; one that the disk lost is found out by its content.
    last = made[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    seen = []
    original = parts.convert_block
    try:
        parts.convert_block = lambda block, converter: seen.append(block.number) or original(block, converter)
        assert main(arguments(annotations, tmp_path, "--workers", "1")) == 0
    finally:
        parts.convert_block = original
    assert files(tmp_path) == wanted
    assert 0 not in seen and len(made) - 1 in seen and max(seen) == 4
    assert not list(tmp_path.glob(".medvidbench-*/"))


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_next_run_goes_on(tmp_path, capsys):
    maker = [sys.executable, str(COMMAND.parent / "synthetic.py"), "--output", str(tmp_path / "set"), "--rows", "8000"]
    subprocess.run([*maker, "--no-frames"], check=True, capture_output=True)
    output = tmp_path / "out"
    options = arguments(tmp_path / "set/train_annotations.json", output, "--workers", "2")
    run = subprocess.Popen([sys.executable, str(COMMAND), *options], stderr=subprocess.PIPE, text=True)
    while run.poll() is None and not list(output.glob(".medvidbench-*/part-*.arrow")):
        time.sleep(0.002)
    workers = [child for child in psutil.Process(run.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    said = run.communicate()[1]
    assert run.returncode == 2 and "a worker process died" in said.strip().splitlines()[-1]
    assert "Traceback" not in said and not files(output)
    assert main(options) == 0 and "8000 of 8000 rows written" in capsys.readouterr().out


def test_a_worker_sends_back_no_more_than_a_pipe_takes_in_one_piece(annotations, tmp_path):
    """Killed in the middle of a longer message, it would leave the command waiting for the rest."""
    settings = Settings(frames_root=str(annotations.parent / "frames"), verify="none")
    block = next(iter(iter_blocks([annotations], pipeline.BLOCK_ROWS)))
    sent = parts.make_part(block, settings, tmp_path)
    assert len(pickle.dumps(sent)) < select.PIPE_BUF and Part.read(sent).audit.rows["read"] == pipeline.BLOCK_ROWS


def test_without_resume_everything_is_made_anew(annotations, wanted, tmp_path):
    mine = hashlib.sha256(annotations.name.encode()).hexdigest()[:8]
    stale, foreign = (
        tmp_path / f".medvidbench-{mine}-0123456789abcdef",
        tmp_path / ".medvidbench-01234567-0123456789abcdef",
    )
    for scratch in (stale, foreign):
        scratch.mkdir()
        (scratch / "part-0000000.arrow").write_bytes(b"of another run")
    assert main(arguments(annotations, tmp_path, "--workers", "1", "--no-resume")) == 0
    # What a run of other annotations has under way in this folder is left to it.
    assert not stale.exists() and foreign.exists()
    shutil.rmtree(foreign)
    assert files(tmp_path) == wanted


def test_a_truncated_file_is_named_with_its_row(annotations, tmp_path, capsys):
    broken = tmp_path / "broken.json"
    broken.write_bytes(annotations.read_bytes()[:-5000])
    assert main(arguments(annotations, tmp_path / "out", "--annotations", str(broken))) == 2
    said = capsys.readouterr().err.strip()
    assert "broken.json: row 229" in said and said.count("\n") == 0
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_the_audit_adds_up(annotations, wanted, tmp_path):
    assert main(arguments(annotations, tmp_path, "--workers", "1")) == 0
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["rows"]["written"] == sum(audit["splits"].values()) == sum(p["rows"] for p in audit["pairs"].values())
    assert {name: entry["rows"] for name, entry in audit["outputs"].items()} == {
        "train.parquet": audit["splits"]["train"],
        "val.parquet": audit["splits"]["val"],
    }
    for pair, entry in audit["pairs"].items():
        assert entry["frames"]["min"] <= entry["frames"]["p50"] <= entry["frames"]["max"], pair
