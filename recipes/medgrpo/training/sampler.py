# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The step between rollout and update: counters, curves, limits, and rewards that need the whole batch.

verl 0.9.1 leaves a failed rollout out of its group and does not say so. It trains a lone survivor on its raw reward,
drops an empty group, and never stops (`upstream/fixes/failed_rollouts_uncounted`,
`upstream/fixes/lone_survivor_reward`). Its training metrics do not have the parts of a reward, and its advantage
estimators do not see the data source. This sampler (`trainer.v1.sampler.custom_sampler`) runs in the driver between
rollout and update; the metrics that it returns join those of the step.

Advantages other than GRPO's are computed here and written in the place of the reward. They are centred in their groups,
so verl's estimator subtracts a mean that is 0; `algorithm.norm_adv_by_std_in_grpo=False` keeps it from dividing.
verl's own `critic/score` and `critic/rewards` then show advantages. `medgrpo/.../reward` always is the reward as it was
scored. The normaliser `adaptive` replaces the reward that is trained on as well: see `_train_on`.

Settings under `trainer.v1.sampler.sampler_kwargs`:

    group_size          rollouts of a prompt (`actor_rollout_ref.rollout.n`)
    min_group_size      a group with fewer survivors is not trained on (default 2)
    max_failed_share    the run stops when a larger share of rollouts fails (default 0.25) ...
    failure_window      ... over this many steps (default 4); a step without any survivor stops it at once
    poll_interval       seconds between two looks at the queue (default 2)
    advantage           a name of `advantages.ADVANTAGES` (default grpo: verl's own, nothing is rewritten)
    advantage_settings  of that advantage, as its class in `advantages`, `drpo` or `rivals` names them
    mix                 `data.medgrpo.mix`; learnt needs an advantage that says what to draw
    norm_adv_by_std     `algorithm.norm_adv_by_std_in_grpo`; has to be False for any advantage but grpo
    reward_kwargs       of the reward function: its normaliser, statistics, k, format order, rewarded tasks
    max_refused_share   the run stops when the judge refused or garbled a larger share of its judgements over
                        `failure_window` steps (default 0.5); also, at once, when its budget is used up, before a step
                        that no longer fits it, and when it failed in too many of a step's judgements (its own
                        `max_failed_share`)
    adaptive_window     values of a signal that the adaptive normaliser remembers (default 512) ...
    adaptive_min_values ... and from how many on they replace the SFT model's statistics (default 128)
    state_dir           folder of verl's checkpoints; below it `sampler/step_N.json` (default None: none is written);
                        half a megabyte with the adaptive window of 23 pairs
    record_dir          below it `rollouts/step_000001.jsonl`, the step's answers in numbers, and
                        `answers/step_000001.jsonl.gz`, what they said (default None: none is written)
    record_answers      what is said is kept of the answers to this many prompts of each pair in a step (default 0)
                        or of `all`
    image_every         trackers that take pictures get one of a rollout with its boxes every so many steps (default 0:
                        none); needs recorded texts
    drift               limits of the warnings that a pair's answers move away from how they began (`drift.Limits`)
    log_probs           whether the queue has the probabilities of drawn tokens, of which the entropy of a pair is made
                        (`actor_rollout_ref.rollout.calculate_log_probs`, default False)
    loggers             the trackers (`trainer.logger`)
    tokenizer           the model whose tokenizer turns recorded answers into text (`actor_rollout_ref.model.path`)

With a judge whose settings name a store, a step's metrics hold its account: `medgrpo/judge/...`. Every stop leaves the
checkpoint of the last step that was trained.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from recipes.medgrpo.files import write_atomic
from recipes.medgrpo.training.adaptive import AdaptiveStatistics
from recipes.medgrpo.training.advantages import make_advantage
from recipes.medgrpo.training.curves import PREFIX, Rollout, pair_curves, training_curves
from recipes.medgrpo.training.drift import Drift, drawn_nats
from recipes.medgrpo.training.groups import stacked
from recipes.medgrpo.training.judge_check import shown_key
from recipes.medgrpo.training.judge_watch import JudgeWatch, judge_stops, step_metrics
from recipes.medgrpo.training.recording import make_recorder
from recipes.medgrpo.training.stopping import JudgeStop, LastStep, RolloutFailure, TrainingStop, WorkersAlive
from recipes.medgrpo.training.tracker_pictures import boxes_shown, send
from reward_score.normalization import Normalizer
from reward_score.reward import get_scorer

