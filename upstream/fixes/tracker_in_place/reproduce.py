# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A kill while the tracker is written, and resume_mode=auto ends with a traceback. Exit status 1 if it does."""

import multiprocessing
import os
import signal
import sys
import tempfile
from types import SimpleNamespace

from omegaconf import OmegaConf
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path


class KilledStep(int):
    """A step during whose writing the machine goes away."""

    def __str__(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def __format__(self, spec):
        return int.__repr__(self)


def save(folder, step):
    checkpoint = {"actor_rollout_ref": {"actor": {"checkpoint": {}}}}
    trainer = SimpleNamespace(
        config=OmegaConf.create({"trainer": {"default_local_dir": folder, "default_hdfs_dir": None}, **checkpoint}),
        global_steps=step,
        trainer_mode="sync",
        use_critic=False,
        actor_rollout_wg=SimpleNamespace(save_checkpoint=lambda *args, **kwargs: None),
        train_dataloader=SimpleNamespace(state_dict=dict),
        checkpoint_callback=SimpleNamespace(on_save=lambda **kwargs: None),
    )
    PPOTrainer._save_checkpoint(trainer)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        save(folder, 10)
        killed = multiprocessing.get_context("fork").Process(target=save, args=(folder, KilledStep(20)))
        killed.start()
        killed.join()
        print(f"the process that saved step 20 ended with {killed.exitcode}")
        try:
            print(f"a new run would resume from {find_latest_ckpt_path(folder)}")
        except ValueError as error:
            sys.exit(f"a new run ends with {type(error).__name__}: {error}")
