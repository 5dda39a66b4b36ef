# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The offline judge: what it must never reward, and that it says what it is."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.errors import BadGroundTruth
from reward_score.judge import DIMENSIONS, Judgement, OfflineJudge
from reward_score.judge.lexicon import stem

JUDGE = OfflineJudge()
REFERENCE = "The grasper dissects the cystic duct in the upper right quadrant."
LONG_REFERENCE = (
    "The surgeon retracts the gallbladder with a grasper while the hook dissects the cystic duct. "
    "A clip is then placed on the cystic artery, and no bleeding is visible."
)


def mean(prediction: str, reference: str = REFERENCE) -> float:
    return JUDGE.compare(prediction, reference).mean


# Words without negations, half of which references know, so that overlaps happen by chance.
WORDS = st.sampled_from(
    "the a grasper hook dissects dissecting cuts cystic duct artery gallbladder is visible upper right tissue slowly "
    "bleeding clip placed tool area quadrant procedure 2 mm".split()
)
TEXTS = st.lists(WORDS, min_size=1, max_size=25).map(" ".join)


def test_the_interface_is_the_one_of_every_judge():
    judgement = asyncio.run(JUDGE.score(REFERENCE, REFERENCE, task="rc", question="What happens?"))
    assert judgement == JUDGE.compare(REFERENCE, REFERENCE)
    assert judgement.judge == JUDGE.name == "offline-lexical-v2"
    assert judgement.usage is None
    assert judgement.as_dict()["mean"] == judgement.mean


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_text_is_as_close_as_can_be_to_itself(text):
    assert JUDGE.compare(text, text).scores() == dict.fromkeys(DIMENSIONS, 5.0)


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_gets_scores_of_1_to_5_the_same_every_time(prediction, reference):
    try:
        judgement = JUDGE.compare(prediction, reference)
    except BadGroundTruth:
        assert not any(c.isalnum() for c in reference)
        return
    assert all(1 <= score <= 5 for score in judgement.scores().values())
    assert judgement == JUDGE.compare(prediction, reference)


@pytest.mark.parametrize("blank", ["", " \n\t", "...", "-- !?"])
def test_a_blank_prediction_is_the_worst_and_a_blank_reference_is_bad_data(blank):
    assert JUDGE.compare(blank, REFERENCE) == Judgement.lowest(JUDGE.name)
    with pytest.raises(BadGroundTruth):
        JUDGE.compare(REFERENCE, blank)


def test_nothing_in_common_is_the_worst_too():
    assert mean("Someone walks along a sunny beach.") == 1.0


def test_upper_case_and_punctuation_make_no_difference():
    assert mean("THE GRASPER -- dissects the: cystic duct (in the upper right quadrant)!!!") == 5.0
    assert mean("The hook isn’t moving", "the hook isn't moving.") == 5.0


@given(TEXTS, TEXTS, st.integers(2, 4))
@settings(max_examples=200, deadline=None)
def test_saying_it_again_never_helps(prediction, reference, times):
    once = JUDGE.compare(prediction, reference).scores()
    again = JUDGE.compare(". ".join([prediction] * times), reference).scores()
    assert all(again[name] <= once[name] + 1e-12 for name in DIMENSIONS)


PADDING = "xylophone bluish carefully cholangiopancreatography forceps liver suturing rotated the of and".split()
STOP_WORDS = {"the", "of", "and"}


@given(TEXTS, TEXTS, st.lists(st.sampled_from(PADDING), min_size=1, max_size=20), st.booleans())
@settings(max_examples=200, deadline=None)
def test_words_that_the_reference_lacks_never_help(prediction, reference, padding, in_front):
    padding = [word for word in padding if word not in reference.split() or word in STOP_WORDS]
    if not set(reference.split()) - {"the", "a", "is"}:
        return  # a reference of function words only is compared by these
    parts = [*padding, prediction] if in_front else [prediction, *padding]
    plain = JUDGE.compare(prediction, reference).scores()
    if not set(prediction.split()) - {"the", "a", "is"}:
        return
    padded = JUDGE.compare(" ".join(parts), reference).scores()
    assert all(padded[name] <= plain[name] + 1e-12 for name in DIMENSIONS)


