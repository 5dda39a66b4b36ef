# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The cosine of two texts' embeddings, clipped to 0..1, with a cache, and with one thread that embeds what waits.

A text without a letter or digit says nothing and is similar to nothing: its pairs are 0. A failure of the encoder is
an error, never a number.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ..errors import EmbeddingUnavailable, TextRejected
from .encoders import BATCH, MAX_CHARS, Encoder

CACHE_TEXTS = 16_384
GATHER = 8 * BATCH
"""Texts of waiting requests that are embedded in one go; one request with more goes alone."""


@dataclass
class _Request:
    """Texts that somebody waits for."""

    texts: tuple[str, ...]
    vectors: Future[dict[str, np.ndarray]] = field(default_factory=Future)


class Similarity:
    """Cosine similarity of texts with a cache of embeddings by text. Safe to share between threads and event loops.

    Texts that are not in the cache wait for a thread that takes all that waits, up to `GATHER` texts, and embeds it
    in one go; while it does, the next requests gather. The thread is there only while something waits, so none is
    left behind when the process ends or forks.

    Args:
        encoder: texts to vectors; called by one thread at a time.
        cache_texts: embeddings kept, the least recently used go first.
    """

    def __init__(self, encoder: Encoder, cache_texts: int = CACHE_TEXTS) -> None:
        self.encoder = encoder
        self._limit = cache_texts
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._dimension: int | None = None
        self._waiting: deque[_Request] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def cosine_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Cosine of each pair of texts, 0 to 1 (a negative cosine is 0); equal texts are exactly 1.

        A pair with a text that has no letter or digit is 0. Blocks; in an event loop use `cosines`.

        Raises:
            EmbeddingUnavailable: the encoder failed.
        """
        pairs = [(_clean(a), _clean(b)) for a, b in pairs]
        return _cosines(pairs, self._submit(_said(pairs)).result())

    async def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """As `cosine_pairs`, without blocking the event loop: all that ask at a time are embedded together.

        Raises:
            EmbeddingUnavailable: the encoder failed.
        """
        pairs = [(_clean(a), _clean(b)) for a, b in pairs]
        return _cosines(pairs, await _result(self._submit(_said(pairs))))

    async def embeddings(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of n texts, one at least, as a float64 array (n, d), by way of the same thread and cache.

        Raises:
            EmbeddingUnavailable: the encoder failed.
        """
        texts = [_clean(text) for text in texts]
        vectors = await _result(self._submit(texts))
        return np.stack([vectors[text] for text in texts])

    def _submit(self, texts: Iterable[str]) -> Future[dict[str, np.ndarray]]:
        """The vectors of texts, by text, as soon as they are there."""
        request = _Request(tuple(dict.fromkeys(texts)))
        with self._lock:
            found = self._cached(request.texts)
            if len(found) == len(request.texts):
                request.vectors.set_result(found)
                return request.vectors
            self._waiting.append(request)
            # A thread of the process that this one was forked from is not alive here.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="embedding")
                try:
                    self._thread.start()
                except RuntimeError as error:  # the process is ending, or has no threads left
                    self._waiting.remove(request)
                    raise EmbeddingUnavailable(f"the encoder cannot be run: {error}") from error
        return request.vectors

    def _work(self) -> None:
        while requests := self._take():
            self._serve(requests)

    def _take(self) -> list[_Request]:
        """The next requests, cancelled ones left out; none: the thread is done."""
        with self._lock:
            taken: list[_Request] = []
            texts: set[str] = set()
            while self._waiting and (not taken or len(texts.union(self._waiting[0].texts)) <= GATHER):
                request = self._waiting.popleft()
                if request.vectors.set_running_or_notify_cancel():
                    taken.append(request)
                    texts.update(request.texts)
            if not taken:
                self._thread = None
            return taken

    def _serve(self, requests: Sequence[_Request]) -> None:
        """Answer requests; an error goes to those whose texts it may be about."""
        try:
            vectors = self._embed(list(dict.fromkeys(text for request in requests for text in request.texts)))
        except Exception as error:
            # An encoder that is unavailable is so for everybody; any other error may be about one text.
            everybodys = isinstance(error, EmbeddingUnavailable) and not isinstance(error, TextRejected)
            if len(requests) > 1 and not everybodys:
                for request in requests:
                    self._serve([request])
                return
            told = str(error) if isinstance(error, EmbeddingUnavailable) else f"the encoder failed: {error!r}"
            for request in requests:
                request.vectors.set_exception(
                    TextRejected(told) if isinstance(error, TextRejected) else EmbeddingUnavailable(told)
                )
            return
        for request in requests:
            if all(text in vectors for text in request.texts):
                request.vectors.set_result({text: vectors[text] for text in request.texts})
            else:
                request.vectors.set_exception(EmbeddingUnavailable("the encoder gave a vector that is not finite"))

    def _cached(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Those of the texts that are in the cache, which are now its latest; with the lock held."""
        found = {text: self._cache[text] for text in texts if text in self._cache}
        for text in found:
            self._cache.move_to_end(text)
        return found

    def _embed(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Vectors by text, of length 1 or 0; texts whose vector is not finite are left out."""
        with self._lock:
            found = self._cached(texts)
        missing = [text for text in texts if text not in found]
        if not missing:
            return found
        vectors = np.asarray(self.encoder(missing), dtype=np.float64)
        if (
            vectors.ndim != 2
            or len(vectors) != len(missing)
            or vectors.shape[1] != (self._dimension or vectors.shape[1])
        ):
            raise EmbeddingUnavailable("the encoder did not give one vector per text, all of one dimension")
        self._dimension = vectors.shape[1]
        lengths = np.linalg.norm(vectors, axis=1)
        new = {
            text: vector / length if length else vector
            for text, vector, length in zip(missing, vectors, lengths, strict=True)
            if np.isfinite(length)
        }
        with self._lock:
            self._cache.update(new)
            while len(self._cache) > self._limit:
                self._cache.popitem(last=False)
        return found | new


async def _result(future: Future[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return future.result() if future.done() else await asyncio.wrap_future(future)


def _clean(text: str) -> str:
    """The text as far as it is read. Half a surrogate pair, which no encoder takes, becomes the replacement sign."""
    text = text[:MAX_CHARS]
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _says_nothing(text: str) -> bool:
    return not any(map(str.isalnum, text))


def _said(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The texts that the cosines of the pairs need."""
    return [text for a, b in pairs if not _says_nothing(a) and not _says_nothing(b) for text in (a, b)]


def _cosines(pairs: Sequence[tuple[str, str]], vectors: dict[str, np.ndarray]) -> list[float]:
    def cosine(a: str, b: str) -> float:
        if _says_nothing(a) or _says_nothing(b):
            return 0.0
        return 1.0 if a == b else min(max(float(np.dot(vectors[a], vectors[b])), 0.0), 1.0)

    return [cosine(a, b) for a, b in pairs]
