# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Sentence embeddings from an OpenAI-compatible ``/embeddings`` endpoint; `server` is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urldefrag, urlsplit

import numpy as np

from ..errors import EmbeddingUnavailable, TextRejected

KEY_VARIABLE = "MEDGRPO_EMBEDDING_API_KEY"
TEXTS_PER_REQUEST = 32
"""The least limit that is about."""
REJECTED = (400, 413, 422)
"""Of a request that the endpoint understood and does not take: one of its texts may be why."""
TIMEOUT_S = 60.0
RETRIES = 4
"""Of a request that an endpoint did not answer or answered with 408, 409, 429 or 5xx; waits grow from 0.5 to 8 s."""


def is_endpoint(encoder: str) -> bool:
    """Whether the text names an endpoint, and not a folder or a model of the hub."""
    return encoder.startswith(("http://", "https://"))


class RemoteEncoder:
    """An OpenAI-compatible ``/embeddings`` endpoint.

    Texts are sent as they are, so a text beyond the endpoint's limit is the endpoint's to deal with; ours deals with
    it as the local encoder does. The key, if the endpoint wants one, comes from the environment
    (``MEDGRPO_EMBEDDING_API_KEY``) and gets into no message.

    Args:
        url: ``http(s)://host:port/v1``, with ``#model`` where the endpoint serves several.
        retries: how often a failed request is repeated.
        timeout_s: seconds of silence after which a request has failed.

    Raises:
        EmbeddingUnavailable: no usable address, or the endpoint does not say what it serves.
    """

    def __init__(self, url: str, *, retries: int = RETRIES, timeout_s: float = TIMEOUT_S) -> None:
        self.url, self.model = urldefrag(url)
        parts = urlsplit(self.url)
        if parts.username or parts.password or parts.query:
            raise EmbeddingUnavailable(f"encoder: the address holds credentials or a query: use {KEY_VARIABLE}")
        if not parts.hostname:
            raise EmbeddingUnavailable(f"encoder {url!r}: expected http(s)://host:port/v1")
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        self._dimension: int | None = None
        try:
            from openai import OpenAI
        except ImportError as error:
            raise EmbeddingUnavailable(f"encoder {self.url}: the package openai cannot be imported: {error}") from error
        # The client insists on some key, and would else send the one of another service.
        self._client = OpenAI(api_key=self._key or "none", base_url=self.url, max_retries=retries, timeout=timeout_s)
        self.model = self.model or self._guarded(self._only_model)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of n texts as a float64 array (n, d).

        Raises:
            EmbeddingUnavailable: no answer after all retries, or one that is not n finite vectors of one dimension.
            TextRejected: the endpoint does not take one of the texts.
        """
        parts = [texts[start : start + TEXTS_PER_REQUEST] for start in range(0, len(texts), TEXTS_PER_REQUEST)]
        return np.concatenate([self._guarded(partial(self._vectors, part)) for part in parts])

    def _only_model(self) -> str:
        names = [str(model.id) for model in self._client.models.list().data]
        if len(names) != 1:
            raise EmbeddingUnavailable(f"serves {names}: name one in the address, {self.url}#model")
        return names[0]

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        reply = self._client.embeddings.create(input=list(texts), model=self.model)
        items = sorted(reply.data, key=lambda item: item.index)
        if [item.index for item in items] != list(range(len(texts))):
            raise EmbeddingUnavailable(f"{len(items)} vectors for {len(texts)} texts")
        vectors = np.array([item.embedding for item in items], dtype=np.float64)
        if vectors.ndim != 2 or not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
            raise EmbeddingUnavailable("a vector is empty, all zero or not finite")
        self._dimension = self._dimension or vectors.shape[1]
        if vectors.shape[1] != self._dimension:
            raise EmbeddingUnavailable(f"vectors of {vectors.shape[1]} numbers, before of {self._dimension}")
        return vectors

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """What the call returns; whatever it raises becomes one line without the key."""
        try:
            return call()
        except Exception as error:  # of the client, of the network, or of a reply of another shape
            told = f"{type(error).__name__}: " * (not isinstance(error, EmbeddingUnavailable)) + str(error)
            if error.__cause__ is not None:
                told += f" ({error.__cause__})"
            kind = TextRejected if getattr(error, "status_code", None) in REJECTED else EmbeddingUnavailable
        if self._key:
            told = told.replace(self._key, "[key]")
        # Out here nothing hangs on the error that holds the request and its key.
        raise kind(f"encoder {self.url}: {' '.join(told.split())[:300]}")
