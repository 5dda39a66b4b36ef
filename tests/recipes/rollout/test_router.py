# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The rollouts of a prompt share a replica, replicas share the work, and a dead replica is left out."""

import json
import statistics
from pathlib import Path

import pytest

STEPS = json.loads((Path(__file__).parent / "recorded_steps.json").read_text())
"""Twelve training steps of the CPU run: for each prompt its task and the tokens of its eight answers."""
TASKS = sorted({task for step in STEPS for task, _ in step})


class Replica:
    """Stands for the handle of a replica that answers every ping; nothing else of it is asked."""

    class __ray_ready__:  # noqa: N801  Ray's name
        @staticmethod
        def remote():
            return None


@pytest.fixture
def routers(plugged, monkeypatch):
    """`make(n)`: our router and verl's over n replicas, and the clock that ours reads."""
    from verl.workers.rollout.router import GlobalRequestLoadBalancer

    from recipes.medgrpo.rollout import router

    class Clock:
        now = 0.0

    monkeypatch.setattr(router.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(router.ray, "wait", lambda pings, timeout: ([], pings))

    def make(n):
        replicas = {f"replica-{number}": Replica() for number in range(n)}
        return router.PromptRouter(replicas), GlobalRequestLoadBalancer(replicas), Clock

    return make


def prompt(number: int, task: str) -> list[int]:
    """Tokens that differ by prompt and end with the task's instruction."""
    return [number, *[10_000 + TASKS.index(task)] * 8]


def serve(router, step, clock=None) -> dict[str, list[tuple[int, int]]]:
    """Ask for all answers of a step at once and let each take a second per 100 tokens; (prompt, tokens) by replica."""
    served = {name: [] for name in router.get_all_servers()}
    ends, start = [], clock.now if clock else 0.0
    for number, (task, lengths) in enumerate(step):
        for sample, tokens in enumerate(lengths):
            name = f"{number}-{sample}"
            replica, _ = router.acquire_server(name, **({"prompt_ids": prompt(number, task)} if clock else {}))
            served[replica].append((number, tokens))
            ends.append((tokens / 100, replica, name))
    for seconds, replica, name in sorted(ends):
        if clock:
            clock.now = start + seconds
        router.release_server(replica, name)
    return served


def imbalance(served) -> float:
    """The most tokens that a replica writes, by the mean of the replicas."""
    tokens = [sum(tokens for _, tokens in requests) for requests in served.values()]
    return max(tokens) / statistics.mean(tokens)


def test_the_rollouts_of_a_prompt_land_on_one_replica(routers):
    ours, verls, clock = routers(2)
    replicas = [{number for number, _ in requests} for requests in serve(ours, STEPS[0], clock).values()]
    assert all(replicas) and not set.intersection(*replicas)
    # By verl's own router both replicas get every prompt.
    assert len(set.intersection(*({number for number, _ in requests} for requests in serve(verls, STEPS[0]).values())))


def test_replicas_share_the_work_of_recorded_steps(routers):
    ours, verls, clock = routers(2)
    mine = [imbalance(serve(ours, step, clock)) for step in STEPS]
    theirs = [imbalance(serve(verls, step)) for step in STEPS]
    assert statistics.mean(mine) <= 1.1 * statistics.mean(theirs)


def test_a_task_with_long_answers_weighs_more_once_it_is_known(routers):
    """Two prompts with long answers and four with short ones: a replica should get one of the two."""
    ours, _, clock = routers(2)
    long, short = ["dvc", [400] * 4], ["nap", [10] * 4]
    step = [long, short, long, short, short, short]
    first, second = serve(ours, step, clock), serve(ours, step, clock)
    assert imbalance(second) < 1.1 < imbalance(first)


def test_what_ended_leaves_nothing_behind(routers):
    ours, _, clock = routers(3)
    serve(ours, STEPS[0], clock)
    assert (ours._requests, ours._replicas, ours.get_total_inflight()) == ({}, {}, 0)


def test_a_removed_replica_keeps_no_prompt(routers):
    ours, _, _ = routers(2)
    first, _ = ours.acquire_server("a", prompt_ids=prompt(1, "tal"))
    ours.remove_servers([first])
    second, _ = ours.acquire_server("b", prompt_ids=prompt(1, "tal"))
    assert second != first
    ours.release_server(first, "a")
    ours.remove_servers([second])
    with pytest.raises(RuntimeError, match="No available servers"):
        ours.acquire_server("c", prompt_ids=prompt(1, "tal"))


@pytest.mark.slow
def test_a_replica_that_dies_does_not_take_its_prompts_along(plugged, start_ray):
    """Real actors and verl's own client: once a request has failed, the prompt's other requests go to the living."""
    import asyncio
    import os

    import ray
    from omegaconf import OmegaConf
    from verl.workers.rollout.llm_server import LLMServerClient
    from verl.workers.rollout.replica import TokenOutput
    from verl.workers.rollout.router import get_router_handle

    root = Path(__file__).resolve().parents[3]

    @ray.remote
    class Server:
        async def generate(self, prompt_ids, **_):
            if prompt_ids[0] == 0:
                os._exit(1)
            return TokenOutput(token_ids=[os.getpid()], extra_fields={})

    plugin = {"VERL_PLATFORM": "cpu", "VERL_USE_EXTERNAL_MODULES": "recipes.medgrpo.plugin", "PYTHONPATH": str(root)}
    start_ray(num_cpus=4, runtime_env={"env_vars": plugin})
    servers = {f"server-{number}": Server.options(num_cpus=0).remote() for number in range(2)}
    balancer = get_router_handle(servers, router_config_path=str(root / "recipes/medgrpo/config/router.yaml"))
    rollout = {"full_determinism": False, "name": "vllm"}
    client = LLMServerClient(OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}}), balancer)

    def ask(number, first=1):
        return client.generate(f"{number}", prompt_ids=[first, number], sampling_params={})

    async def run():
        with pytest.raises(ray.exceptions.RayActorError):
            await ask(0, first=0)
        # Another request or two may be lost before the death is known.
        lost = 0
        while len(await balancer.get_all_servers.remote()) == 2:
            try:
                await ask(100 + lost)
            except ray.exceptions.RayActorError:
                lost += 1
        return lost, [(await ask(number)).token_ids for number in range(8)]

    lost, answers = asyncio.run(asyncio.wait_for(run(), 300))
    assert lost <= 2
    assert len({tuple(answer) for answer in answers}) == 1
