# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Our forward pass of all-MiniLM-L6-v2 against the library that defines it.

The reward does not import sentence-transformers: beside a CPU build of torch its import needs torchvision's compiled
part, which is not there. The tests can import it, because `torchvision_ops` declares what is missing.
"""

import numpy as np

import recipes.medgrpo.cpu.torchvision_ops  # noqa: F401
from reward_score.similarity import SentenceEncoder, packaged_model

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
