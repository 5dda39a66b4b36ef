# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Packed sequences come out of the rule for layers with a state as each does alone."""

from importlib import import_module

import pytest
import torch

MODULES = ["qwen3_5.modeling_qwen3_5", "qwen3_next.modeling_qwen3_next"]


@pytest.fixture(params=MODULES)
def rule(request):
    return import_module(f"transformers.models.{request.param}").torch_chunk_gated_delta_rule


def inputs(length):
    torch.manual_seed(length)
    query, key, value = torch.randn(3, 1, length, 2, 8)
    return {
        "query": query,
        "key": key,
        "value": value,
        "g": -torch.rand(1, length, 2) / 10,
        "beta": torch.rand(1, length, 2),
    }


@pytest.mark.parametrize("lengths", [[70, 30], [1, 64, 65], [5]])
def test_each_sequence_comes_out_as_alone(rule, lengths):
    alone = [inputs(length) for length in lengths]
    packed = {name: torch.cat([one[name] for one in alone], dim=1) for name in alone[0]}
    borders = torch.tensor([0, *lengths]).cumsum(0)
    outputs, states = rule(**packed, cu_seqlens=borders, output_final_state=True)
    expected = [rule(**one, output_final_state=True) for one in alone]
    torch.testing.assert_close(outputs, torch.cat([one for one, _ in expected], dim=1))
    torch.testing.assert_close(states, torch.cat([state for _, state in expected]))


def test_borders_and_a_state_to_go_on_from_are_refused(rule):
    state = torch.zeros(1, 2, 8, 8)
    with pytest.raises(NotImplementedError):
        rule(**inputs(8), cu_seqlens=torch.tensor([0, 4, 8]), initial_state=state)
