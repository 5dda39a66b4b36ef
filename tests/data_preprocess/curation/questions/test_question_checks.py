# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which facts and questions are dropped, and why; and what a second model is told of a lecture."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.annotations import parse_record
from data_preprocess.curation.model import Clip, Video
from data_preprocess.curation.questions.checks import Fact, KeepSettings, fact_reasons, find_quote, question_reasons
from data_preprocess.curation.questions.excerpts import Excerpt
from data_preprocess.curation.questions.models import Extractor, Writer
from data_preprocess.curation.questions.pipeline import good_facts, told
from data_preprocess.curation.questions.rows import question_row
from data_preprocess.curation.replies import read_reply
from data_preprocess.curation.rows.wordings import wordings
from data_preprocess.curation.transcripts import Segment
from reward_score.medgrpo import score_many
from reward_score.paid_call import CallMalformed

KEEP = KeepSettings()
SAID = "Now we lift the gallbladder with the grasper.\nThe cystic duct, you see, is free."
OPTIONS = {"base_url": "http://127.0.0.1:1/v1", "model": "nobody", "api_key": "none"}


def excerpt(*said: str, source: str = "AVOS") -> Excerpt:
    rate = 15.0 if source == "AVOS" else 2.0
    path = {"AVOS": "AVOS/frames_15fps/aB3/%d.jpg", "NurViD": "NurViD/frames_2fps/aB3/%06d.jpg"}[source]
    video = Video(source, "aB3", rate, 0, range(round(40 * rate)), path, (1280, 720), procedure="Bed Shampoo")
    clip = Clip(video, 1.0, tuple(range(0, round(20 * rate) + 1, round(rate))))
    return Excerpt(clip, tuple(Segment(5.0 * at, 5.0 * at + 4.6, text) for at, text in enumerate(said)))


def fact(text: str, quote: str, kind: str = "observation", said: str = SAID) -> Fact:
    return Fact(kind, text, quote, find_quote(said, quote))


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("lift the gallbladder with the grasper", "lift the gallbladder with the grasper"),
        ("LIFT the  gallbladder,\twith the grasper!", "lift the gallbladder with the grasper"),
        ("the grasper. The cystic duct", "the grasper.\nThe cystic duct"),
        ("The cystic duct ... is free", None),
        ("lift the gall", None),
        ("...", None),
        ("", None),
    ],
)
def test_a_quote_is_words_of_the_text_one_after_the_other(quote, found):
    place = find_quote(SAID, quote)
    assert (None if place is None else SAID[slice(*place)]) == found


@given(st.lists(st.sampled_from(["the", "duct", "is", "it's", "X-ray", "é"]), min_size=1, max_size=12), st.data())
def test_every_stretch_of_words_is_found_where_it_stands(words, data):
    text = " ".join(words)
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    place = find_quote(text, " ".join(words[start:end]))
    assert place is not None and text[slice(*place)].split() == words[start:end]
    assert find_quote(text, " ".join([*words[start:end], "liver"])) is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (fact("The grasper lifts the gallbladder.", "lift the gallbladder with the grasper"), []),
        (fact("The grasper lifts the gallbladder.", "we always use the grasper for that"), ["no_such_quote"]),
        (fact("The grasper lifts the gallbladder.", "the gallbladder"), ["quote_too_short"]),
        (fact("All of it is free.", "you see, is free"), ["nothing_named"]),
        (fact("All of it is free.", "you see, is free", "deduction"), []),
        (fact("The stapler is free.", "you see, is free", "plan"), ["names_what_is_not_said"]),
        (fact("The duct " * 40, "The cystic duct, you see", "reason"), ["length_of_fact"]),
    ],
)
def test_facts_that_the_lecture_does_not_say_are_dropped(given, why):
    assert fact_reasons(given, SAID, "cholecystectomy", KEEP) == why


GOOD = (fact("The grasper lifts the gallbladder.", "lift the gallbladder with the grasper"),)
ANSWER = "The grasper lifts the gallbladder."


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ((1, "What does the grasper do?", ANSWER), []),
        ((2, "What does the grasper do?", ANSWER), ["no_such_fact"]),
        ((0, "What does the grasper do?", ANSWER), ["no_such_fact"]),
        ((1, "What does the grasper do?", "The narrator says that the grasper lifts it."), ["forbidden_source"]),
        ((1, "What is said in the transcript?", ANSWER), ["forbidden_source"]),
        ((1, "What does the lecturer do?", ANSWER), ["forbidden_speaker_or_talk"]),
        ((1, "What does the image show?", ANSWER), ["forbidden_picture"]),
        ((1, "What does the grasper do?", "It lifts."), ["length_of_answer"]),
        ((1, "What?", ANSWER), ["length_of_question"]),
        ((1, "What does the grasper do?", "The scissors lift the gallbladder."), ["names_what_the_fact_does_not"]),
        ((1, "What do the scissors do?", ANSWER), ["names_what_the_fact_does_not"]),
    ],
)
def test_questions_that_say_more_than_their_fact_are_dropped(asked, why):
    given = dict(zip(("fact", "question", "answer"), asked, strict=True))
    assert question_reasons(given, GOOD, KEEP) == why


