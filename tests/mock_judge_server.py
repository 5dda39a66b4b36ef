# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An OpenAI-compatible chat endpoint on loopback that behaves as a test says.

    with MockJudge(lambda request: Reply(content=honest(request))) as server:
        judge = Judge(base_url=server.base_url, api_key="k", model="m")

The behaviour is called with every request as it came in (a `Request`), on a thread of its own, and returns a `Reply`.
For many thousands of calls there is `fast_judge_endpoint`, which takes less of the machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = ("terminology", "instruments_anatomy", "specificity", "procedure_context", "action_state")


@dataclass
class Request:
    """One request: its JSON body, its headers (names in lower case), how many came before it, and when (epoch, s)."""

    body: dict[str, Any]
    headers: dict[str, str]
    number: int
    at: float = 0.0

    @property
    def prompt(self) -> str:
        """All messages, one after the other."""
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def nonce(self) -> str:
        """The code that fences the texts, read from where an honest model would read it."""
        return re.search(r"carry the code (\w+)\.", self.body["messages"][0]["content"])[1]

    def between(self, what: str) -> str:
        """The fenced ``REFERENCE``, ``CANDIDATE`` or ``QUESTION``."""
        begin, end = f"[{self.nonce} {what} BEGINS]\n", f"\n[{self.nonce} {what} ENDS]"
        user = self.body["messages"][1]["content"]
        return user[user.index(begin) + len(begin) : user.rindex(end)]


@dataclass
class Reply:
    """What the endpoint does: a completion with ``content``, or another status, body, delay or a broken connection."""

    content: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    finish_reason: str = "stop"
    refusal: str | None = None
    delay_s: float = 0.0
    drip_s: float = 0.0
    reset: bool = False
    truncate: bool = False
    prompt_tokens: int = 100
    completion_tokens: int = 20

    def payload(self) -> bytes:
        body = self.body
        if body is None and self.status == 200:
            message = {"role": "assistant", "content": self.content, "refusal": self.refusal}
            body = {
                "id": "mock",
                "object": "chat.completion",
                "created": 0,
                "model": "mock",
                "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
                "usage": {
                    "prompt_tokens": self.prompt_tokens,
                    "completion_tokens": self.completion_tokens,
                    "total_tokens": self.prompt_tokens + self.completion_tokens,
                },
            }
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        return encoded[: len(encoded) // 2] if self.truncate else encoded


def honest(request: Request, score: int = 4, **scores: Any) -> str:
    """The verdict that was asked for: ``score`` in every dimension but those named."""
    return json.dumps({"nonce": request.nonce, **dict.fromkeys(DIMENSIONS, score), **scores})


def true_scores(candidate: str) -> dict[str, int]:
    """The one right verdict on a text in tests that check scores: five numbers of 1 to 5 that follow from its hash."""
    digest = hashlib.sha256(candidate.encode()).digest()
    return {name: 1 + byte % 5 for name, byte in zip(DIMENSIONS, digest, strict=False)}


def truthful(request: Request) -> str:
    """The verdict of `true_scores` on the request's candidate."""
    return honest(request, **true_scores(request.between("CANDIDATE")))


class MockJudge:
    """Context manager around the server. ``requests`` holds what came in."""

    def __init__(self, behave: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        lock = threading.Lock()
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    request = Request(json.loads(raw), headers, len(requests), time.time())
                    requests.append(request)
                reply = behave(request)
                time.sleep(reply.delay_s)
                if reply.reset:
                    # Linger 0 makes closing a reset instead of an orderly end.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    return
                payload = reply.payload()
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(payload)))
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for byte in [payload] if not reply.drip_s else [bytes([value]) for value in payload]:
                        self.wfile.write(byte)
                        time.sleep(reply.drip_s)
                except OSError:  # the client gave up waiting, as some tests want
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512  # the default of 5 makes the sixth connection wait for a second

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> MockJudge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
