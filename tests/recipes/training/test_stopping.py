# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The checkpoint at a stop, with verl's dataloader and a trainer that saves as verl's does."""

import os
import types

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from recipes.medgrpo.training.checkpoints import is_complete
from recipes.medgrpo.training.stopping import LastStep


class Trainer:
    """What of verl's trainer a stop needs: where it stands, its data, and how it saves."""

    trainer_mode = "sync"

    def __init__(self, folder):
        self.config = types.SimpleNamespace(trainer=types.SimpleNamespace(default_local_dir=str(folder), save_freq=-1))
        self.train_dataloader = StatefulDataLoader(list(range(100)), batch_size=4, num_workers=0)
        self.batches, self.global_steps, self.log = iter(self.train_dataloader), 0, []

    def step(self) -> list[int]:
        self.global_steps += 1
        return next(self.batches).tolist()

    def refill(self, number):
        raise AssertionError("not asked for")

    def on_sample_end(self):
        self.log.append("engine sleeps")

    def _save_checkpoint(self):
        folder = self.root / f"global_step_{self.global_steps}"
        (folder / "actor").mkdir(parents=True, exist_ok=True)
        for kind in ("model", "optim", "extra_state"):
            (folder / f"actor/{kind}_world_size_1_rank_0.pt").write_text("x")
        torch.save(self.train_dataloader.state_dict(), folder / "data.pt")
        self.log.append(f"saved {self.global_steps}")

    @property
    def root(self):
        from pathlib import Path

        return Path(self.config.trainer.default_local_dir)


@pytest.fixture
def trainer(tmp_path):
    return Trainer(tmp_path)


def test_a_stop_saves_the_step_before_and_forgets_no_batch(trainer, tmp_path):
    last = LastStep(trainer.refill)
    for step in (1, 2):
        trainer.step()
        last.sampled(step)
    batch = trainer.step()
    assert last.save() == f"the checkpoint is {tmp_path}/global_step_2"
    # The rollout engine makes room first; then everything is as it was.
    assert trainer.log == ["engine sleeps", "saved 2"]
    assert trainer.global_steps == 3 and isinstance(trainer.train_dataloader, StatefulDataLoader)
    resumed = StatefulDataLoader(list(range(100)), batch_size=4, num_workers=0)
    resumed.load_state_dict(torch.load(tmp_path / "global_step_2/data.pt", weights_only=False))
    assert next(iter(resumed)).tolist() == batch == [8, 9, 10, 11]


def test_a_whole_checkpoint_is_not_written_again(trainer, tmp_path):
    last = LastStep(trainer.refill)
    trainer.step()
    last.sampled(1)
    trainer._save_checkpoint()
    trainer.step()
    assert last.save() == f"the checkpoint is {tmp_path}/global_step_1"
    assert trainer.log == ["saved 1"] and is_complete(tmp_path / "global_step_1")


def test_a_checkpoint_of_an_attempt_that_was_given_up_is_written_anew(trainer, tmp_path):
    # An earlier attempt saved step 1; this one began before it once more.
    trainer.step()
    trainer._save_checkpoint()
    old = tmp_path / "global_step_1/data.pt"
    os.utime(old, (1, 1))
    trainer.global_steps, trainer.log = 1, []
    last = LastStep(trainer.refill)
    last.sampled(1)
    trainer.step()
    assert last.save() == f"the checkpoint is {tmp_path}/global_step_1"
    assert trainer.log == ["engine sleeps", "saved 1"] and old.stat().st_mtime > 1


def test_before_the_first_step_there_is_nothing_to_save(trainer, tmp_path):
    last = LastStep(trainer.refill)
    trainer.step()
    assert last.save().startswith("nothing was trained")
    assert LastStep(None).save().startswith("nothing was trained")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_to_save_is_said_and_does_not_hide_the_stop(trainer, tmp_path, caplog):
    last = LastStep(trainer.refill)
    trainer.step()
    last.sampled(1)
    trainer.step()
    (tmp_path / "global_step_1").write_text("in the way")
    assert last.save().startswith("the checkpoint of step 1 could not be saved: ")
    assert "could not be saved" in caplog.text
    assert trainer.global_steps == 2 and isinstance(trainer.train_dataloader, StatefulDataLoader)


def test_a_step_that_is_the_last_to_fit_is_saved_by_verl_itself(trainer):
    LastStep(trainer.refill).save_when_trained()
    assert trainer.config.trainer.save_freq == 1


def test_with_batches_under_way_nothing_is_saved(trainer):
    trainer.trainer_mode = "separate_async"
    last = LastStep(trainer.refill)
    last.sampled(1)
    assert last.save().startswith("nothing was trained")