def test_repetition_and_padding_cost():
    assert mean(f"{REFERENCE} {REFERENCE}") < 4.5
    assert mean(REFERENCE + " This is a very careful, precise and important surgical procedure.") < 4.5
    assert mean(" ".join([REFERENCE] * 200)) < mean(f"{REFERENCE} {REFERENCE}")


def test_a_bag_of_keywords_is_below_the_sentence_and_below_a_paraphrase():
    bag = "quadrant, right, upper, duct, cystic, dissects, grasper"
    assert mean(bag) < mean("A grasper is dissecting the cystic duct in the right upper quadrant.") < 5
    assert mean("grasper") < 2


@given(st.permutations(REFERENCE.rstrip(".").split()))
@settings(max_examples=60, deadline=None)
def test_the_same_words_in_another_order_never_get_full_marks(words):
    functions = {"The", "the", "in"}
    in_order = [word for word in words if word not in functions]
    right = [word for word in REFERENCE.rstrip(".").split() if word not in functions]
    assert (mean(" ".join(words)) == 5.0) == (in_order == right)


def test_what_is_moved_behind_its_first_mention_is_noticed():
    reference = "The grasper lifts the liver and the hook cuts the duct, then the hook lifts the duct."
    assert mean(reference.replace("the hook lifts the duct.", "the duct lifts the hook."), reference) < 5


@pytest.mark.parametrize(("said", "meant"), [("up", "down"), ("before", "after"), ("over", "under")])
def test_directions_are_content(said, meant):
    assert mean(f"The hook pulls {said} the duct.", f"The hook pulls {meant} the duct.") < 5


def test_the_vague_description_of_the_papers_pair_is_far_off():
    assert mean("The tool grasps tissue in the upper area") < 2


def test_each_dimension_notices_its_own_kind_of_error():
    def lost(prediction: str) -> dict[str, float]:
        return {name: 5 - score for name, score in JUDGE.compare(prediction, REFERENCE).scores().items()}

    instrument = lost(REFERENCE.replace("grasper", "scissors"))
    assert max(instrument, key=instrument.get) == "instruments_anatomy"
    action = lost(REFERENCE.replace("dissects", "washes"))
    assert max(action, key=action.get) == "action_state"
    vague = lost("The grasper dissects the cystic duct.")
    assert vague["specificity"] > vague["terminology"]


def test_the_opposite_is_not_the_same():
    opposite = JUDGE.compare("The grasper does not dissect the cystic duct in the upper right quadrant.", REFERENCE)
    assert opposite.action_state < 3
    bleeding = LONG_REFERENCE.replace("no bleeding", "bleeding")
    assert JUDGE.compare(bleeding, LONG_REFERENCE).action_state < 5
    assert mean(LONG_REFERENCE.replace("no bleeding", "not any bleeding"), LONG_REFERENCE) > mean(
        bleeding, LONG_REFERENCE
    )


def test_very_long_texts_are_read_up_to_a_limit():
    assert 1 <= mean("cut " * 1_000_000 + REFERENCE) < 1.5
    assert 1 <= mean("x" * 1_000_000) == 1.0


@pytest.mark.parametrize(
    "forms",
    ["grasps grasped grasping grasp", "clips clipped clipping clip", "cauterizes cauterized cauterizing cauterize"]
    + ["tissue tissues", "biopsy biopsies", "pass passes passing passed", "surgeon's surgeon"],
)
def test_forms_of_a_word_meet(forms):
    assert len({stem(word) for word in forms.split()}) == 1


@pytest.mark.parametrize("bad", [0, 5.01, float("nan"), "3", None, True])
def test_a_judgement_holds_only_numbers_of_1_to_5(bad):
    with pytest.raises(ValueError, match="specificity"):
        Judgement(1, 2, bad, 4, 5, judge="x")


def test_the_mean_is_over_all_five():
    assert Judgement(1, 2, 3, 4, 5, judge="x").mean == 3
    assert Judgement(5, 1, 1, 1, 1, judge="x").mean == pytest.approx(1.8)
