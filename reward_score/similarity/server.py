# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Serve a sentence encoder over the OpenAI embeddings API, one model for all reward workers.

    python -m reward_score.similarity.server --port 8080 [--host 127.0.0.1] [--encoder FOLDER_OR_NAME] [--device cuda:0]

Workers then use ``http://host:8080/v1`` as their encoder. They get the same numbers as from an encoder of their own.

    POST /v1/embeddings   {"input": text or [texts], "model": optional, "encoding_format": "float" or "base64"}
    GET  /v1/models, /health

Texts of requests that arrive together are embedded together (`Similarity`). If ``MEDGRPO_EMBEDDING_API_KEY`` is set,
requests need it as their bearer token. SIGTERM ends the server after the requests in progress, in at most 5 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hmac
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from ..errors import EmbeddingUnavailable
from . import Similarity, load_similarity
from .encoders import MAX_CHARS
from .remote import KEY_VARIABLE, is_endpoint

DEFAULT_MODEL = "all-MiniLM-L6-v2"
MAX_TEXTS = 2_048
"""Texts of one request; OpenAI's own limit."""
MAX_BODY = 32 << 20
"""Bytes of one request."""
STOP_S = 5
FORMATS = ("float", "base64")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
"""What JSON can spell although it is no character."""


class Refusal(Exception):
    """A request that is not served: the HTTP status and one line that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(similarity: Similarity, model: str = DEFAULT_MODEL, key: str | None = None) -> FastAPI:
    """The server's application.

    Args:
        similarity: embeds the texts.
        model: the name that requests may give, and none but that.
        key: bearer token that requests need, except for ``/health``; None: none.
    """
    app = FastAPI(title="sentence embeddings", docs_url=None, redoc_url=None, openapi_url=None)
    count_tokens = getattr(similarity.encoder, "count_tokens", lambda texts: 0)

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        return _error(refusal.status, str(refusal))

    @app.exception_handler(EmbeddingUnavailable)
    async def fail(request: Request, error: EmbeddingUnavailable) -> JSONResponse:
        return _error(503, str(error))

    def check_key(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if key is not None and not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise Refusal(401, "missing or wrong key")

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": model}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        check_key(request)
        return {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "medgrpo"}]}

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> dict[str, Any]:
        check_key(request)
        texts, form = read_request(await _body(request), model)
        vectors = (await similarity.embeddings(texts)).astype(np.float32)
        tokens = await asyncio.to_thread(count_tokens, texts)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": number, "embedding": _written(vector, form)}
                for number, vector in enumerate(vectors)
            ],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    return app


def read_request(body: bytes, model: str) -> tuple[list[str], str]:
    """The texts of a request, and how their vectors are to be written.

    Raises:
        Refusal: what is wrong with it: 400, 404 for another model, 413 for too much of it.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or brackets without end
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "the body: expected a JSON object")
    texts = asked.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise Refusal(400, "input: expected a text or a list of texts, none of them blank")
    if len(texts) > MAX_TEXTS:
        raise Refusal(413, f"input: {len(texts)} texts: expected {MAX_TEXTS} at most")
    longest = max(map(len, texts))
    if longest > MAX_CHARS:
        raise Refusal(413, f"input: a text of {longest} characters: expected {MAX_CHARS} at most")
    if any(map(_HALF_PAIR.search, texts)):
        raise Refusal(400, "input: half a surrogate pair")
    form = asked.get("encoding_format", "float")
    if form not in FORMATS:
        raise Refusal(400, f"encoding_format: expected one of {', '.join(FORMATS)}")
    if asked.get("dimensions") is not None:
        raise Refusal(400, "dimensions: the model has its own")
    if asked.get("model", model) != model:
        raise Refusal(404, f"model: this server has {model}")
    return texts, form


async def _body(request: Request) -> bytes:
    """The body, read no further than it may go."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise Refusal(413, f"the body: expected {MAX_BODY} bytes at most")
    return bytes(body)


def _written(vector: np.ndarray, form: str) -> list[float] | str:
    return vector.tolist() if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _error(status: int, message: str) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


class _Server(uvicorn.Server):
    """Says where it listens as soon as it does."""

    ready = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self.ready, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 2 when the encoder cannot be had."""
    parser = argparse.ArgumentParser(
        "embedding_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--encoder", help="folder or hub name of a sentence encoder (default all-MiniLM-L6-v2)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or auto (default): a free GPU")
    options = parser.parse_args(arguments)
    try:
        if options.encoder and is_endpoint(options.encoder):
            raise ValueError("--encoder: expected a folder or a hub name, got another server's address")
        similarity = load_similarity(options.encoder, options.device)
        model = (PurePath(options.encoder).name or options.encoder) if options.encoder else DEFAULT_MODEL
        app = make_app(similarity, model, os.environ.get(KEY_VARIABLE, "").strip() or None)
    except (ValueError, EmbeddingUnavailable) as error:
        print(f"embedding_server: error: {error}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_S,
    )
    listening = config.bind_socket()
    # Head and body of a reply are two writes: without this, the second waits 40 ms for the first one's receipt.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host = f"[{options.host}]" if ":" in options.host else options.host
    server = _Server(config)
    server.ready = f"embedding server: {model} at http://{host}:{listening.getsockname()[1]}/v1"
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn hands the signal on after it has stopped
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
