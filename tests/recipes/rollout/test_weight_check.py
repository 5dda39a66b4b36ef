# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What vLLM holds is compared with what the actor sent, tensor by tensor; shaped here as vLLM shapes its models."""

import asyncio

import pytest
import torch

from recipes.medgrpo.rollout.weight_check import WeightError, checksum, compare, noted

pytestmark = pytest.mark.usefixtures("plugged")
WHOLE, HALF = torch.float32, torch.bfloat16
ACTOR = {
    "embed.weight": (10, 4),
    "layer.q_proj.weight": (4, 4),
    "layer.k_proj.weight": (2, 4),
    "layer.v_proj.weight": (2, 4),
    "layer.norm.weight": (4,),
}


class Held(torch.nn.Module):
    """Queries, keys and values in one matrix, the vocabulary padded from 10 rows to 16, the head tied to it."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}

    def __init__(self, actor: dict[str, torch.Tensor], dtype: torch.dtype):
        super().__init__()
        self.embed = torch.nn.Embedding(16, 4, dtype=dtype)
        self.layer = torch.nn.Module()
        self.layer.qkv_proj = torch.nn.Linear(4, 8, bias=False, dtype=dtype)
        self.layer.norm = torch.nn.Module()
        self.layer.norm.weight = torch.nn.Parameter(torch.zeros(4, dtype=dtype))
        self.head = self.embed
        with torch.no_grad():
            self.embed.weight[:10] = actor["embed.weight"]
            self.layer.qkv_proj.weight.copy_(torch.cat([actor[f"layer.{part}_proj.weight"] for part in "qkv"]))
            self.layer.norm.weight.copy_(actor["layer.norm.weight"])


@pytest.fixture
def actor() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in ACTOR.items()}


def sent(actor: dict[str, torch.Tensor], dtype: torch.dtype = WHOLE, devices: int = 1) -> dict:
    async def send() -> dict:
        found: dict = {}
        passed = [item async for item in noted(iter(actor.items()), dtype, found, devices)]
        assert all(weight is actor[name] for name, weight in passed) and len(passed) == len(actor)
        return found

    return asyncio.run(send())


@pytest.mark.parametrize("dtype", [WHOLE, HALF])
def test_equal_weights_are_equal_in_the_type_that_vllm_holds(actor, dtype):
    assert compare(Held(actor, dtype), sent(actor, dtype), dtype) == len(ACTOR)


def test_a_tensor_that_vllm_keeps_in_full_is_compared_as_rounded(actor):
    assert compare(Held(actor, WHOLE), sent(actor, HALF), HALF) == len(ACTOR)


@pytest.mark.parametrize("name", ACTOR)
def test_a_tensor_that_differs_in_one_bit_is_named(actor, name):
    held = Held(actor, WHOLE)
    flat = actor[name].flatten()
    flat[-1] = torch.nextafter(flat[-1], torch.tensor(9.0))
    with pytest.raises(WeightError, match=rf"1 of 5 tensors differ: {name}$"):
        compare(held, sent(actor), WHOLE)


def test_parts_of_one_matrix_in_each_others_place_differ(actor):
    held = Held(actor, WHOLE)
    keys, values = "layer.k_proj.weight", "layer.v_proj.weight"
    actor[keys], actor[values] = actor[values], actor[keys]
    with pytest.raises(WeightError, match=f"2 of 5 tensors differ: {keys}, {values}"):
        compare(held, sent(actor), WHOLE)


def test_what_was_not_sent_is_named(actor):
    held = Held(actor, WHOLE)
    del actor["layer.norm.weight"]
    with pytest.raises(WeightError, match=r"1 of 4 were not sent: layer\.norm\.weight$") as caught:
        compare(held, sent(actor), WHOLE)
    assert "\n" not in str(caught.value)


def test_what_vllm_has_no_place_for_is_not_compared(actor):
    """Without clips it has no vision tower."""
    held = Held(actor, WHOLE)
    actor |= {"visual.q_proj.weight": torch.ones(2, 2), "visual.norm.weight": torch.ones(2)}
    assert compare(held, sent(actor), WHOLE) == len(ACTOR)


def test_a_checksum_sees_every_place_of_a_tensor_of_several_chunks(monkeypatch):
    from recipes.medgrpo.rollout import weight_check

    tensor = torch.arange(100, dtype=WHOLE).reshape(10, 10)
    whole = checksum(tensor)
    monkeypatch.setattr(weight_check, "_CHUNK", 7)
    assert checksum(tensor) == whole != checksum(tensor.T)
    assert checksum(tensor.T.contiguous().T) == whole


def test_a_number_is_compared_with_a_tensor_of_one():
    held = torch.nn.Module()
    held.scale = torch.nn.Parameter(torch.tensor([2.0]))
    assert compare(held, sent({"scale": torch.tensor(2.0)}), WHOLE) == 1
    with pytest.raises(WeightError, match="1 of 1 tensors differ: scale"):
        compare(held, sent({"scale": torch.tensor(3.0)}), WHOLE)


class Share(torch.nn.Module):
    """What one of two devices holds: half of each one's rows, of the last layer's columns, and all of the norm."""

    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "qkv": ["qkv"]}

    def __init__(self, actor: dict[str, torch.Tensor], device: int):
        super().__init__()

        def rows(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.chunk(2)[device]

        self.embed, self.layer, self.vision = torch.nn.Module(), torch.nn.Module(), torch.nn.Module()
        for place in ("qkv_proj", "out_proj", "norm"):
            setattr(self.layer, place, torch.nn.Module())
        self.vision.qkv = torch.nn.Module()

        def hold(module: torch.nn.Module, tensor: torch.Tensor) -> None:
            module.weight = torch.nn.Parameter(tensor.clone())

        hold(self.embed, rows(torch.cat([actor["embed.weight"], torch.zeros(6, 4)])))
        hold(self.layer.qkv_proj, torch.cat([rows(actor[f"layer.{part}_proj.weight"]) for part in "qkv"]))
        hold(self.layer.out_proj, actor["layer.out_proj.weight"].chunk(2, 1)[device])
        hold(self.layer.norm, actor["layer.norm.weight"])
        hold(self.vision.qkv, torch.cat([rows(part) for part in actor["vision.qkv.weight"].chunk(3)]))


@pytest.fixture
def spread_actor(actor) -> dict[str, torch.Tensor]:
    return actor | {"layer.out_proj.weight": torch.randn(4, 4), "vision.qkv.weight": torch.randn(12, 4)}


@pytest.mark.parametrize("device", [0, 1])
def test_each_of_two_devices_compares_its_share(spread_actor, device):
    """All but the embedding, and what the actor has in one matrix and vLLM in three."""
    share = Share(spread_actor, device)
    assert compare(share, sent(spread_actor, devices=2), WHOLE, device, 2) == len(spread_actor) - 2
    with pytest.raises(WeightError, match="4 of 5 tensors differ"):
        compare(share, sent(spread_actor, devices=2), WHOLE, 1 - device, 2)


@pytest.mark.parametrize("name", ["layer.q_proj.weight", "layer.v_proj.weight", "layer.out_proj.weight"])
def test_a_share_that_differs_is_named(spread_actor, name):
    share = Share(spread_actor, 1)
    spread_actor[name] = spread_actor[name].clone()
    spread_actor[name][-1, -1] += 1
    with pytest.raises(WeightError, match=rf"1 of 5 tensors differ: {name}$"):
        compare(share, sent(spread_actor, devices=2), WHOLE, 1, 2)
