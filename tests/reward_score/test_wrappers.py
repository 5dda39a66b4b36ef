# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What stands around a right answer costs the format at most, and never a part of the answer."""

import html
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.answers import (
    ASPECTS,
    CVS_COMPONENTS,
    MAX_CHARS,
    PARSERS,
    Event,
    render_cvs,
    render_dvc,
    render_sa,
    render_stg,
    render_tal,
)
from reward_score.medgrpo import score_many
from reward_score.references import SAME
from reward_score.vocabularies import label_lists
from reward_score.wrappers import unwrapped, visible

EVENTS = [Event(0, 88, "the surgeon cuts the tissue"), Event(90, 95, "the assistant ties a knot")]
BOXES = {66.0: (100.0, 50.0, 300.0, 200.0), 74.0: (110.0, 60.0, 310.0, 210.0)}
CAPTION = "The surgeon dissects the gallbladder from the liver bed with a hook."
SKILLS = dict(zip(ASPECTS, (2, 1, 1, 2, 1, 3), strict=True))
RIGHT = {
    "tal": ("22.0-78.0, 89.0-94.0 seconds.", {"spans": [[22, 78], [89, 94]]}),
    "stg": (render_stg(BOXES), {"boxes": {str(t): list(b) for t, b in BOXES.items()}, "stride": 8}),
    "dvc": (render_dvc(EVENTS), {"events": [vars(e) for e in EVENTS]}),
    "nap": ("tying", {"label": "tying"}),
    "vs": (CAPTION, {"text": CAPTION}),
    "rc": (CAPTION, {"text": CAPTION}),
    "cvs": (
        render_cvs(dict(zip(CVS_COMPONENTS, (2, 1, 0), strict=True))),
        {"scores": dict(zip(CVS_COMPONENTS, (2, 1, 0), strict=True))},
    ),
    "sa": (render_sa(SKILLS), {"scores": SKILLS}),
}


def every_line(mark):
    return lambda s: "\n".join(mark + line for line in s.split("\n"))


