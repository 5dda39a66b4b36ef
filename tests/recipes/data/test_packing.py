# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Layers with a state tell packed sequences apart, by verl's own forward pass, and do not see padding."""

import copy

import pytest
import torch

LENGTHS = (30, 7, 70)


@pytest.fixture
def layer(qwen3_5):
    """A Gated DeltaNet of the tiny model, made after the plugin was loaded; its state fades slowly."""
    found = copy.deepcopy(qwen3_5.engine.model.model.language_model.layers[0].linear_attn)
    with torch.no_grad():
        found.A_log.fill_(-3.0)
    return found


@pytest.fixture
def packed(layer):
    """Hidden states of three sequences in one row, and where each begins and the last one ends."""
    hidden = torch.randn(1, sum(LENGTHS), layer.hidden_size, generator=torch.Generator().manual_seed(0))
    return hidden, torch.tensor([0, *LENGTHS]).cumsum(0)


def row(layer, hidden, borders):
    from verl.models.transformers.qwen3_5 import qwen3_5_gated_delta_net_forward

    return qwen3_5_gated_delta_net_forward(layer, hidden, cu_seqlens=borders, cu_seqlens_cpu=borders)


def test_each_packed_sequence_is_as_if_alone(layer, packed):
    hidden, borders = packed
    alone = [layer(part) for part in hidden.split(LENGTHS, dim=1)]
    torch.testing.assert_close(row(layer, hidden, borders), torch.cat(alone, dim=1))


def test_no_gradient_crosses_a_border(layer, packed):
    hidden, borders = packed
    hidden.requires_grad_()
    row(layer, hidden, borders)[:, borders[1] : borders[2]].sum().backward()
    first, second, third = hidden.grad.split(LENGTHS, dim=1)
    assert second.any() and not first.any() and not third.any()


def test_transformers_own_rule_lets_a_state_leak_into_the_next_sequence(layer, packed, monkeypatch):
    """What the module answers. Where this fails, `recipes/medgrpo/data/packing.py` can go."""
    from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule

    hidden, borders = packed
    alone = torch.cat([layer(part) for part in hidden.split(LENGTHS, dim=1)], dim=1)
    monkeypatch.setattr(layer, "chunk_gated_delta_rule", torch_chunk_gated_delta_rule.original)
    leaked = row(layer, hidden, borders)
    torch.testing.assert_close(leaked[:, : LENGTHS[0]], alone[:, : LENGTHS[0]])
    assert (leaked[:, LENGTHS[0] :] - alone[:, LENGTHS[0] :]).abs().max() > 1e-3


def test_a_state_to_go_on_from_belongs_to_no_packed_sequence(layer):
    from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule as rule

    heads = torch.zeros(1, 4, 2, 8)
    with pytest.raises(NotImplementedError, match="go on from a state"):
        rule(*[heads] * 3, g=heads[..., 0], beta=heads[..., 0], initial_state=heads, cu_seqlens=torch.tensor([0, 4]))


def test_installing_twice_is_installing_once(layer):
    from transformers.models.qwen3_5 import modeling_qwen3_5

    from recipes.medgrpo.data import packing

    original = modeling_qwen3_5.torch_chunk_gated_delta_rule.original
    packing.install()
    assert modeling_qwen3_5.torch_chunk_gated_delta_rule.original is original


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_probability(qwen3_5, side):
    """A short prompt beside a long one, padded as the rollout does (left) and as verl's actor does (right)."""
    model = qwen3_5.opinionated().model
    lines = [torch.arange(300, 300 + 90), torch.arange(310, 310 + 20)]
    ids = torch.full((2, 90), qwen3_5.engine.pad)
    mask = torch.zeros_like(ids)
    places = [slice(90 - len(line), 90) if side == "left" else slice(len(line)) for line in lines]
    for at, (line, place) in enumerate(zip(lines, places, strict=True)):
        ids[at, place], mask[at, place] = line, 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0).expand(4, -1, -1)
    with torch.no_grad():
        both = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        for at, (line, place) in enumerate(zip(lines, places, strict=True)):
            alone = model(input_ids=line[None], position_ids=torch.arange(len(line)).expand(4, 1, -1)).logits
            torch.testing.assert_close(both[at, place], alone[0], atol=1e-4, rtol=1e-4)
