# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Our forward pass of all-MiniLM-L6-v2 against the library that defines it.

The reward does not import sentence-transformers: beside a CPU build of torch its import needs torchvision's compiled
part, which is not there. The tests can import it, because `torchvision_ops` declares what is missing.
"""

import builtins
import json
import shutil

import numpy as np
import pytest
import torch

import recipes.medgrpo.rollout.cpu.torchvision_ops  # noqa: F401
from reward_score.errors import EmbeddingUnavailable
from reward_score.similarity import SentenceEncoder, open_encoder, packaged_model
from reward_score.similarity.encoders import LibraryEncoder

TEXTS = [
    "The surgeon dissects the triangle around the cystic duct.",
    "moisten hair",
    "A" * 4000,
    "Bleeding is controlled.\nThe field is clear.",
    "胆囊 を牽引する",
]


def test_embeddings_are_those_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(packaged_model()), device="cpu").encode(TEXTS, normalize_embeddings=True)
    ours = np.asarray(SentenceEncoder(packaged_model())(TEXTS))
    ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A tiny model of another architecture, with random weights, that pools its first token."""
    from transformers import DistilBertConfig, DistilBertModel

    folder = tmp_path_factory.mktemp("models") / "other"
    torch.manual_seed(0)
    DistilBertModel(
        DistilBertConfig(vocab_size=30_522, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64)
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copyfile(packaged_model() / name, folder / name)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    for name, content in {
        "1_Pooling/config.json": pooling,
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_another_architecture_runs_on_the_library(other):
    from transformers import DistilBertModel

    texts = ["The duct is clipped.", "knot"]
    encoder = open_encoder(str(other), "cpu")
    assert isinstance(encoder, LibraryEncoder)
    model, tokenizer = DistilBertModel.from_pretrained(other).eval(), SentenceEncoder(packaged_model())._tokenizer
    with torch.inference_mode():
        first = [
            model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0, 0].double().numpy() for text in texts
        ]
    expected = np.stack([vector / np.linalg.norm(vector) for vector in first])
    np.testing.assert_allclose(encoder(texts), expected, atol=1e-5)


def test_without_the_library_its_name_is_told(other, monkeypatch):
    importing = builtins.__import__

    def without(name, *arguments, **more):
        if name.startswith("sentence_transformers"):
            raise RuntimeError("operator torchvision::nms does not exist")
        return importing(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EmbeddingUnavailable, match="sentence-transformers.*torchvision::nms"):
        open_encoder(str(other), "cpu")
