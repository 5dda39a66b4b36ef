# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""One prompt, one replica: the router that `config/router.yaml` gives to verl.

verl's own router sends each request to the replica with the fewest requests. The n rollouts of a prompt then go to up
to n replicas, and each of these processes the clip, encodes it and computes the prompt's keys and values. Here they go
to one replica, which does this once and finds the rest in its caches.

Prompts are balanced over replicas by the seconds that the requests in flight are expected to take. The length of an
answer depends on its task, and the last tokens of a prompt are mostly the task's instruction. A request is therefore
expected to take as long as earlier requests with the same last tokens. Where there were none, it is expected to take
the mean.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from cachetools import LRUCache
from verl.workers.rollout.router import GlobalRequestLoadBalancer

logger = logging.getLogger(__name__)

TAIL = 8
"""The last tokens that stand for the task: five end the chat template, three end the question."""
NEWEST = 0.2
"""The weight of the newest request in the running means of seconds."""


@dataclass(frozen=True)
class _Request:
    server: str
    prompt: tuple[int, ...]
    expected: float
    started: float


class PromptRouter(GlobalRequestLoadBalancer):
    """verl's load balancer with another choice of the replica.

    Args:
        servers: the replicas' actor handles by address.
        config: the content of the YAML file, which has no settings for this class.
    """

    def __init__(self, servers: Mapping[str, Any], config: Mapping[str, Any] | None = None):
        super().__init__(dict(servers))
        self._requests: dict[str, _Request] = {}
        self._replicas: dict[tuple[int, ...], list[str]] = {}  # of the requests of a prompt that are in flight
        self._seconds: LRUCache = LRUCache(maxsize=10_000)  # that a request took, by last tokens
        self._mean = 1.0
        self._pings: dict[str, Any] = {}

    def require_acquire_fields(self) -> list[str]:
        """A request brings the tokens of its prompt."""
        return ["prompt_ids"]

    def require_release_fields(self) -> list[str]:
        """A finished request is known by its id."""
        return ["request_id"]

    def acquire_server(self, request_id: str, prompt_ids: Sequence[int] = ()) -> tuple[str, Any]:
        """The replica that has requests of this prompt in flight, else the one with the least expected work.

        Clips of one length with one question have the same tokens. They go to one replica too, which harms nothing.

        Raises:
            RuntimeError: no replica is left.
        """
        self._drop_dead()
        if not self._servers:
            raise RuntimeError("No available servers in load balancer")
        prompt = tuple(prompt_ids)
        replicas = self._replicas.setdefault(prompt, [])
        server_id = next((known for known in replicas if known in self._servers), None) or self._least_loaded()
        expected = self._seconds.get(prompt[-TAIL:], self._mean)
        self._requests[request_id] = _Request(server_id, prompt, expected, time.monotonic())
        replicas.append(server_id)
        self._inflight_requests[server_id] += 1
        return server_id, self._servers[server_id]

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        """Forget the request, and learn from it how long its task takes."""
        super().release_server(server_id)
        request = self._requests.pop(request_id or "", None)
        if request is None:
            return
        replicas = self._replicas[request.prompt]
        replicas.remove(request.server)
        if not replicas:
            del self._replicas[request.prompt]
        seconds, tail = time.monotonic() - request.started, request.prompt[-TAIL:]
        self._seconds[tail] = _moved(self._seconds.get(tail, seconds), seconds)
        self._mean = _moved(self._mean, seconds)
        self._ping(server_id)

    def remove_servers(self, server_ids: list[str]) -> None:
        """Send nothing more there. Prompts whose requests are there go on elsewhere."""
        super().remove_servers(server_ids)
        for server_id in server_ids:
            self._pings.pop(server_id, None)

    def _least_loaded(self) -> str:
        work = dict.fromkeys(self._servers, 0.0)
        for request in self._requests.values():
            if request.server in work:
                work[request.server] += request.expected
        return min(work, key=lambda server_id: (work[server_id], self._inflight_requests[server_id]))

    def _ping(self, server_id: str) -> None:
        if server_id in self._servers:
            self._pings[server_id] = self._servers[server_id].__ray_ready__.remote()

    def _drop_dead(self) -> None:
        """Take out the replicas whose process has died since a request of theirs ended."""
        for server_id, ping in list(self._pings.items()):
            if ray.wait([ping], timeout=0)[0]:
                del self._pings[server_id]
                try:
                    ray.get(ping)
                except ray.exceptions.RayActorError:
                    logger.warning("the rollout replica %s died: its prompts go to the others", server_id)
                    self.remove_servers([server_id])


def _moved(mean: float, newest: float) -> float:
    return mean + NEWEST * (newest - mean)
