# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Prompts: the question as given, the answer's format in the words of the reward's grammar."""

from __future__ import annotations

from collections import Counter

import pytest

from data_preprocess.chat import RESPONSE_TOKENS, SYSTEM_MODES, UNSTATED, build_prompt, example_answer, formats
from reward_score.answers import ASPECTS, CVS_COMPONENTS, CVS_NAMES, PARSERS, parse_cvs, parse_sa
from reward_score.conventions import CONVENTIONS

TASKS = sorted(PARSERS)
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5")
QUESTION = "You are an expert.  Which of ['tying', 'cutting'] comes next?\nÄ {braces} 50 %"


def system_of(prompt):
    """The system message, "" where there is none."""
    return prompt[0]["content"] if prompt[0]["role"] == "system" else ""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", SYSTEM_MODES)
@pytest.mark.parametrize("one_shot", [False, True])
def test_the_question_stands_as_given_after_the_one_clip(task, mode, one_shot):
    prompt = build_prompt(task, QUESTION, system=mode, one_shot=one_shot, key="a.json\0" + "3")
    assert prompt[-1] == {"role": "user", "content": f"<video>\n{QUESTION}"}
    assert "".join(turn["content"] for turn in prompt).count("<video>") == 1
    assert [turn["role"] for turn in prompt] in (["user"], ["system", "user"])


def test_who_gets_a_system_message():
    stated = {mode: [t for t in TASKS if system_of(build_prompt(t, QUESTION, system=mode))] for mode in SYSTEM_MODES}
    assert stated == {"none": [], "missing": ["cvs", "qa", "sa", "vs"], "all": TASKS}
    assert sorted(UNSTATED) == stated["missing"]


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match="system: expected one of none, missing, all, found 'some'"):
        build_prompt("tal", QUESTION, system="some")


def test_every_family_has_every_task_and_only_boxes_differ():
    assert sorted(CONVENTIONS) == sorted(FAMILIES)
    assert all(sorted(formats(family)) == TASKS for family in FAMILIES)
    differ = [task for task in TASKS if formats("qwen2_5_vl")[task] != formats("qwen3_vl")[task]]
    assert differ == ["stg"]
    assert "pixels of the video frame" in formats("qwen2_5_vl")["stg"]
    assert "0 to 1000" in formats("qwen3_vl")["stg"]
    assert formats("qwen3_5") == formats("qwen3_vl")


def as_answer(form):
    """What a format line asks for, with its placeholders filled in."""
    texts = {"<start>": "1.0", "<end>": "2.5", "<time>": "4.0", "<description>": "a cut", "<score>": "1"}
    texts |= {"<left>": "1.0", "<top>": "2.0", "<right>": "3.5", "<bottom>": "4.0"}
    answer = form.rpartition("in this form: ")[2]
    for name, text in texts.items():
        answer = answer.replace(name, text)
    return answer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", ["tal", "stg", "dvc", "sa", "cvs"])
def test_the_form_that_is_asked_for_is_the_form_that_is_read(task, family):
    answer = as_answer(formats(family)[task])
    assert "<" not in answer
    # A box a time: the second stands for another time.
    answer = answer.replace("] 4.0 seconds", "] 8.0 seconds")
    assert PARSERS[task](answer).format == 1


@pytest.mark.parametrize("task", TASKS)
def test_every_example_is_whole_grammar(task):
    for row in range(40):
        example = example_answer(task, seed=1, key=str(row))
        assert PARSERS[task](example).format == 1
        prompt = build_prompt(task, QUESTION, system="all", one_shot=True, seed=1, key=str(row))
        assert system_of(prompt).endswith("\n" + example)


def test_an_example_needs_no_format_line():
    prompt = build_prompt("cvs", QUESTION, system="none", one_shot=True)
    assert system_of(prompt) == f"Example of an answer's form:\n{example_answer('cvs', 0, '')}"


def test_the_cvs_example_has_no_favourite():
    """5,400 rows, 27 triples, 200 each: a uniform draw stays within 60 of that (4.3 standard deviations)."""
    drawn = Counter(tuple(parse_cvs(example_answer("cvs", 3, f"f.json\0{row}")).value.values()) for row in range(5_400))
    assert len(drawn) == 27
    assert all(abs(count - 200) < 60 for count in drawn.values())


def test_every_score_of_the_skill_example_is_drawn_for_itself():
    scores = [parse_sa(example_answer("sa", 3, str(row))).value for row in range(2_000)]
    for aspect in ASPECTS:
        counts = Counter(row[aspect] for row in scores)
        assert sorted(counts) == [1, 2, 3, 4, 5] and all(abs(count - 400) < 80 for count in counts.values())
    same = sum(row[ASPECTS[0]] == row[ASPECTS[1]] for row in scores)
    assert 300 < same < 500


def test_examples_depend_on_seed_and_row_alone():
    drawn = [example_answer("cvs", seed, key) for seed in range(4) for key in "abcd"]
    assert drawn == [example_answer("cvs", seed, key) for seed in range(4) for key in "abcd"]
    assert len(set(drawn[:4])) > 1 and len(set(drawn[::4])) > 1


def test_every_task_has_an_answer_budget():
    assert sorted(RESPONSE_TOKENS) == TASKS
    assert (RESPONSE_TOKENS["stg"], RESPONSE_TOKENS["tal"], RESPONSE_TOKENS["sa"]) == (256, 128, 64)


def test_components_are_named_as_answers_name_them():
    assert all(CVS_NAMES[name] in formats("qwen3_vl")["cvs"] for name in CVS_COMPONENTS)
    assert all(aspect in formats("qwen3_vl")["sa"] for aspect in ASPECTS)
