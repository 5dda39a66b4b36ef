# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Component scores, and labels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.errors import BadGroundTruth
from reward_score.ordinal import closeness, exact_share
from reward_score.vocabularies import aliases, fold_label, label_lists, same_label

GOLD = {"a": 2, "b": 1, "c": 0}


@pytest.mark.parametrize(
    ("predicted", "exact", "close"),
    [
        ({"a": 2, "b": 1, "c": 0}, 1, 1),
        ({"a": 2, "b": 1, "c": 1}, 2 / 3, 2.5 / 3),
        ({"a": 0, "b": 0, "c": 2}, 0, 0.5 / 3),
        ({"a": 2}, 1 / 3, 1 / 3),
        ({"x": 2}, 0, 0),
        ({}, 0, 0),
    ],
)
def test_components(predicted, exact, close):
    assert exact_share(predicted, GOLD) == pytest.approx(exact)
    assert closeness(predicted, GOLD, 2) == pytest.approx(close)


SCORES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1)


@settings(max_examples=80, deadline=None)
@given(SCORES, SCORES, st.data())
def test_bounded_and_leaving_out_never_pays(predicted, gold, data):
    exact, close = exact_share(predicted, gold), closeness(predicted, gold, 4)
    assert 0 <= exact <= close <= 1
    assert (exact == 1) == (close == 1) == all(predicted.get(key) == score for key, score in gold.items())
    key = data.draw(st.sampled_from(sorted(predicted)))
    fewer = {name: score for name, score in predicted.items() if name != key}
    assert exact_share(fewer, gold) <= exact
    assert closeness(fewer, gold, 4) <= close


def test_no_gold():
    for call in (lambda: exact_share({"a": 1}, {}), lambda: closeness({"a": 1}, {}, 2)):
        with pytest.raises(BadGroundTruth):
            call()


@pytest.mark.parametrize(
    ("predicted", "gold", "source", "same"),
    [
        ("tying", "tying", "AVOS", True),
        (" Tying. ", "tying", "AVOS", True),
        ("Carlot triangle dissection", "carlot-triangle-dissection", "CholecT50", True),
        ("clipping - and - cutting", "clipping-and-cutting", "CholecT50", True),
        ("save electrocardiogram / ECG results", "Save electrocardiogram (ECG) results", "NurViD", True),
        ("Lift-flap with forceps", "lift flap with forceps", "CoPESD", True),
        ("Hold flap, with forceps", "Stabilize flap with forceps", "CoPESD", True),
        ("t-y-i-n-g", "tying", "AVOS", False),
        ("suturing", "tying", "AVOS", False),
        ("tying tying", "tying", "AVOS", False),
        ("tie", "tying", "AVOS", False),
        ("lift  flap\twith forceps", "lift flap with forceps", "CoPESD", True),
        ("hold flap with forceps", "stabilize flap with forceps", "CoPESD", True),
        ("hold flap with forceps", "stabilize flap with forceps", "AVOS", False),
        ("calot-triangle-dissection", "carlot-triangle-dissection", "CholecT50", False),
        ("cutting, tying, suturing", "tying", "AVOS", False),
        ("", "tying", "AVOS", False),
        ("...", "...", "AVOS", False),
    ],
)
def test_labels(predicted, gold, source, same):
    assert same_label(predicted, gold, source) is same


@pytest.mark.parametrize("name", label_lists())
def test_folding_keeps_the_labels_of_every_list_apart(name):
    labels = label_lists()[name]
    source = name.partition(":")[0]
    assert len({fold_label(label, source) for label in labels}) == len(set(labels)) == len(labels)
    for label in labels:
        assert same_label(label.upper().replace("-", " "), label, source)
        assert [other for other in labels if same_label(other, label, source)] == [label]


def test_the_known_lists():
    assert len(label_lists()["CholecT50"]) == 7
    assert len(label_lists()["NurViD: Oral Care for Unconscious Patients"]) == 9
    assert "EgoSurgery" not in label_lists()


def test_an_alias_means_a_label_of_its_list():
    labels = {fold_label(label) for label in label_lists()["CoPESD"]}
    assert set(aliases("CoPESD").values()) <= labels
    assert aliases("AVOS") == {}
