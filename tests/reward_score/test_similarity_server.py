# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Embeddings from an endpoint: our server in a process of its own, and endpoints that fail."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from reward_score.errors import EmbeddingUnavailable
from reward_score.similarity import Similarity, load_similarity
from reward_score.similarity.encoders import MAX_CHARS
from reward_score.similarity.remote import KEY_VARIABLE, RemoteEncoder
from reward_score.similarity.server import MAX_BODY, MAX_TEXTS

KEY = "sk-embedding-0123456789"
MODEL = "all-MiniLM-L6-v2"


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(KEY_VARIABLE, raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        yield patch


@pytest.fixture(scope="module")
def server(environment):
    """Address of a server that wants a key."""
    environment.setenv(KEY_VARIABLE, KEY)
    command = [sys.executable, "-m", "reward_score.similarity.server", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith(f"embedding server: {MODEL} at http://127.0.0.1:"), line + process.stderr.read()
        yield line.split()[-1]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode in (0, -signal.SIGTERM), out, err) == (True, "", "")
    finally:
        process.kill()
        process.communicate()


def post(address, body, key=KEY):
    """Status and JSON of an answer of the server."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(f"{address}/embeddings", data, {"Authorization": f"Bearer {key}"})
    try:
        with urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except HTTPError as error:
        return error.code, json.load(error)


def test_the_server_gives_the_same_cosines(server):
    words = [
        "The surgeon clips the cystic duct.",
        "The artery is clipped and cut.",
        "knot",
        "手术 ünï",
        "liver bed " * 600,
    ]
    pairs = [(a, b) for a in words for b in words] + [("", "knot"), ("half \ud83d", "knot")]
    remote = load_similarity(server)
    assert isinstance(remote.encoder, RemoteEncoder) and remote.encoder.model == MODEL
    local = load_similarity(None, "cpu").cosine_pairs(pairs)
    assert remote.cosine_pairs(pairs) == pytest.approx(local, abs=1e-6)

    async def together():
        fresh = Similarity(RemoteEncoder(f"{server}#{MODEL}"))
        return [value for (value,) in await asyncio.gather(*(fresh.cosines([pair]) for pair in pairs))]

    assert asyncio.run(together()) == pytest.approx(local, abs=1e-6)


def test_the_shape_of_an_answer(server):
    status, reply = post(server, {"input": ["cut", "The duct is clipped."], "model": MODEL})
    assert status == 200
    assert (reply["object"], reply["model"]) == ("list", MODEL)
    assert reply["usage"] == {"prompt_tokens": 10, "total_tokens": 10}  # 3 and 7 with the marks around each
    assert [(item["object"], item["index"]) for item in reply["data"]] == [("embedding", 0), ("embedding", 1)]
    vectors = np.array([item["embedding"] for item in reply["data"]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    status, reply = post(server, {"input": "cut", "encoding_format": "base64"})
    packed = np.frombuffer(base64.b64decode(reply["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(packed, vectors[0], atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b"\xff", 400, "no JSON"),
        ([], 400, "JSON object"),
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["cut", 1]}, 400, "input"),
        ({"input": [[101, 102]]}, 400, "input"),
        ({"input": " "}, 400, "blank"),
        ({"input": "\ud83d"}, 400, "surrogate"),
        ({"input": "cut", "encoding_format": ["float"]}, 400, "encoding_format"),
        ({"input": "cut", "dimensions": 8}, 400, "dimensions"),
        ({"input": "cut", "model": "other"}, 404, MODEL),
        ({"input": "x" * (MAX_CHARS + 1)}, 413, str(MAX_CHARS)),
        ({"input": ["x"] * (MAX_TEXTS + 1)}, 413, str(MAX_TEXTS)),
    ],
)
def test_requests_that_are_refused(server, body, status, told):
    got, reply = post(server, body)
    assert got == status
    assert told in reply["error"]["message"]


def test_a_body_is_read_no_further_than_its_limit(server):
    try:
        status, _ = post(server, b'{"input": "' + b"x" * (MAX_BODY + 1_000_000) + b'"}')
    except OSError:  # the server may hang up while we still write
        status = 413
    assert status == 413
    assert post(server, {"input": "cut"})[0] == 200


def test_a_wrong_key_is_refused_and_told_to_nobody(server, monkeypatch):
    assert post(server, {"input": "cut"}, "wrong")[0] == 401
    assert json.load(urlopen(f"{server.removesuffix('/v1')}/health", timeout=30)) == {"status": "ok", "model": MODEL}
    monkeypatch.setenv(KEY_VARIABLE, "sk-wrong-key-9876")
    with pytest.raises(EmbeddingUnavailable, match="401") as caught:
        RemoteEncoder(server)
    assert "9876" not in str(caught.value) and caught.value.__context__ is None


def test_an_encoder_that_cannot_be_had_is_one_line_and_an_exit_code(tmp_path):
    command = [sys.executable, "-m", "reward_score.similarity.server", "--port", "0", "--encoder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("embedding_server: error: ") and done.stderr.count("\n") == 1


class Endpoint:
    """An endpoint on loopback that gives the replies of a list, the last one again and again: (status, body)."""

    def __init__(self, *replies):
        endpoint = self
        self.replies, self.asked, self.keys = list(replies), 0, set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.keys.add(self.headers["Authorization"])
                status, body = endpoint.replies[min(endpoint.asked, len(endpoint.replies) - 1)]
                endpoint.asked += 1
                if body is None:
                    time.sleep(1)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

    def cosine(self, **settings):
        url = f"http://127.0.0.1:{self.server.server_port}/v1#m"
        return Similarity(RemoteEncoder(url, **{"retries": 2, **settings})).cosine_pairs([("a", "b")])[0]


def vectors(*rows, **more):
    data = [{"index": number, "embedding": row, "object": "embedding"} for number, row in enumerate(rows)]
    return 200, json.dumps({"object": "list", "model": "m", "data": data, **more}).encode()


GOOD = vectors([1.0, 0.0], [3.0, 4.0])
BUSY = (503, b'{"error": {"message": "busy"}}')


def test_an_endpoint_that_comes_back_is_asked_again():
    with Endpoint(BUSY, (429, b"{}"), GOOD) as endpoint:
        assert endpoint.cosine() == pytest.approx(0.6)
        assert endpoint.asked == 3


def test_vectors_are_told_apart_by_their_index():
    status, body = GOOD
    reply = json.loads(body)
    reply["data"] = [dict(reply["data"][1], index=0), dict(reply["data"][0], index=1)][::-1]
    with Endpoint((status, json.dumps(reply).encode())) as endpoint:
        encoder = RemoteEncoder(f"http://127.0.0.1:{endpoint.server.server_port}/v1#m")
        assert encoder(["a", "b"]).tolist() == [[3.0, 4.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (BUSY, 3),
        ((400, b'{"error": {"message": "too long"}}'), 1),
        ((200, b"<html>welcome</html>"), 1),
        ((200, b"{"), 1),
        ((200, b"{}"), 1),
        ((200, b'{"data": [{"index": 0}, {"index": 1}]}'), 1),
        (vectors(), 1),
        (vectors([1.0, 0.0]), 1),
        (vectors([1.0, 0.0], [1.0, 0.0], [1.0, 0.0]), 1),
        (vectors([1.0, 0.0], [1.0]), 1),
        (vectors([1.0, 0.0], [1.0, float("nan")]), 1),
        (vectors([1.0, 0.0], [1.0, None]), 1),
        (vectors([1.0, 0.0], [0.0, 0.0]), 1),
        (vectors([], []), 1),
        (vectors(1.0, 2.0), 1),
        (vectors("!!", "!!"), 1),
    ],
)
def test_a_failure_is_never_a_number(reply, asked):
    with Endpoint(reply) as endpoint:
        with pytest.raises(EmbeddingUnavailable, match="encoder http://127.0.0.1"):
            endpoint.cosine()
        assert endpoint.asked == asked


def test_silence_is_a_failure():
    with Endpoint((200, None)) as endpoint, pytest.raises(EmbeddingUnavailable, match="[Tt]imed? ?out"):
        endpoint.cosine(retries=0, timeout_s=0.2)


def test_an_endpoint_that_changes_its_model_is_a_failure():
    with Endpoint(GOOD, vectors([1.0, 0.0, 0.0])) as endpoint:
        encoder = RemoteEncoder(f"http://127.0.0.1:{endpoint.server.server_port}/v1#m")
        encoder(["a", "b"])
        with pytest.raises(EmbeddingUnavailable, match="vectors of 3 numbers, before of 2"):
            encoder(["c"])


def test_nobody_there():
    with Endpoint(GOOD) as endpoint:
        port = endpoint.server.server_port
    with pytest.raises(EmbeddingUnavailable, match="refused"):
        RemoteEncoder(f"http://127.0.0.1:{port}/v1", retries=0)


def test_the_key_is_ours_alone_and_in_no_message(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with Endpoint((401, json.dumps({"error": {"message": f"bad key {KEY}"}}).encode())) as endpoint:
        with pytest.raises(EmbeddingUnavailable, match=r"bad key \[key\]"):
            endpoint.cosine()
        assert endpoint.keys == {f"Bearer {KEY}"}
    monkeypatch.delenv(KEY_VARIABLE)
    with Endpoint(GOOD) as endpoint:
        endpoint.cosine()
        assert endpoint.keys == {"Bearer none"}


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1/v1", "http://127.0.0.1/v1?key=secret", "http://"])
def test_addresses_that_are_refused(url):
    with pytest.raises(EmbeddingUnavailable) as caught:
        load_similarity(url)
    assert "secret" not in str(caught.value)
