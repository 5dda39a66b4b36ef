# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A response whose group failed has no baseline, so it pushes the policy nowhere."""

import pytest
import torch
from verl import DataProto
from verl.trainer.ppo.core_algos import AdvantageEstimator
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories


def advantages(rewards: dict[str, float], sampled: int, by_std: bool = True) -> dict[str, float]:
    """Of each trajectory `{uid}_{session}_0`, by its reward."""
    keys = list(rewards)
    mask = torch.ones(len(keys), 3)
    scores = torch.zeros(len(keys), 3)
    scores[:, -1] = torch.tensor(list(rewards.values()))
    data = DataProto.from_dict(
        tensors={"token_level_rewards": scores, "response_mask": mask},
        non_tensors={"uid": [key.split("_")[0] for key in keys]},
    )
    data = compute_advantage_for_multi_trajectories(
        data, keys, AdvantageEstimator.GRPO, num_repeat=sampled, norm_adv_by_std_in_grpo=by_std
    )
    return dict(zip(keys, data.batch["advantages"][:, 0].tolist(), strict=True))


@pytest.mark.parametrize("by_std", [True, False])
def test_a_lone_survivor_has_no_advantage(by_std):
    found = advantages({"a_2_0": 0.8, "b_0_0": 0.2, "b_1_0": 0.4}, sampled=4, by_std=by_std)
    assert found["a_2_0"] == 0
    assert found["b_0_0"] == pytest.approx(-found["b_1_0"]) and found["b_1_0"] > 0


def test_with_one_response_per_prompt_the_advantage_is_the_reward():
    assert advantages({"a_0_0": 0.75, "b_0_0": 0.25}, sampled=1) == pytest.approx({"a_0_0": 0.75, "b_0_0": 0.25})
