# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Several judges as one: a mean only where all of them judged, and how far they are apart."""

import asyncio
import pickle
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from mock_judge_server import MockJudge, Reply, honest  # noqa: E402

from reward_score.errors import BadGroundTruth  # noqa: E402
from reward_score.judge import (  # noqa: E402
    DIMENSIONS,
    AveragedJudge,
    Judge,
    JudgeError,
    JudgeMalformed,
    Judgement,
    JudgeRefused,
    JudgeSettingsError,
    JudgeUnavailable,
    OfflineJudge,
    Usage,
    make_judge,
)
from reward_score.judge.make import members  # noqa: E402

PREDICTION, REFERENCE = "A grasper lifts the gallbladder.", "The grasper retracts the gallbladder."


class Says:
    """A judge that gives these scores, or raises this."""

    def __init__(self, name: str, *scores: int, error: Exception | None = None, usage: Usage | None = None) -> None:
        self.name, self.scores, self.error, self.spent = name, scores, error, usage

    async def score(self, prediction: str, reference: str, *, task: str, question: str | None = None) -> Judgement:
        if self.error:
            raise self.error
        return Judgement(*self.scores, judge=self.name, usage=self.spent)


def score(judge: AveragedJudge, prediction: str = PREDICTION, reference: str = REFERENCE) -> Judgement:
    async def one() -> Judgement:
        try:
            return await judge.score(prediction, reference, task="rc", question="What happens?")
        finally:
            await judge.aclose()

    return asyncio.run(one())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_every_dimension_is_the_mean_of_the_judges():
    judge = AveragedJudge([Says("a", 5, 4, 3, 2, 1), Says("b", 4, 4, 4, 4, 4), Says("c", 3, 4, 5, 3, 1)])
    judgement = score(judge)
    assert [judgement.scores()[name] for name in DIMENSIONS] == [4, 4, 4, 3, 2]
    assert judgement.judge == judge.name == "mean(a, b, c)"
    assert judgement.usage is None
    # a and b are 1.4 apart, a and c 1.0, b and c 1.2.
    assert judge.counters == {"disagreement": pytest.approx(1.4), "compared": 1}


def test_two_endpoints_and_their_disagreement_in_the_first_ones_store(tmp_path):
    with MockJudge(lambda request: Reply(honest(request, 5 if request.body["model"] == "one" else 2))) as server:
        settings = {"prompt_price": 1.0, "completion_price": 1.0}
        members = [
            Judge(server.base_url, "key", "one", store=str(tmp_path / "store"), **settings),
            Judge(server.base_url, "key", "two", **settings),
        ]
        judge = AveragedJudge(members)
        judgement = score(judge)
        lanes = asyncio.run(judge.store.snapshot())
    assert judgement.scores() == dict.fromkeys(DIMENSIONS, 3.5)
    assert judgement.usage == judge.usage == Usage(200, 40, 2)
    assert judge.cost_usd == pytest.approx(240e-6) and judge.price_known
    assert judge.counters == {"judgements": 2, "requests": 2, "disagreement": 3, "compared": 1}
    assert judge.store is members[0].store
    assert (lanes["one"]["disagreement"], lanes["one"]["compared"]) == (3, 1)


def test_an_offline_judge_may_be_a_member():
    offline = OfflineJudge()
    judge = AveragedJudge([offline, Says("model", 1, 1, 1, 1, 1, usage=Usage(10, 1, 1))])
    judgement = score(judge)
    assert judgement.mean == pytest.approx((offline.compare(PREDICTION, REFERENCE).mean + 1) / 2)
    assert judgement.usage == Usage(10, 1, 1)
    assert judge.store is None and judge.cost_usd == 0


REFUSED, MALFORMED = JudgeRefused("no", usage=Usage(5, 0, 1)), JudgeMalformed("what", usage=Usage(7, 1, 2))
DOWN = JudgeUnavailable("down", usage=Usage(0, 0, 3))
GIVEN = Says("good", 5, 5, 5, 5, 5, usage=Usage(100, 20, 1))


@pytest.mark.parametrize(
    ("errors", "raised", "spent"),
    [
        ([REFUSED], JudgeRefused, Usage(105, 20, 2)),
        ([REFUSED, MALFORMED], JudgeRefused, Usage(112, 21, 4)),
        ([DOWN], JudgeUnavailable, Usage(100, 20, 4)),
        ([REFUSED, DOWN], JudgeUnavailable, Usage(105, 20, 5)),
    ],
)
def test_one_failure_is_a_failure_and_the_infrastructures_comes_first(errors, raised, spent):
    judge = AveragedJudge([GIVEN, *(Says(f"bad{place}", error=error) for place, error in enumerate(errors))])
    with pytest.raises(JudgeError) as caught:
        score(judge)
    assert type(caught.value) is raised
    assert caught.value.usage == spent
    assert str(caught.value).startswith("bad")
    assert pickle.loads(pickle.dumps(caught.value)).usage == spent
    assert judge.counters == {}


def test_a_blank_reference_is_bad_data_and_a_bug_is_a_bug():
    with pytest.raises(BadGroundTruth):
        score(AveragedJudge([OfflineJudge(), GIVEN]), reference=" ")
    with pytest.raises(ZeroDivisionError):
        score(AveragedJudge([Says("broken", error=ZeroDivisionError()), Says("down", error=DOWN)]))


@pytest.mark.parametrize("judges", [[], [OfflineJudge()]])
def test_fewer_than_two_are_no_panel(judges):
    with pytest.raises(JudgeSettingsError, match="at least two"):
        AveragedJudge(judges)


def test_a_second_judge_differs_from_the_first_in_what_it_names(monkeypatch):
    monkeypatch.setenv("FIRST_KEY", "one")
    monkeypatch.setenv("SECOND_KEY", "two")
    first = {"base_url": "http://127.0.0.1:1/v1", "model": "a", "key_variable": "FIRST_KEY", "prompt_price": 9}
    second = {"model": "b", "key_variable": "SECOND_KEY"}
    assert members("openai", {**first, "second": second}) == [
        ("openai", first),
        ("openai", {"base_url": "http://127.0.0.1:1/v1", "model": "b", "key_variable": "SECOND_KEY"}),
    ]
    judge = make_judge("openai", {**first, "completion_price": 9, "second": second})
    assert judge.name == "mean(a/comparative-v2, b/comparative-v2)"
    # Verdicts are kept by what was asked: the second judge would be told the first one's.
    elsewhere = {"base_url": "http://127.0.0.1:2/v1", "key_variable": "SECOND_KEY"}
    with pytest.raises(JudgeSettingsError, match="another model's name"):
        make_judge("openai", {"completion_price": 0, **first, "second": {"model": "a", **elsewhere}})
    # Nobody's key goes to another endpoint unless its variable is named.
    del elsewhere["key_variable"]
    with pytest.raises(JudgeSettingsError, match="first one's key"):
        members("openai", {**first, "second": {"model": "b", **elsewhere}})
    with pytest.raises(JudgeSettingsError, match="not its value") as raised:
        make_judge("openai", {**first, "completion_price": 9, "key_variable": "sk-secret"})
    assert "sk-secret" not in str(raised.value)
    monkeypatch.delenv("SECOND_KEY")
    with pytest.raises(JudgeSettingsError, match="SECOND_KEY"):
        make_judge("openai", {**first, "completion_price": 9, "second": second})
