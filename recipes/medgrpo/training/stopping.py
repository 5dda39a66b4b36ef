# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Why a training run ends early, and the checkpoint that it leaves behind.

verl saves a checkpoint at the end of a step. The sampler finds that a run must not go on in the next step, between
rollout and update. The weights are then still those of the step before. So the sampler remembers where the dataloader
stood at the end of every step, and verl's trainer saves the weights and that state.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from recipes.medgrpo.training.checkpoints import is_complete

logger = logging.getLogger(__name__)


class TrainingStop(RuntimeError):
    """The run must not go on: what happened, its figures, and how to go on."""


class RolloutFailure(TrainingStop):
    """Too many rollouts failed for the run to go on; their errors are in the log above."""


class JudgeStop(TrainingStop):
    """The judge's budget is spent, or its verdicts are no longer worth training on."""


class _DataState:
    """Takes the dataloader's place while a checkpoint is written, with the state that it had one batch earlier."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def state_dict(self) -> Any:
        return self._state


class WorkersAlive:
    """Whether the processes are there that run the rollouts: verl waits without end for those of a dead one.

    Args:
        refill_fn: see `LastStep`.
    """

    def __init__(self, refill_fn: Callable | None) -> None:
        self.trainer = getattr(refill_fn, "__self__", None)
        self._pings: dict[int, Any] = {}

    def check(self) -> None:
        """Raises RolloutFailure if one has died since the rollouts of a step began."""
        manager = getattr(self.trainer, "agent_loop_manager", None)
        for number, worker in enumerate(getattr(manager, "agent_loop_workers", ())):
            ping = self._pings.pop(number, None) or worker.__ray_ready__.remote()
            if not ray.wait([ping], timeout=0)[0]:
                self._pings[number] = ping
                continue
            try:
                ray.get(ping)
            except ray.exceptions.RayActorError as error:
                raise RolloutFailure(
                    f"the process that runs the rollouts, agent loop worker {number}, has died: "
                    f"{str(error).splitlines()[0]}"
                ) from error


class LastStep:
    """The last step that was trained in this process, and how to save it.

    Args:
        refill_fn: what verl's trainer hands to a sampler: a bound method, whose object is the trainer. Anything else
            has no trainer, and nothing is saved.
    """

    def __init__(self, refill_fn: Callable | None) -> None:
        trainer = getattr(refill_fn, "__self__", None)
        # In verl's other modes the checkpoint of a step leaves out batches that are already on their way.
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
        """Save the last step unless that is done; returns a sentence about it. Never raises.

        The dataloader has handed out the batch of the running step already. The checkpoint must have the state before
        that from the first byte on: a run that resumes from it, after a kill in the middle too, would skip the batch.
        """
        trainer, folder = self.trainer, self.folder
        if trainer is None or folder is None:
            return "nothing was trained since the checkpoint that it went on from, or since the start"
        # An earlier attempt, which went further than the step that this one resumed from, may have left this folder.
        if is_complete(folder) and (folder / "data.pt").stat().st_mtime >= self._since:
            return f"the checkpoint is {folder}"
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
        return f"the checkpoint is {folder}"
