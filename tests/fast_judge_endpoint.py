# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An OpenAI-compatible judge endpoint on loopback that costs little, for load, faults and counting.

In a test, on a thread::

    with FastJudge(latency_s=0.02, faults=Faults(seed=1)) as endpoint:
        judge = Judge(base_url=endpoint.base_url, api_key="k", model="mock")

As a process of its own, which prints its URL and ends when its standard input is closed::

    python tests/fast_judge_endpoint.py --latency 1.0 [--faults SEED] [--max-seconds 600]

``GET /stats`` answers with the counts (`FastJudge.stats`) as JSON; ``GET /stats?window=60`` adds the most arrivals in
any 60 seconds. The verdict is `true_scores` of the candidate as it came in, with the request's nonce.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mock_judge_server import true_scores

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# In the body as it comes in, where a new line is a backslash and an n.
_CANDIDATE = re.compile(rb"\[(\w+) CANDIDATE BEGINS\]\\n(.*)\\n\[\1 CANDIDATE ENDS\]", re.DOTALL)
_COMPLETION = json.dumps(
    {
        "id": "mock",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "@"}}],
        "usage": {"prompt_tokens": -1, "completion_tokens": -2, "total_tokens": -3},
    }
)
COMPLETION_TOKENS = 30
ANSWERED = frozenset({"ok", "cut_verdict"})
"""Kinds of replies that arrive whole, with a count of tokens."""


@dataclass
class Faults:
    """What goes wrong, as shares of all requests, drawn in the order of arrival from a seed.

    ``cut_body`` breaks the JSON of the HTTP body; ``cut_verdict`` sends a whole body with half a verdict in it.
    Every fifth 429 asks for a second of patience.
    """

    seed: int = 0
    rate_limited: float = 0.30
    failing: float = 0.10
    hang: float = 0.05
    cut_body: float = 0.025
    cut_verdict: float = 0.025
    reset: float = 0.03

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._limited = 0

    def draw(self) -> str:
        """The next request's fate."""
        at = self._random.random()
        for kind in ("rate_limited", "failing", "hang", "cut_body", "cut_verdict", "reset"):
            at -= getattr(self, kind)
            if at < 0:
                self._limited += kind == "rate_limited"
                return "patience" if kind == "rate_limited" and self._limited % 5 == 0 else kind
        return "ok"


