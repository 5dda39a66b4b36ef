# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A judge behind verl's own reward-model router: the router itself, with a mock endpoint as its one server."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))
from mock_judge_server import MockJudge, Reply, truthful  # noqa: E402

from reward_score.judge import JudgeUnavailable  # noqa: E402
from reward_score.medgrpo import compute_score  # noqa: E402

ROUTER = """
import sys
import recipes.medgrpo.plugin
from verl.experimental.reward_loop.router.naive_router import run_router
run_router("127.0.0.1", int(sys.argv[1]), [sys.argv[2]])
"""
REFERENCE = "The grasper retracts the gallbladder while the hook dissects the cystic duct."


@pytest.fixture
def server():
    replies = []
    with MockJudge(lambda request: replies[0] if replies else Reply(content=truthful(request))) as mock:
        mock.replies = replies
        yield mock


@pytest.fixture
def router(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = server.base_url.removesuffix("/v1")
    process = subprocess.Popen([sys.executable, "-c", ROUTER, str(port), worker])
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline, "verl's router did not start"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def score(address: str, answer: str) -> dict[str, float]:
    """As verl's reward manager calls it where a reward model runs."""
    handed = {"reward_router_address": address, "reward_model_tokenizer": None}
    settings = {"model": "/models/judge", "backoff_s": 0.01, "max_attempts": 2}
    truth = json.dumps({"text": REFERENCE})
    return asyncio.run(
        compute_score("medvidbench/CoPESD/vs", answer, truth, judge="router", judge_settings=settings, **handed)
    )


@pytest.mark.slow
def test_captions_are_judged_by_verls_reward_model_servers(server, router):
    result = score(router, "A grasper lifts the gallbladder.")
    (request,) = server.requests
    assert request.body["model"] == "/models/judge"
    verdict = json.loads(truthful(request))
    del verdict["nonce"]
    assert result["raw_judge"] == pytest.approx((sum(verdict.values()) / 5 - 1) / 4)
    # A server that fails comes as the router's own bare 500, after which it hangs up: an error and no number. The
    # second attempt may meet the connection that is being closed.
    server.replies.append(Reply(status=429, body={"error": {"message": "slow down"}}))
    with pytest.raises(JudgeUnavailable, match="HTTP 500|broke the connection"):
        score(router, "A hook dissects the cystic duct.")
    assert len(server.requests) in (2, 3)
