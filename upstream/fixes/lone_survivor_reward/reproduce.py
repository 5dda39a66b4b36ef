# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The only rollout of its group that did not fail is trained on its raw reward. Exit status 1 if it is."""

import sys

import torch
from verl import DataProto
from verl.trainer.ppo.core_algos import AdvantageEstimator
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

# Four rollouts each. Of prompt a only session 2 is left, with the worst reward of all; prompt b is whole.
rewards = {"a_2_0": 0.1, "b_0_0": 0.4, "b_1_0": 0.6, "b_2_0": 0.8, "b_3_0": 1.0}
scores = torch.zeros(len(rewards), 3)
scores[:, -1] = torch.tensor(list(rewards.values()))
data = DataProto.from_dict(
    tensors={"token_level_rewards": scores, "response_mask": torch.ones_like(scores)},
    non_tensors={"uid": [key[0] for key in rewards]},
)
data = compute_advantage_for_multi_trajectories(data, list(rewards), AdvantageEstimator.GRPO, num_repeat=4)
for key, advantage in zip(rewards, data.batch["advantages"][:, 0].tolist(), strict=True):
    print(f"{key}: reward {rewards[key]}, advantage {advantage:+.3f}")
sys.exit(bool(data.batch["advantages"][0, 0] != 0))
