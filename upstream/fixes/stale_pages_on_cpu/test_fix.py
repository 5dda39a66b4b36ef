# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the scheduler wants cleared is cleared in the layers of attention, and nothing else is."""

from types import SimpleNamespace

import pytest
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner


@pytest.fixture
def runner():
    """Six blocks: a layer with states, one whose blocks are the kernel's, one whose blocks are two of the kernel's."""
    made = object.__new__(CPUModelRunner)
    made.kv_cache_config = SimpleNamespace(num_blocks=6)
    made.kv_caches = [[torch.ones(6, 3, 8), torch.ones(6, 2, 4, 4)], torch.ones(6, 2, 32, 8), torch.ones(12, 2, 16, 8)]
    return made


def test_blocks_are_cleared_for_attention_alone(runner):
    runner._zero_block_ids([1, 4])
    states, whole, halves = runner.kv_caches
    assert all(bool((state == 1).all()) for state in states)
    assert whole.flatten(1).sum(1).ne(0).tolist() == [True, False, True, True, False, True]
    assert halves.flatten(1).sum(1).ne(0).tolist() == [True] * 2 + [False] * 2 + [True] * 4 + [False] * 2 + [True] * 2


def test_blocks_of_a_cache_with_gaps_are_cleared(runner):
    """A hybrid model's pages are as large as its states: attention's blocks do not fill them."""
    room = torch.ones(6, 100)
    runner.kv_caches[1] = room.as_strided((6, 2, 4, 8), (100, 32, 8, 1))
    runner._zero_block_ids([2])
    assert (room[2, :64] == 0).all() and (room[2, 64:] == 1).all()
    assert (room[[0, 1, 3, 4, 5]] == 1).all()
