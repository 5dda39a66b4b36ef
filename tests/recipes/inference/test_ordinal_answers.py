# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Expectations in the place of marks: the formula, the place in the answer, the engine's probabilities, the files."""

import json
from math import log
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from reward_score.answers import ASPECTS, mark_places, parse_sa

CVS = "Two structures: 2, Cystic plate: 0, Hepatocystic triangle: 1"
SA = ", ".join(f"{aspect}: {mark}/5" for aspect, mark in zip(ASPECTS, (5, 5, 1, 2, 3, 4), strict=True))


@pytest.fixture
def ordinal(plugged):
    from recipes.medgrpo.inference import ordinal

    return ordinal


def logs(**probabilities):
    return {token.strip("_"): log(value) for token, value in probabilities.items()}


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ({"_2": 0.5, "_4": 0.5}, 3.0),  # torn between two marks: neither of them
        ({"_1": 0.2, "_5": 0.2, "the": 0.6}, 3.0),  # other tokens count nothing
        ({"_5": 1e-300}, 5.0),  # the only mark that is known, however small
        ({"_0": 0.9, "_3": 0.1}, 3.0),  # 0 is no mark of skill
        ({"the": 1.0}, None),
        ({}, None),
    ],
)
def test_the_mean_is_over_the_scale_s_marks_alone(ordinal, probabilities, expected):
    found = ordinal.expectation(logs(**probabilities), 1, 5)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_a_mark_without_probability_is_none(ordinal):
    assert ordinal.expectation({"1": -float("inf"), "2": -float("inf")}, 1, 5) is None
    assert ordinal.expectation({"1": -900.0, "2": -900.0}, 1, 5) == 1.5


def test_marks_stand_where_the_grammar_has_them():
    assert {name: SA[at] for name, at in mark_places("sa", SA).items()} == dict(zip(ASPECTS, "551234", strict=True))
    assert [("\n " + CVS)[at] for at in mark_places("cvs", "\n " + CVS).values()] == ["2", "0", "1"]
    assert mark_places("sa", SA + " I think.") == {} == mark_places("cvs", CVS.replace(", Cystic plate: 0", ""))


def test_vllm_s_log_probabilities_become_marks(ordinal):
    """As `CompletionOutput.logprobs` has them: the sampled token and those asked for, by id; 7 is no mark."""
    place = {7: SimpleNamespace(logprob=-0.1), 21: SimpleNamespace(logprob=-3.0), 22: SimpleNamespace(logprob=-2.0)}
    padded = {21: SimpleNamespace(logprob=-1.0), 0: SimpleNamespace(logprob=-float("inf"))}
    assert ordinal.by_mark([place, padded], {21: "1", 22: "2"}) == [{"1": -3.0, "2": -2.0}, {"1": -1.0}]
    assert ordinal.by_mark(None, {21: "1"}) == []


def test_each_mark_has_the_probabilities_of_its_own_place(ordinal):
    pieces = list(SA)
    watched = [logs(_4=1.0) for _ in pieces]
    wanted = dict(zip(ASPECTS, (1, 2, 3, 4, 5, 1), strict=True))
    for name, at in mark_places("sa", SA).items():
        watched[at] = {str(wanted[name]): 0.0}
    assert ordinal.expectations("sa", SA, pieces, watched) == wanted
    # A tokenizer that joins a mark with its neighbour, or an answer in other words: nothing is touched.
    joined = [*pieces[:-3], "".join(pieces[-3:])]
    assert ordinal.expectations("sa", SA, joined, watched[: len(joined)]) == {}
    assert ordinal.expectations("sa", SA + ".", [*pieces, "."], [*watched, {}]) == {}
    # One mark without probability: the answer is not half one and half the other.
    watched[mark_places("sa", SA)[ASPECTS[0]]] = {}
    assert ordinal.expectations("sa", SA, pieces, watched) == {}


def test_the_engine_s_probabilities_are_those_of_a_plain_forward_pass(family):
    """Of the raw logits at the token's own place, whatever the sampling's temperature and whatever else is asked."""
    import torch

    from recipes.medgrpo.rollout.transformers_engine import SamplingSettings

    engine = family.opinionated()
    watched = tuple(engine.processor.tokenizer.convert_tokens_to_ids(list("012345")))
    requests = [family.request(0, seed=3), family.request(1, seed=4)]
    plain = engine.generate(requests, SamplingSettings(10, temperature=0.7))
    answers = engine.generate(requests, SamplingSettings(10, temperature=0.7, watched=watched))
    for request, answer, bare in zip(requests, answers, plain, strict=True):
        assert answer.token_ids == bare.token_ids and bare.watched == []
        ids, positions, inputs = family.actor_inputs(request, answer.token_ids)
        right = family.teacher_forced(engine.model, ids, positions, inputs, len(request.prompt_ids))
        torch.testing.assert_close(torch.tensor(answer.watched), right[:, list(watched)], atol=2e-4, rtol=1e-4)