WRAPPERS = {
    "answer": lambda s: f"<answer>{s}</answer>",
    "Answer": lambda s: f"<Answer>\n{s}\n</Answer>",
    "answer open": lambda s: f"<answer>{s}",
    "answer close": lambda s: f"{s}</answer>",
    "think": lambda s: f"<think>It may be 1.0-2.0 seconds: no.\nTwo structures: 0, tying</think>\n\n{s}",
    "think draft all": lambda s: f"<think>\nFirst draft: {s.replace('2', '1')}\n</think>\n<answer>{s}</answer>",
    "think no open": lambda s: f"draft {s.replace('2', '1')}</think>\n{s}",
    "thinking": lambda s: f"<thinking>hm 1.0-2.0 seconds</thinking>{s}",
    "fence": lambda s: f"```\n{s}\n```",
    "fence json": lambda s: f"```json\n{s}\n```",
    "fence text inline": lambda s: f"```{s}```",
    "tilde": lambda s: f"~~~\n{s}\n~~~",
    "backtick": lambda s: f"`{s}`",
    "bold": lambda s: f"**{s}**",
    "ital": lambda s: f"*{s}*",
    "under": lambda s: f"__{s}__",
    "bolditalic": lambda s: f"***{s}***",
    "uital": lambda s: f"_{s}_",
    "dq": lambda s: f'"{s}"',
    "sq": lambda s: f"'{s}'",
    "smart": lambda s: f"“{s}”",
    "smart1": lambda s: f"‘{s}’",
    "guill": lambda s: f"«{s}»",
    "bullet": every_line("- "),
    "star": every_line("* "),
    "dot": every_line("• "),
    "num": every_line("1. "),
    "num)": every_line("1) "),
    "(1)": every_line("(1) "),
    "endash bullet": every_line("– "),
    "quote >": every_line("> "),
    "two ends": lambda s: s + "<|im_end|><|im_end|>",
    "three": lambda s: s + "<|im_end|>\n<|endoftext|><|im_end|>",
    "/s": lambda s: s + "</s></s>",
    "eot": lambda s: s + "<|eot_id|>",
    "end_of_turn": lambda s: s + "<end_of_turn>",
    "eos": lambda s: s + "<eos>",
    "zw start": lambda s: "\u200b" + s,
    "zw every": lambda s: "\u200b".join(s),
    "bom": lambda s: "\ufeff" + s,
    "zw end": lambda s: s + "\u200b",
    "br": lambda s: s.replace("\n", "<br>") + "<br>",
    "br/": lambda s: s + "<br/>",
    "bang": lambda s: s + "!",
    "dotend": lambda s: s + ".",
    "semi": lambda s: s + ";",
    "fullstop": lambda s: s + "。",
    "ell": lambda s: s + "…",
    "?": lambda s: s + "?",
    "p": lambda s: f"<p>{s}</p>",
    "div b": lambda s: f"<div><b>{s}</b></div>",
    "xml": lambda s: f"<response><answer>{s}</answer></response>",
    "output": lambda s: f"<output>{s}</output>",
    "json": lambda s: json.dumps({"answer": s}),
    "json list": lambda s: json.dumps([s]),
    "json nested": lambda s: json.dumps({"result": {"answer": s}}),
    "py list": lambda s: f"['{s}']",
    "fence json obj": lambda s: "```json\n" + json.dumps({"answer": s}, indent=2) + "\n```",
    "boxed": lambda s: "\\boxed{" + s + "}",
    "boxtext": lambda s: "\\boxed{\\text{" + s + "}}",
    "glm": lambda s: f"<|begin_of_box|>{s}<|end_of_box|>",
    "role": lambda s: "assistant\n" + s,
    "role:": lambda s: "Assistant: " + s,
    "im_start": lambda s: "<|im_start|>assistant\n" + s + "<|im_end|>\n<|im_end|>",
    "crlf": lambda s: s.replace("\n", "\r\n") + "\r\n",
    "tab": lambda s: "\t" + s,
    "nl": lambda s: "\n\n" + s + "\n\n",
    "paren": lambda s: f"({s})",
    "brack": lambda s: f"[{s}]",
    "fence+bold": lambda s: f"```\n**{s}**\n```",
    "answer+quote": lambda s: f'<answer>"{s}"</answer>',
    "answer+fence": lambda s: f"<answer>\n```\n{s}\n```\n</answer>",
    "ans bold": lambda s: f"<answer>**{s}**</answer><|im_end|><|im_end|>",
    "answer attr": lambda s: f'<answer type="final">{s}</answer>',
    "text then answer": lambda s: f"Looking at the clip 1.0-2.0 seconds, I decide. <answer>{s}</answer>",
    "think empty": lambda s: f"<think>\n\n</think>\n\n{s}",
    "nbsp": lambda s: s.replace(" ", "\u00a0"),
    "lt": lambda s: html.escape(f"<answer>{s}</answer>", quote=False),
}
LEAD_INS = {
    "Answer:": lambda s: "Answer: " + s,
    "**Answer:**": lambda s: "**Answer:** " + s,
    "Answer:\n": lambda s: "Answer:\n" + s,
    "Final": lambda s: "Final answer: " + s,
    "### Answer": lambda s: "### Answer\n" + s,
    "The answer is": lambda s: "The answer is: " + s,
    "Answer nob": lambda s: "Answer:" + s,
}
CASES = [
    (task, name, wrap)
    for task in RIGHT
    for name, wrap in (WRAPPERS | (LEAD_INS if task not in ("vs", "rc") else {})).items()
]


@pytest.mark.parametrize("task", RIGHT)
def test_a_wrapper_around_a_right_answer_costs_the_format_at_most(task):
    text, truth = RIGHT[task]
    names = [(name, wrap) for other, name, wrap in CASES if other == task]
    rows = [(f"medvidbench/AVOS/{task}", wrap(text), json.dumps(truth), None) for _, wrap in names]
    for (name, _), row, result in zip(names, rows, score_many(rows), strict=True):
        assert result["acc"] == pytest.approx(1, abs=1e-3), (name, row[1])
        assert result["format"] >= 0.5, (name, row[1])


