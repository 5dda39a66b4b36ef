# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""verl's single-turn agent loop, which does once what the rollouts of a prompt have in common.

verl 0.9.1 starts every rollout anew (`verl/experimental/agent_loop/agent_loop.py`): it instantiates the loop from the
configuration, renders and tokenises the prompt, and calls the processor twice for the answer, once for a reward that
does not look at it. For tiny models this takes longer than sampling. It also puts the prompt's pixels into its queue a
second time, for SGLang, which nothing of ours serves with.

`actor_rollout_ref.rollout.agent.agent_loop_manager_class` names `Manager`. What reaches the queue is the same but for
those second pixels (`tests/recipes/rollout/test_agent_loops.py`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import ray
import torch
from torch.utils.weak import WeakTensorKeyDictionary
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.rollout_trace import rollout_trace_attr

SINGLE_TURN = "single_turn_agent"
TYPES = "mm_token_type_ids"
"""The one input that depends on the answer. verl only looks whether it is there."""
KEPT = 512
"""Prompts, and rollouts, whose results are remembered: more than a step has at once on a CPU."""


class Remembered:
    """The results of the `KEPT` calls that were asked for last."""

    def __init__(self) -> None:
        self._results: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._results:
            self._results[key] = make()
        self._results.move_to_end(key)
        while len(self._results) > KEPT:
            self._results.popitem(last=False)
        return self._results[key]

    def forget(self, key: Any) -> None:
        self._results.pop(key, None)


class Loop(SingleTurnAgentLoop):
    """Serves all rollouts of a worker, and tokenises each prompt once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prompts = Remembered()

    async def ct_build_initial_tokens(self, messages: list[dict], *args: Any, **kwargs: Any) -> list[int]:
        # The features that verl hands back here are meant for SGLang.
        kwargs["mm_inputs_out"] = None
        build = super().ct_build_initial_tokens
        key = repr(messages)  # with the files of its clips
        ids = self._prompts.get(key, lambda: asyncio.ensure_future(build(messages, *args, **kwargs)))
        try:
            # A rollout that is given up must not take the others' prompt with it.
            return list(await asyncio.shield(ids))
        except Exception:
            # Whoever asks next may have more luck.
            self._prompts.forget(key)
            raise


class Worker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[misc]  # a class that ray made
    """Runs all single-turn rollouts with one `Loop`, and makes a clip's inputs once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._remember()

    def _remember(self) -> None:
        self._loop: Loop | None = None
        # By the frames themselves, which all rollouts of a prompt share.
        self._clips = WeakTensorKeyDictionary()
        self._positions = Remembered()

    async def _run_agent_loop(
        self, sampling_params: dict, trajectory: dict, *, agent_name: str, trace: bool = True, **kwargs: Any
    ):
        if agent_name != SINGLE_TURN:
            return await super()._run_agent_loop(
                sampling_params, trajectory, agent_name=agent_name, trace=trace, **kwargs
            )
        if self._loop is None:
            self._loop = Loop(
                trainer_config=DictConfigWrap(config=self.config),
                server_manager=self.llm_client,
                tokenizer=self.tokenizer,
                processor=self.processor,
                hf_model_type=self.hf_model_type,
                dataset_cls=self.dataset_cls,
                data_config=DictConfigWrap(self.config.data),
                tools=ToolListWrap(self.tools),
            )
        where = {name: trajectory[name] for name in ("step", "sample_index", "rollout_n", "validate")}
        with rollout_trace_attr(name="agent_loop", trace=trace, **where):
            output = await self._loop.run(sampling_params, **kwargs)
            return await self._agent_loop_postprocess(output, trajectory["validate"], **kwargs)

    def _compute_multi_modal_inputs(self, output: Any, input_ids: torch.Tensor) -> dict[str, Any]:
        data = output.multi_modal_data or {}
        videos: list = data.get("videos") or []
        if len(videos) != 1 or data.get("images") or data.get("audios"):
            return super()._compute_multi_modal_inputs(output, input_ids)
        ((frames, metadata),) = videos
        made = self._clips.setdefault(frames, {})
        if (settings := repr((metadata, output.mm_processor_kwargs))) not in made:
            made[settings] = super()._compute_multi_modal_inputs(output, input_ids)
        # The caller takes parts out.
        return dict(made[settings])

    def _compute_position_ids(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, multi_modal_inputs: dict[str, Any], *args: Any
    ) -> torch.Tensor:
        """Asked twice for each rollout, with the same; what is asked for with padding is not remembered."""
        make = super()._compute_position_ids
        grids = {
            # To print a tensor takes a millisecond.
            name: repr(value.tolist() if isinstance(value, torch.Tensor) else value)
            for name, value in multi_modal_inputs.items()
            if not name.startswith("pixel_values")
        }
        grids[TYPES] = str(TYPES in multi_modal_inputs)
        if not attention_mask.all():
            return make(input_ids, attention_mask, multi_modal_inputs, *args)
        found = self._positions.get(
            (tuple(input_ids.flatten().tolist()), tuple(sorted(grids.items()))),
            lambda: make(input_ids, attention_mask, dict(multi_modal_inputs), *args),
        )
        multi_modal_inputs.pop(TYPES, None)
        return found


class Manager(AgentLoopManagerTQ):
    """verl's manager with workers of this module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(Worker)
