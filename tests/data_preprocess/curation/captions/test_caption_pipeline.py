# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From contexts to decisions: each question asked once, kills and failures survived, another threshold for nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from captioned import captioners, context_of, contexts_of, paint, stand_ins

ROOT = Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / "tests")]
from mock_judge_server import MockJudge, Reply  # noqa: E402

from data_preprocess.curation.captions.pipeline import NO_PAIR, Describing, Folder, decide  # noqa: E402
from data_preprocess.curation.captions.stand_in import StandIn, found_out  # noqa: E402
from data_preprocess.curation.captions.tables import Table, TableError  # noqa: E402
from data_preprocess.curation.captions.validation import SIMILARITY, KeepSettings  # noqa: E402
from data_preprocess.frames import FrameRoot  # noqa: E402
from reward_score.paid_call import CallSettingsError  # noqa: E402
from reward_score.similarity import load_similarity  # noqa: E402

SOURCES = ("CholecT50", "CholecTrack20", "CoPESD", "EgoSurgery")
KEEP = KeepSettings()
KEY = "sk-secret-0123456789abcdef"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def described(where: Path, asked, both, at_once: int = 8):
    """The folder and what came of asking; the frames are painted."""
    paint(where / "frames", asked)
    folder = Folder(where / "tables")
    work = Describing(folder, both, FrameRoot(where / "frames"), at_once)
    try:
        return folder, asyncio.run(work.run(asked))
    finally:
        folder.close()


def decisions(folder: Folder, asked, both, settings: KeepSettings = KEEP):
    return list(decide(folder, asked, both, settings, load_similarity()))


def test_both_descriptions_of_honest_captioners_are_kept(tmp_path):
    asked = contexts_of(*SOURCES)
    with stand_ins() as options:
        both = captioners(options)
        folder, came = described(tmp_path, asked, both)
    found = decisions(folder, asked, both)
    assert (came.new, came.there, dict(came.failures)) == (2 * len(asked), 0, {})
    assert [(one.context.key, one.side) for one in found] == [(one.key, side) for one in asked for side in "ab"]
    assert {one.reasons for one in found} == {()} and min(one.similarity for one in found) > 0.5


def test_another_threshold_asks_nobody_and_keeps_what_was_decided(tmp_path):
    asked = contexts_of("CholecT50")
    with stand_ins() as options:
        both = captioners(options)
        folder, _ = described(tmp_path, asked, both)
    decisions(folder, asked, both)
    agreed = len(folder.agreements)
    strict = decisions(folder, asked, both, KeepSettings(similarity=0.99))
    assert {one.reasons for one in strict} == {(SIMILARITY,)}
    assert len(folder.agreements) == agreed and len(folder.decisions) == 2 * 2 * len(asked)
    assert sum(one.counters["requests"] for one in both) == 2 * len(asked)


def test_a_second_run_asks_for_what_is_missing_alone(tmp_path):
    asked = contexts_of("CholecT50", "CoPESD")
    with stand_ins() as options:
        described(tmp_path, asked[:1], captioners(options))
        both = captioners(options)
        _, came = described(tmp_path, asked, both)
    assert (came.new, came.there) == (2 * (len(asked) - 1), 2)
    assert sum(one.counters["requests"] for one in both) == 2 * (len(asked) - 1)


def test_a_line_that_a_kill_cut_short_is_cut_off(tmp_path):
    table = Table(tmp_path / "t.jsonl")
    table.add("a", n=1)
    table.add("b", n=2)
    table.close()
    (tmp_path / "t.jsonl").write_bytes((tmp_path / "t.jsonl").read_bytes()[:-4])
    again = Table(tmp_path / "t.jsonl")
    assert "b" not in again and again.get("a") == {"key": "a", "n": 1}
    again.add("c", n=3)
    again.add("a", n=9)
    again.close()
    assert [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()] == [
        *({"key": "a", "n": 1}, {"key": "c", "n": 3})
    ]


def test_a_table_of_something_else_is_said(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"key": "a"}\n{"b": 1}\n')
    with pytest.raises(TableError, match=r"t\.jsonl: line 2: expected a JSON object with a key"):
        Table(tmp_path / "t.jsonl")


