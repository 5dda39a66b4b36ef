# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Why a training run ends early, and the checkpoint that it leaves behind.

verl saves at the end of a step. The sampler finds out in the next one, between rollout and update, that a run must
not go on; the weights are then still those of the step before. So it remembers where the dataloader stood at the end
of every step, and has verl's trainer save what that step left.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.medgrpo.training.checkpoints import is_complete

logger = logging.getLogger(__name__)


class TrainingStop(RuntimeError):
    """The run must not go on: what happened, its figures, and how to go on."""


class RolloutFailure(TrainingStop):
    """Too many rollouts failed for the run to go on; their errors are in the log above."""


class JudgeStop(TrainingStop):
    """The judge's budget is spent, or its verdicts are no longer worth training on."""


class _DataState:
    """Stands for the trainer's dataloader while a checkpoint is written: one that has handed out one batch less."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def state_dict(self) -> Any:
        return self._state


class LastStep:
    """The last step that was trained in this process, and how to save it.

    Args:
        refill_fn: what verl's trainer hands to a sampler: a bound method, whose object is the trainer. Anything else
            has no trainer, and nothing is saved.
    """

    def __init__(self, refill_fn: Callable | None) -> None:
        trainer = getattr(refill_fn, "__self__", None)
        # In the other modes batches are under way that no checkpoint of the step before knows of.
        self.trainer = trainer if getattr(trainer, "trainer_mode", None) == "sync" else None
        self.step: int | None = None
        self._since = time.time()
        self._data: Any = None

    @property
    def folder(self) -> Path | None:
        """Where verl saves the last step."""
        if self.trainer is None or self.step is None:
            return None
        return Path(self.trainer.config.trainer.default_local_dir) / f"global_step_{self.step}"

    def sampled(self, step: int) -> None:
        """A step's answers are about to be trained on: remember where the dataloader stands."""
        if self.trainer is not None:
            self._data = copy.deepcopy(self.trainer.train_dataloader.state_dict())
            self.step = step

    def save_when_trained(self) -> None:
        """Have verl save at the end of the running step, as it does every `trainer.save_freq` steps."""
        if self.trainer is not None:
            self.trainer.config.trainer.save_freq = 1

    def save(self) -> str:
        """Save the last step unless that is done; returns what to say of it. Never raises.

        The data of the running step has been handed out already. The checkpoint must not know that, at no moment of
        its being written: after a kill in the middle, a run that goes on from it would leave the batch out.
        """
        if self.folder is None:
            return "nothing was trained since the checkpoint that it went on from, or since the start"
        # A folder of that name may be of an attempt that this one, resumed from an earlier step, takes the place of.
        if is_complete(self.folder) and (self.folder / "data.pt").stat().st_mtime >= self._since:
            return f"the checkpoint is {self.folder}"
        trainer = self.trainer
        now, loader = trainer.global_steps, trainer.train_dataloader
        try:
            # As after sampling: the rollout engine makes room for what saving takes.
            trainer.on_sample_end()
            trainer.global_steps, trainer.train_dataloader = self.step, _DataState(self._data)
            trainer._save_checkpoint()
        except Exception as error:  # the stop itself is what matters
            logger.exception("the checkpoint of step %d could not be saved", self.step)
            return f"the checkpoint of step {self.step} could not be saved: {type(error).__name__}: {error}"
        finally:
            trainer.global_steps, trainer.train_dataloader = now, loader
        return f"the checkpoint is {self.folder}"
