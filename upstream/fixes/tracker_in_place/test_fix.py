# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The tracker of checkpoints names a whole checkpoint, whenever a crash is."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path


class Crash(BaseException):
    """The process ends while the number is written."""


class CrashingStep(int):
    def __str__(self):
        raise Crash

    def __format__(self, spec):
        return int.__repr__(self)


def save(folder, step):
    trainer = SimpleNamespace(
        config=OmegaConf.create(
            {
                "trainer": {"default_local_dir": str(folder), "default_hdfs_dir": None},
                "actor_rollout_ref": {"actor": {"checkpoint": {}}},
            }
        ),
        global_steps=step,
        trainer_mode="sync",
        use_critic=False,
        actor_rollout_wg=SimpleNamespace(save_checkpoint=lambda *args, **kwargs: None),
        train_dataloader=SimpleNamespace(state_dict=dict),
        checkpoint_callback=SimpleNamespace(on_save=lambda **kwargs: None),
    )
    PPOTrainer._save_checkpoint(trainer)


def test_the_newest_checkpoint_is_found(tmp_path):
    for step in (10, 20):
        save(tmp_path, step)
    assert find_latest_ckpt_path(str(tmp_path)) == str(tmp_path / "global_step_20")


def test_a_crash_leaves_the_checkpoint_before(tmp_path):
    save(tmp_path, 10)
    with pytest.raises(Crash):
        save(tmp_path, CrashingStep(20))
    assert find_latest_ckpt_path(str(tmp_path)) == str(tmp_path / "global_step_10")
    save(tmp_path, 30)
    assert find_latest_ckpt_path(str(tmp_path)) == str(tmp_path / "global_step_30")
