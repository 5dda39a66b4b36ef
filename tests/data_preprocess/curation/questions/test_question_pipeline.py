# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""From excerpts to decisions: each question asked once, kills and failures survived, another threshold for nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lectured import NAME, excerpts_of, lecturer, models

ROOT = Path(__file__).resolve().parents[4]
sys.path[:0] = [str(ROOT / "tests")]
from mock_judge_server import MockJudge, Reply  # noqa: E402

from data_preprocess.curation.questions.checks import BLIND, DUPLICATE, NOT_ASKED, KeepSettings  # noqa: E402
from data_preprocess.curation.questions.models import Guesser  # noqa: E402
from data_preprocess.curation.questions.pipeline import (  # noqa: E402
    Asking,
    Folder,
    guessed,
    judged,
    questions_of,
    record,
)
from data_preprocess.curation.questions.stand_in import FACT_MISTAKES, QUESTION_MISTAKES, found_out  # noqa: E402
from data_preprocess.curation.rows.wordings import wordings  # noqa: E402
from reward_score.paid_call import CallBudgetExceeded, CallSettingsError  # noqa: E402
from reward_score.similarity import load_similarity  # noqa: E402

KEEP = KeepSettings()
KEY = "sk-secret-0123456789abcdef"
NO_FACTS = {"observation": [], "reason": [], "plan": [], "deduction": []}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def asked(where: Path, found, extractor: dict, writer: dict, store: Path | None = None):
    """The folder, who asked, and what came of it."""
    folder = Folder(where / "tables")
    asking = Asking(folder, *models(extractor, writer, store), KEEP, 8)
    try:
        return folder, asking, asyncio.run(asking.run(found))
    finally:
        folder.close()


def decisions(folder: Folder, asking: Asking, found, settings: KeepSettings = KEEP):
    return judged(folder, found, asking, settings, wordings(), load_similarity())


def test_what_honest_models_say_is_kept(tmp_path):
    found = excerpts_of(tmp_path)
    with lecturer() as model:
        folder, asking, came = asked(tmp_path, found, model, model)
    decided = decisions(folder, asking, found)
    assert (came.new, came.there, came.open, dict(came.failures)) == (2 * len(found), 0, 0, {})
    assert {one.reasons for one in decided} <= {(), (DUPLICATE,)}
    rows = [one for one in decided if one.row is not None and one.kept]
    assert {one.fact.kind for one in rows} == {"observation", "reason", "plan", "deduction"}
    # The row lists the excerpt's frames, and says when within it the fact is said.
    assert all(one.row["video"] == one.excerpt.clip.paths for one in rows)
    for one in rows:
        [told] = one.row["struc_info"]
        [heard] = [part for part in one.excerpt.said if part.text == one.fact.quote]
        assert told["kind"] == one.fact.kind
        times = [max(0.0, heard.start), min(heard.end, one.excerpt.clip.duration)]
        assert [told["start"], told["end"]] == pytest.approx(times, abs=0.05 + 1e-9)  # rows have one decimal


def test_a_second_run_and_another_threshold_ask_nobody(tmp_path):
    found = excerpts_of(tmp_path, videos=1)
    with lecturer() as model:
        folder, asking, _ = asked(tmp_path, found, model, model)
    gone = {"base_url": "http://127.0.0.1:1/v1", "model": NAME, "api_key": "none"}
    folder, asking, came = asked(tmp_path, found, gone, gone)
    assert (came.new, came.there, came.open) == (0, 2 * len(found), 0)
    strict = decisions(folder, asking, found, KeepSettings(duplicate=0.01))
    videos = {(one.excerpt.clip.video.source, one.excerpt.clip.video.video_id) for one in strict}
    assert sum(one.kept for one in strict if one.asked) == len(videos)  # the first question of each
    everywhere = decisions(folder, asking, found, KeepSettings(duplicate=0.01, duplicates_among="all"))
    assert sum(one.kept for one in everywhere if one.asked) == 1
    for settings, made in ((KEEP, decisions(folder, asking, found)), (KeepSettings(duplicate=0.01), strict)):
        record(folder, made, settings)
        record(folder, made, settings)
    noted = list(folder.decisions)
    folder.close()
    assert len(noted) == 2 * len(strict) and all(one["kept"] == (not one["reasons"]) for one in noted)


def test_mistakes_that_can_be_found_are_found_and_nothing_else_is_dropped(tmp_path):
    found = excerpts_of(tmp_path, videos=4)
    with lecturer(0.4, tmp_path / "log.jsonl") as model:
        folder, asking, _ = asked(tmp_path, found, model, model)
        guesser = Guesser(**model)
        decided = decisions(folder, asking, found)
        asyncio.run(asking.guess(guesser, questions_of(decided)))
        decided = guessed(folder, decided, guesser, KEEP, load_similarity())
    lines = found_out((*folder.extracted, *folder.written), decided, [tmp_path / "log.jsonl"])
    made = dict(line.strip().split(": ") for line in lines[3:])
    assert set(made) == {*FACT_MISTAKES, *QUESTION_MISTAKES}
    for kind, told in made.items():
        caught, total = told.split(",")[0].split(" of ")
        assert caught == ("0" if kind.startswith("turned") else total), kind
    assert lines[1].startswith("precision 1.000")
    # Only a guess tells which questions hold their answer.
    assert {one.reasons for one in decided if one.asked and one.asked["question"].startswith("Is it so")} <= {
        (BLIND,),
        *({one.reasons for one in decided if BLIND not in one.reasons}),
    }
    assert made["gives_answer_away"].endswith("by a guess")