logger = logging.getLogger(__name__)


class SamplerStateError(RuntimeError):
    """A resumed run lacks what its advantage or normaliser had learnt."""


def group_of(key: str) -> str:
    """The prompt that a trajectory `{uid}_{session}_{index}` answers."""
    return key.rsplit("_", 2)[0]


def small_groups(keys: Iterable[str], minimum: int) -> set[str]:
    """Prompts with fewer than `minimum` surviving rollouts."""
    sizes: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        uid, session, _ = key.rsplit("_", 2)
        sizes[uid].add(session)
    return {uid for uid, sessions in sizes.items() if len(sessions) < minimum}


def last_outputs(keys: Iterable[str]) -> list[str]:
    """Each rollout's last output, in the order of the keys: verl makes the advantage of those alone."""
    last: dict[str, tuple[int, str]] = {}
    for key in keys:
        rollout, _, index = key.rpartition("_")
        if rollout not in last or last[rollout][0] < int(index):
            last[rollout] = (int(index), key)
    return [key for _, key in last.values()]


def reward_rows(values: Iterable[float], lengths: Iterable[int]) -> torch.Tensor:
    """Nested (N, response length) float32 as verl's agent loop makes `rm_scores`: the value on the last token."""
    rows = [torch.zeros(length, dtype=torch.float32) for length in lengths]
    for row, value in zip(rows, values, strict=True):
        row[-1] = value
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