TENTHS = st.integers(0, 18_000).map(lambda n: n / 10)
COORD = st.integers(0, 200_000).map(lambda n: n / 100)
WORDS = st.lists(st.sampled_from("the hook cuts lifts liver duct clip it's post-op 30 (left)".split()), min_size=2)
LABELS = sorted({label for labels in label_lists().values() for label in labels})
DRAWN = {
    "tal": (st.lists(st.tuples(TENTHS, TENTHS), min_size=1, max_size=6), render_tal),
    "stg": (st.dictionaries(TENTHS, st.tuples(COORD, COORD, COORD, COORD), min_size=1, max_size=6), render_stg),
    "dvc": (
        st.lists(st.builds(Event, TENTHS, TENTHS, WORDS.map(lambda w: "cut " + " ".join(w))), min_size=1, max_size=5),
        render_dvc,
    ),
    "nap": (st.sampled_from(LABELS), str),
    "cvs": (st.fixed_dictionaries({name: st.integers(0, 2) for name in CVS_COMPONENTS}), render_cvs),
    "sa": (st.fixed_dictionaries({name: st.integers(1, 5) for name in ASPECTS}), render_sa),
}
# Marks at the end of an answer go to its last caption, where it has any.
NOT_OF_CAPTIONS = {"semi", "ell", "?", "bang", "dotend", "fullstop"}


def same(task, said, value):
    if task == "stg":
        return said == value
    return SAME[task](said, value, "")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(DRAWN)), st.data())
def test_any_right_answer_is_read_through_any_two_wrappers(task, data):
    values, render = DRAWN[task]
    value = data.draw(values)
    names = sorted(set(WRAPPERS) - (NOT_OF_CAPTIONS if task == "dvc" else set()) - {"zw every", "lt"})
    inner, outer = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(sorted(LAYERS)))
    text = WRAPPERS[outer](WRAPPERS[inner](render(value)))
    if any(mark in text for mark in ("[1.",)):
        return
    parsed = PARSERS[task](text)
    assert parsed.format >= 0.5, (inner, outer, text)
    if task == "dvc":
        assert [(e.start, e.end) for e in parsed.value] == [(e.start, e.end) for e in value], (inner, outer, text)
    else:
        assert same(task, parsed.value, value), (inner, outer, text, parsed)


LAYERS = {"answer", "think", "fence", "two ends", "zw start", "bold", "json", "role", "nl", "xml", "think no open", "p"}


@pytest.mark.parametrize("task", RIGHT)
def test_a_draft_is_not_the_answer(task):
    text = RIGHT[task][0]
    for draft in (f"<think>{text}</think>", f"{text}</think>", f"<think>{text}", f"<thinking>\n{text}\n</thinking>"):
        assert PARSERS[task](draft).format == 0, draft
    assert PARSERS[task](f"<think>I do not know</think>{text}").format == 0.5
    assert PARSERS[task](f"{text}<think>or is it").format == 0.5


def test_the_last_answer_element_is_the_answer():
    assert PARSERS["nap"]("<answer>cutting</answer> No: <answer>tying</answer>").value == "tying"
    assert PARSERS["tal"]("<answer>1.0-2.0 seconds.</answer>\n<answer>3.0-4.0 seconds.</answer>").value == [(3, 4)]


@pytest.mark.parametrize(
    "text",
    [
        "Angles < 30° and > 10° are avoided.",
        'The so-called "critical view" is shown, then "clips".',
        "1. The hook cuts. 2. The clip is placed.",
        "The blade [no. 11] cuts (twice).",
        "(Left) the liver, (right) the stomach.",
        "The hook cuts & coagulates...",
        "- The hook cuts.\n- The clip is placed.",
        "User",
    ],
)
def test_an_honest_caption_is_left_as_it_is(text):
    assert visible(text) == text
    assert PARSERS["vs"](text).format == 1


LONG = ["- ", "(", "[", "* ", '"', "```\n", "<answer>", "</think>", "<p>", "\\boxed{", "&lt;", "1. ", "**", "_a"]
LONG += ['{"a":', "<think>", "# ", "“", "!", "~~~", "\u200b", ".!"]


@pytest.mark.parametrize("unit", LONG)
def test_any_depth_of_wrappers_is_taken_off_in_time(unit):
    text = (unit * MAX_CHARS)[:MAX_CHARS]
    for parse in PARSERS.values():
        assert parse(text).format in (0, 0.5, 1)
        assert parse(text[:-9] + "tying").format in (0, 0.5, 1)
    assert len(unwrapped(text)) <= MAX_CHARS
