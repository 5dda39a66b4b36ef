# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A process of the rollouts that dies ends the run: verl would wait for its prompts for ever."""

import os
import time
import types

import pytest
import ray

from recipes.medgrpo.training.stopping import RolloutFailure, WorkersAlive

pytestmark = pytest.mark.slow


@ray.remote
class Worker:
    def die(self):
        os._exit(1)


class Trainer:
    """verl's trainer, as far as a sampler sees it."""

    def __init__(self, workers):
        self.agent_loop_manager = types.SimpleNamespace(agent_loop_workers=workers)

    def refill(self):
        """The bound method that verl hands to a sampler."""


@pytest.fixture
def workers(start_ray):
    start_ray(num_cpus=2)
    return [Worker.remote() for _ in range(2)]


def looked(alive: WorkersAlive, until: float) -> None:
    while time.monotonic() < until:
        alive.check()
        time.sleep(0.05)


def test_workers_are_looked_after_until_one_dies(workers):
    alive = WorkersAlive(Trainer(workers).refill)
    ray.get([worker.__ray_ready__.remote() for worker in workers])
    looked(alive, time.monotonic() + 0.5)
    workers[1].die.remote()
    with pytest.raises(RolloutFailure, match="the process that runs the rollouts, agent loop worker 1, has died: "):
        looked(alive, time.monotonic() + 30)


def test_a_sampler_without_a_trainer_looks_after_nobody():
    WorkersAlive(None).check()
