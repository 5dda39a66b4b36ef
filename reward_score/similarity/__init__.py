# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Semantic similarity of two texts: the cosine of their sentence embeddings, clipped to 0..1.

The encoder is all-MiniLM-L6-v2, the one that the leaderboard uses (`encoders`). Another is a folder, a hub name or
the address of an endpoint (`remote`); `server` is such an endpoint. `cosine` compares texts with any of them.

A cosine knows no right and wrong. A text that speaks of surgery at all is some way toward every reference, and more
words on the subject can raise it; unrelated words nearly always lower it. Repetition is taken off before
(`captions`). What padding gains here, it loses with the judge, which is the other half of the measure.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from .cosine import Similarity
from .encoders import (
    Encoder,
    LibraryEncoder,
    SentenceEncoder,
    find_device,
    hub_folder,
    mean_pooled_bert,
    packaged_model,
)
from .remote import RemoteEncoder, is_endpoint

__all__ = ["Encoder", "SentenceEncoder", "Similarity", "load_similarity", "open_encoder", "packaged_model"]


def open_encoder(encoder: str | None = None, device: str = "auto") -> Encoder:
    """The encoder that a text names; see `load_similarity`.

    Raises:
        ValueError: an unknown device. EmbeddingUnavailable: the encoder cannot be had.
    """
    if encoder is not None and is_endpoint(encoder):
        return RemoteEncoder(encoder)
    if encoder is None:
        return SentenceEncoder(packaged_model(), windows=True, device=find_device(device))
    folder = Path(encoder) if Path(encoder).is_dir() else hub_folder(encoder)
    if mean_pooled_bert(folder):
        return SentenceEncoder(folder, windows=True, device=find_device(device))
    return LibraryEncoder(folder, find_device(device))


@lru_cache(maxsize=4)
def _load(encoder: str | None, device: str) -> Similarity:
    return Similarity(open_encoder(encoder, device))


_load_lock = threading.Lock()


def load_similarity(encoder: str | None = None, device: str = "auto") -> Similarity:
    """The similarity by an encoder, loaded once per process; slow the first time.

    Args:
        encoder: None: the packaged all-MiniLM-L6-v2. ``http(s)://host:port/v1``, with ``#model`` where several are
            served: an OpenAI-compatible endpoint, as `server` is one; its key, if any, is in
            ``MEDGRPO_EMBEDDING_API_KEY``. A folder that exists: its model. Else a name on the hub,
            ``organisation/model`` or ``organisation/model@revision``.
        device: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``: a GPU if nobody else is on it, else the CPU. An endpoint has
            its own.

    A mean-pooled BERT runs here and compares long texts whole, in windows (`SentenceEncoder`); another model runs on
    ``sentence-transformers``, which cuts them (`encoders.LibraryEncoder`).

    Raises:
        ValueError: an unknown device.
        EmbeddingUnavailable: the encoder cannot be had; the message says what to do.
    """
    with _load_lock:
        return _load(encoder, device)
