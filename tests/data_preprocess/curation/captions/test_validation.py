# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is rejected, and why."""

from __future__ import annotations

import pytest
from captioned import context_of
from hypothesis import given
from hypothesis import strategies as st

from data_preprocess.curation.captions.captioner import read_caption, read_events
from data_preprocess.curation.captions.context import Context, Labelled, Region
from data_preprocess.curation.captions.validation import KeepSettings, reasons
from data_preprocess.curation.captions.words import named
from data_preprocess.curation.model import Clip, Video
from reward_score.paid_call import CallMalformed

VIDEO = Video("CholecT50", "VID01", 1.0, 0, range(100), "%06d.png", (854, 480))
CLIP = Clip(VIDEO, 1.0, tuple(range(60)))
LABELS = (
    Labelled(0.0, 29.0, "phase", "gallbladder-dissection", event=True),
    Labelled(0.0, 20.0, "triplet", "hook dissect gallbladder"),
    Labelled(30.0, 59.0, "phase", "cleaning-and-coagulation", event=True),
    Labelled(40.0, 50.0, "triplet", "bipolar coagulate liver"),
)
KNOWN = ("hook dissect gallbladder", "bipolar coagulate liver", "scissors cut cystic_duct", "clipping-and-cutting")
DENSE = Context("dvc", CLIP, (), LABELS, known=KNOWN)
REGION = Region(0, (0, 0, 9, 9), "hook", 0.0, 20.0, (("operator", "MSRH"),))
REGIONAL = Context("rc", CLIP, (), LABELS[:2], REGION, known=KNOWN)
GOOD = "The hook dissects the gallbladder from its bed."
AFTER = "The bipolar coagulates the liver bed until it is dry."


def dense(first: str = GOOD, second: str = AFTER, **times: float) -> dict:
    events = [{"start": 0.0, "end": 29.0, "caption": first}, {"start": 30.0, "end": 59.0, "caption": second}]
    events[1].update(times)
    return {"events": events}


def test_what_the_labels_say_is_kept():
    assert reasons(DENSE, dense(), KeepSettings()) == []
    assert reasons(REGIONAL, {"caption": GOOD}, KeepSettings()) == []


@pytest.mark.parametrize(
    ("caption", "why"),
    [
        ("The scissors dissect the gallbladder.", ["conflict_instruments"]),
        ("The bipolar dissects the gallbladder here.", ["conflict_instruments"]),
        ("The hook cuts the gallbladder off its bed.", ["conflict_verbs"]),
        ("The hook dissects the cystic duct carefully.", ["conflict_anatomy"]),
        ("The stapler and the hook dissect the gallbladder.", ["unknown_instrument"]),
        ("The image shows a hook that dissects the gallbladder.", ["forbidden_picture"]),
        ("The hook in the green box dissects the gallbladder.", ["forbidden_drawing"]),
        ("As the annotation says, the hook dissects the gallbladder.", ["forbidden_source"]),
        ("Surgery.", ["length"]),
        ("The hook " + "dissects and " * 90, ["length"]),
    ],
)
def test_a_reason_for_each_thing_that_is_wrong(caption, why):
    assert reasons(DENSE, dense(caption), KeepSettings()) == why


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ({"start": 33.0}, "times_not_of_the_labels"),
        ({"start": 59.0, "end": 30.0}, "times_outside_the_clip"),
        ({"end": 75.0}, "times_outside_the_clip"),
    ],
)
def test_times_are_those_of_the_labels_and_inside_the_clip(times, why):
    assert reasons(DENSE, dense(**times), KeepSettings()) == [why]
    assert reasons(DENSE, {"events": dense()["events"][:1]}, KeepSettings()) == ["times_not_of_the_labels"]
    assert reasons(DENSE, dense(start=30.9), KeepSettings()) == []


def test_a_region_has_to_be_named():
    assert reasons(REGIONAL, {"caption": "The instrument dissects the gallbladder."}, KeepSettings()) == [
        "region_not_named"
    ]


def test_an_instrument_that_no_label_knows_may_be_flagged_instead():
    caption = "The stapler and the hook dissect the gallbladder."
    assert reasons(DENSE, dense(caption), KeepSettings(unknown_instrument="flag")) == ["flag:unknown_instrument"]


def test_words_that_labels_say_nothing_of_contradict_nothing():
    silent = Context("vs", CLIP, (), (Labelled(0, 59, "phase", "preparation"),), known=KNOWN)
    caption = "The surgeon prepares the field, and the hook is brought near the liver while the assistant holds still."
    assert reasons(silent, {"caption": caption}, KeepSettings()) == []


@pytest.mark.parametrize("text", ["Needle_holder", "needle driver", "the Needle Drivers"])
def test_spellings_of_an_instrument_are_one(text):
    assert named("instruments", [text]) == {"needle holder"}


def test_no_word_is_found_inside_of_another():
    assert named("verbs", ["an acute liver, cutaneous"]) == set()
    assert named("instruments", ["she is hooked on it"]) == {"hook"}


def test_every_label_of_the_synthetic_sources_agrees_with_itself():
    for source in ("CholecT50", "CoPESD", "EgoSurgery", "NurViD", "AVOS"):
        context = context_of(source, "dvc")
        said = [f"One sees this for a while now: {label.text}." for label in context.events]
        events = [
            {"start": label.start, "end": label.end, "caption": text}
            for label, text in zip(context.events, said, strict=True)
        ]
        assert reasons(context, {"events": events}, KeepSettings()) == []


# --- replies ---------------------------------------------------------------------------------------------------------


def test_replies_are_read_as_they_come():
    assert read_caption('{"caption": " A\\nhook. "}') == {"caption": "A hook."}
    assert read_caption('<think>{"caption": "no"}</think>```json\n{"caption": "yes"}\n```') == {"caption": "yes"}
    assert read_events('{"events": [{"start": 1, "end": 2.5, "caption": "A."}]}') == {
        "events": [{"caption": "A.", "start": 1.0, "end": 2.5}]
    }


@pytest.mark.parametrize(
    "reply",
    [
        *("", "A hook.", "[]", "<html>busy</html>", '{"caption": ""}', '{"caption": 3}', '{"caption": "\\u200b"}'),
        *('{"text": "a"}', '{"caption": "a"} {"caption": "b"}'),
    ],
)
def test_what_is_no_caption_is_malformed(reply):
    with pytest.raises(CallMalformed):
        read_caption(reply)


@pytest.mark.parametrize(
    "reply",
    [
        *('{"events": []}', '{"events": [{"start": 1, "end": 2}]}', '{"events": [[1, 2, "a"]]}'),
        *(
            '{"events": [{"start": true, "end": 2, "caption": "a"}]}',
            '{"events": [{"start": -1, "end": 2, "caption": "a"}]}',
        ),
        *(
            '{"events": [{"start": "1", "end": 2, "caption": "a"}]}',
            '{"events": [{"start": NaN, "end": 2, "caption": "a"}]}',
        ),
    ],
)
def test_what_are_no_events_is_malformed(reply):
    with pytest.raises(CallMalformed):
        read_events(reply)


@given(st.text(max_size=60))
def test_no_reply_is_too_odd(text):
    for read in (read_caption, read_events):
        try:
            read(text)
        except CallMalformed as error:
            assert not text.strip() or len(text) < 4 or text not in str(error)