# --- models that fail -------------------------------------------------------------------------------------------------


def odd_one(behave, **more):
    """A model's options, at a server that behaves so."""
    server = MockJudge(behave)
    return server, {"base_url": server.base_url, "api_key": KEY, "model": "odd", "backoff_s": 0.001, **more}


@pytest.mark.parametrize("stage", ["extractor", "writer"])
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
def test_what_the_infrastructure_fails_stays_open_and_is_asked_for_again(tmp_path, reply, failure, stage):
    found = excerpts_of(tmp_path, videos=1)[:1]
    server, odd = odd_one(lambda request: reply, timeout_s=0.3 if failure == "CallTimeout" else 30, max_attempts=2)
    with server, lecturer() as good:
        first, second = (odd, good) if stage == "extractor" else (good, odd)
        folder, asking, came = asked(tmp_path, found, first, second)
        assert (dict(came.failures), came.open) == ({failure: 1}, 1)
        assert not any(one.asked for one in decisions(folder, asking, found))
        folder, asking, came = asked(tmp_path, found, good, good)
    assert came.open == 0 and came.there == (0 if stage == "extractor" else 1)
    assert any(one.kept for one in decisions(folder, asking, found) if one.asked)


def test_models_that_decline_lie_or_leave_out_lose_what_they_were_asked(tmp_path):
    found = excerpts_of(tmp_path, videos=1)
    server, odd = odd_one(lambda request: Reply(None, refusal="I cannot speak of that."))
    with server, lecturer() as good:
        folder, asking, came = asked(tmp_path / "a", found, odd, good)
        assert not came.failures and {one.reasons for one in decisions(folder, asking, found)} == {
            ("declined_CallRefused",)
        }
        folder, asking, came = asked(tmp_path / "b", found, good, odd)
        assert {one.reasons for one in decisions(folder, asking, found)} == {("declined_CallRefused",)}
    lie = {"text": "The stapler closes the stomach.", "quote": "as all of us have always known"}
    server, odd = odd_one(lambda request: Reply(json.dumps({**NO_FACTS, "observation": [lie]})))
    with server, lecturer() as good:
        folder, asking, came = asked(tmp_path / "c", found, odd, good)
        assert {one.reasons for one in decisions(folder, asking, found)} == {
            ("no_such_quote", "names_what_is_not_said")
        } and came.new == len(found)
    server, odd = odd_one(lambda request: Reply(json.dumps({"questions": []})))
    with server, lecturer() as good:
        folder, asking, came = asked(tmp_path / "d", found, good, odd)
        assert {one.reasons for one in decisions(folder, asking, found)} == {(NOT_ASKED,)}


def test_marks_of_a_tokenizer_are_no_row(tmp_path):
    found = excerpts_of(tmp_path, videos=1)[:1]
    marked = {"fact": 1, "question": "What is done in this video?", "answer": "It is held <|im_end|> for a while."}
    server, odd = odd_one(lambda request: Reply(json.dumps({"questions": [marked]})))
    with server, lecturer() as good:
        folder, asking, _ = asked(tmp_path, found, good, odd)
    assert [one.reasons for one in decisions(folder, asking, found) if one.asked] == [("no_row",)]


def test_a_budget_ends_the_run_and_what_was_paid_for_is_kept(tmp_path):
    found = excerpts_of(tmp_path, videos=1)
    with lecturer() as model:
        dear = {**model, "prompt_price": 1e6, "completion_price": 1e6, "budget_usd": 4_000.0}
        with pytest.raises(CallBudgetExceeded):
            asked(tmp_path, found, dear, dear, tmp_path / "store")
        _, _, came = asked(tmp_path, found, model, model, tmp_path / "store")
    assert came.open == 0


@pytest.mark.parametrize("stage", ["extractor", "writer", "blind"])
def test_a_wrong_key_ends_the_run_and_is_nowhere(tmp_path, stage):
    found = excerpts_of(tmp_path, videos=1)[:1]
    server, odd = odd_one(lambda request: Reply(status=401, body={"error": {"message": f"bad key {KEY}"}}))
    with server, lecturer() as good, pytest.raises(CallSettingsError) as raised:
        first, second = (odd if stage == "extractor" else good), (odd if stage == "writer" else good)
        folder, asking, _ = asked(tmp_path, found, first, second, tmp_path / "store")
        asyncio.run(asking.guess(Guesser(store=str(tmp_path / "store"), **odd), ["What is seen?"]))
    assert KEY not in str(raised.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


KILLED = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from lectured import excerpts_of, models
from data_preprocess.curation.questions.checks import KeepSettings
from data_preprocess.curation.questions.pipeline import Asking, Folder

where, options = Path(sys.argv[2]), json.loads(sys.argv[3])
asking = Asking(Folder(where / "tables"), *models(options, options, where / "store"), KeepSettings(), 2)
asyncio.run(asking.run(excerpts_of(where), lambda: print("done", flush=True)))
"""


def test_a_killed_run_repeats_no_more_than_was_under_way(tmp_path):
    found = excerpts_of(tmp_path)
    log = tmp_path / "log.jsonl"
    with lecturer(0.0, log) as options:
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), json.dumps(options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        folder, asking, came = asked(tmp_path, found, options, options, tmp_path / "store")
        calls = len(log.read_text().splitlines())
    assert came.there >= 2 * 3 - 2 and came.there + came.new == 2 * len(found)
    assert 2 * len(found) <= calls <= 2 * len(found) + 2
    assert {one.reasons for one in decisions(folder, asking, found)} <= {(), (DUPLICATE,)}
