# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A caption's first wrong sentence by the judge's endpoint, and what may come of a reply."""

import json

import pytest
from made_answers import row
from mock_judge_server import MockJudge, Reply

from recipes.medgrpo.files import RecipeError
from recipes.medgrpo.interventions.location import Asked, LeftOut, Mistake
from recipes.medgrpo.interventions.reviser import Reviser, revise_all

SAID = "A hook can be seen. It burns the gallbladder's bed {odd}. All is dry."


def asked(said=SAID):
    return Asked.of(row("vs"), said)


def replies(content, tmp_path, captions, status=200):
    with MockJudge(lambda request: Reply(content=content, status=status)) as server:
        settings = {"base_url": server.base_url, "api_key": "k", "model": "m", "store": str(tmp_path / "store")}
        settings |= {"prompt": "rubric", "max_attempts": 1}  # of the judge: the prompt is not its
        try:
            return revise_all(Reviser(**settings), captions), server.requests
        except RecipeError as error:
            return error, server.requests


def test_the_named_sentence_is_replaced_and_the_captions_beginning_is_the_models_own(tmp_path):
    reply = json.dumps({"sentence": 2, "rewritten": "It dissects the gallbladder."})
    found, requests = replies(reply, tmp_path, [asked(), asked()])
    (mistake,) = found.values()
    original = "It burns the gallbladder's bed {odd}."
    assert mistake == Mistake("A hook can be seen. ", original, "It dissects the gallbladder.", 1, (2,))
    # Asked once, with the reference and the numbered sentences, braces and all.
    (request,) = requests
    assert "The hook is seen. It dissects the gallbladder." in request.prompt and f"2. {original}" in request.prompt
    # And not again by the next run: the judge's store has the reply.
    found, requests = replies("no JSON", tmp_path, [asked()])
    assert list(found.values()) == [mistake] and requests == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"sentence": 0, "rewritten": ""}, LeftOut.NO_ERROR),
        ({"sentence": 3, "rewritten": "The field is dry."}, LeftOut.NOTHING_AFTER),
        ({"sentence": 4, "rewritten": "One more."}, LeftOut.DECLINED),
        ({"sentence": 2, "rewritten": "It cuts. And it lifts."}, LeftOut.DECLINED),
        ({"sentence": 2, "rewritten": " "}, LeftOut.DECLINED),
        ({"sentence": 2}, LeftOut.DECLINED),
    ],
)
def test_what_is_no_sentence_of_the_caption_or_more_than_one_is_no_correction(tmp_path, reply, reason):
    # A second caption, answered well, shows that the endpoint is not at fault.
    good = json.dumps({"sentence": 0, "rewritten": ""})
    other = "The hook is seen. Fine."

    def content(request):
        return Reply(content=good if "2. Fine." in request.prompt else json.dumps(reply))

    with MockJudge(content) as server:
        reviser = Reviser(base_url=server.base_url, api_key="k", model="m", max_attempts=2)
        found = revise_all(reviser, [asked(other), asked()])
    assert found[SAID, asked().target] is reason and found[other, asked().target] is LeftOut.NO_ERROR


def test_an_endpoint_that_is_down_is_no_verdict_on_any_caption(tmp_path):
    error, _ = replies("", tmp_path, [asked()], status=500)
    assert isinstance(error, RecipeError) and "1 of 1 captions without a reply: CallUnavailable 1" in str(error)


def test_the_judges_word_needs_a_judge_with_an_endpoint(capsys):
    from recipes.medgrpo import intervene

    given = ["--model", "m", "--recorded", "r", "--data", "d", "--output", "o", "--captions", "judge"]
    with pytest.raises(SystemExit) as stopped:
        intervene.main(given)
    assert stopped.value.code == 2 and "--captions judge: expected --judge openai" in capsys.readouterr().err