@pytest.fixture
def torn(qwen2_5_vl, monkeypatch):
    """An engine that writes 5 for every aspect of skill, and finds 1 about as likely."""
    from recipes.medgrpo.rollout.transformers_engine import Answer, TransformersEngine

    said = ", ".join(f"{aspect}: 5/5" for aspect in ASPECTS)

    def generate(self, requests, settings):
        ids = [*self.processor.tokenizer.encode(said), self.end]
        one, five = self.processor.tokenizer.convert_tokens_to_ids(["1", "5"])
        values = [{one: log(0.4), five: log(0.45)}.get(token, -float("inf")) for token in settings.watched]
        return [Answer(ids, [], False, [values] * len(ids) if values else []) for _ in requests]

    monkeypatch.setattr(TransformersEngine, "generate", generate)
    return said


def test_the_command_writes_expectations_and_keeps_what_the_model_wrote(torn, qwen2_5_vl, tmp_path, capsys):
    from recipes.medgrpo.generate import main

    rows = [row for row in pq.read_table(qwen2_5_vl.data / "val.parquet").to_pylist() if row["ability"] == "sa"]
    assert rows
    output = tmp_path / "answers.jsonl"
    given = ["--model", qwen2_5_vl.path, "--data", qwen2_5_vl.data / "val.parquet", "--output", output]
    given = [*map(str, given), "--engine", "transformers", "--device", "cpu", "--tasks", "sa", "nap"]
    assert main([*given, "--ordinal", "expectation"]) == 0
    header, *lines = [json.loads(line) for line in output.read_text().splitlines()]
    marked = [line for line in lines if line["data_source"].endswith("/sa")]
    assert len(marked) == len(rows)
    for line in marked:
        # 1 x 0.4 / 0.85 + 5 x 0.45 / 0.85 = 3.1
        assert set(parse_sa(line["answer"]).value.values()) == {3} and line["sampled"] == torn
        assert line["expected"] == pytest.approx(dict.fromkeys(ASPECTS, 2.65 / 0.85))
    assert all("expected" not in line and line["answer"] == torn for line in lines if line not in marked)
    assert header["header"]["settings"]["engine"]["ordinal"] == "expectation"

    # Without the option these are other answers, and the former ones are kept.
    assert main(given) == 0
    header, *lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert all(line["answer"] == torn for line in lines) and "ordinal" not in header["header"]["settings"]["engine"]
    assert (tmp_path / "answers.former.jsonl").exists()


def test_evaluate_scores_the_expectations(torn, qwen2_5_vl, tmp_path, capsys):
    from recipes.medgrpo.evaluate import main

    rows = [row for row in pq.read_table(qwen2_5_vl.data / "val.parquet").to_pylist() if row["ability"] == "sa"]
    gold = [list(json.loads(row["reward_model"]["ground_truth"])["scores"].values()) for row in rows]
    given = ["sample", "--model", qwen2_5_vl.path, "--data", qwen2_5_vl.data / "val.parquet", "--tasks", "sa"]
    given = [*map(str, given), "--output", str(tmp_path), "--samples", "2"]

    def sampled(*more):
        assert main([*given, *more]) == 0
        [pair] = json.loads((tmp_path / "scores.json").read_text())["pairs"].values()
        header, *lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
        assert len(lines) == 2 * len(rows) == pair["n"]
        return pair["acc"], header["header"]["settings"]["engine"], lines

    accuracy, _, lines = sampled()
    assert accuracy == pytest.approx(np.mean(np.equal(gold, 5))) and "expected" not in lines[0]
    for _ in range(2):  # a second start takes up what is there, with all that is kept of an answer
        accuracy, engine, lines = sampled("--ordinal", "expectation")
        assert accuracy == pytest.approx(np.mean(np.equal(gold, 3))) and engine["ordinal"] == "expectation"
        for line in lines:
            assert set(parse_sa(line["answer"]).value.values()) == {3} and line["sampled"] == torn
            assert line["expected"] == pytest.approx(dict.fromkeys(ASPECTS, 2.65 / 0.85))
        capsys.readouterr()

    assert main([*given, "--ordinal", "expectation", "--engine", "rollout"]) == 2
    assert "--ordinal expectation: expected with --engine vllm or transformers" in capsys.readouterr().err


def test_answers_that_are_left_as_they_are_are_counted(ordinal):
    from recipes.medgrpo.inference.jobs import Reply

    marks = ordinal.Marks()
    watched = [logs(_1=1.0)] * len(CVS)
    assert marks.settle("cvs", Reply(CVS, False), list(CVS), watched).text == CVS.replace("2", "1").replace("0", "1")
    free = "The view is fine."
    assert marks.settle("cvs", Reply(free, False), list(free), watched[: len(free)]) == Reply(free, False)
    assert marks.notes() == ["cvs: 1 of 2 answers keep the marks that the model wrote: not the task's grammar"]


def test_engines_without_these_probabilities_are_refused(qwen2_5_vl, tmp_path, capsys):
    from recipes.medgrpo.generate import main

    given = ["--data", qwen2_5_vl.data / "val.parquet", "--output", tmp_path / "a.jsonl", "--engine", "endpoint"]
    given += ["--base-url", "http://127.0.0.1:9/v1", "--endpoint-model", "m", "--ordinal", "expectation"]
    assert main(list(map(str, given))) == 2
    assert "--ordinal expectation: expected with --engine vllm or transformers" in capsys.readouterr().err