class MedGRPOSampler(ReplayBuffer):
    """verl's replay buffer with the counters, curves, limits and advantages above."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings: Mapping[Any, Any] = kwargs.get("sampler_kwargs") or {}
        if isinstance(settings, DictConfig):
            plain = OmegaConf.to_container(settings, resolve=True)
            assert isinstance(plain, dict)
            settings = plain
        super().__init__(*args, poll_interval=float(settings.get("poll_interval", 2.0)), **kwargs)
        self.group_size = int(settings["group_size"])
        self.min_group_size = int(settings.get("min_group_size", 2))
        self.max_failed_share = float(settings.get("max_failed_share", 0.25))
        self.failed_shares: deque[float] = deque(maxlen=int(settings.get("failure_window", 4)))
        self.advantage_name = settings.get("advantage", "grpo")
        by_std = bool(settings.get("norm_adv_by_std", True))
        # What verl makes of grpo without the division.
        formula = "dr_grpo" if self.advantage_name == "grpo" and not by_std else self.advantage_name
        self.advantage = make_advantage(formula, **(settings.get("advantage_settings") or {}))
        if self.advantage_name != "grpo" and by_std:
            raise ValueError(
                f"trainer.v1.sampler.sampler_kwargs.advantage={self.advantage_name} needs "
                "algorithm.norm_adv_by_std_in_grpo=False: verl would divide the finished advantage once more"
            )
        if settings.get("mix") == "learnt" and not self.advantage.mixes:
            raise ValueError(f"data.medgrpo.mix=learnt: expected the advantage mt_grpo, got {self.advantage_name}")
        if formula != self.advantage_name:
            logger.warning("advantage=grpo with algorithm.norm_adv_by_std_in_grpo=False is dr_grpo")
        reward_kwargs = settings.get("reward_kwargs") or {}
        self.scorer = get_scorer(**reward_kwargs)
        self.window: AdaptiveStatistics | None = None
        if self.scorer.settings.normalizer == "adaptive":
            if self.scorer.normalizer.statistics is None:
                raise ValueError("normalizer=adaptive needs reward_kwargs.statistics: its window starts from them")
            self.window = AdaptiveStatistics(
                self.scorer.normalizer.statistics,
                int(settings.get("adaptive_window", 512)),
                int(settings.get("adaptive_min_values", 128)),
            )
        judge = self.scorer.settings.judge, reward_kwargs.get("judge_settings")
        if problems := shown_key(judge[1] or {}):
            raise ValueError(f"reward_kwargs: {problems[0]}")
        self.judge_watch = JudgeWatch(*judge)
        self.judge_stops = judge_stops(
            *judge,
            max_refused_share=float(settings.get("max_refused_share", 0.5)),
            window=self.failed_shares.maxlen,
        )
        self.last_step, self.workers_alive = LastStep(self.refill_fn), WorkersAlive(self.refill_fn)
        self.state_dir = None if settings.get("state_dir") is None else Path(settings["state_dir"]) / "sampler"
        self.recorder, self.drift = make_recorder(settings), Drift(**(settings.get("drift") or {}))
        self.log_probs = bool(settings.get("log_probs", False))
        self.image_every, self.loggers = int(settings.get("image_every", 0)), list(settings.get("loggers") or ())
        self._restored, self._prompts = False, 0
        # Steps that attempts of this run went on from.
        self._resumes: list[int] = []

    def sample(self, global_steps: int, partition_id: str, batch_size: int):
        if partition_id != "train":
            return super().sample(global_steps, partition_id, batch_size)
        if not self._restored:
            self._restore(global_steps - 1)
        try:
            batch, metrics = self._sample_train(global_steps, batch_size)
        except TrainingStop as stop:
            self._forget(global_steps - 1)
            stop.args = (f"{stop}; {self.last_step.save()}",)
            raise
        self.last_step.sampled(global_steps)
        if self.judge_stops.too_dear(self.judge_watch.total_usd()):
            self.last_step.save_when_trained()
        return batch, metrics

    def _wait_for_next_poll(self, *args: Any) -> float:
        self.workers_alive.check()
        return super()._wait_for_next_poll(*args)

    def _sample_train(self, step: int, batch_size: int):
        if reason := self.judge_stops.too_dear(self.judge_watch.total_usd()):
            raise JudgeStop(f"step {step} was not taken: {reason}")
        try:
            batch, metrics = super().sample(step, "train", batch_size)
        except RuntimeError as error:
            if "no materializable trajectories" not in str(error):
                raise
            # If the judge is the cause, its stop says more.
            self.judge_stops.check_step(step, self.judge_watch.step())
            raise RolloutFailure(f"step {step}: every rollout failed, see their errors above") from error
        judged = self.judge_watch.step()
        self.judge_stops.check_step(step, judged)
        self._prompts = batch_size
        expected = batch_size * self.group_size
        failed = expected - len({tuple(key.rsplit("_", 2)[:2]) for key in batch.keys})
        self._watch_failures(step, failed / expected)
        dropped = small_groups(batch.keys, self.min_group_size)
        if dropped:
            self._drop(batch, dropped)
        if not batch.keys:
            raise RolloutFailure(
                f"step {step}: no group kept {self.min_group_size} rollouts; their errors are in the log above"
            )
        metrics = dict(metrics) | step_metrics(judged)
        metrics[f"{PREFIX}/rollouts/failed"] = failed
        metrics[f"{PREFIX}/groups/dropped"] = batch_size - len({group_of(key) for key in batch.keys})
        keys = last_outputs(batch.keys)
        rollouts = self._rollouts(batch.partition_id, keys)
        metrics.update(pair_curves((one.data_source, one.reward, one.parts) for one in rollouts))
        metrics.update(self._train_on(step, batch.partition_id, keys, rollouts))
        metrics.update(self.drift(step, rollouts))
        self._save(step, metrics)
        return batch, metrics

    def _watch_failures(self, step: int, share: float) -> None:
        self.failed_shares.append(share)
        mean = float(np.mean(self.failed_shares))
        if len(self.failed_shares) == self.failed_shares.maxlen and mean > self.max_failed_share:
            raise RolloutFailure(
                f"step {step}: {mean:.0%} of the rollouts of the last {len(self.failed_shares)} steps failed, more "
                f"than max_failed_share={self.max_failed_share:.0%}; their errors are in the log above"
            )

    @staticmethod
    def _drop(batch, uids: set[str]) -> None:
        gone = [key for key in batch.keys if group_of(key) in uids]
        tq.kv_clear(partition_id=batch.partition_id, keys=gone)
        kept = [(key, tag) for key, tag in zip(batch.keys, batch.tags, strict=True) if group_of(key) not in uids]
        batch.keys[:], batch.tags[:] = [key for key, _ in kept], [tag for _, tag in kept]

    def _rollouts(self, partition: str, keys: list[str]) -> list[Rollout]:
        fields = ["rm_scores", "extra_fields", "data_source"]
        texts = self.recorder is not None and self.recorder.keeps_texts
        fields += ["extra_info"] if self.recorder is not None else []
        fields += ["responses"] if texts else []
        fields += ["rollout_log_probs"] if self.log_probs else []
        data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=fields)

        def column(name: str) -> list[Any]:
            return [getattr(value, "data", value) for value in data[name]]

        rows = [_row(extra) for extra in column("extra_info")] if self.recorder is not None else [None] * len(keys)
        said = [ids.tolist() for ids in data["responses"]] if texts else [()] * len(keys)
        nats = drawn_nats(data) if self.log_probs else [None] * len(keys)
        columns = keys, column("data_source"), data["rm_scores"], column("extra_fields"), rows, said, nats
        return [
            Rollout(
                group_of(key), source, scores.numel(), float(scores.sum()), extra.get("reward_extra_info", {}), *more
            )
            for key, source, scores, extra, *more in zip(*columns, strict=True)
        ]

    def _train_on(self, step: int, partition: str, keys: list[str], rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Rewards and advantages of the step: computed, written into the queue where they are ours, and recorded.

        The window's percentiles are those before this step: with the step's own answers in it, an answer would move
        the median that it is measured by, and a batch that got better as a whole would look as it did before.
        """
        rewards, normalised, parts = np.array([one.reward for one in rollouts]), None, None
        normalizer, scored = self._window_normalizer(), [(one.data_source, one.parts["format"]) for one in rollouts]
        if self.recorder is not None and self.recorder.keeps_texts:
            normalised = [
                self.scorer.normalised(*said, one.raw, normalizer) for said, one in zip(scored, rollouts, strict=True)
            ]
        if self.advantage.needs_parts:
            parts = stacked(
                [self.scorer.summands(*said, one.raw, normalizer) for said, one in zip(scored, rollouts, strict=True)]
            )
        if self.window is not None:
            rewards = self._window_rewards(rollouts)
        groups, sources = [one.group for one in rollouts], [one.data_source for one in rollouts]
        advantages = self.advantage(rewards, groups, sources, parts)
        written = advantages if self.advantage_name != "grpo" else rewards if self.window is not None else None
        if written is not None:
            scores = reward_rows(written.tolist(), [one.tokens for one in rollouts])
            fields = TensorDict({"rm_scores": scores}, batch_size=len(keys))
            tq.kv_batch_put(keys=keys, partition_id=partition, fields=fields)
        if self.recorder is not None:
            self.recorder.write(step, rollouts, rewards, advantages, normalised)
            if self.image_every and step % self.image_every == 0:
                self._show(step, partition, keys, rollouts, rewards)
        return training_curves(
            rollouts,
            rewards,
            advantages,
            format_first=self.scorer.settings.format_order == "before",
            rewarded=self.scorer.rewarded.__getitem__,
        )

    def _show(
        self, step: int, partition: str, keys: list[str], rollouts: Sequence[Rollout], rewards: np.ndarray
    ) -> None:
        """Give the trackers a picture of the step's best answer that has boxes."""
        boxed = [at for at, one in enumerate(rollouts) if one.data_source.endswith("/stg") and one.parts["format"] > 0]
        recorder = self.recorder
        if not boxed or recorder is None or not recorder.keeps_texts:
            return
        best = max(boxed, key=rewards.__getitem__)

        def make():
            fields = ["raw_prompt", "reward_model", "extra_info"]
            row = tq.kv_batch_get(keys=[keys[best]], partition_id=partition, select_fields=fields)
            prompt, reference, extra = (getattr(row[name][0], "data", row[name][0]) for name in fields)
            one = rollouts[best]
            caption = f"step {step}, {one.data_source}, reward {rewards[best]:.3f}: {recorder.text(one)}"
            return boxes_shown(prompt, one.data_source, recorder.text(one), reference["ground_truth"], extra), caption

        send(self.loggers, make, step)

    def _window_normalizer(self) -> Normalizer | None:
        """With the window's percentiles so far; None for the settings' own normalizer."""
        if self.window is None:
            return None
        settings = self.scorer.settings
        return self.window.normalizer(settings.k, settings.min_iqr, settings.min_samples, settings.linear_share)

    def _window_rewards(self, rollouts: Sequence[Rollout]) -> np.ndarray:
        window, normalizer = self.window, self._window_normalizer()
        assert window is not None  # asked only with normalizer=adaptive
        rewards = [self.scorer.reward(one.data_source, one.parts["format"], one.raw, normalizer) for one in rollouts]
        for one in rollouts:
            for signal, value in one.raw.items():
                window.add(one.data_source, signal, [value])
        return np.array(rewards)

    @property
    def _learner(self) -> str | None:
        """The setting that makes a step's training depend on earlier steps' answers, None when there is none."""
        if self.window is not None:
            return "normalizer=adaptive"
        return f"advantage={self.advantage_name}" if self.advantage.state_dict() else None

    def _save(self, step: int, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        """Write the state after this step, and remove old states that no run can need.

        verl does not tell a sampler when it saves a checkpoint, so every step's state is written. Three kinds are kept:
        the newest two, because the checkpoint of the last step may still come; those with a checkpoint; and those that
        an attempt resumed from. verl logs a step after its checkpoint: a kill between the two loses the metrics of the
        step, and the state has them.
        """
        if self.state_dir is None:
            return
        state = {
            "step": step,
            "failed_shares": list(self.failed_shares),
            "advantage": {"name": self.advantage_name, "state": self.advantage.state_dict()},
            "mix": self.advantage.mix(),
            "prompts": self._prompts,
            "window": None if self.window is None else self.window.state_dict(),
            "judge": self.judge_stops.state_dict(),
            "drift": self.drift.state_dict(),
            "resumes": self._resumes,
            "metrics": {name: float(value) for name, value in metrics.items() if np.isfinite(value)},
        }
        write_atomic(self.state_dir / f"step_{step}.json", json.dumps(state, allow_nan=False))
        for file in self.state_dir.glob("step_*.json"):
            number = file.stem.removeprefix("step_")
            checkpoint = self.state_dir.parent / f"global_step_{number}"
            kept = {step, step - 1, *self._resumes}
            if number.isdigit() and int(number) not in kept and not checkpoint.is_dir():
                file.unlink(missing_ok=True)

    def _forget(self, step: int) -> None:
        """Empty the windows that led to a stop: if they were restored, they would stop every later attempt at once."""
        self.failed_shares.clear()
        self.judge_stops.forget()
        file = None if self.state_dir is None else self.state_dir / f"step_{step}.json"
        if file is not None and file.exists():
            state = json.loads(file.read_text(encoding="utf-8"))
            state |= {"failed_shares": [], "judge": self.judge_stops.state_dict()}
            write_atomic(file, json.dumps(state, allow_nan=False))

    def _restore(self, step: int) -> None:
        """Go on from the state after `step`; 0 is the start of a run.

        If the advantage or the normaliser learns from answers, a missing state is an error: without what it had
        learnt, the run would be another one. Other runs only lose the failure window. Recorded answers of later steps
        are of an earlier attempt, which this one replaces, and are removed.
        """
        self._restored = True
        if self.recorder is not None:
            self.recorder.begin(step)
        if step == 0:
            return
        self._resumes.append(step)
        file = None if self.state_dir is None else self.state_dir / f"step_{step}.json"
        if file is None or not file.exists():
            if self._learner is not None:
                raise SamplerStateError(
                    f"resuming after step {step}: {file or 'its state (no state_dir is set)'} is missing, and "
                    f"{self._learner} cannot go on without what it learnt: resume from another checkpoint"
                )
            return
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            self.failed_shares.extend(state["failed_shares"])
            self._resumes = sorted({*state.get("resumes", []), step})
            if "judge" in state:
                self.judge_stops.load_state_dict(state["judge"])
            if "drift" in state:
                self.drift.load_state_dict(state["drift"])
            if self.advantage_name == state["advantage"]["name"]:
                self.advantage.load_state_dict(state["advantage"]["state"])
            elif self.advantage.state_dict():
                raise ValueError(f"advantage: expected {self.advantage_name}, got {state['advantage']['name']}")
            if self.window is not None:
                self.window.load_state_dict(state["window"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SamplerStateError(f"{file}: cannot be resumed from: {error}") from error


def _row(extra: Any) -> tuple[str, int] | None:
    """The row that a prompt was made of, from its `extra_info`."""
    return (extra["file"], int(extra["index"])) if isinstance(extra, Mapping) and "file" in extra else None
