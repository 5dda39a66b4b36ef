# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""adv_estimator=gdpo works in the V1 trainer: components of the reward reach it, each normalized in its group."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import trainer_base
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

LENGTHS = (2, 3, 4, 3)
KEYS = ["a_0_0", "a_1_0", "b_0_0", "b_1_0"]


def trajectory(key, length, **components):
    """What the agent loop leaves in TransferQueue, as far as advantages are concerned."""
    scores = torch.zeros(length)
    scores[-1] = sum(components.values())
    return {
        "uid": key.split("_")[0],
        "response_mask": torch.ones(length, dtype=torch.int64),
        "rm_scores": scores,
        "extra_fields": {"reward_extra_info": components},
    }


@pytest.fixture
def advantages(monkeypatch):
    """Advantages (N, longest response) of some trajectories, as the trainer writes them back."""

    def _advantages(trajectories, **algorithm):
        data, written = list_of_dict_to_tensordict(trajectories), {}

        def get(keys, partition_id, select_fields):
            return data.select(*[field for field in select_fields if field in data.keys()])

        def put(keys, partition_id, fields):
            written.update(fields.items())

        monkeypatch.setattr(trainer_base, "tq", SimpleNamespace(kv_batch_get=get, kv_batch_put=put))
        algorithm = {"adv_estimator": "gdpo", "gamma": 1.0, "lam": 1.0, "use_kl_in_reward": False, **algorithm}
        rollout = {"actor_rollout_ref": {"rollout": {"n": 2}}}
        trainer = SimpleNamespace(config=OmegaConf.create({"algorithm": algorithm, **rollout}))

        class Batch(SimpleNamespace):
            def __len__(self):
                return len(self.keys)

        trainer_base.PPOTrainer._compute_advantage(trainer, Batch(keys=KEYS, partition_id="train"), {})
        return written["advantages"].to_padded_tensor(0.0)

    return _advantages


def test_components_are_normalized_one_by_one(advantages):
    # Group a differs in its format, group b as much in a component that is a hundredth of it.
    components = [(1.0, 0.5), (0.0, 0.5), (1.0, 0.01), (1.0, 0.0)]
    rows = [
        trajectory(key, length, format=format, accuracy=accuracy)
        for key, length, (format, accuracy) in zip(KEYS, LENGTHS, components, strict=True)
    ]
    found = advantages(rows, gdpo_reward_keys=["format", "accuracy"])
    first = found[:, 0]
    assert first[0] > 0 > first[1] and first[2] > 0 > first[3]
    # Both groups pull alike, although their rewards differ by 1 and by 0.01.
    assert float(first[2] - first[3]) == pytest.approx(float(first[0] - first[1]), rel=1e-3)
    for row, length in zip(found, LENGTHS, strict=True):
        assert torch.equal(row, torch.where(torch.arange(4) < length, row[0], 0.0))


def test_a_missing_component_is_named(advantages):
    rows = [trajectory(key, length, format=1.0) for key, length in zip(KEYS, LENGTHS, strict=True)]
    with pytest.raises(KeyError, match="accuracy"):
        advantages(rows, gdpo_reward_keys=["format", "accuracy"])


def test_grpo_does_not_ask_for_components(advantages):
    rows = [
        trajectory(key, length, score=float(at)) for at, (key, length) in enumerate(zip(KEYS, LENGTHS, strict=True))
    ]
    found = advantages(rows, adv_estimator="grpo")[:, 0].tolist()
    assert found == pytest.approx([-(2**-0.5), 2**-0.5] * 2, rel=1e-3)