WORD = re.compile(r"\w+")
SENTENCES = st.lists(st.text("abcdefgh ", min_size=3, max_size=30), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(SENTENCES, st.lists(st.tuples(st.text("klmn ", min_size=1, max_size=20), st.integers(0, 40)), max_size=4))
def test_the_writer_is_told_the_facts_and_no_word_of_the_lecture(said, texts):
    """Its whole request is the prompt and the facts: the same facts of another lecture are the same request."""
    heard = excerpt(*said)
    words = heard.text.split() or ["a"]
    lists = {kind: [] for kind in ("observation", "reason", "plan", "deduction")}
    for text, at in texts:
        lists["reason"].append({"text": text.strip() or "k", "quote": " ".join((words * 5)[at : at + 6])})
    facts = good_facts(heard, {"key": "k", "said": lists}, KEEP)
    writer = Writer(**OPTIONS)
    empty, sent = (WORD.findall(writer.user_text(told(some))) for some in ((), facts))
    named = [word for number, one in enumerate(facts, 1) for word in (str(number), one.kind, *WORD.findall(one.text))]
    assert sent == [*empty, *named]


def test_words_of_the_lecture_are_in_the_first_request_and_not_in_the_second():
    heard = excerpt("We lift the gallbladder with the grasper because zebras gallop.")
    extractor, writer = Extractor(**OPTIONS), Writer(**OPTIONS)
    said = {
        "observation": [
            {"text": "The grasper lifts the gallbladder.", "quote": "lift the gallbladder with the grasper"}
        ],
        **{kind: [] for kind in ("reason", "plan", "deduction")},
    }
    facts = good_facts(heard, {"key": "k", "said": said}, KEEP)
    assert "zebras" in extractor.user_text(heard) and heard.text in extractor.user_text(heard)
    assert writer.user_text(told(facts)) == "Facts:\n1 observation: The grasper lifts the gallbladder."


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"observation": [], "reason": [], "plan": []}',
        '{"observation": [], "reason": [], "plan": [], "deduction": [], "more": 1}',
        '{"observation": [{"text": "", "quote": "a"}], "reason": [], "plan": [], "deduction": []}',
        '{"observation": ["a"], "reason": [], "plan": [], "deduction": []}',
        "<html>",
        "[]",
    ],
)
def test_a_reply_of_another_form_is_none(text):
    with pytest.raises(CallMalformed) as raised:
        read_reply(Extractor.FORM, text, Extractor.EXPECTED)
    assert "html" not in str(raised.value)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["AVOS", "NurViD"]),
    st.text(min_size=1, max_size=60).filter(lambda text: text.strip() and text.isprintable()),
    st.lists(st.sampled_from("the surgeon ties a knot with silk, then cuts it".split()), min_size=3, max_size=40),
    st.sampled_from(["observation", "reason", "plan", "deduction"]),
)
def test_every_row_is_read_and_its_answer_earns_full_marks(source, question, words, kind):
    heard = excerpt("The surgeon ties a knot with silk.", "Then it is cut.", source=source)
    about = Fact(kind, "x", "then it is cut", find_quote(heard.text, "then it is cut"))
    asked = {"fact": 1, "question": question, "answer": " ".join(words)}
    row = question_row(heard, about, asked, wordings())
    try:
        sample = parse_record(json.loads(json.dumps(row)), "questions.json", 0)
    except ValueError as error:  # marks that no row may hold; such a question is dropped
        assert "control tokens" in str(error)
        return
    assert (sample.pair, sample.flags) == (f"medvidbench/{source}/qa", ())
    assert sample.question.endswith(question.strip()) and row["struc_info"] == [
        {"kind": kind, "start": 5.0, "end": 9.6}
    ]
    [scored] = score_many([(sample.pair, sample.answer, json.dumps(sample.ground), None)])
    assert scored["acc"] == pytest.approx(1.0, abs=1e-6) and scored["format"] == 1
