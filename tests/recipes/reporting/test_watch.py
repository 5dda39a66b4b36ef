# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The command `watch` as a real process, over a run that is being written."""

import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from made_run import Maker
from watching import ROOT, Server


@pytest.fixture
def data(synthetic_data):
    return synthetic_data["qwen2_5_vl"]


@pytest.fixture
def maker(tmp_path, data):
    made = Maker(tmp_path / "run", data, tasks=["tal", "stg"])
    made.step(1)
    return made


@pytest.fixture
def server(maker, data):
    started = Server(maker.folder, data)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.communicate()


def files(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_new_steps_reach_the_page(server, maker):
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", server.address), server.process.stderr.read()
    while server.piece("index")["runs"][0]["steps"] < 1:
        server.next_version()
    index = server.piece("index")
    assert index["live"] and index["runs"][0]["status"] == "running or interrupted"
    maker.step(2)
    while server.piece("index")["runs"][0]["steps"] < 2:
        server.next_version()
    assert set(server.piece("rollouts_r0", "?from=2&v=3")["columns"]["step"]) == {2}
    assert server.piece("answers_r0_000002")["answers"][0]["text"]
    thumb = server.piece("rows_r0_0")["rows"][0]["frames"][0]["thumb"]
    assert server.get(thumb).read()[:2] == b"\xff\xd8"
    assert "<html" in server.get("").read().decode()


def test_the_runs_files_are_read_and_not_written(server, maker):
    before = files(maker.folder)
    server.next_version()
    for name in ("index", "curves_r0", "rollouts_r0", "distributions_r0", "answers_r0_000001", "rows_r0_0"):
        server.piece(name)
    assert files(maker.folder) == before
    out, _ = server.stop()
    assert server.process.returncode == 0 and files(maker.folder) == before


def test_nothing_else_is_served(server, maker):
    server.next_version()
    for place in ("data/answers_r0_000009.js", "data/rows_r1_0.js", "thumbs/x.jpg", "data/..%2f..%2fplan.json.js"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            server.get(place)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        server.get("data/index.js", Host="elsewhere.example")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(urllib.request.Request(server.address + "data/index.js", method="POST"), timeout=30)


def test_a_half_written_line_does_not_break_it(server, maker):
    server.next_version()
    log = maker.folder / "attempts/grpo_1.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"step": 2, "data": {"medgrpo/pairs_mean/rew')
    maker.recorder.root.joinpath("rollouts/step_000002.jsonl").write_text('{"step"')
    server.next_version()
    assert server.piece("index")["runs"][0]["steps"] == 1
    log.write_text(whole)
    maker.step(2)
    while server.piece("index")["runs"][0]["steps"] < 2:
        server.next_version()
    assert not [line for line in server.piece("index")["runs"][0]["warnings"] if line["kind"] == "file"]


def test_a_port_that_is_taken_is_one_line(server, maker):
    port = re.search(r":(\d+)/", server.address)[1]
    command = [sys.executable, "-m", "recipes.medgrpo", "watch", str(maker.folder), "--port", port]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr == f"watch: error: --port {port}: Address already in use; expected a free port, 0 takes one\n"
