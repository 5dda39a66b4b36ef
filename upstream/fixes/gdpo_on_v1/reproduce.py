# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""adv_estimator=gdpo in the V1 trainer ends at the first step. Exit status 1 if it does."""

import sys
import traceback
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import trainer_base
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

# Two prompts with two rollouts each, with the fields that the agent loop leaves in TransferQueue.
rows = [
    {
        "uid": uid,
        "prompts": torch.ones(5, dtype=torch.int64),
        "attention_mask": torch.ones(5 + length, dtype=torch.int64),
        "response_mask": torch.ones(length, dtype=torch.int64),
        "rm_scores": torch.nn.functional.pad(torch.tensor([format + accuracy]), (length - 1, 0)),
        "extra_fields": {"reward_extra_info": {"format": format, "accuracy": accuracy}},
    }
    for uid, length, format, accuracy in (
        ("a", 2, 1.0, 0.5),
        ("a", 3, 0.0, 0.5),
        ("b", 4, 1.0, 0.1),
        ("b", 3, 1.0, 0.0),
    )
]
data = list_of_dict_to_tensordict(rows)
trainer_base.tq = SimpleNamespace(
    kv_batch_get=lambda keys, partition_id, select_fields: data.select(
        *[name for name in select_fields if name in data]
    ),
    kv_batch_put=lambda keys, partition_id, fields: print(fields["advantages"].to_padded_tensor(0.0)),
)
algorithm = {"adv_estimator": "gdpo", "gdpo_reward_keys": ["format", "accuracy"], "gamma": 1, "lam": 1}
rollout = {"actor_rollout_ref": {"rollout": {"n": 2}}}
config = OmegaConf.create({"algorithm": {"use_kl_in_reward": False, **algorithm}, **rollout})


class Batch(SimpleNamespace):
    def __len__(self):
        return len(self.keys)


try:
    batch = Batch(keys=["a_0_0", "a_1_0", "b_0_0", "b_1_0"], partition_id="train")
    trainer_base.PPOTrainer._compute_advantage(SimpleNamespace(config=config), batch, {})
except (KeyError, AssertionError):
    traceback.print_exc()
    sys.exit(1)
