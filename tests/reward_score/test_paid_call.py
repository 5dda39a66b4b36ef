# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A paid call that is no judge: other questions, pictures in them, another key; and stores from before it was one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from mock_judge_server import MockJudge, Reply  # noqa: E402

from reward_score.judge import Judge  # noqa: E402
from reward_score.paid_call import (  # noqa: E402
    IMAGE,
    CallBudgetExceeded,
    Caller,
    CallMalformed,
    CallSettingsError,
    CallUnproven,
    Options,
)
from reward_score.paid_call.store import open_store  # noqa: E402

PICTURE = "data:image/jpeg;base64," + "A" * 100_000
KEY = "999224d4b9235b0a0f912988c86618fcb6f83fe3f4036c8f3db10619c096ad9d"
"""Of the verdict below, as version 0.1 made it."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class ColourOptions(Options):
    """As any caller's."""


class Colours(Caller):
    """Asks for the colour of a picture."""

    def __init__(self, *, store: str | None = None, **options: Any) -> None:
        given = ColourOptions(**{"backoff_s": 0.001, "api_key": "k", "model": "m", **options})
        super().__init__(given, asks=[given.model, "colours-v1"], store=store)

    def compose(self, question: Mapping[str, Any]):
        picture = {"type": IMAGE, IMAGE: {"url": question["picture"]}}
        return [{"role": "user", "content": [{"type": "text", "text": "Which colour?"}, picture]}], self.read

    def read(self, text: str) -> dict[str, Any]:
        if text not in ("red", "blue"):
            raise CallMalformed("expected a colour")
        return {"colour": text}

    def key_of(self, question: Mapping[str, Any]) -> list[Any]:
        return [question["picture"]]

    def topic(self, question: Mapping[str, Any]) -> dict[str, str]:
        return {"prompt": "colours-v1", "task": "colour"}

    def kept(self, reply: dict[str, Any]) -> dict[str, Any] | None:
        return reply if reply.get("colour") else None


def asked(caller: Caller, *pictures: str) -> list[Any]:
    async def run() -> list[Any]:
        try:
            questions = ({"picture": picture} for picture in pictures)
            return await asyncio.gather(*map(caller.ask, questions), return_exceptions=True)
        finally:
            await caller.aclose()
            await caller.store.close()

    return asyncio.run(run())


def test_a_question_with_a_picture_is_paid_for_once(tmp_path):
    with MockJudge(lambda request: Reply("red")) as server:
        first = Colours(base_url=server.base_url, store=str(tmp_path))
        told = asked(first, PICTURE, PICTURE, PICTURE + "B")
        again = Colours(base_url=server.base_url, store=str(tmp_path))
        kept = asked(again, PICTURE)
    assert [reply for reply, _ in told + kept] == [{"colour": "red"}] * 4
    assert [usage.requests for _, usage in told + kept] == [1, 0, 1, 0]
    sent = {request.body["messages"][0]["content"][1][IMAGE]["url"] for request in server.requests}
    assert sent == {PICTURE, PICTURE + "B"} and len(server.requests) == 2
    assert "response_format" not in server.requests[0].body
    assert first.counters == {"replies": 3, "requests": 2, "shared": 1}
    assert again.counters == {"replies": 1, "cache_hits": 1}


def test_a_picture_costs_at_most_its_tokens_and_not_its_bytes():
    prices = {"prompt_price": 1.0, "completion_price": 1.0, "max_tokens": 100}
    with MockJudge(lambda request: Reply("red", prompt_tokens=1, completion_tokens=1)) as server:
        enough = Colours(base_url=server.base_url, budget_usd=0.002, image_tokens=1_000, **prices)
        assert asked(enough, PICTURE)[0][0] == {"colour": "red"}
        short = Colours(base_url=server.base_url, budget_usd=0.002, image_tokens=2_000, **prices)
        assert isinstance(asked(short, PICTURE)[0], CallBudgetExceeded)
    assert len(server.requests) == 1


def test_a_reply_that_is_none_is_a_typed_failure_under_its_own_name():
    with MockJudge(lambda request: Reply("blue" if request.number == 2 else "<html>busy</html>")) as server:
        caller = Colours(base_url=server.base_url)
        before, good, after = (asked_one(caller, f"{number}") for number in range(3))
    assert type(before) is CallUnproven and good[0] == {"colour": "blue"} and type(after) is CallMalformed
    assert str(before) == "expected a colour; no reply of this model could be read yet"
    assert caller.counters["CallUnproven"] == caller.counters["CallMalformed"] == 1


def asked_one(caller: Caller, picture: str) -> Any:
    return asyncio.run(_one(caller, picture))


async def _one(caller: Caller, picture: str) -> Any:
    try:
        return (await asyncio.gather(caller.ask({"picture": picture}), return_exceptions=True))[0]
    finally:
        await caller.aclose()


def test_the_judges_key_is_not_sent_to_another_endpoint(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("MEDGRPO_JUDGE_API_KEY", "judge-key")
    with pytest.raises(CallSettingsError, match="no key: set OPENAI_API_KEY$"):
        Colours(base_url="http://127.0.0.1:1/v1", api_key=None)
    assert Judge("http://127.0.0.1:1/v1", None, "m")._attempts.endpoint._key == "judge-key"


def test_a_verdict_that_an_earlier_version_kept_is_found(tmp_path):
    scores = dict.fromkeys(
        ("terminology", "instruments_anatomy", "specificity", "procedure_context", "action_state"), 4
    )

    async def run() -> float:
        store = open_store(tmp_path)
        store.put(KEY, scores, {"model": "gpt-4.1", "prompt": "comparative-v2", "task": "rc"})
        judge = Judge("http://127.0.0.1:1/v1", "k", "gpt-4.1", store=str(tmp_path))
        judgement = await judge.score("a", "b", task="rc", question="q")
        await store.close()
        await judge.store.close()
        return judgement.mean

    assert asyncio.run(run()) == 4
    assert (tmp_path / "judge.sqlite").exists()