def reply_of(body: bytes, kind: str) -> tuple[bytes, int]:
    """The HTTP reply of a kind to a request's body, and the prompt tokens that it counts (0: none)."""
    if kind in ("rate_limited", "patience"):
        return _http("429 Too Many Requests", b"{}", b"Retry-After: 1\r\n" if kind == "patience" else b""), 0
    if kind == "failing":
        return _http("500 Internal Server Error", b"{}"), 0
    found = _CANDIDATE.search(body)
    nonce, candidate = (found[1].decode(), json.loads(b'"' + found[2] + b'"')) if found else ("", "")
    scores = true_scores(candidate)
    verdict = json.dumps({"nonce": nonce, **scores})
    if kind == "cut_verdict":
        verdict = verdict[: len(verdict) // 2]
    # Sums of equal numbers would hide a call counted twice beside one that was left out.
    tokens = 100 + sum(5**place * score for place, score in enumerate(scores.values()))
    whole = _COMPLETION.replace('"@"', json.dumps(verdict)).replace("-3", str(tokens + COMPLETION_TOKENS))
    content = whole.replace("-2", str(COMPLETION_TOKENS)).replace("-1", str(tokens)).encode()
    return _http("200 OK", content[: len(content) // 2] if kind == "cut_body" else content), tokens


def worst_window(times: Sequence[float], seconds: float) -> int:
    """The most of some sorted times within any stretch of so many seconds (its end not included)."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _http(status: str, content: bytes, header: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + header + b"\r\n" + content


class FastJudge:
    """Context manager around the endpoint, which runs on a thread of its own.

    Args:
        latency_s: seconds from a request to its reply.
        faults: None: every reply is right.
        on_call: called on the endpoint's thread with the number of calls so far, before the call is answered.

    Attributes:
        counts: calls by what became of them.
        arrivals: when each call came in, seconds of `time.monotonic`.
        in_flight, most_in_flight: calls that came in and were not answered yet, now and at most.
        prompt_tokens, completion_tokens: as told in the replies that went out whole.
    """

    def __init__(
        self, latency_s: float = 0.0, faults: Faults | None = None, on_call: Callable[[int], None] | None = None
    ) -> None:
        self.latency_s, self.faults, self.on_call = latency_s, faults, on_call
        self.counts: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.loop = asyncio.new_event_loop()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def calls(self) -> int:
        """Calls that came in."""
        return len(self.arrivals)

    @property
    def answered(self) -> int:
        """Calls whose reply went out whole, with a count of tokens."""
        return sum(self.counts[kind] for kind in ANSWERED)

    def stats(self) -> dict[str, Any]:
        """All counts, and the processor seconds that this process has taken."""
        names = ("calls", "answered", "in_flight", "most_in_flight", "prompt_tokens", "completion_tokens")
        known = {name: getattr(self, name) for name in names}
        return known | {"kinds": dict(self.counts), "cpu_s": time.process_time(), "at": time.monotonic()}

    def __enter__(self) -> FastJudge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        server = self.loop.run_until_complete(self.loop.create_server(lambda: _Connection(self), sock=self._socket))
        self.loop.run_forever()
        server.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


class _Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection; one request at a time, as clients send them."""

    def __init__(self, endpoint: FastJudge) -> None:
        self.endpoint = endpoint
        self.buffer = b""
        self.transport: Any = None
        self.pending: Any = None
        self.waits = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self.pending:
            self.pending.cancel()
        if self.waits:
            self._done("given_up")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self.buffer, 0, end + 2)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self.buffer) < size:
            return
        line, body = self.buffer[: self.buffer.index(b"\r\n")].decode(), self.buffer[end + 4 : size]
        self.buffer = self.buffer[size:]
        if line.startswith("POST"):
            self._call(body)
        else:
            self.transport.write(self._stats(line.split()[1]))

    def _stats(self, target: str) -> bytes:
        told, endpoint = self.endpoint.stats(), self.endpoint
        for seconds in parse_qs(urlsplit(target).query).get("window", []):
            told["worst_window"] = worst_window(endpoint.arrivals, float(seconds))
        return _http("200 OK", json.dumps(told).encode())

    def _call(self, body: bytes) -> None:
        endpoint = self.endpoint
        endpoint.arrivals.append(time.monotonic())
        endpoint.in_flight += 1
        endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.in_flight)
        self.waits = True
        if endpoint.on_call:
            endpoint.on_call(len(endpoint.arrivals))
        kind = endpoint.faults.draw() if endpoint.faults else "ok"
        if kind == "hang":
            return
        reply, tokens = reply_of(body, kind) if kind != "reset" else (b"", 0)
        self.pending = endpoint.loop.call_later(endpoint.latency_s, self._answer, kind, reply, tokens)

    def _answer(self, kind: str, reply: bytes, tokens: int) -> None:
        self.pending = None
        self._done(kind)
        if kind == "reset":
            # Linger 0 makes closing a reset instead of an orderly end.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        if kind in ANSWERED:
            self.endpoint.prompt_tokens += tokens
            self.endpoint.completion_tokens += COMPLETION_TOKENS
        self.transport.write(reply)

    def _done(self, kind: str) -> None:
        self.waits = False
        self.endpoint.in_flight -= 1
        self.endpoint.counts[kind] += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until standard input ends or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until a reply (%(default)s)")
    parser.add_argument("--faults", type=int, metavar="SEED", help="429, 500, hangs, broken replies and resets")
    parser.add_argument("--max-seconds", type=float, default=600.0, help="ends then (%(default)s)")
    options = parser.parse_args(arguments)
    with FastJudge(options.latency, None if options.faults is None else Faults(options.faults)) as endpoint:
        print(endpoint.base_url, flush=True)
        end = time.monotonic() + options.max_seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and not sys.stdin.buffer.read1():
                break
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