def test_the_mistakes_of_captioners_that_can_be_found_are_found(tmp_path):
    asked = contexts_of(*SOURCES, videos=3)
    with stand_ins(0.4, tmp_path) as options:
        both = captioners(options)
        folder, _ = described(tmp_path, asked, both)
    found = decisions(folder, asked, both)
    lines = found_out(folder.descriptions, folder.decisions, [tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    made = dict(line.strip().split(": ") for line in lines[3:])
    assert {"another_instrument", "unknown_instrument", "unrelated", "turned"} <= set(made)
    for kind in ("unknown_instrument", "unrelated", "speaks_of_picture", "too_short", "outside_the_clip"):
        caught, _, made_so = made.get(kind, "0 of 0").partition(" of ")
        assert caught == made_so, kind
    assert made["turned"].startswith("0 of ")
    # Beside an unrelated description the good one goes too, as published; nothing else is rejected for nothing.
    good = [one for one in found if one.reasons and set(one.reasons) != {SIMILARITY}]
    assert all(StandIn(f"stand-in-{one.side}", 0.4).mistake(_user(one)) for one in good)


def _user(decision) -> str:
    from data_preprocess.curation.captions.captioner import load_prompt, wording

    return wording(decision.context, load_prompt(decision.context.task))["user"]


# --- captioners that fail --------------------------------------------------------------------------------------------


def odd_one(behave, **more):
    """The second captioner's options, at a server that behaves so."""
    server = MockJudge(behave)
    return server, {"base_url": server.base_url, "api_key": KEY, "model": "odd", "backoff_s": 0.001, **more}


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (Reply(status=500), "CallUnavailable"),
        (Reply(status=429, headers={"Retry-After": "0"}), "CallRateLimited"),
        (Reply(body=b"<html>bad gateway</html>"), "CallUnavailable"),
        (Reply("late", delay_s=1.0), "CallTimeout"),
        (Reply("I would rather not say."), "CallUnproven"),
    ],
)
def test_what_the_infrastructure_fails_stays_open_and_is_asked_for_again(tmp_path, reply, failure):
    asked = [context_of("CholecT50", "vs")]
    server, options = odd_one(lambda request: reply, timeout_s=0.3 if failure == "CallTimeout" else 30, max_attempts=2)
    with server, stand_ins() as good:
        both = captioners([good[0], options])
        folder, came = described(tmp_path, asked, both)
        assert dict(came.failures) == {failure: 1} and (came.new, came.open) == (1, 1)
        assert decisions(folder, asked, both) == []
        again = captioners(good)
        folder, came = described(tmp_path, asked, again)
    assert (came.there, came.new) == (1, 1)
    assert [one.reasons for one in decisions(folder, asked, again)] == [(), ()]


def test_a_captioner_that_declines_leaves_the_other_without_a_pair(tmp_path):
    asked = [context_of("CholecT50", "vs"), context_of("CoPESD", "vs")]
    server, options = odd_one(lambda request: Reply(None, refusal="I cannot look at that."))
    with server, stand_ins() as good:
        both = captioners([good[0], options])
        folder, came = described(tmp_path, asked, both)
    assert came.new == 4 and not came.failures
    found = decisions(folder, asked, both)
    assert [one.reasons for one in found] == [(NO_PAIR,), ("declined_CallRefused",)] * 2
    assert [one.description is None for one in found] == [False, True] * 2


def test_a_wrong_key_ends_the_run_and_is_nowhere(tmp_path):
    asked = [context_of("CholecT50", "vs")]
    server, options = odd_one(lambda request: Reply(status=401, body={"error": {"message": f"bad key {KEY}"}}))
    with server, stand_ins() as good, pytest.raises(CallSettingsError) as raised:
        described(tmp_path, asked, captioners([good[0], options], tmp_path / "store"))
    assert KEY not in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


KILLED = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from captioned import captioners, contexts_of
from data_preprocess.curation.captions.pipeline import Describing, Folder
from data_preprocess.frames import FrameRoot

where, options, sources = Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
folder = Folder(where / "tables")
work = Describing(folder, captioners(options, where / "store"), FrameRoot(where / "frames"), 2)
print("ready", flush=True)
asyncio.run(work.run(contexts_of(*sources, videos=3), lambda: print("done", flush=True)))
"""


def test_a_killed_run_repeats_no_more_than_was_under_way(tmp_path):
    asked = contexts_of(*SOURCES, videos=3)
    paint(tmp_path / "frames", asked)
    logs = tmp_path / "logs"
    logs.mkdir()
    with stand_ins(0.0, logs) as options:
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), json.dumps(options)]
        process = subprocess.Popen([*command, json.dumps(SOURCES)], stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        both = captioners(options, tmp_path / "store")
        folder, came = described(tmp_path, asked, both)
        calls = sum(len((logs / name).read_text().splitlines()) for name in ("a.jsonl", "b.jsonl"))
    assert came.there >= 2 * 4 - 4 and came.there + came.new == 2 * len(asked)
    assert 2 * len(asked) <= calls <= 2 * len(asked) + 4
    assert {one.reasons for one in decisions(folder, asked, both)} == {()}
